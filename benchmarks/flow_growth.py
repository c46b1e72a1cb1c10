"""How the gradient flow grows: with the neurons, against LSODA and CVODE, and with the runs of one `jax.vmap`.

    python benchmarks/flow_growth.py                 # measures, writes results/flow_growth.json and draws it
    python benchmarks/flow_growth.py --quick         # few neurons and runs, to see whether it works
    python benchmarks/flow_growth.py --plot FILE     # draws a result file again

What is measured and how: README.md beside this file.
"""

import functools
import json
import os
import resource
import statistics
from pathlib import Path

import flow_peers as peers
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numba_flow
import numpy as np
import report
from report import in_fresh_process, timed

import tts_jax as tts

jax.config.update("jax_enable_x64", True)

REGIMES = ((2e-5, 0.035), (1e-2, 3.0))
"""(epsilon, slow time)."""
NEURONS = (20, 50, 100, 300, 1000)
FIXED_OVERLAP = ((300, 4e-3), (1000, 1.2e-3), (3000, 4e-4))
"""(neurons, eta), with as many neurons in a window."""
LANES = (1, 4, 16, 64, 256, 1024, 4096)
TARGET_ERROR = 1e-6
TOLERANCES = (1e-6, 1e-7, 1e-8, 1e-9)
OURS, LSODA, CVODE = "tts_jax", "LSODA", "CVODE BDF"
COLOURS = {OURS: report.BLUE, LSODA: report.ORANGE, CVODE: report.GREEN}


def model(m, eta, seed=0):
    return tts.ShallowNetwork.init(jax.random.key(seed), m, tts.SmoothStep(eta))


@functools.cache
def solver_named(name, m, eta):
    """`solve(epsilon, duration, y0, tolerance)`: the end and how many steps were tried."""
    if name != OURS:
        make, of = (
            (peers.with_lsoda, dict(Dfun=numba_flow.jacobian_transposed, col_deriv=True))
            if name == LSODA
            else (peers.with_cvode, dict(jacfn=numba_flow.jacobian_sundials))
        )
        solve_peer = make(numba_flow.velocity_scipy if name == LSODA else numba_flow.velocity_sundials, **of)
        return lambda *args: (solve_peer(*args)[0], None)
    like = model(m, eta)

    @jax.jit
    def solve(epsilon, duration, y0, tolerance):
        flow = tts.GradientFlow(epsilon, rtol=tolerance, atol=tolerance)
        start = like.with_vectors(y0[: m + 1], y0[m + 1 :])
        run = tts.simulate(flow, start, peers.problem(), jnp.array([duration]))
        end = jax.tree.map(lambda leaf: leaf[0], (run.model.bias, run.model.weights, run.model.positions))
        return jnp.concatenate([leaf.ravel() for leaf in end]), run.stats.steps + run.stats.rejected

    return lambda *args: jax.block_until_ready(solve(*args))


def measure_one(name, m, eta, epsilon, duration, reference):
    """The loosest tolerance of those tried that gives the error wanted, and the seconds it takes; peak memory."""
    y0, solve = np.concatenate(model(m, eta).vectors), solver_named(name, m, eta)
    solve(epsilon, 1e-6 * epsilon * duration, y0, 1e-6)  # compiles
    for tolerance in TOLERANCES:
        (y, attempts), seconds, _ = timed(solve, epsilon, duration, y0, tolerance)
        error = float(np.max(np.abs(y - reference)))
        if error <= TARGET_ERROR:
            break
    if seconds < 1:
        seconds = statistics.median(
            timed(solve, epsilon, duration, y0, tolerance)[1] for _ in range(5 if seconds < 0.2 else 3)
        )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = dict(solver=name, neurons=m, eta=eta, epsilon=epsilon, tolerance=tolerance, error=error, seconds=seconds)
    return found | dict(attempts=None if attempts is None else int(attempts), peak_memory_mib=memory)


def reference_of(m, eta, epsilon, duration):
    """Ours at 1e-11."""
    y0 = np.concatenate(model(m, eta).vectors)
    return np.asarray(solver_named(OURS, m, eta)(epsilon, duration, y0, 1e-11)[0])


