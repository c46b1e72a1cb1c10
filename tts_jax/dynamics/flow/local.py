r"""The gradient flow of smooth steps on a piecewise constant target, neuron by neuron along [0, 1], for many runs.

In slow time $\epsilon b' = -\partial_b P$, $\epsilon a' = -\nabla_a P$, $u' = -\nabla_u P$ with
$P = R + \rho\,(b^2 + |a|^2)$. A state has the rows bias (where there is one), weights, positions, in the order of the
positions. For $\epsilon = 0$ the weights are at their optimum: `fitted`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import override

from ..._kernel import one_kernel, total
from ...exact import band, curvature, local
from ...solvers import block_banded
from ...solvers.ensemble_adjoint import AbstractReversible, Stages
from .neurons import AbstractNeurons, Setting, at_once, closeness, reaches

HELD = 1e36
"""A shift under which positions do not move."""
REFINEMENTS = 4
"""Solves for the weights at their optimum, each with what the ones before have left."""


class _Space(NamedTuple):
    width: Int[Array, ""]
    equal: Bool[Array, "pairs lanes"]
    """Whether a neuron and the next have the same position and the same weight."""
    matrix: band.Workspace


class LocalFlow(AbstractNeurons, AbstractReversible):
    """The flow of neurons of one input."""

    neurons: int = eqx.field(static=True)
    coordinates: int = eqx.field(static=True, init=False, default=1)
    has_bias: bool = eqx.field(static=True)
    reach: int = eqx.field(static=True)

    @override
    def velocity(self, y: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        bias, a, u = self.split(y)
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
        close = jax.lax.stop_gradient(closeness(u, eta))
        two = jnp.max(close, axis=0, initial=0.0) ** 8
        three = jnp.max(close[:-1] * close[1:], axis=0, initial=0.0) ** 8
        return ridge + jnp.finfo(u.dtype).eps * (2 + eta * (500 * two + 1e6 * three))

    @override
    def mass(self, x: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        bias, a, u = self.split(x)
        return jnp.concatenate([args.epsilon[None] * local.by_plateaus(a, bias), u])

    @override
    def workspace(self, y: Float[Array, "n lanes"]) -> _Space:
        m, lanes = self.neurons, y.shape[1]
        equal = jnp.zeros((m - 1, lanes), bool)
        return _Space(jnp.zeros((), int), equal, band.workspace(m, self.reach, lanes, y.dtype))

    @override
    def factor(self, y: Float[Array, "n lanes"], args: Setting, shift: Float[Array, " lanes"], space: _Space) -> _Space:
        bias, a, u = self.split(y)
        reach = local.bandwidth(u, args.eta)
        ridge = args.epsilon * shift
        if args.ridge is not None:
            ridge = ridge + 2 * self._rounded(args.ridge, u, args.eta)
        equal = self.equal(y)
        matrix = band.hessian(a, u, bias, args.eta, args.jumps, args.values, ridge, shift, equal, reach, space.matrix)
        width = band.width(reach)
        return _Space(width, equal, matrix._replace(blocks=block_banded.factor(matrix.blocks, width)))

    @override
    def solve(self, factors: _Space, args: Setting, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        return self.equalised(factors.equal, self._solve(factors, r))

    def _solve(self, factors: _Space, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        c, u = r[: -self.neurons], r[-self.neurons :]
        rows = block_banded.solve(factors.matrix.blocks, factors.width, band.to_rows(c, u))
        bias, a, u = band.from_rows(rows, self.neurons)
        return self.join(bias if self.has_bias else None, a, u)

    def scaled(self, y: Float[Array, "n lanes"], factor: Float[Array, " #lanes"]) -> Float[Array, "n lanes"]:
        """Bias and weights times a factor."""
        bias, a, u = self.split(y)
        return self.join(None if bias is None else factor * bias, factor[None] * a, u)

    @override
    def solve_transposed(self, factors: _Space, args: Setting, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        bias, a, u = self.split(self.equalised(factors.equal, r))
        return self.scaled(self._solve(factors, jnp.concatenate([local.by_plateaus(a, bias), u])), args.epsilon)

    @override
    def pull(self, y: Float[Array, "n lanes"], args: Setting, v: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        # The Hessian is symmetric.
        _, found = jax.jvp(lambda y: self.velocity(y, args), (y,), (self.scaled(v, 1 / args.epsilon),))
        return self.by_weights(found)

    def by_weights(self, d: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
        """A derivative by bias, weights and positions from that by plateaus and positions."""
        c, u = d[: -self.neurons], d[-self.neurons :]
        return jnp.concatenate([local.cumulate(c, reverse=True), u])

    @override
    def pull_rates(
        self, y: Float[Array, "n lanes"], args: Setting, stages: Stages, wanted: Any
    ) -> tuple[Float[Array, "n lanes"], Setting]:
        bias, a, u = self.split(y)
        reach = local.bandwidth(u, args.eta)
        w = jax.vmap(self.scaled, (0, None))(stages.v, 1 / args.epsilon)
        directions = (curvature.Directions(*self.split(jnp.moveaxis(x, 1, 0))) for x in (w, stages.u))
        by = curvature.slopes(a, u, bias, args.eta, args.jumps, args.values, reach, *directions)
        d_epsilon = total(total((stages.v * stages.rates)[:, : -self.neurons])) / args.epsilon
        by_setting = Setting(d_epsilon, None, by.eta, by.jumps, by.values)
        if any((wanted.eta, wanted.jumps, wanted.values)):
            by_setting = jax.tree.map(jnp.add, by_setting, self._by_setting(args, stages.points, w, wanted.eta))
        return -self.join(by.bias if self.has_bias else None, by.a, by.u), jax.tree.map(jnp.negative, by_setting)

    def _by_setting(
        self, args: Setting, points: Float[Array, "8 n lanes"], w: Float[Array, "8 n lanes"], wants_eta: bool
    ) -> Setting:
        r"""The gradient of $\sum_i w_i^T \nabla R(p_i)$, but for epsilon, and for eta where it is not wanted."""
        lanes = points.shape[::2]
        of_risk = args.eta, args.jumps, args.values
        eta, jumps, values = (jnp.broadcast_to(leaf[..., None, :], (*leaf.shape[:-1], *lanes)) for leaf in of_risk)
        (bias, a, u), (w_bias, w_a, w_u) = (self.split(jnp.moveaxis(x, 1, 0)) for x in (points, w))
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

    def fitted(self, u: Float[Array, "m lanes"], args: Setting) -> Float[Array, "n lanes"]:
        """The state with these positions, in order, and the bias and the weights that minimise P."""
        y = self.join(jnp.zeros_like(u[0]) if self.has_bias else None, jnp.zeros_like(u), u)
        held = args._replace(epsilon=jnp.zeros_like(args.epsilon))
        factors = self.factor(y, held, jnp.full_like(u[0], HELD), self.workspace(y))

        def refine(_, y):
            return y + self.solve(factors, held, self.velocity(y, held))

        return jax.lax.fori_loop(0, REFINEMENTS, refine, y)


def fitted(u: Float[Array, "m runs"], has_bias: bool, setting: Setting) -> Float[Array, "n runs"]:
    """`LocalFlow.fitted` for positions in any order, a few runs at a time."""
    neurons, runs = u.shape
    setting = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*leaf.shape[:-1], runs)), setting)
    order = jnp.argsort(u, axis=0)
    flows = [LocalFlow(neurons, has_bias, reach) for reach in reaches(neurons)]
    width = at_once(runs)

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
    bias, a, _ = flows[0].split(y)
    return flows[0].join(bias, jnp.take_along_axis(a, jnp.argsort(order, axis=0), axis=0), u)


def velocity(y: Float[Array, " n"], setting: Setting) -> Float[Array, " n"]:
    """Of one run in any order of its neurons."""
    flow = LocalFlow(len(y) // 2, len(y) % 2 == 1, len(y) // 2 - 1)
    y = y[:, None]
    order = flow.order(y)
    setting = jax.tree.map(lambda leaf: leaf[..., None], setting)
    d = flow.by_weights(flow.velocity(jnp.take_along_axis(y, order, axis=0), setting))
    found = flow.scaled(d, 1 / setting.epsilon)
    return jnp.take_along_axis(found, jnp.argsort(order, axis=0), axis=0)[:, 0]
