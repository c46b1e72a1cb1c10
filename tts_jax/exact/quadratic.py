r"""The population risk of a shallow network of smooth steps on a piecewise constant target, in closed form.

For fixed positions the risk is a quadratic form in the weights, $R = a^T G a - 2 b^T a + c$, with the bias as
entry 0 of $a$ where the network has one. $G$, $b$ and $c$ are polynomials of the positions between finitely many
cuts, so the gradient and the Hessian are closed forms too, at the cost of O(m^2) polynomial evaluations.

A bias is a neuron whose whole window lies left of 0, so that it is 1 on [0, 1]; no formula has a case for it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..activations import SmoothStep
from ..targets import PiecewiseConstant
from . import overlaps
from .forms import Gradient, Hessian, NormalEquations
from .overlaps import Integral, Overlap

T = TypeVar("T")


FEW = 4
"""Up to so many neurons whose windows 0 or 1 cuts are picked out, before their pairs are evaluated."""


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def normal_equations(
    activation: SmoothStep, target: PiecewiseConstant, positions: Float[Array, " m"], *, bias: bool
) -> NormalEquations:
    """At the positions of the neurons, for n = m weights, or n = m + 1 with a bias."""
    u = _with_bias(activation, positions, len(positions) + bias)
    gram = _over_pairs(activation, u, terms=lambda overlap: overlap.value, order=0)
    return NormalEquations(gram, _cross(activation, target, u).value, target.square_mean)


@eqx.filter_jit  # outside `jit` too, the branches below are compiled once
def gradient(
    activation: SmoothStep, target: PiecewiseConstant, a: Float[Array, " n"], positions: Float[Array, " m"]
) -> Gradient:
    """With respect to `a`, the weights, after the bias where n = m + 1, and to the positions."""
    u = _with_bias(activation, positions, len(a))
    cross = _cross(activation, target, u)

    def terms(overlap, a):
        return a @ overlap.value, a @ overlap.d_p

    product, slope = _over_pairs(activation, u, a, terms=terms, order=1)
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
    gram, d_p, d_pq, slope, bend = _over_pairs(activation, u, a, terms=terms, order=2)
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
    mean = overlaps.tail(activation.eta, jnp.zeros_like(activation.eta), u)
    tails = overlaps.tail(activation.eta, target.jumps[:, None], u[None])
    return Integral(*(target.values[0] * part + target.heights @ tail for part, tail in zip(mean, tails, strict=True)))


@eqx.filter_custom_jvp
def _over_pairs(
    activation: SmoothStep, u: Float[Array, " n"], *vectors: Array, terms: Callable[..., T], order: int
) -> T:
    """`terms(overlap, *vectors)`, linear in the overlap of each two neurons; in a pair [i, k], k is the one that moves.

    The terms and the vectors have one entry for each neuron along each axis. `order` is that of the highest derivative
    in the terms.
    """
    return _without_rule(activation, u, *vectors, terms=terms)


@_over_pairs.def_jvp
def _(primals, tangents, *, terms, order):
    """By the closed forms of the next order: automatic differentiation of the polynomials, in reverse mode above all,
    gives a program that takes a multiple of the time to compile."""
    (activation, u, *vectors), (of_activation, du, *of_vectors) = primals, tangents
    of_next_order = partial(_over_pairs, order=order + 1) if order < 2 else _without_rule
    overlap = of_next_order(activation, u, terms=_up_to(order + 1))
    moved = overlap.moved(jnp.zeros_like(u) if du is None else du)
    if of_activation.eta is not None:

        def with_width(eta):
            wider = eqx.tree_at(lambda activation: activation.eta, activation, eta)
            return _without_rule(wider, u, terms=_up_to(order))

        _, slope = jax.jvp(with_width, (activation.eta,), (jnp.ones_like(activation.eta),))
        moved = jax.tree.map(lambda change, slope: change + slope * of_activation.eta, moved, slope)
    return eqx.filter_jvp(terms, (overlap, *vectors), (moved, *of_vectors))


def _up_to(order: int) -> Callable[[Overlap], Overlap]:
    """Without derivatives of more than this order."""
    higher: dict[str, Any] = dict.fromkeys(Overlap._fields[(1, 2, 4, 6)[order] :])
    return lambda overlap: overlap._replace(**higher)


def _without_rule(activation: SmoothStep, u: Float[Array, " n"], *vectors: Array, terms: Callable[..., T]) -> T:
    """What the edges 0 and 1 cut off costs many times the rest, and is evaluated for the neurons that they cut."""
    cut = overlaps.cuts(activation.eta, u)

    def none(u, *vectors):
        return jax.tree.map(jnp.zeros_like, inside)

    def few(u, *vectors):
        rank = cut.astype(u.dtype) @ np.triu(np.ones((len(u), len(u)), u.dtype))
        picked = ((rank[None] == np.arange(1, FEW + 1, dtype=u.dtype)[:, None]) & cut[None]).astype(u.dtype)
        edge = picked @ u
        part = terms(
            overlaps.cut_overlap(activation.eta, edge[None], edge[:, None]), *(picked @ vector for vector in vectors)
        )
        return jax.tree.map(lambda x: (x if x.ndim == 1 else picked.T @ x) @ picked, part)

    def many(u, *vectors):
        return terms(overlaps.cut_overlap(activation.eta, u[None], u[:, None]), *vectors)

    inside = terms(overlaps.overlap(activation.eta, u[None], u[:, None], cut=False), *vectors)
    kinds = (none, few, many) if len(u) > FEW else (none, many)
    count = jnp.sum(cut)
    kind = jnp.where(count == 0, 0, jnp.where(count <= FEW, 1, len(kinds) - 1))
    return jax.tree.map(jnp.add, inside, jax.lax.switch(kind, kinds, u, *vectors))
