"""The probability of a good start for other numbers of neurons in each piece."""

import itertools

import numpy as np
import pytest

import tts_jax as tts


@pytest.mark.parametrize("at_least", [0, 1, 3])
def test_enumeration_of_all_starts(at_least):
    lengths, neurons = np.array([0.2, 0.8]), 6
    expected = sum(
        np.prod(lengths[list(places)])
        for places in itertools.product(range(2), repeat=neurons)
        if min(np.bincount(places, minlength=2)) >= at_least
    )
    found = tts.theory.probability_of_good_start(tts.PiecewiseConstant([0.2], [0, 1]), neurons, at_least)
    assert found == pytest.approx(expected, rel=1e-12)
