r"""Integrals over [0, 1] of smoothed steps and of the products of two, in closed form, with their derivatives.

$S(u) = \int_0^1 \sigma((x - u)/\eta)\,dx$ and $G(p, q) = \int_0^1 \sigma((x-p)/\eta)\,\sigma((x-q)/\eta)\,dx$, for any
positions: coincident, cut by 0 or 1, outside [0, 1].
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import step


class Overlap(NamedTuple):
    """`G(p, q) = int_0^1 sigma((x - p)/eta) sigma((x - q)/eta) dx` and derivatives; all of the broadcast shape.

    None where they are not asked for.
    """

    value: Float[Array, "..."]
    d_p: Float[Array, "..."] | None
    d_pp: Float[Array, "..."] | None
    d_pq: Float[Array, "..."] | None
    d_ppp: Float[Array, "..."] | None
    d_ppq: Float[Array, "..."] | None

    def moved(self, du: Float[Array, " n"]) -> "Overlap":
        """The change to first order of all pairs [i, k], p = u[k] and q = u[i], as the neurons u move by `du`.

        None for a derivative whose own derivatives are None.
        """
        assert self.d_p is not None
        half = self.d_p * du[None]
        value, d_p, d_pp, d_pq = half + half.T, None, None, None
        if self.d_pp is not None and self.d_pq is not None:
            d_p = self.d_pp * du[None] + self.d_pq * du[:, None]
        if self.d_ppp is not None and self.d_ppq is not None:
            half = self.d_ppq * du[None]
            d_pp, d_pq = self.d_ppp * du[None] + self.d_ppq * du[:, None], half + half.T
        return Overlap(value, d_p, d_pp, d_pq, None, None)


class Integral(NamedTuple):
    """An integral as a function of a position, and its derivatives."""

    value: Float[Array, "..."]
    d_u: Float[Array, "..."]
    d_uu: Float[Array, "..."]
    d_uuu: Float[Array, "..."]


def tail(eta: Float[Array, ""], start: Float[Array, "..."], u: Float[Array, "..."]) -> Integral:
    r"""$\int_v^1 \sigma((x-u)/\eta)\,dx$ for `start` $v \le 1$; `tail(0, u)` is the mean of one neuron."""
    rate = 1 / eta
    upper, lower = (1 - u) * rate, (start - u) * rate
    return Integral(
        eta * (step.antiderivative(upper) - step.antiderivative(lower)),
        step.value(lower) - step.value(upper),
        (step.slope(upper) - step.slope(lower)) * rate,
        (step.curvature(lower) - step.curvature(upper)) * rate**2,
    )


def cuts(eta: Float[Array, ""], positions: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether 0 or 1 cuts the window of a neuron."""
    half = eta / 2
    return (jnp.abs(positions) < half) | (jnp.abs(positions - 1) < half)


def overlap(eta: Float[Array, ""], p: Float[Array, "..."], q: Float[Array, "..."], *, cut: bool = True) -> Overlap:
    """Closed form for every pair: coincident, cut by 0 or 1, outside [0, 1]. Elementwise, `p` and `q` broadcast.

    `cut=False` leaves out `cut_overlap`, which is zero but between neurons whose windows are cut.
    """
    first, rate = p >= q, 1 / eta
    of_p, of_q = (tail(eta, jnp.zeros_like(eta), u) for u in (p, q))
    excess = inner_overlap(jnp.abs(p - q) * rate)
    both_reach = _reaches(eta, p) & _reaches(eta, q)
    excess = jax.tree.map(lambda part: jnp.where(both_reach, part, 0.0), excess)
    inner = Overlap(
        jnp.where(first, of_p.value, of_q.value) - eta * excess.value,
        jnp.where(first, of_p.d_u - excess.d_high, -excess.d_low),
        jnp.where(first, of_p.d_uu - excess.d_high_high * rate, -excess.d_low_low * rate),
        -excess.d_high_low * rate,
        jnp.where(first, of_p.d_uuu - excess.d_high_high_high * rate**2, -excess.d_low_low_low * rate**2),
        -jnp.where(first, excess.d_high_high_low, excess.d_high_low_low) * rate**2,
    )
    return jax.tree.map(jnp.add, inner, cut_overlap(eta, p, q)) if cut else inner


def cut_overlap(eta: Float[Array, ""], p: Float[Array, "..."], q: Float[Array, "..."]) -> Overlap:
    """What `overlap` needs to add where 0 or 1 cuts the windows of both neurons; zero for any other pair."""
    first, rate = p >= q, 1 / eta
    distance = jnp.abs(p - q) * rate
    # Both edges at once, for a program of half the length.
    beyond_p, beyond_q = (jnp.stack([u - 1, -u]) * rate for u in (p, q))
    at_edges = jax.vmap(lambda p, q, first: outer_overlap(AtEdge.of(p), AtEdge.of(q), first, distance))
    edges = at_edges(beyond_p, beyond_q, jnp.stack([first, ~first]))
    right, left = (jax.tree.map(lambda part, i=i: part[i], edges) for i in range(2))
    both_reach = _reaches(eta, p) & _reaches(eta, q)
    outer = jax.tree.map(lambda one, other: jnp.where(both_reach, one + other, 0.0), right, left.mirrored())
    return Overlap(
        eta * outer.value,
        jnp.where(first, outer.d_high, outer.d_low),
        jnp.where(first, outer.d_high_high, outer.d_low_low) * rate,
        outer.d_high_low * rate,
        jnp.where(first, outer.d_high_high_high, outer.d_low_low_low) * rate**2,
        jnp.where(first, outer.d_high_high_low, outer.d_high_low_low) * rate**2,
    )


