"""Flows under `jax.vmap`, which solves them side by side in local coordinates, against flows alone."""

import functools
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.dynamics.flow import neurons

RUNS, NEURONS = 6, 4


class Run(NamedTuple):
    epsilon: jax.Array
    case: reference.Case
    times: jax.Array


def batch(bias=True):
    """Starts, stiffness, widths, targets and save times all differ; from no near pair to all neurons near."""
    rng = np.random.default_rng(0)
    positions = np.sort(rng.uniform(0.05, 0.95, (RUNS, NEURONS)))
    positions[1] = [0.4, 0.41, 0.42, 0.43]
    positions[2] = [0.8, 0.2, 0.21, -0.01]
    case = reference.Case(
        eta=np.linspace(0.02, 0.2, RUNS),
        jumps=np.array([0.3, 0.6]) + rng.uniform(-0.05, 0.05, (RUNS, 2)),
        values=rng.uniform(-1, 2, (RUNS, 3)),
        bias=rng.normal(size=RUNS) if bias else None,
        weights=rng.normal(size=(RUNS, NEURONS)),
        positions=positions,
    )
    times = np.array([0.0, 0.1, 0.1, 1.0]) * np.linspace(0.2, 1.0, RUNS)[:, None]
    return jax.tree.map(jnp.asarray, Run(np.geomspace(1e-4, 1.0, RUNS), case, times))


def simulate(run, adjoint=None, max_steps=2**12):
    tolerance = 1e-8 if run.epsilon.dtype == jnp.float64 else 1e-5
    flow = tts.GradientFlow(run.epsilon, rtol=tolerance, atol=tolerance, adjoint=adjoint, max_steps=max_steps)
    return tts.simulate(flow, *reference.build(run.case), run.times)


def item(runs, i):
    return jax.tree.map(lambda leaf: leaf[i], runs)


alone = eqx.filter_jit(simulate)
together = eqx.filter_jit(jax.vmap(simulate))


def agree(got, want, tolerance=1e-5):
    np.testing.assert_array_equal(got.status, want.status)
    reference.close((got.model, got.risk), (want.model, want.risk), tolerance)


@pytest.fixture(scope="module")
def runs():
    return batch()


@pytest.fixture(scope="module")
def solved(runs):
    return together(runs)


def test_each_is_the_run_alone(runs, solved):
    assert (solved.status == tts.Status.SUCCESSFUL).all()
    np.testing.assert_array_equal(solved.model.positions[:, 0, :, 0], runs.case.positions)
    np.testing.assert_array_equal(solved.model.positions[:, 1], solved.model.positions[:, 2])
    for i in range(RUNS):
        agree(item(solved, i), alone(item(runs, i)))


def test_nested_and_shared():
    """Two levels of `vmap`; the inner runs share epsilon, and reach the ensemble in one row with the others."""
    runs = batch()
    epsilons = runs.epsilon[1:3]
    folded = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), runs)
    nested = eqx.filter_jit(jax.vmap(jax.vmap(simulate, in_axes=(Run(None, 0, 0),))))
    got = nested(folded._replace(epsilon=epsilons))
    want = together(runs._replace(epsilon=jnp.repeat(epsilons, 3)))
    agree(jax.tree.map(lambda leaf: leaf.reshape(RUNS, *leaf.shape[2:]), got), want, 1e-12)
    np.testing.assert_array_equal(got.stats.steps.ravel(), want.stats.steps)


def test_without_a_bias():
    runs = batch(bias=False)
    got = together(runs)
    assert got.model.bias is None
    for i in (1, 4):
        agree(item(got, i), alone(item(runs, i)))


def test_failures_are_alone(runs, solved):
    """One starts from NaN, and the others do not notice."""
    others = np.arange(RUNS) != 2
    case = runs.case._replace(weights=runs.case.weights.at[2, 0].set(jnp.nan))
    got = together(runs._replace(case=case))
    same = (
        (got.model, got.risk, got.status, got.stats.steps),
        (solved.model, solved.risk, solved.status, solved.stats.steps),
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[others], b[others]), *same)
    assert got.status[2] == tts.Status.DIVERGED
    assert np.isnan(got.risk[2]).all()


def test_out_of_steps(runs, solved):
    limit = int(np.median(solved.stats.steps + solved.stats.rejected))
    got = eqx.filter_jit(jax.vmap(functools.partial(simulate, max_steps=limit)))(runs)
    short = np.asarray(solved.stats.steps + solved.stats.rejected) > limit
    assert 0 < short.sum() < RUNS
    np.testing.assert_array_equal(got.status, np.where(short, tts.Status.MAX_STEPS, tts.Status.SUCCESSFUL))
    np.testing.assert_array_equal(np.isnan(got.risk[:, -1]), short)


def test_more_near_neurons_than_memory_is_taken_for(runs, solved, monkeypatch):
    """The rest of the runs has a larger workspace."""
    monkeypatch.setattr(neurons, "FEW", 1)
    got = eqx.filter_jit(jax.vmap(lambda run: simulate(run)))(runs)
    agree(got, solved, 1e-9)


@pytest.fixture(scope="module")
def slopes(runs):
    """The gradient of the last risk of each run, under `vmap`."""
    return reference.quick_jit(jax.vmap(jax.grad(lambda run: simulate(run).risk[-1])))(runs)


@pytest.fixture(scope="module")
def direction(runs):
    """Along the starts, the targets, the widths and epsilon."""
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), runs)
    case = direction.case._replace(eta=0.1 * runs.case.eta)
    return Run(runs.epsilon, case, jnp.zeros_like(runs.times))


def along(slopes, direction):
    return sum(
        jnp.sum((slope * tangent).reshape(RUNS, -1), axis=1)
        for slope, tangent in zip(jax.tree.leaves(slopes), jax.tree.leaves(direction), strict=True)
    )


def test_reverse_mode(runs, slopes, direction):
    step = 1e-4
    high, low = (
        together(jax.tree.map(lambda x, dx, sign=sign: x + sign * step * dx, runs, direction)).risk[:, -1]
        for sign in (1, -1)
    )
    reference.close(along(slopes, direction), (high - low) / (2 * step), 1e-4)


def test_forward_mode(runs, slopes, direction):
    def pushed(run, tangent):
        return jax.jvp(lambda run: simulate(run, diffrax.ForwardMode()).risk[-1], (run,), (tangent,))[1]

    got = reference.quick_jit(jax.vmap(pushed))(runs, direction)
    reference.close(got, along(slopes, direction), 1e-5)


def test_float32(runs, solved):
    with jax.enable_x64(False):
        got = eqx.filter_jit(jax.vmap(lambda run: simulate(run)))(
            jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float32)), runs)
        )
    assert got.risk.dtype == jnp.float32
    assert (got.status == tts.Status.SUCCESSFUL).all()
    np.testing.assert_allclose(got.risk, solved.risk, atol=1e-3)
