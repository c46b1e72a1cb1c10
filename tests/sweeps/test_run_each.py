"""Many runs at once are the single runs, and a slow one keeps nobody waiting."""

import threading
import time

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tts_jax as tts
from tts_jax.solvers import DenseJacobian, Rodas5P

PROBLEM = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]))


def run(key, epsilon):
    model = tts.ShallowNetwork.init(key, 3, tts.SmoothStep(0.1))
    return tts.simulate(tts.GradientFlow(epsilon, rtol=1e-6, atol=1e-6), model, PROBLEM, jnp.array([0.0, 0.3]))


def test_equal_to_single_runs():
    keys, epsilons = jax.random.split(jax.random.key(0), 5), jnp.geomspace(1e-3, 1.0, 5)
    together = tts.run_each(run, keys, epsilons)
    for k in range(5):
        alone = jax.jit(run)(keys[k], epsilons[k])
        np.testing.assert_array_equal(together.model.positions[k], alone.model.positions)
        assert together.stats.steps[k] == alone.stats.steps
    assert together.stats.method == "Rodas5P, closed-form Hessian"
    assert len(set(together.stats.steps.tolist())) > 1
    tried = np.asarray(together.stats.steps) + np.asarray(together.stats.rejected)
    np.testing.assert_allclose(together.stats.waste, tried.max() / tried.mean())


def test_factorisations_are_counted():
    counted = []

    class Counting(DenseJacobian):
        def factor(self, vector_field, t, y, args, shift):
            jax.debug.callback(lambda: counted.append(1))
            return super().factor(vector_field, t, y, args, shift)

    model = tts.ShallowNetwork.init(jax.random.key(0), 3, tts.SmoothStep(0.1))
    flow = tts.GradientFlow(1.0, solver=Rodas5P(Counting()), rtol=1e-6, atol=1e-6)
    stats = tts.simulate(flow, model, PROBLEM, jnp.array([0.0, 0.3])).stats
    jax.effects_barrier()
    assert len(counted) == stats.factorisations > 5
    euler = tts.simulate(tts.GradientFlow(1.0, solver=diffrax.Euler()), model, PROBLEM, jnp.array([0.0, 1e-3]))
    assert euler.stats.factorisations is None
    np.testing.assert_allclose(euler.stats.waste, 1.0)


def test_shared_arguments_and_compiling_once():
    traces = []

    def scaled(x, name):
        traces.append(name)
        return {"double": 2 * x}

    for _ in range(2):
        result = tts.run_each(scaled, jnp.arange(6.0), "anything", workers=2)
    np.testing.assert_array_equal(result["double"], 2 * np.arange(6.0))
    assert traces == ["anything"]


def test_workers_take_the_next_run():
    seen: dict[int, int] = {}

    def record(index):
        if int(index) == 1:
            time.sleep(0.5)  # everything else is done meanwhile, by the other worker
        seen[int(index)] = threading.get_ident()
        return np.asarray(index)

    def slow_second(index):
        return jax.pure_callback(record, jax.ShapeDtypeStruct((), index.dtype), index)

    result = tts.run_each(slow_second, jnp.arange(8), workers=2)
    np.testing.assert_array_equal(result, np.arange(8))
    assert list(seen)[-1] == 1


def test_workers_start_at_once():
    """The first two runs wait for each other."""
    both = threading.Barrier(2, timeout=60)

    def meet(index):
        both.wait()
        return np.asarray(index)

    def run(index):
        return jax.pure_callback(meet, jax.ShapeDtypeStruct((), index.dtype), index)

    np.testing.assert_array_equal(tts.run_each(run, jnp.arange(2), workers=2), np.arange(2))


@pytest.mark.parametrize("arguments", [(), ("shared",), (np.zeros(()),), (jnp.zeros((0, 2)),)])
def test_no_runs(arguments):
    with pytest.raises(ValueError, match="leading axis"):
        tts.run_each(lambda *a: a, *arguments)


def test_axes_differ():
    with pytest.raises(ValueError, match=r"\(2,\)"):
        tts.run_each(lambda a, b: a, jnp.zeros(2), jnp.zeros(3))
