"""The linear algebra inside a Rosenbrock step, as a plug-in."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Real

if TYPE_CHECKING:
    Y: TypeAlias = PyTree  # a type checker cannot read the names of jaxtyping's trees
else:
    Y = PyTree[Float[Array, "?*y"], "Y"]
Time: TypeAlias = Real[Array, ""] | Real[np.ndarray, ""] | float | int


class AbstractShiftedJacobian(eqx.Module):
    r"""Solves $(s I - J(t, y)) x = r$ for many $r$, where $J = \partial f / \partial y$.

    A problem whose Jacobian has structure (diagonal, banded, symmetric, low rank)
    subclasses this and hands the instance to the solver. `factor` runs once per step,
    `solve` once per stage, and `solve` sees nothing but what `factor` returned.

    The shift is $s = 1/(\gamma h)$: positive, and negative when integrating backwards
    in time. Failure is reported by NaN or infinity in the result of `solve`; the step
    is then rejected.

    The plug-in is differentiated like any other code. Its Jacobian must be exact: the
    order of a Rosenbrock method rests on it.
    """

    @abc.abstractmethod
    def factor(self, vector_field: Callable[..., Y], t: Time, y: Y, args: Any, shift: Time) -> Any:
        """Factors $s I - J(t, y)$.

        **Arguments:** `vector_field(t, y, args)`, the point `(t, y)`, the user's `args`
        and the `shift` $s$.

        **Returns:** a PyTree holding all that `solve` needs.
        """

    @abc.abstractmethod
    def solve(self, factors: Any, r: Y) -> Y:
        """Returns $x$, with the structure of the state, from the right-hand side `r` and the `factors` that `factor`
        returned."""


class DenseJacobian(AbstractShiftedJacobian):
    r"""LU with partial pivoting of the dense $s I - J$: $O(n^3)$ a step, $O(n^2)$ a stage.

    **Arguments:**

    - `jacobian`: `jacobian(t, y, args)` returns $\partial f_i / \partial y_j$ at `[i, j]`,
        shape `(n, n)`, over the ravelled state (`jax.flatten_util.ravel_pytree`).
        By default $J$ comes from forward-mode differentiation of the vector field.

    **Raises:** `ValueError` when `jacobian` returns another shape than `(n, n)`.
    """

    jacobian: Callable[..., Float[Array, "n n"]] | None = None

    def factor(self, vector_field: Callable[..., Y], t: Time, y: Y, args: Any, shift: Time) -> Any:
        flat, unravel = _ravel(y)
        if self.jacobian is None:
            jacobian = jax.jacfwd(lambda x: _ravel(vector_field(t, unravel(x), args))[0])(flat)
        else:
            jacobian = self.jacobian(t, y, args)
            if jnp.shape(jacobian) != (flat.size, flat.size):
                raise ValueError(
                    f"`jacobian` returned shape {jnp.shape(jacobian)}, expected "
                    f"{(flat.size, flat.size)}: one row and one column for each entry "
                    "of the ravelled state."
                )
        shift = jnp.asarray(shift, flat.dtype)
        matrix = shift * jnp.eye(flat.size, dtype=flat.dtype) - jacobian
        return matrix, jsl.lu_factor(jax.lax.stop_gradient(matrix))

    def solve(self, factors: Any, r: Y) -> Y:
        matrix, lu = factors
        flat, unravel = _ravel(r)
        # Derivatives are linear solves with the same factors, not derivatives of the LU.
        x = jax.lax.custom_linear_solve(
            lambda v: jnp.matmul(matrix, v, precision=jax.lax.Precision.HIGHEST),
            flat,
            solve=lambda _, b: jsl.lu_solve(lu, b),
            transpose_solve=lambda _, b: jsl.lu_solve(lu, b, trans=1),
        )
        return unravel(x)


def _ravel(y: Y) -> tuple[Float[Array, " n"], Callable[[Array], Y]]:
    if isinstance(y, jax.Array) and y.ndim == 1:
        return y, lambda x: x
    return ravel_pytree(y)
