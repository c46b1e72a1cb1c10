"""Checks of what a user passes in, made before anything is traced or computed.

Each raises a one-line `ValueError` that says what was got, what was expected and how to mend it. Traced values
cannot be looked at: their types and shapes are checked, and a run that they spoil reports it in `Trajectory.status`.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

UNFIT = {
    np.complexfloating: ("complex numbers", "pass real and imaginary parts as numbers of their own"),
    np.datetime64: ("dates", 'pass numbers, e.g. (dates - dates[0]) / np.timedelta64(1, "s")'),
    np.timedelta64: ("time differences", 'divide them by a unit, e.g. by np.timedelta64(1, "s")'),
    np.character: ("text", "convert it, and give categories numbers"),
    jax.dtypes.prng_key: ("random keys", "pass numbers"),
    np.void: ("records", "pass one of their fields"),
    np.bool_: ("truth values", "pass numbers"),
}
"""Types that are no real numbers: what they are, and what to do."""
MISSING = {"None", "<NA>", "NaT"}
"""How what stands for a missing value is written."""


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or None where it is (or holds) a tracer."""
    return None if _is_traced(value) else np.asarray(value)


def as_float(value: Any) -> Array:
    """The value as an array of JAX's current default float type."""
    return jnp.asarray(value, dtype=float)


def one_line(value: Any) -> str:
    """An array as NumPy prints it, without the line breaks."""
    return " ".join(str(value).split())


def first_line(error: BaseException) -> str:
    """What another library says, and what it is called where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def called(value: Any) -> str:
    """What a user calls it: a class or a function by its own name, anything else by its class."""
    name = getattr(value, "__name__", type(value).__name__)
    return f"the class {name}" if isinstance(value, type) else name


def real(name: str, value: Any, truths: bool = False) -> np.ndarray | Array:
    """The value as an array of real numbers: one of JAX as it is, anything else of NumPy, or of JAX where traced.

    Truth values count as 0 and 1 where `truths`, as in data.
    """
    name = _of_column(name, value)
    array: np.ndarray | Array = jnp.asarray(value) if _is_traced(value) else _of_numpy(name, value, truths)
    if truths and array.dtype == bool:
        return array.astype(float)
    for kind, (what, mend) in UNFIT.items():
        if jnp.issubdtype(array.dtype, kind):
            example = f" ({array.flat[0]!s})" if isinstance(array, np.ndarray) and array.size else ""
            mend = "pass a number" if what in ("text", "truth values") and not array.shape else mend
            raise ValueError(f"{name} must be real numbers, got {what}{example}: {mend}")
    return array


def leaf(name: str, value: Any) -> Array:
    """What a module keeps as floats: an array of a floating-point type as it is, other numbers in the default one."""
    array = real(name, value)
    is_float = isinstance(value, np.ndarray | np.generic | Array) and jnp.issubdtype(array.dtype, np.floating)
    return jnp.asarray(array, None if is_float else float)


def scalar(name: str, value: Any) -> np.ndarray | Array:
    """A real number, as an array without axes."""
    array = real(name, value)
    if array.shape:
        raise ValueError(
            f"{name} must be one number, got shape {array.shape}: pass a number, and use jax.vmap for several"
        )
    return array


def vector(name: str, value: Any) -> np.ndarray | Array:
    """Finite numbers in a row; one number is a row of one."""
    known, array = concrete(finite(name, value)), real(name, value)
    if array.ndim > 1:
        raise ValueError(f"{name} must be numbers in a row, got shape {array.shape}: pass a list of numbers")
    return jnp.atleast_1d(array) if known is None else np.atleast_1d(known)


def number(name: str, value: Any) -> Any:
    finite(name, scalar(name, value))
    return value


def positive(name: str, value: Any) -> Any:
    """Neither 0 nor infinite in JAX's default float type either, in which XLA takes what is below `tiny` to be 0."""
    known, held = concrete(scalar(name, value)), jnp.finfo(jax.dtypes.canonicalize_dtype(float))
    if known is not None and not held.tiny <= known <= held.max:
        but = f", beyond what {held.dtype} holds" if np.isfinite(known) and known > 0 else ""
        raise ValueError(f"{name} must be positive and finite, got {known}{but}: pass e.g. {name}=1e-3")
    return value


def non_negative(name: str, value: Any) -> Any:
    known = concrete(scalar(name, value))
    if known is not None and not (np.isfinite(known) and known >= 0):
        raise ValueError(f"{name} must be finite and not negative, got {known}: pass e.g. {name}=0.0")
    return value


def function(name: str, value: Any, example: str) -> Any:
    """A class is none: it would make something of what it is called on."""
    if not callable(value) or isinstance(value, type):
        raise ValueError(f"{name} must be a function, got {shown(value)}: pass e.g. {name}={example}")
    return value


@contextlib.contextmanager
def traceable(name: str, value: Any) -> Iterator[None]:
    """Around a call of a function of the user's."""
    try:
        yield
    except jax.errors.JAXTypeError as error:
        raise ValueError(
            f"{name} must be a function that JAX can trace, got {called(value)}: "
            "write it with jnp in place of np, e.g. jnp.sin"
        ) from error


def choice(name: str, value: Any, options: Iterable[str]) -> str:
    known = list(options)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {shown(value)}")
    return value


