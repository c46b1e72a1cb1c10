"""Additive networks in two and ten dimensions, and ReLU networks, on fixed points (Figure 6 and the appendix)."""

import pathlib
import time
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .. import _checks as checks
from ..activations import AbstractActivation, ReLU, SmoothStep
from ..dynamics import SGD, GradientFlow
from ..networks import ShallowNetwork
from ..problems import NormDataset, Regression
from ..simulate import simulate
from ..sweeps import run_each
from ..targets import AbstractTarget, Additive, PiecewiseConstant, PiecewiseLinear
from ..trajectory import Trajectory
from .arm import Arm
from .base import AbstractExperiment, Evidence, Finding, Report, Table, Verdict, number, silent
from .claims import Repeats

if TYPE_CHECKING:
    import xarray


class FiniteData(AbstractExperiment):
    """Repeats of training on fixed points, once with one step size for both layers and once with slow positions.

    Repeat k draws its start and its points from the key `fold_in(key(seed), k)`: the same in both arms. Both arms take
    the longer of the two published budgets, and the shorter is read off on the way. Writes

    - `losses.png`, box plots of the loss at the published budgets and at equal ones, and of the population flow
    - `positions.png` in two dimensions, `functions.png` in one: the first repeat before and after training
    - `losses.nc`, the losses of all repeats at all saves as an `xarray.Dataset`

    Raises `ValueError` for values that cannot be simulated.
    """

    dimension: int
    """Of the inputs."""
    points: int
    """Rows of data."""
    repeats: int
    """Starts, each with points of its own."""
    eta: float | None = 0.01
    """Of the smoothed steps; None for ReLU."""
    neurons: int = 10
    """For each coordinate."""
    weight_range: float = 3.0
    """Weights start i.i.d. uniform between 0 and this."""
    step_size: float = 1.0
    """Of full-batch descent, in fast time."""
    epsilons: tuple[float, float] = (1.0, 0.01)
    """One step size for both layers, and slow positions."""
    budgets: tuple[int, int] = (300, 5000)
    """The published numbers of steps of the two arms."""
    saves: int = 60
    """At geometrically spaced steps; those of the budgets are added."""

    def __check_init__(self):
        for name in ("dimension", "points", "repeats", "neurons", "saves"):
            checks.count(name, getattr(self, name))
        for name in ("step_size", "weight_range", *(("eta",) if self.eta is not None else ())):
            checks.positive(name, getattr(self, name))
        for epsilon in self.epsilons:
            checks.positive("epsilons", epsilon)
        if not 0 < self.budgets[0] < self.budgets[1]:
            raise ValueError(f"budgets must be positive and increasing, got {self.budgets}: as in (300, 5000)")

    @property
    def settings(self) -> dict[str, str]:
        return {
            "inputs": f"U(0, 1)^{self.dimension}" if self.dimension > 1 else "U(0, 1)",
            "points": number(self.points),
            "repeats": number(self.repeats),
            "neurons a coordinate": number(self.neurons),
            "activation": "ReLU" if self.eta is None else f"smoothed step, η = {number(self.eta)}",
            "loss": "norm of the residuals over their number",
            "ε": " and ".join(map(number, self.epsilons)),
            "steps": " and ".join(map(number, self.budgets)),
            "h": number(self.step_size),
        }

    @property
    def component(self) -> AbstractTarget:
        """What each coordinate adds to the target."""
        knots = [0.3, 0.5, 0.7]
        return PiecewiseLinear(knots, [1.0, -2.0, 3.0]) if self.eta is None else PiecewiseConstant(knots, [0, 1, 2, 3])

    @property
    def target(self) -> AbstractTarget | Additive:
        return Additive([self.component] * self.dimension) if self.dimension > 1 else self.component

    @property
    def activation(self) -> AbstractActivation:
        return ReLU() if self.eta is None else SmoothStep(self.eta)

    @property
    def steps(self) -> Int[np.ndarray, " t"]:
        """Of the saves: 0, then denser at first, with both budgets."""
        spread = np.geomspace(1, self.budgets[1], self.saves).round().astype(int)
        return np.unique([0, *spread, *self.budgets])

    def start(self, key: Key[Array, ""]) -> ShallowNetwork:
        start_key, _ = jax.random.split(key)
        return ShallowNetwork.init(
            start_key, self.neurons, self.activation, self.dimension, weight_range=self.weight_range, bias=False
        )

    def data(self, key: Key[Array, ""]) -> NormDataset:
        _, data_key = jax.random.split(key)
        return NormDataset(*Regression(self.target).sample(data_key, self.points))

    def keys(self) -> Key[Array, " repeats"]:
        return jax.vmap(lambda k: jax.random.fold_in(jax.random.key(self.seed), k))(jnp.arange(self.repeats))

    def _descend(self, key: Key[Array, ""], epsilon: Float[Array, ""]) -> Trajectory:
        dynamics = SGD(epsilon, self.step_size, batch_size=None)
        return simulate(dynamics, self.start(key), self.data(key), epsilon * (self.step_size * self.steps))

    def _flow(self, key: Key[Array, ""], epsilon: Float[Array, ""], slow_times: Float[Array, " t"]) -> Trajectory:
        dynamics = GradientFlow(epsilon, rtol=1e-8, atol=1e-8)
        return simulate(dynamics, self.start(key), Regression(self.target), slow_times)

    def train(self, epsilon: float, report: Report = silent) -> Arm:
        """All repeats of one arm, and beside each the flow of the population risk."""
        phase, steps = f"training with ε = {number(epsilon)}", int(self.steps[-1])
        report(phase, 0, 0)
        keys, ratios = self.keys(), jnp.full(self.repeats, epsilon)
        # Side by side, under `jax.vmap`, the repeats take up to 2.5 times as long and six times the memory.
        descent = run_each(
            *(self._descend, keys, ratios), progress=lambda done, total: report(phase, done * steps, total * steps)
        )
        loss = np.asarray(descent.risk)
        rate = 1 / (2 * self.points * np.maximum(loss, 1e-300))
        passed = np.diff(self.steps) * self.step_size * (rate[:, 1:] + rate[:, :-1]) / 2
        fast_time = np.concatenate([np.zeros_like(loss[:, :1]), np.cumsum(passed, axis=1)], axis=1)
        population = run_each(self._flow, keys, ratios, jnp.asarray(epsilon * fast_time))
        return Arm(
            epsilon, self.steps, descent, population, np.sqrt(np.asarray(population.risk) / self.points), fast_time
        )

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        from ..plot.style import save
        from . import finite_data_figures as figures

        arms, seconds = [], []
        for epsilon in self.epsilons:
            begin = time.perf_counter()
            arms.append(self.train(epsilon, report))
            seconds.append(time.perf_counter() - begin)
        report("drawing", 0, 0)
        same, slow = arms
        _to_dataset(arms).to_netcdf(folder / "losses.nc", engine="scipy")
        names = ["losses.png"]
        save(figures.losses(same, slow, self.budgets), folder / "losses.png")
        if self.dimension == 2:
            names.append("positions.png")
            save(figures.positions(same, slow, self.budgets, self.target), folder / "positions.png")
        if self.dimension == 1:
            names.append("functions.png")
            save(figures.functions(same, slow, self.budgets, self.target), folder / "functions.png")
        return Evidence(
            figures=tuple(names),
            findings=_findings(same, slow, self.budgets),
            tables=(_table(self, arms),),
            files=("losses.nc",),
            results=tuple(arms),
            record={"seconds_of_arms": seconds},
        )


