"""The flow, SGD and the limit from one start: the configuration, and what follows from it."""

import dataclasses
import itertools
import math
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from .. import _checks as checks
from .._fingerprint import fingerprint
from ..dynamics import SGD, AbstractDynamics, GradientFlow, TwoTimescaleLimit
from ..networks import ShallowNetwork
from ..simulate import simulate
from ..sweeps.grid import sample_key
from ..trajectory import Status, Trajectory
from .base import Evidence, Finding, Report, Verdict, number
from .staircase import AbstractStaircase
from .summary import DistanceSummary, DynamicsSummary, Summary

if TYPE_CHECKING:
    import xarray


class ComparisonResults(eqx.Module):
    trajectories: dict[str, Trajectory]
    summary: Summary


class Comparison(AbstractStaircase):
    """One start on one problem, trained by the gradient flow, by SGD, and in the two-timescale limit. Writes

    - `risks.png`, the errors against time, and `functions.png`, the networks at some times
    - `animation.gif`
    - `trajectories.nc`, all trajectories as one `xarray.Dataset` with a dimension `dynamics`: see `tts_jax.load`

    Raises `ValueError` for values that cannot be simulated.
    """

    epsilon: float
    """How many times slower the positions move. Of SGD and the flow: the limit has none."""
    step_size: float
    """Of SGD, in fast time."""
    slow_time: float
    """The end of training, in slow time."""
    saves: int
    """After the start."""
    panels: tuple[float, ...]
    """Slow times at which the figure shows the functions."""
    succeeds: bool
    """Whether SGD reaches a global minimum, as the paper claims."""
    neurons: int = 20
    first_save: float | None = None
    """Save times are equidistant, or with a `first_save` geometric from there on and drawn on a log scale."""
    frame_every: int = 1
    """Saves for each frame of the animation."""

    def __check_init__(self):
        for name in ("epsilon", "step_size", "slow_time"):
            checks.positive(name, getattr(self, name))
        checks.count("neurons", self.neurons)
        checks.count("saves", self.saves)
        checks.known_slow_times(self.slow_times)
        self.check_steps(self.slow_time, self.epsilon, self.step_size)

    @property
    def steps(self) -> int:
        """Steps of SGD."""
        return round(self.slow_time / (self.epsilon * self.step_size))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ε": number(self.epsilon),
            "h": number(self.step_size),
            "slow time": number(self.slow_time),
            "steps of SGD": number(self.steps),
            "neurons": number(self.neurons),
            "η": number(self.eta),
        }

    @property
    def slow_times(self) -> Float[np.ndarray, " t"]:
        if self.first_save is None:
            return np.linspace(0.0, self.slow_time, self.saves + 1)
        return np.concatenate([[0.0], np.geomspace(self.first_save, self.slow_time, self.saves)])

    @property
    def start(self) -> ShallowNetwork:
        return self.start_of(self.seed, self.neurons)

    @property
    def dynamics(self) -> dict[str, AbstractDynamics]:
        return {
            "flow": GradientFlow(self.epsilon),
            "SGD": SGD(self.epsilon, self.step_size),
            "limit": TwoTimescaleLimit(),
        }

    @property
    def neurons_per_piece(self) -> tuple[int, ...]:
        """How many neurons of the start lie in each piece of the target."""
        return tuple(self.pieces_of(self.start).tolist())

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        trajectories, measured = {}, []
        checkpoint = folder / f"sgd-{fingerprint(self)[:12]}.checkpoint"
        for name, dynamics in self.dynamics.items():
            trajectories[name], numbers = _measure(name, dynamics, self, report, checkpoint)
            measured.append(numbers)
        report("drawing", 0, 0)
        figures = _draw(self, trajectories, folder)
        to_dataset(trajectories, self).to_netcdf(folder / "trajectories.nc", engine="scipy")
        checkpoint.unlink(missing_ok=True)
        summary = Summary(
            self.neurons_per_piece,
            tuple(measured),
            tuple(
                DistanceSummary.of((a, b), trajectories[a], trajectories[b])
                for a, b in itertools.combinations(trajectories, 2)
            ),
        )
        return Evidence(
            figures=figures,
            findings=_findings(self, summary),
            tables=summary.tables,
            files=("trajectories.nc",),
            results=ComparisonResults(trajectories, summary),
            record=dataclasses.asdict(summary),
        )


