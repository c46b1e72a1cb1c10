"""The distance between two networks, or two trajectories, as functions."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import equinox as eqx

from . import checks
from .networks import ShallowNetwork, trainable
from .piecewise import mean_square
from .trajectory import Trajectory


def distance(a: Trajectory | ShallowNetwork, b: Trajectory | ShallowNetwork) -> Float[Array, " t"] | Float[Array, ""]:
    r"""$\left(\int_0^1 (f_a - f_b)^2\,dx\right)^{1/2}$ at each common save time, exact to rounding.

    Two networks give a scalar, two trajectories with the same save times one number for each. The activations (and
    their widths) may differ. Both functions are polynomials between known points, where the integral is taken piece
    by piece; so a small distance has the same relative accuracy as a large one.

    Raises `ValueError` for save times that differ and for models without an exact distance.
    """
    if isinstance(a, Trajectory) and isinstance(b, Trajectory):
        times = checks.concrete(a.slow_time), checks.concrete(b.slow_time)
        if a.slow_time.shape != b.slow_time.shape or (
            times[0] is not None and times[1] is not None and not np.allclose(*times, rtol=1e-6, atol=1e-12)
        ):
            raise ValueError(
                f"trajectories must share their save times, got {a.slow_time.shape[0]} and {b.slow_time.shape[0]} "
                "that differ: simulate both with the same slow_times"
            )
        moving_a, fixed_a = eqx.partition(a.model, trainable(a.model))
        moving_b, fixed_b = eqx.partition(b.model, trainable(b.model))

        def at_one_time(leaves_a, leaves_b):
            return distance(eqx.combine(leaves_a, fixed_a), eqx.combine(leaves_b, fixed_b))

        return jax.vmap(at_one_time)(moving_a, moving_b)
    for model in (a, b):
        if not isinstance(model, ShallowNetwork) or model.positions.shape[-1] != 1:
            raise ValueError(
                f"distance needs two trajectories, or two one-dimensional ShallowNetworks, got {type(model).__name__}"
            )

    def difference(x):
        return jax.vmap(a)(x) - jax.vmap(b)(x)

    kinks = jnp.concatenate([model.activation.kinks(model.positions[:, 0]) for model in (a, b)])
    return jnp.sqrt(mean_square(difference, kinks, max(a.activation.degree, b.activation.degree)))
