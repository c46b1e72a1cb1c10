"""The flow of several inputs in local coordinates, against closed forms of all pairs, SciPy and Diffrax."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax.dynamics.flow.additive import AdditiveFlow
from tts_jax.dynamics.flow.neurons import Setting
from tts_jax.exact import additive

ETA = 0.2
TARGETS = (
    tts.PiecewiseConstant([0.3, 0.5, 0.7], [0.0, 1.0, 2.0, 3.0]),
    tts.PiecewiseConstant([0.4], [1.0, -1.0]),
    tts.PiecewiseConstant([0.05, 0.9], [2.0, 0.0, 1.0]),
)
# Of three coordinates: apart; near, coincident and with windows that an edge cuts; outside.
POSITIONS = np.array([[0.1, 0.55, -0.4], [0.8, 0.55, 0.02], [0.35, 0.6, -0.03], [0.6, 0.97, 1.3], [0.9, 0.99, 0.5]])
WEIGHTS = np.array([[1.0, 2.0, -1.0], [-1.5, -3.0, 0.5], [0.5, 1.0, 1.0], [2.0, -0.7, -2.0], [-1.0, 0.4, 1.5]])
PROBLEM = tts.Regression(tts.Additive(TARGETS))


def network(bias, positions=POSITIONS, weights=WEIGHTS):
    return tts.ShallowNetwork(weights, positions, 0.3 if bias else None, tts.SmoothStep(ETA))


def in_local_coordinates(bias, epsilon):
    """The equation at the network, the state as it wants it, its parameters, and the rows in that order."""
    flow = AdditiveFlow(5, 3, bias, reach=4)
    jumps = jnp.array([[0.3, 0.4, 0.05], [0.5, 1.0, 0.9], [0.7, 1.0, 1.0]])
    values = jnp.array([[0.0, 1.0, 2.0], [1.0, -1.0, 0.0], [2.0, -1.0, 1.0], [3.0, -1.0, 1.0]])
    setting = Setting(jnp.full(1, epsilon), None, jnp.full(1, ETA), jumps[..., None], values[..., None])
    y = jnp.concatenate(network(bias).vectors)[:, None]
    order = flow.order(y)
    return flow, jnp.take_along_axis(y, order, axis=0), setting, order[:, 0]


def by_weights(flow, d):
    """A derivative by the state from that by plateaus and positions."""
    bias, c, u = flow.split(d)
    return flow.join(bias, jnp.cumsum(c[::-1], axis=0)[::-1], u)[:, 0]


@pytest.mark.parametrize("bias", [False, True])
def test_velocity_is_the_gradient(bias):
    flow, y, setting, order = in_local_coordinates(bias, 1e-3)
    got = by_weights(flow, flow.velocity(y, setting))
    want = jnp.concatenate(additive.gradient(network(bias), tts.SmoothStep(ETA), TARGETS))
    np.testing.assert_allclose(got, -want[order], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("epsilon", "shift"), [(1.0, 30.0), (1.0, 1e4), (1e-6, 1e4), (1e-6, 300.0)])
def test_solves_the_shifted_system(bias, epsilon, shift):
    flow, y, setting, order = in_local_coordinates(bias, epsilon)
    factors = flow.factor(y, setting, jnp.full(1, shift), flow.workspace(y))
    x = jax.random.normal(jax.random.key(0), y.shape)
    # Equal in both: a step moves them alike.
    d_aa, d_au, d_uu = additive.hessian(network(bias), tts.SmoothStep(ETA), TARGETS)
    hessian = jnp.block([[d_aa, d_au], [d_au.T, d_uu]])[order][:, order]
    mass = np.where(np.arange(len(y)) < len(y) - 15, epsilon, 1.0)
    image = (shift * mass * x[:, 0] + hessian @ x[:, 0])[:, None]
    bias_row, a, u = flow.split(image)
    rows = flow.join(bias_row, a - jnp.concatenate([a[1:], jnp.zeros_like(a[:1])]), u)
    eigenvalues = np.linalg.eigvalsh(np.diag(shift * mass) + hessian)
    got = flow.solve(factors, setting, rows)
    if eigenvalues[0] < 0:
        assert (epsilon, shift) == (1e-6, 300.0)
        assert np.isnan(got).all()
    else:
        np.testing.assert_allclose(got, x, atol=1e-15 * eigenvalues[-1] / eigenvalues[0])
    np.testing.assert_allclose(
        by_weights(flow, flow.mass(x, setting)), mass * x[:, 0], rtol=1e-13, atol=1e-13 * epsilon
    )


@eqx.filter_jit
def run(positions, weights, epsilon, adjoint=None, bias=0.3):
    model = tts.ShallowNetwork(weights, positions, bias, tts.SmoothStep(ETA))
    flow = tts.GradientFlow(epsilon, rtol=1e-8, atol=1e-8, adjoint=adjoint)
    return tts.simulate(flow, model, PROBLEM, jnp.array([0.0, 0.01, 0.1]))


def test_a_run_against_scipy():
    epsilon = 0.02

    @jax.jit
    def velocity(tau, y):
        model = network(True).with_vectors(y[:16], y[16:])
        d = reference.gradient_by_autodiff(PROBLEM, model)
        d_a, d_u = model.with_vectors(*d.vectors).vectors
        return -jnp.concatenate([d_a / epsilon, d_u])

    start = np.concatenate(network(True).vectors)
    want = solve_ivp(velocity, (0, 0.1), start, "LSODA", [0.0, 0.01, 0.1], rtol=1e-10, atol=1e-10)
    got = run(POSITIONS, WEIGHTS, epsilon)
    assert got.status == tts.Status.SUCCESSFUL
    states = np.concatenate(
        [got.model.bias[:, None], got.model.weights.reshape(3, -1), got.model.positions.reshape(3, -1)], axis=1
    )
    np.testing.assert_allclose(states, want.y.T, atol=1e-6)


def test_together_are_alone():
    """One start is not finite; one has equal neurons, which stay equal."""
    rng = np.random.default_rng(0)
    positions, weights = rng.uniform(0, 1, (4, 5, 3)), rng.normal(size=(4, 5, 3))
    positions[1, 2, 1] = np.nan
    positions[2, 0], weights[2, 0] = positions[2, 1], weights[2, 1]
    together = eqx.filter_jit(jax.vmap(lambda *run_of: run(*run_of)))(positions, weights, np.geomspace(1e-6, 1, 4))
    np.testing.assert_array_equal(together.status != tts.Status.SUCCESSFUL, [False, True, False, False])
    for i, epsilon in enumerate(np.geomspace(1e-6, 1, 4)):
        one = run(positions[i], weights[i], epsilon)
        np.testing.assert_allclose(together.risk[i], one.risk, rtol=1e-9)
    for leaf in (together.model.positions, together.model.weights):
        np.testing.assert_array_equal(leaf[2, :, 0], leaf[2, :, 1])


def test_reverse_mode():
    """By way of Diffrax; against a difference quotient of the flow itself."""
    problem = tts.Regression(tts.Additive(TARGETS[1:]))
    model = tts.ShallowNetwork(WEIGHTS[:2, 1:], POSITIONS[:2, 1:], None, tts.SmoothStep(ETA))

    @jax.jit
    def final(epsilon):
        flow = tts.GradientFlow(epsilon, rtol=1e-8, atol=1e-8)
        return tts.simulate(flow, model, problem, jnp.array([0.1])).risk[-1]

    epsilon, step = 0.05, 1e-3
    wanted = (final(epsilon + step) - final(epsilon - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(final)(epsilon), wanted, rtol=1e-3)
