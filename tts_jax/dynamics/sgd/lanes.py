"""The steps of SGD where the gradient of a sample is known in closed form, for many runs at once.

The runs that `jax.vmap` puts side by side are the last axis of every array. Optimisers see each run alone.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._platform import platform
from . import kernel
from .descent import Descent, State
from .side_by_side import a_few_at_a_time, side_by_side
from .stream import AbstractStream, Exact

UNROLLED = 32
"""Samples of a batch that stand one after the other in the compiled step; of more there is a loop."""


def applies(descent: Descent) -> bool:
    """Whether the gradient of a sample is known, and forward mode is not asked for."""
    return (
        descent.structure.sample_gradient is not None
        and not isinstance(descent.stream, Exact)
        and not isinstance(descent.adjoint, diffrax.ForwardMode)
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
    run = a_few_at_a_time(_run) if platform() == "cpu" else _run
    return side_by_side(run, state, _Span(descent, first, last))


@_advance.def_fwd
def _(perturbed, moving, first, last):
    del perturbed
    return _advance(moving, first, last), None


@_advance.def_bwd
def _(residuals, cotangent, perturbed, moving, first, last):
    """Through the same steps by automatic differentiation."""
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


class _Span(eqx.Module):
    """What the steps need beside the state."""

    descent: Descent
    first: Int[Array, "*lanes"]
    last: Int[Array, "*lanes"]


def _run(state: State, span: _Span, differs: PyTree[bool]) -> State:
    """Steps `first` to `last - 1` of each run."""
    lanes = _Lanes(span, differs)
    length = span.descent.stream.length
    begin, end = jnp.min(span.first), jnp.max(span.last)

    def goes_on(carry):
        at, state = carry
        return (at < end) & jnp.any(_finite(state.params))

    def block(carry):
        at, state = carry
        return at + length, lanes.block(state, at)

    return jax.lax.while_loop(goes_on, block, (begin // length * length, state))[1]


class _Lanes(eqx.Module):
    """Blocks of steps of runs side by side."""

    span: _Span
    differs: PyTree[bool] = eqx.field(static=True)

    @property
    def axes(self) -> PyTree[int | None]:
        """Where the runs lie in each leaf of the descent."""
        return jax.tree.map(lambda differs: 0 if differs else None, self.differs.descent)

    def block(self, state: State, at: Int[Array, ""]) -> State:
        """The steps of the block that begins with step `at`, of each run those that it takes."""
        descent, length = self.span.descent, self.span.descent.stream.length
        x, y = self.samples(at // length)
        start, end = (jnp.clip(step - at, 0, length) for step in (self.span.first, self.span.last))
        if kernel.applies(descent, state):
            return kernel.block(descent, state, x, y, start, end)

        def one(i, state):
            moved = self.step(state, x[i], y[i])
            if not (self.differs.first or self.differs.last):
                return moved
            active = (start <= i) & (i < end)
            return jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, state)

        return jax.lax.fori_loop(jnp.min(start), jnp.max(end), one, state)

    def samples(
        self, index: Int[Array, ""]
    ) -> tuple[Float[Array, "steps batch #lanes"], Float[Array, "steps batch #lanes"]]:
        """Of a block; with one lane where all runs see the same."""
        stream, axes = self.span.descent.stream, self.axes.stream
        if any(axis is not None for axis in jax.tree.leaves(axes)):
            return eqx.filter_vmap(_draw, in_axes=(axes, None), out_axes=-1)(stream, index)
        return jax.tree.map(lambda leaf: leaf[..., None], _draw(stream, index))

    def step(self, state: State, x: Float[Array, "batch #lanes"], y: Float[Array, "batch #lanes"]) -> State:
        descent = self.span.descent
        factors = descent.factors(len(x))

        def of_sample(k, factor):
            return descent.sample_gradient.of_arrays(state.params, descent.fixed.activation, x[k], y[k], factor)

        if len(x) > UNROLLED:
            each = jnp.asarray(factors, x.dtype)
            gradient = jax.lax.fori_loop(
                1, len(x), lambda k, total: jax.tree.map(jnp.add, total, of_sample(k, each[k])), of_sample(0, each[0])
            )
        else:
            parts = [of_sample(k, factor) for k, factor in enumerate(factors)]
            gradient = jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *parts)

        def move(descent, state, gradient):
            return state.moved(*descent.optimizer.update(gradient, state.optimizer, state.params))

        return eqx.filter_vmap(move, in_axes=(self.axes, -1, -1), out_axes=-1)(descent, state, gradient)


def _draw(stream: AbstractStream, index: Int[Array, ""]) -> tuple[Array, Array]:
    batches = stream.block(index)
    assert batches is not None
    x, y = batches
    return x.reshape(y.shape), y


def _finite(params: PyTree) -> Bool[Array, " lanes"]:
    finite = [jnp.all(jnp.isfinite(leaf), axis=range(leaf.ndim - 1)) for leaf in jax.tree.leaves(params)]
    return jnp.all(jnp.stack(finite), axis=0)
