"""What every dynamics shares: the interface, and the one place where `epsilon` acts."""

import abc
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Key, Num, PyTree

from .. import _checks as checks
from .._progress import Look, silent
from ..networks import trainable
from ..problems import AbstractProblem, Structure
from ..trajectory import Trajectory
from .optimizer import Optimizer


class Begin(NamedTuple):
    """What the clocks show when a run begins, and what the dynamics of the run before has left for itself."""

    slow_time: Float[Array, ""]
    fast_time: Float[Array, ""] | None
    """None where the run before has no such clock; `step` likewise."""
    step: Int[Array, ""] | None
    end: PyTree = None
    """As `Trajectory.end`."""

    @classmethod
    def anew(cls) -> "Begin":
        return cls(jnp.zeros((), float), jnp.zeros((), float), jnp.zeros((), int))

    def shift(self, before: Num[Array, ""] | None, own: Num[Array, ""]) -> Num[Array, ""]:
        """From a clock that shows `own` at this slow time to one that goes on where it stood `before`."""
        return jnp.zeros_like(own) if before is None else before - own

    def fast_time_at(self, slow_times: Float[Array, " t"], epsilon: Float[Array, ""]) -> Float[Array, " t"]:
        """Of a flow, whose slow time is `epsilon` times its own fast time."""
        return slow_times / epsilon + self.shift(self.fast_time, self.slow_time / epsilon)


class Task(NamedTuple):
    """What a run is given; see `tts_jax.simulate`, which checks it first."""

    model: PyTree
    """The start."""
    problem: AbstractProblem
    """That has passed the model by its `check`."""
    slow_times: Float[Array, " t"]
    """Absolute: at `begin.slow_time` at the earliest."""
    begin: Begin
    """The clocks at the start, and what the run before has left, where this one goes on from it."""
    key: Key[Array, ""] | None = None
    """Where samples are drawn."""
    samples: tuple[ArrayLike, ArrayLike] | None = None
    """A stream to be replayed in place of drawing."""
    look: Look = silent
    """To be called from the host where nothing is traced."""
    checkpoint: str | os.PathLike[str] | None = None
    """A file, for a dynamics that is `resumable`."""

    @property
    def elapsed(self) -> Float[Array, " t"]:
        """The save times since the beginning: all that an autonomous dynamics needs."""
        return self.slow_times - self.begin.slow_time


class AbstractDynamics(eqx.Module):
    """How training moves: the interface of every dynamics, and of those of your own.

    A subclass says in `run` what a run does with a `Task`, and what its callers must know in the class variables.
    """

    shards: eqx.AbstractClassVar[bool]
    """Whether runs can be spread over devices by `jax.shard_map`."""
    resumable: eqx.AbstractClassVar[bool]
    """Whether a killed run can go on from a checkpoint."""

    @property
    @abc.abstractmethod
    def stochastic(self) -> bool:
        """Whether a run draws samples, and so needs a key or is given a stream."""

    def steps(self, slow_times: Float[np.ndarray, " t"]) -> int | None:
        """How many steps lead to the last of `slow_times`, where that is known beforehand; nothing may be traced."""
        return None

    @abc.abstractmethod
    def run(self, task: Task) -> Trajectory:
        """The trajectory of a `task`. Called by `tts_jax.simulate`, which has checked the task and sees to
        `Trajectory.slow_time`.

        Raises `ValueError`, before any long work, for a model or a problem that the dynamics cannot treat.
        """

    def side_by_side(self, model: PyTree, problem: AbstractProblem) -> bool:
        """Whether on a CPU runs of such a `model` on such a `problem` cost less as lanes of `jax.vmap` than one after
        the other."""
        return False


Pick: TypeAlias = Callable[[PyTree], Any]
"""Of leaves of a model."""
Epsilon: TypeAlias = Float[Array, ""] | tuple[Float[Array, ""], ...]
"""Of the slow leaves, or of each group of them."""


def checked_speeds(epsilon: Any, slow: Any) -> tuple[Epsilon, Pick | tuple[Pick, ...] | None]:
    """Both, or two tuples of one length. Raises `ValueError` where they are not, or `epsilon` is not positive."""
    if not isinstance(epsilon, tuple) and not isinstance(slow, tuple):
        return checks.as_float(checks.positive("epsilon", epsilon)), checks.picks_leaves("slow", slow)
    got = [f"{len(each)} of them" if isinstance(each, tuple) else "no tuple" for each in (epsilon, slow)]
    if got[0] != got[1] or not epsilon:
        raise ValueError(
            f"epsilon and slow must be tuples of one length, got {got[0]} and {got[1]}: "
            "pass e.g. epsilon=(0.1, 0.01), slow=(lambda m: m.layers[1], lambda m: m.layers[0])"
        )
    ratios = tuple(checks.as_float(checks.positive(f"epsilon[{i}]", each)) for i, each in enumerate(epsilon))
    return ratios, tuple(checks.picks_leaves(f"slow[{i}]", each, optional=False) for i, each in enumerate(slow))


