r"""The gradient flow of smooth steps on a piecewise constant target, neuron by neuron along [0, 1], for many runs.

In slow time $b' = -\partial_b R/\epsilon$, $a' = -\nabla_a R/\epsilon$, $u' = -\nabla_u R$. A state has the rows bias
(where there is one), weights, positions, in the order of the positions.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num
from typing_extensions import override

from ..._platform import platform
from ...exact import band, local
from ...solvers import block_banded
from ...solvers.ensemble import AbstractSideBySide, Control

WIDTH = 16
"""Runs side by side on a CPU: as many as fill its vectors and fit its first caches."""
FEW = 64
"""So many neurons may be near one on either side before memory for all of them is used."""


class Setting(NamedTuple):
    """Of each run, along the last axis."""

    epsilon: Float[Array, " lanes"]
    eta: Float[Array, " lanes"]
    jumps: Float[Array, "k lanes"]
    values: Float[Array, "k+1 lanes"]


class _Space(NamedTuple):
    width: Int[Array, ""]
    equal: Bool[Array, "pairs lanes"]
    """Whether a neuron and the next have the same position and the same weight."""
    matrix: band.Workspace


class LocalFlow(AbstractSideBySide):
    """The flow of `neurons` neurons, of which up to `reach` on either side of one may be near it."""

    neurons: int = eqx.field(static=True)
    has_bias: bool = eqx.field(static=True)
    reach: int = eqx.field(static=True)

    @override
    def velocity(self, y: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        bias, a, u = self._split(y)
        found = local.gradient(a, u, bias, args.eta, args.jumps, args.values, local.bandwidth(u, args.eta))
        return -self._join(
            None if found.d_bias is None else found.d_bias / args.epsilon, found.d_a / args.epsilon[None], found.d_u
        )

    @override
    def workspace(self, y: Float[Array, "n lanes"]) -> _Space:
        m, lanes = self.neurons, y.shape[1]
        equal = jnp.zeros((m - 1, lanes), bool)
        return _Space(jnp.zeros((), int), equal, band.workspace(m, self.reach, lanes, y.dtype))

    @override
    def factor(self, y: Float[Array, "n lanes"], args: Setting, shift: Float[Array, " lanes"], space: _Space) -> _Space:
        bias, a, u = self._split(y)
        reach = local.bandwidth(u, args.eta)
        matrix = band.hessian(a, u, bias, args.eta, args.jumps, args.values, shift, args.epsilon, reach, space.matrix)
        width = band.width(reach)
        equal = (u[1:] == u[:-1]) & (a[1:] == a[:-1])
        return _Space(width, equal, matrix._replace(blocks=block_banded.factor(matrix.blocks, width)))

    @override
    def solve(self, factors: _Space, args: Setting, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        bias, a, u = self._split(r)
        rows = band.to_rows(None if bias is None else args.epsilon * bias, args.epsilon[None] * a, u)
        rows = block_banded.solve(factors.matrix.blocks, factors.width, rows)
        bias, a, u = band.from_rows(rows, self.neurons)
        x = self._join(bias if self.has_bias else None, a, u)
        return jax.lax.cond(jnp.any(factors.equal), self._equalised, lambda _, x: x, factors.equal, x)

    @override
    def suits(self, y: Float[Array, "n lanes"], args: Setting) -> Bool[Array, ""]:
        _, _, u = self._split(y)
        return local.bandwidth(u, args.eta) <= self.reach

    @override
    def measured(
        self, error: Float[Array, "n lanes"], y: Float[Array, "n lanes"], args: Setting
    ) -> Float[Array, "n lanes"]:
        """Neurons closer than eta have weights that hardly matter but for their sum: the error of a weight counts as
        far as the next neuron is away, and the rest of it with that of the next."""
        bias, e_a, e_u = self._split(error)
        _, _, u = self._split(y)
        share = jnp.clip((u[1:] - u[:-1]) / args.eta[None], 0.0, 1.0)
        share = jnp.concatenate([share, jnp.ones_like(u[:1])])

        def pass_on(rest, row):
            error, share = row
            return (1 - share) * (error + rest), share * (error + rest)

        return self._join(bias, jax.lax.scan(pass_on, jnp.zeros_like(u[0]), (e_a, share))[1], e_u)

    @override
    def order(self, y: Float[Array, "n lanes"]) -> Int[Array, "n lanes"]:
        """By position, and by weight where positions agree."""
        _, a, u = self._split(y)
        neuron = jax.lax.broadcasted_iota(int, u.shape, 0)
        order, first = jax.lax.sort((u, a, neuron), dimension=0, num_keys=2)[2], int(self.has_bias)
        return jnp.concatenate([jnp.zeros_like(order[:first]), first + order, first + self.neurons + order])

    @override
    def restored(
        self, y: Float[Array, "n lanes"], row: Int[Array, "n lanes"]
    ) -> tuple[Float[Array, "n lanes"], Int[Array, "n lanes"]]:
        return jax.lax.while_loop(lambda carry: jnp.any(self._out_of_order(carry[0])), self._exchanged, (y, row))

    def _equalised(self, equal: Bool[Array, "pairs lanes"], x: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        """Equal neurons move alike: rounding would part what only a saddle holds together."""
        bias, a, u = self._split(x)
        none = jnp.zeros_like(equal[:1])

        def add(so_far, row):
            more, value = row
            so_far = tuple(jnp.where(more, x, 0.0) + new for x, new in zip(so_far, (*value, 1.0), strict=True))
            return so_far, so_far

        def mean(of_next, row):
            more, (a, u, count) = row
            found = tuple(jnp.where(more, x, total / count) for x, total in zip(of_next, (a, u), strict=True))
            return found, found

        zero = jnp.zeros_like(u[0])
        _, sums = jax.lax.scan(add, (zero, zero, zero), (jnp.concatenate([none, equal]), (a, u)))
        _, (a, u) = jax.lax.scan(mean, (zero, zero), (jnp.concatenate([equal, none]), sums), reverse=True)
        return self._join(bias, a, u)

    def _out_of_order(self, y: Float[Array, "n lanes"]) -> Bool[Array, "pairs lanes"]:
        _, _, u = self._split(y)
        return u[1:] < u[:-1]

    def _exchanged(
        self, carry: tuple[Float[Array, "n lanes"], Int[Array, "n lanes"]]
    ) -> tuple[Float[Array, "n lanes"], Int[Array, "n lanes"]]:
        """Neighbours out of order change places, but for those whose left one changes with the one before."""
        swap = self._out_of_order(carry[0])
        none = jnp.zeros_like(swap[:1])
        swap = swap & ~jnp.concatenate([none, swap[:-1]])
        with_next, with_previous = jnp.concatenate([swap, none]), jnp.concatenate([none, swap])

        def exchanged(x):
            following, preceding = jnp.concatenate([x[1:], x[-1:]]), jnp.concatenate([x[:1], x[:-1]])
            return jnp.where(with_next, following, jnp.where(with_previous, preceding, x))

        def both(x):
            bias, a, u = self._split(x)
            return self._join(bias, exchanged(a), exchanged(u))

        y, row = carry
        return both(y), both(row)

    def _split(self, y: Num[Array, "n lanes"]) -> tuple[Num[Array, " lanes"] | None, Array, Array]:
        first, m = int(self.has_bias), self.neurons
        return y[0] if self.has_bias else None, y[first : first + m], y[first + m :]

    def _join(self, bias: Num[Array, " lanes"] | None, a: Array, u: Array) -> Num[Array, "n lanes"]:
        return jnp.concatenate([a, u] if bias is None else [bias[None], a, u])


class Arguments(NamedTuple):
    """Of `solvers.ensemble.solve`."""

    equations: list[LocalFlow]
    y0: Float[Array, "n runs"]
    args: Setting
    times: Float[Array, "t runs"]
    first_step: Float[Array, " runs"]
    control: Control
    max_steps: int
    width: int


def arguments(
    y0: Float[Array, "n #lanes"],
    setting: Setting,
    slow_times: Float[Array, "t #lanes"],
    tolerances: tuple[Float[Array, " #lanes"], Float[Array, " #lanes"]],
    max_steps: int,
) -> Arguments:
    """For all runs, a few at a time; what they agree on has one lane."""
    leaves = y0, *setting, slow_times, *tolerances
    runs = max(leaf.shape[-1] for leaf in leaves)
    n = len(y0)
    neurons = n // 2

    def spread(leaf):
        return jnp.broadcast_to(leaf, (*leaf.shape[:-1], runs))

    reaches = [reach for reach in (FEW,) if reach < neurons - 1] + [neurons - 1]
    return Arguments(
        [LocalFlow(neurons, n % 2 == 1, reach) for reach in reaches],
        spread(y0),
        setting,
        spread(slow_times),
        spread(1e-2 * setting.epsilon),
        Control(*tolerances),
        max_steps,
        WIDTH if platform() == "cpu" else runs,
    )
