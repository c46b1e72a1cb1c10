r"""The population risk of a shallow network of smooth steps on a piecewise constant target, in closed form.

For fixed positions the risk is a quadratic form in the weights, $R = a^T G a - 2 b^T a + c$, with the constant
feature as entry 0 of $a$ where the network has a bias. $G$, $b$ and $c$ are polynomials of the positions between
finitely many cuts, so the gradient and the Hessian are closed forms too, at the cost of O(m^2) polynomial evaluations.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .activations import Integral, Overlap, SmoothStep
from .targets import PiecewiseConstant


class NormalEquations(NamedTuple):
    """`R = a^T gram a - 2 cross^T a + square`."""

    gram: Float[Array, "n n"]
    cross: Float[Array, " n"]
    square: Float[Array, ""]


class Gradient(NamedTuple):
    d_bias: Float[Array, ""] | None
    d_weights: Float[Array, " m"]
    d_positions: Float[Array, " m"]


class Hessian(NamedTuple):
    """Second derivatives of the risk; the bias, where there is one, is entry 0 of `a`."""

    d_aa: Float[Array, "n n"]
    d_au: Float[Array, "n m"]
    d_uu: Float[Array, "m m"]


def normal_equations(
    activation: SmoothStep, target: PiecewiseConstant, positions: Float[Array, " m"], *, bias: bool
) -> NormalEquations:
    mean, cross, overlap = _integrals(activation, target, positions)
    gram, products = overlap.value, cross.value
    if bias:
        gram = _bordered(jnp.ones_like(target.square_mean), mean.value, gram)
        products = jnp.concatenate([_target_mean(target)[None], products])
    return NormalEquations(gram, products, target.square_mean)


def gradient(
    activation: SmoothStep,
    target: PiecewiseConstant,
    weights: Float[Array, " m"],
    positions: Float[Array, " m"],
    bias: Float[Array, ""] | None,
) -> Gradient:
    mean, cross, overlap = _integrals(activation, target, positions)
    b = 0.0 if bias is None else bias
    return Gradient(
        None if bias is None else 2 * (bias + mean.value @ weights - _target_mean(target)),
        2 * (overlap.value @ weights + b * mean.value - cross.value),
        2 * weights * (overlap.d_p @ weights + b * mean.d_u - cross.d_u),
    )


def hessian(
    activation: SmoothStep,
    target: PiecewiseConstant,
    weights: Float[Array, " m"],
    positions: Float[Array, " m"],
    bias: Float[Array, ""] | None,
) -> Hessian:
    mean, cross, overlap = _integrals(activation, target, positions)
    b = 0.0 if bias is None else bias
    slope = overlap.d_p @ weights + b * mean.d_u - cross.d_u
    bend = overlap.d_pp @ weights + b * mean.d_uu - cross.d_uu
    d_aa = 2 * overlap.value
    d_au = 2 * (weights * overlap.d_p.T + jnp.diag(slope))
    d_uu = 2 * (weights[:, None] * weights * overlap.d_pq + jnp.diag(weights * bend))
    if bias is not None:
        d_aa = _bordered(jnp.full_like(bias, 2.0), 2 * mean.value, d_aa)
        d_au = jnp.concatenate([(2 * weights * mean.d_u)[None, :], d_au])
    return Hessian(d_aa, d_au, d_uu)


def _bordered(
    corner: Float[Array, ""], edge: Float[Array, " m"], block: Float[Array, "m m"]
) -> Float[Array, "m+1 m+1"]:
    return jnp.block([[corner[None, None], edge[None, :]], [edge[:, None], block]])


def _target_mean(target: PiecewiseConstant) -> Float[Array, ""]:
    return target.values[0] + jnp.sum(target.heights * (1 - target.jumps))


def _integrals(
    activation: SmoothStep, target: PiecewiseConstant, positions: Float[Array, " m"]
) -> tuple[Integral, Integral, Overlap]:
    """The mean of each neuron, its product with the target, and the products of each two."""
    mean = activation.tail(jnp.zeros_like(activation.eta), positions)
    tails = activation.tail(target.jumps, positions[:, None])
    cross = Integral(
        *(target.values[0] * part + tail @ target.heights for part, tail in zip(mean, tails, strict=True))
    )
    return mean, cross, activation.overlap(positions[:, None], positions)
