"""Gaussian single-index model: with fast weights, the degrees of the target are learned one after the other."""

import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .. import _checks as checks
from ..dynamics import SGD, OverlapFlow
from ..hermite import Hermite
from ..networks import SphereNetwork
from ..overlaps import Overlaps
from ..problems import SingleIndex
from ..simulate import simulate
from ..sweeps import run_each
from .at_once import at_once
from .base import AbstractExperiment, Evidence, Finding, Report, Table, number
from .claims import Repeats

TOLERANCE = 1e-8
COARSER = 4.0
"""Steps of SGD, to see how it depends on them."""


class Flows(NamedTuple):
    """Of all starts and ratios, in this order."""

    risk: Float[Array, "*runs t"]
    learned: Float[Array, "*runs t degrees"]
    r"""$\sigma_k \frac{1}{m} \sum_i a_i s_i^k$ over $\varphi_k$."""
    status: Int[Array, "*runs"]
    mean_weight: Float[Array, "*runs"]
    """At the start."""


class Beside(NamedTuple):
    """One start in finite dimension."""

    times: Float[np.ndarray, " t"]
    flow: Float[np.ndarray, " t"]
    """Risk of the flow in overlaps."""
    sgd: Float[np.ndarray, "two streams t"]
    """Risks of SGD, with its steps and with coarser ones."""
    lengths: Float[np.ndarray, "two streams m"]
    """Of its directions at the end; the flow keeps those of the start, which are 1."""


