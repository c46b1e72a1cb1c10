"""Simulate a comparison, and write down what came out."""

import dataclasses
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import equinox as eqx
import jax

from .. import checks, plot
from ..dynamics import AbstractDynamics
from ..simulate import simulate
from ..trajectory import Status, Trajectory
from .comparison import Comparison
from .provenance import Provenance
from .summary import DistanceSummary, DynamicsSummary, Summary

if TYPE_CHECKING:
    import xarray

Report = Callable[[str, int, int], None]
"""Called with the phase of the work, the steps of SGD done in it, and their number (0 and 0 in all other phases)."""


class Outcome(eqx.Module):
    trajectories: dict[str, Trajectory]
    summary: Summary
    folder: pathlib.Path


def run(comparison: Comparison, out: str | os.PathLike[str], report: Report | None = None) -> Outcome:
    """Simulates the flow, SGD and the limit from one start, and writes into the folder `out`:

    - `risks.png`, the errors against time, and `functions.png`, the networks at some times
    - `animation.gif`
    - `trajectories.nc`, all trajectories as one `xarray.Dataset` with a dimension `dynamics`: see `tts_jax.load`
    - `summary.json`, the figures, the configuration, and where they come from

    Raises `ValueError` where the folder cannot be written into. A run that fails shows in its `status`.
    """
    folder = checks.writable_folder(out)
    report = report or _silent
    trajectories, measured = {}, []
    for name, dynamics in comparison.dynamics.items():
        trajectories[name], figures = _measure(name, dynamics, comparison, report)
        measured.append(figures)
    report("drawing", 0, 0)
    files = _draw(comparison, trajectories, folder)
    to_dataset(trajectories, comparison).to_netcdf(folder / "trajectories.nc", engine="scipy")
    summary = Summary(
        configuration=comparison,
        neurons_per_piece=comparison.neurons_per_piece,
        dynamics=tuple(measured),
        distances=tuple(
            DistanceSummary.of((a, b), trajectories[a], trajectories[b])
            for a, b in itertools.combinations(trajectories, 2)
        ),
        files=(*files, "trajectories.nc", "summary.json"),
        provenance=Provenance.here(),
    )
    (folder / "summary.json").write_text(summary.to_json() + "\n")
    return Outcome(trajectories, summary, folder)


def _measure(
    name: str, dynamics: AbstractDynamics, comparison: Comparison, report: Report
) -> tuple[Trajectory, DynamicsSummary]:
    """One run, compiled before it is timed."""
    model, problem, times = comparison.start, comparison.problem, comparison.slow_times

    def seconds(slow_times, progress):
        start = time.perf_counter()
        trajectory = simulate(dynamics, model, problem, slow_times, key=comparison.stream, progress=progress)
        return jax.block_until_ready(trajectory), time.perf_counter() - start

    report(f"compiling {name}", 0, 0)
    one_step = times * (comparison.epsilon * comparison.step_size / times[-1])
    _, compile_seconds = seconds(one_step, _silent)
    report(name, 0, 0)
    trajectory, run_seconds = seconds(times, lambda done, total: report(name, done, total))
    return trajectory, DynamicsSummary(
        name=name,
        final_error=float(trajectory.risk[-1]),
        status=Status(int(trajectory.status)).name.lower(),
        steps=int(trajectory.stats.steps),
        rejected=int(trajectory.stats.rejected),
        method=trajectory.stats.method,
        compile_seconds=compile_seconds,
        run_seconds=run_seconds,
    )


def to_dataset(trajectories: Mapping[str, Trajectory], comparison: Comparison) -> "xarray.Dataset":
    """All trajectories along a dimension `dynamics`, with their status and cost; the configuration as attributes.

    A clock that a dynamics lacks is NaN.
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
    epsilon = f"{comparison.epsilon:g}".replace("e-0", "e-")
    labels = {"flow": f"flow, ε = {epsilon}", "SGD": f"SGD, ε = {epsilon}", "limit": "limit ε → 0"}
    everything = {labels[name]: trajectory for name, trajectory in trajectories.items()}
    target, log_time = comparison.problem.target, comparison.first_save is not None
    plot.risks(everything, log_time=log_time).savefig(folder / "risks.png", dpi=200)
    plot.functions(everything, target, comparison.panels).savefig(folder / "functions.png", dpi=200)
    plot.animation(everything, target, folder / "animation.gif", every=comparison.frame_every, log_time=log_time)
    return "risks.png", "functions.png", "animation.gif"


def _silent(*report: object) -> None:
    pass
