"""The risk of an additive network: its variances do not drown in the means."""

import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts

MEAN = 1e6


def zero(neurons, dimension, bias, activation):
    shape = neurons, dimension
    return tts.ShallowNetwork(jnp.zeros(shape), jnp.full(shape, 0.5), bias, activation)


@pytest.mark.parametrize("bias", [None, 0.0])
def test_a_small_variance_beside_large_means(bias):
    r"""Components $\pm 10^6$ and a slope s each: $R = (s_1^2 + s_2^2)/12 + (s_1/2 + s_2/2)^2$."""
    slopes = np.array([2e-2, -1e-2])
    components = [tts.PiecewiseLinear([0.0], [s], m) for s, m in zip(slopes, (MEAN, -MEAN), strict=True)]
    problem = tts.Regression(tts.Additive(components))
    model = zero(2, 2, bias if bias is None else jnp.asarray(bias), tts.ReLU())
    want = np.sum(slopes**2) / 12 + (np.sum(slopes) / 2) ** 2
    assert reference.quick_jit(problem.risk)(model) == pytest.approx(want, rel=1e-6)


def test_a_bias_that_meets_the_means_leaves_the_variance():
    slopes = np.array([1e-2, 3e-2, -2e-2])
    components = [tts.PiecewiseLinear([0.0], [s], MEAN - s / 2) for s in slopes]
    problem = tts.Regression(tts.Additive(components))
    model = zero(2, 3, jnp.asarray(3 * MEAN), tts.ReLU())
    risk = reference.quick_jit(problem.risk)(model)
    assert risk == pytest.approx(np.sum(slopes**2) / 12, rel=1e-6)
