r"""The Hessian of `local` in plateau coordinates: a block banded matrix.

In the plateaus $c_j = b + \sum_{i \le j} a_i$ the network is $\sum_j c_j\,(\sigma_j - \sigma_{j+1})$, a sum of bumps.
With $a = T c$ and H the Hessian by weights and positions, $T^T (\mathrm{diag}(\rho, s) + H)\,T$
couples a neuron with at most K + 1 on either side, K the `local.bandwidth`.

Its rows are those of the slots $(u_0, c_0), (u_1, c_1), \dots, (u_m, c_m)$, two slots a block. The bias is $c_0$;
$u_0$, and $c_0$ where there is no bias, stand for nothing and have the rows of the identity, as has a slot m + 1 that
fills the last block. Nothing here looks up a place that depends on the lane.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .local import pad, plateaus, slice_of, weights_of
from .pairs import Neurons, any_pair_cut, beside, cut_excess, drops, excess, excess_of_itself, neurons, tail

BLOCK = 4
"""Rows of a block."""
ENTRIES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Of two slots: (u, u), (u, c), (c, u), (c, c)."""


class Pairs(NamedTuple):
    """Row o: what slot j has with slot j + o, as in `pairs.Excess`."""

    value: Float[Array, "k n lanes"]
    d_one: Float[Array, "k n lanes"]
    d_other: Float[Array, "k n lanes"]
    d_one_other: Float[Array, "k n lanes"]


class Workspace(NamedTuple):
    """Where a Hessian is put together. What it holds before does not matter."""

    pairs: Pairs
    diagonal: Float[Array, "4 4 n lanes"]
    """One block of each row of blocks."""
    blocks: Float[Array, "n k 4 4 lanes"]
    """As for `solvers.block_banded`."""


class Terms(NamedTuple):
    """Of each slot."""

    weights: Float[Array, "n lanes"]
    slope: Float[Array, "n lanes"]
    """Half of the derivative of the risk by the position, for a unit weight."""
    bend: Float[Array, "n lanes"]
    """Its derivative by the position, where the other neurons are concerned."""
    drop: Float[Array, "n lanes"]
    """Of the mean, to that of the next."""
    d_mean: Float[Array, "n lanes"]


def workspace(m: int, reach: int, lanes: int, dtype: jnp.dtype) -> Workspace:
    """For bandwidths up to `reach`."""
    n, k = m // 2 + 1, width(reach)
    pair = jnp.zeros((2 * k + 3, 2 * n + 1, lanes), dtype)
    return Workspace(
        Pairs(pair, pair, pair, pair),
        jnp.zeros((BLOCK, BLOCK, n, lanes), dtype),
        jnp.zeros((n, k + 1, BLOCK, BLOCK, lanes), dtype),
    )


def width(reach: int | Int[Array, ""]) -> Any:
    """How many blocks are coupled with one on the diagonal: slots up to `reach + 1` apart are."""
    return (reach + 2) // 2


