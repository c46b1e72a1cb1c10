"""Predictions against enumeration and Monte Carlo."""

import itertools
import math

import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.theory import probability_of_good_start

PAPER = reference.paper_target()


@pytest.mark.parametrize("neurons", [3, 5, 8])
def test_enumeration(neurons):
    target = tts.PiecewiseConstant([0.2, 0.7], [0, 1, 0])
    lengths = [0.2, 0.5, 0.3]
    expected = sum(
        math.prod(lengths[k] for k in places)
        for places in itertools.product(range(3), repeat=neurons)
        if min(np.bincount(places, minlength=3)) >= 2
    )
    assert probability_of_good_start(target, neurons) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("neurons", [12, 20, 40])
def test_monte_carlo(neurons):
    lengths, trials = np.diff([0, 0.2, 0.35, 0.5, 0.65, 0.8, 1]), 200_000
    good = (np.random.default_rng(0).multinomial(neurons, lengths, trials) >= 2).all(1).mean()
    p = probability_of_good_start(PAPER, neurons)
    assert abs(p - good) < 4 * math.sqrt(p * (1 - p) / trials)


def test_impossible_and_certain():
    assert probability_of_good_start(PAPER, 11) == 0
    assert probability_of_good_start(PAPER, 400) == pytest.approx(1, abs=1e-9)
    assert 1 - 1e-10 < probability_of_good_start(PAPER, 5000) <= 1
    with pytest.raises(ValueError, match="neurons"):
        probability_of_good_start(PAPER, 0)


@pytest.mark.usefixtures("annotations_off")
def test_refuses_targets_without_pieces():
    reference.refuses(lambda: probability_of_good_start(tts.PiecewiseLinear([0.5], [1.0]), 4), "got PiecewiseLinear")
