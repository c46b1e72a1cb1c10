"""How sweeps grow: time a run against runs, lanes, cells, devices and processes, beside what people write instead.

    python benchmarks/sweep_scaling.py               # measures, writes results/sweep_scaling.json and draws it
    python benchmarks/sweep_scaling.py --quick       # few runs, to see whether it works
    python benchmarks/sweep_scaling.py --plot FILE   # draws a result file again

What is measured and how: README.md beside this file.
"""

import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import report

RUNS = (64, 256, 1024, 4096, 16384)
LANES = (32, 64, 256, 1024, 4096)
CELLS = (1, 8, 64, 512)
DEVICES = (1, 2)
PROCESSES = (1, 2, 4)
STORED = (10_000, 100_000)
NEURONS, EPSILONS, SLOW_TIME, ETA = (8, 12, 16, 20), (1.0, 0.1, 1e-2, 1e-3, 2e-5), 0.3, 4e-3
SGD_EPSILON, STEP_SIZE, SGD_TIME = (1.0, 0.5, 0.2, 0.1, 0.05), 1e-4, 0.1
JUMPS, VALUES = (0.2, 0.35, 0.5, 0.65, 0.8), (1.0, 5.0, 1.0, 3.0, 1.0, 5.0)
TARGET_ERROR, TOLERANCES, SAMPLE = 1e-6, (1e-6, 1e-7, 1e-8, 1e-9), 4
FLOW, SGD, POOL, NUMBA = "flow", "SGD", "pool of LSODA", "Numba"


def library():
    import jax

    import tts_jax as tts

    jax.config.update("jax_enable_x64", True)
    return jax, tts


def problem(tts):
    return tts.Regression(tts.PiecewiseConstant(JUMPS, VALUES), noise=1.0)


def swept(arm, runs, tolerance=1e-6, **options):
    """A sweep of so many runs over five ratios and four sizes; all programs are compiled before."""
    _, tts = library()
    flow = arm == FLOW
    dynamics = tts.GradientFlow(1.0, rtol=tolerance, atol=tolerance) if flow else tts.SGD(1.0, STEP_SIZE)
    axes = dict(epsilon=EPSILONS if flow else SGD_EPSILON, neurons=NEURONS, eta=ETA) | options.pop("axes", {})
    cells = np.prod([len(values) for values in axes.values() if not isinstance(values, float | int)], dtype=int)
    seeds = max(1, round(runs / cells))
    end = SLOW_TIME if flow else SGD_TIME
    return tts.sweep(dynamics, problem(tts), [end], seeds=seeds, progress=False, **axes, **options)


def timed(sweep):
    begin = time.perf_counter()
    found = sweep()
    return found.status.size, time.perf_counter() - begin


def compiled_once():
    """Lets sweeps that follow share the programs of equal shapes, so that what is timed is the runs."""
    jax, _ = library()
    import equinox as eqx

    from tts_jax.sweeps.launch import Program

    programs, compile_now = {}, Program.compile

    def compile(self, launch, starts):
        arguments = self.arguments(launch, starts)
        leaves, structure = jax.tree.flatten(eqx.filter(arguments[2:], eqx.is_array_like))
        name = launch.width, str(arguments[1]), structure, *(np.shape(leaf) for leaf in leaves)
        if name not in programs:
            programs[name] = compile_now(self, launch, starts)
        return programs[name]

    Program.compile = compile


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_runs(arm, runs, repeats, options):
    """Seconds a run, on all cores; the first time compiles."""
    compiled_once()
    timed(lambda: swept(arm, runs, **options))
    times = [seconds / count for count, seconds in (timed(lambda: swept(arm, runs, **options)) for _ in range(repeats))]
    return dict(
        arm=arm,
        runs=runs,
        seconds_per_run=statistics.median(times),
        peak_memory_mib=peak_memory(),
        **{name: value for name, value in options.items() if name in ("lanes",)},
    )


