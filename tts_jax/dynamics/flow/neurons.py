"""Neurons in the order of their positions, for flows in local coordinates: what does not depend on the equation.

A state has the rows bias (where there is one), weights, positions, as `ShallowNetwork.vectors` has them. Neurons of
several inputs are ordered in each coordinate by itself: weights and positions have the shape (neurons, coordinates
times lanes), so that a coordinate of a run is one more lane.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num
from typing_extensions import override

from ..._platform import platform
from ...exact import local
from ...exact.local import pad
from ...solvers.ensemble import AbstractSideBySide

WIDTH = 16
"""So many lanes side by side fill the vectors of a CPU and fit its first caches."""
FEW = 64
"""So many neurons may be near one on either side before memory for all of them is used."""


class Setting(NamedTuple):
    """Of each run, along the last axis."""

    epsilon: Float[Array, " lanes"]
    ridge: Float[Array, " lanes"] | None
    """None where there is none, as of the flow."""
    eta: Float[Array, " lanes"]
    jumps: Float[Array, "k *coordinates lanes"]
    """With an axis of coordinates where there are several."""
    values: Float[Array, "k+1 *coordinates lanes"]


class AbstractNeurons(AbstractSideBySide):
    """The equation of `neurons` neurons, of which up to `reach` on either side of one may be near it."""

    neurons: eqx.AbstractVar[int]
    coordinates: eqx.AbstractVar[int]
    has_bias: eqx.AbstractVar[bool]
    reach: eqx.AbstractVar[int]

    @override
    def suits(self, y: Float[Array, "n lanes"], args: Setting) -> Bool[Array, ""]:
        _, _, u = self.split(y)
        return local.bandwidth(u, self.spread(args.eta)) <= self.reach

    @override
    def measured(
        self, error: Float[Array, "n lanes"], y: Float[Array, "n lanes"], args: Setting
    ) -> Float[Array, "n lanes"]:
        """Neurons closer than eta have weights that hardly matter but for their sum: a weight counts as far as the next
        neuron is away, and the rest of it with that of the next. Of three, what is left of the first two once more.
        Nor does an error of a weight matter that those of the positions make up for."""
        eta = self.spread(args.eta)

        def counted(a, u):
            passed = closeness(u, eta)
            return _pass_on(_pass_on(a, passed), passed[:-1] * passed[1:])

        (_, a, u), (bias, e_a, e_u) = self.split(y), self.split(error)
        of_weights, of_both = counted(e_a, u), jax.jvp(counted, (a, u), (e_a, e_u))[1]
        return self.join(bias, jnp.where(jnp.abs(of_both) < jnp.abs(of_weights), of_both, of_weights), e_u)

    @override
    def order(self, y: Float[Array, "n lanes"]) -> Int[Array, "n lanes"]:
        """By position, and by weight where positions agree."""
        _, a, u = self.split(y)
        neuron = jax.lax.broadcasted_iota(int, u.shape, 0)
        in_order, first = jax.lax.sort((u, a, neuron), dimension=0, num_keys=2)[2], int(self.has_bias)
        coordinate = jnp.repeat(jnp.arange(self.coordinates), y.shape[1])
        row = first + self.coordinates * in_order + coordinate[None]
        bias = jnp.zeros(y.shape[1], row.dtype) if self.has_bias else None
        return self.join(bias, row, row + self.coordinates * self.neurons)

    @override
    def restored(
        self, y: Float[Array, "n lanes"], row: Int[Array, "n lanes"]
    ) -> tuple[Float[Array, "n lanes"], Int[Array, "n lanes"]]:
        return jax.lax.while_loop(lambda carry: jnp.any(self._out_of_order(carry[0])), self._exchanged, (y, row))

    def _out_of_order(self, y: Float[Array, "n lanes"]) -> Bool[Array, "pairs all_lanes"]:
        _, _, u = self.split(y)
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
            bias, a, u = self.split(x)
            return self.join(bias, exchanged(a), exchanged(u))

        y, row = carry
        return both(y), both(row)

    def equal(self, y: Float[Array, "n lanes"]) -> Bool[Array, "pairs all_lanes"]:
        """Whether a neuron and the next have the same position and the same weight."""
        _, a, u = self.split(y)
        return (u[1:] == u[:-1]) & (a[1:] == a[:-1])

    def equalised(self, equal: Bool[Array, "pairs all_lanes"], x: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        """Equal neurons move alike: rounding would part what only a saddle holds together."""
        return jax.lax.cond(jnp.any(equal), self._equalised, lambda _, x: x, equal, x)

    def _equalised(self, equal: Bool[Array, "pairs all_lanes"], x: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        bias, a, u = self.split(x)
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
        return self.join(bias, a, u)

    def split(self, y: Num[Array, "n lanes *more"]) -> tuple[Num[Array, "lanes *more"] | None, Array, Array]:
        """Bias, weights and positions."""
        m, lanes = self.neurons, self.coordinates * y.shape[1]
        a, u = y[-2 * m * self.coordinates :].reshape(2, m, lanes, *y.shape[2:])
        return y[0] if self.has_bias else None, a, u

    def join(self, bias: Num[Array, "lanes *more"] | None, a: Array, u: Array) -> Num[Array, "n lanes *more"]:
        lanes = a.shape[1] // self.coordinates
        a, u = (x.reshape(self.neurons * self.coordinates, lanes, *x.shape[2:]) for x in (a, u))
        return jnp.concatenate([a, u] if bias is None else [bias[None], a, u])

    def spread(self, x: Num[Array, " #lanes"]) -> Num[Array, " #all_lanes"]:
        """For all coordinates of each run."""
        return x if self.coordinates == 1 or x.shape[0] == 1 else jnp.tile(x, self.coordinates)


def closeness(u: Float[Array, "m lanes"], eta: Float[Array, " #lanes"]) -> Float[Array, "k lanes"]:
    """Of each neuron and the next, from 0 where they are eta apart to 1."""
    return 1 - jnp.clip((u[1:] - u[:-1]) / eta[None], 0.0, 1.0)


def _pass_on(a: Float[Array, "m lanes"], shares: Float[Array, "k lanes"]) -> Float[Array, "m lanes"]:
    """Each entry keeps what it does not pass on of itself and of what it has been given."""

    def one(given, row):
        entry, share = row
        return share * (entry + given), (1 - share) * (entry + given)

    return jax.lax.scan(one, jnp.zeros_like(a[0]), (a, pad(shares, 0, len(a) - len(shares))))[1]


def reaches(neurons: int) -> list[int]:
    """Of the equations to try one after the other."""
    return [reach for reach in (FEW,) if reach < neurons - 1] + [neurons - 1]


def at_once(runs: int, coordinates: int = 1) -> int:
    """How many runs lie side by side."""
    return min(max(1, WIDTH // coordinates), runs) if platform() == "cpu" else runs
