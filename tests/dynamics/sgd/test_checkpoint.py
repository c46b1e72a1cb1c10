"""Long runs: killed and started again, they end where an undisturbed run ends."""

import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import tts_jax as tts
from tts_jax._fingerprint import fingerprint
from tts_jax.dynamics.sgd import stretches as module

STRETCH, STEPS = 512, (0, 700, 1024, 2600)
RUN = """
import os, signal, sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
sys.path[:0] = sys.argv[1].split(os.pathsep)
import test_checkpoint

dies_at = int(sys.argv[3])
replace, writes = os.replace, []
def counting(*paths):
    writes.append(paths)
    if len(writes) == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = counting
np.save(sys.argv[2] + ".npy", test_checkpoint.run(sys.argv[2]))
print(len(writes))
"""


def simulate(path=None, *, progress=None, h=1e-3, key=5, optimizer=None, steps=STEPS):
    model, problem = reference.build(reference.small_case())
    dynamics, times = tts.SGD(0.01, h, batch_size=3, optimizer=optimizer), 0.01 * h * np.array(steps)
    return tts.simulate(dynamics, model, problem, times, key=jax.random.key(key), checkpoint=path, progress=progress)


def run(path=None, **options):
    module.STRETCH = STRETCH
    return reference.states(simulate(path, **options))


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    monkeypatch.setattr(module, "STRETCH", STRETCH)


@pytest.fixture(scope="module")
def undisturbed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRETCH", STRETCH)
        return run(progress=lambda done, total: None)


def test_killed_run_goes_on_bit_for_bit(tmp_path, undisturbed):
    """Killed by the system while it replaces its third checkpoint, between steps 1,024 and 1,536."""
    path = tmp_path / "run"

    def process(dies_at):
        folders = os.pathsep.join(os.path.dirname(module) for module in (__file__, reference.__file__))
        arguments = [sys.executable, "-c", RUN, folders, str(path), str(dies_at)]
        compiled = {
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return subprocess.run(arguments, env=os.environ | compiled, capture_output=True, text=True, check=False)

    killed = process(3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.exists()
    assert not path.with_name("run.npy").exists()
    finished = process(0)
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) == 4  # of the 6 that a whole run writes
    np.testing.assert_array_equal(np.load(path.with_name("run.npy")), undisturbed)


def test_goes_on_from_the_last_boundary(tmp_path, undisturbed):
    """Step boundaries are fixed: multiples of the stretch, and the end. A finished run is read, not computed anew."""
    path = tmp_path / "run"

    def interrupt(done, total):
        if done > 1500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(path, progress=interrupt)
    seen = []
    np.testing.assert_array_equal(run(path, progress=lambda done, total: seen.append(done)), undisturbed)
    assert seen[0] > 1536
    assert seen[-1] == STEPS[-1]
    seen.clear()
    np.testing.assert_array_equal(run(path, progress=lambda done, total: seen.append(done)), undisturbed)
    assert seen == []


def test_keeps_the_state_of_an_optimiser(tmp_path):
    def interrupt(done, total):
        if done > 600:
            raise KeyboardInterrupt

    options = {"optimizer": optax.adam(1e-3), "steps": (0, 300, 900)}
    with jax.numpy_dtype_promotion("standard"):  # Optax itself promotes
        undisturbed = run(progress=lambda done, total: None, **options)
        with pytest.raises(KeyboardInterrupt):
            simulate(tmp_path / "run", progress=interrupt, **options)
        np.testing.assert_array_equal(run(tmp_path / "run", **options), undisturbed)


def test_a_longer_run_goes_on_from_the_file_of_a_shorter_one(tmp_path, undisturbed):
    """Saves that are asked for again are kept; those that the file lacks, or that end before it, are refused."""
    path = tmp_path / "run"
    simulate(path, steps=STEPS[:3])
    seen = []
    np.testing.assert_array_equal(run(path, progress=lambda done, total: seen.append(done)), undisturbed)
    assert seen[0] > 1024
    before = path.read_bytes()
    np.testing.assert_array_equal(run(path, steps=(0, 1024, 2600)), undisturbed[[0, 2, 3]])
    reference.refuses(lambda: simulate(path, steps=(0, 600, 3000)), "step 2600", "step 600", str(path))
    reference.refuses(lambda: simulate(path, steps=STEPS[:3]), "step 2600", "step 1024", str(path))
    assert path.read_bytes() == before


def test_ctrl_c_writes_what_was_computed(tmp_path, undisturbed):
    """Not only up to the last boundary."""
    path = tmp_path / "run"

    def interrupt(done, total):
        if done == 1536:
            module.STRETCH = 10**6
        if done > 1536:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(path, progress=interrupt)
    seen = []
    np.testing.assert_array_equal(run(path, progress=lambda done, total: seen.append(done)), undisturbed)
    assert seen == []


@pytest.mark.parametrize(
    "change",
    [{"h": 2e-3}, {"key": 6}, {"optimizer": optax.sgd(1e-3)}],
    ids=["step size", "key", "optimiser"],
)
def test_refuses_the_file_of_another_configuration(tmp_path, change):
    path = tmp_path / "run"
    steps = {"steps": (0, 0, 0, 1)}
    simulate(path, **steps)
    before = path.read_bytes()
    reference.refuses(lambda: simulate(path, **(steps | change)), "another configuration", str(path))
    assert path.read_bytes() == before


def test_refuses_what_it_cannot_use(tmp_path):
    path = tmp_path / "notes"
    path.write_text("mine")
    reference.refuses(lambda: simulate(path), "no checkpoint", str(path))
    assert path.read_text() == "mine"
    reference.refuses(lambda: simulate(tmp_path / "missing" / "run"), "cannot write", "missing")
    model, problem = reference.build(reference.small_case())
    flow = tts.GradientFlow(0.1)
    reference.refuses(
        lambda: tts.simulate(flow, model, problem, [0.1], checkpoint=path), "SGD", "GradientFlow", "checkpoint"
    )
    sgd, keys = tts.SGD(0.01, 1e-3), jax.random.split(jax.random.key(0), 2)
    lanes = jax.vmap(lambda key: tts.simulate(sgd, model, problem, [1e-5], key=key, checkpoint=path).risk)
    reference.refuses(lambda: lanes(keys), "checkpoint", "vmap")


@pytest.mark.usefixtures("annotations_off")
def test_what_is_no_file_is_refused_before_any_work():
    reference.refuses(lambda: simulate(3), "checkpoint must be a path, got 3")


def test_fingerprint_sees_what_functions_were_made_from():
    optimizers = [
        optax.sgd(0.1),
        optax.sgd(0.2),
        optax.adam(0.1),
        optax.adam(optax.linear_schedule(0.1, 0.0, 10)),
        optax.adam(optax.linear_schedule(0.1, 0.0, 11)),
        (optax.sgd(0.1), optax.adam(0.1)),
    ]
    digests = [fingerprint(optimizer) for optimizer in optimizers]
    assert len(set(digests)) == len(digests)
    assert fingerprint(optax.adam(0.1)) == digests[2]
    arrays = [jnp.zeros(2), jnp.ones(2), jnp.zeros((2, 1)), jnp.zeros(2, int), jax.random.key(0), jax.random.key(1)]
    assert len({fingerprint([array]) for array in arrays}) == len(arrays)
