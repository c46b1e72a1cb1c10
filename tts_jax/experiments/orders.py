"""With which order SGD, the flow, the reduced flow and the limit approach each other."""

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt
from scipy import stats

from .. import _checks as checks
from ..diagnostics import Order, order
from ..distance import distance
from ..dynamics import SGD, GradientFlow, ReducedFlow, TwoTimescaleLimit
from ..networks import ShallowNetwork
from ..problems import Regression
from ..simulate import simulate
from ..sweeps.grid import sample_key
from ..trajectory import Trajectory
from .base import Evidence, Finding, Report, Table, Verdict, number
from .staircase import AbstractStaircase

if TYPE_CHECKING:
    import xarray

MARGIN = 0.1
"""An order agrees with the expected one where its interval is so near to it, and does not where none of it is."""


class Convergence(eqx.Module):
    """How far one dynamics is from another, for each value of what parts them: a panel of the figure."""

    name: str
    """Of the pair, in words."""
    parameter: str
    """Its symbol."""
    measure: str
    """Of the errors."""
    expected: float
    """The order that theory gives."""
    values: Float[np.ndarray, " k"]
    errors: Float[np.ndarray, "k repeats"]
    """NaN for a run that failed."""

    @property
    def counted(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Values and errors of the runs that have not failed."""
        values = np.broadcast_to(self.values[:, None], self.errors.shape)
        known = np.isfinite(self.errors) & (self.errors > 0)
        return values[known], self.errors[known]

    @property
    def fit(self) -> Order | None:
        """None where runs failed for all values but one."""
        values, errors = self.counted
        return order(errors, values) if len(set(values)) > 1 else None

    @property
    def spread(self) -> float:
        """The standard deviation of the logarithm of an error over repeats; NaN where there are none."""
        if self.errors.shape[1] < 2:
            return np.nan
        return float(np.sqrt(np.mean(np.var(np.log(self.errors), axis=1, ddof=1))))

    @property
    def bands(self) -> Float[np.ndarray, "k 3"]:
        """The geometric mean over repeats, and its 95 % t interval on a log scale."""
        logs, repeats = np.log(self.errors), self.errors.shape[1]
        mean = logs.mean(axis=1)
        margin = np.zeros(len(mean))
        if repeats > 1:
            margin = stats.t.ppf(0.975, repeats - 1) * logs.std(axis=1, ddof=1) / repeats**0.5
        return np.exp(np.stack([mean, mean - margin, mean + margin], axis=1))

    @property
    def neighbours(self) -> Float[np.ndarray, "pairs repeats"]:
        """The slope of each repeat between neighbouring values."""
        return np.diff(np.log(self.errors), axis=0) / np.diff(np.log(self.values))[:, None]

    @property
    def finding(self) -> Finding:
        claim = f"{self.name}: the order in {self.parameter} is {self.expected:g}"
        values, _ = self.counted
        missing = f"; {self.errors.size - len(values)} of {self.errors.size} runs failed" * (
            len(values) < self.errors.size
        )
        if (fit := self.fit) is None:
            return Finding(claim, f"too few runs for a slope{missing}", Verdict.UNDECIDED)
        low, high = self.expected - MARGIN, self.expected + MARGIN
        holds, fails = low < fit.low and fit.high < high, fit.high < low or fit.low > high
        said = f"{fit} from {number(self.values.max())} to {number(self.values.min())}"
        if self.errors.shape[1] > 1 and not missing:
            slopes, steps = self.neighbours, np.abs(np.diff(np.log(self.values)))
            said += (
                f", {self.errors.shape[1]} paths each; between neighbouring {self.parameter} the slopes of single "
                f"paths scatter by {slopes.std(ddof=1):.2f} ({slopes.min():.2f} to {slopes.max():.2f}): errors of "
                f"single paths scatter by a factor {np.exp(self.spread):.2f}, which makes "
                f"{2**0.5 * self.spread / steps.mean():.2f}"
            )
        return Finding(claim, said + missing, Verdict.of(holds, fails))


class Orders(AbstractStaircase):
    r"""The errors at one slow time, from one start, of three approximations on the way from SGD to the limit.

    - flow to reduced flow, the $L^2$ distance over `epsilons`: of order 1, after a layer of slow time $O(\epsilon)$,
      which ends late where the weights have slow directions of their own
    - reduced flow to the two-timescale limit, the largest distance of two positions over `etas`: of order 1 (in $L^2$
      the width of the neurons itself makes $O(\eta^{1/2})$)
    - SGD to flow, the $L^2$ distance over `step_sizes` with the ratio `epsilon`: of order 1/2, for paths of
      `seeds` independent streams of samples at each step size

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
    epsilon: float = 1e-3
    """Of SGD, and the flow beside it."""
    slow_time: float = 1e-3
    neurons: int = 20

    def __check_init__(self):
        for name in ("epsilon", "slow_time"):
            checks.positive(name, getattr(self, name))
        for name in ("epsilons", "etas", "step_sizes"):
            values = getattr(self, name)
            for value in values:
                checks.positive(name, value)
            if len(set(values)) < 3:
                raise ValueError(
                    f"{name} must be three different values at least, got {values}: a slope has no interval otherwise"
                )
        for step_size in self.step_sizes:
            self.check_steps(self.slow_time, self.epsilon, step_size)
        checks.count("neurons", self.neurons)
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
            "ε of SGD": number(self.epsilon),
            "slow time": number(self.slow_time),
            "neurons": number(self.neurons),
            "η": number(self.eta),
        }

    @property
    def panels(self) -> tuple[Callable[["Orders"], Convergence], ...]:
        return _flow_to_reduced, _reduced_to_limit, _sgd_to_flow

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
        _dataset(found).to_netcdf(folder / "orders.nc", engine="scipy")
        return Evidence(
            figures=("orders.png",),
            findings=tuple(each.finding for each in found),
            tables=tuple(map(_table, found)),
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


def _table(found: Convergence) -> Table:
    rows = tuple(
        (number(float(value)), *(number(float(x)) for x in band))
        for value, band in zip(found.values, found.bands, strict=True)
    )
    if found.errors.shape[1] == 1:
        return Table((found.parameter, found.measure), tuple(row[:2] for row in rows), found.name)
    return Table((found.parameter, f"{found.measure}, mean", "95 % from", "to"), rows, found.name)


def _dataset(found: list[Convergence]) -> "xarray.Dataset":
    import xarray

    def axes(each: Convergence) -> tuple[str, str]:
        return f"value of {each.name}", f"path of {each.name}"

    return xarray.Dataset(
        {each.name: (axes(each), each.errors, {"long_name": each.measure}) for each in found},
        coords={axes(each)[0]: (axes(each)[0], each.values, {"long_name": each.parameter}) for each in found},
    )
