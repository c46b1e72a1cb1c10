"""The figures that a comparison of dynamics reports."""

import math

import equinox as eqx
import numpy as np

from ..distance import distance
from ..trajectory import Trajectory
from .base import Table, number


class DynamicsSummary(eqx.Module):
    name: str
    final_error: float
    """int_0^1 (f - f*)^2 dx at the last save time; NaN where the run failed before."""
    status: str
    steps: int
    """Of SGD, of the solver, or events of the limit."""
    rejected: int
    method: str
    compile_seconds: float
    """Of a first run, over the slow time of one step of SGD."""
    run_seconds: float


class DistanceSummary(eqx.Module):
    r"""$(\int_0^1 (f_a - f_b)^2 dx)^{1/2}$ of two dynamics, after the start; NaN where there is none."""

    between: tuple[str, str]
    largest: float
    slow_time_of_largest: float
    final: float

    @classmethod
    def of(cls, names: tuple[str, str], a: Trajectory, b: Trajectory) -> "DistanceSummary":
        later, times = np.asarray(distance(a, b))[1:], np.asarray(a.slow_time)[1:]
        known = np.isfinite(later)
        if not known.any():
            return cls(names, math.nan, math.nan, math.nan)
        k = int(np.argmax(np.where(known, later, -1.0)))
        return cls(names, float(later[k]), float(times[k]), float(later[-1]))


class Summary(eqx.Module):
    neurons_per_piece: tuple[int, ...]
    """Of the start."""
    dynamics: tuple[DynamicsSummary, ...]
    distances: tuple[DistanceSummary, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        rows = tuple(
            (
                row.name,
                number(row.final_error),
                row.status,
                *map(number, (row.steps, row.compile_seconds, row.run_seconds)),
            )
            for row in self.dynamics
        )
        distances = tuple(
            (" to ".join(row.between), *map(number, (row.largest, row.slow_time_of_largest, row.final)))
            for row in self.distances
        )
        return (
            Table(("dynamics", "final error", "status", "steps", "compile s", "run s"), rows),
            Table(("L2 distance", "largest after the start", "at slow time", "at the end"), distances),
        )
