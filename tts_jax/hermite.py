"""Sums of Hermite polynomials: activation and target on Gaussian inputs."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real
from typing_extensions import override

from . import _checks as checks
from .activations import AbstractActivation


class Hermite(AbstractActivation):
    r"""$z \mapsto \sum_{k=0}^K c_k h_k(z)$ in normalised Hermite polynomials (probabilists'): activation and target.

    $h_0 = 1$, $h_1 = z$, $\sqrt{k + 1}\,h_{k+1} = z\,h_k - \sqrt{k}\,h_{k-1}$: orthonormal for $z \sim N(0, 1)$; for
    unit vectors $E\,h_j(\langle u, x \rangle) h_k(\langle v, x \rangle) = 1[j = k]\,\langle u, v \rangle^k$.
    `coefficients` $c$ has shape (K + 1,), from degree 0 on, and is a leaf. Evaluated elementwise by Clenshaw's
    recurrence.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> tts.Hermite([0.0, 0.0, 2.0**0.5])(jnp.array([0.0, 2.0])).round(6).tolist()
    [-1.0, 3.0]

    Raises `ValueError` for coefficients that are not finite, not in a row, or none.
    """

    coefficients: Float[Array, " k"]

    def __init__(self, coefficients: Real[ArrayLike, " k"] | Sequence[Any]):
        self.coefficients = checks.as_float(checks.vector("coefficients", coefficients))
        if not self.coefficients.size:
            raise ValueError("coefficients must hold at least one number, got none: pass e.g. coefficients=[0.0, 1.0]")

    @property
    def degree(self) -> int:  # type: ignore[override]  # of other activations it is a constant of the class
        """K."""
        return self.coefficients.shape[-1] - 1

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        next_, after = jnp.zeros_like(z), jnp.zeros_like(z)
        for k in range(self.degree, -1, -1):
            here = self.coefficients[k] + z * next_ / (k + 1) ** 0.5 - after * ((k + 1) / (k + 2)) ** 0.5
            next_, after = here, next_
        return next_

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return positions[:0]
