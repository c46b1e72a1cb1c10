"""Flows of other kinds: of additive networks, the reduced flow, and of any model.

    python benchmarks/other_flows.py                 # measures, writes results/other_flows.json and draws it
    python benchmarks/other_flows.py --quick         # one of each, to see whether it works
    python benchmarks/other_flows.py --plot FILE     # draws a result file again

What is measured and how: README.md beside this file.
"""

import functools
import json
import os
import statistics
from pathlib import Path

import diffrax
import equinox as eqx
import flow_peers
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import report
from jax.flatten_util import ravel_pytree
from report import in_fresh_process, timed
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax.solvers import DenseJacobian, Rodas5P

jax.config.update("jax_enable_x64", True)

TOLERANCE = 1e-8
REPEATED = 1.0
"""Solves shorter than this are repeated."""
COORDINATES = (2, 5, 10, 20)
EPSILONS = (1.0, 1e-2, 1e-5)
NEURONS = (20, 50, 100, 300)
HIDDEN = (32, 64, 128, 256)
"""4 H + 1 parameters."""
MOST_DENSE = 128
"""Beyond so many hidden neurons a dense step takes minutes."""
ANY_EPSILONS, ANY_TOLERANCE, ANY_DURATION = (1e-2, 1e-4), 1e-6, 1.0
OURS, ALL_PAIRS = "tts_jax", "all pairs, Diffrax"
REDUCED, FLOW = "ReducedFlow", "GradientFlow(1e-6)"
DENSE, LSODA = "dense Jacobian", "LSODA, Jacobian by autodiff"
COLOURS = {
    **{OURS: report.BLUE, ALL_PAIRS: report.GREY, REDUCED: report.BLUE, FLOW: report.ORANGE},
    **{DENSE: report.GREY, LSODA: report.ORANGE},
}


def seconds_of(solve):
    """Compiles, and the median of three, or what the first takes where that is long."""
    solve()
    found, first, _ = timed(solve)
    return found, first if first > REPEATED else statistics.median([first, *(timed(solve)[1] for _ in range(2))])


def additive(coordinates, epsilon):
    """The appendix's target, 10 neurons a coordinate, eta = 0.01, no bias, to slow time 0.5."""
    target = tts.PiecewiseConstant([0.3, 0.5, 0.7], [0.0, 1.0, 2.0, 3.0])
    problem = tts.Regression(tts.Additive([target] * coordinates))
    model = tts.ShallowNetwork.init(
        jax.random.key(0), 10, tts.SmoothStep(0.01), coordinates, weight_range=3.0, bias=False
    )

    def solve(adjoint):
        flow = tts.GradientFlow(epsilon, rtol=TOLERANCE, atol=TOLERANCE, adjoint=adjoint)
        run = jax.jit(lambda model: tts.simulate(flow, model, problem, jnp.array([0.5])))
        return seconds_of(lambda: jax.block_until_ready(run(model)))

    (ours, fast), (all_pairs, slow) = solve(None), solve(diffrax.ForwardMode())
    apart = float(np.max(np.abs(ours.model.positions - all_pairs.model.positions)))
    attempts = int(ours.stats.steps + ours.stats.rejected)
    return dict(coordinates=coordinates, epsilon=epsilon, attempts=attempts, positions_apart=apart) | {
        OURS: fast,
        ALL_PAIRS: slow,
    }


def reduced(neurons):
    """The paper's target, eta = 4e-3, eight random starts one after the other, to slow time 3."""
    problem, times = flow_peers.problem(), jnp.array([3.0])
    dynamics = {
        REDUCED: tts.ReducedFlow(rtol=TOLERANCE, atol=TOLERANCE),
        FLOW: tts.GradientFlow(1e-6, rtol=TOLERANCE, atol=TOLERANCE),
    }
    found = dict(neurons=neurons)
    for name, flow in dynamics.items():
        run = jax.jit(lambda key, flow=flow: tts.simulate(flow, start(key, neurons), problem, times))
        keys = jax.random.split(jax.random.key(0), 8)
        runs, each = zip(
            *(seconds_of(lambda key=key, run=run: jax.block_until_ready(run(key))) for key in keys), strict=True
        )
        found[name] = sum(each) / len(each)
        found[f"{name} steps"] = [int(one.stats.steps) for one in runs]
        found[f"{name} failed"] = sum(int(one.status) != 0 for one in runs)
    return found


def start(key, neurons):
    return tts.ShallowNetwork.init(key, neurons, tts.SmoothStep(4e-3))


