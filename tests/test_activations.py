"""The activations, their derivatives and their integrals over [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.problems.base import squared_error

ETAS = np.array([4e-3, 0.05, 0.3, 0.9, 1.7])
S = np.concatenate([np.linspace(-1.1, 1.1, 45), [-0.5, 0.5, 0.0, -1e-9, 1e-9, 40.0, -40.0]])
"""Arguments in units of the width, the ends of the window and its middle among them."""


def step(eta, z, surrogate=None):
    return tts.SmoothStep(eta, surrogate)(z)


def test_smooth_step_is_sigma_of_z_over_eta():
    z = ETAS[:, None] * S
    np.testing.assert_allclose(jax.vmap(step)(ETAS, z), reference.step(z / ETAS[:, None]), atol=1e-15)


def test_smooth_step_is_0_and_1_outside_its_window_and_symmetric():
    values = jax.vmap(step)(ETAS, ETAS[:, None] * S)
    assert not np.any(values[:, S <= -0.5])
    assert np.all(values[:, S >= 0.5] == 1)
    np.testing.assert_allclose(values, 1 - jax.vmap(step)(ETAS, -ETAS[:, None] * S), atol=1e-15)


def test_derivatives_of_smooth_step():
    by_z = jax.grad(step, argnums=1)

    def derivatives(eta, z):
        return by_z(eta, z), jax.grad(by_z, argnums=1)(eta, z), jax.grad(step)(eta, z)

    eta, z = ETAS[:, None], ETAS[:, None] * S
    first, second, by_eta = jax.jit(jax.vmap(jax.vmap(derivatives, (None, 0))))(ETAS, z)
    s = z / eta
    np.testing.assert_allclose(first * eta, reference.step_slope(s), atol=1e-13)
    np.testing.assert_allclose(by_eta * eta, -s * reference.step_slope(s), atol=1e-13)
    one_sided = np.where(s == 0, 12.0, reference.step_curvature(s))  # sigma'' jumps at 0: its limit from the left
    np.testing.assert_allclose(second * eta**2, one_sided, atol=1e-12)


@pytest.mark.parametrize("activation", [tts.SmoothStep(0.2), tts.Heaviside()], ids=["SmoothStep", "Heaviside"])
def test_between_kinks_lies_a_polynomial_of_the_stated_degree(activation):
    positions = jnp.array([0.2, 0.5])
    edges = np.concatenate([[-1.0], np.sort(activation.kinks(positions)), [2.0]])
    nodes = np.linspace(0.01, 0.9, activation.degree + 2)[:, None]
    x = edges[:-1] + np.diff(edges) * nodes
    values = activation(x[..., None] - positions[None, None]) @ jnp.array([2.0, 3.0])
    np.testing.assert_allclose(np.diff(values, activation.degree + 1, axis=0), 0, atol=1e-13)


def test_heaviside():
    z = jnp.array([-1.0, -1e-300, 0.0, 1e-300, 1.0])
    np.testing.assert_array_equal(tts.Heaviside()(z), [0, 0, 1, 1, 1])
    assert tts.Heaviside()(z.astype("float32")).dtype == "float32"
    off_zero = jnp.array([-1.0, -1e-7, 1e-7, 1.0])
    np.testing.assert_array_equal(tts.SmoothStep(1e-7)(off_zero), tts.Heaviside()(off_zero))


def box_gradient(weights, positions, bias, eta, x, y):
    """The published inner gradient of one sample."""
    residual = bias + weights @ reference.step((x - positions) / eta) - y
    return -2 * residual * weights * (np.abs(x - positions) <= eta / 2) / eta


def test_box_replaces_the_derivative_alone():
    z = ETAS[:, None] * S
    derivative = jax.vmap(jax.vmap(jax.grad(lambda z, eta: step(eta, z, "box")), (0, None)))
    np.testing.assert_array_equal(jax.vmap(lambda eta, z: step(eta, z, "box"))(ETAS, z), jax.vmap(step)(ETAS, z))
    np.testing.assert_allclose(derivative(z, ETAS), (np.abs(z) <= ETAS[:, None] / 2) / ETAS[:, None], rtol=1e-15)


def test_box_in_the_gradient_of_one_sample():
    case = reference.random_case(np.random.default_rng(2), 0.3, jumps=1, bias=True, neurons=8)
    model, _ = reference.build(case)
    boxed = tts.ShallowNetwork(model.weights, model.positions, model.bias, tts.SmoothStep(0.3, "box"))
    x, y = jnp.array([[0.4]]), jnp.array([1.0])
    got = jax.jit(jax.grad(squared_error))(boxed, x, y)
    want = box_gradient(case.weights, case.positions, case.bias, 0.3, 0.4, 1.0)
    np.testing.assert_allclose(got.positions[:, 0], want, atol=1e-12)
    exact = jax.jit(jax.grad(squared_error))(model, x, y)
    np.testing.assert_array_equal(got.weights, exact.weights)
    assert np.abs(got.positions - exact.positions).max() > 0.1


def test_box_leaves_the_exact_risk_alone():
    """The closed forms do not pass through the activation."""
    case = reference.random_case(np.random.default_rng(2), 0.3, jumps=5, bias=True, neurons=8)
    model, problem = reference.build(case)
    direction = jnp.asarray(np.random.default_rng(3).normal(size=(8, 1)))

    @reference.quick_jit
    def closed_and_autodiff(positions):
        boxed = tts.ShallowNetwork(model.weights, positions, model.bias, tts.SmoothStep(0.3, "box"))
        move = jax.tree.map(jnp.zeros_like, boxed)
        move = tts.ShallowNetwork(move.weights, direction, move.bias, move.activation)
        return problem.gradient(boxed).positions, jax.jvp(problem.risk, (boxed,), (move,))[1]

    want = reference.answer(case).gradient.positions
    closed, autodiff = closed_and_autodiff(model.positions)
    np.testing.assert_allclose(np.ravel(closed), want, atol=1e-12)
    assert autodiff == pytest.approx(float(want @ np.ravel(direction)), abs=1e-12)


@pytest.mark.parametrize("surrogate", [None, "box"])
def test_jit_and_vmap_change_nothing(surrogate):
    def value_and_slope(batch):
        return jax.value_and_grad(lambda z: step(batch[0], z, surrogate))(batch[1])

    reference.same_under_jit_and_vmap(value_and_slope, (np.full(9, 0.3), np.linspace(-0.2, 0.2, 9)))


@pytest.mark.parametrize("eta", [0.0, -0.004, np.nan, np.inf, -1])
def test_refuses_a_width(eta):
    reference.refuses(lambda: tts.SmoothStep(eta), "eta", str(eta), "positive")


def test_refuses_a_surrogate():
    reference.refuses(lambda: tts.SmoothStep(0.1, surrogate="hat"), "'hat'", "'box'")


def test_a_traced_width_passes():
    assert jax.jit(lambda eta: step(eta, jnp.zeros(())))(0.1) == 0.5
