"""Finite data in epochs: what a model that only averages its labels has seen."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jaxtyping import Array, Float

import tts_jax as tts

ROWS = 7


class Constant(eqx.Module):
    """Its steps tell which labels it saw; the slow number never moves."""

    value: Float[Array, "..."]
    other: Float[Array, "..."]

    def __call__(self, x):
        return self.value + 0 * self.other


def counts(batch_size, steps, key=0, rows=ROWS, **options):
    """How often each row was drawn in each step, shape (steps, rows)."""
    labels = jnp.eye(rows)
    dynamics = tts.SGD(1.0, 0.25, batch_size, slow=lambda model: model.other, **({"reshuffle": True} | options))
    model = Constant(jnp.zeros(rows), jnp.zeros(()))
    saved = tts.simulate(
        *(dynamics, model, tts.Dataset(jnp.zeros((rows, 1)), labels), 0.25 * np.arange(steps + 1)),
        key=jax.random.key(key),
    ).model.value
    seen = batch_size * (saved[1:] - 0.5 * saved[:-1]) / 0.5  # v' = v - h 2 (v - mean of the labels)
    np.testing.assert_allclose(seen, np.round(seen), atol=1e-9)
    return np.round(seen).astype(int)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 600])
def test_every_epoch_holds_every_row_once(batch_size):
    """After s samples each row was drawn floor(s / n) or ceil(s / n) times; over three blocks of steps."""
    steps = 1200 if batch_size == 1 else 400 if batch_size == 3 else 5
    seen = np.cumsum(counts(batch_size, steps), axis=0)
    samples = batch_size * np.arange(1, steps + 1)[:, None]
    np.testing.assert_array_equal(seen.sum(axis=1, keepdims=True), samples)
    assert np.all(seen >= samples // ROWS)
    assert np.all(seen <= -(-samples // ROWS))


def test_more_rows_than_a_block():
    rows = 600
    seen = counts(1, 2 * rows, rows=rows)
    first, second = (seen[rows * k : rows * (k + 1)].argmax(axis=1) for k in range(2))
    for order in (first, second):
        np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    assert np.mean(first == second) < 0.01


def test_orders_are_random_and_belong_to_the_key():
    """Of 171 epochs of 7 rows: each row comes at each place equally often (chi-squared, 36 degrees of freedom)."""
    drawn = counts(1, 1200).argmax(axis=1)
    orders = drawn[:1197].reshape(-1, ROWS)
    table = np.array([np.bincount(orders[:, place], minlength=ROWS) for place in range(ROWS)])
    expected = len(orders) / ROWS
    assert np.sum((table - expected) ** 2 / expected) < 58.6  # 99 % of the law
    assert len(np.unique(orders, axis=0)) > 160
    np.testing.assert_array_equal(counts(1, 1200).argmax(axis=1), drawn)
    assert np.mean(counts(1, 1200, key=1).argmax(axis=1) == drawn) < 0.3


def test_without_it_rows_are_drawn_with_replacement():
    seen = counts(1, 1200, reshuffle=False)
    assert np.all(seen.sum(axis=1) == 1)
    assert np.any(seen[:1197].reshape(-1, ROWS, ROWS).sum(axis=1) > 1)
    assert np.ptp(seen.sum(axis=0)) > 2


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({}, {"key": jax.random.key(0)}, ["Dataset", "Regression"]),
        ({}, {"samples": (np.zeros(4), np.zeros(4))}, ["reshuffle", "samples"]),
        ({"batch_size": None}, {}, ["reshuffle", "batch_size=None"]),
    ],
)
@pytest.mark.usefixtures("annotations_off")
def test_refuses(options, given, said):
    model, problem = reference.build(reference.small_case())
    dynamics = tts.SGD(0.01, 1e-3, reshuffle=True, **options)
    reference.refuses(lambda: tts.simulate(dynamics, model, problem, [1e-5], **given), *said)
