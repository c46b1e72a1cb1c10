"""Runs that `jax.vmap` puts side by side, as the last axis of every array of their state, whatever axis they come from.

What the runs need beside their state stays as it is where all share it; where they differ, its leaves have the runs as
their first axis.
"""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

State = TypeVar("State", bound=PyTree)
Shared = TypeVar("Shared", bound=PyTree)

CACHE = 2**14
"""Bytes of parameters that a CPU moves at once: its first cache holds as much again, of values and samples."""


def side_by_side(run: Callable[[State, Shared, PyTree[bool]], State], state: State, shared: Shared) -> State:
    """`run(state, shared, differs)` for one run; under `vmap` the runs of all levels reach `run` together.

    `differs` says which leaves of `shared` have them as their first axis.
    """
    moving, static_state = eqx.partition(state, eqx.is_array)
    leaves, static_shared = eqx.partition(shared, eqx.is_array)

    def merged(differs):
        @jax.custom_batching.custom_vmap
        def together(moving, leaves):
            end = run(eqx.combine(moving, static_state), eqx.combine(leaves, static_shared), differs)
            return eqx.filter(end, eqx.is_array)

        @together.def_vmap
        def _(size, batched, moving, leaves):
            lanes = lanes_of(moving)
            moving = jax.tree.map(lambda leaf, own: _merge_last(leaf, own, size), moving, batched[0])
            leaves = jax.tree.map(
                lambda leaf, own, differs: _merge_first(leaf, own, differs, size, lanes), leaves, batched[1], differs
            )
            now_differs = jax.tree.map(lambda a, b: a or b, batched[1], differs)
            end = jax.tree.map(lambda leaf: _split_last(leaf, size, lanes), merged(now_differs)(moving, leaves))
            return end, jax.tree.map(lambda _: True, end)

        return together

    alone = jax.tree.map(lambda leaf: leaf[..., None], moving)
    end = merged(jax.tree.map(lambda _: False, leaves))(alone, leaves)
    return eqx.combine(jax.tree.map(lambda leaf: leaf[..., 0], end), static_state)


def lanes_of(state: PyTree) -> int:
    return jax.tree.leaves(state)[0].shape[-1]


def _merge_last(leaf: Array, is_batched: bool, size: int) -> Array:
    leaf = leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))
    return jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], size * leaf.shape[-1])


def _merge_first(leaf: Array, is_batched: bool, differs: bool, size: int, lanes: int) -> Array:
    if not (is_batched or differs):
        return leaf
    leaf = leaf if is_batched else leaf[None]
    leaf = leaf if differs else leaf[:, None]
    leaf = jnp.broadcast_to(leaf, (size, lanes, *leaf.shape[2:]))
    return leaf.reshape(size * lanes, *leaf.shape[2:])


def _split_last(leaf: Array, size: int, lanes: int) -> Array:
    return jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], size, lanes), -2, 0)


def a_few_at_a_time(
    run: Callable[[State, Shared, PyTree[bool]], State],
) -> Callable[[State, Shared, PyTree[bool]], State]:
    """For a CPU: `run` of as many lanes of small networks as its first cache holds, then of the next."""

    def runs(state: State, shared: Shared, differs: PyTree[bool]) -> State:
        moving, static_state = eqx.partition(state, eqx.is_array)
        leaves, static_shared = eqx.partition(shared, eqx.is_array)
        lanes = lanes_of(moving)
        bytes_of_one = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)) // lanes
        width = 2 ** ((CACHE // bytes_of_one).bit_length() - 1)
        if lanes <= width or width < 32:
            return run(state, shared, differs)
        portions = -(-lanes // width)
        # The last portion is filled up by repeating the last lane.
        rows = jnp.minimum(jnp.arange(portions * -(-lanes // portions)), lanes - 1).reshape(portions, -1)

        def portion(row):
            some = jax.tree.map(lambda leaf: leaf[..., row], moving)
            theirs = jax.tree.map(lambda leaf, differs: leaf[row] if differs else leaf, leaves, differs)
            return eqx.filter(
                run(eqx.combine(some, static_state), eqx.combine(theirs, static_shared), differs), eqx.is_array
            )

        def join(leaf):
            return jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], -1)[..., :lanes]

        return eqx.combine(jax.tree.map(join, jax.lax.map(portion, rows)), static_state)

    return runs
