"""With which order SGD, its diffusion, the flow, the reduced flow and the limit approach each other."""

import itertools
import pathlib
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt

from .. import _checks as checks
from ..distance import distance
from ..dynamics import SGD, AbstractDynamics, GradientFlow, ReducedFlow, SGDDiffusion, TwoTimescaleLimit
from ..networks import ShallowNetwork
from ..problems import Regression
from ..simulate import simulate
from ..sweeps.grid import sample_key
from ..trajectory import Status, Trajectory
from .at_once import at_once
from .base import Evidence, Report, number
from .convergence import Convergence, dataset
from .staircase import AbstractStaircase

GROUPS = 16
"""Of the paths whose mean risks are compared, each with a mean of its own."""
OF_SGD = 4
"""Paths of SGD for each of the diffusion, which costs far more."""


class Orders(AbstractStaircase):
    r"""The errors from one start, at a slow time, of the approximations on the way from SGD to the limit.

    - flow to reduced flow, the $L^2$ distance over `epsilons`: of order 1, after a layer of slow time $O(\epsilon)$,
      which ends late where the weights have slow directions of their own
    - reduced flow to the two-timescale limit, the largest distance of two positions over `etas`: of order 1 (in $L^2$
      the width of the neurons itself makes $O(\eta^{1/2})$)
    - SGD to flow, the $L^2$ distance over `step_sizes` with the ratio `epsilon`: of order 1/2, for paths of
      `seeds` independent streams of samples at each step size
    - diffusion to SGD, the difference of their mean risks at `weak_slow_time` over `weak_step_sizes`: of order 1 (Li,
      Tai and E, 2017). To first order it does not depend on the noise: SGD is ahead of its diffusion as explicit Euler
      is ahead of the flow, and batches of `weak_batch_size` only make the sampling noise smaller. Means are taken over
      `GROUPS` groups, each of `weak_paths` paths at the largest step size and of proportionally more at smaller ones:
      sampling noise, of order 1/2, is then the same part of every difference. The solver of the diffusion, with four
      steps for one of SGD, takes a quarter of it

    Slopes are fitted on a log scale, with t intervals. Near `slow_time` no neuron should hit a jump, where the limit
    has a kink. The error of one path is the size of a random vector, so that slopes between neighbouring step sizes
    scatter: with a standard deviation s of the logarithm of an error, and a factor r between them, by
    $\sqrt2\,s/\log r$. Only many paths show the order. Writes

    - `orders.png`, a panel for each, with every run as a dot
    - `orders.nc`, all errors

    Raises `ValueError` for values that cannot be simulated.
    """

    epsilons: tuple[float, ...]
    """Of the flow beside the reduced flow."""
    etas: tuple[float, ...]
    step_sizes: tuple[float, ...]
    seeds: int
    weak_step_sizes: tuple[float, ...]
    """Of SGD beside its diffusion."""
    weak_paths: int
    """Of the diffusion in each group."""
    epsilon: float = 1e-3
    """Of SGD, and the flow and the diffusion beside it."""
    slow_time: float = 1e-3
    weak_slow_time: float = 3.2e-5
    weak_batch_size: int = 16
    neurons: int = 20

    def __check_init__(self):
        for name in ("epsilon", "slow_time", "weak_slow_time"):
            checks.positive(name, getattr(self, name))
        for name in ("epsilons", "etas", "step_sizes", "weak_step_sizes"):
            values = getattr(self, name)
            for value in values:
                checks.positive(name, value)
            if len(set(values)) < 3:
                raise ValueError(
                    f"{name} must be three different values at least, got {values}: a slope has no interval otherwise"
                )
        for step_size in self.step_sizes:
            self.check_steps(self.slow_time, self.epsilon, step_size)
        for step_size in self.weak_step_sizes:
            self.check_steps(self.weak_slow_time, self.epsilon, step_size)
        for name in ("neurons", "weak_paths", "weak_batch_size"):
            checks.count(name, getattr(self, name))
        self.check_seeds("seeds")

    @property
    def settings(self) -> dict[str, str]:
        def span(values: tuple[float, ...]) -> str:
            return f"{len(values)} from {number(max(values))} to {number(min(values))}"

        return {
            "ε of the flow": span(self.epsilons),
            "η of the reduced flow": span(self.etas),
            "h of SGD": span(self.step_sizes),
            "paths of SGD": number(self.seeds),
            "h of means": f"{span(self.weak_step_sizes)}, batches of {self.weak_batch_size}",
            "paths of means": f"{GROUPS} x {number(self.weak_paths)} and more",
            "ε of SGD": number(self.epsilon),
            "slow time": f"{number(self.slow_time)}, of means {number(self.weak_slow_time)}",
            "neurons": number(self.neurons),
            "η": number(self.eta),
        }

    @property
    def panels(self) -> tuple[Callable[["Orders"], Convergence], ...]:
        return _flow_to_reduced, _reduced_to_limit, _sgd_to_flow, _diffusion_to_sgd

    @property
    def end(self) -> Float[Array, " 1"]:
        return jnp.array([self.slow_time])

    @property
    def start(self) -> ShallowNetwork:
        return self.start_of(self.seed, self.neurons)

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        found = []
        for k, panel in enumerate(self.panels):
            report("comparisons", k, len(self.panels))
            found.append(panel(self))
        report("drawing", 0, 0)
        self._draw(found, folder / "orders.png")
        dataset(found).to_netcdf(folder / "orders.nc", engine="scipy")
        return Evidence(
            figures=("orders.png",),
            findings=tuple(each.finding for each in found),
            tables=tuple(each.table for each in found),
            files=("orders.nc",),
            results=tuple(found),
        )

    def _draw(self, found: list[Convergence], file: pathlib.Path) -> None:
        from ..plot.style import save
        from .orders_figure import panels

        save(panels(found), file)


