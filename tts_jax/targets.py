"""What is to be learned: functions on [0, 1]."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from . import checks


class PiecewiseConstant(eqx.Module):
    r"""A step function on [0, 1]: `values[0]` left of `jumps[0]`, `values[k]` on `[jumps[k-1], jumps[k])`.

    `jumps` has shape (n,), strictly increasing inside (0, 1), and `values` shape (n + 1,). Both are leaves: results
    can be differentiated with respect to them.

    Raises `ValueError` where that does not hold.
    """

    jumps: Float[Array, " n"]
    values: Float[Array, " n+1"]
    degree = 0

    def __init__(
        self,
        jumps: Sequence[Real[ArrayLike, ""]] | Real[ArrayLike, " n"],
        values: Sequence[Real[ArrayLike, ""]] | Real[ArrayLike, " k"],
    ):
        self.jumps = jnp.atleast_1d(checks.as_float(jumps))
        self.values = jnp.atleast_1d(checks.as_float(checks.finite("values", values)))
        if self.jumps.ndim != 1 or self.values.ndim != 1 or len(self.values) != len(self.jumps) + 1:
            raise ValueError(
                f"a target with {self.jumps.size} jumps has {self.jumps.size + 1} values, got {self.values.size}: "
                "give one value for each piece between two jumps"
            )
        known = checks.concrete(self.jumps)
        if known is not None and not ((known > 0) & (known < 1)).all():
            raise ValueError(f"jumps must lie inside (0, 1), got {checks.one_line(known)}")
        if known is not None and not (np.diff(known) > 0).all():
            raise ValueError(
                f"jumps must be strictly increasing, got {checks.one_line(known)}: sort them and leave out repetitions"
            )

    @property
    def heights(self) -> Float[Array, " n"]:
        """The size of each jump, `values[k+1] - values[k]`."""
        return jnp.diff(self.values)

    @property
    def square_mean(self) -> Float[Array, ""]:
        r"""$\int_0^1 f^*(x)^2\,dx$."""
        edges = jnp.pad(self.jumps, 1, constant_values=(0.0, 1.0))
        return jnp.sum(self.values**2 * jnp.diff(edges))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Elementwise."""
        return self.values[0] + jnp.sum(jnp.where(x[..., None] >= self.jumps, self.heights, 0.0), axis=-1)
