"""The distance between two networks, or two trajectories, as functions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import _checks as checks
from .activations import Heaviside, SmoothStep, verify as verify_activation
from .exact.mean_square import mean_square as of_steps
from .exact.quadrature import mean_square
from .networks import ShallowNetwork, trainable
from .trajectory import Trajectory


def distance(a: Trajectory | ShallowNetwork, b: Trajectory | ShallowNetwork) -> Float[Array, " t"] | Float[Array, ""]:
    r"""$\left(\int_0^1 (f_a - f_b)^2\,dx\right)^{1/2}$ at each common save time, exact to rounding.

    `a` and `b` are two networks, which give a scalar, or two trajectories with the same t save times, which give shape
    (t,): `ShallowNetwork`s of one input. Their activations (and the widths of these) may differ. Both functions are
    polynomials between known points, where the integral is taken piece by piece: the error is the rounding of the
    values of the functions, not its square root, however near they are.

    >>> import tts_jax as tts
    >>> a, b = (tts.ShallowNetwork([[1.0]], [[u]], 0.0, tts.Heaviside()) for u in (0.25, 0.5))
    >>> float(tts.distance(a, b))
    0.5

    Raises `ValueError` for save times that differ and for models without an exact distance.
    """
    if isinstance(a, Trajectory) and isinstance(b, Trajectory):
        _check_times(a.slow_time, b.slow_time)
        moving_a, fixed_a = eqx.partition(a.model, trainable(a.model))
        moving_b, fixed_b = eqx.partition(b.model, trainable(b.model))

        def at_one_time(leaves_a, leaves_b):
            return distance(eqx.combine(leaves_a, fixed_a), eqx.combine(leaves_b, fixed_b))

        return jax.vmap(at_one_time)(moving_a, moving_b)
    return _between(_network(a), _network(b))


def _between(a: ShallowNetwork, b: ShallowNetwork) -> Float[Array, ""]:
    kinds = {type(model.activation) for model in (a, b)}
    if SmoothStep in kinds and kinds <= {SmoothStep, Heaviside}:
        return jnp.sqrt(_of_steps(a, b))

    def difference(x):
        return jax.vmap(a)(x) - jax.vmap(b)(x)

    kinks = jnp.concatenate([model.activation.kinks(model.positions[:, 0]) for model in (a, b)])
    return jnp.sqrt(mean_square(difference, kinks, max(a.activation.degree, b.activation.degree)))


def _of_steps(a: ShallowNetwork, b: ShallowNetwork) -> Float[Array, ""]:
    """The mean square, in which sharp steps are jumps."""
    start = jnp.zeros_like(a.weights[0, 0])
    smooth, sharp = [], []
    for sign, model in ((1, a), (-1, b)):
        weights, positions = sign * model.weights[:, 0], model.positions[:, 0]
        start = start if model.bias is None else start + sign * model.bias
        if isinstance(model.activation, SmoothStep):
            smooth.append((weights, positions, jnp.broadcast_to(model.activation.eta, positions.shape)))
        else:
            sharp.append((weights, positions))
    weights, positions, widths = map(jnp.concatenate, zip(*smooth, strict=True))
    heights, jumps = map(jnp.concatenate, zip(*sharp, strict=True)) if sharp else (weights[:0], weights[:0])
    return of_steps(start, weights, positions, widths, heights, jumps)


def _network(model: Trajectory | ShallowNetwork) -> ShallowNetwork:
    if isinstance(model, ShallowNetwork) and model.positions.shape[1:] == (1,):
        verify_activation(model.activation)
        return model
    shape = f" with positions of shape {model.positions.shape}" if isinstance(model, ShallowNetwork) else ""
    raise ValueError(
        "distance needs two trajectories, or two ShallowNetworks with positions of shape (neurons, 1), "
        f"got {type(model).__name__}{shape}"
    )


def _check_times(a: Float[Array, " t"], b: Float[Array, " s"]) -> None:
    known_a, known_b = checks.concrete(a), checks.concrete(b)
    if a.shape != b.shape:
        got = f"{len(a)} and {len(b)} of them"
    elif known_a is None or known_b is None or (same := np.isclose(known_a, known_b, rtol=1e-6, atol=1e-12)).all():
        return
    else:
        k = int(np.argmin(same))
        got = f"{known_a[k]} and {known_b[k]} at index {k}"
    raise ValueError(f"trajectories must share their save times, got {got}: simulate both with the same slow_times")
