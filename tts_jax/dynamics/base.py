"""What every dynamics shares: the interface, and the one place where `epsilon` acts."""

import abc
import dataclasses
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Key, PyTree

from ..networks import trainable
from ..problems import AbstractProblem, Structure
from ..trajectory import Trajectory
from .optimizer import Optimizer


class Task(NamedTuple):
    """What a run is given; see `tts_jax.simulate`, which checks it first."""

    model: PyTree
    problem: AbstractProblem
    slow_times: Float[Array, " t"]
    key: Key[Array, ""] | None = None
    """Where samples are drawn."""
    samples: tuple[ArrayLike, ArrayLike] | None = None
    progress: Callable[[int, int], None] | None = None
    checkpoint: str | os.PathLike[str] | None = None


class AbstractDynamics(eqx.Module):
    """How training moves."""

    side_by_side: eqx.AbstractClassVar[bool]
    """Whether on a CPU runs cost less as lanes of `jax.vmap` than one after the other."""
    shards: eqx.AbstractClassVar[bool]
    """Whether runs can be spread over devices by `jax.shard_map`."""
    resumable: eqx.AbstractClassVar[bool]
    """Whether a killed run can go on from a checkpoint."""

    @property
    @abc.abstractmethod
    def stochastic(self) -> bool:
        """Whether a run draws samples, and so needs a key or is given a stream."""

    @abc.abstractmethod
    def steps(self, slow_times: Float[np.ndarray, " t"]) -> int | None:
        """How many steps lead to the last save time, where that is known beforehand; nothing may be traced."""

    @abc.abstractmethod
    def run(self, task: Task) -> Trajectory:
        """See `tts_jax.simulate`."""

    @property
    def settings(self) -> frozenset[str]:
        """The names of what can be set."""
        return frozenset(field.name for field in dataclasses.fields(self))


class Groups(NamedTuple):
    """A model in parts, trees of its structure with None where a leaf belongs to another."""

    moving: PyTree
    """The leaves that move."""
    fixed: PyTree
    """All others."""
    labels: PyTree[str]
    """ "fast" or "slow" for each leaf that moves."""
    own: bool
    """Whether the slow leaves are those that the model names itself."""

    @classmethod
    def of(
        cls,
        model: PyTree,
        slow: Callable[[PyTree], Any] | None = None,
        frozen: Callable[[PyTree], Any] | None = None,
    ) -> "Groups":
        """Raises `ValueError` where `slow` is None and the model does not know its slow leaves, where `slow` or
        `frozen` selects none, or what is no leaf, and where nothing moves."""
        trains, fixed = eqx.partition(model, trainable(model))
        knows = getattr(model, "slow", None) is not None
        if slow is None and not knows:
            raise ValueError(
                f"cannot tell which leaves of {type(model).__name__} move slowly: "
                "say which, e.g. slow=lambda model: model.layers[0]"
            )
        is_slow = _picked("slow", slow or _own_slow, model, trains)
        own = slow is None or (knows and _agree(is_slow, _picked("slow", _own_slow, model, trains)))
        labels = jax.tree.map(lambda slow: "slow" if slow else "fast", is_slow)
        if frozen is None:
            return cls(trains, fixed, labels, own)
        held = _picked("frozen", frozen, model, trains)
        if all(jax.tree.leaves(held)):
            raise ValueError("frozen selects every trainable leaf: leave one to train")

        def without(leaf, held):
            return None if held else leaf

        moving, labels = (jax.tree.map(without, tree, held) for tree in (trains, labels))
        return cls(moving, eqx.combine(fixed, eqx.filter(trains, held)), labels, own)

    @property
    def frozen(self) -> PyTree:
        """The leaves that would train, and are held."""
        return eqx.filter(self.fixed, trainable(self.fixed))

    def knows(self, structure: Structure) -> Structure:
        """What of it holds for the leaves that move alone."""
        if not jax.tree.leaves(self.frozen):
            return structure
        return structure._replace(hessian=None, sample_gradient=None, staircase=None)

    def over_time(self, moving: PyTree) -> PyTree:
        """The model of a trajectory, of leaves that have moved; frozen ones have the same time axis."""
        saves = len(jax.tree.leaves(moving)[0])
        frozen = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (saves, *leaf.shape)), self.frozen)
        return eqx.combine(moving, frozen, self.fixed)


def _picked(name: str, pick: Callable[[PyTree], Any], model: PyTree, leaves: PyTree) -> PyTree[bool]:
    """Which of the leaves."""
    none = jax.tree.map(lambda _: False, leaves)
    try:
        picked = eqx.tree_at(pick, none, replace_fn=lambda node: jax.tree.map(lambda _: True, node))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must pick leaves of {type(model).__name__}, as in {name}=lambda model: model.layers[0], "
            f"got {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    if not any(jax.tree.leaves(picked)):
        raise ValueError(f"{name} selects no trainable leaf: return at least one floating-point array of the model")
    return picked


def _agree(one: PyTree[bool], other: PyTree[bool]) -> bool:
    return jax.tree.leaves(one) == jax.tree.leaves(other)


def _own_slow(model):
    return model.slow


def two_timescale(
    optimizer: Optimizer, epsilon: Float[Array, "*runs"], labels: PyTree[str]
) -> optax.GradientTransformation:
    """The updates of the optimiser, or of each group of leaves by its own; those of the slow group times `epsilon`."""
    if not isinstance(optimizer, optax.GradientTransformation):
        # A model is callable, and so are its labels.
        optimizer = optax.partition(dict(zip(("fast", "slow"), optimizer, strict=True)), lambda _: labels)

    def slowed(updates, params):
        def group(label, updates):
            return jax.tree.map(lambda update: epsilon * update, updates) if label == "slow" else updates

        return jax.tree.map(group, labels, updates)

    return optax.chain(optimizer, optax.stateless(slowed))
