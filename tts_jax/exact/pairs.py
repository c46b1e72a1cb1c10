r"""Integrals over [0, 1] of a smooth step and of the product of two, as functions of their positions.

$S(u) = \int_0^1 \sigma((x-u)/\eta)\,dx$ and $G(p, q) = \int_0^1 \sigma((x-p)/\eta)\,\sigma((x-q)/\eta)\,dx$. Of two
neurons further apart than $\eta$, $G$ is $S$ of the one on the right: `Excess` is what a nearer pair has besides.
Everything is elementwise; `eta` has as many axes as the positions (`beside`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import step
from .overlaps import AtEdge, PairIntegral, inner_overlap, outer_overlap


class Tail(NamedTuple):
    r"""$\int_v^1 \sigma((x-u)/\eta)\,dx$ as `1 - reached + edge`, and its first two derivatives by u.

    So parted, differences of close neurons keep their relative accuracy: see `drops`.
    """

    reached: Float[Array, "m *lanes"]
    """The position, or the end of [v, 1] that it lies beyond."""
    edge: Float[Array, "m *lanes"]
    """What windows have that v or 1 cuts."""
    d_mean: Float[Array, "m *lanes"]
    dd_mean: Float[Array, "m *lanes"]

    @property
    def mean(self) -> Float[Array, "m *lanes"]:
        return 1 - self.reached + self.edge


class Neurons(NamedTuple):
    """The places of neurons, and S.

    The place is the position; but those that do not reach [0, 1] stand `2 eta` apart, so that none is near another.
    """

    place: Float[Array, "m *lanes"]
    tail: Tail


class Excess(NamedTuple):
    """`G(one, other) - S(other)` and its derivatives by the two positions."""

    value: Float[Array, "..."]
    d_one: Float[Array, "..."]
    d_other: Float[Array, "..."]
    d_one_one: Float[Array, "..."]
    d_one_other: Float[Array, "..."]
    d_other_other: Float[Array, "..."]


class Third(NamedTuple):
    """The third derivatives of a part of `Excess`."""

    d_one_one_one: Float[Array, "..."]
    d_one_one_other: Float[Array, "..."]
    d_one_other_other: Float[Array, "..."]
    d_other_other_other: Float[Array, "..."]


class ExcessOfItself(NamedTuple):
    """`G(u, u) - S(u)`, and what the derivatives of G there have besides those of S by the first position."""

    value: Float[Array, "..."]
    d_one: Float[Array, "..."]
    d_one_one: Float[Array, "..."]
    d_one_other: Float[Array, "..."]


def beside(x: Float[Array, "*#lanes"], like: Float[Array, "..."]) -> Float[Array, "..."]:
    """With axes of 1 in front, as many in all as `like` has."""
    return x.reshape(*[1] * (like.ndim - x.ndim), *x.shape)


def neurons(u: Float[Array, "m *lanes"], eta: Float[Array, "..."]) -> Neurons:
    return Neurons(places(u, eta), tail(jnp.zeros_like(eta), u, eta))


def places(u: Float[Array, "m *lanes"], eta: Float[Array, "..."]) -> Float[Array, "m *lanes"]:
    index = jnp.arange(len(u), dtype=u.dtype).reshape(-1, *[1] * (u.ndim - 1))
    left, right = u <= -eta / 2, u - 1 >= eta / 2  # where `cuts` says no, to rounding
    return jnp.where(left, 2 * eta * (index - len(u)), jnp.where(right, 1 + 2 * eta * (index + 1), u))


def tail(start: Float[Array, "..."], u: Float[Array, "..."], eta: Float[Array, "..."]) -> Tail:
    """For `start` v."""
    rate = 1 / eta
    upper, lower = (1 - u) * rate, (start - u) * rate
    return Tail(
        jnp.where(upper <= 0, 1.0, jnp.where(lower <= 0, u, start)),
        eta * (step.half_window(upper) ** 4 - step.half_window(lower) ** 4),
        step.value(lower) - step.value(upper),
        (step.slope(upper) - step.slope(lower)) * rate,
    )


def drops(of: Tail, start: Float[Array, "..."]) -> Float[Array, "n *lanes"]:
    """By how much the integral over [v, 1] of each neuron is above that of the next; before the first there is 1, after
    the last 0."""
    nothing = jnp.zeros_like(of.edge[:1])
    reached = jnp.concatenate([nothing + start, of.reached, nothing + 1])
    edge = jnp.concatenate([nothing, of.edge, nothing])
    return (reached[1:] - reached[:-1]) - (edge[1:] - edge[:-1])


def excess(one: Neurons, other: Neurons, eta: Float[Array, "..."]) -> Excess:
    """Of two different neurons, `one` before `other` in the order, not counting `cut_excess`."""
    near, _, swapped = near_excess(one, other, eta)
    here, there = one.tail, other.tail

    def where_swapped(x):
        return jnp.where(swapped, x, 0.0)

    return near._replace(
        value=near.value + where_swapped((there.reached - here.reached) + (here.edge - there.edge)),
        d_one=near.d_one + where_swapped(here.d_mean),
        d_other=near.d_other - where_swapped(there.d_mean),
        d_one_one=near.d_one_one + where_swapped(here.dd_mean),
        d_other_other=near.d_other_other - where_swapped(there.dd_mean),
    )


def near_excess(one: Neurons, other: Neurons, eta: Float[Array, "..."]) -> tuple[Excess, Third, Bool[Array, "..."]]:
    """The part of `excess` that depends on the distance alone; and whether the neurons have changed places, which adds
    S of `one` less that of `other`."""
    rate = 1 / eta
    distance = (other.place - one.place) * rate
    swapped = distance < 0
    near = inner_overlap(jnp.where(swapped, -distance, distance))
    slope, bend = jnp.where(swapped, near.d_high, near.d_low), near.d_low_low * rate
    third = jnp.where(swapped, -near.d_high_high_high, near.d_high_high_high) * rate**2
    return Excess(-eta * near.value, -slope, slope, -bend, bend, -bend), Third(third, -third, third, -third), swapped


def cut_excess(
    one: Float[Array, "..."], other: Float[Array, "..."], eta: Float[Array, "..."], edge: Float[Array, ""]
) -> Excess:
    """Of two neurons at positions `one` and, later in the order, `other`: what they have because `edge` cuts both."""
    return cut_excess_to_third(one, other, eta, edge)[0]


def cut_excess_to_third(
    one: Float[Array, "..."], other: Float[Array, "..."], eta: Float[Array, "..."], edge: Float[Array, ""]
) -> tuple[Excess, Third]:
    rate = 1 / eta
    outward = 2 * edge - 1
    beyond_one, beyond_other = (outward * (u - edge) * rate for u in (one, other))
    swapped = other < one
    first = swapped == (edge > 0)
    distance = jnp.where(first, beyond_one - beyond_other, beyond_other - beyond_one)
    outer = outer_overlap(AtEdge.of(beyond_one), AtEdge.of(beyond_other), first, distance)
    both = cuts(one, eta, edge) & cuts(other, eta, edge)
    outer = PairIntegral(*(jnp.where(both, part, 0.0) for part in outer))
    to_second = Excess(
        eta * outer.value,
        outward * jnp.where(first, outer.d_high, outer.d_low),
        outward * jnp.where(first, outer.d_low, outer.d_high),
        jnp.where(first, outer.d_high_high, outer.d_low_low) * rate,
        outer.d_high_low * rate,
        jnp.where(first, outer.d_low_low, outer.d_high_high) * rate,
    )
    scale = outward * rate**2
    third = Third(
        scale * jnp.where(first, outer.d_high_high_high, outer.d_low_low_low),
        scale * jnp.where(first, outer.d_high_high_low, outer.d_high_low_low),
        scale * jnp.where(first, outer.d_high_low_low, outer.d_high_high_low),
        scale * jnp.where(first, outer.d_low_low_low, outer.d_high_high_high),
    )
    return to_second, third


def cuts(u: Float[Array, "..."], eta: Float[Array, "..."], edge: Float[Array, ""] | int) -> Bool[Array, "..."]:
    """Whether `edge`, 0 or 1, lies inside the window."""
    return jnp.abs(u - edge) < eta / 2


def any_pair_cut(u: Float[Array, "m *lanes"], eta: Float[Array, "..."]) -> Bool[Array, ""]:
    """Whether an edge cuts two neurons of one lane."""
    counts = [jnp.sum(cuts(u, eta, edge).astype(jnp.int32), axis=0) for edge in (0, 1)]
    return jnp.any(jnp.maximum(*counts) > 1)


def excess_of_itself(u: Float[Array, "..."], eta: Float[Array, "..."]) -> ExcessOfItself:
    rate = 1 / eta
    (variance, slopes, complement, slope), (variance_0, slopes_0, complement_0, slope_0) = (
        _square_integrals((edge - u) * rate) for edge in (1, 0)
    )
    d_one_other = (slopes - slopes_0) * rate
    return ExcessOfItself(
        eta * (variance_0 - variance),
        (complement_0**2 - complement**2) / 2,
        (slope_0 * complement_0 - slope * complement) * rate - d_one_other,
        d_one_other,
    )


def _square_integrals(z: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
    r"""The antiderivatives of $\sigma(1 - \sigma)$ and of $\sigma'^2$, and $1 - \sigma$ and $\sigma'$."""
    w = step.half_window(z)
    variance, slopes = w**4 - 16 / 7 * w**7, 144 / 5 * w**5
    left = z <= 0
    return (
        jnp.where(left, variance, 5 / 56 - variance),
        jnp.where(left, slopes, 9 / 5 - slopes),
        1 - step.value(z),
        step.slope(z),
    )
