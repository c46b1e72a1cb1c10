"""The gradient flow against other solvers: seconds for an achieved error, many starts at once, and its gradient.

    python benchmarks/flow_vs_solvers.py                 # measures, writes results/flow_vs_solvers.json and draws it
    python benchmarks/flow_vs_solvers.py --quick         # one start and few tolerances, to see whether it works
    python benchmarks/flow_vs_solvers.py --plot FILE     # draws a result file again

What is measured and how: README.md beside this file.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import unittest.mock
from pathlib import Path

import diffrax
import flow_plots
import flow_tables
import jax
import jax.numpy as jnp
import numba
import numba_flow
import numpy as np
import report
from flow_tables import DIFFRAX, DIFFRAX_QUADRATURE, OURS, POOLED, SOLVERS, TARGET_ERROR
from scipy.integrate import odeint, solve_ivp
from sksundae.cvode import CVODE

import tts_jax as tts
from tts_jax._kernel import one_kernel
from tts_jax.dynamics.flow.local import LocalFlow, Setting

jax.config.update("jax_enable_x64", True)

NEURONS, ETA = 20, 4e-3
JUMPS, VALUES = [0.2, 0.35, 0.5, 0.65, 0.8], [1.0, 5.0, 1.0, 3.0, 1.0, 5.0]
REGIMES = ((2e-5, 0.035), (1e-2, 3.0), (1.0, 10.0), (1e-8, 0.035))
"""(epsilon, slow time)."""
TOLERANCES = [10.0**-k for k in range(3, 11)]
PATIENCE = 0.3
"""A solver that took this many seconds goes on with the first start alone, at the tolerances of `SPARSE`."""
SPARSE = (1e-6, 1e-8)
GIVE_UP = 4.0
REPEATED = 0.04
"""Solves shorter than this are repeated."""


def start(seed):
    """(bias, weights, positions), as drawn by the library; made without compiling anything twice."""
    model = tts.ShallowNetwork.init(jax.random.key(seed), NEURONS, tts.SmoothStep(ETA))
    return np.concatenate(model.vectors)


# The solvers. Each maker returns `solve(epsilon, duration, y0, tolerance)`, which gives the state at the end (NaN on
# failure) and a function that counts what it took.


def problem():
    return tts.Regression(tts.PiecewiseConstant(JUMPS, VALUES))


def network(y):
    like = tts.ShallowNetwork(jnp.zeros((NEURONS, 1)), jnp.zeros((NEURONS, 1)), jnp.zeros(()), tts.SmoothStep(ETA))
    return like.with_vectors(y[: 1 + NEURONS], y[1 + NEURONS :])


def simulate(epsilon, duration, y0, tolerance, solver=None):
    """The library as anyone calls it; traceable."""
    flow = tts.GradientFlow(epsilon, rtol=tolerance, atol=tolerance, solver=solver, max_steps=2**17)
    return tts.simulate(flow, network(y0), problem(), jnp.array([duration]))


def with_library(solver=None):
    @jax.jit
    def solve(epsilon, duration, y0, tolerance):
        trajectory = simulate(epsilon, duration, y0, tolerance, solver)
        end, stats = trajectory.model, trajectory.stats
        y = jnp.concatenate([end.bias, end.weights.ravel(), end.positions.ravel()])
        return y, stats.steps, stats.rejected, stats.factorisations

    return functools.partial(_of_diffrax, solve)


def _of_diffrax(solve, *args):
    y, steps, rejected, factorisations = solve(*args)

    def count():
        attempts = int(steps + rejected)
        ours = {} if factorisations is None else dict(velocities=8 * attempts, jacobians=int(factorisations))
        return dict(steps=int(steps), attempts=attempts, **ours)

    return np.asarray(y), count


def with_diffrax_quadrature(solver):
    """What one writes without closed forms: four Gauss nodes between the kinks, Jacobians left to Diffrax."""
    nodes, weights = (jnp.asarray(part) for part in (numba_flow.NODES, numba_flow.NODE_WEIGHTS))
    target = tts.PiecewiseConstant(JUMPS, VALUES)

    def velocity(t, y, epsilon):
        a, u = y[1 : NEURONS + 1], y[NEURONS + 1 :]
        kinks = jnp.concatenate([u - ETA / 2, u, u + ETA / 2, target.jumps, jnp.array([0.0, 1.0])])
        kinks = jnp.sort(jnp.clip(kinks, 0, 1))
        half = jnp.diff(kinks)[:, None] / 2
        x = (kinks[:-1, None] + half * (1 + nodes)).ravel()
        z = (x[:, None] - u) / ETA
        window = jnp.maximum(0.5 - jnp.abs(z), 0)
        value = jnp.where(z <= 0, 4 * window**3, 1 - 4 * window**3)
        residual = (half * weights).ravel() * (y[0] + value @ a - target(x))
        d_u = -a / ETA * (residual @ (12 * window**2))
        return -2 * jnp.concatenate([jnp.stack([residual.sum()]) / epsilon, residual @ value / epsilon, d_u])

    @jax.jit
    def solve(epsilon, duration, y0, tolerance):
        controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        term = diffrax.ODETerm(velocity)
        solution = diffrax.diffeqsolve(
            term, solver, 0.0, duration, None, y0, epsilon, stepsize_controller=controller, max_steps=2**17, throw=False
        )
        return solution.ys[0], solution.stats["num_accepted_steps"], solution.stats["num_rejected_steps"], None

    return functools.partial(_of_diffrax, solve)


def parameters(epsilon):
    return numba_flow.parameters(epsilon, ETA, np.array(JUMPS), np.array(VALUES))


def with_lsoda(velocity, **jacobian):
    """`odeint`: the same Fortran as `solve_ivp(method="LSODA")`, without a Python loop over the steps."""

    def solve(epsilon, duration, y0, tolerance):
        limits = dict(rtol=tolerance, atol=tolerance, mxstep=10**6)
        args = (parameters(epsilon),)
        y, info = odeint(velocity, y0, [0, duration], args, tfirst=True, full_output=True, **jacobian, **limits)
        end = y[-1] if info["message"] == "Integration successful." else np.full_like(y0, np.nan)
        return end, lambda: dict(
            steps=int(info["nst"][-1]), velocities=int(info["nfe"][-1]), jacobians=int(info["nje"][-1])
        )

    return solve


def with_cvode(velocity, **jacobian):
    def solve(epsilon, duration, y0, tolerance):
        limits = dict(rtol=tolerance, atol=tolerance, max_num_steps=10**6)
        solver = CVODE(velocity, userdata=(parameters(epsilon),), **jacobian, **limits)
        # With a save time between, SUNDIALS loops over the steps itself, not Cython.
        solution = solver.solve(np.array([0, np.nextafter(duration, 0), duration]), y0)

        def count():
            every_step = solver.solve(np.array([0, duration]), y0)
            quotients = 0 if jacobian else len(y0) * every_step.njev
            return dict(steps=len(every_step.t) - 1, velocities=every_step.nfev + quotients, jacobians=every_step.njev)

        return solution.y[-1] if solution.success else np.full_like(y0, np.nan), count

    return solve


def with_scipy(method):
    def solve(epsilon, duration, y0, tolerance):
        functions = dict(fun=numba_flow.velocity_scipy, jac=numba_flow.jacobian_scipy, args=(parameters(epsilon),))
        limits = dict(rtol=tolerance, atol=tolerance)
        solution = solve_ivp(t_span=(0, duration), y0=y0, method=method, **functions, **limits)
        end = solution.y[:, -1] if solution.success else np.full_like(y0, np.nan)
        return end, lambda: dict(steps=len(solution.t) - 1, velocities=solution.nfev, jacobians=solution.njev)

    return solve


@functools.cache
def solver_named(name):
    method, _, right_hand_side = name.partition(", ")
    if name == OURS:
        return with_library()
    if method in DIFFRAX:
        solver = getattr(diffrax, method)()
        return with_diffrax_quadrature(solver) if right_hand_side else with_library(solver)
    if method == "LSODA" and right_hand_side:
        return with_lsoda(numba_flow.quadrature_scipy)
    if method == "LSODA":
        return with_lsoda(numba_flow.velocity_scipy, Dfun=numba_flow.jacobian_transposed, col_deriv=True)
    if method == "CVODE BDF" and right_hand_side:
        return with_cvode(numba_flow.quadrature_sundials)
    if method == "CVODE BDF":
        return with_cvode(numba_flow.velocity_sundials, jacfn=numba_flow.jacobian_sundials)
    return with_scipy(method.removeprefix("SciPy "))


# Measuring. Every part runs in fresh processes, whose cores are set before JAX starts its threads.


def pin(cores):
    os.sched_setaffinity(0, cores)


def in_fresh_process(part, cores, *args):
    with multiprocessing.get_context("spawn").Pool(1, pin, (cores,)) as pool:
        return pool.apply(part, args)


def timed(solve, *args):
    wall, cpu = time.perf_counter(), time.process_time()
    y = solve(*args)
    return y, time.perf_counter() - wall, time.process_time() - cpu


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
    """Seconds for each trajectory of many starts within one process: mapped in one program, or `tts.run_each`."""
    starts = jnp.stack([start(seed) for seed in seeds])

    def final(y0, *regime):
        return simulate(*regime[:2], y0, regime[2]).model.positions

    mapped = jax.jit(lambda starts, *regime: jax.lax.map(lambda y0: final(y0, *regime), starts))

    def solve(*regime):
        if not threads:
            return jax.block_until_ready(mapped(starts, *regime))
        return tts.run_each(final, starts, *(jnp.full(len(starts), value) for value in regime))

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


def measure_pieces(turns, repeats):
    """Seconds of CPU time for each piece of a step, all in compiled loops, at one start."""
    flow = LocalFlow(NEURONS, has_bias=True, reach=NEURONS - 1)
    setting = Setting(jnp.full(1, 1e-2), jnp.full(1, ETA), jnp.array(JUMPS)[:, None], jnp.array(VALUES)[:, None])
    y0, shift = jnp.asarray(start(0))[:, None], jnp.full(1, 1e3)
    y0 = jnp.take_along_axis(y0, flow.order(y0), axis=0)
    space = flow.workspace(y0)
    factors = flow.factor(y0, setting, shift, space)

    def in_xla(piece):
        @jax.jit
        @one_kernel
        def loop(y):
            return jax.lax.fori_loop(0, turns, lambda _, y: y + 1e-12 * piece(y), y)

        return lambda: jax.block_until_ready(loop(y0))

    def in_numba(function, out):
        @numba.njit
        def loop(y, out, p):
            for _ in range(turns):
                function(0.0, y, out, p)
                y[0] += 1e-12

        return lambda: loop(start(0), out, parameters(1e-2))

    pieces = dict(
        velocity=in_xla(lambda y: flow.velocity(y, setting)),
        solve=in_xla(lambda y: flow.solve(factors, setting, y)),
        factor_and_solve=in_xla(lambda y: flow.solve(flow.factor(y, setting, shift, space), setting, y)),
        numba_velocity=in_numba(numba_flow.velocity, np.empty(len(y0))),
        numba_jacobian=in_numba(numba_flow.jacobian, np.empty((len(y0), len(y0)))),
    )
    for run in pieces.values():
        run()
    rounds = [{name: timed(run)[2] for name, run in pieces.items()} for _ in range(repeats)]
    return {name: statistics.median(one[name] for one in rounds) / turns for name in pieces}


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
    mapped = in_fresh_process(measure_batch, one_core, seeds, ours, repeats, False)
    run_each = in_fresh_process(measure_batch, all_cores, seeds, ours, repeats, True)
    print("batches:", pool, mapped, run_each, flush=True)

    pieces = in_fresh_process(measure_pieces, one_core, 2000, 1 if quick else 25)
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
