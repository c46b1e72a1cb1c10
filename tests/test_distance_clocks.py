"""Two runs are compared at common save times alone."""

import jax.numpy as jnp
import pytest
import reference

import tts_jax as tts


def run(times):
    ones = jnp.ones((len(times), 2, 1))
    model = tts.ShallowNetwork(ones, 0.3 * ones, jnp.zeros(len(times)), tts.Heaviside())
    stats = tts.Stats("made by hand", jnp.zeros((), int), jnp.zeros((), int))
    return tts.Trajectory(jnp.asarray(times), None, None, model, jnp.zeros(len(times)), jnp.zeros((), int), stats)


@pytest.mark.parametrize("factor", [1.001, 0.999, 1 + 1e-5])
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_times_that_are_nearly_common_are_refused(factor, scale):
    times = [0.0, 0.5 * scale, 2.0 * scale]
    others = [0.0, 0.5 * scale, 2.0 * scale * factor]
    for a, b in ((times, others), (others, times)):
        reference.refuses(lambda a=a, b=b: tts.distance(run(a), run(b)), "save times", "at index 2")
