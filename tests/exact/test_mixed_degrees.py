"""Exact rules where neurons and targets are polynomials of different degrees, and kernels seen from both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.exact.kernels import arc_cosine, arc_sine

RAMP = tts.PiecewiseLinear([0.0], [1.0])
STAIR = tts.PiecewiseConstant([0.5], [0.0, 1.0])


def network(activation, dimension, weight=1.0):
    shape = 1, dimension
    return tts.ShallowNetwork(jnp.full(shape, weight), jnp.full(shape, 0.5), None, activation)


def test_sharp_steps_on_a_ramp_by_hand():
    r"""$\int_0^{1/2} x^2 + \int_{1/2}^1 (1 - x)^2 = 1/12$; of two such coordinates, of mean 0, the sum."""
    risks = [
        reference.quick_jit(tts.Regression(target).risk)(network(tts.Heaviside(), dimension))
        for target, dimension in ((RAMP, 1), (tts.Additive([RAMP, RAMP]), 2))
    ]
    np.testing.assert_allclose(risks, [1 / 12, 1 / 6], rtol=1e-14)


def test_ramps_on_a_stair_by_hand():
    r"""$r = x - 1/2$ right of 1/2 against 1: $\int_0^{1/2} (1 - s)^2 ds = 7/24$, mean $-3/8$."""
    model = network(tts.ReLU(), 1)
    both = tts.ShallowNetwork(jnp.ones((1, 2)), jnp.full((1, 2), 0.5), None, tts.ReLU())
    risks = [
        reference.quick_jit(tts.Regression(STAIR).risk)(model),
        reference.quick_jit(tts.Regression(tts.Additive([STAIR, STAIR])).risk)(both),
    ]
    np.testing.assert_allclose(risks, [7 / 24, 2 * (7 / 24 - 9 / 64) + 9 / 16], rtol=1e-14)


def test_one_smooth_component_beside_a_ramp():
    """A stair alone would have a closed form; beside a ramp everything is a rule, of the degree of the neurons."""
    stair = reference.quick_jit(tts.Regression(STAIR).risk)(network(tts.SmoothStep(0.2), 1))
    ramp = reference.quick_jit(tts.Regression(RAMP).risk)(network(tts.SmoothStep(0.2), 1))
    both = reference.quick_jit(tts.Regression(tts.Additive([STAIR, RAMP])).risk)(network(tts.SmoothStep(0.2), 2))
    assert stair == pytest.approx(0.2 / 28, rel=1e-12)  # the mean of either residual is 0
    assert both == pytest.approx(float(stair + ramp), rel=1e-12)


@pytest.mark.parametrize("kernel", [arc_cosine, arc_sine])
def test_kernels_are_symmetric_in_value_and_slope(kernel):
    rng = np.random.default_rng(0)
    w, v = jnp.asarray(rng.normal(size=3)), jnp.asarray(2 * rng.normal(size=3))
    slopes = reference.quick_jit(lambda w, v: (kernel(w, v), *jax.grad(kernel, (0, 1))(w, v)))
    value, d_w, d_v = slopes(w, v)
    assert np.max(np.abs(d_w - d_v)) > 0.1
    reference.close(slopes(v, w), (value, d_v, d_w), 1e-14)


def test_noise_of_a_teacher_is_normal_and_independent_of_the_inputs():
    teacher = tts.PerceptronNetwork.init(jax.random.key(1), 2, 3, tts.Erf())
    n = 20_000

    @reference.quick_jit
    def sample(key):
        x, y = tts.GaussianRegression(teacher, noise=0.3).sample(key, n)
        return x, (y - jax.vmap(teacher)(x)) / 0.3

    x, noise = sample(jax.random.key(0))
    together = np.cov(np.column_stack([x, noise]).T)
    np.testing.assert_allclose(together, np.eye(4), atol=4 * np.sqrt(2 / n))
