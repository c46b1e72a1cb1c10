"""Where the two-timescale limit has a choice: exact ties, releases, and starts that lie on a jump."""

import jax.numpy as jnp
import numpy as np
import pytest

import tts_jax as tts
from tts_jax.dynamics.limit.pair import has_closed_form

NEURONS, JUMPS, SAVES = 4, 6, 7
"""All starts from event to event share these sizes, and what is compiled for them."""


def simulate(positions, jumps, values, times):
    """Filled up with neurons outside [0, 1], which change nothing."""
    positions = np.concatenate([positions, np.full(NEURONS - len(positions), 2.0)])[:, None]
    model = tts.ShallowNetwork(jnp.zeros_like(positions, float), jnp.asarray(positions), jnp.zeros(()), tts.Heaviside())
    problem = tts.Regression(tts.PiecewiseConstant(np.asarray(jumps, float), np.asarray(values, float)))
    return tts.simulate(tts.TwoTimescaleLimit(), model, problem, jnp.asarray(times))


def event_driven(positions, jumps, values, times):
    """Jumps of size 0 beyond all others leave no start a closed form."""
    missing = JUMPS - len(jumps)
    jumps = np.concatenate([jumps, 1 - 1e-9 * np.arange(missing, 0, -1)])
    values = np.concatenate([values, np.full(missing, values[-1])])
    run = simulate(positions, jumps, values, times)
    assert run.stats.method == "event-driven"
    return run


def from_event_to_event(positions, jumps, values, horizon):
    """Positions at each time."""
    run = event_driven(positions, jumps, values, np.linspace(0, horizon, SAVES))
    assert run.status == tts.Status.SUCCESSFUL
    return np.asarray(run.model.positions[:, : len(positions), 0])


# A neuron that starts on a jump from which both sides pull.

MIDDLE = [0.25, 0.5, 0.75]
TIES = {
    "exact in binary": ([0.5], MIDDLE, [3, 0, 2, -1]),
    "fifths of the span": ([0.5], MIDDLE, [3, 0, 1, -2]),
    "sevenths of the span": ([0.5], MIDDLE, [4, 0, 1, -3]),
    "mirrored": ([0.5], MIDDLE, [-2, 1, 0, 3]),
    "upside down": ([0.5], MIDDLE, [-3, 0, -1, 2]),
    "mirrored and upside down": ([0.5], MIDDLE, [2, -1, 0, -3]),
    "tenths": ([0.5], MIDDLE, [0.3, 0.0, 0.1, -0.2]),
    "thirds": ([0.5], MIDDLE, np.array([3, 0, 1, -2]) / 3),
    "far from 0": ([0.5], MIDDLE, [3 + 64, 64, 1 + 64, 64 - 2]),
    "a low jump": ([0.5], MIDDLE, [3, 0, 1e-3, 1e-3 - 3]),
    "a low jump, mirrored": ([0.5], MIDDLE, [1e-3 - 3, 1e-3, 0, 3]),
    "other jumps": ([0.4], [0.2, 0.4, 0.7], [3, 0, 1, -2]),
    "other jumps, mirrored": ([0.6], [0.3, 0.6, 0.8], [-2, 1, 0, 3]),
    "jumps in tenths": ([0.7], [0.35, 0.7, 0.85], [3, 0, 1, -2]),
    "between other neurons": ([0.3, 0.1, 0.7], [0.2, 0.3, 0.5], [3, 0, 1, -2]),
    "two neurons": ([0.5, 0.5], MIDDLE, [3, 0, 1, -2]),
}


@pytest.mark.parametrize("name", TIES)
def test_an_exact_tie_goes_right(name):
    start, jumps, values = TIES[name]
    span = np.ptp(values)
    moved = from_event_to_event(start, jumps, values, 0.02 / span**2)[-1] - start
    together = [k for k, x in enumerate(start) if x == start[0]]
    assert (moved[together] > 1e-7).all(), moved
    assert np.ptp(moved[together]) == 0


@pytest.mark.parametrize("name", TIES)
@pytest.mark.parametrize("nudge", [1e-10, -1e-10])
def test_beside_a_tie_the_stronger_side_wins(name, nudge):
    """The value left of the jump moves by a part of the span: it pulls more, or less."""
    start, jumps, values = TIES[name]
    values = np.array(values, float)
    span, k = np.ptp(values), 1 + jumps.index(start[0])
    rises = values[k] > values[k - 1]
    values[k - 1] += (nudge if rises else -nudge) * span
    moved = from_event_to_event(start, jumps, values, 0.02 / span**2)[-1] - start
    assert np.sign(moved[0]) == np.sign(nudge), moved


