r"""The steps of SGD for one-dimensional networks of smooth steps, in closed form, for many runs at once.

With $z = (x - u)/\eta$ and $r = \sum_j a_j \sigma(z_j) - y$ one sample moves a network by

$$a \leftarrow a - 2h\,r\,\sigma(z), \qquad u \leftarrow u + 2 \epsilon h\,r\,a\,\sigma'(z)/\eta .$$

The runs that `jax.vmap` puts side by side are the last axis of every array, whatever axis they come from: a processor
then treats several of them in each instruction, and the sum over neurons adds vectors.
"""

from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..activations import SmoothStep
from ..networks import ShallowNetwork, linear_weights
from . import structured
from .base import two_timescale
from .descent import Descent, State
from .stream import AbstractStream


class _Params(NamedTuple):
    """Of all runs, the bias as the weight of a neuron that lies far left of 0 and never moves."""

    weights: Float[Array, "n lanes"]
    positions: Float[Array, "n lanes"]


class _Shared(eqx.Module):
    """What the steps need beside the state. A leaf that differs between runs has them as its first axis."""

    epsilon: Float[Array, "*lanes"]
    step_size: Float[Array, "*lanes"]
    activation: SmoothStep
    stream: AbstractStream
    first: Int[Array, "*lanes"]
    last: Int[Array, "*lanes"]


def applies(descent: Descent, state: State) -> bool:
    """Whether the steps are those above, and forward mode is not asked for."""
    model = eqx.combine(state.params, descent.fixed)
    return (
        descent.stream is not None
        and descent.own_optimizer is None
        and not isinstance(descent.adjoint, diffrax.ForwardMode)
        and structured.applies(model, descent.problem, descent.labels)
        and model.positions.shape[1] == 1
    )


def advance(descent: Descent, state: State, first: Int[Array, ""], last: Int[Array, ""]) -> State:
    """As `Descent.advance`, to rounding."""
    return _advance((descent, state), first, last)


@eqx.filter_custom_vjp
def _advance(moving, first, last):
    descent, state = moving
    model = descent.fixed
    shared = _Shared(descent.epsilon, descent.step_size, model.activation, descent.stream, first, last)
    bias = jnp.asarray(-1 - model.activation.eta, state.params.positions.dtype)
    start = State(
        _packed(state.params, bias),
        None if state.excess is None else _packed(state.excess, jnp.zeros_like(bias)),
        state.optimizer,
    )
    moved, static = eqx.partition(start, eqx.is_array)
    leaves, fixed = eqx.partition(shared, eqx.is_array)
    end = _side_by_side((static, fixed), jax.tree.map(lambda _: False, leaves))(moved, leaves)
    end = eqx.combine(end, static)
    excess = None if state.excess is None else _unpacked(end.excess, state.excess)
    return State(_unpacked(end.params, state.params), excess, state.optimizer)


@_advance.def_fwd
def _(perturbed, moving, first, last):
    del perturbed
    return _advance(moving, first, last), None


@_advance.def_bwd
def _(residuals, cotangent, perturbed, moving, first, last):
    del residuals, perturbed
    end, pullback = eqx.filter_vjp(lambda moving: moving[0].advance(moving[1], first, last), moving)
    cotangent = jax.tree.map(
        lambda leaf, known: jnp.zeros_like(leaf) if known is None and leaf is not None else known,
        end,
        cotangent,
        is_leaf=lambda leaf: leaf is None,
    )
    (gradient,) = pullback(cotangent)
    return gradient


def _packed(model: ShallowNetwork, position: Float[Array, ""]) -> _Params:
    weights, positions = linear_weights(model), model.positions[:, 0]
    if model.bias is not None:
        positions = jnp.concatenate([position[None], positions])
    return _Params(weights[:, None], positions[:, None])


def _unpacked(params: _Params, like: ShallowNetwork) -> ShallowNetwork:
    neurons = len(like.weights)
    bias = None if like.bias is None else params.weights[0, 0]
    return ShallowNetwork(params.weights[-neurons:], params.positions[-neurons:], bias, like.activation)