def hessian(
    a: Float[Array, "m lanes"],
    u: Float[Array, "m lanes"],
    bias: Float[Array, " lanes"] | None,
    eta: Float[Array, " #lanes"],
    jumps: Float[Array, "k #lanes"],
    values: Float[Array, "k+1 #lanes"],
    ridge: Float[Array, " #lanes"],
    shift: Float[Array, " #lanes"],
    equal: Bool[Array, "pairs lanes"],
    reach: int | Int[Array, ""],
    space: Workspace,
    *,
    holds_bias: bool = True,
) -> Workspace:
    r"""$T^T (\mathrm{diag}(\rho, s) + H)\,T$ in the first `width(reach) + 1` columns of blocks of the workspace.

    `ridge`, $\rho$, is added for the weights and, where it `holds_bias`, for the bias; `shift`, s, for the positions.
    Where a neuron is `equal` to the next, $(a_j - a_{j+1})^2$ is added to the quadratic form: it costs nothing where
    they move alike, and holds what nothing else holds where they do not.

    `reach` is K or more, and no more than the workspace is made for.
    """
    m = len(a)
    slots = space.pairs.value.shape[1]
    eta, ridge, shift = (beside(x, u) for x in (eta, ridge, shift))
    of, itself = neurons(u, eta), excess_of_itself(u, eta)
    c = plateaus(a, -values[0] if bias is None else bias - values[0])[1:]
    slope = c * of.tail.d_mean + a * itself.d_one
    bend = c * of.tail.dd_mean + a * itself.d_one_one
    for jump, height in zip(jumps, values[1:] - values[:-1], strict=True):
        height = beside(height, u)
        beyond = tail(beside(jump, u), u, eta)
        slope, bend = slope - height * beyond.d_mean, bend - height * beyond.dd_mean
    own = Pairs(itself.value, itself.d_one, itself.d_one, itself.d_one_other)
    pairs = jax.tree.map(lambda table, row: _put(table, _slots(row, slots), 0), space.pairs, own)
    pairs, (slope, bend) = _near(a, u, of, eta, reach, pairs, (slope, bend))
    weights, slope, bend, d_mean = (_slots(x, slots) for x in (a, slope, bend, of.tail.d_mean))
    drop = drops(of.tail, jnp.zeros_like(eta))
    terms = Terms(weights, slope, bend, pad(drop, 0, slots - 1 - m), d_mean)

    tied = _slots(equal.astype(u.dtype), slots)  # at the plateau between the two
    tied, tied_after, tied_before = tied[:-1], tied[1:], pad(tied, 1, 0)[:-2]
    slot = np.arange(slots - 1)[:, None]
    absent_u = (slot == 0) | (slot > m)
    absent_c = absent_u if bias is None else slot > m

    def diagonal():
        uu, uc, _, cc = _coupled(0, pairs, terms)
        uu = uu + (2 * terms.weights * terms.bend)[:-1] + shift
        uc = uc + 2 * (terms.weights * terms.d_mean + terms.slope)[:-1]
        held = np.where((slot == m) | ((slot == 0) & (not holds_bias)), 1.0, 2.0)
        cc = cc + 2 * terms.drop[:-1] + ridge * held + 4 * tied + tied_before + tied_after
        uc = jnp.where(absent_u | absent_c, 0.0, uc)
        return jnp.where(absent_u, 1.0, uu), uc, uc, jnp.where(absent_c, 1.0, cc)

    def off_diagonal(o):
        uu, uc, cu, cc = _coupled(o, pairs, terms)
        cu = cu - jnp.where(o == 1, 2 * terms.slope[1:], 0.0)
        cc = cc - jnp.where(o == 1, ridge + 2 * (tied + tied_after), 0.0) + jnp.where(o == 2, tied_after, 0.0)
        present = slot + o <= m
        present_c = present if bias is not None else present & (slot > 0)
        return tuple(
            jnp.where(which, x, 0.0) for which, x in ((present, uu), (present, uc), (present_c, cu), (present_c, cc))
        )

    def put(blocks, entries, s, t):
        for (p, q), entry in zip(ENTRIES, entries, strict=True):
            blocks = jax.lax.dynamic_update_slice(blocks, entry[None, None, s::2], (2 * s + p, 2 * t + q, 0, 0))
        return blocks

    def keep(blocks, column, k):
        column = jnp.moveaxis(column, 2, 0)[:, None]
        return jax.lax.dynamic_update_slice(blocks, column, (0, k, 0, 0, 0))

    own, next_ = diagonal(), off_diagonal(1)
    column = put(put(put(space.diagonal, own, 0, 0), own, 1, 1), next_, 0, 1)
    uu, uc, cu, cc = (x[:-1] for x in next_)
    below = (jnp.concatenate([jnp.zeros_like(x[:1]), x]) for x in (uu, cu, uc, cc))
    column = put(column, tuple(below), 1, 0)

    def add(k, carry):
        column, blocks = carry
        for s, t in ENTRIES:
            column = put(column, off_diagonal(2 * k + t - s), s, t)
        return column, keep(blocks, column, k)

    column, blocks = lax.fori_loop(1, width(reach) + 1, add, (column, keep(space.blocks, column, 0)))
    return Workspace(pairs, column, blocks)


