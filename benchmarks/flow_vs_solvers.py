"""The gradient flow against other solvers: seconds for an achieved error, many starts at once, and its gradient.

    python benchmarks/flow_vs_solvers.py                 # measures, writes results/flow_vs_solvers.json and draws it
    python benchmarks/flow_vs_solvers.py --quick         # one start and few tolerances, to see whether it works
    python benchmarks/flow_vs_solvers.py --plot FILE     # draws a result file again

What is measured and how: README.md beside this file.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import unittest.mock
from pathlib import Path

import flow_pieces
import flow_plots
import flow_tables
import jax
import jax.numpy as jnp
import numpy as np
import report
from flow_peers import simulate, solver_named, start, with_library
from flow_tables import DIFFRAX_QUADRATURE, OURS, POOLED, SOLVERS, TARGET_ERROR
from report import in_fresh_process, pin, timed

import tts_jax as tts

jax.config.update("jax_enable_x64", True)

REGIMES = ((2e-5, 0.035), (1e-2, 3.0), (1.0, 10.0), (1e-8, 0.035))
"""(epsilon, slow time)."""
TOLERANCES = [10.0**-k for k in range(3, 11)]
PATIENCE = 0.3
"""A solver that took this many seconds goes on with the first start alone, at the tolerances of `SPARSE`."""
SPARSE = (1e-6, 1e-8)
GIVE_UP = 4.0
REPEATED = 0.04
"""Solves shorter than this are repeated."""


# Measuring. Every part runs in fresh processes, whose cores are set before JAX starts its threads.


def measure_single(seeds, tolerances, repeats):
    """Work and precision of each solver: one start after the other, one thread, the solvers taking turns."""
    return [_measure_regime(*regime, [start(seed) for seed in seeds], tolerances, repeats) for regime in REGIMES]


def _measure_regime(epsilon, duration, starts, tolerances, repeats):
    exact = [solver_named("SciPy Radau")(epsilon, duration, y0, 1e-12)[0] for y0 in starts]
    ours = [solver_named(OURS)(epsilon, duration, y0, 1e-13)[0] for y0 in starts]
    check = [float(np.max(np.abs(x - y))) for x, y in zip(exact, ours, strict=True)]
    curves = {name: [] for name in SOLVERS}
    for tolerance in tolerances:
        before = {name: curve[-1]["seconds"] if curve else 0.0 for name, curve in curves.items()}
        slow = {name for name in SOLVERS if before[name] > PATIENCE or name in DIFFRAX_QUADRATURE}
        going = [name for name in SOLVERS if name not in slow or tolerance in (tolerances[0], *SPARSE)]
        going = [name for name in going if before[name] < GIVE_UP]
        runs, counts = ({name: [] for name in going} for _ in range(2))
        for name in going:
            solver_named(name)(epsilon, 1e-6 * epsilon * duration, starts[0], tolerance)  # compiles
        for y0, reference in zip(starts, exact, strict=True):
            each = {name: [] for name in going if not (name in slow and runs[name])}
            for turn, name in itertools.product(range(repeats), each):
                if turn == 0 or each[name][0][1] < REPEATED:
                    (y, count), wall, cpu = timed(solver_named(name), epsilon, duration, y0, tolerance)
                    each[name].append((float(np.max(np.abs(y - reference))), wall, cpu))
                    if turn == 0:
                        counts[name].append(count())
            for name, values in each.items():
                runs[name].append(np.median(values, axis=0).tolist())
        for name, values in runs.items():
            error, wall, cpu = np.median(values, axis=0).tolist()
            work = {kind: statistics.median(count[kind] for count in counts[name]) for kind in counts[name][0]}
            point = dict(tolerance=tolerance, error=error, seconds=wall, cpu_seconds=cpu, **work, each_start=values)
            curves[name].append(point)
    return dict(reference_disagreement=check, curves=curves, load_average=os.getloadavg())


def _in_worker(task):
    name, epsilon, duration, y0, tolerance = task
    return solver_named(name)(epsilon, duration, y0, tolerance)[0]


def _warm(names):
    for name in names:
        solver_named(name)(1.0, 0.01, start(0), 1e-3)
    time.sleep(0.5)  # so that the other worker gets the next warm-up


def measure_pool(tasks_of, repeats):
    """Seconds for the tasks of each regime and solver, in two processes with a core each, the solvers taking turns."""
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0))[:2]:
        cores.put({core})
    with context.Pool(2, _pin_from, (cores,)) as pool:
        pool.map(_warm, [list(tasks_of[0])] * 2, chunksize=1)

        def seconds(tasks):
            begin = time.perf_counter()
            pool.map(_in_worker, tasks, chunksize=2)
            return (time.perf_counter() - begin) / len(tasks)

        turns = [[{name: seconds(tasks) for name, tasks in one.items()} for _ in range(repeats)] for one in tasks_of]
    return [{name: statistics.median(turn[name] for turn in regime) for name in regime[0]} for regime in turns]


def _pin_from(cores):
    pin(cores.get())


def measure_batch(seeds, tolerances, repeats, threads):
    """Seconds for each trajectory of many starts within one process: mapped in one program, or, on `threads` of
    `tts.run_each`, its share of them side by side on each."""
    starts = jnp.stack([start(seed) for seed in seeds])

    def final(y0, *regime):
        return simulate(*regime[:2], y0, regime[2]).model.positions

    def side_by_side(starts, *regime):
        return jax.vmap(lambda y0: final(y0, *regime))(starts)

    mapped = jax.jit(lambda starts, *regime: jax.lax.map(lambda y0: final(y0, *regime), starts))

    def solve(*regime):
        if not threads:
            return jax.block_until_ready(mapped(starts, *regime))
        shares = starts.reshape(threads, -1, starts.shape[-1])
        return tts.run_each(side_by_side, shares, *(jnp.full(threads, value) for value in regime), workers=threads)

    def seconds(*regime):
        solve(*regime)
        return statistics.median(timed(solve, *regime)[1] for _ in range(repeats)) / len(starts)

    return [seconds(*regime, tolerance) for regime, tolerance in zip(REGIMES, tolerances, strict=True)]


def measure_gradient(seeds, tolerances, repeats):
    """Seconds for the final risks of some starts, and for their gradient by epsilon and every start, in turns."""
    starts = jnp.stack([start(seed) for seed in seeds])

    def risk(epsilon, starts, duration, tolerance):
        return jax.lax.map(lambda y0: simulate(epsilon, duration, y0, tolerance).risk[0], starts).sum()

    solves = dict(forward=jax.jit(risk), gradient=jax.jit(jax.value_and_grad(risk, (0, 1))))

    def run(name, *args):
        return jax.block_until_ready(solves[name](*args))

    found = []
    for (epsilon, duration), tolerance in zip(REGIMES, tolerances, strict=True):
        args = (epsilon, starts, duration, tolerance)
        for name in solves:
            run(name, *args)
        turns = [[timed(run, name, *args)[1:] for name in solves] for _ in range(repeats)]
        (forward, forward_cpu), (gradient, gradient_cpu) = np.median(turns, axis=0) / len(starts)
        ratio, ratio_cpu = np.median([np.divide(gradient, forward) for forward, gradient in turns], axis=0)
        seconds = dict(forward=forward, gradient=gradient, forward_cpu=forward_cpu, gradient_cpu=gradient_cpu)
        found.append(dict(**seconds, ratio=ratio, ratio_cpu=ratio_cpu))
    return found


def measure_compilation():
    """Seconds for the first solve of a process, and for the second."""
    y0, solve = start(0), with_library()
    return [timed(solve, 2e-5, 0.035, y0, 1e-6)[1] for _ in range(2)]


def _first_solve(cores, cache):
    """In a process with the settings that the project's README gives."""
    with unittest.mock.patch.dict(os.environ, JAX_COMPILATION_CACHE_DIR=cache, EQX_ON_ERROR="nan"):
        return in_fresh_process(measure_compilation, cores)


