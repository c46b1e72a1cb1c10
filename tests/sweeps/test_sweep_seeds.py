"""Seeds of a sweep in any order, and starts on the jumps of its target."""

import jax
import jax.numpy as jnp
import numpy as np

import tts_jax as tts
from tts_jax.grid import piece_counts

PROBLEM = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, -1.0]), noise=0.5)
TIMES, ETA, NEURONS = [0.0, 0.01, 0.02], 0.05, 3
SGD = tts.SGD(0.1, 1e-2)


def alone(seed):
    model = tts.ShallowNetwork.init(jax.random.key(seed), NEURONS, tts.SmoothStep(ETA))
    return tts.simulate(SGD, model, PROBLEM, TIMES, key=jax.random.fold_in(jax.random.key(seed), 2))


SEEDS = [7, 3, *range(41, 9, -1)]
"""Of two chunks."""


def test_a_seed_means_the_same_wherever_it_stands():
    """Its start and its samples, as in a run of its own; the labels of the dataset are the seeds."""
    result = tts.sweep(SGD, PROBLEM, TIMES, seeds=SEEDS, neurons=NEURONS, eta=ETA, progress=False, weights=True)
    np.testing.assert_array_equal(result.seed, SEEDS)
    for place in (0, 1, 32, 33):
        run, cell = alone(SEEDS[place]), result.isel(seed=place)
        np.testing.assert_array_equal(cell.positions[0], run.model.positions[0, :, 0])
        np.testing.assert_allclose(cell.positions, run.model.positions[..., 0], rtol=1e-9)
        np.testing.assert_allclose(cell.weights, run.model.weights[..., 0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(cell.bias, run.model.bias, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(cell.risk, run.risk, rtol=1e-9)


def test_a_position_on_a_jump_lies_in_the_piece_right_of_it():
    """As the target's value there does."""
    jumps = np.array([0.25, 0.5])
    positions = np.array([[0.25, 0.5, 0.5, 0.1], [0.0, 0.25, 0.75, 0.9], [-0.1, 1.1, 0.5, 0.25]])
    expected = np.array([[1, 1, 2], [1, 1, 2], [0, 1, 1]])
    np.testing.assert_array_equal(piece_counts(positions, jumps), expected)
    target = tts.PiecewiseConstant(jumps, [0.0, 1.0, 2.0])
    for row, counted in zip(positions, expected, strict=True):
        values = np.asarray(target(jnp.asarray(row)))[(row >= 0) & (row < 1)]
        np.testing.assert_array_equal(np.bincount(values.astype(int), minlength=3), counted)


def test_pieces_of_a_start_on_the_jumps():
    def init(key, neurons, eta):
        positions = jnp.asarray([[0.3], [0.6], [0.6]])
        return tts.ShallowNetwork(jnp.zeros((3, 1)), positions, jnp.zeros(()), tts.SmoothStep(eta))

    result = tts.sweep(SGD, PROBLEM, TIMES, seeds=SEEDS, neurons=NEURONS, eta=ETA, init=init, progress=False)
    np.testing.assert_array_equal(result.neurons_per_piece, [[0, 1, 2]] * len(SEEDS))
    np.testing.assert_array_equal(result.hit_time, np.zeros((len(SEEDS), 2)))