def _reaches(eta: Float[Array, ""], u: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a part of the window lies in [0, 1]."""
    return (u > -eta / 2) & (u < 1 + eta / 2)


class PairIntegral(NamedTuple):
    """An integral over two neurons, in units of the width, and its derivatives by the higher and the lower position."""

    value: Float[Array, "..."]
    d_high: Float[Array, "..."]
    d_low: Float[Array, "..."]
    d_high_high: Float[Array, "..."]
    d_high_low: Float[Array, "..."]
    d_low_low: Float[Array, "..."]
    d_high_high_high: Float[Array, "..."]
    d_high_high_low: Float[Array, "..."]
    d_high_low_low: Float[Array, "..."]
    d_low_low_low: Float[Array, "..."]

    def mirrored(self) -> "PairIntegral":
        """As a function of the positions, where it is given as one of their mirror images."""
        value, high, low, high_high, high_low, low_low, *third = self
        thrice = (-part for part in reversed(third))
        return PairIntegral(value, -low, -high, low_low, high_low, high_high, *thrice)


def inner_overlap(distance: Float[Array, "..."]) -> PairIntegral:
    r"""$\int (1 - \sigma(z + D))\,\sigma(z)\,dz$ over the whole line, for $D \ge 0$."""
    full, half = jnp.maximum(1 - distance, 0.0), jnp.maximum(0.5 - distance, 0.0)
    slope = -4 / 5 * full**6 + 48 / 5 * half**5
    bend = 24 / 5 * full**5 - 48 * half**4
    third = -24 * full**4 + 192 * half**3
    return PairIntegral(
        4 / 35 * full**7 - 8 / 5 * half**6, slope, -slope, bend, -bend, bend, third, -third, third, -third
    )


class AtEdge(NamedTuple):
    """One neuron at an edge of [0, 1], `beyond` widths outside; O(m) work that O(m^2) pairs share."""

    beyond: Float[Array, "..."]
    complement: Float[Array, "..."]
    """1 minus the value of sigma there."""
    slope: Float[Array, "..."]
    curvature: Float[Array, "..."]
    value: Float[Array, "..."]
    integral: Float[Array, "..."]
    """Of sigma, from -infinity; the next three are repeated integrals."""
    second: Float[Array, "..."]
    third: Float[Array, "..."]
    fourth: Float[Array, "..."]

    @classmethod
    def of(cls, beyond: Float[Array, "..."]) -> "AtEdge":
        """For neurons at most half a width outside."""
        w, v = jnp.maximum(beyond + 0.5, 0.0), jnp.maximum(beyond, 0.0)
        return cls(
            beyond=beyond,
            complement=1 - step.value(beyond),
            slope=step.slope(beyond),
            curvature=step.curvature(beyond),
            value=4 * w**3 - 12 * v**2,
            integral=w**4 - 4 * v**3,
            second=w**5 / 5 - v**4,
            third=w**6 / 30 - v**5 / 5,
            fourth=w**7 / 210 - v**6 / 30,
        )


def outer_overlap(p: AtEdge, q: AtEdge, first: Bool[Array, "..."], distance: Float[Array, "..."]) -> PairIntegral:
    r"""$\Phi(a, b) = \int_0^\infty \sigma(y - a)\,\sigma(b - y)\,dy$.

    Here a and b are the larger and the smaller `beyond`, and $a \le 1/2$. Repeated partial integration leaves the
    repeated integrals of $\sigma$ at b times the derivatives of $1 - \sigma$ at a, the last of which jumps by 48 at a
    = 0.
    """
    a, b = (jax.tree.map(partial(jnp.where, chosen), p, q) for chosen in (first, ~first))
    jump = jnp.where(a.beyond > 0, jnp.maximum(0.5 - distance, 0.0), 0.0)
    d_a = -a.slope * b.integral + a.curvature * b.second - 24 * b.third + 24 / 5 * jump**5
    d_aa = -a.curvature * b.integral + 24 * b.second - 24 * jump**4
    d_ab = -a.slope * b.value - d_aa
    d_aab = -a.curvature * b.value + 24 * b.integral - 96 * jump**3
    d_abb = -a.slope * b.slope - d_aab
    return PairIntegral(
        value=a.complement * b.integral + a.slope * b.second - a.curvature * b.third + 24 * b.fourth - 4 / 5 * jump**6,
        d_high=d_a,
        d_low=a.complement * b.value - d_a,
        d_high_high=d_aa,
        d_high_low=d_ab,
        d_low_low=a.complement * b.slope - d_ab,
        d_high_high_high=-24 * b.integral + 96 * jump**3,
        d_high_high_low=d_aab,
        d_high_low_low=d_abb,
        d_low_low_low=a.complement * b.curvature - d_abb,
    )
