"""Blocks of steps in one launch: in Pallas' interpreters against the loop of XLA, lowered for CUDA, and on a GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from jax.experimental import pallas as pl

import tts_jax as tts
from tts_jax.dynamics.sgd import kernel

ONE_LAUNCH = "SGD, one launch for many steps"
LANES = kernel.THREADS + 2  # more than one program
WORKS = kernel.works.__wrapped__


def interpreted(body, outputs, programs):
    def program(*refs):
        body(pl.program_id(0), *refs)

    return pl.pallas_call(program, out_shape=tuple(outputs), grid=(programs,), interpret=True)


@functools.cache
def works_interpreted(*settings):
    """What `kernel.works` finds there; for all tests together."""
    return WORKS(*settings)


@pytest.fixture
def pretend(monkeypatch):
    """Takes this machine for one with a GPU; what was traced for another is forgotten."""

    def become(launch):
        jax.clear_caches()
        kernel.works.cache_clear()
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(kernel, "launch", launch)
        if launch is interpreted:
            monkeypatch.setattr(kernel, "works", works_interpreted)

    yield become
    monkeypatch.undo()
    kernel.works.cache_clear()
    jax.clear_caches()


def simulate(key, h=1e-3, height=1.0, times=(0.0, 1e-3, 6e-3), bias=True, surrogate=None, epsilon=0.01, **options):
    problem = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [1.0, 2.0, 0.0]), noise=0.1)
    model = tts.ShallowNetwork.init(key, 4, tts.SmoothStep(0.1, surrogate), weight_range=height, bias=bias)
    return tts.simulate(tts.SGD(epsilon, h, **options), model, problem, jnp.asarray(times), key=key)


def together(keys, h, height, options):
    return reference.quick_jit(jax.vmap(functools.partial(simulate, **options)))(keys, h, height)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 3, "bias": False},
        {"surrogate": "box"},
        {"svag": 2},
        {"epsilon": (0.1, 0.01), "slow": (lambda m: m.bias, lambda m: m.positions)},
    ],
    ids=["one sample", "batches, no bias", "box", "amplified", "three speeds"],
)
def test_trajectories_are_those_of_the_loop(pretend, options):
    """Runs with numbers of steps of their own, from 400 to 600, saved within blocks; one diverges. And a run alone."""
    keys, h = jax.random.split(jax.random.key(0), LANES), jnp.linspace(1e-3, 1.5e-3, LANES)
    height = jnp.ones(LANES).at[5].set(1e308)
    want = together(keys, h, height, options)
    pretend(interpreted)
    got = together(keys, h, height, options)
    assert got.stats.method == ONE_LAUNCH.replace("SGD", want.stats.method)
    assert len(np.unique(got.step[:, -1])) > 50
    np.testing.assert_array_equal(got.status, want.status)
    assert set(np.asarray(got.status)) == {tts.Status.SUCCESSFUL, tts.Status.DIVERGED}
    for moved, expected in zip(*(jax.tree.leaves(run.model) for run in (got, want)), strict=True):
        np.testing.assert_allclose(moved, expected, rtol=1e-14, atol=1e-12)
    alone = reference.quick(lambda: simulate(keys[0], h=h[0], **options))
    np.testing.assert_allclose(alone.model.positions, want.model.positions[0], rtol=0, atol=1e-12)
    assert np.ptp(want.model.positions[0], axis=0).max() > 1e-5


def test_save_times_change_nothing(pretend):
    pretend(interpreted)
    key, end = jax.random.key(1), 6e-3
    often, once = (
        reference.quick(lambda times=times: simulate(key, times=times)) for times in ([0.0, 1e-3, end], [end])
    )
    assert often.stats.method == ONE_LAUNCH
    np.testing.assert_array_equal(reference.states(often)[-1], reference.states(once)[-1])


def test_32_bit_carries_what_rounding_drops(pretend):
    """Steps of 1e-8 to positions whose neighbours in 32-bit are 6e-8 away, against 64-bit."""
    rng, steps = np.random.default_rng(2), 2000
    x, y = rng.uniform(size=steps), 6 * rng.uniform(size=steps)
    weights, positions = np.ones((4, 1)), np.array([[0.55], [0.7], [0.8], [0.95]])

    def final_positions(dtype):
        numbers = [jnp.asarray(leaf, dtype) for leaf in (weights, positions, 0.0)]
        model, problem = (
            tts.ShallowNetwork(*numbers, tts.SmoothStep(0.1)),
            tts.Regression(tts.PiecewiseConstant([], [0])),
        )
        samples, times = (x.astype(dtype), y.astype(dtype)), [1e-10 * steps]
        run = reference.quick(lambda: tts.simulate(tts.SGD(1e-6, 1e-4), model, problem, times, samples=samples))
        return run.model.positions[-1, :, 0], run.stats.method

    wide, _ = final_positions(np.float64)
    pretend(interpreted)
    with jax.enable_x64(False):
        narrow, method = final_positions(np.float32)
    assert method == ONE_LAUNCH
    assert np.max(np.abs(wide - positions[:, 0])) > 5e-7
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=6.1e-8)


def test_a_machine_that_cannot_keeps_to_the_loop(pretend):
    key = jax.random.key(1)
    want = reference.quick(lambda: simulate(key))
    pretend(kernel.launch)
    with pytest.warns(UserWarning, match=r"launches every step by itself.*\(ValueError: Only interpret mode"):
        got = reference.quick(lambda: simulate(key))
    assert got.stats.method == "SGD"
    np.testing.assert_array_equal(got.model.positions, want.model.positions)


def test_the_processor_of_a_machine_with_a_gpu_keeps_to_the_loop(pretend):
    pretend(interpreted)
    with jax.default_device(jax.devices("cpu")[0]):
        assert reference.quick(lambda: simulate(jax.random.key(1))).stats.method == "SGD"


def test_a_machine_that_errs_keeps_to_the_loop(pretend):
    def wrong(body, outputs, programs):
        return lambda *inputs: [output * (1 + 1e-12) for output in interpreted(body, outputs, programs)(*inputs)]

    pretend(wrong)
    with pytest.warns(UserWarning, match=r"launches every step by itself.*\(results off by \d\.\de-12"):
        assert not kernel.works("float64", 20, 1)


@pytest.mark.parametrize(
    "options",
    [{"optimizer": optax.sgd(1e-3)}, {"batch_size": 20}, {"frozen": lambda m: m.bias}],
    ids=["Optax", "large batch", "frozen"],
)
def test_what_the_kernel_has_no_room_for_keeps_to_the_loop(pretend, options):
    pretend(interpreted)
    with jax.numpy_dtype_promotion("standard"):  # Optax itself promotes
        assert reference.quick(lambda: simulate(jax.random.key(1), **options)).stats.method == "SGD"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_lowers_for_cuda(dtype):
    """By the compiler that JAX has for the GPUs of today, which needs none for this."""
    few_steps = jax.jit(kernel.error_in_a_few_steps, static_argnums=(0, 1, 2)).trace(dtype, 20, 2)
    assert "mosaic_gpu" in few_steps.lower(lowering_platforms=("cuda",)).as_text()


def test_a_few_steps_in_the_interpreter_of_the_gpu(monkeypatch):
    """It knows the programs of a grid by their axis, as the GPU does, and looks for races."""
    interpreter = pytest.importorskip("jax._src.pallas.mosaic_gpu.interpret.interpret_pallas_call")
    from jax.experimental.pallas import mosaic_gpu

    params = interpreter.InterpretGPUParams(detect_races=True)
    monkeypatch.setattr(mosaic_gpu, "kernel", functools.partial(mosaic_gpu.kernel, interpret=params))
    assert kernel.error_in_a_few_steps("float64", 3, 2) < 1e-14
    assert not interpreter.get_races().races_found


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
def test_on_a_gpu():
    """An optimiser that is given, the same one, keeps to the loop of XLA."""
    keys, h, height = jax.random.split(jax.random.key(0), LANES), jnp.full(LANES, 1e-3), jnp.ones(LANES)
    got = together(keys, h, height, {})
    with jax.numpy_dtype_promotion("standard"):  # Optax itself promotes
        want = together(keys, h, height, {"optimizer": optax.sgd(1e-3)})
    assert (got.stats.method, want.stats.method) == (ONE_LAUNCH, "SGD")
    np.testing.assert_allclose(got.model.positions, want.model.positions, rtol=0, atol=1e-12)