def measure_lanes(lanes, epsilon, duration, repeats):
    """Seconds a run in one `vmap` and in one `lax.map`, in turns, for as many starts."""

    def run(key):
        flow = tts.GradientFlow(epsilon, rtol=1e-8, atol=1e-8)
        start = tts.ShallowNetwork.init(key, 20, tts.SmoothStep(4e-3))
        return tts.simulate(flow, start, peers.problem(), jnp.array([duration])).risk

    keys = jax.random.split(jax.random.key(0), lanes)
    programs = dict(vmap=jax.jit(jax.vmap(run)), map=jax.jit(lambda keys: jax.lax.map(run, keys)))
    solves = {name: lambda program=program: jax.block_until_ready(program(keys)) for name, program in programs.items()}
    for solve in solves.values():
        solve()
    turns = [{name: timed(solve)[1] / lanes for name, solve in solves.items()} for _ in range(repeats)]
    return dict(lanes=lanes, epsilon=epsilon) | {
        name: statistics.median(turn[name] for turn in turns) for name in solves
    }


def measure(quick):
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    header = report.header("numba", "scipy", "scikit-sundae")
    one_core = {max(os.sched_getaffinity(0))}

    def growth(settings, solvers, regimes):
        for (epsilon, duration), (m, eta) in ((regime, setting) for regime in regimes for setting in settings):
            reference = in_fresh_process(reference_of, one_core, m, eta, epsilon, duration)
            # CVODE takes minutes where LSODA takes seconds.
            for name in solvers if m < NEURONS[-1] else solvers[:2]:
                found = in_fresh_process(measure_one, one_core, name, m, eta, epsilon, duration, reference)
                print({key: value for key, value in found.items() if key != "eta"}, flush=True)
                yield found

    neurons = NEURONS[:2] if quick else NEURONS
    return dict(
        header=header,
        growth=[*growth([(m, 4e-3) for m in neurons], (OURS, LSODA, CVODE), REGIMES)],
        fixed_overlap=[*growth(FIXED_OVERLAP[:1] if quick else FIXED_OVERLAP, (OURS,), REGIMES[:1])],
        lanes=[
            in_fresh_process(measure_lanes, one_core, lanes, *regime, 1 if quick else 3)
            for regime in REGIMES
            for lanes in (LANES[:2] if quick else LANES)
        ],
    )


def plot(path: Path):
    results = json.loads(path.read_text())
    figure, (growth, memory, lanes) = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    for (epsilon, _), style in zip(REGIMES, ("-", "--"), strict=True):
        for name, colour in COLOURS.items():
            rows = [row for row in results["growth"] if row["solver"] == name and row["epsilon"] == epsilon]
            m, label = [row["neurons"] for row in rows], f"{name}, ε = {epsilon:g}"
            growth.loglog(m, [1e3 * row["seconds"] for row in rows], style, marker="o", color=colour, label=label)
            memory.semilogx(m, [row["peak_memory_mib"] for row in rows], style, marker="o", color=colour, label=label)
        rows = [row for row in results["lanes"] if row["epsilon"] == epsilon]
        for name, colour in (("vmap", report.BLUE), ("map", report.GREY)):
            x, y = [row["lanes"] for row in rows], [1e3 * row[name] for row in rows]
            lanes.loglog(
                x, y, style, marker="o", color=colour, label=f"jax.{'lax.' * (name == 'map')}{name}, ε = {epsilon:g}"
            )
    growth.set(xlabel="neurons", ylabel="one trajectory (ms)", title=f"Error at most {TARGET_ERROR:g}, one core")
    memory.set(xlabel="neurons", ylabel="peak memory of the process (MiB)", title="Memory")
    lanes.set(xlabel="runs in one program", ylabel="time a run (ms)", title="Side by side, 20 neurons, one core")
    lanes.set_ylim(bottom=0.5)
    memory.set_ylim(bottom=0)
    for axes in (growth, memory, lanes):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right" if axes is memory else None)
    figure.savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    report.main(__file__, __doc__ or "", "few neurons and runs, to see whether it works", measure, plot)
