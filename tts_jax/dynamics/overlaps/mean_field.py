"""The mean-field flow at d = infinity, and its implicit step in O(m)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float
from typing_extensions import override

from ...overlaps import Overlaps
from ...problems.single_index import powers
from ...solvers import AbstractShiftedJacobian
from .equation import AbstractOverlapEquation
from .pairs import series, slope


class MeanField(AbstractOverlapEquation):
    r"""With $r_{ij} = s_i s_j$ for all pairs, and the moments $\mu_k = \frac{1}{m} \sum_j a_j s_j^k$,

    $$\epsilon\,a_i' = \frac{2}{m} \Big[ V(s_i) - \sum_k \sigma_k^2 \mu_k s_i^k \Big], \quad
      s_i' = \frac{2 a_i}{m} (1 - s_i^2) \Big[ V'(s_i) - \sum_k k \sigma_k^2 \mu_k s_i^{k-1} \Big].$$

    The state is the weights and their overlaps with the teacher.
    """

    epsilon: Float[Array, ""]
    start: Overlaps
    v: Float[Array, " k"]
    u: Float[Array, " k"]
    """Coefficients of V and U, from degree 0 on."""

    @property
    @override
    def y0(self) -> Float[Array, " n"]:
        return jnp.concatenate([self.start.weights, self.start.teacher[:, 0]])

    @override
    def model_at(self, y: Float[Array, " n"]) -> Overlaps:
        a, s = jnp.split(y, 2)
        return Overlaps(a, None, s[:, None], self.start.activation)

    @override
    def velocity(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        a, s = jnp.split(y, 2)
        return jnp.concatenate(self.local(a, s, self.moments(y)))

    def moments(self, y: Float[Array, " n"]) -> Float[Array, " k"]:
        a, s = jnp.split(y, 2)
        return powers(s, len(self.u) - 1) @ a / len(a)

    def local(
        self, a: Float[Array, " m"], s: Float[Array, " m"], moments: Float[Array, " k"]
    ) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The velocity of each neuron, of its own weight and overlap, and of what all do together."""
        m, left = len(a), self.v - self.u * moments
        d_a, d_s = series(left, s), a * (1 - s**2) * slope(left, s)
        return 2 / (m * self.epsilon) * d_a, 2 / m * d_s

    @override
    def linear_algebra(self) -> tuple[AbstractShiftedJacobian, str]:
        return ThroughMoments(), "neurons through moments"


class _Factors(NamedTuple):
    inverses: tuple[tuple[Float[Array, " m"], ...], ...]
    """Of the block of each neuron, its four entries."""
    by_moments: Float[Array, "n k"]
    """The derivative of the velocity by the moments, times the inverses."""
    moments: Float[Array, "k n"]
    """Their derivative."""
    capacitance: tuple[Array, Array]
    """In LU factors."""


class ThroughMoments(AbstractShiftedJacobian):
    r"""Solves $(s - J)\,z = q$ for $J = L + P W$, with L the 2 x 2 blocks of the neurons, P the derivatives by the
    moments, W those of the moments: by the formula of Sherman, Morrison and Woodbury."""

    @override
    def factor(self, vector_field, t, y, args: MeanField, shift):
        a, s = jnp.split(y, 2)
        moments = args.moments(y)
        one, none = jnp.ones_like(a), jnp.zeros_like(a)
        (aa, sa), (as_, ss) = (
            jax.jvp(lambda a, s: args.local(a, s, moments), (a, s), tangent)[1]
            for tangent in ((one, none), (none, one))
        )
        aa, ss = shift - aa, shift - ss
        determinant = aa * ss - as_ * sa
        inverses = ((ss / determinant, as_ / determinant), (sa / determinant, aa / determinant))
        push = jnp.concatenate(jax.jacfwd(lambda moments: args.local(a, s, moments))(moments))
        by_moments = jax.vmap(lambda q: _blocks(inverses, q), in_axes=1, out_axes=1)(push)
        d_moments = jax.jacrev(args.moments)(y)
        capacitance = jnp.eye(len(moments), dtype=y.dtype) - d_moments @ by_moments
        return _Factors(inverses, by_moments, d_moments, jsl.lu_factor(capacitance))

    @override
    def solve(self, factors: _Factors, r: Float[Array, " n"]) -> Float[Array, " n"]:
        inverses, by_moments, moments, capacitance = factors
        z = _blocks(inverses, r)
        return z + by_moments @ jsl.lu_solve(capacitance, moments @ z)


def _blocks(matrices: tuple[tuple[Array, ...], ...], q: Float[Array, " n"]) -> Float[Array, " n"]:
    """The product with a 2 x 2 matrix for each neuron."""
    a, s = jnp.split(q, 2)
    (aa, as_), (sa, ss) = matrices
    return jnp.concatenate([aa * a + as_ * s, sa * a + ss * s])
