"""Any function, or another network, as the target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts


def wave(x):
    return jnp.sin(6 * x) + jnp.exp(-x)


def student(activation, neurons=6):
    rng = np.random.default_rng(0)
    positions = jnp.asarray(rng.uniform(-0.1, 1.1, (neurons, 1)))
    return tts.ShallowNetwork(jnp.asarray(rng.normal(size=(neurons, 1))), positions, jnp.asarray(0.3), activation)


def by_quadrature(model, target, kinks):
    width = getattr(model.activation, "eta", 0.0)
    u = np.ravel(model.positions)
    value = jax.jit(lambda x: (model(x) - target(x)) ** 2)
    points = np.concatenate([u, u - width / 2, u + width / 2, kinks])
    return reference.integral(lambda x: float(value(jnp.asarray(x))), points)


@pytest.mark.parametrize("activation", [tts.SmoothStep(0.1), tts.ReLU()])
def test_risk_of_a_smooth_target(activation):
    model, target = student(activation), tts.SmoothTarget(wave)
    risk, d = reference.quick(lambda: (tts.Regression(target).risk(model), tts.Regression(target).gradient(model)))
    assert risk == pytest.approx(by_quadrature(model, target, []), abs=1e-11)

    kinks = np.asarray(activation.kinks(model.positions[:, 0]))

    def mean_square(u):
        x, weights = reference.quadrature(np.concatenate([np.linspace(0, 1, 101), kinks]))
        moved = tts.ShallowNetwork(model.weights, u, model.bias, model.activation)
        return jnp.asarray(weights) @ (jax.vmap(moved)(jnp.asarray(x)) - target(jnp.asarray(x))) ** 2

    np.testing.assert_allclose(d.positions, reference.quick_jit(jax.grad(mean_square))(model.positions), atol=1e-9)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-10])
def test_stated_error_is_honest(tolerance):
    """The error of the rule against that of the finest, within the bound of the docstring."""
    model, target = student(tts.SmoothStep(0.3), 2), tts.SmoothTarget(wave, tolerance=tolerance)
    assert target.error <= 2 * tolerance
    risks = reference.quick(lambda: [tts.Regression(t).risk(model) for t in (target, tts.SmoothTarget(wave))])
    bound = 4 * target.error * np.sqrt(risks[1]) + 2 * target.error**2
    assert abs(risks[0] - risks[1]) <= bound + 1e-14


def test_kinks_of_a_function():
    bent = tts.SmoothTarget(lambda x: jnp.abs(x - 0.3), kinks=[0.3])
    assert bent.panels.tolist() == [0.3]
    model = student(tts.ReLU())
    line = tts.PiecewiseLinear([0.0, 0.3], [-1.0, 2.0], 0.3)
    risks = reference.quick(lambda: [tts.Regression(target).risk(model) for target in (bent, line)])
    assert risks[0] == pytest.approx(float(risks[1]), abs=1e-14)


@pytest.mark.parametrize("dimension", [1, 2])
def test_a_teacher_is_the_best_student(dimension):
    network = tts.ShallowNetwork.init(jax.random.key(0), 4, tts.SmoothStep(0.2), dimension, weight_range=2)
    other = tts.ShallowNetwork.init(jax.random.key(1), 6, tts.SmoothStep(0.1), dimension, weight_range=2, bias=False)
    problem = tts.Regression(tts.teacher(network))
    x, y = problem.sample(jax.random.key(2), 100_000)

    @reference.quick_jit
    def measured(x):
        return problem.risk(network), problem.risk(other), jax.vmap(network)(x), jax.vmap(other)(x)

    zero, risk, labels, output = measured(x)
    np.testing.assert_allclose(y, labels, atol=1e-14)
    assert zero < 1e-28
    losses = np.asarray((output - y) ** 2)
    assert abs(losses.mean() - risk) < 4 * losses.std() / np.sqrt(len(y))
    if dimension == 1:
        assert reference.quick_jit(tts.distance)(network, other) ** 2 == pytest.approx(float(risk), rel=1e-12)


def test_flow_towards_a_teacher():
    network = tts.ShallowNetwork.init(jax.random.key(0), 2, tts.SmoothStep(0.5), weight_range=2)
    model = tts.ShallowNetwork.init(jax.random.key(1), 3, tts.SmoothStep(0.5), weight_range=2)
    run = tts.simulate(tts.GradientFlow(0.1), model, tts.Regression(tts.teacher(network)), jnp.array([0.0, 1.0, 10.0]))
    assert run.status == tts.Status.SUCCESSFUL
    assert np.all(np.diff(run.risk) < 0)


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    reference.refuses(
        lambda: tts.SmoothTarget(lambda x: jnp.where(x > 1 / 3, 1.0, 0.0)), "not smooth near 0.33", "kinks"
    )
    reference.refuses(lambda: tts.SmoothTarget(lambda x: x / (0 * x)), "finite")
    reference.refuses(lambda: tts.teacher(wave), "got function")
