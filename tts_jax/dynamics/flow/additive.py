r"""The gradient flow of additive smooth steps on an additive piecewise constant target, in local coordinates.

With inputs uniform on $[0, 1]^d$ and $Z = b + \sum_i E r_i$, $r_i$ what coordinate i contributes to the residual, a
coordinate sees the others as the bias $c_i = Z - E r_i$ (`exact.additive`). With $z = \delta Z$ the Hessian is

$$(H x)_i = H_i \binom{z - \delta E r_i}{x_i}, \qquad H_i\ \text{that of one input, by bias, weights and positions,}$$

so that a step solves one banded system for each coordinate, with what it sees as an unknown of its own, and one
equation for z. A coordinate of a run is one more lane.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import override

from ..._kernel import total
from ...exact import band, local
from ...exact.pairs import drops, tail
from ...solvers import block_banded
from .neurons import AbstractNeurons, Setting


class _Response(NamedTuple):
    """Of a coordinate, to z = 1."""

    seen: Float[Array, " all_lanes"]
    """Half of it is what z does to the bias that the coordinate sees, and half that it is."""
    a: Float[Array, "m all_lanes"]
    u: Float[Array, "m all_lanes"]


class _Space(NamedTuple):
    width: Int[Array, ""]
    equal: Bool[Array, "pairs all_lanes"]
    matrix: band.Workspace
    response: _Response
    shift: Float[Array, " lanes"]


class AdditiveFlow(AbstractNeurons):
    """The flow of neurons of several inputs, without a ridge."""

    neurons: int = eqx.field(static=True)
    coordinates: int = eqx.field(static=True)
    has_bias: bool = eqx.field(static=True)
    reach: int = eqx.field(static=True)

    @override
    def velocity(self, y: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        bias, a, u = self.split(y)
        eta, jumps, values = self._one_input(args, y.shape[1])
        z, seen = self._means(bias, a, u, eta, jumps, values)
        found = local.gradient(a, u, seen, eta, jumps, values, local.bandwidth(u, eta))
        return -self.join(None if bias is None else 2 * z, found.d_c[1:], found.d_u)

    @override
    def mass(self, x: Float[Array, "n lanes"], args: Setting) -> Float[Array, "n lanes"]:
        bias, a, u = self.split(x)
        epsilon = self.spread(args.epsilon)
        return self.join(None if bias is None else args.epsilon * bias, epsilon[None] * local.by_plateaus(a, None), u)

    @override
    def workspace(self, y: Float[Array, "n lanes"]) -> _Space:
        m, lanes = self.neurons, self.coordinates * y.shape[1]
        row, rows = jnp.zeros(lanes, y.dtype), jnp.zeros((m, lanes), y.dtype)
        return _Space(
            jnp.zeros((), int),
            jnp.zeros((m - 1, lanes), bool),
            band.workspace(m, self.reach, lanes, y.dtype),
            _Response(row, rows, rows),
            jnp.zeros(y.shape[1], y.dtype),
        )

    @override
    def factor(self, y: Float[Array, "n lanes"], args: Setting, shift: Float[Array, " lanes"], space: _Space) -> _Space:
        bias, a, u = self.split(y)
        eta, jumps, values = self._one_input(args, y.shape[1])
        _, seen = self._means(bias, a, u, eta, jumps, values)
        reach, equal, s = local.bandwidth(u, eta), self.equal(y), self.spread(shift)
        ridge = self.spread(args.epsilon) * s
        matrix = band.hessian(a, u, seen, eta, jumps, values, ridge, s, equal, reach, space.matrix, holds_bias=False)
        width = band.width(reach)
        blocks = block_banded.factor(matrix.blocks, width)
        response = self._of_one_input(blocks, width, jnp.ones_like(seen), jnp.zeros_like(a), jnp.zeros_like(u))
        return _Space(width, equal, matrix._replace(blocks=blocks), response, shift)

    @override
    def solve(self, factors: _Space, args: Setting, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        r"""With $w_i$ what coordinate i sees change, half of $\hat w_i + z \omega_i$: $z = \sum_i (z - 2 w_i) + 2 b$,
        and $\epsilon s\,b + z = r_b$."""
        r_bias, c, u = self.split(r)
        own = self._of_one_input(factors.matrix.blocks, factors.width, -total(c), c, u)
        response = factors.response
        share = 1 + self._over_coordinates(2 * response.seen - 1)
        given = -2 * self._over_coordinates(own.seen)
        if r_bias is None:
            z, bias = given / share, None
        else:
            ridge = args.epsilon * factors.shift
            z = (2 * r_bias + ridge * given) / (ridge * share + 2)
            bias = (z * share - given) / 2
        of_all = self.spread(z)
        x = self.join(bias, own.a + of_all[None] * response.a, own.u + of_all[None] * response.u)
        return self.equalised(factors.equal, x)

    def _of_one_input(
        self,
        blocks: block_banded.Blocks,
        width: Int[Array, ""],
        first: Float[Array, " all_lanes"],
        c: Float[Array, "m all_lanes"],
        u: Float[Array, "m all_lanes"],
    ) -> _Response:
        """The solution with these rows of plateaus and positions."""
        rows = block_banded.solve(blocks, width, band.to_rows(jnp.concatenate([first[None], c]), u))
        return _Response(*band.from_rows(rows, self.neurons))

    def _one_input(
        self, args: Setting, lanes: int
    ) -> tuple[Float[Array, " #all_lanes"], Float[Array, "k all_lanes"], Float[Array, "k+1 all_lanes"]]:
        """Width of the neurons and target of each coordinate."""

        def flat(x):
            return jnp.broadcast_to(x, (*x.shape[:2], lanes)).reshape(len(x), self.coordinates * lanes)

        return self.spread(args.eta), flat(args.jumps), flat(args.values)

    def _means(
        self,
        bias: Float[Array, " lanes"] | None,
        a: Float[Array, "m all_lanes"],
        u: Float[Array, "m all_lanes"],
        eta: Float[Array, " #all_lanes"],
        jumps: Float[Array, "k all_lanes"],
        values: Float[Array, "k+1 all_lanes"],
    ) -> tuple[Float[Array, " lanes"], Float[Array, " all_lanes"]]:
        """The mean of the residual, half of its derivative by the bias, and what each coordinate sees as a bias."""
        nothing = jnp.zeros_like(eta)[None]
        of_neurons = total(local.plateaus(a, None)[1:] * drops(tail(nothing, u, eta[None]), nothing)[1:])
        of_target = values[-1] - total(jumps * (values[1:] - values[:-1]))
        own = of_neurons - of_target
        z = self._over_coordinates(own)
        z = z if bias is None else bias + z
        return z, self.spread(z) - own

    def _over_coordinates(self, x: Float[Array, " all_lanes"]) -> Float[Array, " lanes"]:
        return total(x.reshape(self.coordinates, -1))