class LearningOrder(AbstractExperiment):
    r"""Target and activation are $\sum_{k < K} h_k$. The weights start at N(0, 1), the directions uniform at
    d = infinity, and neurons act on each other in the mean: see `OverlapFlow`. Beside it, SGD in finite dimension and
    the flow of its own start.

    Times are those of Berthier, Montanari and Zhou, $2 \tau / m$; risks have no factor 1/2. A degree is half learned
    when $\sigma_k \frac{1}{m} \sum_i a_i s_i^k = \varphi_k / 2$. Writes

    - `risk.png`, the risk for each ratio, with the plateaus $\sum_{k \ge l} \varphi_k^2$
    - `half_times.png`, those of each degree over the ratio, and the slopes of theory
    - `sgd.png`, SGD beside the flow
    - `half_times.npz`, the half-times, shape (start, ratio, degree)

    Raises `ValueError` for values that cannot be simulated.
    """

    epsilons: tuple[float, ...]
    """Decreasing. The slopes are fitted to the last three."""
    neurons: int
    starts: int
    sgd_epsilon: float
    sgd_neurons: int
    sgd_inputs: int
    sgd_repeats: int
    step_size: float
    end: float = 10.0
    sgd_end: float = 2.0
    degrees: int = 4
    """K."""

    def __check_init__(self):
        for epsilon in (*self.epsilons, self.sgd_epsilon):
            checks.positive("epsilon", epsilon)
        if len(self.epsilons) < 3 or (np.diff(self.epsilons) >= 0).any():
            raise ValueError(
                f"epsilons must be three at least, for a slope, and decrease, got {self.epsilons}: "
                "pass e.g. (1e-5, 1e-6, 1e-7)"
            )
        for name in ("neurons", "starts", "sgd_neurons", "sgd_inputs", "sgd_repeats"):
            checks.count(name, getattr(self, name))
        checks.count("degrees", self.degrees, at_least=3)
        for name in ("step_size", "end", "sgd_end"):
            checks.positive(name, getattr(self, name))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ε": f"{len(self.epsilons)} from {number(max(self.epsilons))} to {number(min(self.epsilons))}",
            "neurons": number(self.neurons),
            "starts": number(self.starts),
            "degrees": f"0 to {self.degrees - 1}",
            "of SGD": f"{self.sgd_neurons} neurons, d = {self.sgd_inputs}, ε = {number(self.sgd_epsilon)}, "
            f"h = {number(self.step_size)}, {self.sgd_repeats} streams",
        }

    @property
    def step_sizes(self) -> tuple[float, float]:
        """Of SGD."""
        return self.step_size, COARSER * self.step_size

    @property
    def hermite(self) -> Hermite:
        return Hermite(np.ones(self.degrees))

    @property
    def times(self) -> Float[np.ndarray, " t"]:
        return np.geomspace(0.03 * min(self.epsilons), self.end, 500)

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        from ..plot.style import save
        from . import learning_order_figures as figures

        jobs: dict[str, Callable[[], Any]] = {"flows": partial(self._flows, report), "flow": self._flow_beside_sgd}
        flows, flow = at_once(jobs, lambda *_: None).values()
        beside = self._beside(flow, report)
        halves = self.half_times(flows.learned)
        report("drawing", 0, 0)
        np.savez(folder / "half_times.npz", half_times=halves, epsilons=np.asarray(self.epsilons))
        save(figures.risk(flows.risk[0], self), folder / "risk.png")
        save(figures.half_times(halves, self), folder / "half_times.png")
        save(figures.sgd(beside.times, beside.flow, beside.sgd[0], self), folder / "sgd.png")
        return Evidence(
            figures=("risk.png", "half_times.png", "sgd.png"),
            findings=self._findings(flows, halves, beside),
            tables=self._tables(halves, beside.lengths),
            files=("half_times.npz",),
            results=(flows, halves, beside),
            record={"failed_flows": int(np.sum(flows.status != 0))},
        )

    def _tables(
        self, halves: Float[np.ndarray, "starts ratios degrees"], lengths: Float[np.ndarray, "two streams m"]
    ) -> tuple[Table, ...]:
        times = tuple(
            (number(epsilon), *(number(float(time)) for time in row))
            for epsilon, row in zip(self.epsilons, np.median(halves, axis=0), strict=True)
        )
        ends = tuple(
            (number(step_size), number(float(length.mean())), number(float(length.max())))
            for step_size, length in zip(self.step_sizes, lengths, strict=True)
        )
        return (
            Table(
                ("ε", *(f"degree {k}" for k in range(self.degrees))), times, "Median half-times, in units of 2 τ / m"
            ),
            Table(
                ("step size of SGD", "mean length", "largest"),
                ends,
                "Lengths of directions at the end, which begin with 1; a flow keeps them",
            ),
        )

    def half_times(self, learned: Float[np.ndarray, "*runs t degrees"]) -> Float[np.ndarray, "*runs degrees"]:
        """NaN where a degree is not half learned in the end, or is from the first save on."""
        return np.apply_along_axis(partial(_first_half, self.times), -2, learned)

    def _flows(self, report: Report) -> Flows:
        keys = jax.random.split(jax.random.key(self.seed), self.starts)
        run = partial(_flow, self.neurons, self.hermite, jnp.asarray(self.times))
        found = run_each(
            run,
            jnp.repeat(keys, len(self.epsilons)),
            jnp.tile(jnp.asarray(self.epsilons), self.starts),
            progress=partial(report, "flows"),
        )
        shape = self.starts, len(self.epsilons)
        return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(*shape, *leaf.shape[1:]), found)

    @property
    def sgd_times(self) -> Float[np.ndarray, " t"]:
        return np.concatenate([[0.0], np.geomspace(0.1 * self.sgd_epsilon, self.sgd_end, 60)])

    def _of_sgd(self) -> tuple[SphereNetwork, SingleIndex, Float[Array, " t"], list[Key[Array, ""]]]:
        """Start, problem, save times, and streams."""
        begin, *streams = jax.random.split(jax.random.key(self.seed + 1), self.sgd_repeats + 1)
        start = SphereNetwork.init(begin, self.sgd_neurons, self.sgd_inputs, self.hermite)
        problem = SingleIndex(np.eye(self.sgd_inputs)[0], self.hermite)
        return start, problem, problem.slow_time(self.sgd_times, self.sgd_neurons), streams

    def _flow_beside_sgd(self) -> Float[Array, " t"]:
        start, problem, slow_times, _ = self._of_sgd()
        return simulate(OverlapFlow(self.sgd_epsilon, rtol=TOLERANCE, atol=TOLERANCE), start, problem, slow_times).risk

    def _beside(self, flow: Float[np.ndarray, " t"], report: Report) -> Beside:
        start, problem, slow_times, streams = self._of_sgd()

        def descend(step_size: Float[Array, ""], key: Key[Array, ""]) -> tuple[Float[Array, " t"], Float[Array, " m"]]:
            run = simulate(SGD(self.sgd_epsilon, step_size), start, problem, slow_times, key=key)
            return run.risk, jnp.linalg.norm(run.model.directions[-1], axis=1)

        found = run_each(
            descend,
            jnp.repeat(jnp.asarray(self.step_sizes), self.sgd_repeats),
            jnp.stack(2 * streams),
            progress=partial(report, "SGD"),
        )
        sgd, lengths = (np.asarray(leaf).reshape(2, self.sgd_repeats, -1) for leaf in found)
        return Beside(self.sgd_times, flow, sgd, lengths)

    def _findings(
        self, flows: Flows, halves: Float[np.ndarray, "starts ratios degrees"], beside: Beside
    ) -> tuple[Finding, ...]:
        last, before = self.epsilons[-1], self.epsilons[-3]
        smallest, three = f"ε = {number(last)}", f"from ε = {number(before)} to {number(last)}"
        first = Repeats(halves[:, -1, 0] / last / np.log(2 * (1 - flows.mean_weight[:, -1])))
        logarithm = np.log(1 / np.asarray(self.epsilons[-3:]))
        one, plain = (Repeats(self.slopes(halves[:, -3:, 1] / each)) for each in (logarithm, np.ones(3)))
        after = np.diff(halves[:, -3:], axis=-1)
        factors = halves[..., 1:] / halves[..., :-1]
        apart = Repeats(np.min(factors[:, -1] / factors[:, -3], axis=1))
        off = self.off_plateau(np.asarray(flows.risk), halves)
        flatter = Repeats.ratios(off[:, -1], off[:, -3])
        near, far = np.max(np.abs(beside.sgd - beside.flow[None, None]), axis=2) / beside.flow[0]
        closer = Repeats.ratios(far, near)
        return (
            Finding(
                "degree 0 is half learned after ε ln(2 (1 - a)), with a the mean of the weights at the start",
                f"{smallest}: the median time is {first.said(0.98, 1.02)} times that",
                first.between(0.98, 1.02),
            ),
            Finding(
                "degree 1 is learned in a time of order ε^(1/2) log(1/ε)",
                f"slope of the time divided by the logarithm: {one.said(0.45, 0.55)}; of the time alone: "
                f"{number(plain.median)}",
                one.between(0.45, 0.55),
            ),
            *(self._order(k, Repeats(self.slopes(after[..., k - 1]))) for k in range(2, self.degrees)),
            Finding(
                "the degrees are learned one after the other, on time scales that separate",
                f"{three} the factors from one half-time to the next grow, the one that grows less by "
                f"{apart.said(1.0)}",
                apart.above(1.0),
            ),
            Finding(
                "between two degrees the risk comes to a plateau, the sum of what is not yet learned",
                f"midway, in logarithmic time, it is off by {number(100 * float(np.median(off[:, -1])))} % at most at "
                f"{smallest}; {three} that becomes {flatter.said(1.0)} times as large",
                flatter.below(1.0),
            ),
            Finding(
                f"SGD at d = {self.sgd_inputs} comes closer to the flow of its start as its step size falls",
                f"largest difference of the risks, over the first risk: {number(float(np.median(near)))}; with steps "
                f"of {number(COARSER)} times the size it is {closer.said(1.0)} times as large",
                closer.above(1.0),
            ),
        )

    def _order(self, k: int, slope: Repeats) -> Finding:
        """The phase of degree k, from 2 on, is that of a_i of order ε^(-1/2 + 1/(2k)), s_i of order ε^(1/(2k))."""
        bounds = 0.4 / k, 0.6 / k
        return Finding(
            f"degree {k} is learned a time of order ε^(1/{2 * k}) after degree {k - 1}",
            f"slope of that time: {slope.said(*bounds)}; theory {number(0.5 / k)}",
            slope.between(*bounds),
        )

    def slopes(self, times: Float[np.ndarray, "starts three"]) -> Float[np.ndarray, " starts"]:
        """Of logarithms over that of the last three ratios, by least squares; NaN where a degree was not learned."""
        x = np.log(self.epsilons[-3:])
        x = x - x.mean()
        return np.log(times) @ x / (x @ x)

    def off_plateau(
        self, risk: Float[np.ndarray, "starts ratios t"], halves: Float[np.ndarray, "starts ratios degrees"]
    ) -> Float[np.ndarray, "starts ratios"]:
        """The largest relative distance of the risk from a plateau, midway between two degrees in logarithmic time."""
        midway = np.log(halves[..., :-1] * halves[..., 1:]) / 2
        levels = np.arange(self.degrees - 1, 0, -1)
        off = [
            np.max(np.abs(np.interp(midway[at], np.log(self.times), risk[at]) / levels - 1))
            for at in np.ndindex(midway.shape[:2])
        ]
        return np.reshape(off, midway.shape[:2])