def path(name: str, value: Any, example: str) -> pathlib.Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError(f"{name} must be a path, got {shown(value)}: pass e.g. {name}={example!r}")
    return pathlib.Path(value)


def truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}: pass e.g. {name}=True")
    return bool(value)


def instance(name: str, value: Any, kind: type, example: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {example} or the like, got {shown(value)}: pass {name}={example}")
    return value


def shown(value: Any) -> str:
    """A short text in one line: of an array or a module its class, which says more."""
    if isinstance(value, type | eqx.Module | Array | np.ndarray) or hasattr(value, "columns"):
        return called(value)
    text = one_line(repr(value))
    return text if len(text) <= 40 else f"{text[:37]}..."


def count(name: str, value: Any, at_least: int = 1, below: int = 2**31) -> int:
    """`below` a power of 2: JAX counts in 32 bits, and XLA ends the process that asks for more memory than there is."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)
    if not is_integer or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {shown(value)}")
    if value >= below:
        raise ValueError(f"{name} must be below 2**{below.bit_length() - 1}, got {shown(value)}")
    return int(value)


def power_of_2(name: str, value: Any) -> int:
    if (number := count(name, value)) & (number - 1):
        raise ValueError(f"{name} must be a power of 2, got {number}: pass e.g. {name}={2 ** number.bit_length()}")
    return number


def picks_leaves(name: str, value: Any, optional: bool = True) -> Any:
    """A function of the model, or None where `optional`. A module is callable too, but none that picks leaves."""
    is_function = callable(value) and not isinstance(value, type)
    if (value is None and optional) or (is_function and jax.tree_util.all_leaves([value])):
        return value
    raise ValueError(
        f"{name} must be a function of the model that picks leaves, got {shown(value)}: "
        f"pass e.g. {name}=lambda model: model.layers[0]"
    )


def finite(name: str, value: Any, truths: bool = False) -> Any:
    known, name = concrete(real(name, value, truths)), _of_column(name, value)
    if known is not None and not (good := np.isfinite(known)).all():
        at = tuple(map(int, np.unravel_index(np.argmin(good), known.shape)))
        raise ValueError(
            f"{name} must be finite, got {known[at]}{_place(at)}: leave such values out, or put a number in their place"
        )
    return value


def numbers(name: str, value: Any, integers: bool = False) -> Array:
    """Finite data, as an array of floats; integers stay what they are where `integers`."""
    array = real(name, value, truths=True)
    if integers and jnp.issubdtype(array.dtype, np.integer):
        return jnp.asarray(array, dtype=int)
    return as_float(finite(name, array))


def random_key(name: str, value: Any) -> Array:
    """One key of `jax.random.key`, or of the older `jax.random.PRNGKey`."""
    is_array = isinstance(value, Array)
    if is_array and jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and not value.shape:
        return value
    if is_array and value.dtype == np.uint32 and value.ndim == 1:
        return value
    got = f"{value.dtype} of shape {value.shape}" if is_array else repr(value)
    raise ValueError(f"{name} must be one random key, got {one_line(got)}: pass {name}=jax.random.key(0)")


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


def writable_folder(value: str | os.PathLike[str]) -> pathlib.Path:
    """The folder, made where it is missing; raises `ValueError` where nothing can be written into it."""
    folder = path("out", value, "out/results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write into {folder} ({error.strerror}): choose another folder") from None
    return folder


def _of_column(name: str, value: Any) -> str:
    """A column of pandas is called as in its table."""
    own = getattr(value, "name", None) if hasattr(value, "to_numpy") else None
    return name if own is None or name.startswith("column ") else f"column {own!r} of {name}"


def _is_traced(value: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def _of_numpy(name: str, value: Any, truths: bool) -> np.ndarray | Array:
    if isinstance(value, Array):
        return value
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must be real numbers, got a masked array, whose mask would be lost: select the rows")
    if hasattr(value, "columns") and hasattr(value, "items"):  # a table of pandas: a fault is named by its column
        for column, cells in value.items():
            finite(f"column {column!r} of {name}", cells, truths)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of different lengths: give each row as many") from None
    return _of_objects(name, value, array) if array.dtype == object else array


def _of_objects(name: str, value: Any, array: np.ndarray) -> np.ndarray:
    """From cells of any type, as in a column of pandas that may miss some."""
    if not array.shape:
        raise ValueError(f"{name} must be real numbers, got {called(value)}: pass a number or an array")
    for at, cell in np.ndenumerate(array):
        if isinstance(cell, str):
            raise ValueError(
                f"{name} must be real numbers, got {cell!r}{_place(at)}: convert it, and give categories numbers"
            )
        if str(cell) in MISSING:
            raise ValueError(
                f"{name} must be finite, got a missing value{_place(at)}: leave such values out, or fill them in"
            )
        try:
            float(cell)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{name} must be real numbers, got {type(cell).__name__} {shown(cell)}{_place(at)}: convert it first"
            ) from None
    return array.astype(float)


def _place(at: tuple[int, ...]) -> str:
    """Of an entry of an array, in words."""
    if len(at) == 2:
        return f" in row {at[0]}, column {at[1]}"
    return f" at index {', '.join(map(str, at))}" if at else ""
