"""A second process compiles nothing, of the command line and of a script that calls `cache`."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import jax, jax.numpy as jnp
import tts_jax as tts
from tts_jax import cli

misses, hits = [], []
def listen(event, **_):
    if event == "/jax/compilation_cache/cache_misses":
        misses.append(event)
    if event == "/jax/compilation_cache/cache_hits":
        hits.append(event)
jax.monitoring.register_event_listener(listen)
tts.cache(sys.argv[2]) if sys.argv[1] == "script" else cli.main(["list"])
positions = jnp.array([[0.3], [0.7]])
model = tts.ShallowNetwork(jnp.zeros((2, 1)), positions, jnp.zeros(()), tts.SmoothStep(0.1))
problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
run = tts.simulate(tts.GradientFlow(0.1), model, problem, [0.1])
assert run.status == tts.Status.SUCCESSFUL
print("compiled", len(misses), "found", len(hits))
"""


@pytest.mark.parametrize("caller", ["script", "command line"])
def test_a_second_process_compiles_nothing(caller, tmp_path):
    removed = ("JAX_COMPILATION_CACHE_DIR", "EQX_ON_ERROR")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def compiled_and_found():
        command = [sys.executable, "-c", PROGRAM, caller, str(tmp_path / "tts_jax")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        words = done.stdout.splitlines()[-1].split()
        return int(words[1]), int(words[3])

    compiled, _ = compiled_and_found()
    assert compiled > 1
    assert (tmp_path / "tts_jax").is_dir()
    again, found = compiled_and_found()
    assert again == 0
    assert found >= compiled
