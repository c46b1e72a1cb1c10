"""Gaussian single-index model: with fast weights, the degrees of the target are learned one after the other."""

import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib import rc_context

from .. import _checks as checks
from ..dynamics import SGD, OverlapFlow
from ..hermite import Hermite
from ..networks import SphereNetwork
from ..overlaps import Overlaps
from ..plot.style import KINDS, STYLE, WIDTH, new_figure, save
from ..problems import SingleIndex
from ..simulate import simulate
from ..trajectory import Status
from .base import AbstractExperiment, Evidence, Finding, Report, Table, Verdict, number
from .claims import Repeats

COLOURS = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
"""Of degrees."""
COARSER = 4.0
"""Steps of SGD, to see how it depends on them."""


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
    """The slopes are fitted to the last three."""
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
        if len(self.epsilons) < 3:
            raise ValueError(f"a slope needs three ratios at least, got {self.epsilons}: pass e.g. (1e-5, 1e-6, 1e-7)")
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
    def hermite(self) -> Hermite:
        return Hermite(np.ones(self.degrees))

    @property
    def times(self) -> Float[np.ndarray, " t"]:
        return np.geomspace(0.03 * min(self.epsilons), self.end, 400)

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        risks, halves, means, failed = self._flows(report)
        np.savez(folder / "half_times.npz", half_times=halves, epsilons=np.asarray(self.epsilons))
        sgd_times, flow, sgd, coarse = self._sgd(report)
        self._draw_risk(folder / "risk.png", risks)
        self._draw_half_times(folder / "half_times.png", halves)
        self._draw_sgd(folder / "sgd.png", sgd_times, flow, sgd)
        rows = [
            (number(epsilon), *(number(float(np.median(halves[:, i, k]))) for k in range(self.degrees)))
            for i, epsilon in enumerate(self.epsilons)
        ]
        heading = ("ε", *(f"degree {k}" for k in range(self.degrees)))
        return Evidence(
            figures=("risk.png", "half_times.png", "sgd.png"),
            findings=self._findings(risks, halves, means, flow, sgd, coarse),
            tables=(Table(heading, tuple(rows), "Median half-times, in units of 2 τ / m"),),
            files=("half_times.npz",),
            results=halves,
            record={"failed_flows": failed},
        )

    def _flows(self, report: Report) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Risks of the first start (ratio, time), half-times (start, ratio, degree), the mean weight of each start, and
        how many runs failed."""
        problem, times = SingleIndex([1.0], self.hermite), self.times
        keys = jax.random.split(jax.random.key(self.seed), self.starts)
        risks, halves, failed = [], np.full((self.starts, len(self.epsilons), self.degrees), np.nan), 0
        for i, epsilon in enumerate(self.epsilons):
            for j, key in enumerate(keys):
                report("flows", i * self.starts + j, self.starts * len(self.epsilons))
                status, risk, learned = _flow(jnp.asarray(epsilon), key, problem, self.neurons, jnp.asarray(times))
                failed += int(status) != Status.SUCCESSFUL
                halves[j, i] = [_first_half(times, part) for part in np.asarray(learned).T]
                if j == 0:
                    risks.append(np.asarray(risk))
        means = np.array([np.mean(Overlaps.init(key, self.neurons, self.hermite).weights) for key in keys])
        return np.stack(risks), halves, means, failed

    def _sgd(self, report: Report) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Times, the risk of the flow, and that of SGD by stream, from one start, also with coarser steps."""
        direction = np.eye(self.sgd_inputs)[0]
        problem = SingleIndex(direction, self.hermite)
        begin, *streams = jax.random.split(jax.random.key(self.seed + 1), self.sgd_repeats + 1)
        start = SphereNetwork.init(begin, self.sgd_neurons, self.sgd_inputs, self.hermite)
        times = np.concatenate([[0.0], np.geomspace(0.1 * self.sgd_epsilon, self.sgd_end, 60)])
        slow_times = problem.slow_time(times, self.sgd_neurons)
        flow = simulate(OverlapFlow(self.sgd_epsilon, rtol=1e-8, atol=1e-8), start, problem, slow_times)
        runs = []
        for i, step_size in enumerate((self.step_size, COARSER * self.step_size)):
            for k, key in enumerate(streams):
                report("SGD", i * self.sgd_repeats + k, 2 * self.sgd_repeats)
                arm = SGD(self.sgd_epsilon, step_size)
                runs.append(np.asarray(simulate(arm, start, problem, slow_times, key=key).risk))
        sgd, coarse = np.split(np.stack(runs), 2)
        return times, np.asarray(flow.risk), sgd, coarse

    def _findings(
        self,
        risks: np.ndarray,
        halves: np.ndarray,
        means: np.ndarray,
        flow: np.ndarray,
        sgd: np.ndarray,
        coarse: np.ndarray,
    ) -> tuple[Finding, ...]:
        first = Repeats(halves[:, -1, 0] / self.epsilons[-1] / np.log(2 * (1 - means)))
        log = np.log(1 / np.asarray(self.epsilons[-3:]))
        one = Repeats(self._slopes(halves[:, -3:, 1] / log[None]))
        plain = Repeats(self._slopes(halves[:, -3:, 1]))
        two = Repeats(self._slopes(halves[:, -3:, 2]))
        factors = halves[:, :, 1:3] / halves[:, :, :2]
        apart = Repeats(np.min(factors[:, -1] / factors[:, -3], axis=1))
        plateaus = [
            np.interp(np.log(np.sqrt(early * late)), np.log(self.times), risks[-1]) / (self.degrees - k - 1)
            for k, (early, late) in enumerate(zip(halves[0, -1, :2], halves[0, -1, 1:3], strict=True))
        ]
        off = float(np.max(np.abs(np.asarray(plateaus) - 1)))
        near, far = (Repeats(np.max(np.abs(runs - flow[None]), axis=1) / flow[0]) for runs in (sgd, coarse))
        closer = Repeats.ratios(far.values, near.values)
        smallest = f"ε = {number(self.epsilons[-1])}"
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
            Finding(
                "degree 2 is learned in a time of order ε^(1/4)",
                f"slope of the time: {two.said(0.2, 0.3)}",
                two.between(0.2, 0.3),
            ),
            Finding(
                "degrees 0, 1 and 2 are learned one after the other, on time scales that separate",
                f"from ε = {number(self.epsilons[-3])} to {number(self.epsilons[-1])} the factors from one half-time "
                f"to the next grow, the one that grows less by {apart.said(1.0)}",
                apart.above(1.0),
            ),
            Finding(
                "between two degrees the risk stays on a plateau, the sum of what is not yet learned",
                f"{smallest}, first start: midway, in logarithmic time, it is off by {100 * off:.2g} % at most",
                Verdict.of(off < 0.1, off >= 0.1),
            ),
            Finding(
                f"SGD at d = {self.sgd_inputs} comes closer to the flow of its start as its step size falls",
                f"largest difference of the risks, over the first risk: {number(near.median)}; with steps of "
                f"{number(COARSER)} times the size it is {closer.said(1.0)} times as large",
                closer.above(1.0),
            ),
        )

    def _slopes(self, times: Float[np.ndarray, "starts three"]) -> Float[np.ndarray, " starts"]:
        """Of logarithms, by least squares; NaN where a degree was not learned."""
        x = np.log(self.epsilons[-3:])
        x = x - x.mean()
        return np.log(times) @ x / (x @ x)

    def _draw_risk(self, path: pathlib.Path, risks: np.ndarray) -> None:
        with rc_context(STYLE):
            figure = new_figure(WIDTH, 2.9)
            axes = figure.add_subplot()
            for k in range(self.degrees):
                axes.axhline(self.degrees - k, color="0.8", linewidth=0.8, zorder=0)
                axes.annotate(f" $\\ell = {k}$", (1, self.degrees - k), xycoords=("axes fraction", "data"), va="center")
            shades = np.linspace(0.85, 0.0, len(self.epsilons))
            for epsilon, risk, shade in zip(self.epsilons, risks, shades, strict=True):
                axes.plot(
                    self.times, risk, color=(0.8 * shade, 0.45 + 0.4 * shade, 0.7 + 0.2 * shade), label=f"{epsilon:g}"
                )
            axes.set(xscale="log", xlabel="time 2τ/m", ylabel="risk (no factor 1/2)", ylim=(0, None))
            axes.legend(title="ε", loc="lower left")
            figure.supxlabel(
                "Grey: plateaus, the sum of $\\varphi_k^2$ over $k \\geq \\ell$. One start, d = ∞, mean field.",
                fontsize=7,
            )
        save(figure, path)

    def _draw_half_times(self, path: pathlib.Path, halves: np.ndarray) -> None:
        epsilons = np.asarray(self.epsilons)
        with rc_context(STYLE):
            figure = new_figure(WIDTH, 3.2)
            axes = figure.add_subplot()
            theory = (
                (r"\varepsilon \ln 2", np.log(2) * epsilons),
                (
                    r"\varepsilon^{1/2} \ln(1/\varepsilon)",
                    np.where(epsilons < 0.1, epsilons**0.5 * np.log(1 / epsilons), np.nan),
                ),
                (r"\varepsilon^{1/4}", epsilons**0.25),
            )
            for k in range(self.degrees):
                colour = COLOURS[k % len(COLOURS)]
                middle = np.median(halves[:, :, k], axis=0)
                spread = np.abs(np.quantile(halves[:, :, k], [0.1, 0.9], axis=0) - middle[None])
                axes.errorbar(
                    epsilons, middle, spread, color=colour, marker="o", markersize=3, linestyle="", label=f"degree {k}"
                )
                if k < len(theory):
                    name, line = theory[k]
                    scale = 1.0 if k == 0 else middle[-1] / line[-1]
                    axes.plot(epsilons, scale * line, color=colour, linewidth=0.9, label=f"${name}$")
            axes.set(xscale="log", yscale="log", xlabel="ε", ylabel="half-time, in 2τ/m")
            axes.legend(ncols=2)
            figure.supxlabel("Points: medians over starts, bars to the 10th and 90th percentile.\n"
                             "Lines: theory, through the last point but for degree 0.", fontsize=7)  # fmt: skip
        save(figure, path)

    def _draw_sgd(self, path: pathlib.Path, times: np.ndarray, flow: np.ndarray, sgd: np.ndarray) -> None:
        with rc_context(STYLE):
            figure = new_figure(WIDTH, 2.6)
            axes = figure.add_subplot()
            for k, risk in enumerate(sgd):
                label = f"SGD, {len(sgd)} streams" if k == 0 else None
                axes.plot(times[1:], risk[1:], **(KINDS["sgd"] | {"linewidth": 0.7}), label=label)
            axes.plot(times[1:], flow[1:], **KINDS["flow"], label="flow in overlaps")
            axes.set(xscale="log", xlabel="time 2τ/m", ylabel="risk (no factor 1/2)", ylim=(0, None))
            axes.legend()
            figure.supxlabel(
                f"One start of {self.sgd_neurons} neurons, d = {self.sgd_inputs}, ε = {self.sgd_epsilon:g}, "
                f"step size {self.step_size:g}.",
                fontsize=7,
            )
        save(figure, path)


@eqx.filter_jit
def _flow(
    epsilon: Float[Array, ""], key: Key[Array, ""], problem: SingleIndex, neurons: int, times: Float[Array, " t"]
) -> tuple[Array, Float[Array, " t"], Float[Array, "t k"]]:
    """Status, risk, and the share of each degree that is learned, for a target and an activation of coefficients 1."""
    start = Overlaps.init(key, neurons, problem.target)
    run = simulate(OverlapFlow(epsilon, rtol=1e-8, atol=1e-8), start, problem, problem.slow_time(times, neurons))
    s = run.model.teacher[..., 0]
    learned = [jnp.mean(run.model.weights * s**k, axis=1) for k in range(problem.target.degree + 1)]
    return run.status, run.risk, jnp.stack(learned, axis=1)


def _first_half(times: Float[np.ndarray, " t"], learned: Float[np.ndarray, " t"]) -> float:
    """When it first reaches one half, by interpolation in logarithmic time; NaN where it does not."""
    reached = learned >= 0.5
    if not reached.any() or reached[0]:
        return float("nan")
    k = int(np.argmax(reached))
    return float(np.exp(np.interp(0.5, learned[k - 1 : k + 1], np.log(times[k - 1 : k + 1]))))