def measure_store(runs):
    """Of short runs: seconds a run, memory, and how long a finished sweep takes to be found so."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "runs.zarr")

        def sweep():
            return swept(SGD, runs, axes=dict(epsilon=[1.0, 0.5], neurons=[8]), store=store)

        count, seconds = timed(sweep)
        peak = peak_memory()
        _, again = timed(sweep)
    return dict(runs=count, seconds_per_run=seconds / count, peak_memory_mib=peak, seconds_to_resume=again)


def starts(count):
    """(epsilon, number of neurons, seed) of so many runs of the sweep of flows, and their states."""
    jax, tts = library()
    seeds = max(1, round(count / len(EPSILONS) / len(NEURONS)))
    found = []
    for neurons in NEURONS:
        drawn = jax.vmap(
            lambda key, neurons=neurons: tts.ShallowNetwork.init(key, neurons, tts.SmoothStep(ETA)).vectors
        )
        outer, inner = drawn(jax.vmap(jax.random.key)(np.arange(seeds, dtype=np.uint32)))
        states = np.concatenate([outer, inner], axis=1)
        found += [(epsilon, state) for epsilon in EPSILONS for state in states]
    return found


def with_lsoda(task):
    import numba_flow
    from scipy.integrate import odeint

    epsilon, state, tolerance = task
    parameters = numba_flow.parameters(epsilon, ETA, np.array(JUMPS), np.array(VALUES))
    limits = dict(rtol=tolerance, atol=tolerance, mxstep=10**6, tfirst=True, col_deriv=True)
    jacobian = numba_flow.jacobian_transposed
    return odeint(numba_flow.velocity_scipy, state, [0, SLOW_TIME], (parameters,), Dfun=jacobian, **limits)[-1]


def measure_accuracy():
    """The loosest tolerance of each solver with which nine of ten runs have errors of at most `TARGET_ERROR`."""
    library()
    tasks = starts(SAMPLE * len(EPSILONS) * len(NEURONS))
    want = [with_lsoda((*task, 1e-12)) for task in tasks]

    def errors(found):
        return np.quantile([np.max(np.abs(a - b)) for a, b in zip(found, want, strict=True)], 0.9)

    def ours(tolerance):
        runs = swept(FLOW, len(tasks), tolerance, weights=True)
        for m, epsilon in ((m, epsilon) for m in NEURONS for epsilon in EPSILONS):
            for seed in range(SAMPLE):
                run = runs.sel(neurons=m, epsilon=epsilon, seed=seed).isel(slow_time=-1)
                yield np.concatenate([[run.bias], run.weights[:m], run.positions[:m]])

    solvers = {FLOW: ours, POOL: lambda tolerance: [with_lsoda((*task, tolerance)) for task in tasks]}
    return {
        name: next((t for t in TOLERANCES if errors(list(solve(t))) <= TARGET_ERROR), TOLERANCES[-1])
        for name, solve in solvers.items()
    }


def measure_flows(runs, tolerances, repeats):
    """Against a pool of two processes that is warm, in turns."""
    compiled_once()
    tasks = [(*task, tolerances[POOL]) for task in starts(runs)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(os.sched_getaffinity(0))) as pool:
        pool.map(with_lsoda, tasks[:8], chunksize=1)
        timed(lambda: swept(FLOW, runs, tolerances[FLOW]))
        turns = []
        for _ in range(repeats):
            begin = time.perf_counter()
            pool.map(with_lsoda, tasks, chunksize=16)
            theirs = (time.perf_counter() - begin) / len(tasks)
            count, seconds = timed(lambda: swept(FLOW, runs, tolerances[FLOW]))
            turns.append({FLOW: seconds / count, POOL: theirs})
    return dict(runs=runs, tolerances=tolerances) | {
        name: statistics.median(turn[name] for turn in turns) for name in (FLOW, POOL)
    }


def measure_sgd(runs, repeats):
    """Against a loop by Numba on all threads, in turns; 20 neurons, one ratio."""
    import numba_sgd

    compiled_once()
    m, epsilon, steps = 20, 0.1, round(SGD_TIME / 0.1 / STEP_SIZE)
    drawn = np.random.default_rng(0).uniform(size=(runs, m))
    state = np.zeros((runs, m)), drawn, np.zeros(runs)
    settings = steps, epsilon, STEP_SIZE, ETA, 1.0, np.array(JUMPS), np.array(VALUES)

    def theirs():
        numba_sgd.all_threads(np.arange(runs), *settings, *(part.copy() for part in state))

    def ours():
        return swept(SGD, runs, axes=dict(epsilon=[epsilon], neurons=[m]))

    theirs(), ours()
    turns = []
    for _ in range(repeats):
        begin = time.perf_counter()
        theirs()
        turns.append({NUMBA: (time.perf_counter() - begin) / runs, SGD: timed(ours)[1] / runs})
    return dict(runs=runs, steps=steps) | {
        name: statistics.median(turn[name] for turn in turns) for name in (SGD, NUMBA)
    }


def measure_processes(processes, runs, repeats):
    """By a local cluster of so many processes of one thread, beside one process with its threads."""
    from distributed import Client, LocalCluster

    library()
    options = dict(n_workers=processes, threads_per_worker=1, dashboard_address=None)
    with tempfile.TemporaryDirectory() as folder, LocalCluster(**options) as cluster, Client(cluster) as client:

        def sweep(name, **where):
            return timed(lambda: swept(SGD, runs, store=Path(folder, f"{name}.zarr"), **where))

        sweep("warm", client=client), sweep("warm here")
        turns = []
        for k in range(repeats):
            count, there = sweep(f"there {k}", client=client)
            turns.append((there / count, sweep(f"here {k}")[1] / count))
    there, here = map(statistics.median, zip(*turns, strict=True))
    return dict(processes=processes, runs=runs, seconds_per_run=there, one_process=here)


def measure(quick):
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    found = dict(header=report.header("numba", "scipy", "distributed"))
    cores, repeats = os.sched_getaffinity(0), 1 if quick else 3

    def each(part, *cases):
        for case in cases:
            one = report.in_fresh_process(part, cores, *case)
            print(json.dumps(one), flush=True)
            yield one

    runs = RUNS[:2] if quick else RUNS
    some = 256 if quick else 4096
    tolerances = report.in_fresh_process(measure_accuracy, cores)
    print(tolerances, flush=True)
    found["flows"] = [*each(measure_flows, (400 if quick else 20_000, tolerances, repeats))]
    found["sgd"] = [*each(measure_sgd, *((count, repeats) for count in runs))]
    found["runs"] = []
    for devices in DEVICES:
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        cases = [(arm, count, repeats, {}) for arm in (FLOW, SGD) for count in runs]
        found["runs"] += [one | dict(devices=devices) for one in each(measure_runs, *cases)]
    os.environ["XLA_FLAGS"] = ""
    lanes = LANES[:2] if quick else LANES
    found["lanes"] = [
        *each(measure_runs, *((arm, some, repeats, dict(lanes=count)) for arm in (FLOW, SGD) for count in lanes))
    ]
    over = [dict(epsilon=np.geomspace(1e-3, 1.0, count).tolist(), neurons=[20]) for count in CELLS[: 2 if quick else 4]]
    found["cells"] = [
        one | dict(cells=len(axes["epsilon"]))
        for axes in over
        for one in each(measure_runs, (FLOW, min(some, 512), repeats, dict(axes=axes)))
    ]
    found["store"] = [*each(measure_store, *((count,) for count in ((100, 200) if quick else STORED)))]
    found["processes"] = [*each(measure_processes, *((count, some, repeats) for count in PROCESSES))]
    return found


def plot(path: Path):
    import matplotlib.pyplot as plt

    results = json.loads(path.read_text())
    figure, panels = plt.subplots(1, 4, figsize=(16, 5), layout="constrained")
    by_runs, by_lanes, by_cells, by_process = panels
    for arm, colour in ((FLOW, report.BLUE), (SGD, report.ORANGE)):
        for devices, style in zip(DEVICES, ("-", "--"), strict=True):
            rows = [row for row in results["runs"] if (row["arm"], row["devices"]) == (arm, devices)]
            label = f"{arm}, {devices} device{'s' * (devices > 1)}"
            _line(by_runs, rows, "runs", style, colour, label)
        _line(by_lanes, [row for row in results["lanes"] if row["arm"] == arm], "lanes", "-", colour, arm)
    (flows,) = results["flows"]
    label = f"{POOL}, {flows['runs']:,} runs"
    by_runs.loglog(flows["runs"], 1e3 * flows[POOL], "s", color=report.GREY, label=label)
    by_runs.loglog(flows["runs"], 1e3 * flows[FLOW], "s", color=report.BLUE, label="the same by sweep")
    x = [row["runs"] for row in results["sgd"]]
    for name, colour, label in ((NUMBA, report.GREY, "Numba"), (SGD, report.ORANGE, "sweep")):
        label = f"SGD by {label}, 20 neurons, 10,000 steps"
        by_runs.loglog(x, [1e3 * row[name] for row in results["sgd"]], ":", color=colour, marker="o", ms=3, label=label)
    _line(by_cells, results["cells"], "cells", "-", report.BLUE, FLOW)
    rows = results["processes"]
    _line(by_process, rows, "processes", "-", report.ORANGE, "SGD, processes of Dask")
    here = [1e3 * row["one_process"] for row in rows]
    label = "one process, two threads, in turns with them"
    by_process.plot([row["processes"] for row in rows], here, ":", color=report.GREY, marker="o", ms=3, label=label)
    titles = "runs in the sweep", "lanes, 4,096 runs", "cells, 512 runs", "processes, 4,096 runs"
    for axis, title in zip(panels, titles, strict=True):
        axis.set(xlabel=title, ylabel="milliseconds a run, compilation apart")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2 if axis is by_runs else 1)
    by_process.set(xscale="linear", yscale="linear", xticks=PROCESSES, ylim=(0, None))
    figure.savefig(path.with_suffix(".png"), dpi=150)


def _line(axis, rows, x, style, colour, label):
    times = [1e3 * row["seconds_per_run"] for row in rows]
    axis.loglog([row[x] for row in rows], times, style, color=colour, marker="o", ms=3, label=label)


if __name__ == "__main__":
    report.main(__file__, __doc__ or "", "few runs, to see whether it works", measure, plot)