def to_rows(c: Float[Array, "k lanes"], u: Float[Array, "m lanes"]) -> Float[Array, "n 4 lanes"]:
    """A right side in the rows of `hessian`: as `local.Gradient` has them."""
    m = len(u)
    slots = 2 * (m // 2 + 1)
    c = pad(c, m + 1 - len(c), slots - m - 1)
    return jnp.stack([_slots(u, slots), c], axis=1).reshape(slots // 2, BLOCK, -1)


def from_rows(
    x: Float[Array, "n 4 lanes"], m: int
) -> tuple[Float[Array, " lanes"], Float[Array, "m lanes"], Float[Array, "m lanes"]]:
    """The solution as bias, 0 where there is none, weights and positions."""
    slots = x.reshape(-1, 2, x.shape[-1])[: m + 1]
    return slots[0, 1], weights_of(slots[:, 1]), slots[1:, 0]


def _near(
    a: Float[Array, "m lanes"],
    u: Float[Array, "m lanes"],
    of: Neurons,
    eta: Float[Array, "..."],
    reach: int | Int[Array, ""],
    pairs: Pairs,
    sums: tuple[Float[Array, "m lanes"], Float[Array, "m lanes"]],
) -> tuple[Pairs, tuple[Float[Array, "m lanes"], ...]]:
    """Fills the rows from 1 on, and adds what pairs have to the `sums`, slope and bend."""
    m, last, slots = len(a), pairs.value.shape[0] - 1, pairs.value.shape[1]
    padded_of, padded_u = jax.tree.map(lambda x: pad(x, 0, last), (of, u))
    padded_a = pad(a, 0, last)
    padded_sums = tuple(pad(x, 0, last) for x in sums)
    some_cut = any_pair_cut(u, eta)
    neuron = np.arange(m)[:, None]

    def add(o, carry):
        pairs, sums = carry
        near = excess(of, slice_of(padded_of, o, m), eta)

        def at_edges(near):
            def at(edge, near):
                both_cut = cut_excess(u, slice_of(padded_u, o, m), eta, edge.astype(u.dtype))
                return jax.tree.map(jnp.add, near, both_cut)

            return lax.fori_loop(0, 2, at, near)

        near = lax.cond(some_cut, at_edges, lambda near: near, near)
        near = jax.tree.map(lambda x: jnp.where(neuron + o < m, x, 0.0), near)
        other = slice_of(padded_a, o, m)
        added = []
        for total, of_one, of_other in zip(
            sums, (near.d_one, near.d_one_one), (near.d_other, near.d_other_other), strict=True
        ):
            total = _plus(total, other * of_one, 0)
            added.append(_plus(total, a * of_other, o))
        row = Pairs(near.value, near.d_one, near.d_other, near.d_one_other)
        return jax.tree.map(lambda table, x: _put(table, _slots(x, slots), o), pairs, row), tuple(added)

    def clear(o, pairs):
        return jax.tree.map(lambda table: _put(table, jnp.zeros_like(table[0]), o), pairs)

    pairs, padded_sums = lax.fori_loop(1, reach + 1, add, (pairs, padded_sums))
    pairs = lax.fori_loop(reach + 1, 2 * width(reach) + 3, clear, pairs)
    return pairs, tuple(x[:m] for x in padded_sums)


def _coupled(o: int | Int[Array, ""], pairs: Pairs, terms: Terms) -> tuple[Float[Array, "n lanes"], ...]:
    """Of slot j with slot j + o, what all pairs have: the `ENTRIES`."""

    def row(o):
        return jax.tree.map(lambda table: lax.dynamic_index_in_dim(table, o, 0, keepdims=False), pairs)

    here, after = row(o), row(o + 1)
    slots = len(terms.weights)
    if isinstance(o, int) and o == 0:
        crossed, d_other_crossed = after.value[:-1], here.d_other[1:]
    else:
        before = row(o - 1)
        crossed, d_other_crossed = before.value[1:], before.d_other[1:]
    one, other = terms.weights[:-1], slice_of(pad(terms.weights, 0, len(pairs.value)), o, slots - 1)
    return (
        2 * one * other * here.d_one_other[:-1],
        2 * one * (here.d_one - after.d_one)[:-1],
        2 * other * (here.d_other[:-1] - d_other_crossed),
        2 * (here.value[:-1] + here.value[1:] - after.value[:-1] - crossed),
    )


def _slots(x: Float[Array, "m lanes"], slots: int) -> Float[Array, "n lanes"]:
    """From slot 0, which has no neuron, on."""
    return pad(x, 1, slots - 1 - len(x))


def _put(table: Float[Array, "k n lanes"], row: Float[Array, "n lanes"], o: int | Int[Array, ""]) -> Array:
    return lax.dynamic_update_slice_in_dim(table, row[None], o, 0)


def _plus(x: Float[Array, "n lanes"], part: Float[Array, "m lanes"], o: int | Int[Array, ""]) -> Array:
    """Adds `part` from row o on."""
    return lax.dynamic_update_slice_in_dim(x, slice_of(x, o, len(part)) + part, o, 0)
