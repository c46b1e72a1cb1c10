r"""Two neurons that close in on one jump of the target: the two-timescale limit in closed form.

A jump of size $w$ with its left and right neighbouring neurons at distances $p$ and $q$ costs $w^2 pq/(p+q)$. Where
every other fit is exact, gradient descent in slow time $\tau$ gives

$$p' = -w^2 \frac{q^2}{(p+q)^2}, \qquad q' = -w^2 \frac{p^2}{(p+q)^2}.$$

$K = q^3 - p^3$ is conserved: the nearer neuron, say at $p$, hits the jump first, and then both stay. With
$q = (p^3 + K)^{1/3}$ and $F = {}_2F_1(1/3, 2/3; 5/3; K/q^3)$,

$$U(p, K) = p + q + \frac{2p^2}{q} + \frac{K}{q^2} F, \qquad
  \frac{\partial U}{\partial p} = \left(1 + \frac pq\right)^2, \qquad
  \frac{\partial U}{\partial K} = \frac{1 + F}{3q^2},$$

runs down like a clock, $U(p(\tau), K) = U(p(0), K) - w^2\tau$, to $U(0, K)$ at the hit. It is convex in $p$, and
smooth at $K = 0$. Where 0 or 1 takes the place of one neuron, at distance $Q$ and at rest, $(p+Q)^3$ falls at the
constant rate $3w^2Q^2$.

Source: Marion and Berthier (2023), arXiv 2304.09576, for the equations of the pair.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from ...targets import PiecewiseConstant

# 2F1(1/3, 2/3; 5/3; y): its power series, which ends below rounding for y <= 1/2, and its value at 1.
ORDER = np.arange(48)
SERIES = np.cumprod(np.append(1.0, (ORDER + 1 / 3) * (ORDER + 2 / 3) / ((ORDER + 5 / 3) * (ORDER + 1))))
AT_ONE = 2 / 3 * math.gamma(2 / 3) ** 2 / math.gamma(4 / 3)


def acts(positions: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Neurons outside (0, 1) are constant on [0, 1]: they carry no weight and do not move."""
    return (positions > 0) & (positions < 1)


def has_closed_form(positions: Float[Array, " m"], target: PiecewiseConstant) -> Bool[Array, ""]:
    """Whether every jump keeps a pair of neurons to itself.

    That is so where at least two neurons start in each piece between two jumps (one on a jump counts to the piece left
    of it) and no two neurons in (0, 1) coincide. The first and the last piece may hold any number.
    """
    acting = acts(positions)
    below = jnp.sum(acting[None] & (positions[None] <= target.jumps[:, None]), axis=1)
    ordered = jnp.sort(jnp.where(acting, positions, jnp.inf))
    distinct = (ordered[1:] > ordered[:-1]) | ~jnp.isfinite(ordered[1:])
    return jnp.all(jnp.diff(below) >= 2) & jnp.all(distinct)


def hit_times(positions: Float[Array, " m"], target: PiecewiseConstant) -> Float[Array, " n"]:
    """The slow time at which a neuron reaches each jump, exactly; infinite for a jump that none ever reaches.

    All NaN for a start without a closed form.
    """
    gaps = gaps_of(positions, target)
    moves = (gaps.has_left | gaps.has_right) & (target.heights != 0)
    strength = jnp.where(moves, target.heights, 1.0) ** 2
    times = jnp.where(moves, _duration(gaps) / strength, jnp.inf)
    return jnp.where(has_closed_form(positions, target), times, jnp.nan)


def pair_positions(
    positions: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"]
) -> Float[Array, "t m"]:
    """Where the neurons are at each slow time, for a start with a closed form; others give finite nonsense."""
    start = jnp.broadcast_to(positions, (len(slow_times), len(positions)))
    if not len(target.jumps):
        return start
    gaps = gaps_of(positions, target)
    at_once = jax.tree.map(lambda leaf: leaf[None], gaps)
    left, right = _shrink(at_once, (target.heights**2)[None] * slow_times[:, None])
    nowhere, jumps = len(positions), target.jumps[None]
    moved = start.at[:, jnp.where(gaps.has_left, gaps.left_neuron, nowhere)].set(jumps - left, mode="drop")
    return moved.at[:, jnp.where(gaps.has_right, gaps.right_neuron, nowhere)].set(jumps + right, mode="drop")


class Gaps(NamedTuple):
    """The distances from each jump to its neighbours; 0 and 1 take the place of a neuron that is missing."""

    left: Float[Array, "... n"]
    right: Float[Array, "... n"]
    has_left: Bool[Array, "... n"]
    has_right: Bool[Array, "... n"]
    left_neuron: Int[Array, "... n"]
    right_neuron: Int[Array, "... n"]


def gaps_of(positions: Float[Array, " m"], target: PiecewiseConstant) -> Gaps:
    jumps = target.jumps
    acting, row = acts(positions)[None], positions[None]
    is_left = acting & (row <= jumps[:, None])
    is_right = acting & (row > jumps[:, None])
    left = jnp.argmax(jnp.where(is_left, row, -jnp.inf), axis=1)
    right = jnp.argmin(jnp.where(is_right, row, jnp.inf), axis=1)
    has_left, has_right = jnp.any(is_left, axis=1), jnp.any(is_right, axis=1)
    return Gaps(
        jumps - jnp.where(has_left, positions[left], 0.0),
        jnp.where(has_right, positions[right], 1.0) - jumps,
        has_left,
        has_right,
        left,
        right,
    )


