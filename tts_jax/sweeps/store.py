"""Labelled results that are kept."""

import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from .. import _checks as checks
from .grid import Chunk
from .place import METADATA, Folder, Place, place_of
from .results import MISSING, Layout, Results

if TYPE_CHECKING:
    import xarray


def load(path: str | os.PathLike[str]) -> "xarray.Dataset":
    """The dataset of a sweep (a `.zarr` folder) or of an experiment (a netCDF file, `.nc`), read into memory.

    `path` may also be a URL of a store that fsspec reaches, such as `s3://mine/run.zarr`.

    The store of a sweep that is not finished, or still runs, can be read: missing runs have status -1. So have runs of
    which a file was lost, and a warning counts them.

    >>> import tempfile, xarray, tts_jax as tts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xarray.Dataset({"risk": ("slow_time", [0.5, 0.25])}).to_netcdf(f"{folder}/run.nc", engine="scipy")
    ...     tts.load(f"{folder}/run.nc").risk.values.tolist()
    [0.5, 0.25]

    Raises `ValueError` for a file of another kind or a damaged one, `FileNotFoundError` where there is none, and
    `ImportError` where a `.zarr` folder is read without the package zarr, which the extra `store` installs.
    """
    import xarray

    place = place_of("path", path, "run.zarr")
    there = place.path.exists() if isinstance(place, Folder) else place.has(METADATA)
    if not there and place.suffix in (".nc", ".zarr"):
        kind = "store" if place.suffix == ".zarr" else "file"
        raise FileNotFoundError(f"there is no {kind} {place}: look at the path, or run what writes it")
    if place.suffix == ".nc" and isinstance(place, Folder):
        try:
            return xarray.load_dataset(io.BytesIO(place.path.read_bytes()), engine="scipy")
        except Exception as error:  # whatever a parser raises
            raise ValueError(
                f"{place} is damaged, or no netCDF file ({checks.first_line(error)}): run what wrote it"
            ) from error
    if not place.has(METADATA):
        raise ValueError(f"load reads a netCDF file (.nc) or the store of a sweep (.zarr), got {str(place)!r}")
    _zarr()
    try:
        dataset = xarray.open_zarr(place.opened(), consolidated=False, chunks=None).load()
        expected = json.loads(dataset.attrs["configuration"])["variables"] if "status" in dataset else []
        if absent := [name for name in expected if name not in dataset]:
            raise KeyError(f"no {absent[0]}")
    except Exception as error:  # whatever a codec or a parser raises
        raise ValueError(
            f"{place} is damaged ({checks.first_line(error)}): resume the sweep, which computes damaged runs again"
        ) from error
    text = [name for name in dataset.dims if name in dataset.coords and dataset[name].dtype.kind in "UT"]
    dataset = dataset[expected] if expected else dataset
    return _without_lost_runs(dataset, place).assign_coords({name: dataset[name].astype(object) for name in text})


