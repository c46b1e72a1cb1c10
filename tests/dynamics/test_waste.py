"""What a batch of runs wastes where each waits for the slowest."""

import jax
import jax.numpy as jnp
import pytest

import tts_jax as tts


def test_rejected_steps_cost_as_much_as_those_taken():
    def run(steps, rejected):
        return tts.Stats("made by hand", steps, rejected)

    assert jax.vmap(run)(jnp.array([1, 5, 3]), jnp.array([9, 0, 1])).waste == pytest.approx(10 / (19 / 3), rel=1e-15)
    assert run(jnp.array(4), jnp.array(7)).waste == 1