def _measure(
    name: str, dynamics: AbstractDynamics, comparison: Comparison, report: Report, checkpoint: pathlib.Path
) -> tuple[Trajectory, DynamicsSummary]:
    """One run, compiled before it is timed; of SGD that goes on from a checkpoint, only the rest is timed."""
    model, problem, times = comparison.start, comparison.problem, comparison.slow_times
    key = sample_key(jax.random.key(comparison.seed))

    def seconds(slow_times, progress, checkpoint=None):
        start = time.perf_counter()
        trajectory = simulate(
            *(dynamics, model, problem, slow_times), key=key, progress=progress, checkpoint=checkpoint
        )
        return jax.block_until_ready(trajectory), time.perf_counter() - start

    report(f"compiling {name}", 0, 0)
    one_step = times * (comparison.epsilon * comparison.step_size / times[-1])
    _, compile_seconds = seconds(one_step, None)
    report(name, 0, 0)
    file = checkpoint if dynamics.resumable else None
    counts = dynamics.steps(times) is not None
    watch = (lambda done, total: report(name, done, total)) if counts else None
    trajectory, run_seconds = seconds(times, watch, file)
    error = float(trajectory.risk[-1])
    return trajectory, DynamicsSummary(
        name=name,
        final_error=error if math.isfinite(error) else math.nan,
        status=Status(int(trajectory.status)).name.lower(),
        steps=int(trajectory.stats.steps),
        rejected=int(trajectory.stats.rejected),
        method=trajectory.stats.method,
        compile_seconds=compile_seconds,
        run_seconds=run_seconds,
    )


def _findings(comparison: Comparison, summary: Summary) -> tuple[Finding, ...]:
    """Of one run, and judged by its numbers alone. A squared distance is judged as an error is."""
    success, floor = comparison.success, comparison.floor
    errors = {row.name: row.final_error for row in summary.dynamics}
    reached = ", ".join(f"{name} {number(final_error)}" for name, final_error in errors.items())
    error = f"error at the end: {reached}; a global minimum is below {number(success)}, ten times the floor set by η"
    if not comparison.succeeds:
        claim = "from this start, with one step size for both layers, SGD fails: it stops in a local minimum"
        return (Finding(claim, error, Verdict.of(errors["SGD"] >= success, errors["SGD"] < success)),)
    apart = {row.between: row.final for row in summary.distances}["SGD", "limit"]
    distance = (
        f"L2 distance at the end: {number(apart)}; it follows below {number(success**0.5)}, and steepness alone makes "
        f"{number(floor**0.5)}"
    )
    return (
        Finding(
            "from this start SGD reaches a global minimum, up to the width of its neurons",
            error,
            Verdict.of(errors["SGD"] < success, errors["SGD"] >= success),
        ),
        Finding(
            "from this start SGD follows the two-timescale limit",
            distance,
            Verdict.of(apart**2 < success, apart**2 >= success),
        ),
    )


def to_dataset(trajectories: Mapping[str, Trajectory], comparison: Comparison) -> "xarray.Dataset":
    """All `trajectories` along a dimension `dynamics`, with their status and cost; the configuration of the
    `comparison` as attributes.

    `trajectories` are given by the names of their dynamics, at the same save times. A clock that a dynamics lacks is
    NaN.

    Raises `ValueError` for a model that is not a `ShallowNetwork`.
    """
    import xarray

    def labelled(name: str, trajectory: Trajectory) -> xarray.Dataset:
        dataset = trajectory.to_xarray()
        return dataset.assign(dataset.attrs).drop_attrs(deep=False).expand_dims(dynamics=[name])

    joined = xarray.concat(
        [labelled(name, trajectory) for name, trajectory in trajectories.items()],
        dim="dynamics",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
    )
    settings = {name: value for name, value in dataclasses.asdict(comparison).items() if value is not None}
    return joined.assign_attrs(settings)


def _draw(comparison: Comparison, trajectories: Mapping[str, Trajectory], folder: pathlib.Path) -> tuple[str, ...]:
    from .. import plot
    from ..plot.style import save

    epsilon = f"{comparison.epsilon:g}".replace("e-0", "e-")
    labels = {"flow": f"flow, ε = {epsilon}", "SGD": f"SGD, ε = {epsilon}", "limit": "limit ε → 0"}
    everything = {labels[name]: trajectory for name, trajectory in trajectories.items()}
    target, log_time = comparison.target, comparison.first_save is not None
    save(plot.risks(everything, log_time=log_time), folder / "risks.png")
    save(plot.functions(everything, target, comparison.panels), folder / "functions.png")
    plot.animation(everything, target, folder / "animation.gif", every=comparison.frame_every, log_time=log_time)
    return "risks.png", "functions.png", "animation.gif"
