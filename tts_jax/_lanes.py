"""Runs under `jax.vmap`: side by side as the last axis of every array, or one after the other."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ._platform import platform

T = TypeVar("T", bound=PyTree)


def lanes_last(run: Callable[..., T]) -> Callable[..., T]:
    """`run`, of arrays and results with the runs as their last axis; an array has one entry there where they agree.

    Under `vmap` the runs of all levels reach it together; where it is differentiated, they do not.
    """

    @jax.custom_jvp
    def differentiable(*inputs):
        return together(*inputs)

    @differentiable.defjvp
    def _(primals, tangents):
        return jax.jvp(run, primals, tangents)

    @jax.custom_batching.custom_vmap
    def together(*inputs):
        return run(*inputs)

    @together.def_vmap
    def _(size, batched, *inputs):
        lanes = max(leaf.shape[-1] for leaf in jax.tree.leaves(inputs))

        def merge(leaf, is_batched):
            if not is_batched and leaf.shape[-1] == 1:
                return leaf
            leaf = leaf if is_batched else leaf[None]
            leaf = jnp.broadcast_to(leaf, (size, *leaf.shape[1:-1], lanes))
            return jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], size * lanes)

        def split(leaf):
            leaf = leaf if leaf.shape[-1] > 1 else jnp.broadcast_to(leaf, (*leaf.shape[:-1], size * lanes))
            return jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], size, lanes), -2, 0)

        results = jax.tree.map(split, together(*jax.tree.map(merge, inputs, tuple(batched))))
        return results, jax.tree.map(lambda _: True, results)

    return differentiable


def in_turn(run: Callable[[PyTree], T]) -> Callable[[PyTree], T]:
    """`run`, of arrays, which `vmap` on a CPU calls for one run after the other: none waits for the slowest.

    Where it is differentiated, they lie side by side.
    """
    if platform() != "cpu":
        return run

    @jax.custom_jvp
    def differentiable(inputs):
        return each(inputs)

    @differentiable.defjvp
    def _(primals, tangents):
        return jax.jvp(run, primals, tangents)

    @jax.custom_batching.custom_vmap
    def each(inputs):
        return run(inputs)

    @each.def_vmap
    def _(size, batched, inputs):
        del size
        leaves, structure = jax.tree.flatten(inputs)
        varies = jax.tree.leaves(batched)

        def one(own):
            rest = iter(own)
            all_leaves = [next(rest) if v else leaf for v, leaf in zip(varies, leaves, strict=True)]
            return each(jax.tree.unflatten(structure, all_leaves))

        results = jax.lax.map(one, [leaf for v, leaf in zip(varies, leaves, strict=True) if v])
        return results, jax.tree.map(lambda _: True, results)

    return differentiable