def measure(quick):
    all_cores = os.sched_getaffinity(0)
    one_core, repeats = {max(all_cores)}, 1 if quick else 3
    with tempfile.TemporaryDirectory() as cache:
        first, second = (_first_solve(all_cores, cache) for _ in range(2))
    compilation = dict(first_solve=first[0], warm=first[1], first_solve_cached_on_disk=second[0])
    print("first solve:", compilation, flush=True)

    curves = (range(1), TOLERANCES[::3], 1) if quick else (range(5), TOLERANCES, 3)
    single = in_fresh_process(measure_single, one_core, *curves)
    at_target = [
        {name: flow_tables.reading(curve, "tolerance") or 1e-7 for name, curve in regime["curves"].items()}
        for regime in single
    ]
    print("tolerances that give the error wanted:", at_target, flush=True)

    seeds = range(4 if quick else 64)
    starts = [start(seed) for seed in seeds]
    tasks = [
        {name: [(name, *regime, y0, tolerance[name]) for y0 in starts] for name in (OURS, *POOLED)}
        for regime, tolerance in zip(REGIMES, at_target, strict=True)
    ]
    pool = measure_pool(tasks, repeats)
    ours = [tolerance[OURS] for tolerance in at_target]
    mapped = in_fresh_process(measure_batch, one_core, seeds, ours, repeats, 0)
    run_each = in_fresh_process(measure_batch, all_cores, seeds, ours, repeats, len(all_cores))
    print("batches:", pool, mapped, run_each, flush=True)

    pieces = in_fresh_process(flow_pieces.measure, one_core, 2000, 1 if quick else 25)
    gradient, gradient_one_core = (
        in_fresh_process(measure_gradient, cores, seeds[:8], ours, 1 if quick else 7) for cores in (all_cores, one_core)
    )
    regimes = [
        dict(
            epsilon=epsilon,
            slow_time=duration,
            single=single[i],
            tolerance_at_target=at_target[i],
            batch=dict(starts=len(seeds), pool_of_two=pool[i], mapped_one_core=mapped[i], run_each=run_each[i]),
            gradient=gradient[i],
            gradient_one_core=gradient_one_core[i],
        )
        for i, (epsilon, duration) in enumerate(REGIMES)
    ]
    return dict(target_error=TARGET_ERROR, compilation=compilation, pieces=pieces, regimes=regimes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw this result file and measure nothing")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=report.RESULTS / "flow_vs_solvers.json")
    options = parser.parse_args()
    path = options.plot or options.out
    if not options.plot:
        # One thread for every linear algebra; inherited by the processes that measure.
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        results = dict(header=report.header("numba", "scipy", "scikit-sundae"), **measure(options.quick))
        results["header"]["load_average_at_end"] = os.getloadavg()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1).replace("NaN", "null"))
    results = json.loads(path.read_text())
    print(flow_tables.summary(results))
    flow_plots.draw(results, path)


if __name__ == "__main__":
    main()
