"""Runs that go on from where others ended, beside one long run."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import tts_jax as tts
from tts_jax.trajectory import Status

EPSILON, H, BATCH = 0.05, 1e-2, 3
STEPS = np.array([0, 100, 250.4, 400])
"""Of SGD; the third save time is no step. Blocks of 170 steps share their samples."""
TIMES = EPSILON * H * STEPS
KEY = jax.random.key(7)
RESTARTABLE = {
    "plain": {},
    "adam": {"optimizer": optax.adam(1e-3)},
    "momentum and its own rates": {"optimizer": (optax.sgd(1e-2, momentum=0.9), optax.adam(1e-3))},
}


def sgd(**options):
    return tts.SGD(EPSILON, H, **({"batch_size": BATCH} | options))


def small(dtype=None):
    model, problem = reference.build(reference.small_case())
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (model, problem))


def in_two(dynamics, cut, key=KEY, times=TIMES):
    model, problem = small()
    first = tts.simulate(dynamics, model, problem, times[: cut + 1], key=key)
    return first.then(tts.simulate(dynamics, first, problem, times[cut:], key=key))


def same_run(got, want):
    jax.tree.map(np.testing.assert_array_equal, (got.model, got.risk), (want.model, want.risk))
    np.testing.assert_array_equal(got.step, want.step)
    np.testing.assert_array_equal(got.fast_time, want.fast_time)
    np.testing.assert_array_equal(got.slow_time, want.slow_time)
    assert got.stats.steps == want.stats.steps


@pytest.mark.parametrize("options", RESTARTABLE.values(), ids=RESTARTABLE)
def test_sgd_goes_on_bit_for_bit(options):
    with jax.numpy_dtype_promotion("standard"):  # Optax itself promotes
        long = tts.simulate(sgd(**options), *small(), TIMES, key=KEY)
        for cut in (1, 2):
            same_run(in_two(sgd(**options), cut), long)


def test_so_it_does_in_32_bit_where_rounding_is_compensated():
    with jax.enable_x64(False):
        dynamics = tts.SGD(1e-6, H, batch_size=BATCH)
        model, problem = small(np.float32)
        times = 1e-6 * H * np.array([0, 150, 3000])
        long = tts.simulate(dynamics, model, problem, times, key=KEY)
        first = tts.simulate(dynamics, model, problem, times[:2], key=KEY)
        assert np.any(jax.tree.leaves(first.end)[0] != 0)
        same_run(first.then(tts.simulate(dynamics, first, problem, times[1:], key=KEY)), long)


def test_and_through_the_rows_of_data():
    model, problem = small()
    data = tts.Dataset(*problem.sample(jax.random.key(1), 50))
    dynamics = sgd(reshuffle=True, batch_size=8)
    long = tts.simulate(dynamics, model, data, TIMES, key=KEY)
    first = tts.simulate(dynamics, model, data, TIMES[:2], key=KEY)
    same_run(first.then(tts.simulate(dynamics, first, data, TIMES[1:], key=KEY)), long)


@pytest.mark.parametrize(
    "dynamics",
    [
        tts.GradientFlow(EPSILON),
        tts.ReducedFlow(),
        tts.TwoTimescaleLimit(),
    ],
    ids=["flow", "reduced", "limit"],
)
def test_a_flow_goes_on_to_its_tolerance(dynamics):
    model, problem = small()
    times = np.array([0.0, 0.03, 0.1, 0.3])
    long = tts.simulate(dynamics, model, problem, times)
    first = tts.simulate(dynamics, model, problem, times[:2])
    both = first.then(tts.simulate(dynamics, first, problem, times[1:]))
    assert reference.largest_difference(reference.states(both), reference.states(long)) < 1e-7
    np.testing.assert_array_equal(both.slow_time, times)
    if long.fast_time is not None:
        np.testing.assert_allclose(both.fast_time, long.fast_time, rtol=1e-15)
    assert both.stats.steps >= long.stats.steps


def test_many_runs_go_on_at_once():
    model, problem = small()
    keys = jax.random.split(KEY, 3)

    def run(start, times, key):
        return tts.simulate(sgd(), start, problem, times, key=key)

    long = jax.vmap(lambda key: run(model, TIMES, key))(keys)
    first = jax.vmap(lambda key: run(model, TIMES[:2], key))(keys)
    later = jax.vmap(lambda start, key: run(start, TIMES[1:], key))(first, keys)
    both = first.then(later)
    np.testing.assert_allclose(reference.states(both), reference.states(long), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(both.step, long.step)
    one = jax.tree.map(lambda leaf: leaf[1], both)
    assert one.map(problem.risk).shape == (4,)
    reference.refuses(lambda: run(first, TIMES[1:], KEY), "many runs", "jax.vmap(lambda run: simulate")


def test_derivatives_go_through_both_parts():
    model, problem = small()

    def end(step_size, two):
        dynamics = tts.SGD(EPSILON, step_size, batch_size=BATCH)
        first = tts.simulate(dynamics, model, problem, TIMES[:2], key=KEY) if two else model
        return tts.simulate(dynamics, first, problem, TIMES[1:2] * 2, key=KEY).risk[-1]

    got, want = (jax.jit(jax.grad(end), static_argnums=1)(H, two) for two in (True, False))
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_sgd_after_a_flow_begins_at_the_step_of_that_slow_time():
    """Full-batch steps know no time: they are those of a run that starts anew."""
    model, problem = small()
    exact = sgd(batch_size=None)
    flow = tts.simulate(tts.GradientFlow(EPSILON), model, problem, [TIMES[1]])
    got = tts.simulate(exact, flow, problem, TIMES[1:])
    np.testing.assert_array_equal(got.step, [100, 250, 400])
    np.testing.assert_allclose(got.fast_time, H * np.asarray(got.step), rtol=1e-14)
    want = tts.simulate(exact, flow.at(-1), problem, TIMES[1:] - TIMES[1])
    np.testing.assert_array_equal(reference.states(got), reference.states(want))
    assert flow.then(got).step is None
    assert flow.then(got).fast_time.shape == (3,)
    assert flow.then(got).stats.method == "Rodas5P, closed-form Hessian, then SGD"


def test_with_another_epsilon_steps_count_on_and_no_sample_comes_twice():
    model, problem = small()
    x, y = problem.sample(jax.random.key(3), 300 * BATCH)
    samples = x.reshape(300, BATCH, 1), y.reshape(300, BATCH)
    first = tts.simulate(sgd(), model, problem, [TIMES[1]], samples=samples)
    faster = tts.SGD(2 * EPSILON, H, batch_size=BATCH)
    end = TIMES[1] + 2 * EPSILON * H * 50
    got = tts.simulate(faster, first, problem, [end], samples=samples)
    assert (int(got.step[0]), int(got.stats.steps)) == (150, 50)
    np.testing.assert_allclose(got.fast_time, H * 150, rtol=1e-14)
    rest = tuple(part[100:] for part in samples)
    want = tts.simulate(faster, first.at(-1), problem, [end - TIMES[1]], samples=rest)
    np.testing.assert_allclose(reference.states(got), reference.states(want), rtol=0, atol=1e-14)


def test_an_optimiser_goes_on_with_what_has_its_leaves_and_else_anew():
    model, problem = small()
    with jax.numpy_dtype_promotion("standard"):
        first = tts.simulate(sgd(optimizer=optax.adam(1e-3)), model, problem, TIMES[:2], key=KEY)
        slower = tts.simulate(sgd(optimizer=optax.adam(1e-4)), first, problem, TIMES[1:2], key=KEY)
        plain = tts.simulate(sgd(), first, problem, TIMES[1:2], key=KEY)
    counts = [leaf for leaf in jax.tree.leaves(slower.end) if leaf.dtype == jnp.int32]
    assert {int(count) for count in counts} == {100}
    assert jax.tree.leaves(plain.end) == []


def test_what_cannot_go_on_is_refused():
    model, problem = small()
    run = tts.simulate(sgd(), model, problem, TIMES[:2], key=KEY)
    reference.refuses(lambda: tts.simulate(sgd(), run, problem, TIMES, key=KEY), "0.05", "got 0", "earlier saves")
    reference.refuses(lambda: tts.simulate(sgd(), run, problem, TIMES[1:]), "key", "goes on")
    with pytest.warns(UserWarning, match=r"Trajectory\(diverged"):
        wild = tts.simulate(tts.SGD(EPSILON, 1e5, batch_size=BATCH), model, problem, [1e7], key=KEY)
    reference.refuses(lambda: tts.simulate(sgd(), wild, problem, [2e7], key=KEY), "diverged", "at(k)")
    later = tts.simulate(sgd(), run, problem, TIMES[1:], key=KEY)
    reference.refuses(lambda: later.then(run), "begins where this one ends", "simulate(dynamics, trajectory")
    reference.refuses(lambda: run.then(later.at(-1)), "trajectory", "ShallowNetwork")
    limit = tts.simulate(tts.TwoTimescaleLimit(), model, problem, [1.0])
    reference.refuses(lambda: run.then(limit), "one model", "does not train")
    reference.refuses(lambda: eqx.filter_jit(run.then)(later), "jax.jit")


def test_what_is_traced_and_cannot_go_on_is_nan():
    model, problem = small()
    first = tts.simulate(sgd(), model, problem, TIMES[:2], key=KEY)
    failed = tts.Trajectory(**(vars(first) | {"status": jnp.asarray(Status.MAX_STEPS)}))

    @jax.jit
    def go_on(run, times):
        return tts.simulate(sgd(), run, problem, times, key=KEY)

    early, after_failure, fine = go_on(first, TIMES[:2]), go_on(failed, TIMES[2:]), go_on(first, TIMES[2:])
    assert (early.status, after_failure.status, fine.status) == (Status.DIVERGED, Status.MAX_STEPS, 0)
    assert np.isnan(early.risk).all()
    assert np.isnan(after_failure.risk).all()
    assert np.isfinite(fine.risk).all()
