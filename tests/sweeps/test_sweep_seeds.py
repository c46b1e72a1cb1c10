"""Seeds of a sweep in any order, and starts on the jumps of its target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.sweeps.arrivals import piece_counts
from tts_jax.sweeps.grid import Grid, uniform_start

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


FLOOR = ETA / 28 * 5


def excess(key):
    """A bias whose square is up to three times the floor."""
    return jnp.sqrt(3 * FLOOR) * jax.random.uniform(key)


def start_on_the_jumps(key, neurons, eta):
    """One neuron for the first jump, two that share the second: the risk is the floor and the square of the bias."""
    positions, weights = jnp.asarray([[0.3], [0.6], [0.6]]), jnp.asarray([[1.0], [-1.0], [-1.0]])
    return tts.ShallowNetwork(weights, positions, excess(key), tts.SmoothStep(eta))


def test_a_start_on_the_jumps_is_counted_has_arrived_and_has_converged():
    """Without a step, where its risk is below twice the floor; after steps that are too large, nowhere."""

    def sweep(arm):
        return tts.sweep(arm, PROBLEM, TIMES, seeds=SEEDS, neurons=3, eta=ETA, init=start_on_the_jumps, progress=False)

    still = sweep(tts.SGD(0.1, 20.0))
    with pytest.warns(UserWarning, match=f"{len(SEEDS)} diverged"):
        wild = sweep(tts.SGD(5e-5, 20.0))
    squares = np.array([float(excess(jax.random.key(seed)) ** 2) for seed in SEEDS])
    for result in (still, wild):
        np.testing.assert_array_equal(result.neurons_per_piece, [[0, 1, 2]] * len(SEEDS))
        np.testing.assert_array_equal(result.hit_time, np.zeros((len(SEEDS), 2)))
        np.testing.assert_allclose(result.risk[:, 0], FLOOR + squares, rtol=1e-9)
    np.testing.assert_array_equal(still.converged, squares < FLOOR)
    assert 0 < still.converged.sum() < len(SEEDS)
    assert not wild.converged.any()


# The plan of a sweep, before anything is compiled.


def plan(dynamics=SGD, seeds=2, **axes):
    return Grid(dynamics, PROBLEM, TIMES, seeds, uniform_start, axes)


def test_dynamics_of_one_kind_are_numbered():
    flow = tts.GradientFlow(1.0)
    assert list(plan([SGD, flow, SGD, SGD]).dynamics) == ["SGD 1", "GradientFlow", "SGD 2", "SGD 3"]
    assert list(plan([SGD, flow]).dynamics) == ["SGD", "GradientFlow"]


def test_steps_that_are_known_beforehand():
    """20 and 200 at the ratios 1e-1 and 1e-2; those of a flow are not known beforehand."""
    cells = plan([SGD, tts.GradientFlow(1.0)], seeds=3, epsilon=[1e-1, 1e-2]).cells
    assert [cell.steps for cell in cells] == [20, 200, None, None]


def test_chunks_end_with_the_seeds():
    grid = plan(seeds=70, epsilon=[1e-1, 1e-2])
    assert sum(chunk.runs for chunk in grid.chunks(32)) == grid.runs == 140


def test_seeds_are_those_of_32_bits():
    assert plan(seeds=[2**32 - 1, 0]).seeds == (2**32 - 1, 0)
    reference.refuses(lambda: plan(seeds=[2**32]), "seeds", str(2**32))
    reference.refuses(lambda: plan(seeds=[1, 1]), "different")


@pytest.mark.parametrize(("neurons", "size"), [(8, 8), (9, 12), (64, 64), (65, 128), (128, 128), (129, 192)])
def test_networks_share_the_program_of_the_next_size(neurons, size):
    (cell,) = plan(neurons=neurons).cells
    assert cell.like.positions.shape == (size, 1)
