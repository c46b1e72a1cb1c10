"""Labelled results on disk."""

import os
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray


def load(path: str | os.PathLike[str]) -> "xarray.Dataset":
    """The dataset in a netCDF file (`.nc`), as an experiment writes it; read into memory, the file is closed again.

    Raises `ValueError` for a file of another kind, and `FileNotFoundError`.
    """
    import xarray

    if pathlib.Path(path).suffix != ".nc":
        raise ValueError(f"load reads a netCDF file, got {os.fspath(path)!r}: pass the path of a .nc file")
    return xarray.load_dataset(path, engine="scipy")
