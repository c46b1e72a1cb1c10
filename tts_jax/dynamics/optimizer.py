"""The optimisers that a user gives: which are taken, and how a tree of labels is read."""

import copy
import types
from collections.abc import Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .. import _checks as checks

Optimizer: TypeAlias = optax.GradientTransformation | tuple[optax.GradientTransformation, ...]
"""One for all leaves that train, or one for each group of them: for the fast one first."""


def checked(optimizer: Any, groups: int) -> Optimizer:
    """As Optax takes it. Raises `ValueError` for what is no optimiser, and where a tuple has not one for each group."""
    if not isinstance(optimizer, tuple) or isinstance(optimizer, optax.GradientTransformation):
        return _one(optimizer)
    if len(optimizer) != groups:
        raise ValueError(
            f"optimizer must be one for all leaves, or {groups} of them, for the fast and for each group of slow "
            f"leaves, got {len(optimizer)}"
        )
    return tuple(_one(each) for each in optimizer)


def _one(optimizer: Any) -> optax.GradientTransformation:
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    if not isinstance(optimizer, optax.GradientTransformation):
        simple = isinstance(optimizer, str | bool | int | float)
        uncalled = isinstance(optimizer, types.FunctionType | type)
        got = repr(optimizer) if simple else f"{checks.called(optimizer)}{', not called' if uncalled else ''}"
        raise ValueError(f"optimizer must be one of Optax, got {got}: pass e.g. optimizer=optax.adam(1e-3)")
    optimizer = _with_labels(optimizer)
    refuse_what_needs_more(optimizer, jnp.zeros(1))
    return optimizer


def refuse_what_needs_more(optimizer: optax.GradientTransformation, params: PyTree) -> None:
    """Raises `ValueError` for an optimiser that cannot step with gradients and `params` alone."""

    def step(params):
        return optimizer.update(params, optimizer.init(params), params)

    try:
        with jax.numpy_dtype_promotion("standard"):  # Optax itself promotes
            jax.eval_shape(step, params)
    except TypeError as error:
        if "required keyword-only argument" not in str(error):
            return
        needs = str(error).rpartition(": ")[2].replace("'", "")
        raise ValueError(
            f"optimizer must need gradients alone, got one that needs {needs}: pass e.g. optimizer=optax.adam(1e-3)"
        ) from None
    except AttributeError as error:
        if error.name != "fast":
            return
        raise ValueError(
            "optimizer must move the model itself, got optax.lookahead, which moves a copy too: "
            "pass the optimizer that it is given"
        ) from None
    except Exception:  # other faults, as of labels that are for another tree, are those of a run
        return


def _with_labels(item: PyTree, above: frozenset[int] = frozenset()) -> PyTree:
    """A tree of functions, with the trees of labels that `optax.partition` keeps in them as functions too.

    Optax calls labels that can be called, and a tree of labels for an Equinox model is such a model.
    """
    leaves, structure = jax.tree.flatten(item)
    found = [_relabelled(leaf, above) for leaf in leaves]
    return item if _same(leaves, found) else jax.tree.unflatten(structure, found)


def _relabelled(leaf: Any, above: frozenset[int]) -> Any:
    above = above | {id(leaf)}
    if isinstance(leaf, types.MethodType) and isinstance(leaf.__self__, optax.MultiSteps):
        parts = _with_labels(vars(leaf.__self__), above)
        if parts is vars(leaf.__self__):
            return leaf
        owner = copy.copy(leaf.__self__)
        vars(owner).update(parts)
        return types.MethodType(leaf.__func__, owner)
    if not isinstance(leaf, types.FunctionType):
        return leaf
    cells = leaf.__closure__ or ()
    found = [_relabelled_cell(name, cell, above) for name, cell in zip(leaf.__code__.co_freevars, cells, strict=True)]
    if _same(cells, found):
        return leaf
    made = types.FunctionType(leaf.__code__, leaf.__globals__, leaf.__name__, leaf.__defaults__, tuple(found))
    made.__kwdefaults__, made.__qualname__ = leaf.__kwdefaults__, leaf.__qualname__
    return made


def _relabelled_cell(name: str, cell: types.CellType, above: frozenset[int]) -> types.CellType:
    try:
        held = cell.cell_contents
    except ValueError:  # it is empty
        return cell
    if name == "param_labels" and isinstance(held, eqx.Module):
        return types.CellType(lambda _: held)
    if id(held) in above:
        return cell
    found = _with_labels(held, above)
    return cell if found is held else types.CellType(found)


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return all(a is b for a, b in zip(one, other, strict=True))