def any_model(hidden, epsilon):
    """A perceptron of two inputs, one hidden layer of tanh, on 200 rows, the first layer slow."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 2))
    problem = tts.Dataset(x, np.sin(3 * x[:, 0]) * x[:, 1] + np.abs(x[:, 0]))
    model = eqx.nn.MLP(2, "scalar", hidden, 1, jax.nn.tanh, key=jax.random.key(0))
    trains, rest = eqx.partition(model, eqx.is_inexact_array)
    y0, unravel = ravel_pytree(trains)
    mobility = jnp.where(jnp.arange(len(y0)) < 3 * hidden, 1.0, 1 / epsilon)

    @jax.jit
    def velocity(t, y):
        return -mobility * jax.grad(lambda y: problem.risk(eqx.combine(unravel(y), rest)))(y)

    jacobian = jax.jit(lambda t, y: jax.jacfwd(functools.partial(velocity, t))(y))

    def peer(tolerance):
        functions = dict(fun=lambda t, y: np.asarray(velocity(t, y)), jac=lambda t, y: np.asarray(jacobian(t, y)))
        solution = solve_ivp(
            t_span=(0, ANY_DURATION), y0=np.asarray(y0), method="LSODA", rtol=tolerance, atol=tolerance, **functions
        )
        return solution.y[:, -1]

    def ours(solver=None, tolerance=ANY_TOLERANCE):
        flow = tts.GradientFlow(epsilon, lambda m: m.layers[0], rtol=tolerance, atol=tolerance, solver=solver)
        run = tts.simulate(flow, model, problem, [ANY_DURATION])
        return ravel_pytree(eqx.filter(run.model, eqx.is_inexact_array))[0], run.stats

    reference, _ = ours(tolerance=1e-10)
    found = dict(parameters=len(y0), epsilon=epsilon)
    (y, stats), seconds = seconds_of(lambda: jax.block_until_ready(ours()))
    found |= {OURS: seconds, "error": float(np.max(np.abs(y - reference))), "method": stats.method}
    found |= {"attempts": int(stats.steps + stats.rejected)}
    if hidden <= MOST_DENSE:
        solver = Rodas5P(DenseJacobian(), autonomous=True)
        found[DENSE] = seconds_of(lambda: jax.block_until_ready(ours(solver)))[1]
    jax.block_until_ready((velocity(0.0, y0), jacobian(0.0, y0)))
    y, found[LSODA], _ = timed(peer, ANY_TOLERANCE)
    return found | {f"{LSODA} error": float(np.max(np.abs(y - reference)))}


def measure(quick):
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    header, one_core = report.header("scipy"), {max(os.sched_getaffinity(0))}

    def each(part, *axes):
        for values in zip(*axes, strict=True):
            found = in_fresh_process(part, one_core, *values)
            print(part.__name__, found, flush=True)
            yield found

    def product(some, others):
        return ([a for a in some for _ in others], [*others] * len(some))

    first = slice(1 if quick else None)
    return dict(
        header=header,
        additive=[*each(additive, *product(COORDINATES[first], EPSILONS[first]))],
        reduced=[*each(reduced, NEURONS[first])],
        any_model=[*each(any_model, *product(HIDDEN[first], ANY_EPSILONS[first]))],
    )


def plot(path: Path):
    results = json.loads(path.read_text())
    figure, panels = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    styles = ("-", "--", ":")
    parts = (
        (
            "additive",
            "coordinates",
            (OURS, ALL_PAIRS),
            EPSILONS,
            "coordinates, of 10 neurons each",
            "Additive networks",
        ),
        ("reduced", "neurons", (REDUCED, FLOW), (None,), "neurons", "Reduced flow, to slow time 3"),
        ("any_model", "parameters", (OURS, DENSE, LSODA), ANY_EPSILONS, "parameters", "Perceptrons on 200 rows"),
    )
    for axes, (part, along, names, epsilons, xlabel, title) in zip(panels, parts, strict=True):
        for epsilon, style in zip(epsilons, styles, strict=False):
            for name in names:
                rows = [row for row in results[part] if row.get("epsilon") == epsilon and name in row]
                label = name if epsilon is None else f"{name}, ε = {epsilon:g}"
                x, y = [row[along] for row in rows], [1e3 * row[name] for row in rows]
                axes.loglog(x, y, style, marker="o", color=COLOURS[name], label=label)
        axes.set(xlabel=xlabel, ylabel="one trajectory (ms)", title=title)
        ticks = sorted({row[along] for row in results[part]})
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, handlelength=3.5)
    figure.savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    report.main(__file__, __doc__ or "", "one of each, to see whether it works", measure, plot)
