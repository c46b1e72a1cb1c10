r"""A network of smooth steps of one input on a piecewise constant target, neuron by neuron along [0, 1].

The network is $f(x) = b + \sum_j a_j\,\sigma((x - u_j)/\eta)$, the risk $R = \int_0^1 (f - f^*)^2\,dx$. In the order
of their positions only neurons at most K apart see each other, and the gradient takes O(m K).

Runs lie side by side, as trailing axes: positions `u` and weights `a` have shape (m, lanes), the bias (or None) shape
lanes, `eta` shape lanes or (), the jumps and values of the target shapes (k, lanes) and (k+1, lanes), or (k,) and
(k+1,). Lanes is any shape, () for one run. Every operation is elementwise over lanes; none looks up a place that
depends on the lane.

The order may be that of a moment ago: pairs that have changed places since are right wherever K counts them, as
`bandwidth` does at the positions of now.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PyTree

from .pairs import (
    Neurons,
    any_pair_cut,
    beside,
    cut_excess,
    cuts,
    drops,
    excess,
    excess_of_itself,
    neurons,
    places,
    tail,
)

T = TypeVar("T", bound=PyTree)

CHUNK = 4
"""So many neurons at an edge are evaluated at once, where the edge cuts several."""


class Gradient(NamedTuple):
    """With respect to the `plateaus` (the first of them, the bias, where there is one) and the positions."""

    d_c: Float[Array, "n *lanes"]
    d_u: Float[Array, "m *lanes"]


def bandwidth(u: Float[Array, "m *lanes"], eta: Float[Array, "*#lanes"]) -> Int[Array, ""]:
    r"""K, the largest k for which some $u_{j+k} - u_j < \eta$ in any lane, and 0 where there is none.

    Neurons that do not reach [0, 1] count where they have changed places with one that does. It is an upper bound of
    K where a pair has changed places.
    """
    eta = beside(eta, u)
    place = places(u, eta)
    is_sorted = jnp.all(place[1:] >= place[:-1])
    # The extremes so far make the test below monotone in k, whatever the order.
    first, last = jax.lax.cond(
        is_sorted,
        lambda: (place, place),
        lambda: (jax.lax.cummin(place, 0, reverse=True), jax.lax.cummax(place, 0)),
    )
    padded = pad(first, 0, len(u), value=jnp.inf)

    def near(k):
        return jnp.any(slice_of(padded, k, len(u)) - last < eta)

    return jax.lax.while_loop(near, lambda k: k + 1, jnp.ones((), int)) - 1


def plateaus(a: Float[Array, "m *lanes"], bias: Float[Array, "*lanes"] | None) -> Float[Array, "m+1 *lanes"]:
    r"""$c_j = b + \sum_{i \le j} a_i$, the value of the network to the right of the first j neurons."""
    bias = jnp.zeros_like(a[0]) if bias is None else jnp.broadcast_to(bias, a.shape[1:])
    return jnp.concatenate([bias[None], bias[None] + cumulate(a)])


def weights_of(c: Float[Array, "n *lanes"]) -> Float[Array, "n-1 *lanes"]:
    r"""$a_j = c_j - c_{j-1}$, from `plateaus`, whose first entry is the bias."""
    return c[1:] - c[:-1]


def by_plateaus(d_a: Float[Array, "m *lanes"], d_bias: Float[Array, "*lanes"] | None) -> Float[Array, "n *lanes"]:
    r"""$T^T d$, a derivative by the plateaus from that by the bias, if there is one, and the weights."""
    d = d_a if d_bias is None else jnp.concatenate([d_bias[None], d_a])
    return d - jnp.concatenate([d[1:], jnp.zeros_like(d[:1])])


def gradient(
    a: Float[Array, "m *lanes"],
    u: Float[Array, "m *lanes"],
    bias: Float[Array, "*lanes"] | None,
    eta: Float[Array, "*#lanes"],
    jumps: Float[Array, "k *#lanes"],
    values: Float[Array, "k+1 *#lanes"],
    reach: int | Int[Array, ""],
) -> Gradient:
    r"""$\nabla R$, where `reach` is K or more; by the plateaus, where a small gap of two neurons costs no accuracy.

    Forward-mode derivatives are exact, and for a Python integer as `reach` reverse-mode ones too.
    """
    eta = beside(eta, u)
    of, itself = neurons(u, eta), excess_of_itself(u, eta)
    c = plateaus(a, -values[0] if bias is None else bias - values[0])
    d_c = c * drops(of.tail, jnp.zeros_like(eta))
    d_a, d_u = a * itself.value, c[1:] * of.tail.d_mean + a * itself.d_one
    for jump, height in zip(jumps, values[1:] - values[:-1], strict=True):
        jump, height = beside(jump, u), beside(height, u)
        beyond = tail(jump, u, eta)
        d_c, d_u = d_c - height * drops(beyond, jump), d_u - height * beyond.d_mean
    for part_a, part_u in (_near(a, of, eta, reach), _cut(a, u, eta, reach)):
        d_a, d_u = d_a + part_a, d_u + part_u
    d_c = d_c + by_plateaus(d_a, jnp.zeros_like(d_a[0]))
    return Gradient(2 * (d_c[1:] if bias is None else d_c), 2 * a * d_u)


def _near(
    a: Float[Array, "m *lanes"], of: Neurons, eta: Float[Array, "..."], reach: int | Int[Array, ""]
) -> tuple[Float[Array, "m *lanes"], Float[Array, "m *lanes"]]:
    """The sums over k of `a_k` times the excess of near pairs (j, k), and its derivative by the position of j."""
    m = len(a)
    padded = jax.tree.map(lambda x: pad(x, m, m), (a, of))

    def add(k, sums):
        (a_right, right), (a_left, left) = (slice_of(padded, m + shift, m) for shift in (k, -k))
        with_right, with_left = excess(of, right, eta), excess(left, of, eta)
        return (
            sums[0] + a_right * with_right.value + a_left * with_left.value,
            sums[1] + a_right * with_right.d_one + a_left * with_left.d_other,
        )

    return jax.lax.fori_loop(1, reach + 1, add, (jnp.zeros_like(a), jnp.zeros_like(a)))


def _cut(
    a: Float[Array, "m *lanes"], u: Float[Array, "m *lanes"], eta: Float[Array, "..."], reach: int | Int[Array, ""]
) -> tuple[Float[Array, "m *lanes"], Float[Array, "m *lanes"]]:
    """What the sums of `_near` have besides because an edge, 0 or 1, cuts both windows of a pair.

    Such a pair costs many times another. So only the rows are evaluated from the first neuron that is cut in any lane
    to the last, if any lane has two; in chunks, as many as that takes.
    """
    m = len(a)
    nothing = jnp.zeros_like(a), jnp.zeros_like(a)
    padded = jax.tree.map(lambda x: pad(x, m, m), (a, u))

    def chunk(edge, first, rows, reach):
        here = slice_of(u, first, rows)

        def add(k, sums):
            (a_right, right), (a_left, left) = (slice_of(padded, m + first + shift, rows) for shift in (k, -k))
            with_right, with_left = cut_excess(here, right, eta, edge), cut_excess(left, here, eta, edge)
            return (
                sums[0] + a_right * with_right.value + a_left * with_left.value,
                sums[1] + a_right * with_right.d_one + a_left * with_left.d_other,
            )

        return jax.lax.fori_loop(1, reach + 1, add, (jnp.zeros_like(here), jnp.zeros_like(here)))

    def chunks(edge):
        anywhere = jnp.any(cuts(u, eta, edge).reshape(m, -1), axis=1)
        start = jnp.argmax(anywhere)
        stop = jnp.where(anywhere[start], m - jnp.argmax(anywhere[::-1]), start)
        rows = min(CHUNK, m)

        def put(i, sums):
            first = jnp.minimum(start + rows * i, m - rows)
            part = chunk(edge, first, rows, jnp.minimum(reach, stop - start - 1))
            return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, first, 0), sums, part)

        return jax.lax.fori_loop(0, (stop - start + rows - 1) // rows, put, nothing)

    def at_edges():
        def add(sums, edge):
            part = chunk(edge, 0, m, reach) if isinstance(reach, int) else chunks(edge)
            return jax.tree.map(jnp.add, sums, part), None

        return jax.lax.scan(add, nothing, jnp.arange(2, dtype=u.dtype))[0]

    return jax.lax.cond(any_pair_cut(u, eta), at_edges, lambda: nothing)


def cumulate(x: Num[Array, "m *lanes"], *, reverse: bool = False) -> Num[Array, "m *lanes"]:
    """The sums so far, added one after the other: `cumsum` takes five times as long on a CPU for runs side by side, and
    may add large terms that cancel before it adds them to what they cancel with."""
    return jax.lax.scan(lambda total, row: (total + row,) * 2, jnp.zeros_like(x[0]), x, reverse=reverse)[1]


def pad(x: Float[Array, "m *lanes"], before: int, after: int, value: float = 0.0) -> Float[Array, "n *lanes"]:
    return jnp.pad(x, ((before, after), *[(0, 0)] * (x.ndim - 1)), constant_values=value)


def slice_of(tree: T, start: int | Int[Array, ""], count: int) -> T:
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, count), tree)