def _without_lost_runs(dataset: "xarray.Dataset", place: Place) -> "xarray.Dataset":
    """With status -1 where a file is not there, of those that hold a run."""
    if "status" not in dataset:
        return dataset
    size, names = dataset.status.encoding["chunks"][-1], json.loads(dataset.attrs["configuration"])["variables"]
    status, lost = dataset.status.values.copy(), 0
    for at in np.ndindex(*status.shape[:-1], -(-status.shape[-1] // size)):
        there = [place.has(_file(name, at, dataset[name].ndim)) for name in names]
        if partly(there):
            chunk = status[at[:-1]][at[-1] * size :][:size]
            lost += chunk.size
            chunk[:] = MISSING
    if lost:
        warn_of_lost(place, lost, "resume the sweep, which computes them again")
    return dataset.assign(status=dataset.status.copy(data=status))


def partly(there: Sequence[bool]) -> bool:
    """Of the files of a chunk, in the order in which they are written: whether one was lost after the last was written.

    Where the last is not there, a sweep may have been ended, or still be, between two of them.
    """
    return there[-1] and not all(there)


def warn_of_lost(place: Place, runs: int, what: str) -> None:
    warnings.warn(f"{place} has lost a part of {runs:,} runs, which count as missing: {what}", stacklevel=4)


def _file(name: str, at: tuple[int, ...], ndim: int) -> str:
    """Of an array of so many dimensions in a store, for a chunk at this place in the grid."""
    return "/".join([name, "c", *map(str, at), *("0" for _ in range(ndim - len(at)))])


class Store(Results):
    """A Zarr group (format 3). A chunk of the sweep is one file in each array, with a checksum, put in place whole.

    Raises `ValueError` for a store of another configuration, or a place that cannot be written to.
    """

    def __init__(self, place: Place, layout: Layout):
        self.place, self.layout = place, layout
        try:
            self.group = _zarr().open_group(place.opened(), mode="r+")
            self.configuration = json.loads(self.group.attrs["configuration"])
        except Exception as error:  # whatever a parser raises
            raise ValueError(
                f"{place} is damaged, or not the store of a sweep ({checks.first_line(error)}): choose another name"
            ) from None
        self.lost = 0
        self.lock: int | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], layout: Layout, create: bool) -> "Store":
        """Makes it where it is missing (`create`), or waits until another process has made it."""
        _zarr()
        place = place_of("store", path, "run.zarr")
        if place.suffix != ".zarr":
            raise ValueError(f"a store is a folder whose name ends in .zarr, got {str(place)!r}")
        if not place.has(METADATA):
            if create:
                place.make(lambda at: _fill(at, layout))
            else:
                place.wait()
        place.writable()
        store = cls(place, layout)
        store._refuse_other_configuration()
        store._find_arrays()
        if create:
            store.lock = place.lock()
            place.tidy()
        return store

    @classmethod
    def join(cls, path: str, layout: Layout) -> "Store":
        """One that another process has opened, of the same sweep."""
        place = place_of("store", path, "run.zarr")
        if not place.has(METADATA):
            raise ValueError(f"a worker finds no store {place}: choose a place that all workers see")
        store = cls(place, layout)
        store._find_arrays()
        return store

    @override
    def missing(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Reads all files: a checksum finds what is damaged, and that is thrown away."""
        return [chunk for chunk in chunks if not self._holds(chunk)]

    def _holds(self, chunk: Chunk) -> bool:
        files = [self._file(name, chunk) for name in self.layout.variables]
        there = [self.place.has(file) for file in files]
        if all(there) and not all(_intact(self.place.read(file)) for file in files):
            there[0] = False
            for file in files:
                self.place.remove(file)
        self.lost += chunk.runs if partly(there) else 0
        return all(there)

    @override
    def write(self, chunk: Chunk, values: dict[str, np.ndarray]) -> None:
        try:
            for name in reversed(values):
                self.place.remove(self._file(name, chunk))
            for name, value in values.items():
                self.arrays[name][chunk.where] = value
        except OSError as error:
            message = f"cannot write into {self.place} ({error.strerror}): finished runs are kept, make room and resume"
            raise OSError(error.errno, message) from error

    @override
    def dataset(self) -> "xarray.Dataset":
        return load(str(self.place))

    @override
    def tidy(self) -> None:
        self.place.tidy()

    @override
    def close(self) -> None:
        if self.lock is not None:
            os.close(self.lock)

    def _file(self, name: str, chunk: Chunk) -> str:
        at = (*chunk.cell.place, chunk.seeds.start // self.layout.chunk_size)
        return _file(name, at, len(at) + len(self.layout.variables[name].shape))

    def _refuse_other_configuration(self) -> None:
        there = self.configuration
        wanted = json.loads(self.layout.attributes["configuration"])
        differences = list(_differences(there, wanted))
        if differences:
            raise ValueError(
                f"{self.place} holds another sweep, resume that or choose another name; it differs in "
                + "; ".join(differences)
            )

    def _find_arrays(self) -> None:
        always = {"write_empty_chunks": True}  # so that a file that is not there is missing
        try:
            self.arrays = {name: self.group[name].with_config(always) for name in self.layout.variables}
        except Exception as error:  # whatever a parser raises
            raise ValueError(f"{self.place} is damaged ({checks.first_line(error)}): choose another name") from None


def _intact(data: bytes) -> bool:
    """Whether the last four bytes are the checksum of all before, as the last codec of each array writes it."""
    from google_crc32c import value as crc32c

    return len(data) > 4 and crc32c(data[:-4]) == int.from_bytes(data[-4:], "little")


def _fill(at: Callable[[str], Any], layout: Layout) -> None:
    """Arrays and coordinates, each as if it stood alone, for Zarr would make the group around it; then the group."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    zarr = _zarr()
    codecs = (ZstdCodec(level=3), Crc32cCodec())
    grid = layout.grid
    for name, variable in layout.variables.items():
        zarr.create_array(
            at(name),
            shape=(*grid.shape, *variable.shape),
            chunks=(*(1 for _ in grid.shape[:-1]), layout.chunk_size, *variable.shape),
            dtype=variable.dtype,
            fill_value=variable.fill,
            compressors=codecs,
            dimension_names=(*grid.dims, *variable.dims),
            attributes=variable.attributes,
            overwrite=True,
        )
    for name, (dims, values, attributes) in layout.coordinates.items():
        array = np.asarray(values)
        kind = str if array.dtype == object else array.dtype
        coordinate = zarr.create_array(
            at(name),
            shape=array.shape,
            dtype=kind,
            dimension_names=dims,
            attributes=attributes,
            overwrite=True,
        )
        coordinate[...] = array
    attributes = {**layout.attributes, "coordinates": " ".join(layout.coordinates)}
    zarr.create_group(at(""), zarr_format=3, attributes=attributes)


def _differences(there: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(there, Mapping) and isinstance(wanted, Mapping):
        for key in [*there, *(key for key in wanted if key not in there)]:
            yield from _differences(there.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif there != wanted:
        yield f"{name}: {_short(there)} there, {_short(wanted)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise ImportError("a store needs the package zarr: pip install 'tts-jax[store]'") from None
    return zarr
