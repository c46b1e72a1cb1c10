"""Every row of finite data counts once: in the gradient, and among the samples."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts


@pytest.mark.parametrize("rows", [1, 499, 500, 501])
def test_what_fills_a_block_of_rows_counts_for_nothing(rows):
    """Neurons that are active at 0, where that filling lies, and a bias."""
    rng = np.random.default_rng(rows)
    x, y = rng.uniform(size=(rows, 2)), rng.normal(size=rows)
    model = tts.ShallowNetwork(
        jnp.asarray(rng.normal(size=(3, 2))), jnp.asarray(rng.uniform(-1.0, 0.1, (3, 2))), jnp.asarray(0.7), tts.ReLU()
    )
    problem = tts.NormDataset(x, y)
    closed, automatic = reference.quick_jit(lambda m: (problem.gradient(m), eqx.filter_grad(problem.risk)(m)))(model)
    for name in ("weights", "positions", "bias"):
        want = getattr(automatic, name)
        assert np.max(np.abs(want)) > 1e-3
        np.testing.assert_allclose(getattr(closed, name), want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [tts.NormDataset, tts.Dataset])
def test_samples_reach_every_row_as_often(kind):
    """Chi-squared with 4 degrees of freedom, at 0.1 %; each input keeps its label."""
    n, draws = 5, 1000
    x = np.arange(n, dtype=float)[:, None]
    drawn, labels = kind(x, 10 * x[:, 0]).sample(jax.random.key(0), draws)
    np.testing.assert_array_equal(labels, 10 * drawn[:, 0])
    counts = np.bincount(np.ravel(drawn).astype(int), minlength=n)
    assert np.sum((counts - draws / n) ** 2 / (draws / n)) < 18.5


@pytest.mark.parametrize("kind", [tts.NormDataset, tts.Dataset])
def test_a_single_row_is_drawn(kind):
    drawn, labels = kind(np.ones((1, 2)), np.full(1, 3.0)).sample(jax.random.key(0), 4)
    np.testing.assert_array_equal(drawn, np.ones((4, 2)))
    np.testing.assert_array_equal(labels, np.full(4, 3.0))


def test_the_last_row_of_an_epoch_is_drawn():
    """Labels of whole rows show in the steps of a model that only averages them."""

    class Constant(eqx.Module):
        value: jax.Array
        other: jax.Array

        def __call__(self, x):
            return self.value + 0 * self.other

    rows, model = 3, Constant(jnp.zeros(3), jnp.zeros(()))
    dynamics = tts.SGD(1.0, 0.5, 3, slow=lambda m: m.other, reshuffle=True)
    data = tts.Dataset(jnp.zeros((rows, 1)), 3 * jnp.eye(rows))
    run = reference.quick(lambda: tts.simulate(dynamics, model, data, [0.5], key=jax.random.key(0)))
    np.testing.assert_allclose(run.model.value, np.ones((1, 3)), rtol=1e-15)
