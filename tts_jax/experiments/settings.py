"""What a user may set of an experiment."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from .. import _checks as checks
from ..targets import PiecewiseConstant
from .base import AbstractExperiment


def changed(experiment: AbstractExperiment, changes: Mapping[str, Any]) -> AbstractExperiment:
    """With other values of some fields, as numbers of Python. Raises `ValueError` for what a field cannot be."""
    kinds = {field.name: field.type for field in dataclasses.fields(experiment)}
    for name in changes:
        if name not in kinds:
            raise ValueError(f"{experiment.name} has no setting {name!r}: choose one of {', '.join(kinds)}")
    fitting = {name: _as(name, value, kinds[name]) for name, value in changes.items()}
    made = dataclasses.replace(experiment, **fitting)
    if {"jumps", "values"} <= kinds.keys():
        PiecewiseConstant(*(getattr(made, name) for name in ("jumps", "values")))
    return made


def _as(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, types.UnionType):
        return None if value is None else _as(name, value, typing.get_args(kind)[0])
    if kind is bool:
        return checks.truth(name, value)
    if kind is str:
        return checks.instance(name, value, str, '"text"')
    if kind is int:
        return checks.count(name, value, at_least=int(name != "seed"), below=2**32 if name == "seed" else 2**31)
    if kind is float:
        return float((checks.non_negative if name == "noise" else checks.positive)(name, value))
    item, length = typing.get_args(kind)
    numbers = value if isinstance(value, tuple | list) else ()
    if not numbers or len(numbers) != (len(numbers) if length is ... else 2):
        wanted = "numbers in a row" if length is ... else "two numbers"
        raise ValueError(f"{name} must be {wanted}, got {checks.shown(value)}: pass e.g. {name}=(1.0, 2.0)")
    return tuple(checks.count(name, each) if item is int else float(checks.number(name, each)) for each in numbers)
