r"""The smoothed step in units of its width, its derivatives and its antiderivative.

$\sigma$ is 0 below -1/2, $4(z + 1/2)^3$ on [-1/2, 0], $1 - 4(1/2 - z)^3$ on [0, 1/2] and 1 above. Branches are chosen
by `where(z <= 0, ...)`, never by `abs`, so that automatic differentiation takes the true one-sided derivative at z = 0
too.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Z = Float[Array, "..."]


def half_window(z: Z) -> Z:
    return jnp.maximum(jnp.where(z <= 0, 0.5 + z, 0.5 - z), 0.0)


def value_of(z: Z, half_window: Z) -> Z:
    cube = 4 * half_window**3
    return jnp.where(z <= 0, cube, 1 - cube)


def slope_of(half_window: Z) -> Z:
    return 12 * half_window**2


@jax.custom_jvp
def value(z: Z) -> Z:
    return value_of(z, half_window(z))


@jax.custom_jvp
def slope(z: Z) -> Z:
    return slope_of(half_window(z))


def curvature(z: Z) -> Z:
    bend = 24 * half_window(z)
    return jnp.where(z <= 0, bend, -bend)


@jax.custom_jvp
def antiderivative(z: Z) -> Z:
    """0 at -infinity."""
    return half_window(z) ** 4 + jnp.where(z <= 0, 0.0, z)


@jax.custom_jvp
def value_with_box(z: Z) -> Z:
    """The value, which automatic differentiation takes to have the slope 1 on [-1/2, 1/2]."""
    return value_of(z, half_window(z))


antiderivative.defjvps(lambda dz, _, z: value(z) * dz)
value.defjvps(lambda dz, _, z: slope(z) * dz)
slope.defjvps(lambda dz, _, z: curvature(z) * dz)
value_with_box.defjvps(lambda dz, _, z: jnp.where(jnp.abs(z) <= 0.5, dz, jnp.zeros_like(dz)))
