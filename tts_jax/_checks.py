"""Checks of what a user passes in, made before anything is traced or computed.

Each raises a one-line `ValueError` that says what was got, what was expected and how to mend it. Traced values
cannot be looked at and pass; a run that they spoil reports it in `Trajectory.status`.
"""

import os
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Array


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or None where it is (or holds) a tracer."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return None
    return np.asarray(value)


def as_float(value: Any) -> Array:
    """The value as an array of JAX's current default float type."""
    return jax.numpy.asarray(value, dtype=float)


def one_line(value: Any) -> str:
    """An array as NumPy prints it, without the line breaks."""
    return " ".join(str(value).split())


def positive(name: str, value: Any) -> Any:
    known = concrete(value)
    if known is not None and not (np.isfinite(known).all() and (known > 0).all()):
        raise ValueError(f"{name} must be positive and finite, got {one_line(known)}: pass e.g. {name}=1e-3")
    return value


def non_negative(name: str, value: Any) -> Any:
    known = concrete(value)
    if known is not None and not (np.isfinite(known).all() and (known >= 0).all()):
        raise ValueError(f"{name} must be finite and not negative, got {one_line(known)}: pass e.g. {name}=0.0")
    return value


def count(name: str, value: Any, at_least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {value!r}")
    return int(value)


def finite(name: str, value: Any) -> Any:
    known = concrete(value)
    if known is not None and not np.isfinite(known).all():
        raise ValueError(f"{name} must be finite, got {one_line(known)}")
    return value


def numbers(name: str, value: Any, integers: bool = False) -> Array:
    """What converts to a NumPy array of finite numbers, as an array of JAX: of floats, or as it is where `integers`."""
    if concrete(value) is not None and not isinstance(value, Array):
        array = np.asarray(value)
        if array.dtype == object:  # columns of pandas that may be missing
            try:
                array = array.astype(float)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{name} must be numbers, got {type(value).__name__} with {array.flat[0]!r}: encode text and "
                    "categories as numbers first"
                ) from None
        value = array
    if integers and np.issubdtype(value.dtype, np.integer):
        return jax.numpy.asarray(value, dtype=int)
    return as_float(finite(name, value))


def slow_times(value: Any) -> Array:
    known = concrete(value)
    if known is not None:
        known_slow_times(known)
    return as_float(value)


def known_slow_times(known: np.ndarray) -> None:
    """For what is checked on import too: it makes no array of JAX, which would start a backend."""
    if known.ndim != 1 or known.size == 0:
        raise ValueError(
            f"slow_times must be a non-empty vector, got shape {known.shape}: pass e.g. jnp.linspace(0, 1, 101)"
        )
    if not np.isfinite(known).all() or known[0] < 0:
        raise ValueError(
            f"slow_times must be finite and not negative, got {known.min()} to {known.max()}: "
            "a run starts at slow time 0"
        )
    if (np.diff(known) < 0).any():
        k = int(np.argmax(np.diff(known) < 0))
        raise ValueError(f"slow_times must not decrease, got {known[k]} before {known[k + 1]} at index {k}: sort them")


def writable_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """The folder, made where it is missing; raises `ValueError` where nothing can be written into it."""
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write into {folder} ({error.strerror}): choose another folder") from None
    return folder
