"""Time per run of `sweep` against the number of runs, on one and on two devices of this machine's processor.

python benchmarks/sweep_scaling.py [--quick] [--out FILE]
python benchmarks/sweep_scaling.py --plot FILE
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import report

RUNS, DEVICES, ROUNDS = (16, 32, 64, 128, 256, 512, 1024), (1, 2), 3
NEURONS, EPSILON, STEP_SIZE, SLOW_TIME = 20, 0.1, 1e-4, 0.5
JUMPS, VALUES = (0.2, 0.35, 0.5, 0.65, 0.8), (1.0, 5.0, 1.0, 3.0, 1.0, 5.0)


def measure_here(devices: int, runs: tuple[int, ...]) -> list[dict]:
    """In this process, which must have so many devices. Every program is compiled before it is timed."""
    import jax

    import tts_jax as tts

    jax.config.update("jax_enable_x64", True)
    assert len(jax.devices()) == devices
    arms = {"flow": tts.GradientFlow(EPSILON, rtol=1e-6, atol=1e-6), "SGD": tts.SGD(EPSILON, STEP_SIZE)}
    problem = tts.Regression(tts.PiecewiseConstant(JUMPS, VALUES), noise=1.0)
    cells = []
    for arm, dynamics in arms.items():
        compile_seconds = compile_once()

        def once(count: int, dynamics=dynamics) -> float:
            begin = time.perf_counter()
            tts.sweep(dynamics, problem, [SLOW_TIME], seeds=count, neurons=NEURONS, progress=False)
            return time.perf_counter() - begin

        for count in runs:
            once(count)
            rounds = [1e3 * once(count) / count for _ in range(ROUNDS)]
            cells.append(
                {
                    "dynamics": arm,
                    "devices": devices,
                    "runs": count,
                    "milliseconds_per_run": statistics.median(rounds),
                    "rounds": rounds,
                    "compile_seconds": max(compile_seconds),
                }
            )
    return cells


def compile_once() -> list[float]:
    """Lets the sweeps that follow share the programs of equal shapes; the list gets the seconds of each compilation."""
    import equinox as eqx
    import jax

    from tts_jax.sweeps.launch import Launch, run_chunks

    programs, seconds = {}, []

    def compiled(launch, starts, slow_times):
        arguments = *launch.arguments(starts), slow_times
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(eqx.filter(arguments, eqx.is_array)))
        if shapes not in programs:
            begin = time.perf_counter()
            programs[shapes] = run_chunks.lower(*arguments).compile()
            seconds.append(time.perf_counter() - begin)
        return programs[shapes]

    Launch.compile = compiled
    return seconds


def measure(quick: bool) -> dict:
    """Each number of devices in a fresh process."""
    runs = RUNS[::3] if quick else RUNS
    results = {
        "quick": quick,
        "neurons": NEURONS,
        "epsilon": EPSILON,
        "step_size": STEP_SIZE,
        "slow_time": SLOW_TIME,
        **report.header(),
        "cells": [],
    }
    for devices in DEVICES:
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, __file__, "--here", str(devices), *map(str, runs)]
        done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, check=True)
        for cell in json.loads(done.stdout):
            results["cells"].append(cell)
            print(_line(cell), flush=True)
    return results


def _line(cell: dict) -> str:
    where = f"{cell['dynamics']:4}, {cell['devices']} devices, {cell['runs']:4} runs"
    return f"{where}: {cell['milliseconds_per_run']:.3g} ms a run, compiled in {cell['compile_seconds']:.2g} s"


def plot(path: Path) -> None:
    import matplotlib.pyplot as plt

    cells = json.loads(path.read_text())["cells"]
    figure, axis = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for arm, colour in (("flow", report.BLUE), ("SGD", report.ORANGE)):
        for devices, style in zip(DEVICES, ("-", "--"), strict=True):
            curve = [cell for cell in cells if (cell["dynamics"], cell["devices"]) == (arm, devices)]
            label = f"{arm}, {devices} device{'s' * (devices > 1)}"
            times = [cell["milliseconds_per_run"] for cell in curve]
            axis.loglog([cell["runs"] for cell in curve], times, style, color=colour, marker="o", ms=3, label=label)
    axis.set_xlabel("runs in the sweep")
    axis.set_ylabel("milliseconds per run, compilation apart")
    axis.set_title("one device has a thread on each core; of two, each has its own", fontsize=9)
    axis.set_xticks(RUNS, map(str, RUNS), minor=False)
    times = [cell["milliseconds_per_run"] for cell in cells]
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20) if min(times) / 2 < tick < max(times) * 2]
    axis.set_yticks(ticks, map(str, ticks), minor=False)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        devices, *runs = map(int, sys.argv[2:])
        print(json.dumps(measure_here(devices, tuple(runs))))
    else:
        report.main(__file__, __doc__.splitlines()[0], "few numbers of runs", measure, plot)
