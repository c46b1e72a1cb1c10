"""The dataset of a sweep: what is in it, and where it is put."""

import abc
import dataclasses
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import PyTree
from typing_extensions import override

from .. import _checks as checks
from .._provenance import Provenance
from ..trajectory import Status
from .arrivals import CONVERGED, applies, arrivals
from .axes import label
from .grid import CHUNK_BYTES, CHUNK_RUNS, CHUNKS, MOST_CHUNK_RUNS, Chunk, Grid
from .kept import Kept, measured_like
from .place import METADATA

if TYPE_CHECKING:
    import xarray

MISSING = -1


class Variable(NamedTuple):
    dims: tuple[str, ...]
    """After those of the grid."""
    shape: tuple[int, ...]
    """Those of smaller networks, or fewer jumps, are filled up."""
    dtype: str
    fill: Any
    attributes: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


class Layout:
    """Names, shapes and labels of everything in the dataset of a sweep."""

    def __init__(self, grid: Grid, kept: Kept, attributes: Mapping[str, str]):
        self.grid, self.kept = grid, kept
        self.variables = _variables(grid, kept)
        """`status` is the last: where it is, all others are."""
        self.bytes_of_a_run = sum(variable.nbytes for variable in self.variables.values())
        wanted = min(MOST_CHUNK_RUNS, max(CHUNK_RUNS, len(grid.seeds) // CHUNKS))
        self.chunk_size = max(1, min(wanted, CHUNK_BYTES // self.bytes_of_a_run, len(grid.seeds)))
        """Runs in a chunk, so that its results fit into `CHUNK_BYTES`."""
        self._chunks = grid.chunks(self.chunk_size)
        self.coordinates = _coordinates(grid, self.variables)
        measured = {"measure": kept.describe()} if kept.measure else {}
        code = {"code": found} if (found := grid.code() | kept.code()) else {}
        names = {"chunk": self.chunk_size, "variables": list(self.variables)}
        configuration = grid.configuration() | measured | code | names
        self.attributes = {
            "configuration": json.dumps(configuration),
            "provenance": json.dumps(dataclasses.asdict(Provenance.here())),
            **attributes,
        }

    def chunks(self) -> list[Chunk]:
        return self._chunks

    def variables_of(self, chunk: Chunk, starts: PyTree, outcome: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Those of one chunk, along its seeds, in the order in which they are to be written."""
        cell = chunk.cell
        own = {
            name: leaf.shape for name, leaf in self.kept.leaves_of(self.grid.first(cell)).items() if leaf is not None
        }
        found = {
            name: values[:, :, *map(slice, own[name])] if name in own else values for name, values in outcome.items()
        }
        if "converged" in self.variables:
            unpadded = starts.positions[:, : own["positions"][0]]
            starts = dataclasses.replace(starts, weights=np.zeros_like(unpadded), positions=unpadded)
            slow_times, positions, risk = self.grid.slow_times, found["positions"], found["risk"]
            found |= arrivals(cell.problem, starts, slow_times, positions, risk)
        return {name: _filled(found.get(name), variable, chunk.runs) for name, variable in self.variables.items()}


def _filled(values: Any, variable: Variable, runs: int) -> np.ndarray:
    """With the fill value where a network is smaller than the largest, or has no such leaf."""
    whole = np.full((runs, *variable.shape), variable.fill, variable.dtype)
    if values is not None:
        values = np.asarray(values)
        # Positions of one dimension have no axis for it.
        values = values.reshape(values.shape[: whole.ndim])
        whole[tuple(map(slice, values.shape))] = values
    return whole


def _variables(grid: Grid, kept: Kept) -> dict[str, Variable]:
    floating, saves = grid.slow_times.dtype.name, len(grid.slow_times)
    over_time = ("slow_time",), (saves,)
    variables = {"risk": Variable(*over_time, floating, np.nan, {"long_name": grid.problem.risk_in_words})}
    models = list({id(model): model for model in map(grid.first, grid.cells)}.values())
    for name, dims, shape in _largest_leaves(models, kept):
        about = {"long_name": ABOUT.get(name, f"leaf {name} of the network")}
        variables[name] = Variable(("slow_time", *dims), (saves, *shape), floating, np.nan, about)
    measured, settings = measured_like(kept, models), {*grid.axes, *grid.fixed}
    _check_names("measure", measured, {*variables, *RESERVED, *settings})
    _check_names("axis", settings, {*variables, *RESERVED})
    for name, like in measured.items():
        dims = tuple(f"{name}[{k}]" for k in range(len(like.shape)))
        fill = np.nan if np.issubdtype(like.dtype, np.inexact) else np.zeros((), like.dtype)[()]
        about = {"long_name": f"{name}, as measured"}
        variables[name] = Variable(("slow_time", *dims), (saves, *like.shape), like.dtype.name, fill, about)
    about = {"long_name": "steps of SGD, of the solver, or events", "units": "1"}
    variables["steps"] = Variable((), (), "int64", MISSING, about)
    variables["rejected"] = Variable((), (), "int64", MISSING, {"long_name": "steps thrown away", "units": "1"})
    if applies(grid.targets, models):
        jumps = max(target.jumps.size for target in grid.targets)
        about = {"long_name": "neurons of the start in a piece of the target", "units": "1"}
        variables["neurons_per_piece"] = Variable(("piece",), (jumps + 1,), "int64", MISSING, about)
        about = {"long_name": "first save at which the window of a neuron holds the jump", "units": "slow time"}
        variables["hit_time"] = Variable(("jump",), (jumps,), floating, np.nan, about)
        about = {"long_name": f"last risk below {CONVERGED:g} eta / 28 sum of squared jumps"}
        variables["converged"] = Variable((), (), "bool", False, about)
    meanings = {"flag_values": [MISSING, *map(int, Status)], "flag_meanings": " ".join(["missing", *_names()])}
    variables["status"] = Variable((), (), "int8", MISSING, {"long_name": "how a run ended", **meanings})
    return variables


def _check_names(what: str, names: Iterable[str], taken: Collection[str]) -> None:
    """Each is also that of a folder of a store."""
    for name in names:
        if name in taken:
            raise ValueError(f"{what} {name!r} has the name of another variable: choose another one")
        if "/" in name or name.startswith((".", "__")) or name == METADATA:
            raise ValueError(
                f"{what} {name!r} is no name of a variable: choose one without /, and without . or __ in front"
            )


RESERVED = {
    *("steps", "rejected", "neurons_per_piece", "hit_time", "converged", "status"),
    *("dynamics", "seed", "slow_time", "neuron", "coordinate", "jump", "piece", "jump_position"),
}
ABOUT = {"positions": "positions of the neurons", "weights": "weights of the neurons", "bias": "bias"}
LEAF_DIMS = {"positions": ("neuron", "coordinate"), "weights": ("neuron", "coordinate")}


def _largest_leaves(models: list[PyTree], kept: Kept) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Name, dimensions and shape of each leaf that is kept of any model."""
    largest: dict[str, tuple[int, ...]] = {}
    for model in models:
        for name, leaf in kept.leaves_of(model).items():
            shape = () if leaf is None else leaf.shape
            before = largest.get(name, shape)
            if len(before) != len(shape):
                raise ValueError(
                    f"the networks of a sweep must have leaves of one rank, got shapes {before} and {shape} of {name}: "
                    "sweep them apart"
                )
            largest[name] = tuple(map(max, before, shape))
    found = []
    for name, shape in largest.items():
        dims = LEAF_DIMS.get(name, tuple(f"{name}[{k}]" for k in range(len(shape))))
        flat = name in LEAF_DIMS and shape[-1] == 1
        found.append((name, dims[: len(shape) - flat], shape[: len(shape) - flat]))
    return found


class Results(abc.ABC):
    """Where chunks are put."""

    @abc.abstractmethod
    def missing(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Those that are not there, whole."""

    @abc.abstractmethod
    def write(self, chunk: Chunk, values: dict[str, np.ndarray]) -> None: ...

    @abc.abstractmethod
    def dataset(self) -> "xarray.Dataset": ...

    @abc.abstractmethod
    def close(self) -> None:
        """Others may write there then."""

    def tidy(self) -> None:  # noqa: B027, in memory there is nothing
        """Throws away what writers that died have left."""


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
    def missing(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        return list(chunks)

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


def check_sweep(dataset: Any) -> None:
    if "seed" not in getattr(dataset, "dims", ()) or "status" not in getattr(dataset, "data_vars", ()):
        raise ValueError(f"dataset must be that of a sweep, got {checks.called(dataset)}: pass tts.load('run.zarr')")


def endings(status: Any) -> str:
    """How many runs ended in which way."""
    known = np.asarray(status)
    counts = {end.label: int((known == end).sum()) for end in Status} | {"missing": int((known == MISSING).sum())}
    return f"{known.size:,} runs: " + ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)


def _names() -> list[str]:
    return [status.name.lower() for status in Status]


def _coordinates(
    grid: Grid, variables: Mapping[str, Variable]
) -> dict[str, tuple[tuple[str, ...], Any, dict[str, str]]]:
    about = {
        "dynamics": {"long_name": "dynamics, by name"},
        "target": {"long_name": "target"},
        "neurons": {"long_name": "number of neurons", "units": "1"},
        "batch_size": {"long_name": "samples of a step of SGD", "units": "1"},
        "noise": {"long_name": "standard deviation of the label noise"},
        "epsilon": {"long_name": "step size of the slow leaves over that of the fast ones", "units": "1"},
        "eta": {"long_name": "width of a neuron"},
        "step_size": {"long_name": "step size of SGD", "units": "fast time"},
        "slow_time": {"long_name": "slow time tau", "units": "slow time"},
        "seed": {"long_name": "of jax.random.key, of the start"},
        "neuron": {"long_name": "index of the neuron"},
        "coordinate": {"long_name": "index of the input"},
        "jump": {"long_name": "index of the jump, from the left"},
        "piece": {"long_name": "index of the piece of the target, from the left"},
    }
    values: dict[str, Any] = {"slow_time": grid.slow_times, "seed": np.asarray(grid.seeds, np.int64)}
    for name, axis in grid.axes.items():
        is_number = all(isinstance(value, int | float) for value in axis)
        labels = axis if is_number else [label(value) for value in axis]
        values[name] = np.asarray(labels, None if is_number else object)
    if grid.listed:
        values["dynamics"] = np.asarray(list(grid.dynamics), object)
    for variable in variables.values():
        sizes = dict(zip(variable.dims, variable.shape, strict=True))
        values |= {dim: np.arange(size) for dim, size in sizes.items() if dim in about and dim not in values}
    placed: dict[str, tuple[tuple[str, ...], Any, dict[str, str]]]
    placed = {name: ((name,), value, about.get(name, {"long_name": name})) for name, value in values.items()}
    for name, value in grid.fixed.items():
        if isinstance(value, bool | int | float | str):
            placed[name] = ((), value, about.get(name, {"long_name": name}))
    if "converged" in variables:
        jumps = [np.asarray(target.jumps) for target in grid.targets]
        most = max(map(len, jumps))
        table = np.stack([np.pad(row, (0, most - len(row)), constant_values=np.nan) for row in jumps])
        over = ("target", "jump") if "target" in grid.axes else ("jump",)
        place = {"long_name": "where the target jumps", "units": "input"}
        placed["jump_position"] = (over, table if "target" in grid.axes else table[0], place)
    return placed
