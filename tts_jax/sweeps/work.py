"""What a sweep was asked to do."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .grid import Grid
from .kept import Kept
from .results import Layout


@dataclasses.dataclass(frozen=True)
class Work:
    """The arguments of `sweep` that results depend on, from which each process makes the same layout."""

    dynamics: Any
    problem: Any
    slow_times: Any
    seeds: Any
    init: Any
    axes: Mapping[str, Any]
    measure: Any
    keep: str | None
    weights: bool
    lanes: int = 0
    store: str | None = None

    def layout(self, attributes: Mapping[str, str] | None = None) -> Layout:
        kept = Kept(self.measure, self.weights, self.keep == "model")
        grid = Grid(self.dynamics, self.problem, self.slow_times, self.seeds, self.init, self.axes, kept.pads)
        return Layout(grid, kept, dict(attributes or {}))
