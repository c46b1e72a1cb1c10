"""Labelled results on disk."""

import json
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from .. import _checks as checks
from .grid import Chunk
from .results import Layout, Results

if TYPE_CHECKING:
    import xarray

METADATA = "zarr.json"
PATIENCE = 120.0
"""Seconds that other processes wait for the first one to make the store."""


def load(path: str | os.PathLike[str]) -> "xarray.Dataset":
    """The dataset of a sweep (a `.zarr` folder) or of an experiment (a netCDF file, `.nc`), read into memory.

    The store of a sweep that is not finished, or still runs, can be read: missing runs have status -1.

    Raises `ValueError` for a file of another kind or a damaged store, `FileNotFoundError`, and `ImportError` where a
    `.zarr` folder is read without the package zarr.
    """
    import xarray

    path = pathlib.Path(path)
    if path.suffix == ".nc":
        return xarray.load_dataset(path, engine="scipy")
    if not path.exists() and path.suffix == ".zarr":
        raise FileNotFoundError(f"there is no store {path}")
    if not (path / METADATA).is_file():
        raise ValueError(f"load reads a netCDF file (.nc) or the store of a sweep (.zarr), got {str(path)!r}")
    _zarr()
    try:
        dataset = xarray.open_zarr(path, consolidated=False, chunks=None).load()
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({str(error).splitlines()[0]}): resume the sweep, which computes damaged runs again"
        ) from error
    text = [name for name in ("dynamics", "target") if name in dataset.dims]
    return dataset.assign_coords({name: dataset[name].astype(object) for name in text})


class Store(Results):
    """A Zarr group (format 3). A chunk of the sweep is one file in each array, with a checksum, put in place whole.

    Raises `ValueError` for a store of another configuration, or a place that cannot be written to.
    """

    def __init__(self, path: pathlib.Path, layout: Layout):
        self.path, self.layout = path, layout
        self.group = _zarr().open_group(path, mode="r+")
        always = {"write_empty_chunks": True}  # so that a file that is not there is missing
        self.arrays = {name: self.group[name].with_config(always) for name in layout.variables}

    @classmethod
    def open(cls, path: pathlib.Path, layout: Layout, create: bool) -> "Store":
        """Makes it where it is missing (`create`), or waits until another process has made it."""
        _zarr()
        if path.suffix != ".zarr":
            raise ValueError(f"a store is a folder whose name ends in .zarr, got {str(path)!r}")
        if not (path / METADATA).exists():
            if path.exists() and any(path.iterdir()):
                raise ValueError(f"{path} is not the store of a sweep: choose another name")
            if create:
                _create(path, layout)
            else:
                _wait_for(path / METADATA)
        checks.writable_folder(path)
        store = cls(path, layout)
        store._refuse_other_configuration()
        if create:
            for rest in path.glob("**/*.partial"):
                rest.unlink(missing_ok=True)
        return store

    @override
    def holds(self, chunk: Chunk) -> bool:
        """Reads all of it: a checksum finds what is damaged, and that is thrown away."""
        files = [self._file(name, chunk) for name in self.layout.variables]
        if not all(file.is_file() for file in files):
            return False
        try:
            for name in self.layout.variables:
                self.arrays[name][chunk.where]
        except Exception:  # whatever a codec raises
            for file in files:
                file.unlink()
            return False
        return True

    @override
    def write(self, chunk: Chunk, values: dict[str, np.ndarray]) -> None:
        try:
            for name, value in values.items():
                self._file(name, chunk).unlink(missing_ok=True)
                self.arrays[name][chunk.where] = value
        except OSError as error:
            message = f"cannot write into {self.path} ({error.strerror}): finished runs are kept, make room and resume"
            raise OSError(error.errno, message) from error

    @override
    def dataset(self) -> "xarray.Dataset":
        return load(self.path)

    def _file(self, name: str, chunk: Chunk) -> pathlib.Path:
        at = (*chunk.cell.place, chunk.seeds.start // self.layout.grid.chunk_size)
        return self.path.joinpath(name, "c", *map(str, at), *("0" for _ in self.layout.variables[name].shape))

    def _refuse_other_configuration(self) -> None:
        there = json.loads(self.group.attrs["configuration"])
        wanted = json.loads(self.layout.attributes["configuration"])
        differences = list(_differences(there, wanted))
        if differences:
            raise ValueError(
                f"{self.path} holds another sweep, resume that or choose another name; it differs in "
                + "; ".join(differences)
            )


def _create(path: pathlib.Path, layout: Layout) -> None:
    """All of it under another name first, so that no half of a store is ever seen."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    checks.writable_folder(path.parent)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        group = _zarr().open_group(draft, mode="w-", zarr_format=3)
        codecs = (ZstdCodec(level=3), Crc32cCodec())
        grid = layout.grid
        for name, variable in layout.variables.items():
            group.create_array(
                name,
                shape=(*grid.shape, *variable.shape),
                chunks=(*(1 for _ in grid.shape[:-1]), grid.chunk_size, *variable.shape),
                dtype=variable.dtype,
                fill_value=variable.fill,
                compressors=codecs,
                dimension_names=(*grid.dims, *variable.dims),
                attributes=variable.attributes,
            )
        for name, (dims, values, attributes) in layout.coordinates.items():
            array = np.asarray(values)
            kind = str if array.dtype == object else array.dtype
            coordinate = group.create_array(
                name, shape=array.shape, dtype=kind, dimension_names=dims, attributes=attributes
            )
            coordinate[...] = array
        group.attrs.update({**layout.attributes, "coordinates": " ".join(layout.coordinates)})
        os.replace(draft, path)
    except OSError as error:
        raise ValueError(f"cannot make the store {path} ({error.strerror}): choose another place") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _wait_for(file: pathlib.Path) -> None:
    end = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > end:
            raise ValueError(f"process 0 has made no store {file.parent} in {PATIENCE:g} s: is the folder shared?")
        time.sleep(0.05)


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
        raise ImportError("a store needs the package zarr: pip install zarr") from None
    return zarr
