"""Sweeps: every cell is the single run, whatever it is computed beside."""

import itertools
import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tts_jax as tts
from tts_jax.sweeps import grid, results
from tts_jax.sweeps.kept import Kept

PROBLEM = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, -1.0]), noise=0.5)
TIMES = [0.0, 0.01, 0.02]
SGD = tts.SGD(1.0, 1e-2)


@pytest.fixture(scope="module")
def result():
    axes = {"epsilon": [1e-1, 1e-2], "neurons": [3, 9]}
    return tts.sweep(SGD, PROBLEM, TIMES, seeds=5, eta=0.05, progress=False, weights=True, **axes)


def single(epsilon, neurons, seed):
    model = tts.ShallowNetwork.init(jax.random.key(seed), neurons, tts.SmoothStep(0.05))
    key = jax.random.fold_in(jax.random.key(seed), 2)
    return tts.simulate(tts.SGD(epsilon, 1e-2), model, PROBLEM, TIMES, key=key)


def test_cells_are_single_runs(result):
    assert dict(result.sizes) | {"slow_time": 3} == result.sizes
    assert list(result.risk.dims) == ["epsilon", "neurons", "seed", "slow_time"]
    for epsilon, neurons, seed in [(1e-1, 3, 0), (1e-2, 9, 4)]:
        alone = single(epsilon, neurons, seed)
        cell = result.sel(epsilon=epsilon, neurons=neurons, seed=seed)
        np.testing.assert_allclose(cell.risk, alone.risk, rtol=1e-9)
        np.testing.assert_allclose(cell.positions[:, :neurons], alone.model.positions[..., 0], rtol=1e-9)
        np.testing.assert_allclose(cell.weights[:, :neurons], alone.model.weights[..., 0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(cell.bias, alone.model.bias, rtol=1e-9, atol=1e-12)
        assert np.isnan(cell.positions[:, neurons:]).all()
        assert cell.steps == alone.step[-1]
        assert cell.status == tts.Status.SUCCESSFUL


def test_the_start_is_that_of_init(result):
    for neurons, seed in itertools.product((3, 9), range(5)):
        start = tts.ShallowNetwork.init(jax.random.key(seed), neurons, tts.SmoothStep(0.05)).positions[:, 0]
        found = result.positions.sel(neurons=neurons, seed=seed).isel(epsilon=0, slow_time=0)
        np.testing.assert_array_equal(found[:neurons], start)
        pieces = np.histogram(start, [0, 0.3, 0.6, 1])[0]
        np.testing.assert_array_equal(result.neurons_per_piece.sel(neurons=neurons, seed=seed, epsilon=0.1), pieces)


def test_hit_times_and_convergence_follow_from_the_variables(result):
    held = abs(result.positions.values - np.array([0.3, 0.6])[:, None, None, None, None, None]) <= 0.025
    first = np.where(held.any(-1), np.asarray(TIMES), np.inf).min(-1)
    found = np.moveaxis(np.nan_to_num(result.hit_time.values, nan=np.inf), -1, 0)
    np.testing.assert_array_equal(found, first)
    floor = 0.05 / 28 * (1 + 4)
    np.testing.assert_array_equal(result.converged, result.risk[..., -1] < 2 * floor)


def test_the_floor_is_the_risk_of_one_neuron_at_each_jump():
    jumps, heights = np.array([[0.3], [0.6]]), np.array([[1.0], [-2.0]])
    model = tts.ShallowNetwork(*map(jnp.asarray, (heights, jumps, np.zeros(()))), tts.SmoothStep(0.05))
    assert float(PROBLEM.risk(model)) == pytest.approx(0.05 / 28 * 5, rel=1e-12)


def test_one_program_for_all_sizes_of_a_bucket():
    traces = []

    class Counted(tts.SGD):
        def run(self, *args, **kwargs):
            traces.append(1)
            return super().run(*args, **kwargs)

    for _ in range(2):
        tts.sweep(Counted(1.0, 1e-2), PROBLEM, TIMES, seeds=2, neurons=[2, 5, 7, 8], epsilon=[1.0, 0.5], progress=False)
    assert len(traces) == 1


def test_dynamics_share_their_starts_and_a_failure_stays_alone():
    tame = tts.SGD(1.0, 0.1)
    arms = {"tame": tame, "wild": tts.SGD(1.0, 20.0)}
    with pytest.warns(UserWarning, match="4 runs: 2 successful, 2 diverged"):
        both = tts.sweep(arms, PROBLEM, [0.0, 8000.0], seeds=[7, 3], neurons=4, progress=False)
    tame = tts.sweep(tame, PROBLEM, [0.0, 8000.0], seeds=[7, 3], neurons=4, progress=False)
    assert both.positions.dims == ("dynamics", "seed", "slow_time", "neuron")
    np.testing.assert_array_equal(both.positions[0, :, 0], both.positions[1, :, 0])
    assert (both.status.sel(dynamics="wild") == tts.Status.DIVERGED).all()
    np.testing.assert_array_equal(both.risk.sel(dynamics="tame"), tame.risk)
    assert (tame.status == tts.Status.SUCCESSFUL).all()


def test_targets_and_noise():
    other = tts.PiecewiseConstant([0.5], [0.0, 2.0])
    result = tts.sweep(
        SGD, PROBLEM, [0.0], seeds=2, neurons=3, target=[PROBLEM.target, other], noise=0.0, progress=False
    )
    np.testing.assert_allclose(result.risk[:, :, 0], [[0.3 + 0.4 - 0.0] * 2, [2.0] * 2], rtol=1e-12)
    assert json.loads(str(result.target.values[1]))["values"] == [0.0, 2.0]
    assert (result.neurons_per_piece[1, :, 2] == -1).all()


def test_the_configuration_tells_optimisers_and_starts_apart():
    def configured(momentum, neurons):
        sgd = tts.SGD(1.0, 1e-2, optimizer=optax.sgd(1e-2, momentum))
        return grid.Grid(sgd, PROBLEM, [0.1], 2, lambda key, eta: start(key, neurons, eta), {}).configuration()

    start = grid.uniform_start
    assert configured(0.5, 3) == configured(0.5, 3)
    assert configured(0.5, 3) != configured(0.9, 3)
    assert configured(0.5, 3) != configured(0.5, 4)


def test_chunks_cover_the_grid_once_and_are_bounded():
    arms = [SGD, tts.GradientFlow(1.0)]
    plan = grid.Grid(arms, PROBLEM, TIMES, 70, grid.uniform_start, {"neurons": [3, 70, 8]})
    runs = np.zeros(plan.shape, int)
    for chunk in results.Layout(plan, Kept(None, False, False), {}).chunks():
        runs[chunk.where] += 1
        assert chunk.runs <= 32
    assert (runs == 1).all()
    padded = {cell.start["neurons"]: cell.like.positions.shape[0] for cell in plan.cells}
    assert padded == {3: 8, 70: 128, 8: 8}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"width": [1]}, "no axis 'width' of SGD, of init or of a Regression: choose of epsilon, step_size, "),
        ({"epsilon": []}, "non-empty"),
        ({"epsilon": [0.1, -1]}, "epsilon must be positive"),
        ({"epsilon": [0.1, 0.1]}, "twice"),
        ({"neurons": [0]}, "at least 1"),
        ({"neurons": [2.5]}, "integer"),
        ({"seeds": []}, "at least one"),
        ({"seeds": 0}, "at least 1"),
        ({"epsilon": 1e-9, "step_size": 1e-9}, "larger step_size"),
        ({"slow_times": [1.0, 0.5]}, "must not decrease"),
        ({"dynamics": []}, "at least one dynamics"),
        ({"dynamics": [tts.TwoTimescaleLimit()], "epsilon": [1.0]}, "no axis 'epsilon' of TwoTimescaleLimit"),
        ({"dynamics": "flow"}, "at least one dynamics, got str"),
        ({"dynamics": None}, "at least one dynamics, got NoneType"),
        ({"problem": None}, "a sweep needs a problem, got NoneType"),
        (
            {"problem": tts.Dataset([[1.0]], [1.0]), "target": [PROBLEM.target]},
            "no axis 'target' of SGD, of init or of a Dataset",
        ),
        ({"target": []}, "a target or a list of them, got none"),
        ({"target": 3}, "a target or a list of them, got int"),
        ({"epsilon": [[0.1]]}, "a number or a non-empty list"),
        ({"epsilon": [0.1j]}, "epsilon must be real numbers"),
        ({"noise": []}, "non-empty"),
        ({"seeds": None}, "seeds must be an integer"),
        ({"seeds": "ab"}, "seeds must be an integer"),
        ({"seeds": [2**32]}, "below 2"),
        ({"store": "here.txt"}, r"ends in \.zarr"),
    ],
)
def test_refused_before_any_work(axes, message, annotations_off):
    arguments = {"dynamics": SGD, "problem": PROBLEM, "slow_times": TIMES, "seeds": 2} | axes
    with pytest.raises(ValueError, match=message) as caught:
        tts.sweep(progress=False, **arguments)
    assert "\n" not in str(caught.value)


