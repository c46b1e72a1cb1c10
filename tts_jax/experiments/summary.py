"""The figures that an experiment reports."""

import dataclasses
import json
import math
from typing import Any

import equinox as eqx
import numpy as np

from ..distance import distance
from ..trajectory import Trajectory
from .comparison import Comparison
from .provenance import Provenance


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
    configuration: Comparison
    neurons_per_piece: tuple[int, ...]
    """Of the start."""
    dynamics: tuple[DynamicsSummary, ...]
    distances: tuple[DistanceSummary, ...]
    files: tuple[str, ...]
    provenance: Provenance

    def to_json(self) -> str:
        """A number that is not finite becomes null."""
        return json.dumps(_finite(dataclasses.asdict(self)), indent=2)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
