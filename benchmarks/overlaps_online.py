"""Online SGD in overlaps: the exact ODE, against a compiled loop of Euler steps.

    python benchmarks/overlaps_online.py                 # measures, writes results/overlaps_online.json and draws it
    python benchmarks/overlaps_online.py --quick         # a tenth of the time, to see whether it works
    python benchmarks/overlaps_online.py --plot FILE     # draws a result file again

What is measured and how: README.md beside this file.
"""

import json
import os
import statistics
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import report
from report import in_fresh_process, timed

import tts_jax as tts
from tts_jax.dynamics.overlaps import literature_speeds

jax.config.update("jax_enable_x64", True)

NEURONS, OF_TEACHER, RATE, NOISE = 4, 2, 0.5, 0.0
STEPS = (0.1, 0.03, 0.01, 0.003)
"""Of Euler, in alpha."""
USUAL = 0.01
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10)
RATIOS = np.geomspace(0.1, 10, 64)
"""Of the outer over the inner rate."""
OURS, EULER = "tts_jax", "Euler, Numba"
ROUNDS = 5


def start():
    """Overlaps as of random directions in 500 inputs, in the conventions of the literature: c, weights, of_teacher."""
    w = np.random.default_rng(0).normal(size=(NEURONS + OF_TEACHER, 500)) / 500**0.5
    return w @ w.T, 0.3 * np.random.default_rng(1).normal(size=NEURONS), np.ones(OF_TEACHER)


def by_euler(lr2, dt, alpha):
    from numba_online import euler

    c, weights, of_teacher = start()
    error = np.concatenate([weights, -of_teacher])
    euler(c, error, NEURONS, RATE, lr2, NOISE, dt, round(alpha / dt))
    return np.concatenate([error[:NEURONS], c[:NEURONS].ravel()])


def ours(alpha):
    c, weights, of_teacher = start()
    teacher = tts.PerceptronNetwork(of_teacher, np.linalg.cholesky(c[NEURONS:, NEURONS:] / 2), tts.Erf())
    problem = tts.GaussianRegression(teacher, NOISE)
    model = tts.Overlaps(weights, c[:NEURONS, :NEURONS] / 2, c[:NEURONS, NEURONS:] / 2, tts.Erf())

    def solve(lr2, tolerance):
        speeds = literature_speeds(RATE, lr2, OF_TEACHER)
        online = tts.OnlineSGD(speeds.epsilon, speeds.step_size, rtol=tolerance, atol=tolerance)
        run = tts.simulate(online, model, problem, alpha * speeds.slow_time[None])
        c = 2 * jnp.concatenate([run.model.student[0], run.model.teacher[0]], axis=1)
        return jnp.concatenate([run.model.weights[0], c.ravel()]), run.stats.steps + run.stats.rejected

    return solve


def seconds_of(solve):
    """The median of five, compiled before; and what was found."""
    found = solve()
    return found, statistics.median(timed(solve)[1] for _ in range(ROUNDS))


def one(alpha):
    solve = jax.jit(ours(alpha))
    exact, _ = solve(RATE, 1e-12)
    found = {OURS: [], EULER: []}
    for tolerance in TOLERANCES:
        (y, attempts), seconds = seconds_of(lambda tolerance=tolerance: jax.block_until_ready(solve(RATE, tolerance)))
        error = float(np.max(np.abs(y - exact)))
        found[OURS].append(dict(tolerance=tolerance, error=error, seconds=seconds, attempts=int(attempts)))
    by_euler(RATE, 0.1, 1.0)
    for dt in STEPS:
        y, seconds, _ = timed(by_euler, RATE, dt, alpha)
        found[EULER].append(dict(dt=dt, error=float(np.max(np.abs(y - exact))), seconds=seconds))
    return found


def many(alpha, tolerance):
    """64 ratios of the rates: in one `jax.vmap`, one by one by us, and one by one by Euler."""
    solve, rates = ours(alpha), RATE * RATIOS
    single, together = jax.jit(solve), jax.jit(jax.vmap(solve, (0, None)))
    (_, attempts), side_by_side = seconds_of(lambda: jax.block_until_ready(together(rates, tolerance)))
    _, in_turn = seconds_of(lambda: jax.block_until_ready([single(rate, tolerance) for rate in rates]))
    by_euler(RATE, 0.1, 1.0)
    _, loop, _ = timed(lambda: [by_euler(rate, USUAL, alpha) for rate in rates])
    return dict(side_by_side=side_by_side, in_turn=in_turn, euler=loop, attempts=np.asarray(attempts).tolist())


def read(curve, error):
    """The seconds of the cheapest that is as exact."""
    return min((point["seconds"], point.get("tolerance")) for point in curve if point["error"] <= error)


def measure(quick):
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    header, one_core, alpha = report.header("numba"), {max(os.sched_getaffinity(0))}, 100.0 if quick else 1000.0
    single = in_fresh_process(one, one_core, alpha)
    euler = next(point for point in single[EULER] if point["dt"] == USUAL)
    seconds, tolerance = read(single[OURS], euler["error"])
    print("one", seconds, "against", euler, "at tolerance", tolerance, flush=True)
    batch = in_fresh_process(many, one_core, alpha, tolerance)
    print("64", {name: value for name, value in batch.items() if name != "attempts"}, flush=True)
    goals = [
        dict(goal="one run / Euler at equal error", at_most=0.2, measured=seconds / euler["seconds"]),
        dict(
            goal="64 ratios in one vmap / Euler for each", at_most=0.05, measured=batch["side_by_side"] / batch["euler"]
        ),
    ]
    return dict(header=header, alpha=alpha, tolerance=tolerance, one=single, many=batch, goals=goals)


def plot(path: Path):
    results = json.loads(path.read_text())
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for name, colour, along in ((OURS, report.BLUE, "tolerance"), (EULER, report.ORANGE, "dt")):
        points = results["one"][name]
        left.loglog(
            [point["error"] for point in points],
            [1e3 * point["seconds"] for point in points],
            marker="o",
            color=colour,
            label=f"{name}, {along} {points[0][along]:g} to {points[-1][along]:g}",
        )
    left.set(xlabel="largest error of a weight or an overlap", ylabel="one run (ms)")
    left.set_title(f"K = {NEURONS}, M = {OF_TEACHER}, to alpha = {results['alpha']:g}")
    left.legend(loc="upper left", fontsize=8)
    left.grid(alpha=0.3)
    many = results["many"]
    names = {"side_by_side": f"{OURS}, one vmap", "in_turn": f"{OURS}, one by one", "euler": f"{EULER}, dt = {USUAL:g}"}
    bars = right.barh([*names.values()], [many[key] for key in names], color=[report.BLUE, report.SKY, report.ORANGE])
    right.bar_label(bars, [f" {many[key]:.2f} s" for key in names])
    right.set(xlabel="64 ratios of the two rates, 0.1 to 10 (s)", xscale="log")
    right.margins(x=0.3)
    right.invert_yaxis()
    figure.savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    report.main(__file__, __doc__ or "", "a tenth of the time, to see whether it works", measure, plot)
