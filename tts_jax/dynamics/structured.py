"""The implicit step of the gradient flow in closed form, by elimination of the weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..activations import SmoothStep
from ..networks import ShallowNetwork, linear_weights
from ..problems import AbstractProblem, Regression
from ..quadratic import hessian
from ..solvers import AbstractShiftedJacobian


def applies(model: PyTree, problem: AbstractProblem, labels: PyTree[str]) -> bool:
    """Whether the Hessian is known in closed form, and the positions alone are slow."""
    return (
        isinstance(problem, Regression)
        and isinstance(model, ShallowNetwork)
        and isinstance(model.activation, SmoothStep)
        and (labels.weights, labels.positions, labels.bias or "fast") == ("fast", "slow", "fast")
    )


def ravel(model: ShallowNetwork) -> Float[Array, " n"]:
    """Fast leaves first: (bias,) weights, positions."""
    return jnp.concatenate([linear_weights(model), model.positions[:, 0]])


def unravel(y: Float[Array, " n"], like: ShallowNetwork) -> ShallowNetwork:
    neurons = len(like.weights)
    bias = None if like.bias is None else y[0]
    return ShallowNetwork(y[-2 * neurons : -neurons, None], y[-neurons:, None], bias, like.activation)


class _Factors(NamedTuple):
    fast: Float[Array, "n n"]
    """Inverse of the lower Cholesky factor of `epsilon s + H_aa`."""
    slow: Float[Array, "m m"]
    """The same for the Schur complement."""
    coupling: Float[Array, "n m"]
    """`(epsilon s + H_aa)^-1 H_au`."""
    epsilon: Float[Array, ""]


class EliminatedWeights(AbstractShiftedJacobian):
    r"""Solves $(s + M H/\epsilon)\,x = r$ for the slow-time flow $y' = -M\,\nabla R/\epsilon$, $M = \mathrm{diag}(1, \epsilon)$.

    The fast rows are $(\epsilon s + H_{aa})\,x_a + H_{au} x_u = \epsilon r_a$: positive definite whatever the step, and well scaled
    as $\epsilon \to 0$. The Schur complement $s + H_{uu} - H_{ua} (\epsilon s + H_{aa})^{-1} H_{au}$ is symmetric, and
    positive definite unless the step is so long that a direction of negative curvature grows within it by more than a
    constant factor; then its Cholesky factor is NaN and the step is rejected.
    """

    linearise: Callable[[Float[Array, " n"], Any], tuple[Float[Array, ""], ShallowNetwork, Regression]]

    @override
    def factor(self, vector_field, t, y, args, shift):
        epsilon, model, problem = self.linearise(y, args)
        a, u = linear_weights(model), model.positions[:, 0]
        d_aa, d_au, d_uu = hessian(model.activation, problem.target, a, u)
        fast = _inverse_cholesky(d_aa, epsilon * shift)
        half = fast @ d_au
        slow = _inverse_cholesky(d_uu - half.T @ half, shift)
        return _Factors(fast, slow, fast.T @ half, epsilon)

    @override
    def solve(self, factors: _Factors, r: Float[Array, " n"]) -> Float[Array, " n"]:
        neurons = len(factors.slow)
        r_a, r_u = r[:-neurons], r[-neurons:]
        x_u = factors.slow.T @ (factors.slow @ (r_u - factors.epsilon * (factors.coupling.T @ r_a)))
        x_a = factors.epsilon * (factors.fast.T @ (factors.fast @ r_a)) - factors.coupling @ x_u
        return jnp.concatenate([x_a, x_u])


def _inverse_cholesky(matrix: Float[Array, "n n"], shift: Float[Array, ""]) -> Float[Array, "n n"]:
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    lower = jnp.linalg.cholesky(matrix + shift * identity)
    return jsl.solve_triangular(lower, identity, lower=True)