# A neuron that a jump has held, and that is repelled when its weight changes its sign.

ODD = {
    "positions exact in binary": ([0.3125, 0.5, 0.6875], [0.125, 0.40625, 0.5, 0.59375, 0.875]),
    "near positions": ([0.375, 0.5, 0.625], [0.125, 0.40625, 0.5, 0.59375, 0.875]),
    "positions in tenths": ([0.35, 0.5, 0.65], [0.1, 0.4, 0.5, 0.6, 0.9]),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("values", [[-4, 0.5, -0.5, 0.5, -0.5, 4], [-3.5, 0.625, -0.375, 0.375, -0.625, 3.5]])
@pytest.mark.parametrize("name", ODD)
def test_where_neither_fit_wins_a_released_neuron_goes_right(name, values, sign):
    """Everything is odd about the middle: both fits meet there, at opposite speeds."""
    path = from_event_to_event(*ODD[name], sign * np.array(values), 0.3)
    assert path[0, 1] == 0.5
    assert path[-1, 1] > 0.53


REPELLED = {
    "nearer the upper value": ([0.45, 0.6, 0.8], [0.2, 0.5, 0.6, 0.7, 0.8], [-3, 1, 0, 0.8, 0.2, 5]),
    "nearer the lower value": ([0.45, 0.6, 0.8], [0.2, 0.5, 0.6, 0.7, 0.8], [-3, 1, 0, 3, -2, 5]),
    "both fits move": ([0.375, 0.5, 0.65], [0.125, 0.40625, 0.5, 0.6, 0.875], [-4, 0.5, -0.5, 0.5, -0.6, 4]),
}


@pytest.mark.parametrize("name", REPELLED)
def test_a_mirrored_release_is_the_mirror_image(name):
    """Left and right change places, or up and down: the fits on both sides count alike."""
    start, jumps, values = (np.array(part, float) for part in REPELLED[name])
    path = from_event_to_event(start, jumps, values, 0.15)
    assert np.abs(path[-1, 1] - start[1]) > 0.01
    mirrored = from_event_to_event(1 - start[::-1], 1 - jumps[::-1], values[::-1], 0.15)
    np.testing.assert_allclose(1 - mirrored[:, ::-1], path, rtol=0, atol=1e-9)
    np.testing.assert_allclose(from_event_to_event(start, jumps, -values, 0.15), path, rtol=0, atol=1e-9)


# A neuron on a jump counts to the piece left of it.

STAIRS = np.array([0.3, 0.6]), np.array([0.0, 1.0, -1.0])


@pytest.mark.parametrize(
    ("start", "known"),
    [
        ([0.4, 0.6], True),  # two in (0.3, 0.6]
        ([0.3, 0.4, 0.5], True),
        ([0.3, 0.4], False),  # one
        ([0.3, 0.6], False),
        ([0.3, 0.45, 0.6], True),
        ([0.2, 0.3, 0.6], False),
    ],
)
def test_which_starts_on_a_jump_have_a_closed_form(start, known):
    assert has_closed_form(jnp.asarray(start), tts.PiecewiseConstant(*STAIRS)) == known


@pytest.mark.parametrize(
    "start", [[0.4, 0.6], [0.3, 0.4, 0.5], [0.2, 0.3, 0.45, 0.55], [0.4, 0.45, 0.6, 0.7], [0.1, 0.4, 0.5, 0.6]]
)
def test_a_jump_that_is_held_from_the_start_moves_nothing(start):
    """The closed form takes it as hit: both neighbours of that neuron stay, unless another jump moves them."""
    run = simulate(start, *STAIRS, np.linspace(0, 0.9, SAVES))
    assert run.stats.method == "closed form"
    path = run.model.positions[:, : len(start), 0]
    np.testing.assert_allclose(path, from_event_to_event(start, *STAIRS, 0.9), rtol=0, atol=1e-11)
    for k, place in enumerate(start):
        if place in STAIRS[0]:
            np.testing.assert_array_equal(path[:, k], place)


def test_a_target_whose_square_overflows_fails():
    """Slow times in units of the span's square are infinite: no position is right, and the run says so."""
    with pytest.warns(UserWarning, match="TwoTimescaleLimit did not end well"):
        run = event_driven([0.2, 0.2], [0.5], np.array([0.0, 1e200]), np.linspace(0.1, 0.7, SAVES))
    assert run.status == tts.Status.SOLVER_FAILED
    assert np.isnan(run.risk).all()
