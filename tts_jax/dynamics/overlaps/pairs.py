"""The flow in all overlaps, and its implicit step in O(m^3)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax.scipy.sparse.linalg import gmres
from jaxtyping import Array, Float
from typing_extensions import override

from ...overlaps import Overlaps
from ...solvers import AbstractShiftedJacobian, DenseJacobian
from .equation import AbstractOverlapEquation

DENSE = 128
"""Up to this many unknowns a Jacobian is factored as a whole."""
KRYLOV = 60
"""A step that takes more products is too long."""


class AllPairs(AbstractOverlapEquation):
    """The state is the weights, their cosines with the teacher, and those with each other, row by row."""

    epsilon: Float[Array, ""]
    start: Overlaps
    v: Float[Array, " k"]
    u: Float[Array, " k"]
    """Coefficients of V and U, from degree 0 on."""

    @property
    def _student(self) -> Float[Array, "m m"]:
        assert self.start.student is not None, "the mean field has its own equation"
        return self.start.student

    @property
    def _lengths(self) -> Float[Array, " m"]:
        return jnp.sqrt(jnp.diagonal(self._student))

    @property
    @override
    def y0(self) -> Float[Array, " n"]:
        lengths, model = self._lengths, self.start
        cosines = self._student / jnp.outer(lengths, lengths)
        return jnp.concatenate([model.weights, model.teacher[:, 0] / lengths, cosines.ravel()])

    @override
    def model_at(self, y: Float[Array, " n"]) -> Overlaps:
        a, s, r = self.parts(y)
        lengths = self._lengths
        return Overlaps(a, r * jnp.outer(lengths, lengths), (s * lengths)[:, None], self.start.activation)

    def parts(self, y: Float[Array, " n"]) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, "m m"]]:
        m = len(self.start.weights)
        return y[:m], y[m : 2 * m], y[2 * m :].reshape(m, m)

    def push(self, y: Float[Array, " n"]) -> Float[Array, " m"]:
        """On the weights."""
        a, s, r = self.parts(y)
        m = len(a)
        return 2 / (m * self.epsilon) * (series(self.v, s) - series(self.u, r) @ a / m)

    @override
    def velocity(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        a, s, r = self.parts(y)
        m = len(a)
        rate = 2 * a / (m * jnp.diagonal(self._student))
        attraction, repulsion = slope(self.v, s), slope(self.u, r) * a[None] / m
        g = jnp.outer(attraction, s) - repulsion @ r
        own = jnp.diagonal(g)
        d_s = rate * (attraction - repulsion @ s - own * s)
        turn = rate[:, None] * (g - own[:, None] * r)
        return jnp.concatenate([self.push(y), d_s, (turn + turn.T).ravel()])

    @override
    def linear_algebra(self) -> tuple[AbstractShiftedJacobian, str]:
        if len(self.y0) <= DENSE:
            return DenseJacobian(), "dense Jacobian"
        return StiffWeights(), "stiff weights factored"


def series(coefficients: Float[Array, " k"], x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jnp.polyval(coefficients[::-1], x)


def slope(coefficients: Float[Array, " k"], x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jnp.polyval(jnp.polyder(coefficients[::-1]), x)


class _Factors(NamedTuple):
    product: Callable[[Array], Array]
    push: Callable[[Array], Array]
    """Derivative of the velocity of the weights by the overlaps, on a state without weights."""
    shift: Float[Array, ""]
    weights: Float[Array, "m m"]
    """Lower Cholesky factor of the block of the weights."""


class StiffWeights(AbstractShiftedJacobian):
    r"""Solves $(s - J)\,z = q$ for the flow of `AllPairs`, whose weights are stiff and whose overlaps are not.

    In blocks of weights and overlaps $J = \begin{pmatrix} -G & B \\ C & D \end{pmatrix}$, with the Gram matrix
    $G = 2 U(r) / (m^2 \epsilon)$. GMRES on products with J is preconditioned by what is left where C and D are not
    there: $\begin{pmatrix} s + G & -B \\ 0 & s \end{pmatrix}$. What remains is the motion of the overlaps within a
    step, which a step resolves: few iterations, whatever `epsilon`. A step is rejected where they do not converge.
    """

    @override
    def factor(self, vector_field, t, y, args: AllPairs, shift):
        m = len(args.start.weights)
        _, jacobian = jax.linearize(lambda y: vector_field(t, y, args), y)
        _, push = jax.linearize(args.push, y)
        _, _, r = args.parts(y)
        gram = 2 / (m**2 * args.epsilon) * series(args.u, r) + shift * jnp.eye(m, dtype=y.dtype)
        weights = jnp.linalg.cholesky(jax.lax.stop_gradient(gram))
        return _Factors(lambda z: shift * z - jacobian(z), push, shift, weights)

    @override
    def solve(self, factors: _Factors, r: Float[Array, " n"]) -> Float[Array, " n"]:
        product, push, shift, weights = factors
        m = len(weights)

        def precondition(z):
            x = jax.lax.stop_gradient(1 / shift) * z[m:]
            z_a = z[:m] + push(jnp.concatenate([jnp.zeros_like(z[:m]), x]))
            return jnp.concatenate([jsl.cho_solve((weights, True), z_a), x])

        tolerance = jnp.finfo(r.dtype).eps ** 0.7  # 1e-11 in 64-bit: errors of the solution are errors of the step
        right = precondition(r)
        size = jax.lax.stop_gradient(jnp.linalg.norm(right))
        right = right / jnp.where(size > 0, size, 1.0)  # what is below the unit of rounding is nothing to JAX's GMRES
        x, _ = gmres(
            lambda z: precondition(product(z)),
            right,
            tol=tolerance,
            restart=KRYLOV,
            maxiter=1,
            solve_method="incremental",
        )
        left = jnp.linalg.norm(precondition(product(x)) - right)
        return size * jnp.where(left <= 10 * tolerance, x, jnp.nan)
