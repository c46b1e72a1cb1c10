"""A whole solve is one kernel on a CPU, and calls nobody on a GPU."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import tts_jax as tts
from tts_jax import _kernel
from tts_jax.dynamics.flow import neurons

PROBLEM = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, 3.0]))
TIMES = jnp.array([0.1, 1.0])


def traced(neurons, runs):
    """A program for the states of a run, or of several under `vmap`, without their risk."""

    def states(positions):
        model = tts.ShallowNetwork(jnp.ones_like(positions), positions, jnp.zeros(()), tts.SmoothStep(0.05))
        moving = tts.simulate(tts.GradientFlow(1e-3), model, PROBLEM, TIMES).model
        return moving.weights, moving.positions

    positions = jnp.linspace(0.1, 0.9, neurons)[:, None]
    if runs is None:
        return jax.jit(states).trace(positions)
    return jax.jit(jax.vmap(states)).trace(jnp.stack([positions] * runs))


@pytest.mark.parametrize("runs", [None, 3])
def test_all_loops_of_a_solve_are_in_one_kernel(runs):
    program = traced(5, runs).lower().compile().as_text()
    entry = program[program.index("\nENTRY ") :]
    entry = entry[: entry.index("\n}")]
    assert " while(" not in entry
    assert any(" call(" in line and 'xla_cpu_small_call="true"' in line for line in program.splitlines())


@pytest.mark.parametrize("runs", [None, 3])
def test_on_a_gpu_nobody_is_called(runs, monkeypatch):
    """No library, no host: all of a lowered program are operations of its own."""
    for module in (_kernel, neurons):
        monkeypatch.setattr(module, "platform", lambda: "gpu")
    # Six neurons, for which no test has traced the program of a CPU.
    text = traced(6, runs).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.while" in text
    assert "stablehlo.custom_call" not in text
    assert "xla_cpu_small_call" not in text


SCRIPT = """
import os, sys, time
os.sched_setaffinity(0, map(int, sys.argv[1:]))
import jax, jax.numpy as jnp
import tts_jax as tts
jax.config.update("jax_enable_x64", True)
problem = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, 3.0]))
model = tts.ShallowNetwork.init(jax.random.key(0), 20, tts.SmoothStep(0.01))

def run():
    jax.block_until_ready(tts.simulate(tts.GradientFlow(1e-4), model, problem, jnp.array([0.1])))

def seconds():
    begin = time.process_time()
    run()
    return time.process_time() - begin

run()
print(min(seconds() for _ in range(15)))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to choose cores")
def test_two_cores_are_not_slower_than_one():
    """As kernels of their own, the operations of a solve took three times the CPU time on two cores: threads waited."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        pytest.skip("one core")

    def seconds(*cores):
        command = [sys.executable, "-c", SCRIPT, *map(str, cores)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert seconds(*cores) < 2 * seconds(cores[0])
