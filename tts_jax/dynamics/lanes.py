r"""The steps of SGD for one-dimensional networks of smooth steps, in closed form, for many runs at once.

With $z = (x - u)/\eta$ and $r = b + \sum_j a_j \sigma(z_j) - y$ the gradient of the loss of one sample is

$$\nabla_b = 2r, \qquad \nabla_a = 2r\,\sigma(z), \qquad \nabla_u = -2r\,a\,\sigma'(z)/\eta .$$

The runs that `jax.vmap` puts side by side are the last axis of every array, whatever axis they come from: a processor
then treats several of them in each instruction, and the sum over neurons adds vectors. Optimisers see each run alone.
"""

from collections.abc import Callable
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from ..networks import ShallowNetwork
from . import gpu, structured
from .descent import Descent, State

CACHE = 2**14
"""Bytes of parameters that a CPU moves at once: its first cache holds as much again, of values and samples."""


class _Shared(eqx.Module):
    """What the steps need beside the state. A leaf that differs between runs has them as its first axis."""

    descent: Descent
    first: Int[Array, "*lanes"]
    last: Int[Array, "*lanes"]


def applies(descent: Descent, state: State) -> bool:
    """Whether the steps are those above, and forward mode is not asked for."""
    model = eqx.combine(state.params, descent.fixed)
    return (
        descent.stream is not None
        and not isinstance(descent.adjoint, diffrax.ForwardMode)
        and structured.applies(model, descent.problem, descent.labels)
        and model.positions.shape[1] == 1
    )


def advance(descent: Descent, state: State, first: Int[Array, ""], last: Int[Array, ""]) -> State:
    """As `Descent.advance`, to rounding."""
    return _advance((descent, jax.tree.map(_unperturbed, state)), first, last)


def _unperturbed(leaf: Array) -> Array:
    """Without the empty tangent that JAX gives to the counters of an optimiser, and Equinox refuses."""
    return leaf | leaf if jnp.issubdtype(leaf.dtype, jnp.integer) else leaf


@eqx.filter_custom_vjp
def _advance(moving, first, last):
    descent, state = moving
    state, static = eqx.partition(state, eqx.is_array)
    leaves, fixed = eqx.partition(_Shared(descent, first, last), eqx.is_array)
    alone = jax.tree.map(lambda leaf: leaf[..., None], state)
    end = _side_by_side((static, fixed), jax.tree.map(lambda _: False, leaves))(alone, leaves)
    return eqx.combine(jax.tree.map(lambda leaf: leaf[..., 0], end), static)


@_advance.def_fwd
def _(perturbed, moving, first, last):
    del perturbed
    return _advance(moving, first, last), None


@_advance.def_bwd
def _(residuals, cotangent, perturbed, moving, first, last):
    del residuals, perturbed
    end, pullback = eqx.filter_vjp(lambda moving: moving[0].advance(moving[1], first, last), moving)
    cotangent = jax.tree.map(
        lambda leaf, known: jnp.zeros_like(leaf) if known is None and eqx.is_inexact_array(leaf) else known,
        end,
        cotangent,
        is_leaf=lambda leaf: leaf is None,
    )
    (gradient,) = pullback(cotangent)
    return gradient


def _side_by_side(static: PyTree, differs: PyTree[bool]):
    """The steps for given static parts; under `vmap` the runs of all levels become one axis, the last."""

    @jax.custom_batching.custom_vmap
    def run(moving, leaves):
        def alone(moving, leaves):
            state, shared = eqx.combine(moving, static[0]), eqx.combine(leaves, static[1])
            return eqx.filter(_run(state, shared, differs), eqx.is_array)

        return _in_chunks(alone, moving, leaves, differs)

    @run.def_vmap
    def _(size, batched, moving, leaves):
        def merge_state(leaf, is_batched):
            leaf = leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))
            return jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], size * lanes)

        def merge(leaf, is_batched, differs):
            if not (is_batched or differs):
                return leaf
            leaf = leaf if is_batched else leaf[None]
            leaf = leaf if differs else leaf[:, None]
            leaf = jnp.broadcast_to(leaf, (size, lanes, *leaf.shape[2:]))
            return leaf.reshape(size * lanes, *leaf.shape[2:])

        def split(leaf):
            return jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], size, lanes), -2, 0)

        state_batched, shared_batched = batched
        lanes = jax.tree.leaves(moving)[0].shape[-1]
        moving = jax.tree.map(merge_state, moving, state_batched)
        leaves = jax.tree.map(merge, leaves, shared_batched, differs)
        now_differs = jax.tree.map(lambda a, b: a or b, shared_batched, differs)
        end = jax.tree.map(split, _side_by_side(static, now_differs)(moving, leaves))
        return end, jax.tree.map(lambda _: True, end)

    return run


