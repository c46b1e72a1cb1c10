r"""The gradient flow of smooth steps on a piecewise constant target, neuron by neuron along [0, 1], for many runs.

In slow time $\epsilon b' = -\partial_b P$, $\epsilon a' = -\nabla_a P$, $u' = -\nabla_u P$ with
$P = R + \rho\,(b^2 + |a|^2)$. A state has the rows bias (where there is one), weights, positions, in the order of the
positions. For $\epsilon = 0$ the weights are at their optimum: `fitted`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num
from typing_extensions import override

from ..._kernel import one_kernel, total
from ..._platform import platform
from ...exact import band, curvature, local
from ...exact.local import pad
from ...solvers import block_banded
from ...solvers.ensemble import Control
from ...solvers.ensemble_adjoint import AbstractReversible, Stages

WIDTH = 16
"""Runs side by side on a CPU: as many as fill its vectors and fit its first caches."""
FEW = 64
"""So many neurons may be near one on either side before memory for all of them is used."""
HELD = 1e36
"""A shift under which positions do not move."""
REFINEMENTS = 4
"""Solves for the weights at their optimum, each with what the ones before have left."""


class Setting(NamedTuple):
    """Of each run, along the last axis."""

    epsilon: Float[Array, " lanes"]
    ridge: Float[Array, " lanes"] | None
    """None where there is none, as of the flow."""
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
        bias, a, u = self._split(y)
        found = local.gradient(a, u, bias, args.eta, args.jumps, args.values, local.bandwidth(u, args.eta))
        d_c = found.d_c
        if args.ridge is not None:
            d_c = d_c + 2 * self._rounded(args.ridge, u, args.eta)[None] * local.by_plateaus(a, bias)
        return -jnp.concatenate([d_c, found.d_u])

    def _rounded(
        self, ridge: Float[Array, " #lanes"], u: Float[Array, "m lanes"], eta: Float[Array, " #lanes"]
    ) -> Float[Array, " lanes"]:
        """With units of rounding added: more where two neurons merge, and a thousand times as many where three do. They
        are too small for their derivatives to count."""
        close = jax.lax.stop_gradient(_closeness(u, eta))
        two = jnp.max(close, axis=0, initial=0.0) ** 8
        three = jnp.max(close[:-1] * close[1:], axis=0, initial=0.0) ** 8
        return ridge + jnp.finfo(u.dtype).eps * (2 + eta * (500 * two + 1e6 * three))

    @override
    def mass(self, x: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        bias, a, u = self._split(x)
        return jnp.concatenate([args.epsilon[None] * local.by_plateaus(a, bias), u])

    @override
    def workspace(self, y: Float[Array, "n lanes"]) -> _Space:
        m, lanes = self.neurons, y.shape[1]
        equal = jnp.zeros((m - 1, lanes), bool)
        return _Space(jnp.zeros((), int), equal, band.workspace(m, self.reach, lanes, y.dtype))

    @override
    def factor(self, y: Float[Array, "n lanes"], args: Setting, shift: Float[Array, " lanes"], space: _Space) -> _Space:
        bias, a, u = self._split(y)
        reach = local.bandwidth(u, args.eta)
        ridge = args.epsilon * shift
        if args.ridge is not None:
            ridge = ridge + 2 * self._rounded(args.ridge, u, args.eta)
        equal = (u[1:] == u[:-1]) & (a[1:] == a[:-1])
        matrix = band.hessian(a, u, bias, args.eta, args.jumps, args.values, ridge, shift, equal, reach, space.matrix)
        width = band.width(reach)
        return _Space(width, equal, matrix._replace(blocks=block_banded.factor(matrix.blocks, width)))

    @override
    def solve(self, factors: _Space, args: Setting, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        return self._equal(factors, self._solve(factors, r))

    def _solve(self, factors: _Space, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        c, u = r[: -self.neurons], r[-self.neurons :]
        rows = block_banded.solve(factors.matrix.blocks, factors.width, band.to_rows(c, u))
        bias, a, u = band.from_rows(rows, self.neurons)
        return self._join(bias if self.has_bias else None, a, u)

    def _scaled(self, y: Float[Array, "n lanes"], factor: Float[Array, " #lanes"]) -> Float[Array, "n lanes"]:
        """Bias and weights times a factor."""
        bias, a, u = self._split(y)
        return self._join(None if bias is None else factor * bias, factor[None] * a, u)

    def _equal(self, factors: _Space, x: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        return jax.lax.cond(jnp.any(factors.equal), self._equalised, lambda _, x: x, factors.equal, x)

    @override
    def solve_transposed(self, factors: _Space, args: Setting, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        bias, a, u = self._split(self._equal(factors, r))
        return self._scaled(self._solve(factors, jnp.concatenate([local.by_plateaus(a, bias), u])), args.epsilon)

    @override
    def pull(self, y: Float[Array, "n lanes"], args: Setting, v: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        # The Hessian is symmetric.
        _, found = jax.jvp(lambda y: self.velocity(y, args), (y,), (self._scaled(v, 1 / args.epsilon),))
        return self._by_weights(found)

    def _by_weights(self, d: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
        """A derivative by bias, weights and positions from that by plateaus and positions."""
        c, u = d[: -self.neurons], d[-self.neurons :]
        return jnp.concatenate([local.cumulate(c, reverse=True), u])

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
        by_setting = Setting(d_epsilon, None, by.eta, by.jumps, by.values)
        if any((wanted.eta, wanted.jumps, wanted.values)):
            by_setting = jax.tree.map(jnp.add, by_setting, self._by_setting(args, stages.points, w, wanted.eta))
        return -self._join(by.bias if self.has_bias else None, by.a, by.u), jax.tree.map(jnp.negative, by_setting)

    def _by_setting(
        self, args: Setting, points: Float[Array, "8 n lanes"], w: Float[Array, "8 n lanes"], wants_eta: bool
    ) -> Setting:
        r"""The gradient of $\sum_i w_i^T \nabla R(p_i)$, but for epsilon, and for eta where it is not wanted."""
        lanes = points.shape[::2]
        of_risk = args.eta, args.jumps, args.values
        eta, jumps, values = (jnp.broadcast_to(leaf[..., None, :], (*leaf.shape[:-1], *lanes)) for leaf in of_risk)
        (bias, a, u), (w_bias, w_a, w_u) = (self._split(jnp.moveaxis(x, 1, 0)) for x in (points, w))
        d_eta = jnp.zeros_like(eta)
        if wants_eta:
            reach = local.bandwidth(u, eta)
            _, moved = jax.jvp(
                lambda eta: local.gradient(a, u, bias, eta, jumps, values, reach), (eta,), (jnp.ones_like(eta),)
            )
            d_eta = total(local.plateaus(w_a, w_bias)[-len(moved.d_c) :] * moved.d_c) + total(w_u * moved.d_u)
        w_bias = jnp.zeros_like(eta) if w_bias is None else w_bias
        by_target = curvature.by_target(u, eta, jumps, values, w_a, a * w_u, jnp.zeros_like(u), w_bias)
        d_eta, d_jumps, d_values = (total(jnp.moveaxis(x, -2, 0)) for x in (d_eta, *by_target))
        return Setting(jnp.zeros_like(d_eta), None, d_eta, d_jumps, d_values)

    @override
    def suits(self, y: Float[Array, "n lanes"], args: Setting) -> Bool[Array, ""]:
        _, _, u = self._split(y)
        return local.bandwidth(u, args.eta) <= self.reach

    @override
    def measured(
        self, error: Float[Array, "n lanes"], y: Float[Array, "n lanes"], args: Setting
    ) -> Float[Array, "n lanes"]:
        """Neurons closer than eta have weights that hardly matter but for their sum: a weight counts as far as the next
        neuron is away, and the rest of it with that of the next. Of three, what is left of the first two once more.
        Nor does an error of a weight matter that those of the positions make up for."""

        def counted(a, u):
            passed = _closeness(u, args.eta)
            return _pass_on(_pass_on(a, passed), passed[:-1] * passed[1:])

        (_, a, u), (bias, e_a, e_u) = self._split(y), self._split(error)
        of_weights, of_both = counted(e_a, u), jax.jvp(counted, (a, u), (e_a, e_u))[1]
        return self._join(bias, jnp.where(jnp.abs(of_both) < jnp.abs(of_weights), of_both, of_weights), e_u)

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

    def fitted(self, u: Float[Array, "m lanes"], args: Setting) -> Float[Array, "n lanes"]:
        """The state with these positions, in order, and the bias and the weights that minimise P."""
        y = self._join(jnp.zeros_like(u[0]) if self.has_bias else None, jnp.zeros_like(u), u)
        held = args._replace(epsilon=jnp.zeros_like(args.epsilon))
        factors = self.factor(y, held, jnp.full_like(u[0], HELD), self.workspace(y))

        def refine(_, y):
            return y + self.solve(factors, held, self.velocity(y, held))

        return jax.lax.fori_loop(0, REFINEMENTS, refine, y)


def _closeness(u: Float[Array, "m lanes"], eta: Float[Array, " #lanes"]) -> Float[Array, "k lanes"]:
    """Of each neuron and the next, from 0 where they are eta apart to 1."""
    return 1 - jnp.clip((u[1:] - u[:-1]) / eta[None], 0.0, 1.0)


def _pass_on(a: Float[Array, "m lanes"], shares: Float[Array, "k lanes"]) -> Float[Array, "m lanes"]:
    """Each entry keeps what it does not pass on of itself and of what it has been given."""

    def one(given, row):
        entry, share = row
        return share * (entry + given), (1 - share) * (entry + given)

    return jax.lax.scan(one, jnp.zeros_like(a[0]), (a, pad(shares, 0, len(a) - len(shares))))[1]


def fitted(u: Float[Array, "m runs"], has_bias: bool, setting: Setting) -> Float[Array, "n runs"]:
    """`LocalFlow.fitted` for positions in any order, a few runs at a time."""
    neurons, runs = u.shape
    setting = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*leaf.shape[:-1], runs)), setting)
    order = jnp.argsort(u, axis=0)
    flows = [LocalFlow(neurons, has_bias, reach) for reach in _reaches(neurons)]
    width = _width(runs)

    def all_of(flow):
        def fit(u, setting):
            def some(i, found):
                first = jnp.minimum(i * width, runs - width)
                here = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, width, x.ndim - 1), (u, setting))
                return jax.lax.dynamic_update_slice_in_dim(found, flow.fitted(*here), first, 1)

            return jax.lax.fori_loop(0, -(-runs // width), some, jnp.zeros((2 * neurons + has_bias, runs), u.dtype))

        return one_kernel(fit)

    in_order = jnp.take_along_axis(u, order, axis=0)
    fits = [all_of(flow) for flow in flows]
    which = jnp.where(local.bandwidth(in_order, setting.eta) <= flows[0].reach, 0, len(fits) - 1)
    y = jax.lax.switch(which, fits, in_order, setting)
    bias, a, _ = flows[0]._split(y)
    return flows[0]._join(bias, jnp.take_along_axis(a, jnp.argsort(order, axis=0), axis=0), u)


def _reaches(neurons: int) -> list[int]:
    return [reach for reach in (FEW,) if reach < neurons - 1] + [neurons - 1]


def _width(runs: int) -> int:
    return min(WIDTH, runs) if platform() == "cpu" else runs


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
    first_step: Float[Array, " #lanes"],
    tolerances: tuple[Float[Array, " #lanes"], Float[Array, " #lanes"]],
    max_steps: int,
) -> Arguments:
    """For all runs, a few at a time; what they agree on has one lane."""
    leaves = jax.tree.leaves((y0, setting, slow_times, first_step, tolerances))
    runs = max(leaf.shape[-1] for leaf in leaves)
    n = len(y0)
    neurons = n // 2

    def spread(leaf):
        return jnp.broadcast_to(leaf, (*leaf.shape[:-1], runs))

    return Arguments(
        [LocalFlow(neurons, n % 2 == 1, reach) for reach in _reaches(neurons)],
        spread(y0),
        setting,
        spread(slow_times),
        spread(first_step),
        Control(*tolerances),
        max_steps,
        _width(runs),
    )


def velocity(y: Float[Array, " n"], setting: Setting) -> Float[Array, " n"]:
    """Of one run in any order of its neurons."""
    flow = LocalFlow(len(y) // 2, len(y) % 2 == 1, len(y) // 2 - 1)
    y = y[:, None]
    order = flow.order(y)
    setting = jax.tree.map(lambda leaf: leaf[..., None], setting)
    d = flow._by_weights(flow.velocity(jnp.take_along_axis(y, order, axis=0), setting))
    found = flow._scaled(d, 1 / setting.epsilon)
    return jnp.take_along_axis(found, jnp.argsort(order, axis=0), axis=0)[:, 0]
