"""When a neuron arrives at a jump."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.diagnostics import hit_times

TARGET = tts.PiecewiseConstant([0.3, 0.6], [1.0, 3.0, 2.0])
PROBLEM = tts.Regression(TARGET)


def model(eta, positions=(0.1, 0.25, 0.38, 0.52, 0.7, 0.9)):
    positions = jnp.asarray(positions)[:, None]
    return tts.ShallowNetwork(jnp.zeros_like(positions), positions, jnp.zeros(()), tts.SmoothStep(eta))


def test_the_window_arrives_then():
    eta = 0.02
    times = hit_times(tts.GradientFlow(1e-3), model(eta), PROBLEM, 1.0)
    assert jnp.isfinite(times).all()
    order = jnp.argsort(times)
    run = tts.simulate(tts.GradientFlow(1e-3), model(eta), PROBLEM, times[order])
    for save, jump in zip(run.model.positions[..., 0], TARGET.jumps[order], strict=True):
        np.testing.assert_allclose(jnp.abs(save - jump).min(), eta / 2, atol=1e-7)


def test_limit_of_small_epsilon_and_eta():
    from tts_jax.dynamics.limit.pair import hit_times as limit

    exact = limit(model(0.02).positions[:, 0], TARGET)
    errors = [
        float(jnp.abs(hit_times(tts.GradientFlow(1e-7), model(eta), PROBLEM, 1.0) - exact).max())
        for eta in (0.02, 0.01, 0.005)
    ]
    assert errors[0] < 0.02
    assert 1.5 < errors[0] / errors[1] < 2.5
    assert 1.5 < errors[1] / errors[2] < 2.5


def test_never_and_already():
    start = model(0.02, (0.1, 0.305, 0.9, 2.0, 3.0, 4.0))  # those outside change nothing: one shape for all tests
    times = hit_times(tts.GradientFlow(1.0), start, PROBLEM, 1e-6)
    np.testing.assert_array_equal(times, [0.0, np.inf])


def test_derivative():
    def first(shift):
        return hit_times(
            tts.GradientFlow(1e-3, rtol=1e-8, atol=1e-8),
            model(0.02, 0.01 * shift + jnp.array([0.1, 0.25, 0.38, 0.52, 0.7, 0.9])),
            PROBLEM,
            1.0,
        )[0]

    step, value_and_slope = 1e-4, reference.quick_jit(jax.value_and_grad(first))
    expected = (value_and_slope(step)[0] - value_and_slope(-step)[0]) / (2 * step)
    np.testing.assert_allclose(value_and_slope(0.0)[1], expected, rtol=1e-4)


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"end": -1.0}, ["end must be positive"]),
        ({"end": [1.0]}, ["end must be one number"]),
        ({"flow": tts.SGD(0.1, 0.1)}, ["follows a GradientFlow", "got SGD"]),
        ({"problem": model(0.02), "model": PROBLEM}, ["a problem after the model", "got ShallowNetwork"]),
    ],
)
def test_bad_input(change, said):
    arguments = {"flow": tts.GradientFlow(1.0), "model": model(0.02), "problem": PROBLEM, "end": 1.0} | change
    reference.refuses(lambda: hit_times(*arguments.values()), *said)
