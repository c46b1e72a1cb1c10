"""What a long run leaves on disk, so that a process that was killed can be started again and go on."""

import os
import pathlib
import zipfile
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..._fingerprint import fingerprint

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
            # NumPy does not clean up after what is no archive.
            if not zipfile.is_zipfile(self.path):
                raise zipfile.BadZipFile
            with np.load(self.path, allow_pickle=False) as arrays:
                known = str(arrays["fingerprint"])
                leaves = [arrays[name] for name in arrays.files if name != "fingerprint"]
        except Exception:  # whatever a parser raises
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
        arrays: dict[str, Any] = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        try:
            with part.open("wb") as file:
                np.savez(file, fingerprint=np.array(self.fingerprint), **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except OSError as error:
            raise ValueError(f"cannot write the checkpoint {self.path} ({error.strerror}): give another file") from None