def _in_chunks(run: Callable[[State, PyTree], State], moving: State, leaves: PyTree, differs: PyTree[bool]) -> State:
    """`run` of all lanes; on a CPU, of small networks, a few lanes at a time."""
    lanes = jax.tree.leaves(moving)[0].shape[-1]
    bytes_of_one = sum(leaf.nbytes for leaf in jax.tree.leaves(moving.params)) // lanes
    at_once = 2 ** ((CACHE // bytes_of_one).bit_length() - 1)
    if lanes <= at_once or at_once < 32 or gpu.platform() != "cpu":
        return run(moving, leaves)
    chunks = -(-lanes // at_once)
    # The last chunk is filled up by repeating the last lane.
    indices = jnp.minimum(jnp.arange(chunks * -(-lanes // chunks)), lanes - 1).reshape(chunks, -1)

    def chunk(index):
        return run(
            jax.tree.map(lambda leaf: leaf[..., index], moving),
            jax.tree.map(lambda leaf, differs: leaf[index] if differs else leaf, leaves, differs),
        )

    def join(leaf):
        return jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], -1)[..., :lanes]

    return jax.tree.map(join, jax.lax.map(chunk, indices))


def _run(state: State, shared: _Shared, differs: PyTree[bool]) -> State:
    descent = shared.descent
    axes = jax.tree.map(lambda differs: 0 if differs else None, differs.descent)
    first, last = jnp.min(shared.first), jnp.max(shared.last)
    length = descent.stream.length

    def draw(stream, index):
        x, y = stream.block(index)
        return x.reshape(y.shape), y

    def samples(index):
        """Each of shape (steps, batch, lanes), or (steps, batch, 1) where all runs see the same."""
        if any(axis is not None for axis in jax.tree.leaves(axes.stream)):
            return eqx.filter_vmap(draw, in_axes=(axes.stream, None), out_axes=-1)(descent.stream, index)
        return jax.tree.map(lambda leaf: leaf[..., None], draw(descent.stream, index))

    def gradient(params, x, y, factor):
        value, slope = descent.fixed.activation.value_and_slope(x - params.positions)
        # Within the sum, not after it: otherwise the CPU backend of XLA computes it anew for each leaf.
        offset = (-y if params.bias is None else params.bias - y) / len(value)
        pull = factor * jnp.sum(params.weights * value + offset, axis=(0, 1))
        leaves = pull * value, -pull * (params.weights * slope), None if params.bias is None else pull
        return eqx.tree_at(
            lambda model: (model.weights, model.positions, model.bias),
            params,
            leaves,
            is_leaf=lambda leaf: leaf is None,
        )

    @partial(eqx.filter_vmap, in_axes=(axes, -1, -1), out_axes=-1)
    def move(descent, state, gradient):
        return state.moved(*descent.optimizer.update(gradient, state.optimizer, state.params))

    def step(state, x, y):
        gradients = [gradient(state.params, *sample, 2 / len(x)) for sample in zip(x, y, strict=True)]
        return move(descent, state, jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *gradients))

    def block(carry):
        at, state = carry
        x, y = samples(at // length)
        start, end = (jnp.clip(step - at, 0, length) for step in (shared.first, shared.last))
        if gpu.applies(descent, state):
            return at + length, gpu.block(descent, state, x, y, start, end)

        def one(i, state):
            moved = step(state, x[i], y[i])
            if differs.first or differs.last:
                active = (start <= i) & (i < end)
                moved = jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, state)
            return moved

        return at + length, jax.lax.fori_loop(jnp.min(start), jnp.max(end), one, state)

    def goes_on(carry):
        at, state = carry
        return (at < last) & jnp.any(_finite(state.params))

    return jax.lax.while_loop(goes_on, block, (first // length * length, state))[1]


def _finite(params: ShallowNetwork) -> Bool[Array, " lanes"]:
    finite = jnp.isfinite(params.weights) & jnp.isfinite(params.positions)
    return jnp.all(finite if params.bias is None else finite & jnp.isfinite(params.bias), axis=(0, 1))
