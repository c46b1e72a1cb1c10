"""The keywords of a constructor or a function, and the same thing with other values of them."""

import dataclasses
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import equinox as eqx

from .. import _checks as checks

M = TypeVar("M", bound=eqx.Module)


def keywords_of(module: eqx.Module) -> tuple[str, ...]:
    """That its constructor takes."""
    return tuple(inspect.signature(type(module)).parameters)


def with_settings(module: M, settings: Mapping[str, Any]) -> M:
    """The module with these `settings`: numbers change a leaf, and nothing is compiled anew; anything else is given to
    its constructor, which checks it."""
    rest = {}
    for name, value in settings.items():
        now = getattr(module, name, None)
        if now is not None and eqx.is_inexact_array(now) and now.shape == () and isinstance(value, int | float):
            module = eqx.tree_at(operator.attrgetter(name), module, checks.as_float(value))
        else:
            rest[name] = value
    if not rest:
        return module
    return type(module)(**{name: _value(module, name) for name in keywords_of(module)} | rest)


def _value(module: eqx.Module, name: str) -> Any:
    """That the constructor was given, of the module or of one that is part of it."""
    parts = (getattr(module, field.name) for field in dataclasses.fields(module))
    for place in (module, *(part for part in parts if isinstance(part, eqx.Module))):
        if hasattr(place, name):
            return getattr(place, name)
    raise ValueError(
        f"a sweep cannot make another {type(module).__name__}, which has no attribute {name}: "
        "give its fields the names of its arguments"
    )


class Init:
    """The function that makes the start of a run from a random key and named settings.

    Raises `ValueError` for what is none.
    """

    def __init__(self, function: Any, defaults: Mapping[str, Any]):
        example = "lambda key, width: eqx.nn.MLP(1, 'scalar', width, 1, key=key)"
        self.function: Callable[..., Any] = checks.function("init", function, example)
        try:
            _, *parameters = inspect.signature(function).parameters.values()
        except ValueError:  # of no argument, or of none that Python knows
            raise ValueError(
                f"init must take a random key, got {checks.shown(function)}: pass e.g. {example}"
            ) from None
        named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        self.names = tuple(each.name for each in named)
        self.takes_any = any(each.kind == each.VAR_KEYWORD for each in parameters)
        self.needed = tuple(each.name for each in named if each.default is each.empty)
        self.defaults = {name: defaults[name] for name in self.needed if name in defaults}

    def takes(self, name: str) -> bool:
        return self.takes_any or name in self.names

    def check(self, given: Mapping[str, Any]) -> None:
        for name in self.needed:
            if name not in given:
                raise ValueError(f"init needs {name}, which no axis gives: pass {name}=..., one value or a list")
