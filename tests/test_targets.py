"""Targets: their values, their moments, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts

JUMPS, VALUES = [0.25, 0.5], [1.0, -2.0, 3.0]


def test_values_by_hand():
    """Each jump belongs to the piece at its right; beyond [0, 1] the end values go on."""
    x = jnp.array([[-1.0, 0.0, 0.2499], [0.25, 0.4999, 0.5], [0.75, 1.0, 2.0]])
    np.testing.assert_array_equal(tts.PiecewiseConstant(JUMPS, VALUES)(x), [[1, 1, 1], [-2, -2, 3], [3, 3, 3]])


def test_values_of_the_paper():
    x = np.linspace(0, 1, 1001)
    target = reference.paper_target()
    np.testing.assert_array_equal(target(jnp.asarray(x)), reference.target_values(target.jumps, target.values, x))


def test_heights_and_square_mean():
    target = tts.PiecewiseConstant(JUMPS, VALUES)
    np.testing.assert_array_equal(target.heights, [-3, 5])
    assert target.square_mean == 0.25 * 1 + 0.25 * 4 + 0.5 * 9
    by_hand = 0.2 * 1 + 0.15 * (25 + 1 + 9 + 1) + 0.2 * 25
    assert reference.paper_target().square_mean == pytest.approx(by_hand, abs=1e-14)


def test_without_a_jump_the_target_is_constant():
    target = tts.PiecewiseConstant([], [2.0])
    np.testing.assert_array_equal(target(jnp.linspace(-1, 2, 5)), 2)
    assert target.square_mean == 4
    assert target.heights.shape == (0,)


def test_gradient_by_jumps_and_values():
    d = jax.grad(lambda target: target.square_mean)(tts.PiecewiseConstant(JUMPS, VALUES))
    np.testing.assert_allclose(d.jumps, [1 - 4, 4 - 9], rtol=1e-15)
    np.testing.assert_allclose(d.values, [2 * 0.25 * 1, 2 * 0.25 * -2, 2 * 0.5 * 3], rtol=1e-15)


@pytest.mark.parametrize("kind", [list, tuple, np.array, jnp.array], ids=lambda kind: kind.__name__)
def test_any_sequence_of_numbers_will_do(kind):
    target = tts.PiecewiseConstant(kind([0.5]), kind([1, 5]))
    assert target.jumps.dtype == target.values.dtype == jnp.float64
    np.testing.assert_array_equal(target.values, [1, 5])


def test_traced_jumps_and_values_pass():
    def value(jump, right):
        return tts.PiecewiseConstant([0.25, jump], [1.0, 2.0, right])(jnp.asarray(0.7))

    assert jax.jit(value)(0.5, 3.0) == 3
    assert jax.grad(value, argnums=1)(0.5, 3.0) == 1


def test_jit_and_vmap_change_nothing():
    target = reference.paper_target()
    targets = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), target)
    reference.same_under_jit_and_vmap(lambda target: (target(jnp.linspace(0, 1, 9)), target.square_mean), targets)


@pytest.mark.parametrize(
    ("jumps", "values", "said"),
    [
        ([0.5], [1.0], ("1 jumps", "2 values", "got 1")),
        ([0.5], [1.0, 2.0, 3.0], ("2 values", "got 3")),
        ([], [], ("1 values", "got 0")),
        ([0.5, 0.25], VALUES, ("increasing", "0.25")),
        ([0.5, 0.5], VALUES, ("increasing", "0.5")),
        ([0.0], [1.0, 2.0], ("inside (0, 1)", "0")),
        ([0.5, 1.0], VALUES, ("inside (0, 1)", "1")),
        ([np.nan], [1.0, 2.0], ("jumps must be finite", "nan")),
        ([0.5], [1.0, np.inf], ("values", "finite", "inf")),
    ],
)
def test_refuses(jumps, values, said):
    reference.refuses(lambda: tts.PiecewiseConstant(jumps, values), *said)
