"""What a long run leaves on disk, so that a process that was killed can be started again and go on."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import types
import zipfile
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

T = TypeVar("T", bound=PyTree)


class Checkpoint:
    """One file with the arrays of a state, for one configuration alone.

    A file is replaced in one step: whenever the process dies, the last complete one is there.

    Raises `ValueError` where the file belongs to another configuration, is no checkpoint, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], configuration: Any):
        self.path = pathlib.Path(path)
        self.fingerprint = fingerprint(configuration)

    def read(self, like: T) -> T | None:
        """What was last written, with the structure of `like`; None where there is no file."""
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                known = str(arrays["fingerprint"])
                leaves = [arrays[name] for name in arrays.files if name != "fingerprint"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            raise ValueError(f"{self.path} is no checkpoint of SGD: remove it, or give another file") from None
        if known != self.fingerprint:
            raise ValueError(
                f"the checkpoint {self.path} belongs to another configuration or version: "
                "remove it to start anew, or give another file"
            )
        structure = jax.tree.structure(like)
        return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])

    def write(self, state: PyTree) -> None:
        part = self.path.with_name(self.path.name + ".part")
        leaves = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        try:
            with part.open("wb") as file:
                np.savez(file, fingerprint=np.array(self.fingerprint), **leaves)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except OSError as error:
            raise ValueError(f"cannot write the checkpoint {self.path} ({error.strerror}): give another file") from None


def fingerprint(configuration: Any) -> str:
    """A digest of all numbers, settings and functions in `configuration`, and of the versions that compute with them.

    Functions count by name and by what they were made from: two Optax optimisers differ where their rates do.
    """
    digest = hashlib.sha256()
    for package in ("tts-jax", "jax"):
        digest.update(f"{package} {importlib.metadata.version(package)} {jax.default_backend()}".encode())
    _add(digest, configuration, ())
    return digest.hexdigest()


def _add(digest: Any, item: Any, within: tuple[int, ...]) -> None:
    digest.update(f"<{type(item).__module__}.{type(item).__qualname__}".encode())
    if id(item) in within:
        return
    parts: Any = ()
    if isinstance(item, Array) and jnp.issubdtype(item.dtype, jax.dtypes.prng_key):
        item = jax.random.key_data(item)
    if isinstance(item, np.ndarray | np.generic | Array):
        array = np.asarray(item)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    elif isinstance(item, bool | int | float | complex | str | bytes | type(None)):
        digest.update(repr(item).encode())
    elif isinstance(item, functools.partial):
        parts = item.func, item.args, item.keywords
    elif isinstance(item, dict):
        parts = list(item.items())
    elif isinstance(item, list | tuple):
        parts = item
    elif dataclasses.is_dataclass(item) and not isinstance(item, type):
        parts = [(field.name, getattr(item, field.name, None)) for field in dataclasses.fields(item)]
    elif isinstance(item, types.MethodType):
        parts = item.__func__, item.__self__
    elif hasattr(item, "__qualname__"):
        digest.update(f"{item.__module__}.{item.__qualname__}".encode())
        code, closure = getattr(item, "__code__", None), getattr(item, "__closure__", None) or ()
        parts = [cell.cell_contents for cell in closure], getattr(item, "__defaults__", None)
        if code is not None:
            parts = *parts, code.co_code, code.co_names, code.co_consts
    else:
        parts = getattr(item, "__dict__", {})
    for part in parts.items() if isinstance(parts, dict) else parts:
        _add(digest, part, (*within, id(item)))
    digest.update(b">")
