r"""Expectations over the local fields of units $g(\lambda) = \mathrm{erf}(\lambda / \sqrt2)$, with $\lambda \sim N(0,
c)$.

$g$ is the sign of its argument, averaged over noise of variance 1, so that all is said by the correlations of noisy
fields, $\rho_{lm} = c_{lm} / \sqrt{(1 + c_{ll})(1 + c_{mm})}$, where a field and itself have noise of their own. And
$g'(\lambda) = \sqrt{2/\pi}\, e^{-\lambda^2/2}$ is Gaussian: a mean with it is one under the partial correlations, given
that noisy field.

The names are those of the literature; `units` counts the fields that come first, those that a factor $g'$ may have.

Source: Saad and Solla (1995), On-line learning in soft committee machines, their appendix.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

ARCSINE = np.array([math.comb(2 * k, k) / 4**k / (2 * k + 1) for k in range(26)])
"""Of the odd powers of x: to rounding up to x = 1/2."""


def i2(c: Float[Array, "n n"], units: int) -> Float[Array, "units n"]:
    r"""$E\,g(\lambda_i) g(\lambda_m) = \frac2\pi \arcsin \rho_{im}$ for each unit i and field m (Williams, 1998)."""
    return 2 / jnp.pi * arcsine(_correlations(c)[:units])


def j2(c: Float[Array, "n n"], units: int) -> Float[Array, "units n"]:
    r"""$E\,g'(\lambda_i) g'(\lambda_m)$ for each unit i and field m."""
    scale = _scale(c)
    return 2 / jnp.pi * scale[:units, None] * scale[None] / jnp.sqrt(1 - _correlations(c)[:units] ** 2)


def i3(c: Float[Array, "n n"], units: int) -> Float[Array, "units n n"]:
    r"""$E\,g'(\lambda_i)\,\lambda_l\,g(\lambda_m)$ for each unit i and fields l and m."""
    slope = c[:units] / (1 + _diagonal(c)[:units, None])
    return j2(c, units)[:, None] * (c[None] - slope[:, :, None] * c[:units, None])


def i4(c: Float[Array, "n n"], units: int) -> Float[Array, "units units n n"]:
    r"""$E\,g'(\lambda_i) g'(\lambda_k) g(\lambda_l) g(\lambda_m)$ for units i and k, and fields l and m."""

    def given(correlations):
        with_it = correlations[:units]
        scale = 1 / jnp.sqrt(1 - with_it**2)
        partial = correlations[None] - with_it[:, :, None] * with_it[:, None]
        return partial * scale[:, :, None] * scale[:, None]

    given_both = jax.vmap(given)(given(_correlations(c)))
    return j2(c, units)[:, :units, None, None] * (2 / jnp.pi * arcsine(given_both))


def _correlations(c: Float[Array, "n n"]) -> Float[Array, "n n"]:
    scale = _scale(c)
    return c * scale[:, None] * scale[None]


def _scale(c: Float[Array, "n n"]) -> Float[Array, " n"]:
    return 1 / jnp.sqrt(1 + _diagonal(c))


def _diagonal(c: Float[Array, "n n"]) -> Float[Array, " n"]:
    each = np.arange(len(c))
    return c[each, each]


@jax.custom_jvp
def arcsine(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """By its series, in vectors: XLA calls that of the C library for one number after the other."""
    size = jnp.abs(x)
    small = size <= 0.5
    square = jnp.where(small, size**2, (1 - size) / 2)
    series = functools.reduce(lambda value, each: value * square + each, ARCSINE[::-1].astype(x.dtype))
    near = jnp.where(small, size, jnp.sqrt(square)) * series
    return jnp.sign(x) * jnp.where(small, near, jnp.pi / 2 - 2 * near)


@arcsine.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return arcsine(x), dx / jnp.sqrt(1 - x**2)
