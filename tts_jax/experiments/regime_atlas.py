"""Where training reaches a global minimum: over the ratio epsilon and the number of neurons."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike, Real

from .. import _checks as checks
from ..dynamics import SGD, AbstractDynamics, GradientFlow
from ..sweeps import sweep
from .base import Evidence, Finding, Report, Table, Verdict, number
from .claims import Repeats
from .regime_theory import Explained, predict
from .staircase import AbstractStaircase

if TYPE_CHECKING:
    import xarray

TOLERANCE = 1e-6
"""Of the flows."""
SETTLED = 0.01
"""A run without success is unsettled where its risk fell by more than this share between the last two saves."""


class RegimeAtlas(AbstractStaircase):
    """The share of starts from which training reaches a global minimum, for each ratio and number of neurons: of the
    exact flow, and of SGD on a coarser grid, with fewer starts and to an earlier slow time.

    A run has converged where its last risk is below ten times the floor that the width of the neurons sets; a run that
    fails has not. The flow is solved to a tolerance of 1e-6. Start and samples of seed s are those of `Comparison`.

    Beside the flows stands what theory says of each from its start alone: whether every piece of the target holds two
    neurons, and whether the two-timescale limit from there has converged; and, of starts with `hit_neurons` neurons
    that have a closed form, when each jump is hit. Writes

    - `atlas.png`, both maps, with the exact probability that every piece of the target holds two neurons
    - `theory.png`, shares of success, last errors, hit times and forecasts beside theory
    - `theory.nc`, what theory says, and the hit times of the flow
    - `flow.zarr` and `sgd.zarr`, the data sets of both sweeps: see `tts_jax.load`. Interrupted, the same experiment in
      the same folder goes on where it was.

    Raises `ValueError` for values that cannot be simulated, and `ImportError` without the package zarr.
    """

    epsilons: tuple[float, ...]
    sizes: tuple[int, ...]
    """Numbers of neurons."""
    seeds: int
    slow_times: tuple[float, ...]
    """Save times of the flow."""
    sgd_epsilons: tuple[float, ...]
    sgd_sizes: tuple[int, ...]
    sgd_seeds: int
    sgd_slow_time: float
    hit_epsilons: tuple[float, ...]
    """Of the flows whose hit times are measured."""
    hit_neurons: int = 30
    step_size: float = 1e-5

    def __check_init__(self):
        checks.known_slow_times(np.asarray(self.slow_times))
        if len(self.slow_times) < 2:
            raise ValueError(f"the flow needs two slow times to be compared, got {self.slow_times}")
        for name in ("step_size", "sgd_slow_time"):
            checks.positive(name, getattr(self, name))
        for name in ("epsilons", "sgd_epsilons", "hit_epsilons"):
            for value in getattr(self, name):
                checks.positive(name, value)
        for epsilon in self.sgd_epsilons:
            self.check_steps(self.sgd_slow_time, epsilon, self.step_size)
        for size in (*self.sizes, *self.sgd_sizes, self.hit_neurons):
            checks.count("neurons", size)
        for name in ("seeds", "sgd_seeds"):
            self.check_seeds(name)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ε": f"{len(self.epsilons)} from {number(max(self.epsilons))} to {number(min(self.epsilons))}",
            "neurons": ", ".join(map(number, self.sizes)),
            "starts": number(self.seeds),
            "slow time": number(self.slow_times[-1]),
            "of SGD": f"{len(self.sgd_epsilons)} x {len(self.sgd_sizes)} x {self.sgd_seeds} to slow time "
            f"{number(self.sgd_slow_time)}",
            "h": number(self.step_size),
            "η": number(self.eta),
        }

    def flow(self, epsilon: Real[ArrayLike, ""]) -> GradientFlow:
        return GradientFlow(epsilon, rtol=TOLERANCE, atol=TOLERANCE)

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        from ..plot.style import save
        from .regime_theory_figure import panels

        def run(
            name: str, arm: AbstractDynamics, times: object, epsilons: object, sizes: object, seeds: int
        ) -> "xarray.Dataset":
            return sweep(
                arm,
                self.problem,
                np.asarray(times),
                epsilon=epsilons,
                neurons=sizes,
                eta=self.eta,
                seeds=range(self.seed, self.seed + seeds),
                store=folder / f"{name}.zarr",
                progress=lambda done, total: report(f"runs of {name}", done, total),
            )

        flows = run("flow", self.flow(1.0), self.slow_times, self.epsilons, self.sizes, self.seeds)
        sgd, end = SGD(1.0, self.step_size), [self.sgd_slow_time]
        sgds = run("sgd", sgd, end, self.sgd_epsilons, self.sgd_sizes, self.sgd_seeds)
        report("theory", 0, 0)
        said = predict(self)
        said.to_netcdf(folder / "theory.nc", engine="scipy")
        explained = Explained(self, flows, said)
        report("drawing", 0, 0)
        counts = self._counts(flows)
        self._draw(flows, sgds, counts, folder / "atlas.png")
        save(panels(explained), folder / "theory.png")
        return Evidence(
            figures=("atlas.png", "theory.png"),
            findings=(*self._findings(flows, sgds, counts), *explained.findings()),
            tables=(self._table("gradient flow", flows), self._table("SGD", sgds), *explained.tables()),
            files=("flow.zarr", "sgd.zarr", "theory.nc"),
            results=(flows, sgds, said),
            record={"success": self.success, "flow": counts},
        )

    def share(self, runs: "xarray.Dataset", save: int = -1) -> "xarray.DataArray":
        """Of the starts that have converged at a save time; dimensions `epsilon`, `neurons`."""
        return (runs.risk.isel(slow_time=save) < self.success).mean("seed")

    def _counts(self, flows: "xarray.Dataset") -> dict[str, int]:
        before, last = (flows.risk.isel(slow_time=k) for k in (-2, -1))
        moving = (last >= self.success) & (last < (1 - SETTLED) * before)
        strict = last < self.success / 5
        return {
            "runs": flows.status.size,
            "failed": int((flows.status != 0).sum()),
            "unsettled": int(moving.sum()),
            "between_2_and_10_floors": int(((last < self.success) & ~strict).sum()),
        }

    def _findings(self, flows: "xarray.Dataset", sgds: "xarray.Dataset", counts: dict[str, int]) -> tuple[Finding, ...]:
        at = flows.isel(epsilon=int(np.argmin(self.epsilons)), slow_time=-1)
        good = (at.neurons_per_piece >= 2).all("piece")
        reached, ended = at.risk < self.success, at.status == 0
        of_flow, gain_of_flow = self._gain(flows)
        of_sgd, gain_of_sgd = self._gain(sgds)
        return (
            Finding(
                "the smaller ε, the more starts lead the flow to a global minimum",
                f"{of_flow}; {counts['failed']} of {counts['runs']:,} runs failed, {counts['unsettled']} without "
                f"success still fell by over {SETTLED:.0%} after slow time {self.slow_times[-2]:g}",
                gain_of_flow.above(0.0),
            ),
            Finding(
                "with small ε every one of these starts that has two neurons in each piece does",
                f"{int((reached & good).sum())} of {int(good.sum())} such starts at ε = {number(float(at.epsilon))}, "
                f"and {int((reached & ~good).sum())} of {int((~good).sum())} others",
                Verdict.of(bool(good.any() and reached.where(good, True).all()), bool((good & ended & ~reached).any())),
            ),
            Finding(
                "so with SGD: the smaller ε, the more starts",
                f"{of_sgd}; {int((sgds.status != 0).sum())} of {sgds.status.size} runs failed",
                gain_of_sgd.above(0.0),
            ),
        )

    def _gain(self, runs: "xarray.Dataset") -> tuple[str, Repeats]:
        """What each seed gains from the largest to the smallest ratio, in the share of its starts that converge."""
        converged = (runs.risk.isel(slow_time=-1) < self.success).astype(float)
        small, large = (converged.isel(epsilon=int(pick(runs.epsilon.values))) for pick in (np.argmin, np.argmax))
        ended = (runs.status == 0).all("epsilon")
        gain = Repeats(np.asarray((small - large).where(ended).mean("neurons", skipna=False)))
        said = (
            f"share over all numbers of neurons {float(small.mean()):.3f} at ε = {number(float(small.epsilon))}, "
            f"{float(large.mean()):.3f} at ε = {number(float(large.epsilon))}; larger for {gain.higher(0.0)} of "
            f"{gain.size} seeds, median of the differences {gain.said(0.0)}"
        )
        return said, gain

    def _table(self, title: str, runs: "xarray.Dataset") -> Table:
        rows = tuple(
            (number(float(row.epsilon)), *(f"{value:.3f}" for value in row.values)) for row in self.share(runs)
        )
        return Table(("ε", *(f"{size} neurons" for size in runs.neurons.values)), rows, f"share converged, {title}")

    def _draw(
        self, flows: "xarray.Dataset", sgds: "xarray.Dataset", counts: dict[str, int], file: pathlib.Path
    ) -> None:
        from ..plot.style import save
        from .regime_atlas_figure import atlas

        maps = {
            f"gradient flow to τ = {self.slow_times[-1]:g}\n{self.seeds} starts a cell": self.share(flows),
            f"SGD, h = {self.step_size:g}, to τ = {self.sgd_slow_time:g}\n{self.sgd_seeds} starts a cell": self.share(
                sgds
            ),
        }
        failed = int((sgds.status != 0).sum())
        caption = (
            f"Flow: {counts['failed']} of {counts['runs']:,} runs failed, {counts['unsettled']} without success "
            f"still fell by over {SETTLED:.0%} after τ = {self.slow_times[-2]:g}. "
            f"SGD: {failed} of {sgds.status.size} failed."
        )
        save(atlas(maps, self.target, caption), file)
