"""How many samples a run may take: as many as 32-bit integers count, or as there are rows to replay."""

import jax
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.dynamics.sgd import stretches as module


class Stopped(Exception):  # noqa: N818, it is no error
    pass


def stop(done, total):
    raise Stopped


def small_model():
    return tts.ShallowNetwork(
        *(np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32)), np.zeros((), np.float32), tts.SmoothStep(0.5)
    )


def reshuffled(steps, batch_size):
    """A run that is stopped after its first step."""
    model = small_model()
    data = tts.Dataset(np.ones((4, 1), np.float32), np.ones(4, np.float32))
    dynamics = tts.SGD(1.0, 1.0, batch_size, reshuffle=True)
    return tts.simulate(dynamics, model, data, [0.0, float(steps)], key=jax.random.key(0), progress=stop)


@pytest.fixture
def in_32_bit(monkeypatch):
    monkeypatch.setattr(module, "STRETCH", 1)
    with jax.enable_x64(False):
        yield


@pytest.mark.usefixtures("in_32_bit", "annotations_off")
@pytest.mark.parametrize(("steps", "batch_size"), [(2**30, 2), (2**29, 4), (2**30, 3), (2**30, 1024)])
def test_more_samples_than_32_bit_integers_count_are_refused(steps, batch_size):
    """Also where their number, in 32-bit, overflows to 0 or to a small one. The check comes before any step."""
    reference.refuses(lambda: reshuffled(steps, batch_size), f"{steps} steps", "32-bit", "jax_enable_x64")


@pytest.mark.usefixtures("in_32_bit", "annotations_off")
def test_fewer_are_drawn():
    with pytest.raises(Stopped):
        reshuffled(2**30, 1)


@pytest.mark.usefixtures("in_32_bit", "annotations_off")
def test_as_many_rows_as_steps_are_enough():
    """One fewer is refused, with both numbers."""
    model = small_model()
    problem = tts.Dataset(np.ones((4, 1), np.float32), np.ones(4, np.float32))

    def replay(rows):
        samples = np.ones((rows, 2, 1), np.float32), np.ones((rows, 2), np.float32)
        dynamics = tts.SGD(1.0, 1.0, batch_size=2)
        return tts.simulate(dynamics, model, problem, [0.0, 5.0], samples=samples, progress=stop)

    with pytest.raises(Stopped):
        replay(5)
    reference.refuses(lambda: replay(4), "5 steps", "4 rows")
