"""What a configuration is made of, as a digest: for files that belong to one, and for functions made anew."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import types
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

T = TypeVar("T")


def fingerprint(configuration: Any) -> str:
    """A digest of all numbers, settings and functions in `configuration`, and of the versions that compute with them.

    Functions count by name and by what they were made from: two Optax optimisers differ where their rates do.
    """
    versions = [f"{package} {importlib.metadata.version(package)}" for package in ("tts-jax", "jax")]
    return digest((versions, jax.default_backend(), configuration))


class MadeFrom(Generic[T]):
    """A value that equals every other made from the same parts: a compiled function that is given one made anew, as
    `optax.adam(1e-3)` is, is not compiled again. A value with a tracer in it equals itself alone."""

    def __init__(self, value: T):
        self.value = value
        try:
            self._parts: object = digest(value)
        except jax.errors.TracerArrayConversionError:
            self._parts = object()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MadeFrom) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)


def digest(item: Any) -> str:
    """Of the item alone, whatever computes with it."""
    found = hashlib.sha256()
    _add(found, item, {})
    return found.hexdigest()


def _add(digest: Any, item: Any, seen: dict[int, tuple[int, Any]]) -> None:
    digest.update(f"<{type(item).__module__}.{type(item).__qualname__}".encode())
    if isinstance(item, Array) and jnp.issubdtype(item.dtype, jax.dtypes.prng_key):
        item = jax.random.key_data(item)
    if isinstance(item, np.ndarray | np.generic | Array):
        array = np.asarray(item)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    elif isinstance(item, bool | int | float | complex | str | bytes | range | slice | type(None)):
        digest.update(repr(item).encode())
    elif id(item) in seen:
        digest.update(f"{seen[id(item)][0]}".encode())
    else:
        seen[id(item)] = len(seen), item  # kept, so that no other object takes its id
        for part in _parts_of(item):
            _add(digest, part, seen)
    digest.update(b">")


def _parts_of(item: Any) -> list[Any]:
    if isinstance(item, functools.partial):
        return [item.func, item.args, item.keywords]
    if isinstance(item, dict):
        return [part for pair in item.items() for part in pair]
    if isinstance(item, list | tuple):
        return list(item)
    if isinstance(item, set | frozenset):
        return sorted(item, key=repr)
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return [part for field in dataclasses.fields(item) for part in (field.name, getattr(item, field.name, None))]
    if isinstance(item, types.CodeType):
        return [item.co_code, item.co_names, item.co_consts]
    if isinstance(item, types.MethodType):
        return [item.__func__, item.__self__]
    if isinstance(item, types.FunctionType):
        cells = [_content(cell) for cell in item.__closure__ or ()]
        return [item.__qualname__, item.__code__, cells, item.__defaults__, item.__kwdefaults__, _globals_of(item)]
    if isinstance(item, types.ModuleType):
        return [item.__name__]
    if hasattr(item, "__qualname__"):  # a class, a built-in, or what JAX has wrapped
        return [f"{getattr(item, '__module__', '')}.{item.__qualname__}", getattr(item, "__wrapped__", None)]
    return [part for pair in getattr(item, "__dict__", {}).items() for part in pair]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that is not bound yet
        return None


def _globals_of(function: types.FunctionType) -> list[Any]:
    """The data and the functions of its own module that a function names."""
    named = [function.__globals__.get(name) for name in _names_in(function.__code__)]
    return [
        value
        for value in named
        if _is_data(value) or (isinstance(value, types.FunctionType) and value.__globals__ is function.__globals__)
    ]


def _names_in(code: types.CodeType) -> list[str]:
    """Also in the functions that are written within it."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for each in inner for name in _names_in(each))]


def _is_data(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    if isinstance(value, dict):
        return all(map(_is_data, value.values()))
    is_module = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return is_module or isinstance(value, bool | int | float | complex | str | np.ndarray | np.generic | Array)