def ratios_of(epsilon: Epsilon) -> tuple[Float[Array, ""], ...]:
    return epsilon if isinstance(epsilon, tuple) else (epsilon,)


def slowest(epsilons: tuple[Float[Array, "*runs"], ...]) -> Float[Array, "*runs"]:
    """The ratio of slow to fast time: the smallest of them."""
    known = checks.concrete(epsilons)
    return functools.reduce(jnp.minimum, epsilons) if known is None else epsilons[int(np.argmin(known))]


class Groups(NamedTuple):
    """A model in parts, trees of its structure with None where a leaf belongs to another."""

    moving: PyTree
    """The leaves that move."""
    fixed: PyTree
    """All others."""
    labels: PyTree[int]
    """For each leaf that moves: 0 where it is fast, i in the i-th slow group."""
    own: bool
    """Whether the slow leaves are those that the model names itself."""

    @classmethod
    def of(
        cls,
        model: PyTree,
        slow: Pick | tuple[Pick, ...] | None = None,
        frozen: Pick | None = None,
    ) -> "Groups":
        """Raises `ValueError` where `slow` is None and the model does not know its slow leaves, where `slow` or
        `frozen` selects none, or what is no leaf, where a leaf is in two groups, and where nothing moves."""
        trains, fixed = eqx.partition(model, trainable(model))
        knows = getattr(model, "slow", None) is not None
        if slow is None and not knows:
            raise ValueError(
                f"cannot tell which leaves of {type(model).__name__} move slowly: "
                "say which, e.g. slow=lambda model: model.layers[0]"
            )
        labels = _labels(slow or _own_slow, model, trains)
        own = slow is None or (knows and _agree(labels, _labels(_own_slow, model, trains)))
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
        return structure._replace(hessian=None, sample_gradient=None, staircase=None, staircases=None)

    def over_time(self, moving: PyTree) -> PyTree:
        """The model of a trajectory, of leaves that have moved; frozen ones have the same time axis."""
        saves = len(jax.tree.leaves(moving)[0])
        frozen = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (saves, *leaf.shape)), self.frozen)
        return eqx.combine(moving, frozen, self.fixed)


def _picked(name: str, pick: Pick, model: PyTree, leaves: PyTree) -> PyTree[bool]:
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


def _labels(slow: Pick | tuple[Pick, ...], model: PyTree, leaves: PyTree) -> PyTree[int]:
    if not isinstance(slow, tuple):
        return jax.tree.map(int, _picked("slow", slow, model, leaves))
    groups = [_picked(f"slow[{i}]", pick, model, leaves) for i, pick in enumerate(slow)]
    for path, *picked in zip(jax.tree_util.tree_leaves_with_path(leaves), *map(jax.tree.leaves, groups), strict=True):
        if sum(picked) > 1:
            name = f"{type(model).__name__}{jax.tree_util.keystr(path[0])}"
            raise ValueError(f"slow must pick a leaf once, got {name} in {sum(picked)} of its groups")
    return jax.tree.map(lambda *picked: sum(i * is_in for i, is_in in enumerate(picked, 1)), *groups)


def _agree(one: PyTree[int], other: PyTree[int]) -> bool:
    return jax.tree.leaves(one) == jax.tree.leaves(other)


def _own_slow(model):
    return model.slow


def two_timescale(
    optimizer: Optimizer, epsilons: tuple[Float[Array, "*runs"], ...], labels: PyTree[int]
) -> optax.GradientTransformation:
    """The updates of the optimiser, or of each group of leaves by its own; those of slow groups times their epsilon."""
    if not isinstance(optimizer, optax.GradientTransformation):
        # A model is callable, and so are its labels.
        optimizer = optax.partition(dict(enumerate(optimizer)), lambda _: labels)

    def slowed(updates, params):
        def group(label, updates):
            return jax.tree.map(lambda update: epsilons[label - 1] * update, updates) if label else updates

        return jax.tree.map(group, labels, updates)

    return optax.chain(optimizer, optax.stateless(slowed))
