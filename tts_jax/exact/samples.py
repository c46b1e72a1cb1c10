r"""The gradient of the squared error of samples, for a network of smooth steps with one input.

With $z = (x - u)/\eta$ and $r = b + \sum_j a_j \sigma(z_j) - y$ that of one sample is

$$\nabla_b = 2r, \qquad \nabla_a = 2r\,\sigma(z), \qquad \nabla_u = -2r\,a\,\sigma'(z)/\eta .$$

Runs lie side by side along the last axis of every array: a processor treats several of them in each instruction, and
the sum over neurons adds vectors.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..activations import SmoothStep
from ..networks import ShallowNetwork


def of_arrays(
    params: ShallowNetwork,
    activation: SmoothStep,
    x: Float[Array, "*runs"],
    y: Float[Array, "*runs"],
    factor: float | Float[Array, ""],
) -> ShallowNetwork:
    """With `factor` in place of 2. Weights and positions have shape (neurons, 1, runs)."""
    value, slope = activation.value_and_slope(x[None, None] - params.positions)
    # Within the sum, not after it: otherwise the CPU backend of XLA computes it anew for each leaf.
    offset = (-y if params.bias is None else params.bias - y) / len(value)
    pull = factor * jnp.sum(params.weights * value + offset[None, None], axis=(0, 1))
    bias = None if params.bias is None else pull
    pull = pull[None, None]
    return _with_leaves(params, pull * value, -pull * (params.weights * slope), bias)


def of_rows(params: ShallowNetwork, activation: SmoothStep, x: Array, y: Array, factor: float) -> ShallowNetwork:
    """The same for weights and positions that are tuples of vectors, one for each neuron."""
    value, slope = zip(*(activation.value_and_slope(x - position) for position in params.positions), strict=True)
    residual = -y if params.bias is None else params.bias - y
    residual = sum((weight * v for weight, v in zip(params.weights, value, strict=True)), start=residual)
    pull = factor * residual
    return _with_leaves(
        params,
        tuple(pull * v for v in value),
        tuple(-pull * (weight * s) for weight, s in zip(params.weights, slope, strict=True)),
        None if params.bias is None else pull,
    )


def weighted(
    params: ShallowNetwork,
    activation: SmoothStep,
    x: Float[Array, "n 1"],
    y: Float[Array, "n k"],
    coefficients: Float[Array, "n k"],
) -> ShallowNetwork:
    """The gradient of the sum over inputs and their labels, with these coefficients, for one run."""
    weights = params.weights[:, 0]
    value, slope = activation.value_and_slope(x.T - params.positions)
    output = weights @ value if params.bias is None else params.bias + weights @ value
    pull = jnp.sum(2 * coefficients * (output[:, None] - y), axis=1)
    return _with_leaves(
        params,
        (value @ pull)[:, None],
        (-weights * (slope @ pull))[:, None],
        None if params.bias is None else jnp.sum(pull),
    )


def _with_leaves(params: ShallowNetwork, *leaves: object) -> ShallowNetwork:
    return eqx.tree_at(lambda m: (m.weights, m.positions, m.bias), params, leaves, is_leaf=lambda leaf: leaf is None)
