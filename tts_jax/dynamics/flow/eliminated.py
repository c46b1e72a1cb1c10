"""The implicit step of the gradient flow in closed form, by elimination of the weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from typing_extensions import override

from ...exact.forms import Hessian
from ...solvers import AbstractShiftedJacobian


class _Factors(NamedTuple):
    shift: Float[Array, ""]
    epsilon: Float[Array, ""]
    hessian: Hessian
    fast: Float[Array, "n n"]
    """Inverse of the lower Cholesky factor of `epsilon s + H_aa`."""
    slow: Float[Array, "m m"]
    """The same for the Schur complement."""
    coupling: Float[Array, "n m"]
    """`fast @ H_au`."""


class EliminatedWeights(AbstractShiftedJacobian):
    r"""Solves $(s + D H)\,x = r$ for the slow-time flow $y' = -D\,\nabla R$, $D = \mathrm{diag}(1/\epsilon, 1)$.

    It is $(s D^{-1} + H)\,x = D^{-1} r$, with a symmetric matrix of the Hessian in closed form. The block $\epsilon s +
    H_{aa}$ of the weights is positive definite whatever the step, and well scaled as $\epsilon \to 0$. Its Schur
    complement $s + H_{uu} - H_{ua} (\epsilon s + H_{aa})^{-1} H_{au}$ is positive definite unless the step is so long
    that a direction of negative curvature grows within it by more than a constant factor; then its Cholesky factor is
    NaN and the step is rejected.

    `linearise(y, args)` gives epsilon and the Hessian.
    """

    linearise: Callable[[Float[Array, " n"], Any], tuple[Float[Array, ""], Hessian]]

    @override
    def factor(self, vector_field, t, y, args, shift):
        epsilon, blocks = self.linearise(y, args)
        d_aa, d_au, d_uu, s, e = jax.lax.stop_gradient((*blocks, shift, epsilon))
        fast = _inverse_cholesky(d_aa, e * s)
        coupling = fast @ d_au
        slow = _inverse_cholesky(d_uu - coupling.T @ coupling, s)
        return _Factors(shift, epsilon, blocks, fast, slow, coupling)

    @override
    def solve(self, factors: _Factors, r: Float[Array, " n"]) -> Float[Array, " n"]:
        shift, epsilon, (d_aa, d_au, d_uu), fast, slow, coupling = factors
        neurons = len(slow)

        def product(x):
            x_a, x_u = x[:-neurons], x[-neurons:]
            return shift * x + jnp.concatenate([(d_aa @ x_a + d_au @ x_u) / epsilon, d_au.T @ x_a + d_uu @ x_u])

        def symmetric_solve(r_a, r_u):
            half_a = fast @ r_a
            x_u = slow.T @ (slow @ (r_u - coupling.T @ half_a))
            return fast.T @ (half_a - coupling @ x_u), x_u

        def solve(_, r):
            return jnp.concatenate(symmetric_solve(scale * r[:-neurons], r[-neurons:]))

        def transpose_solve(_, r):
            x_a, x_u = symmetric_solve(r[:-neurons], r[-neurons:])
            return jnp.concatenate([scale * x_a, x_u])

        # Derivatives are solves with the same factors, not derivatives of the factorisation.
        scale = jax.lax.stop_gradient(epsilon)
        return jax.lax.custom_linear_solve(product, r, solve, transpose_solve)


def _inverse_cholesky(matrix: Float[Array, "n n"], shift: Float[Array, ""]) -> Float[Array, "n n"]:
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    lower = jax.lax.linalg.cholesky(matrix + shift * identity, symmetrize_input=False)
    # From the right: without a transposition of the factor.
    return jax.lax.linalg.triangular_solve(lower, identity, lower=True)
