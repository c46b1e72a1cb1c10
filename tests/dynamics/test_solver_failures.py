"""A run that its solver cannot continue says so, in each dynamics."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.activations import AbstractActivation


class Number(eqx.Module):
    value: jax.Array
    other: jax.Array

    def __call__(self, x):
        return self.value + 0 * self.other


TIMES = np.array([0.0, 0.1, 0.5, 1.0])


def downhill(loss, solver):
    """One fast number from 0, in a flow that gets faster or ends."""
    data = tts.Dataset(jnp.zeros((1, 1)), jnp.zeros(1), loss=loss)
    flow = tts.GradientFlow(1.0, slow=lambda m: m.other, solver=solver, rtol=1e-3, atol=1e-3, max_steps=2**12)
    return reference.quick(lambda: tts.simulate(flow, Number(jnp.zeros(()), jnp.zeros(())), data, TIMES))


def fails_between(run, kept):
    assert run.status == tts.Status.SOLVER_FAILED
    np.testing.assert_array_equal(np.isfinite(run.risk), np.arange(len(TIMES)) < kept)


def test_a_flow_into_a_root():
    """$v' = 1/(2 sqrt(1/4 - v))$ ends at $v = 1/4$, at time 1/6."""
    run = downhill(lambda prediction, label: jnp.sqrt(0.25 - prediction), None)
    assert run.stats.method == "Rodas5P, dense Jacobian"
    fails_between(run, 2)
    np.testing.assert_allclose(run.model.value[1], 0.25 - (0.125 - 0.75 * 0.1) ** (2 / 3), atol=1e-3)
    assert np.isnan(run.model.value[2:]).all()
    assert run.stats.factorisations == run.stats.steps + run.stats.rejected > run.stats.steps


def test_another_solver():
    """The equation of an implicit step has no solution."""
    run = downhill(lambda prediction, label: jnp.where(prediction > 0.7, jnp.nan, -prediction), diffrax.ImplicitEuler())
    assert run.stats.method == "ImplicitEuler"
    fails_between(run, 3)


def test_a_risk_that_is_not_finite_at_one_time_has_diverged():
    """Steps of fixed size end well, beyond where the loss is a number."""
    run = downhill(lambda prediction, label: jnp.where(prediction > 0.7, jnp.nan, -prediction), diffrax.Euler())
    assert run.status == tts.Status.DIVERGED
    np.testing.assert_array_equal(np.isfinite(run.risk), [True, True, True, False])


@pytest.mark.parametrize("kind", [tts.ReducedFlow, lambda **options: tts.GradientFlow(0.1, **options)])
def test_tolerances_are_those_given(kind):
    """Relative and absolute, each with the default of its precision."""
    double, single = jnp.dtype("float64"), jnp.dtype("float32")
    assert kind(rtol=1e-3, atol=1e-6).integration.tolerances(double, closed_form=True) == (1e-3, 1e-6)
    assert kind(atol=1e-6).integration.tolerances(double, closed_form=True) == (1e-10, 1e-6)
    assert kind(atol=1e-5).integration.tolerances(double, closed_form=False) == (1e-6, 1e-5)
    assert kind(rtol=1e-3).integration.tolerances(single, closed_form=True) == (1e-3, np.float32(1e-5))


class Root(AbstractActivation):
    """The fourth root, infinitely steep at 0, and NaN below."""

    degree = 1

    def __call__(self, z):
        return jnp.sqrt(jnp.sqrt(z))

    def kinks(self, positions):
        return positions


def test_the_reduced_flow_into_a_root():
    """The neuron is drawn to the first row, where its features end."""
    model = tts.ShallowNetwork(jnp.zeros((1, 1)), jnp.full((1, 1), 0.38), None, Root())
    data = tts.Dataset(np.array([[0.4], [0.9]]), np.array([0.0, 1.0]))
    run = reference.quick(
        lambda: tts.simulate(tts.ReducedFlow(rtol=1e-4, atol=1e-4, max_steps=2**12), model, data, TIMES)
    )
    assert run.stats.method == "Rodas5P, dense Jacobian"
    fails_between(run, int(np.isfinite(run.risk).sum()))
    assert 1 <= np.isfinite(run.risk).sum() < len(TIMES)


def test_an_arrival_after_the_flow_failed_is_not_known():
    """Unlike one that never comes, or has come before."""
    positions = jnp.asarray([0.1, 0.305, 0.9])[:, None]
    model = tts.ShallowNetwork(jnp.zeros_like(positions), positions, jnp.zeros(()), tts.SmoothStep(0.02))
    problem = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [1.0, 3.0, 2.0]))
    flow = tts.GradientFlow(1e-3, max_steps=2)
    times = reference.quick(lambda: tts.diagnostics.hit_times(flow, model, problem, 1.0))
    np.testing.assert_array_equal(times, [0.0, np.nan])
