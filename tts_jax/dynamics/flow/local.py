r"""The gradient flow of smooth steps on a piecewise constant target, neuron by neuron along [0, 1], for many runs.

In slow time $b' = -\partial_b R/\epsilon$, $a' = -\nabla_a R/\epsilon$, $u' = -\nabla_u R$. A state has the rows bias
(where there is one), weights, positions, in the order of the positions.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num
from typing_extensions import override

from ..._kernel import total
from ..._platform import platform
from ...exact import band, curvature, local
from ...solvers import block_banded
from ...solvers.ensemble import Control
from ...solvers.ensemble_adjoint import AbstractReversible, Stages

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


class LocalFlow(AbstractReversible):
    """The flow of `neurons` neurons, of which up to `reach` on either side of one may be near it."""

    neurons: int = eqx.field(static=True)
    has_bias: bool = eqx.field(static=True)
    reach: int = eqx.field(static=True)

    @override
    def velocity(self, y: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        return -self._scaled(self._gradient(y, args), 1 / args.epsilon)

    def _gradient(self, y: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        """Of the risk."""
        bias, a, u = self._split(y)
        found = local.gradient(a, u, bias, args.eta, args.jumps, args.values, local.bandwidth(u, args.eta))
        return self._join(*found)

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
        return self._equal(factors, self._symmetric_solve(factors, self._scaled(r, args.epsilon)))

    @override
    def solve_transposed(self, factors: _Space, args: Setting, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        return self._scaled(self._symmetric_solve(factors, self._equal(factors, r)), args.epsilon)

    def _symmetric_solve(self, factors: _Space, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        rows = block_banded.solve(factors.matrix.blocks, factors.width, band.to_rows(*self._split(r)))
        bias, a, u = band.from_rows(rows, self.neurons)
        return self._join(bias if self.has_bias else None, a, u)

    def _scaled(self, y: Float[Array, "n lanes"], factor: Float[Array, " #lanes"]) -> Float[Array, "n lanes"]:
        """Bias and weights times a factor."""
        bias, a, u = self._split(y)
        return self._join(None if bias is None else factor * bias, factor[None] * a, u)

    def _equal(self, factors: _Space, x: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        return jax.lax.cond(jnp.any(factors.equal), self._equalised, lambda _, x: x, factors.equal, x)

    @override
    def pull(self, y: Float[Array, "n lanes"], args: Setting, v: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        # The Hessian is symmetric.
        _, found = jax.jvp(lambda y: self._gradient(y, args), (y,), (self._scaled(v, 1 / args.epsilon),))
        return -found

    @override
    def pull_rates(
        self, y: Float[Array, "n lanes"], args: Setting, stages: Stages, wanted: Any
    ) -> tuple[Float[Array, "n lanes"], Setting]:
        bias, a, u = self._split(y)
        reach = local.bandwidth(u, args.eta)
        w = jax.vmap(self._scaled, (0, None))(stages.v, 1 / args.epsilon)
        directions = (curvature.Directions(*self._split(jnp.moveaxis(x, 1, 0))) for x in (w, stages.u))
        by = curvature.slopes(a, u, bias, args.eta, args.jumps, args.values, reach, *directions)
        d_epsilon = total(total((stages.v * stages.rates)[:, : -self.neurons])) / args.epsilon
        by_setting = Setting(d_epsilon, by.eta, by.jumps, by.values)
        if any((wanted.eta, wanted.jumps, wanted.values)):
            by_setting = jax.tree.map(jnp.add, by_setting, self._by_setting(args, stages.points, w, wanted.eta))
        return -self._join(by.bias if self.has_bias else None, by.a, by.u), jax.tree.map(jnp.negative, by_setting)

    def _by_setting(
        self, args: Setting, points: Float[Array, "8 n lanes"], w: Float[Array, "8 n lanes"], wants_eta: bool
    ) -> Setting:
        r"""The gradient of $\sum_i w_i^T \nabla R(p_i)$, but for epsilon, and for eta where it is not wanted."""
        lanes = points.shape[::2]
        eta, jumps, values = (jnp.broadcast_to(leaf[..., None, :], (*leaf.shape[:-1], *lanes)) for leaf in args[1:])
        (bias, a, u), (w_bias, w_a, w_u) = (self._split(jnp.moveaxis(x, 1, 0)) for x in (points, w))
        d_eta = jnp.zeros_like(eta)
        if wants_eta:
            reach = local.bandwidth(u, eta)
            _, moved = jax.jvp(
                lambda eta: local.gradient(a, u, bias, eta, jumps, values, reach), (eta,), (jnp.ones_like(eta),)
            )
            d_eta = total(w_a * moved.d_a + w_u * moved.d_u)
            d_eta = d_eta if w_bias is None else d_eta + w_bias * moved.d_bias
        w_bias = jnp.zeros_like(eta) if w_bias is None else w_bias
        by_target = curvature.by_target(u, eta, jumps, values, w_a, a * w_u, jnp.zeros_like(u), w_bias)
        d_eta, d_jumps, d_values = (total(jnp.moveaxis(x, -2, 0)) for x in (d_eta, *by_target))
        return Setting(jnp.zeros_like(d_eta), d_eta, d_jumps, d_values)

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

    def _split(self, y: Num[Array, "n *lanes"]) -> tuple[Num[Array, "*lanes"] | None, Array, Array]:
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


def velocity(y: Float[Array, " n"], setting: Setting) -> Float[Array, " n"]:
    """Of one run in any order of its neurons."""
    flow = LocalFlow(len(y) // 2, len(y) % 2 == 1, len(y) // 2 - 1)
    y = y[:, None]
    order = flow.order(y)
    setting = jax.tree.map(lambda leaf: leaf[..., None], setting)
    found = flow.velocity(jnp.take_along_axis(y, order, axis=0), setting)
    return jnp.take_along_axis(found, jnp.argsort(order, axis=0), axis=0)[:, 0]
