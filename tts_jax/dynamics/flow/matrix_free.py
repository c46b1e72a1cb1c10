"""The flow of a model with thousands of parameters: how stiff it is, and its implicit step without a matrix."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree
from typing_extensions import override

from ...solvers import AbstractShiftedJacobian

ITERATIONS = 300
STAGES = 8
"""Solves of a step."""


class _Factors(NamedTuple):
    product: Callable[[Array], Array]
    scale: Float[Array, " n"]
    shift: Float[Array, ""]
    is_factored: Bool[Array, ""]
    fast: Float[Array, "f f"]
    """Then the lower Cholesky factor of the block of the fast parameters."""


class FactoredFastBlock(AbstractShiftedJacobian):
    r"""Solves $(s + D H)\,x = r$ for the slow-time flow $y' = -D\,\nabla R$, with a diagonal D: $1/\epsilon$ for fast
    parameters, 1 for slow ones, something between for those of other groups.

    It is $(s D^{-1} + H)\,x = D^{-1} r$, solved by conjugate gradients on Hessian-vector products, preconditioned by
    $s D^{-1}$. Where a step takes more products so than it takes to form the block $\epsilon s + H$ of the fast
    parameters, which is what makes the flow stiff, that block is factored (Cholesky) and preconditions the iteration,
    whose length then does not grow as $\epsilon \to 0$. A step is rejected where the matrix is not positive definite or
    the iteration does not converge: then it was too long.
    """

    mobility: Callable[[Any], Float[Array, " n"]]
    """The diagonal of D, from the arguments of the vector field."""
    factored: Int[ArrayLike, " f"]
    """Indices into the state, of the fast parameters and of further groups, as far as they are few."""

    @override
    def factor(self, vector_field, t, y, args, shift):
        _, product, scale = self._linearised(vector_field, t, y, args, shift)
        held = jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, (y, args, shift))
        is_factored, fast = self._fast(*self._linearised(vector_field, t, *held), held[-1])
        return _Factors(product, scale, shift, is_factored, fast)

    def _linearised(
        self,
        vector_field: Callable[..., Array],
        t: ArrayLike,
        y: Float[Array, " n"],
        args: Any,
        shift: Float[Array, ""],
    ) -> tuple[Float[Array, " n"], Callable[[Array], Array], Float[Array, " n"]]:
        """The vector field, the product with $s D^{-1} + H$, and the diagonal of $D^{-1}$."""
        scale = 1 / self.mobility(args)
        velocity, jacobian = jax.linearize(lambda y: vector_field(t, y, args), y)
        return velocity, lambda x: scale * (shift * x - jacobian(x)), scale

    def _fast(
        self,
        velocity: Float[Array, " n"],
        product: Callable[[Array], Array],
        scale: Float[Array, " n"],
        shift: Float[Array, ""],
    ) -> tuple[Bool[Array, ""], Float[Array, "f f"]]:
        """Tries the first of the stages of a step without the block."""
        fast = jnp.size(self.factored)

        def block():
            units = jax.nn.one_hot(self.factored, len(velocity), dtype=velocity.dtype)
            return jnp.linalg.cholesky(jax.lax.map(product, units)[:, self.factored])

        tried = conjugate_gradients(product, scale * velocity, lambda x: x / (shift * scale), fast // STAGES)
        pays = ~jnp.all(jnp.isfinite(tried)) & (fast > 0)
        return pays, jax.lax.cond(pays, block, lambda: jnp.zeros((fast, fast), velocity.dtype))

    @override
    def solve(self, factors: _Factors, r: Float[Array, " n"]) -> Float[Array, " n"]:
        product, scale, shift, is_factored, fast = factors

        def by_block(x):
            return by_diagonal(x).at[self.factored].set(jsl.cho_solve((fast, True), x[self.factored]))

        def by_diagonal(x):
            return x / jax.lax.stop_gradient(shift * scale)

        def solve(product, b):
            return conjugate_gradients(
                product, b, lambda x: jax.lax.cond(is_factored, by_block, by_diagonal, x), ITERATIONS
            )

        return jax.lax.custom_linear_solve(product, scale * r, solve, symmetric=True)


def conjugate_gradients(
    product: Callable[[Array], Array],
    b: Float[Array, " n"],
    precondition: Callable[[Array], Array],
    iterations: int,
) -> Float[Array, " n"]:
    """`product(x) = b` after Hestenes and Stiefel (1952); NaN where the product is not positive definite, or it takes
    as many `iterations`."""

    def goes_on(carry):
        i, _, _, _, squared = carry
        return (squared > tolerance**2 * start) & (i < iterations)

    def iterate(carry):
        i, x, residual, direction, squared = carry
        image = product(direction)
        curvature = direction @ image
        step = jnp.where(curvature > 0, squared / curvature, jnp.nan)
        x, residual = x + step * direction, residual - step * image
        preconditioned = precondition(residual)
        after = residual @ preconditioned
        return i + 1, x, residual, preconditioned + (after / squared) * direction, after

    tolerance = jnp.finfo(b.dtype).eps ** 0.7  # 1e-11 in 64-bit: errors of the solution are errors of the step
    direction = precondition(b)
    start = b @ direction
    i, x, *_ = jax.lax.while_loop(goes_on, iterate, (0, jnp.zeros_like(b), b, direction, start))
    return jnp.where(i < iterations, x, jnp.nan)


def spectral_radius(
    vector_field: Callable[[ArrayLike, Array, PyTree], Array], y: Float[Array, " n"], args: PyTree
) -> Float[Array, ""]:
    """Of the Jacobian, by twenty steps of the power method: its order of magnitude."""
    _, jacobian = jax.linearize(lambda y: vector_field(0.0, y, args), y)

    def iterate(_, carry):
        direction, _ = carry
        image = jacobian(direction)
        norm = jnp.linalg.norm(image)
        return image / norm, norm

    direction = jax.random.normal(jax.random.key(0), y.shape, y.dtype)
    _, norm = jax.lax.fori_loop(0, 20, iterate, (direction / jnp.linalg.norm(direction), jnp.zeros((), y.dtype)))
    return norm
