r"""The population risk of a shallow network of smooth steps on a piecewise constant target, in closed form.

For fixed positions the risk is a quadratic form in the weights, $R = a^T G a - 2 b^T a + c$, with the bias as
entry 0 of $a$ where the network has one. $G$, $b$ and $c$ are polynomials of the positions between finitely many
cuts, so the gradient and the Hessian are closed forms too, at the cost of O(m^2) polynomial evaluations.

A bias is a neuron whose whole window lies left of 0, so that it is 1 on [0, 1]; no formula has a case for it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .activations import Integral, Overlap, SmoothStep
from .targets import PiecewiseConstant

T = TypeVar("T")


class NormalEquations(NamedTuple):
    """`R = a^T gram a - 2 cross^T a + square`."""

    gram: Float[Array, "n n"]
    cross: Float[Array, " n"]
    square: Float[Array, ""]


class Gradient(NamedTuple):
    d_a: Float[Array, " n"]
    d_u: Float[Array, " m"]


class Hessian(NamedTuple):
    d_aa: Float[Array, "n n"]
    d_au: Float[Array, "n m"]
    d_uu: Float[Array, "m m"]


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def normal_equations(
    activation: SmoothStep, target: PiecewiseConstant, positions: Float[Array, " m"], *, bias: bool
) -> NormalEquations:
    """At the positions of the neurons, for n = m weights, or n = m + 1 with a bias."""

    def at(cut, u):
        cross, overlap = _integrals(activation, target, u, cut)
        return NormalEquations(overlap.value, cross.value, target.square_mean)

    return _for_cut(activation, positions, at, _with_bias(activation, positions, len(positions) + bias))


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def gradient(
    activation: SmoothStep, target: PiecewiseConstant, a: Float[Array, " n"], positions: Float[Array, " m"]
) -> Gradient:
    """With respect to `a`, the weights, after the bias where n = m + 1, and to the positions."""

    def at(cut, a, u):
        cross, overlap = _integrals(activation, target, u, cut)
        d_u = 2 * a * (a @ overlap.d_p - cross.d_u)
        return Gradient(2 * (overlap.value @ a - cross.value), d_u[len(a) - len(positions) :])

    return _for_cut(activation, positions, at, a, _with_bias(activation, positions, len(a)))


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def hessian(
    activation: SmoothStep, target: PiecewiseConstant, a: Float[Array, " n"], positions: Float[Array, " m"]
) -> Hessian:
    """The blocks of second derivatives, with the arguments of `gradient`."""

    def at(cut, a, u):
        cross, overlap = _integrals(activation, target, u, cut)
        diagonal = jnp.eye(len(u), dtype=u.dtype)
        slope = a @ overlap.d_p - cross.d_u
        bend = a @ overlap.d_pp - cross.d_uu
        d_au = 2 * (a * overlap.d_p + diagonal * slope)
        d_uu = 2 * a * (a[:, None] * overlap.d_pq + diagonal * bend)
        first = len(a) - len(positions)
        return Hessian(2 * overlap.value, d_au[:, first:], d_uu[first:, first:])

    return _for_cut(activation, positions, at, a, _with_bias(activation, positions, len(a)))


def _with_bias(activation: SmoothStep, positions: Float[Array, " m"], n: int) -> Float[Array, " n"]:
    bias = jnp.broadcast_to(-1 - activation.eta, (n - len(positions),))
    return jnp.concatenate([bias, positions])


def _for_cut(activation: SmoothStep, positions: Float[Array, " m"], at: Callable[..., T], *args: Array) -> T:
    # Without a checkpoint, reverse mode would carry the intermediate matrices of both branches.
    branches = (jax.checkpoint(partial(at, cut), prevent_cse=False) for cut in (True, False))
    return jax.lax.cond(activation.cuts(positions), *branches, *args)


def _integrals(
    activation: SmoothStep, target: PiecewiseConstant, u: Float[Array, " n"], cut: bool
) -> tuple[Integral, Overlap]:
    """The product of each neuron with the target, and of each two; in a pair [i, k], k is the one that moves."""
    mean = activation.tail(jnp.zeros_like(activation.eta), u)
    tails = activation.tail(target.jumps, u[:, None])
    cross = Integral(*(target.values[0] * part + tail @ target.heights for part, tail in zip(mean, tails, strict=True)))
    return cross, activation.overlap(u, u[:, None], cut=cut)
