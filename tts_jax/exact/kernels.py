r"""Expectations over Gaussian inputs: $k(w, v) = E\,\phi(w \cdot x)\,\phi(v \cdot x)$ for $x \sim N(0, I_d)$."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def arc_cosine(w: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
    r"""For $\phi(z) = \max(z, 0)$: $\frac{|w||v|}{2\pi} (\sin\theta + (\pi - \theta)\cos\theta)$, $\theta$ the angle.

    Its derivatives are exact for parallel directions too, where that of the angle alone is infinite.

    Source: Cho and Saul (2009), their kernel of degree 1, halved.
    """
    area, angle = _area_and_angle(w, v)
    return (area + (jnp.pi - angle) * (w @ v)) / (2 * jnp.pi)


@arc_cosine.defjvp
def _(primals, tangents):
    (w, v), (dw, dv) = primals, tangents
    area, angle = _area_and_angle(w, v)
    slope_w = area * _unit_square(w) + (jnp.pi - angle) * v
    slope_v = area * _unit_square(v) + (jnp.pi - angle) * w
    return arc_cosine(w, v), (slope_w @ dw + slope_v @ dv) / (2 * jnp.pi)


def arc_sine(w: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
    r"""For $\phi = \mathrm{erf}$: $\frac2\pi \arcsin\frac{2\,w \cdot v}{\sqrt{(1 + 2|w|^2)(1 + 2|v|^2)}}$.

    Source: Williams (1998).
    """
    return 2 / jnp.pi * jnp.arcsin(2 * (w @ v) / jnp.sqrt((1 + 2 * (w @ w)) * (1 + 2 * (v @ v))))


def _area_and_angle(w: Float[Array, " d"], v: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""$|w||v| \sin\theta$ and $\theta$, without cancellation between nearly parallel directions."""
    across = v - (w @ v) * _unit_square(w)
    square = (across @ across) * (w @ w)
    apart = square > 0
    area = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
    inner = w @ v
    known = apart | (inner != 0)
    return area, jnp.arctan2(area, jnp.where(known, inner, 1.0))


def _unit_square(w: Float[Array, " d"]) -> Float[Array, " d"]:
    """`w / |w|^2`, and 0 for 0."""
    square = w @ w
    return jnp.where(square > 0, w / jnp.where(square > 0, square, 1.0), 0.0)
