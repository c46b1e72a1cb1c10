"""Neurons that are equal, and neurons that merge: where weights are ill-conditioned and the network is not."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax.exact import quadratic

TARGET = tts.PiecewiseConstant([0.2, 0.35, 0.5, 0.65, 0.8], [1.0, 5.0, 1.0, 3.0, 1.0, 5.0])
PROBLEM = tts.Regression(TARGET)


def network(positions, weights, eta):
    return tts.ShallowNetwork(
        jnp.asarray(weights)[:, None], jnp.asarray(positions)[:, None], jnp.array(0.0), tts.SmoothStep(eta)
    )


def equal_neurons(epsilon, times):
    """Weights and positions of three equal neurons and two others, from positions out of order."""
    model = network([0.3, 0.1, 0.3, 0.9, 0.3], [0.5, 1.0, 0.5, 2.0, 0.5], 0.1)
    trained = tts.simulate(tts.GradientFlow(epsilon, rtol=1e-8, atol=1e-8), model, PROBLEM, jnp.asarray(times)).model
    return model, trained.weights[..., 0], trained.positions[..., 0]


@pytest.mark.parametrize("epsilon", [1e-2, 1e-6, 1e-9])
def test_equal_neurons_stay_equal(epsilon):
    _, weights, positions = equal_neurons(epsilon, [0.1, 0.5, 1.0])
    for x in (weights, positions):
        np.testing.assert_array_equal(x[:, 0], x[:, 2])
        np.testing.assert_array_equal(x[:, 0], x[:, 4])
        assert np.isfinite(x).all()


def test_equal_neurons_move_as_one():
    """With the closed form of all pairs, by SciPy."""
    epsilon, times = 1e-2, np.array([0.01, 0.1])
    model, weights, positions = equal_neurons(epsilon, times)
    first, of = np.array([0, 1, 3]), np.array([0, 1, 0, 2, 0])

    def velocity(_, y):
        bias, a, u = y[:1], y[1:4], y[4:]
        vector = jnp.asarray(np.concatenate([bias, a[of]]))
        d_a, d_u = quadratic.gradient(model.activation, TARGET, vector, jnp.asarray(u[of]))
        return -np.concatenate([d_a[:1], d_a[1 + first], epsilon * d_u[first]]) / epsilon

    start = np.array([0.0, 0.5, 1.0, 2.0, 0.3, 0.1, 0.9])
    want = solve_ivp(velocity, (0, times[-1]), start, "LSODA", times, rtol=1e-9, atol=1e-9).y.T
    np.testing.assert_allclose(weights[:, first], want[:, 1:4], atol=1e-6)
    np.testing.assert_allclose(positions[:, first], want[:, 4:], atol=1e-7)


@pytest.mark.parametrize(
    ("epsilon", "risk", "gap"),
    [(1e-7, 0.30708638, 0.0410), (1e-9, 0.30708344, 0.0134), (1e-10, 0.30708322, 0.0076), (1e-11, 0.30708315, 0.0043)],
)
def test_a_merger_costs_no_more_at_small_epsilon(epsilon, risk, gap):
    """At slow time 3; the risk, and the gap in units of eta, are those of the flow in weights, which took 3,908 to
    61,244 steps."""
    start = [0.010997, 0.325749, 0.355626, 0.360542, 0.490099, 0.643395]
    model = network(start, np.zeros(6), 4e-3)
    trajectory = tts.simulate(tts.GradientFlow(epsilon, rtol=1e-8, atol=1e-8), model, PROBLEM, jnp.array([3.0]))
    assert trajectory.status == tts.Status.SUCCESSFUL
    assert float(trajectory.risk[-1]) == pytest.approx(risk, abs=2e-8)
    assert trajectory.stats.steps < 2000
    positions = np.sort(trajectory.model.positions[0, :, 0])
    assert np.diff(positions).min() / 4e-3 == pytest.approx(gap, abs=1e-4)