DEVICES = """
    import jax, numpy as np, re, sys
    jax.config.update("jax_enable_x64", True)
    import tts_jax as tts
    from tts_jax.sweeps import grid
    from tts_jax.sweeps.kept import Kept
    from tts_jax.sweeps.launch import Launch, Program, places_of, run_lanes
    from tts_jax.sweeps.starts import Starts
    problem = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, -1.0]), noise=0.5)
    arms = {"SGD": (tts.SGD(0.1, 1e-2), 35), "flow": (tts.GradientFlow(0.1, rtol=1e-6, atol=1e-6), 3)}
    arm, seeds = arms[sys.argv[1]]
    def run(devices):
        return tts.sweep(arm, problem, [0.01, 5.0], seeds=seeds, neurons=[3, 4], devices=devices, progress=False)
    assert len(jax.devices()) == 8
    one = run(jax.devices()[:1])
    assert (one.status == 0).all()
    for count in (2, 8):
        assert one.drop_attrs().equals(run(jax.devices()[:count]).drop_attrs()), count
    plan = grid.Grid(arm, problem, [0.01, 5.0], seeds, grid.uniform_start, {"neurons": [3, 4]})
    program = Program(plan.cells, Kept(None, False, False), plan.slow_times)
    launch = Launch(plan.chunks(3)[:1], 8, *places_of(arm, jax.devices()))
    text = run_lanes.lower(*program.arguments(launch, Starts(plan))).compile().compiled.as_text()
    found = re.findall("all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", text)
    assert "num_partitions=8" in text and not found, found
    np.savez(sys.argv[2], *(one[name].values for name in sorted(one)))
"""


@pytest.mark.parametrize("arm", ["SGD", "flow"])
def test_devices_change_no_bit(arm, tmp_path):
    """One, two and eight virtual devices, and a process that has one only; no collective is in the program."""
    flags = {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(DEVICES), arm, str(tmp_path / "eight.npz")]
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    dynamics, seeds = {"SGD": (tts.SGD(0.1, 1e-2), 35), "flow": (tts.GradientFlow(0.1, rtol=1e-6, atol=1e-6), 3)}[arm]
    here = tts.sweep(dynamics, PROBLEM, [0.01, 5.0], seeds=seeds, neurons=[3, 4], progress=False)
    with np.load(tmp_path / "eight.npz") as there:
        for name, values in zip(sorted(here), there.values(), strict=True):
            np.testing.assert_array_equal(here[name], values, err_msg=name)