def _flow_to_reduced(setting: Orders) -> Convergence:
    reduced = simulate(ReducedFlow(), setting.start, setting.problem, setting.end)
    apart = eqx.filter_jit(distance)

    def error(epsilon: float) -> float:
        run = simulate(GradientFlow(epsilon), setting.start, setting.problem, setting.end)
        return float(apart(run, reduced)[0])

    return Convergence(
        *("flow to reduced flow", "ε", "distance in L²", 1.0),
        values=np.array(setting.epsilons),
        errors=np.array([[error(epsilon)] for epsilon in setting.epsilons]),
    )


def _reduced_to_limit(setting: Orders) -> Convergence:
    limit = simulate(TwoTimescaleLimit(), setting.start, setting.problem, setting.end)

    def error(eta: float) -> float:
        start = eqx.tree_at(lambda model: model.activation.eta, setting.start, jnp.asarray(eta))
        run = simulate(ReducedFlow(), start, setting.problem, setting.end)
        return float(jnp.max(jnp.abs(run.model.positions - limit.model.positions)))

    return Convergence(
        *("reduced flow to limit", "η", "largest distance of positions", 1.0),
        values=np.array(setting.etas),
        errors=np.array([[error(eta)] for eta in setting.etas]),
    )


def _sgd_to_flow(setting: Orders) -> Convergence:
    flow = simulate(GradientFlow(setting.epsilon), setting.start, setting.problem, setting.end)
    seeds = jnp.arange(setting.seed, setting.seed + setting.seeds, dtype=jnp.uint32)
    errors = [
        _each_path(SGD(setting.epsilon, step_size), jnp.asarray(k), seeds, setting.start, setting.problem, flow)
        for k, step_size in enumerate(setting.step_sizes)
    ]
    return Convergence(
        *("SGD to flow", "h", "distance in L²", 0.5),
        values=np.array(setting.step_sizes),
        errors=np.stack([np.asarray(each) for each in errors]),
    )


@eqx.filter_jit
def _each_path(
    sgd: SGD,
    stream: Int[Array, ""],
    seeds: UInt[Array, " paths"],
    start: ShallowNetwork,
    problem: Regression,
    flow: Trajectory,
) -> Float[Array, " paths"]:
    """Each step size has streams of its own: then errors are independent, as an interval needs."""

    def error(seed):
        key = jax.random.fold_in(sample_key(jax.random.key(seed)), stream)
        return distance(simulate(sgd, start, problem, flow.slow_time, key=key), flow)[0]

    return jax.vmap(error)(seeds)


def _diffusion_to_sgd(setting: Orders) -> Convergence:
    sizes, end = np.array(setting.weak_step_sizes), jnp.array([setting.weak_slow_time])
    arms = SGDDiffusion, SGD
    jobs = {}
    for (k, step_size), (i, arm) in itertools.product(enumerate(sizes), enumerate(arms)):
        dynamics = arm(setting.epsilon, step_size, setting.weak_batch_size)
        portions = round(sizes.max() / step_size) * (OF_SGD if arm is SGD else 1)
        key = jax.random.fold_in(sample_key(jax.random.key(setting.seed)), 2 * k + i)
        keys = jax.random.split(key, (portions, setting.weak_paths, GROUPS))
        for portion in range(portions):
            jobs[k, i, portion] = partial(_mean_risks, dynamics, keys[portion], setting.start, setting.problem, end)
    risks: dict[tuple[int, int], list[Array]] = {}
    for (k, i, _), found in at_once(jobs, lambda *_: None).items():
        risks.setdefault((k, i), []).append(found)
    means = np.array([[np.mean(risks[k, i], axis=0) for i in range(len(arms))] for k in range(len(sizes))])
    return Convergence(
        *("diffusion to SGD", "h", "difference of mean risks", 1.0),
        values=sizes,
        errors=np.abs(means[:, 0] - means[:, 1]),
        repeat="group",
    )


@eqx.filter_jit
def _mean_risks(
    dynamics: AbstractDynamics,
    keys: Key[Array, "paths groups"],
    start: ShallowNetwork,
    problem: Regression,
    slow_time: Float[Array, " 1"],
) -> Float[Array, " groups"]:
    """Of each group; NaN where a path failed."""

    def risk(key):
        run = simulate(dynamics, start, problem, slow_time, key=key)
        return jnp.where(run.status == Status.SUCCESSFUL, run.risk[0], jnp.nan)

    return jnp.mean(jax.lax.map(jax.vmap(risk), keys), axis=0)
