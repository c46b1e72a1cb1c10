"""Save times that no check sees, and steps that no float holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts

DYNAMICS = tts.GradientFlow(0.05), tts.SGD(0.05, 0.01), tts.ReducedFlow(), tts.TwoTimescaleLimit()


@pytest.mark.parametrize("dynamics", DYNAMICS, ids=lambda dynamics: type(dynamics).__name__)
def test_traced_times_that_decrease_give_nan(dynamics):
    """They cannot be refused: no check sees them."""
    model, problem = reference.build(reference.small_case())
    key = jax.random.key(0) if dynamics.stochastic else None

    @reference.quick_jit
    def of_times(times):
        run = tts.simulate(dynamics, model, problem, times, key=key)
        return run.risk, run.model.weights, run.status

    for bad in ([0.0, 0.02, 0.01], [-0.01, 0.01, 0.02]):
        risk, weights, status = of_times(jnp.array(bad))
        assert np.isnan(risk).all()
        assert np.isnan(weights).all()
        assert status == tts.Status.DIVERGED
    risk, _, status = of_times(jnp.array([0.0, 0.01, 0.01]))
    assert np.isfinite(risk).all()
    assert status == tts.Status.SUCCESSFUL


def test_steps_too_small_for_a_float_are_refused():
    model, problem = reference.build(reference.small_case())
    reference.refuses(lambda: tts.GradientFlow(1e-320), "epsilon must be positive", "1e-320, beyond what float64 holds")
    tiny = tts.SGD(1e-300, 1e-300)
    reference.refuses(lambda: tts.simulate(tiny, model, problem, [0.0, 0.1], key=jax.random.key(0)), "takes inf steps")