def _flow(
    neurons: int, hermite: Hermite, times: Float[Array, " t"], key: Key[Array, ""], epsilon: Float[Array, ""]
) -> Flows:
    """Of one start and ratio, for a target and an activation of coefficients 1."""
    problem, start = SingleIndex([1.0], hermite), Overlaps.init(key, neurons, hermite)
    # Until degree 2 is learned the overlaps are of order epsilon^(1/4).
    flow = OverlapFlow(epsilon, rtol=TOLERANCE, atol=TOLERANCE * jnp.minimum(epsilon, 1.0) ** 0.25)
    run = simulate(flow, start, problem, problem.slow_time(times, neurons))
    s = run.model.teacher[..., 0]
    learned = [jnp.mean(run.model.weights * s**k, axis=1) for k in range(hermite.degree + 1)]
    return Flows(run.risk, jnp.stack(learned, axis=1), run.status, jnp.mean(start.weights))


def _first_half(times: Float[np.ndarray, " t"], learned: Float[np.ndarray, " t"]) -> float:
    """When it first reaches one half, by interpolation in logarithmic time; NaN where it does not."""
    reached = learned >= 0.5
    if not reached.any() or reached[0]:
        return float("nan")
    k = int(np.argmax(reached))
    return float(np.exp(np.interp(0.5, learned[k - 1 : k + 1], np.log(times[k - 1 : k + 1]))))