def _to_dataset(arms: list[Arm]) -> "xarray.Dataset":
    import xarray

    losses = [[np.asarray(arm.descent.risk), arm.flow_loss] for arm in arms]
    return xarray.Dataset(
        {
            "loss": (("epsilon", "dynamics", "repeat", "step"), np.array(losses)),
            "fast_time_of_risk": (("epsilon", "repeat", "step"), np.array([arm.fast_time_of_risk for arm in arms])),
        },
        coords={
            "epsilon": [arm.epsilon for arm in arms],
            "dynamics": ["descent", "flow"],
            "step": arms[0].steps,
        },
    )


def _findings(same: Arm, slow: Arm, budgets: tuple[int, int]) -> tuple[Finding, ...]:
    def compared(steps_same: int, steps_slow: int, *, exact: bool = False) -> tuple[str, Verdict]:
        of_same, of_slow = (arm.flow_loss if exact else np.asarray(arm.descent.risk) for arm in (same, slow))
        a, b = of_same[:, same.at(steps_same)], of_slow[:, slow.at(steps_slow)]
        ratios = Repeats.ratios(b, a)
        said = (
            f"median loss {number(Repeats(b).median)} with ε = {number(slow.epsilon)} after {steps_slow:,} steps, "
            f"{number(Repeats(a).median)} with ε = {number(same.epsilon)} after {steps_same:,}; "
            f"lower in {ratios.lower(1.0)} of {ratios.size} repeats, median of the ratios {ratios.said(1.0)}"
        )
        return said, ratios.below(1.0)

    return (
        Finding("slow positions end at a lower loss than one step size for both layers", *compared(*budgets)),
        Finding(f"they do so after {budgets[1]:,} steps of each too", *compared(budgets[1], budgets[1])),
        Finding(
            f"so does the flow of the exact risk, after the time of {budgets[1]:,} steps of each",
            *compared(budgets[1], budgets[1], exact=True),
        ),
    )


def _table(experiment: FiniteData, arms: list[Arm]) -> Table:
    rows = []
    for arm in arms:
        for steps in experiment.budgets:
            k, fast = arm.at(steps), steps * experiment.step_size
            quartiles = np.percentile(np.asarray(arm.descent.risk)[:, k], [25, 50, 75])
            flow = np.median(arm.flow_loss[:, k])
            passed = np.median(arm.fast_time_of_risk[:, k])
            cells = (arm.epsilon, steps, fast, arm.epsilon * fast, passed, arm.epsilon * passed, *quartiles, flow)
            rows.append(tuple(number(int(cell) if cell == int(cell) else float(cell)) for cell in cells))
    heading = ("ε", "steps", "fast time", "slow time", "fast time of R", "slow time of R", "loss, lower quartile")
    return Table(
        (*heading, "median", "upper quartile", "population flow, median"), tuple(rows), "loss over the repeats"
    )
