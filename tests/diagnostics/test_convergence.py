"""Orders of known power laws, and how often an interval holds them."""

import numpy as np
import pytest
import reference

from tts_jax.diagnostics import order

STEPS = 2.0 ** -np.arange(6)


def test_a_power_law():
    found = order(3 * STEPS**1.5, STEPS)
    assert (found.order, found.low, found.high, found.constant) == pytest.approx((1.5, 1.5, 1.5, 3.0))


def test_two_points_bound_nothing():
    found = order([0.1, 0.01], [1.0, 0.1])
    assert found.order == pytest.approx(1.0)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_the_interval_holds_the_order_19_times_in_20():
    rng, trials = np.random.default_rng(0), 2000
    fits = [order(STEPS**0.5 * np.exp(0.3 * rng.normal(size=6)), STEPS) for _ in range(trials)]
    share = np.mean([fit.low < 0.5 < fit.high for fit in fits])
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("errors", "parameters", "said"),
    [
        ([1.0, 0.0], [1.0, 2.0], "errors must be positive, got 0.0"),
        ([1.0, 2.0], [1.0], "as many, got 2 and 1"),
        ([1.0, 2.0], [1.0, 1.0], "two different ones"),
        ([], [], "parameters must be positive, got none"),
    ],
)
def test_refusals(errors, parameters, said):
    reference.refuses(lambda: order(errors, parameters), said)
