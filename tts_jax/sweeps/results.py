"""What a sweep keeps of each run, and where."""

import abc
import dataclasses
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np
from typing_extensions import override

from .._provenance import Provenance
from ..networks import ShallowNetwork
from ..problems import Regression
from ..targets import PiecewiseConstant
from ..theory import floor
from ..trajectory import Status, Trajectory
from .grid import Cell, Chunk, Grid, describe, piece_counts

if TYPE_CHECKING:
    import xarray

MISSING = -1
CONVERGED = 2.0
"""A run has converged where its last risk is below so many times the floor."""


class Variable(NamedTuple):
    dims: tuple[str, ...]
    """After those of the grid."""
    shape: tuple[int, ...]
    dtype: str
    fill: Any
    attributes: dict[str, Any]


class Layout(eqx.Module):
    """Names, shapes and labels of everything in the dataset of a sweep."""

    grid: Grid
    variables: dict[str, Variable]
    """`status` is the last: where it is, all others are."""
    coordinates: dict[str, tuple[tuple[str, ...], Any, dict[str, str]]]
    attributes: dict[str, str]

    @classmethod
    def of(cls, grid: Grid, dimension: int, weights: bool, attributes: dict[str, str]) -> "Layout":
        floating = grid.slow_times.dtype.name
        saves, neurons = len(grid.slow_times), grid.neurons
        over_time = ("slow_time",), (saves,)
        each: tuple[tuple[str, ...], tuple[int, ...]] = ("slow_time", "neuron"), (saves, neurons)
        if dimension > 1:
            each = (*each[0], "coordinate"), (*each[1], dimension)
        variables = {
            "risk": Variable(*over_time, floating, np.nan, {"long_name": "mean squared error"}),
            "positions": Variable(*each, floating, np.nan, {}),
        }
        if weights:
            variables["weights"] = Variable(*each, floating, np.nan, {})
            variables["bias"] = Variable(*over_time, floating, np.nan, {})
        variables["steps"] = Variable((), (), "int64", MISSING, {"long_name": "steps of SGD, of the solver, or events"})
        variables["rejected"] = Variable((), (), "int64", MISSING, {"long_name": "steps thrown away"})
        if dimension == 1 and grid.targets and all(isinstance(t, PiecewiseConstant) for t in grid.targets):
            jumps = max(target.jumps.size for target in grid.targets)
            pieces = Variable(("piece",), (jumps + 1,), "int64", MISSING, {"long_name": "of the start"})
            variables["neurons_per_piece"] = pieces
            about = {"long_name": "first save time at which the window of a neuron holds the jump"}
            variables["hit_time"] = Variable(("jump",), (jumps,), floating, np.nan, about)
            about = {"long_name": f"last risk below {CONVERGED:g} eta / 28 sum of squared jumps"}
            variables["converged"] = Variable((), (), "bool", False, about)
        meanings = {"flag_values": [MISSING, *map(int, Status)], "flag_meanings": " ".join(["missing", *_names()])}
        variables["status"] = Variable((), (), "int8", MISSING, meanings)
        recorded = dataclasses.asdict(Provenance.here())
        return cls(
            grid=grid,
            variables=variables,
            coordinates=_coordinates(grid),
            attributes={
                "configuration": json.dumps(grid.configuration() | {"variables": list(variables)}),
                "provenance": json.dumps(recorded),
                **attributes,
            },
        )

    def variables_of(self, chunk: Chunk, starts: ShallowNetwork, outcome: Trajectory) -> dict[str, np.ndarray]:
        """Those of one chunk, along its seeds, in the order in which they are to be written."""
        cell = chunk.cell
        found: dict[str, Any] = {
            "risk": outcome.risk,
            "positions": self._each(cell, outcome.model.positions),
            "weights": self._each(cell, outcome.model.weights),
            "bias": np.full_like(outcome.risk, np.nan) if outcome.model.bias is None else outcome.model.bias,
            "steps": outcome.stats.steps,
            "rejected": outcome.stats.rejected,
            "status": outcome.status,
        }
        if "converged" in self.variables:
            found |= self._arrivals(cell, np.asarray(starts.positions)[:, : cell.neurons, 0], found)
        return {
            name: np.asarray(found[name]).astype(variable.dtype).reshape(-1, *variable.shape)
            for name, variable in self.variables.items()
        }

    def _each(self, cell: Cell, values: np.ndarray) -> np.ndarray:
        """Without the padding of the program, with that of the dataset."""
        own = values[:, :, : cell.neurons]
        missing = [(0, 0), (0, 0), (0, self.grid.neurons - cell.neurons), (0, 0)]
        return np.pad(own, missing, constant_values=np.nan)

    def _arrivals(self, cell: Cell, start: np.ndarray, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        jumps, times = np.asarray(cell.target.jumps), self.grid.slow_times
        positions = found["positions"][..., 0]
        held = (np.abs(positions[..., None] - jumps) <= cell.eta / 2).any(axis=2)
        hit = np.where(held.any(axis=1), times[held.argmax(axis=1)], np.nan)
        pieces = piece_counts(start, jumps)
        fewer = self.variables["hit_time"].shape[0] - len(jumps)
        return {
            "hit_time": np.pad(hit, [(0, 0), (0, fewer)], constant_values=np.nan),
            "neurons_per_piece": np.pad(pieces, [(0, 0), (0, fewer)], constant_values=MISSING),
            "converged": found["risk"][:, -1] < CONVERGED * float(floor(Regression(cell.target), cell.eta)),
        }


class Results(abc.ABC):
    """Where chunks are put."""

    @abc.abstractmethod
    def holds(self, chunk: Chunk) -> bool:
        """Whether a chunk is there, whole."""

    @abc.abstractmethod
    def write(self, chunk: Chunk, values: dict[str, np.ndarray]) -> None: ...

    @abc.abstractmethod
    def dataset(self) -> "xarray.Dataset": ...

    @abc.abstractmethod
    def close(self) -> None:
        """Others may write there then."""


class Memory(Results):
    def __init__(self, layout: Layout):
        self.layout = layout
        self.arrays = {
            name: np.full((*layout.grid.shape, *variable.shape), variable.fill, variable.dtype)
            for name, variable in layout.variables.items()
        }

    @override
    def close(self) -> None:
        pass

    @override
    def holds(self, chunk: Chunk) -> bool:
        return False

    @override
    def write(self, chunk: Chunk, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            self.arrays[name][chunk.where] = value

    @override
    def dataset(self) -> "xarray.Dataset":
        import xarray

        layout = self.layout
        return xarray.Dataset(
            {
                name: ((*layout.grid.dims, *variable.dims), self.arrays[name], variable.attributes)
                for name, variable in layout.variables.items()
            },
            coords=layout.coordinates,
            attrs=layout.attributes,
        )


def endings(status: Any) -> str:
    """How many runs ended in which way."""
    known = np.asarray(status)
    counts = {end.label: int((known == end).sum()) for end in Status} | {"missing": int((known == MISSING).sum())}
    return f"{known.size:,} runs: " + ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)


def _names() -> list[str]:
    return [status.name.lower() for status in Status]


def _coordinates(grid: Grid) -> dict[str, tuple[tuple[str, ...], Any, dict[str, str]]]:
    about = {
        "epsilon": {"long_name": "step size of the positions over that of the weights"},
        "eta": {"long_name": "width of a neuron"},
        "step_size": {"long_name": "step size of SGD", "units": "fast time"},
        "slow_time": {"long_name": "slow time tau"},
    }
    values: dict[str, Any] = {"slow_time": grid.slow_times, "seed": np.asarray(grid.seeds, np.int64)}
    for name, axis in grid.axes.items():
        labels = [json.dumps(describe(value)) for value in axis] if name == "target" else axis
        values[name] = np.asarray(labels, object if name == "target" else None)
    if grid.listed:
        values["dynamics"] = np.asarray(list(grid.dynamics), object)
    scalars = {name: value for name, value in grid.fixed.items() if name != "target"}
    return {
        name: ((name,) if name in values else (), value, about.get(name, {}))
        for name, value in (values | scalars).items()
    }
