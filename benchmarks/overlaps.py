"""High dimension: the flow in overlaps beside LSODA on the same equations.

    python benchmarks/overlaps.py                 # measures, writes results/overlaps.json and draws it
    python benchmarks/overlaps.py --quick         # the smallest sizes, to see whether it works
    python benchmarks/overlaps.py --plot FILE     # draws a result file again

What is measured and how: README.md beside this file.
"""

import json
import os
import statistics
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import report
from report import in_fresh_process, timed
from scipy.integrate import solve_ivp

import tts_jax as tts

jax.config.update("jax_enable_x64", True)

TOLERANCE = 1e-8
REPEATED = 1.0
"""Solves shorter than this are repeated."""
EPSILONS = (1e-2,)
PAIRS, CLOSED = (10, 30, 100), (10, 30, 100, 300, 1000)
"""Neurons, with all overlaps, and in the mean field."""
MOST_LSODA = {True: 30, False: 300}
"""Beyond so many neurons, by `pairs`, LSODA takes minutes: with all overlaps of 100 its matrices have 5,150 rows."""
END = 5.0
"""In the time of Berthier, Montanari and Zhou."""
OURS, LSODA = "tts_jax", "LSODA"
COLOURS = {OURS: report.BLUE, LSODA: report.ORANGE}
HERMITE = tts.Hermite([1.0, 1.0, 1.0, 1.0])


def lsoda(a, pairs, epsilon, end):
    """The same equations in NumPy, with the upper triangle of r as unknowns where `pairs`; returns the last risk."""
    m = len(a)
    upper = np.triu_indices(m, 1)

    def overlaps(y):
        a, s = y[:m], y[m : 2 * m]
        if pairs:
            r = np.eye(m)
            r[upper] = y[2 * m :]
            r.T[upper] = y[2 * m :]
            return a, s, r
        return a, s, None

    def moments(a, s):
        return np.array([a.sum(), a @ s, a @ s**2, a @ s**3]) / m

    def velocity(_, y):
        a, s, r = overlaps(y)
        v, dv = 1 + s * (1 + s * (1 + s)), 1 + s * (2 + 3 * s)
        if r is None:
            b = 1 - moments(a, s)
            d_a = b[0] + s * (b[1] + s * (b[2] + s * b[3]))
            d_s = a * (1 - s**2) * (b[1] + s * (2 * b[2] + 3 * b[3] * s))
            return 2 / m * np.concatenate([d_a / epsilon, d_s])
        d_a = v - (1 + r * (1 + r * (1 + r))) @ a / m
        push = (1 + r * (2 + 3 * r)) * (a / m)
        g = np.outer(dv, s) - push @ r
        own = np.diagonal(g)
        turn = a[:, None] * (g - own[:, None] * r)
        d_s = a * (dv - push @ s - own * s)
        return 2 / m * np.concatenate([d_a / epsilon, d_s, (turn + turn.T)[upper]])

    start = np.concatenate([a, np.zeros(m), np.zeros(len(upper[0]) if pairs else 0)])
    found = solve_ivp(velocity, (0, end), start, "LSODA", [end], rtol=TOLERANCE, atol=TOLERANCE)
    return overlaps(found.y[:, -1])


def measure_one(m, pairs, epsilon):
    start = tts.Overlaps.init(jax.random.key(0), m, HERMITE)
    if pairs:
        start = tts.Overlaps(start.weights, jnp.eye(m), start.teacher, HERMITE)
    problem = tts.SingleIndex([1.0], HERMITE)
    end = float(problem.slow_time(END, m))
    flow = tts.OverlapFlow(epsilon, rtol=TOLERANCE, atol=TOLERANCE)
    solve = jax.jit(lambda start: tts.simulate(flow, start, problem, jnp.array([end])))
    _, compiling, _ = timed(lambda: jax.block_until_ready(solve(start)))
    run, seconds = median_of(lambda: jax.block_until_ready(solve(start)))
    result = {"neurons": m, "pairs": pairs, "epsilon": epsilon, "first_call": compiling, OURS: seconds}
    result |= {"steps": int(run.stats.steps), "rejected": int(run.stats.rejected), LSODA: None, "apart": None}
    if m <= MOST_LSODA[pairs]:
        (a, s, _), result[LSODA] = median_of(lambda: lsoda(np.asarray(start.weights), pairs, epsilon, end))
        apart = [np.max(np.abs(run.model.teacher[0, :, 0] - s)), np.max(np.abs(run.model.weights[0] - a))]
        result["apart"] = float(max(apart))
    print(result, flush=True)
    return result


def median_of(solve):
    """Of three, or what the first takes where that is long."""
    found, first, _ = timed(solve)
    return found, first if first > REPEATED else statistics.median([first, *(timed(solve)[1] for _ in range(2))])


def measure(quick):
    results = report.header("scipy") | {"tolerance": TOLERANCE, "time": END, "flow": []}
    core = {min(os.sched_getaffinity(0))}
    for pairs, sizes in ((True, PAIRS), (False, CLOSED)):
        for epsilon in EPSILONS[: 1 if quick else None]:
            for m in sizes[: 1 if quick else None]:
                results["flow"].append(in_fresh_process(measure_one, core, m, pairs, epsilon))
    return results


def plot(path: Path):
    results = json.loads(path.read_text())
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
    for axes, pairs in zip(panels, (True, False), strict=True):
        for name in (OURS, LSODA):
            for epsilon, style in zip(EPSILONS, ("-",), strict=True):
                rows = [row for row in results["flow"] if (row["pairs"], row["epsilon"]) == (pairs, epsilon)]
                points = [(row["neurons"], row[name]) for row in rows if row[name] is not None]
                label = f"{name}, $\\varepsilon$ = {epsilon:g}"
                axes.loglog(*np.reshape(points, (-1, 2)).T, style, color=COLOURS[name], marker="o", label=label)
        unknowns = "m (m + 2) unknowns" if pairs else "mean field: 2 m unknowns"
        axes.set(title=f"{'all overlaps: ' if pairs else ''}{unknowns}", xlabel="neurons m")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(f"seconds, tolerance {results['tolerance']:g}, one core")
    panels[0].legend(frameon=False)
    figure.savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    report.main(__file__, __doc__, "the smallest sizes", measure, plot)
