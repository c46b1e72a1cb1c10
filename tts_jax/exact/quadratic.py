r"""The population risk of a shallow network of smooth steps on a piecewise constant target, in closed form.

For fixed positions the risk is a quadratic form in the weights, $R = a^T G a - 2 b^T a + c$, with the bias as
entry 0 of $a$ where the network has one. $G$, $b$ and $c$ are polynomials of the positions between finitely many
cuts, so the gradient and the Hessian are closed forms too, at the cost of O(m^2) polynomial evaluations.

A bias is a neuron whose whole window lies left of 0, so that it is 1 on [0, 1]; no formula has a case for it.
"""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..activations import Integral, SmoothStep
from ..targets import PiecewiseConstant
from .forms import Gradient, Hessian, NormalEquations

T = TypeVar("T")


FEW = 4
"""Up to so many neurons whose windows 0 or 1 cuts are picked out, before their pairs are evaluated."""


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def normal_equations(
    activation: SmoothStep, target: PiecewiseConstant, positions: Float[Array, " m"], *, bias: bool
) -> NormalEquations:
    """At the positions of the neurons, for n = m weights, or n = m + 1 with a bias."""
    u = _with_bias(activation, positions, len(positions) + bias)
    gram = _over_pairs(activation, u, lambda overlap: overlap.value)
    return NormalEquations(gram, _cross(activation, target, u).value, target.square_mean)


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def gradient(
    activation: SmoothStep, target: PiecewiseConstant, a: Float[Array, " n"], positions: Float[Array, " m"]
) -> Gradient:
    """With respect to `a`, the weights, after the bias where n = m + 1, and to the positions."""
    u = _with_bias(activation, positions, len(a))
    cross = _cross(activation, target, u)
    product, slope = _over_pairs(activation, u, lambda overlap, a: (a @ overlap.value, a @ overlap.d_p), a)
    d_u = 2 * a * (slope - cross.d_u)
    return Gradient(2 * (product - cross.value), d_u[len(a) - len(positions) :])


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def hessian(
    activation: SmoothStep, target: PiecewiseConstant, a: Float[Array, " n"], positions: Float[Array, " m"]
) -> Hessian:
    """The blocks of second derivatives, with the arguments of `gradient`."""

    def terms(overlap, a):
        return overlap.value, overlap.d_p, overlap.d_pq, a @ overlap.d_p, a @ overlap.d_pp

    u = _with_bias(activation, positions, len(a))
    cross = _cross(activation, target, u)
    gram, d_p, d_pq, slope, bend = _over_pairs(activation, u, terms, a)
    diagonal = jnp.eye(len(u), dtype=u.dtype)
    d_au = 2 * (a[None] * d_p + diagonal * (slope - cross.d_u)[None])
    d_uu = 2 * a[None] * (a[:, None] * d_pq + diagonal * (bend - cross.d_uu)[None])
    first = len(a) - len(positions)
    return Hessian(2 * gram, d_au[:, first:], d_uu[first:, first:])


def _with_bias(activation: SmoothStep, positions: Float[Array, " m"], n: int) -> Float[Array, " n"]:
    bias = jnp.broadcast_to(-1 - activation.eta, (n - len(positions),))
    return jnp.concatenate([bias, positions])


def _cross(activation: SmoothStep, target: PiecewiseConstant, u: Float[Array, " n"]) -> Integral:
    """The product of each neuron with the target."""
    mean = activation.tail(jnp.zeros_like(activation.eta), u)
    tails = activation.tail(target.jumps[:, None], u[None])
    return Integral(*(target.values[0] * part + target.heights @ tail for part, tail in zip(mean, tails, strict=True)))


def _over_pairs(activation: SmoothStep, u: Float[Array, " n"], terms: Callable[..., T], *vectors: Array) -> T:
    """`terms(overlap, *vectors)`, linear in the overlap of each two neurons; in a pair [i, k], k is the one that moves.

    The terms and the vectors have one entry for each neuron along each axis. What the edges 0 and 1 cut off costs many
    times the rest, and is evaluated for the neurons that they cut.
    """
    cut = activation.cuts(u)

    def none(u, *vectors):
        return jax.tree.map(jnp.zeros_like, inside)

    def few(u, *vectors):
        rank = cut.astype(u.dtype) @ np.triu(np.ones((len(u), len(u)), u.dtype))
        picked = ((rank[None] == np.arange(1, FEW + 1, dtype=u.dtype)[:, None]) & cut[None]).astype(u.dtype)
        edge = picked @ u
        part = terms(activation.cut_overlap(edge[None], edge[:, None]), *(picked @ vector for vector in vectors))
        return jax.tree.map(lambda x: (x if x.ndim == 1 else picked.T @ x) @ picked, part)

    def many(u, *vectors):
        return terms(activation.cut_overlap(u[None], u[:, None]), *vectors)

    inside = terms(activation.overlap(u[None], u[:, None], cut=False), *vectors)
    kinds = (none, few, many) if len(u) > FEW else (none, many)
    limits = np.array([0, FEW])[: len(kinds) - 1]
    # Without a checkpoint, reverse mode would carry the intermediate matrices of all branches.
    branches = [jax.checkpoint(kind, prevent_cse=False) for kind in kinds]
    return jax.tree.map(jnp.add, inside, jax.lax.switch(jnp.sum(jnp.sum(cut) > limits), branches, u, *vectors))
