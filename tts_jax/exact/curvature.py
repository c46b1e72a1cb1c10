r"""How the curvature of the risk of `local` changes: gradients of sums of second directional derivatives.

With pairs of directions $(w_i, x_i)$ in bias, weights and positions, this is $\nabla \sum_i D^2 R[w_i, x_i]$ by all
that R depends on. In the plateaus $c_j$, and with the target's first value taken off the bias, the risk is a sum of
local terms, up to what does not depend on the positions,

$$R = \sum_j (c_j^2 - c_{j-1}^2)\,S(u_j) + \sum_j a_j^2\,E(u_j, u_j) + 2 \sum_{j<k} a_j a_k\,E(u_j, u_k)
- 2 \sum_{ij} h_i a_j\,T_i(u_j),$$

E the excess of `pairs` and $T_i$ its tail from jump i on: only products of near components of the directions count.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._kernel import total
from . import step
from .local import cumulate, pad, plateaus, slice_of
from .pairs import any_pair_cut, beside, cut_excess_to_third, excess_of_itself, near_excess, neurons, tail


class Directions(NamedTuple):
    bias: Float[Array, "i lanes"] | None
    a: Float[Array, "m i lanes"]
    u: Float[Array, "m i lanes"]


class Slopes(NamedTuple):
    bias: Float[Array, " lanes"]
    """By the level of the network, whether or not it has a bias."""
    a: Float[Array, "m lanes"]
    u: Float[Array, "m lanes"]
    eta: Float[Array, " lanes"]
    jumps: Float[Array, "k lanes"]
    values: Float[Array, "k+1 lanes"]


class _Products(NamedTuple):
    """Sums over all pairs of directions, of the components of each neuron."""

    aa: Float[Array, "m lanes"]
    au: Float[Array, "m lanes"]
    uu: Float[Array, "m lanes"]


def _square(p: tuple[Array, ...]) -> Float[Array, "m lanes"]:
    w, x = p
    return sum((w[:, i] * x[:, i] for i in range(1, w.shape[1])), start=w[:, 0] * x[:, 0])


def _cross(p: tuple[Array, ...], q: tuple[Array, ...]) -> Float[Array, "m lanes"]:
    return _square((p[0], q[1])) + _square((p[1], q[0]))


def slopes(
    a: Float[Array, "m lanes"],
    u: Float[Array, "m lanes"],
    bias: Float[Array, " lanes"] | None,
    eta: Float[Array, " #lanes"],
    jumps: Float[Array, "k #lanes"],
    values: Float[Array, "k+1 #lanes"],
    reach: int | Int[Array, ""],
    w: Directions,
    x: Directions,
) -> Slopes:
    r"""$\nabla \sum_i D^2 R[w_i, x_i]$, where `reach` is K or more."""
    eta, jumps, values = (jnp.broadcast_to(y, (*y.shape[:-1], u.shape[1])) for y in (eta, jumps, values))
    wide = jnp.broadcast_to(beside(eta, u), u.shape)
    moved_a, moved_u = (w.a, x.a), (w.u, x.u)
    levels = plateaus(w.a, w.bias), plateaus(x.a, x.bias)
    left, right = (tuple(level[part] for level in levels) for part in (slice(None, -1), slice(1, None)))
    products = _Products(_square(moved_a), _cross(moved_a, moved_u), _square(moved_u))
    near = _near(a, u, wide, reach, products, moved_a, moved_u)
    fixed = near, _square(right) - _square(left), _cross(left, moved_u), _cross(right, moved_u), products, jumps, values
    c = plateaus(a, -values[0] if bias is None else bias - values[0])
    alone, pull = jax.vjp(functools.partial(_alone, fixed), c[:-1], c[1:], a, u, wide)
    left_bar, right_bar, *rest = pull(jnp.ones_like(alone))
    nothing = jnp.zeros_like(u[:1])
    level_bar = cumulate(jnp.concatenate([left_bar, nothing]) + jnp.concatenate([nothing, right_bar]), reverse=True)
    a_bar, u_bar, eta_bar = (x + y for x, y in zip(rest, near[:3], strict=True))
    by_jumps, by_values = by_target(u, eta, jumps, values, jnp.zeros_like(u), products.au, a * products.uu)
    return Slopes(level_bar[0], a_bar + level_bar[1:], u_bar, total(eta_bar), by_jumps, by_values)


def by_target(
    u: Float[Array, "m *lanes"],
    eta: Float[Array, "*lanes"],
    jumps: Float[Array, "k *lanes"],
    values: Float[Array, "k+1 *lanes"],
    once: Float[Array, "m *lanes"],
    d_once: Float[Array, "m *lanes"],
    dd_once: Float[Array, "m *lanes"],
    bias: Float[Array, "*lanes"] | float = 0.0,
) -> tuple[Float[Array, "k *lanes"], Float[Array, "k+1 *lanes"]]:
    r"""The gradient by jumps $v_i$ and values, $h_i$ their differences, of

    $$-2 \sum_i h_i \Big(\sum_j (p_j + p'_j \partial + p''_j \partial^2)\,T_i(u_j) + b (1 - v_i)\Big).$$

    The first value counts as a jump at 0. The factors are `once`, `d_once`, `dd_once` and `bias`.
    """
    rate = beside(1 / eta, u)
    d_jumps, d_heights = [], []
    heights = [values[0], *(values[1:] - values[:-1])]
    for jump, height in zip([jnp.zeros_like(eta), *jumps], heights, strict=True):
        of = tail(beside(jump, u), u, beside(eta, u))
        beyond = total(once * of.mean + d_once * of.d_mean + dd_once * of.dd_mean)
        d_heights.append(-2 * (beyond + bias * (1 - jump)))
        z = (beside(jump, u) - u) * rate
        change = -once * step.value(z) + d_once * step.slope(z) * rate - dd_once * step.curvature(z) * rate**2
        d_jumps.append(-2 * height * (total(change) - bias))
    by_values = [high - low for high, low in zip(d_heights, [*d_heights[1:], jnp.zeros_like(eta)], strict=True)]
    return jnp.stack(d_jumps[1:]) if len(jumps) else jumps, jnp.stack(by_values)


def _alone(fixed, left, right, a, u, eta):
    """What each neuron adds by itself."""
    near, level, cross_left, cross_right, products, jumps, values = fixed
    of = tail(jnp.zeros_like(u), u, eta)
    found = near.mean * of.mean + near.d_mean * of.d_mean + near.dd_mean * of.dd_mean
    own, d_own, dd_own = _own(u, eta)
    found = found + 2 * of.mean * level + 2 * of.d_mean * (right * cross_right - left * cross_left)
    found = found + of.dd_mean * (right - left) * (right + left) * products.uu
    found = found + 2 * own * products.aa + 2 * d_own * a * products.au + dd_own * a**2 * products.uu
    for jump, height in zip(jumps, values[1:] - values[:-1], strict=True):
        of = tail(beside(jump, u), u, eta)
        found = found - 2 * beside(height, u) * (of.d_mean * products.au + of.dd_mean * a * products.uu)
    return found


def _own(u, eta):
    """The excess of a neuron with itself, and its first two derivatives by the position."""
    upper, lower = (1 - u) / eta, -u / eta
    high, low = step.value(upper), step.value(lower)
    slope = step.slope(lower) * (1 - 2 * low) - step.slope(upper) * (1 - 2 * high)
    return excess_of_itself(u, eta).value, high * (1 - high) - low * (1 - low), slope / eta


class _Sums(NamedTuple):
    """What pairs of different neurons add."""

    a: Float[Array, "n lanes"]
    u: Float[Array, "n lanes"]
    eta: Float[Array, "m lanes"]
    mean: Float[Array, "n lanes"]
    """Factors of S and, below, of its derivatives, from pairs that have changed places."""
    d_mean: Float[Array, "n lanes"]
    dd_mean: Float[Array, "n lanes"]

    def plus(self, o, **parts):
        """With the parts from row o on."""
        return self._replace(
            **{
                name: jax.lax.dynamic_update_slice_in_dim(
                    getattr(self, name), slice_of(getattr(self, name), o, len(part)) + part, o, 0
                )
                for name, part in parts.items()
            }
        )


def _near(a, u, eta, reach, products, moved_a, moved_u) -> _Sums:
    m = len(a)
    of = neurons(u, eta)
    padded = jax.tree.map(lambda x: pad(x, 0, m), (a, of, u, products, moved_a, moved_u))

    def add(o, sums, part):
        """Of the neurons j with j + o."""
        other, of_other, u_other, products_other, a_k, u_k = slice_of(padded, o, m)
        aa, au, ua, uu = _cross(moved_a, a_k), _cross(moved_a, u_k), _cross(moved_u, a_k), _cross(moved_u, u_k)
        e, third, from_one, from_other, swapped = part(of_other, u_other)
        # The factors of the derivatives of the excess in the sum.
        both = 2 * a * other
        k, k_one, k_other = 2 * aa, 2 * (other * products.au + a * ua), 2 * (other * au + a * products_other.au)
        k_one_one, k_one_other, k_other_other = both * products.uu, both * uu, both * products_other.uu
        bent = e.d_one_one * products.uu + e.d_one_other * uu + e.d_other_other * products_other.uu
        u_one = k * e.d_one + k_one * e.d_one_one + k_other * e.d_one_other
        u_one = u_one + k_one_one * third.d_one_one_one + k_one_other * third.d_one_one_other
        u_one = u_one + k_other_other * third.d_one_other_other
        u_other = k * e.d_other + k_one * e.d_one_other + k_other * e.d_other_other
        u_other = u_other + k_one_one * third.d_one_one_other + k_one_other * third.d_one_other_other
        u_other = u_other + k_other_other * third.d_other_other_other
        # The excess is homogeneous of degree 1 in the width and the two distances.
        by_eta = (k * e.value - both * bent - from_one * u_one - from_other * u_other) / eta
        if swapped is not None:
            here, there = of.tail, slice_of(padded[1], o, m).tail
            e = e._replace(
                value=e.value + jnp.where(swapped, here.mean - there.mean, 0.0),
                d_one=e.d_one + jnp.where(swapped, here.d_mean, 0.0),
                d_other=e.d_other - jnp.where(swapped, there.d_mean, 0.0),
            )
            bent = bent + jnp.where(swapped, here.dd_mean * products.uu - there.dd_mean * products_other.uu, 0.0)
            factors = [jnp.where(swapped, x, 0.0) for x in (k, k_one, k_one_one)]
            sums = sums.plus(0, mean=factors[0], d_mean=factors[1], dd_mean=factors[2])
            factors = [jnp.where(swapped, -x, 0.0) for x in (k, k_other, k_other_other)]
            sums = sums.plus(o, mean=factors[0], d_mean=factors[1], dd_mean=factors[2])
        sums = sums.plus(0, a=2 * (e.d_one * ua + e.d_other * products_other.au + other * bent), u=u_one, eta=by_eta)
        return sums.plus(o, a=2 * (e.d_one * products.au + e.d_other * au + a * bent), u=u_other)

    def apart(o, sums):
        def part(of_other, _):
            e, third, swapped = near_excess(of, of_other, eta)
            return e, third, jnp.zeros_like(u), of_other.place - of.place, swapped

        return add(o, sums, part)

    def at_edges(sums):
        def at(edge, sums):
            edge = edge.astype(u.dtype)

            def part(_, u_other):
                return *cut_excess_to_third(u, u_other, eta, edge), u - edge, u_other - edge, None

            return jax.lax.fori_loop(1, reach + 1, lambda o, sums: add(o, sums, part), sums)

        return jax.lax.fori_loop(0, 2, at, sums)

    blank = jnp.zeros((2 * m, *u.shape[1:]), u.dtype)
    sums = jax.lax.fori_loop(1, reach + 1, apart, _Sums(blank, blank, blank[:m], blank, blank, blank))
    sums = jax.lax.cond(any_pair_cut(u, eta), at_edges, lambda sums: sums, sums)
    return jax.tree.map(lambda x: x[:m], sums)