def _near_far(gaps: Gaps) -> tuple[Float[Array, "... n"], Float[Array, "... n"]]:
    left_is_near = gaps.left <= gaps.right
    return jnp.where(left_is_near, gaps.left, gaps.right), jnp.where(left_is_near, gaps.right, gaps.left)


def cubes(near: Float[Array, "... n"], far: Float[Array, "... n"]) -> Float[Array, "... n"]:
    return (far - near) * (far**2 + far * near + near**2)


def _shrink(gaps: Gaps, elapsed: Float[Array, "t n"]) -> tuple[Float[Array, "t n"], Float[Array, "t n"]]:
    """Both gaps after slow times of `elapsed / w**2`."""
    near, far = _near_far(gaps)
    difference = cubes(near, far)
    near = _near_gap(near, difference, elapsed)
    far = _cube_root(near**3 + difference)
    left_is_near = gaps.left <= gaps.right
    pair_left, pair_right = jnp.where(left_is_near, near, far), jnp.where(left_is_near, far, near)
    alone_left = _lone_gap(gaps.left, gaps.right, elapsed)
    alone_right = _lone_gap(gaps.right, gaps.left, elapsed)
    return jnp.where(gaps.has_right, pair_left, alone_left), jnp.where(gaps.has_left, pair_right, alone_right)


def _duration(gaps: Gaps) -> Float[Array, " n"]:
    """The time until the hit, times `w**2`."""
    near, far = _near_far(gaps)
    moving, fixed = jnp.where(gaps.has_left, gaps.left, gaps.right), jnp.where(gaps.has_left, gaps.right, gaps.left)
    alone = moving * (3 * fixed**2 + 3 * fixed * moving + moving**2) / (3 * fixed**2)
    return jnp.where(gaps.has_left & gaps.has_right, _pair_duration(near, cubes(near, far)), alone)


def _lone_gap(
    gap: Float[Array, "1 n"], fixed: Float[Array, "1 n"], elapsed: Float[Array, "t n"]
) -> Float[Array, "t n"]:
    cube = (gap + fixed) ** 3 - 3 * fixed**2 * elapsed
    before_hit = cube > fixed**3
    return jnp.where(before_hit, jnp.cbrt(jnp.where(before_hit, cube, 1.0)) - fixed, 0.0)


def _pair_duration(p: Float[Array, "..."], cubes: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""$U(p, K) - U(0, K) = \int_0^p (1 + s/q(s))^2\,ds$, without cancellation for small p."""
    q, k = _cube_root(p**3 + cubes), _cube_root(cubes)
    safe = jnp.where(q > 0, q, 1.0)
    below, above = (p / safe) ** 3, cubes / safe**3
    series = _series(jnp.minimum(below, above))
    small = p**3 / (safe**2 + safe * k + k**2) - k * (p / safe) ** 2 * series
    large = q - k * (1 + AT_ONE) + cubes / safe**2 * series
    return p + 2 * p**2 / safe + jnp.where(below < above, small, large)


def _near_gap(
    near: Float[Array, "1 n"], cubes: Float[Array, "1 n"], elapsed: Float[Array, "t n"]
) -> Float[Array, "t n"]:
    """Newton's method from the right, where the convex clock makes it monotone; one scalar equation for each entry."""
    before_hit = elapsed < jax.lax.stop_gradient(_pair_duration(near, cubes))
    start = jnp.where(before_hit, near, 1.0)
    goal = _clock(start, cubes) - jnp.where(before_hit, elapsed, 0.0)
    tolerance = 1e-12 if near.dtype == jnp.float64 else 1e-5
    solution: optx.Solution = optx.root_find(
        lambda p, args: _clock(p, args[0]) - args[1],
        optx.Newton(rtol=tolerance, atol=tolerance),
        start,
        (cubes, goal),
        tags=frozenset({lx.diagonal_tag}),
        throw=False,
    )
    return jnp.where(before_hit, solution.value, 0.0)


@jax.custom_jvp
def _clock(p: Float[Array, "..."], cubes: Float[Array, "..."]) -> Float[Array, "..."]:
    """U of the module's docstring, for p > 0."""
    q = _far_gap(p, cubes)
    return p + q + 2 * p**2 / q + cubes / q**2 * _hypergeometric(p, cubes)


_clock.defjvps(
    lambda d_p, _, p, cubes: (1 + p / _far_gap(p, cubes)) ** 2 * d_p,
    lambda d_cubes, _, p, cubes: (1 + _hypergeometric(p, cubes)) / (3 * _far_gap(p, cubes) ** 2) * d_cubes,
)


def _far_gap(p: Float[Array, "..."], cubes: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.cbrt(p**3 + cubes)


def _hypergeometric(p: Float[Array, "..."], cubes: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""${}_2F_1(1/3, 2/3; 5/3; K/q^3)$; beyond 1/2 by reflection, $y^{2/3} F(y) + (1-y)^{2/3} F(1-y) = F(1)$."""
    q = _far_gap(p, cubes)
    below, above = (p / q) ** 3, cubes / q**3
    series = _series(jnp.minimum(below, above))
    reflected = (AT_ONE - (p / q) ** 2 * series) / jnp.cbrt(jnp.where(below < above, above, 1.0)) ** 2
    return jnp.where(below < above, reflected, series)


def _series(y: Float[Array, "..."]) -> Float[Array, "..."]:
    return functools.reduce(
        lambda total, coefficient: total * y + coefficient, SERIES[::-1].tolist(), jnp.zeros_like(y)
    )


def _cube_root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """For x >= 0; its derivative at 0, which is infinite, is taken as 0."""
    return jnp.where(x > 0, jnp.cbrt(jnp.where(x > 0, x, 1.0)), 0.0)