def _side_by_side(static: PyTree, differs: PyTree[bool]):
    """The steps for given static parts; under `vmap` the runs of all levels become one axis, the last."""

    @jax.custom_batching.custom_vmap
    def run(moving, leaves):
        state, shared = eqx.combine(moving, static[0]), eqx.combine(leaves, static[1])
        return eqx.filter(_run(state, shared, eqx.combine(differs, static[1])), eqx.is_array)

    @run.def_vmap
    def _(size, batched, moving, leaves):
        def merge_state(leaf, is_batched):
            leaf = leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))
            return jnp.moveaxis(leaf, 0, 1).reshape(len(leaf[0]), -1)

        def merge(leaf, is_batched, differs):
            if not (is_batched or differs):
                return leaf
            leaf = leaf if is_batched else leaf[None]
            leaf = leaf if differs else leaf[:, None]
            leaf = jnp.broadcast_to(leaf, (size, lanes, *leaf.shape[2:]))
            return leaf.reshape(size * lanes, *leaf.shape[2:])

        def split(leaf):
            return jnp.moveaxis(leaf.reshape(len(leaf), size, lanes), 1, 0)

        state_batched, shared_batched = batched
        lanes = jax.tree.leaves(moving)[0].shape[-1]
        moving = jax.tree.map(merge_state, moving, state_batched)
        leaves = jax.tree.map(merge, leaves, shared_batched, differs)
        now_differs = jax.tree.map(lambda a, b: a or b, shared_batched, differs)
        end = jax.tree.map(split, _side_by_side(static, now_differs)(moving, leaves))
        return end, jax.tree.map(lambda _: True, end)

    return run


def _run(state: State, shared: _Shared, differs: PyTree[bool]) -> State:
    labels = _Params("fast", "slow")
    optimizer = two_timescale(optax.sgd(shared.step_size), shared.epsilon, labels)
    axes = jax.tree.map(lambda differs: 0 if differs is True else None, differs.stream)
    first, last = jnp.min(shared.first), jnp.max(shared.last)
    length = shared.stream.length

    def draw(stream, index):
        x, y = stream.block(index)
        return x.reshape(y.shape), y

    def samples(index):
        """Each of shape (steps, batch, lanes), or (steps, batch, 1) where all runs see the same."""
        if any(axis is not None for axis in jax.tree.leaves(axes)):
            return eqx.filter_vmap(draw, in_axes=(axes, None), out_axes=-1)(shared.stream, index)
        return jax.tree.map(lambda leaf: leaf[..., None], draw(shared.stream, index))

    def step(state, x, y):
        weights, positions = state.params.weights, state.params.positions
        gradients = []
        for x_k, y_k in zip(x, y, strict=True):
            value, slope = shared.activation.value_and_slope(x_k - positions)
            pull = (2 / len(x)) * (jnp.sum(weights * value, axis=0) - y_k)
            gradients.append(_Params(pull * value, -pull * (weights * slope)))
        gradient = jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *gradients)
        return state.moved(*optimizer.update(gradient, state.optimizer, state.params))

    def active(state, at):
        return (shared.first <= at) & (at < shared.last)

    def block(carry):
        at, state = carry
        x, y = samples(at // length)

        def one(i, state):
            moved = step(state, x[i], y[i])
            if differs.first or differs.last:
                moved = jax.tree.map(lambda new, old: jnp.where(active(state, at + i), new, old), moved, state)
            return moved

        start, end = jnp.maximum(first - at, 0), jnp.minimum(last - at, length)
        return at + length, jax.lax.fori_loop(start, end, one, state)

    def goes_on(carry):
        at, state = carry
        return (at < last) & jnp.any(_finite(state.params))

    return jax.lax.while_loop(goes_on, block, (first // length * length, state))[1]


def _finite(params: _Params) -> Bool[Array, " lanes"]:
    return jnp.all(jnp.isfinite(params.weights) & jnp.isfinite(params.positions), axis=0)
