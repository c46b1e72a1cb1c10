"""What may be said of a sweep: its dynamics, axes and seeds."""

import json
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .. import _checks as checks
from .._fingerprint import digest
from ..dynamics import AbstractDynamics
from ..targets import AbstractTarget, Additive

POSITIVE, NON_NEGATIVE, COUNTS = ("epsilon", "step_size", "eta"), ("noise",), ("neurons",)
"""Axes whose values are known to be numbers."""
MOST_NUMBERS = 100
"""Of an array that is described by its numbers; a longer one by its digest."""
DIGITS = 12
"""Of a digest that are kept."""


class Axis(tuple[Any, ...]):
    """Values that make a dimension."""


def named(dynamics: Any) -> dict[str, AbstractDynamics]:
    if isinstance(dynamics, Mapping):
        arms = dict(dynamics)
    else:
        dynamics = list(dynamics) if isinstance(dynamics, Sequence) else [dynamics]
        names = [type(arm).__name__ for arm in dynamics]
        arms = {
            name if names.count(name) == 1 else f"{name} {names[:k].count(name) + 1}": arm
            for k, (name, arm) in enumerate(zip(names, dynamics, strict=True))
        }
    if not arms or not all(isinstance(arm, AbstractDynamics) for arm in arms.values()):
        got = ", ".join(map(checks.called, arms.values())) or "none"
        raise ValueError(
            f"a sweep needs at least one dynamics, got {got}: pass e.g. [GradientFlow(1e-3), SGD(1e-3, 1e-3)]"
        )
    return arms


def values_of(name: str, values: Any) -> Any:
    """An `Axis`, or one value."""
    is_array = isinstance(values, np.ndarray | jax.Array)
    # An optimiser of Optax is a named tuple.
    one = isinstance(values, str | bytes | Mapping | eqx.Module) or hasattr(values, "_fields")
    many = values.ndim > 0 if is_array else isinstance(values, Sequence) and not one
    if isinstance(values, Iterable) and not (many or one or is_array):
        raise ValueError(f"axis {name} must be one value or a list, got {checks.shown(values)}: pass a list")
    chosen = tuple(values) if many else (values,)
    if name == "target":
        if not chosen or not all(isinstance(target, AbstractTarget | Additive) for target in chosen):
            got = ", ".join(map(checks.called, chosen)) or "none"
            raise ValueError(f"axis target must be a target or a list of them, got {got}: pass e.g. PiecewiseConstant")
        return Axis(chosen) if many else values
    is_known = name in (*POSITIVE, *NON_NEGATIVE, *COUNTS)
    if not is_known and not is_array and chosen and not all(map(_is_number, chosen)):
        labels = [label(value) for value in chosen]
        if len(set(labels)) != len(labels):
            raise ValueError(f"axis {name} holds a value twice, got {checks.one_line(labels)}: leave out repetitions")
        return Axis(chosen) if many else values
    array = np.asarray(checks.real(name, values))
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"axis {name} must be a number or a non-empty list, got shape {array.shape}")
    if len(set(array.ravel().tolist())) != array.size:
        raise ValueError(f"axis {name} holds a value twice, got {checks.one_line(array)}: leave out repetitions")
    for value in array.ravel().tolist():
        if name in COUNTS:
            checks.count(name, value)
        elif name in POSITIVE:
            checks.positive(name, value)
        elif name in NON_NEGATIVE:
            checks.non_negative(name, value)
    return Axis(array.tolist()) if array.ndim else array.item()


def _is_number(value: Any) -> bool:
    is_scalar = isinstance(value, np.ndarray | jax.Array) and value.ndim == 0
    return (isinstance(value, numbers.Real) or is_scalar) and not isinstance(value, bool | np.bool_)


def seeds_of(seeds: Any) -> tuple[int, ...]:
    many = isinstance(seeds, Sequence | np.ndarray) and not isinstance(seeds, str | bytes)
    listed = checks.vector("seeds", seeds).tolist() if many else range(checks.count("seeds", seeds))
    chosen = tuple(checks.count("seeds", seed, at_least=0, below=2**32) for seed in listed)
    if not chosen or len(set(chosen)) != len(chosen) or max(chosen) >= 2**32:
        raise ValueError(f"seeds must be different integers below 2**32, at least one, got {checks.one_line(chosen)}")
    return chosen


def label(value: Any) -> str:
    """Of a value that is no number, in the dataset."""
    described = describe(value)
    return described if isinstance(described, str) else json.dumps(described)


def describe(value: Any) -> Any:
    """The value in terms of JSON; modules and functions by name."""
    if isinstance(value, eqx.Module):
        fields = {name: describe(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        if array.size <= MOST_NUMBERS:
            return array.tolist()
        return {"shape": list(array.shape), "dtype": array.dtype.name, "digest": digest(array)[:DIGITS]}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    name = getattr(value, "__qualname__", type(value).__qualname__)
    # A function within another, such as the parts of an optimiser, is what it was made from.
    return f"{name} {digest(value)[:DIGITS]}" if "<" in name else name


def code(value: Any) -> str | None:
    """A digest of the functions in it, of which `describe` has the names alone; None where there is none."""
    functions = list(_functions_in(value))
    return digest(functions)[:DIGITS] if functions else None


def _functions_in(value: Any) -> Iterator[Any]:
    if isinstance(value, eqx.Module):
        for name in value.__dataclass_fields__:
            yield from _functions_in(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _functions_in(item)
    elif callable(value) and not isinstance(value, type):
        yield value
