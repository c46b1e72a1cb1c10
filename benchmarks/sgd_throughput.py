"""Seed-steps of SGD per second against lanes, neurons and precision, beside loops in Numba and NumPy.

python benchmarks/sgd_throughput.py [--quick] [--out FILE]
python benchmarks/sgd_throughput.py --plot FILE
"""

import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import report

LANES, NEURONS, MANY = (1, 4, 16, 64, 256, 1024, 4096), (5, 20, 100, 1000), 256
EPSILON, STEP_SIZE, ETA, NOISE = 0.1, 1e-4, 4e-3, 1.0
JUMPS, VALUES = (0.2, 0.35, 0.5, 0.65, 0.8), (1.0, 5.0, 1.0, 3.0, 1.0, 5.0)
SECONDS, ROUNDS = 0.15, 5
"""Each contestant of a cell runs for about SECONDS in each of ROUNDS rounds, in turn."""

Run = Callable[[int], None]
"""Takes so many steps in all lanes."""


def ours(lanes: int, neurons: int, dtype: str, *, cores: int, optax: bool = False) -> Run:
    """Lanes by `vmap`; on several cores, a chunk of lanes for each thread."""
    import jax
    import jax.numpy as jnp
    import optax as optimizers

    import tts_jax as tts

    jax.config.update("jax_enable_x64", dtype == "float64")
    problem = tts.Regression(tts.PiecewiseConstant(JUMPS, VALUES), NOISE)

    def one(key, slow_time):
        start, stream = jax.random.split(key)
        model = tts.ShallowNetwork.init(start, neurons, tts.SmoothStep(ETA))
        optimizer = optimizers.sgd(STEP_SIZE) if optax else None
        sgd = tts.SGD(EPSILON, STEP_SIZE, optimizer=optimizer)
        trajectory = tts.simulate(sgd, model, problem, slow_time[None], key=stream)
        return trajectory.model

    chunks = min(lanes, cores)
    keys = jax.random.split(jax.random.key(0), lanes).reshape(chunks, lanes // chunks)
    if lanes == 1:
        alone = jax.jit(one)
    run = jax.vmap(one, (0, None))

    def advance(steps):
        slow_time = jnp.asarray(steps * EPSILON * STEP_SIZE)
        if lanes == 1:
            jax.block_until_ready(alone(keys[0, 0], slow_time))
        else:
            jax.block_until_ready(tts.run_each(run, keys, jnp.full(chunks, slow_time)))

    return advance


def peer(loop: str, lanes: int, neurons: int, dtype: str) -> Run:
    """Goes on from where its last call ended."""
    import numba_sgd
    import numpy as np

    positions = np.random.default_rng(0).uniform(size=(lanes, neurons)).astype(dtype)
    weights, bias, seeds = np.zeros_like(positions), np.zeros(lanes, dtype), np.arange(lanes, dtype=np.uint64)
    numbers = [np.dtype(dtype).type(number) for number in (EPSILON, STEP_SIZE, ETA, NOISE)]
    target = np.array(JUMPS, dtype), np.array(VALUES, dtype)

    def advance(steps):
        getattr(numba_sgd, loop)(seeds, steps, *numbers, *target, weights, positions, bias)

    return advance


def seconds(run: Run, steps: int) -> tuple[float, float]:
    """On the clock, and of the processor: the second hardly sees what else runs on the machine."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(steps)
    return time.perf_counter() - wall, time.process_time() - cpu


def cell(contestants: dict[str, Run], lanes: int, rounds: int) -> dict:
    """For each contestant: what its first call took (compilation), and its medians."""
    compile_seconds = {name: seconds(run, 1)[0] for name, run in contestants.items()}
    steps = {name: _enough_steps(run) for name, run in contestants.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            taken[name].append(seconds(run, steps[name]))

    def microseconds(name, clock):
        return [1e6 * both[clock] / steps[name] / lanes for both in taken[name]]

    return {
        name: {
            "microseconds_per_seed_step": statistics.median(microseconds(name, 0)),
            "cpu_microseconds_per_seed_step": statistics.median(microseconds(name, 1)),
            "rounds": microseconds(name, 0),
            "first_call_seconds": compile_seconds[name],
            "steps": steps[name],
        }
        for name in contestants
    }


def _enough_steps(run: Run) -> int:
    """Whole blocks of 1024 steps, so that nobody pays for a part of one."""
    steps = 1024
    while (taken := seconds(run, steps)[0]) < SECONDS / 4:
        steps *= 4
    return max(1, round(steps * SECONDS / taken / 1024)) * 1024


def measure(quick: bool) -> dict:
    cores = len(os.sched_getaffinity(0))
    dtypes, rounds = ("float64", "float32"), 3 if quick else ROUNDS
    lanes, neurons = ((1, 64, MANY), NEURONS[::2]) if quick else (LANES, NEURONS)
    results = {"quick": quick, "memory": memory(), **report.header("optax", "numba"), "cells": []}
    by_lanes = [(count, 20) for count in lanes]
    by_neurons = [(MANY, count) for count in neurons if count != 20 or MANY not in lanes]
    for dtype in dtypes:
        for count, size in by_lanes + by_neurons:
            contestants = {
                "tts_jax": ours(count, size, dtype, cores=cores),
                "Numba": peer("one_thread" if count == 1 else "all_threads", count, size, dtype),
                "NumPy": peer("numpy_loop", count, size, dtype),
            }
            if size == 20 and count in (1, 64) and dtype == "float64":
                contestants["tts_jax with Optax"] = ours(count, size, dtype, cores=cores, optax=True)
            entry = {"lanes": count, "neurons": size, "dtype": dtype} | cell(contestants, count, rounds)
            results["cells"].append(entry)
            print(_line(entry), flush=True)
    return results


def memory() -> dict:
    """How much the peak of resident memory grows when 64 lanes take 32 times as many steps."""
    run, short = ours(64, 20, "float64", cores=1), 2**12
    run(short)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(32 * short)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"steps": [short, 32 * short], "peak_mib": [before / 1024, after / 1024]}


def _line(entry: dict) -> str:
    times = {name: value["microseconds_per_seed_step"] for name, value in entry.items() if isinstance(value, dict)}
    cpu = {name: entry[name]["cpu_microseconds_per_seed_step"] for name in times}
    ratio, cpu_ratio = (clock["tts_jax"] / clock["Numba"] for clock in (times, cpu))
    shown = ", ".join(f"{name} {time:.4f}" for name, time in times.items())
    cell_name = f"{entry['lanes']:5} lanes, {entry['neurons']:4} neurons, {entry['dtype']}"
    return f"{cell_name}: {shown} us; x {ratio:.2f}, of CPU time x {cpu_ratio:.2f}"


def plot(path: Path) -> None:
    import matplotlib.pyplot as plt

    results = json.loads(path.read_text())
    colours = {"tts_jax": report.BLUE, "Numba": report.ORANGE, "NumPy": report.GREY}
    styles = {"float64": "-", "float32": "--"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
    panels = (("lanes", "neurons", 20), ("neurons", "lanes", MANY))
    for axis, (varied, fixed, value) in zip(axes, panels, strict=True):
        for dtype, style in styles.items():
            cells = [c for c in results["cells"] if c["dtype"] == dtype and c[fixed] == value]
            cells.sort(key=lambda entry: entry[varied])
            for name, colour in colours.items():
                pace = [1e6 / c[name]["microseconds_per_seed_step"] for c in cells]
                label = f"{name}, {dtype[-2:]}-bit"
                axis.loglog([c[varied] for c in cells], pace, style, color=colour, marker="o", ms=3, label=label)
        axis.set_xlabel(varied)
        axis.set_title(f"{value} {fixed}", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seed-steps per second")
    axes[0].legend(fontsize=8)
    figure.savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    report.main(__file__, __doc__.splitlines()[0], "few cells, three rounds: about a minute", measure, plot)
