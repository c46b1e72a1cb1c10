"""What a sweep keeps of each run."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .. import _checks as checks
from .._fingerprint import fingerprint
from ..networks import ShallowNetwork, trainable
from ..trajectory import Trajectory
from .axes import code, describe

MODEL = "model"


class Kept:
    """The risk, how a run ended, and what else was asked for: as the static part of a program.

    `measure` names functions of a model, `weights` asks for those of a `ShallowNetwork`, whose positions are kept
    anyway, and `model` for every leaf that trains.
    """

    def __init__(self, measure: Any, weights: bool, model: bool):
        measure = {} if measure is None else measure
        if not isinstance(measure, Mapping) or not all(isinstance(name, str) and name for name in measure):
            raise ValueError(
                f"measure must name functions of a model, got {checks.shown(measure)}: "
                "pass e.g. {'test loss': lambda model: data.risk(model)}"
            )
        for name, function in measure.items():
            checks.function(f"measure[{name!r}]", function, "lambda model: ...")
        self.measure: dict[str, Callable[[PyTree], Array]] = dict(measure)
        self.weights, self.model = weights, model
        self._parts = fingerprint((self.measure, weights, model))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def pads(self) -> bool:
        """Whether a network may be padded: what is asked of a model sees it as it is."""
        return not (self.measure or self.model)

    def of(self, trajectory: Trajectory) -> dict[str, Array]:
        """To be traced."""
        stats, found = trajectory.stats, {"risk": trajectory.risk, "status": trajectory.status}
        found |= {"steps": stats.steps, "rejected": stats.rejected}
        for name, function in self.measure.items():
            with checks.traceable(f"measure[{name!r}]", function):
                found[name] = trajectory.map(_as_array(function))
        return found | self.leaves_of(trajectory.model)

    def leaves_of(self, model: PyTree) -> dict[str, Any]:
        """The leaves that are kept, by the names of their variables."""
        found: dict[str, Any] = {}
        if isinstance(model, ShallowNetwork):
            found["positions"] = model.positions
            if self.weights:
                found |= {"weights": model.weights, "bias": model.bias}
        return found | (named_leaves(model) if self.model else {})

    def describe(self) -> dict[str, Any]:
        return {name: describe(function) for name, function in self.measure.items()}

    def code(self) -> dict[str, str | None]:
        return {f"measure {name}": code(function) for name, function in self.measure.items()}


def _as_array(function: Callable[[PyTree], Any]) -> Callable[[PyTree], Array]:
    return lambda model: jnp.asarray(function(model))


def named_leaves(model: PyTree) -> dict[str, Any]:
    """Those that train, by the names that they have in a dataset, which are those of folders too."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, trainable(model)))
    return {f"{MODEL}{jax.tree_util.keystr(path)}".replace("/", ":"): leaf for path, leaf in leaves}


def measured_like(kept: Kept, models: list[PyTree]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and type of each measure of a model, which all models must agree on."""
    found: dict[str, jax.ShapeDtypeStruct] = {}
    for name, function in kept.measure.items():
        for model in models:
            with checks.traceable(f"measure[{name!r}]", function):
                value = eqx.filter_eval_shape(function, model)
            like = _as_stored(name, value)
            before = found.get(name, like)
            if before.shape != like.shape:
                raise ValueError(
                    f"measure {name!r} must have one shape for all networks, got {before.shape} and {like.shape}"
                )
            found[name] = jax.ShapeDtypeStruct(like.shape, np.promote_types(before.dtype, like.dtype))
    return found


def _as_stored(name: str, value: Any) -> jax.ShapeDtypeStruct:
    """Shape and type, in which NumPy has no floats of 8 bits or of the other 16."""
    try:
        like = eqx.filter_eval_shape(lambda: jnp.asarray(jax.tree.map(jnp.zeros_like, value)))
        dtype = np.dtype(like.dtype.name)
    except (TypeError, ValueError):
        shown = checks.shown(value)
        raise ValueError(
            f"measure[{name!r}] must return a number or an array, got {shown}: name each number of several"
        ) from None
    return jax.ShapeDtypeStruct(like.shape, np.dtype(np.float32) if dtype.kind == "V" else dtype)
