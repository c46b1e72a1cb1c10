"""The command line compiles nothing twice."""

import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp
from tts_jax import cli
import tts_jax as tts

misses, hits = [], []
def listen(event, **_):
    if event == "/jax/compilation_cache/cache_misses":
        misses.append(event)
    if event == "/jax/compilation_cache/cache_hits":
        hits.append(event)
jax.monitoring.register_event_listener(listen)
cli.main(["list"])
positions = jnp.array([[0.3], [0.7]])
model = tts.ShallowNetwork(jnp.zeros((2, 1)), positions, jnp.zeros(()), tts.SmoothStep(0.1))
problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
run = tts.simulate(tts.GradientFlow(0.1), model, problem, [0.1])
assert run.status == tts.Status.SUCCESSFUL
print("compiled", len(misses), "found", len(hits))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    removed = ("JAX_COMPILATION_CACHE_DIR", "EQX_ON_ERROR")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def compiled_and_found():
        command = [sys.executable, "-c", PROGRAM]
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
