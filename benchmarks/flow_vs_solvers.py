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
from pathlib import Path

import diffrax
import flow_plots
import jax
import jax.numpy as jnp
import numba_flow
import numpy as np
import report
from flow_plots import DIFFRAX, DIFFRAX_QUADRATURE, NUMBA, OURS, QUADRATURE, TARGET_ERROR
from scipy.integrate import odeint, solve_ivp
from sksundae.cvode import CVODE

import tts_jax as tts
from tts_jax.dynamics import structured

jax.config.update("jax_enable_x64", True)

NEURONS, ETA = 20, 4e-3
JUMPS, VALUES = [0.2, 0.35, 0.5, 0.65, 0.8], [1.0, 5.0, 1.0, 3.0, 1.0, 5.0]
REGIMES = ((2e-5, 0.035), (1e-2, 3.0), (1.0, 10.0), (1e-8, 0.035))
"""(epsilon, slow time)."""
TOLERANCES = [10.0**-k for k in range(3, 11)]
PATIENCE = 0.7
"""A solver that took this many seconds gets no tighter tolerance; ten times as many with a quadrature in JAX."""
SOLVERS = (OURS, *NUMBA, *QUADRATURE, *DIFFRAX, *DIFFRAX_QUADRATURE)


def start(seed):
    """(bias, weights, positions), as drawn by the library; made without compiling anything twice."""
    return np.asarray(structured.ravel(tts.ShallowNetwork.init(jax.random.key(seed), NEURONS, tts.SmoothStep(ETA))))


# The solvers. Each maker returns `solve(epsilon, duration, y0, tolerance)`, the state at the end; NaN on failure.


def simulate(epsilon, duration, y0, tolerance, solver=None):
    """The library as anyone calls it; traceable."""
    like = tts.ShallowNetwork(jnp.zeros((NEURONS, 1)), jnp.zeros((NEURONS, 1)), jnp.zeros(()), tts.SmoothStep(ETA))
    flow = tts.GradientFlow(epsilon, rtol=tolerance, atol=tolerance, solver=solver, max_steps=2**17)
    problem = tts.Regression(tts.PiecewiseConstant(JUMPS, VALUES))
    return tts.simulate(flow, structured.unravel(y0, like), problem, jnp.array([duration]))


def with_library(solver=None):
    @jax.jit
    def solve(epsilon, duration, y0, tolerance):
        end = simulate(epsilon, duration, y0, tolerance, solver).model
        return jnp.concatenate([end.bias, end.weights.ravel(), end.positions.ravel()])

    return lambda *args: np.asarray(solve(*args))


def with_diffrax_quadrature(solver):
    """What one writes without closed forms: four Gauss nodes between the kinks, Jacobians left to Diffrax."""
    nodes, weights = (jnp.asarray(part) for part in (numba_flow.NODES, numba_flow.NODE_WEIGHTS))
    problem = tts.PiecewiseConstant(JUMPS, VALUES)

    def velocity(t, y, epsilon):
        a, u = y[1 : NEURONS + 1], y[NEURONS + 1 :]
        kinks = jnp.concatenate([u - ETA / 2, u, u + ETA / 2, problem.jumps, jnp.array([0.0, 1.0])])
        kinks = jnp.sort(jnp.clip(kinks, 0, 1))
        half = jnp.diff(kinks)[:, None] / 2
        x = (kinks[:-1, None] + half * (1 + nodes)).ravel()
        z = (x[:, None] - u) / ETA
        window = jnp.maximum(0.5 - jnp.abs(z), 0)
        value = jnp.where(z <= 0, 4 * window**3, 1 - 4 * window**3)
        residual = (half * weights).ravel() * (y[0] + value @ a - problem(x))
        d_u = -a / ETA * (residual @ (12 * window**2))
        return -2 * jnp.concatenate([jnp.stack([residual.sum()]) / epsilon, residual @ value / epsilon, d_u])

    @jax.jit
    def solve(epsilon, duration, y0, tolerance):
        controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        term = diffrax.ODETerm(velocity)
        return diffrax.diffeqsolve(
            term, solver, 0.0, duration, None, y0, epsilon, stepsize_controller=controller, max_steps=2**17, throw=False
        ).ys[0]

    return lambda *args: np.asarray(solve(*args))


def parameters(epsilon):
    return numba_flow.parameters(epsilon, ETA, np.array(JUMPS), np.array(VALUES))


def with_lsoda(velocity, **jacobian):
    """`odeint`: the same Fortran as `solve_ivp(method="LSODA")`, without a Python loop over the steps."""

    def solve(epsilon, duration, y0, tolerance):
        limits = dict(rtol=tolerance, atol=tolerance, mxstep=10**6)
        args = (parameters(epsilon),)
        y, info = odeint(velocity, y0, [0, duration], args, tfirst=True, full_output=True, **jacobian, **limits)
        return y[-1] if info["message"] == "Integration successful." else np.full_like(y0, np.nan)

    return solve


def with_cvode(velocity, **jacobian):
    def solve(epsilon, duration, y0, tolerance):
        limits = dict(rtol=tolerance, atol=tolerance, max_num_steps=10**6)
        solver = CVODE(velocity, userdata=(parameters(epsilon),), **jacobian, **limits)
        # With a save time between, SUNDIALS loops over the steps itself, not Cython.
        solution = solver.solve(np.array([0, duration / 2, duration]), y0)
        return solution.y[-1] if solution.success else np.full_like(y0, np.nan)

    return solve


def with_scipy(method):
    def solve(epsilon, duration, y0, tolerance):
        functions = dict(fun=numba_flow.velocity_scipy, jac=numba_flow.jacobian_scipy, args=(parameters(epsilon),))
        ends = dict(t_span=(0, duration), y0=y0, t_eval=[duration])
        solution = solve_ivp(**functions, **ends, method=method, rtol=tolerance, atol=tolerance)
        return solution.y[:, -1] if solution.success else np.full_like(y0, np.nan)

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


def measure_single(epsilon, duration, seeds, tolerances, repeats):
    """Work and precision of each solver: one start after the other, one thread, the solvers taking turns."""
    starts = [start(seed) for seed in seeds]
    exact = [solver_named("SciPy Radau")(epsilon, duration, y0, 1e-12) for y0 in starts]
    ours = [solver_named(OURS)(epsilon, duration, y0, 1e-13) for y0 in starts]
    check = [float(np.max(np.abs(x - y))) for x, y in zip(exact, ours, strict=True)]
    curves = {name: [] for name in SOLVERS}
    for tolerance in tolerances:
        patience = {name: PATIENCE * (10 if name in DIFFRAX_QUADRATURE else 1) for name in SOLVERS}
        going = [name for name in SOLVERS if not curves[name] or curves[name][-1]["seconds"] < patience[name]]
        for name in going:
            solver_named(name)(epsilon, duration, starts[0], tolerance)
        runs = {name: [] for name in going}
        for (y0, reference), _ in itertools.product(zip(starts, exact, strict=True), range(repeats)):
            for name in going:
                if name in DIFFRAX_QUADRATURE and len(runs[name]) >= repeats:
                    continue  # slow: the first start only
                y, wall, cpu = timed(solver_named(name), epsilon, duration, y0, tolerance)
                runs[name].append((float(np.max(np.abs(y - reference))), wall, cpu))
        for name in going:
            error, wall, cpu = np.array(runs[name]).reshape(-1, repeats, 3).transpose(2, 0, 1)
            point = dict(tolerance=tolerance, error=median(error[:, 0]), seconds=median(wall), cpu_seconds=median(cpu))
            each = dict(errors=error[:, 0].tolist(), wall=np.median(wall, 1).tolist(), cpu=np.median(cpu, 1).tolist())
            curves[name].append({**point, "each_start": each})
    return dict(reference_disagreement=check, curves=curves, load_average=os.getloadavg())


def median(values):
    return float(np.median(values))


def _in_worker(task):
    name, epsilon, duration, y0, tolerance = task
    return solver_named(name)(epsilon, duration, y0, tolerance)


def _warm(names):
    for name in names:
        solver_named(name)(1.0, 0.01, start(0), 1e-3)
    time.sleep(0.5)  # so that the other worker gets the next warm-up


def measure_pool(tasks_of, repeats):
    """Seconds for the tasks of each solver, in a pool of two processes with one core each, the solvers taking turns."""
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0))[:2]:
        cores.put({core})
    with context.Pool(2, _pin_from, (cores,)) as pool:
        pool.map(_warm, [list(tasks_of)] * 2, chunksize=1)
        seconds = {name: [] for name in tasks_of}
        for _ in range(repeats):
            for name, tasks in tasks_of.items():
                begin = time.perf_counter()
                pool.map(_in_worker, tasks, chunksize=2)
                seconds[name].append((time.perf_counter() - begin) / len(tasks))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _pin_from(cores):
    pin(cores.get())


def measure_batch(epsilon, duration, seeds, tolerance, repeats, threads):
    """Seconds for each trajectory of many starts within one process: mapped in one program, or `tts.run_each`."""
    starts = jnp.stack([start(seed) for seed in seeds])

    def final(y0):
        return simulate(epsilon, duration, y0, tolerance).model.positions

    solve = (lambda: tts.run_each(final, starts)) if threads else (lambda: mapped(starts))
    mapped = jax.jit(lambda starts: jax.lax.map(final, starts))
    jax.block_until_ready(solve())
    return statistics.median(timed(lambda: jax.block_until_ready(solve()))[1] for _ in range(repeats)) / len(starts)


def measure_gradient(epsilon, duration, seeds, tolerance, repeats):
    """Seconds for the final risks of some starts, and for their gradient by epsilon and every start."""
    starts = jnp.stack([start(seed) for seed in seeds])

    def risk(epsilon, starts):
        return jax.lax.map(lambda y0: simulate(epsilon, duration, y0, tolerance).risk[0], starts).sum()

    seconds = {}
    for name, function in (("forward", jax.jit(risk)), ("gradient", jax.jit(jax.value_and_grad(risk, (0, 1))))):
        jax.block_until_ready(function(epsilon, starts))
        runs = [timed(lambda f=function: jax.block_until_ready(f(epsilon, starts)))[1:] for _ in range(repeats)]
        wall, cpu = (statistics.median(kind) / len(starts) for kind in zip(*runs, strict=True))
        seconds |= {name: wall, name + "_cpu": cpu}
    return seconds


def measure_compilation(cache):
    """Seconds for the first solve of a process, and for the second."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    y0, solve = start(0), with_library()
    return [timed(solve, 2e-5, 0.035, y0, 1e-6)[1] for _ in range(2)]


def measure(quick):
    from_here = os.sched_getaffinity(0)
    one_core, seeds = {max(from_here)}, range(1 if quick else 5)
    repeats, tolerances = (1, TOLERANCES[::3]) if quick else (3, TOLERANCES)
    batch = range(4 if quick else 64)
    with tempfile.TemporaryDirectory() as cache:
        first, second = (in_fresh_process(measure_compilation, one_core, cache) for _ in range(2))
    compilation = dict(first_solve=first[0], warm=first[1], first_solve_cached_on_disk=second[0])
    regimes = []
    for epsilon, duration in REGIMES:
        print(f"epsilon = {epsilon:g}: single", flush=True)
        single = in_fresh_process(measure_single, one_core, epsilon, duration, seeds, tolerances, repeats)
        tolerance = {name: flow_plots.reading(curve, "tolerance") or 1e-6 for name, curve in single["curves"].items()}
        print("  batch", flush=True)
        starts = {seed: start(seed) for seed in batch}
        pooled = (OURS, *NUMBA, *QUADRATURE)
        tasks = {name: [(name, epsilon, duration, y0, tolerance[name]) for y0 in starts.values()] for name in pooled}
        pool = measure_pool(tasks, repeats)
        mapped, threads = (
            in_fresh_process(measure_batch, cores, epsilon, duration, batch, tolerance[OURS], repeats, threads)
            for cores, threads in ((one_core, False), (from_here, True))
        )
        print("  gradient", flush=True)
        gradient = in_fresh_process(measure_gradient, one_core, epsilon, duration, batch[:8], tolerance[OURS], repeats)
        regimes.append(
            dict(epsilon=epsilon, slow_time=duration, single=single, tolerance_at_target=tolerance, gradient=gradient)
            | dict(batch=dict(starts=len(batch), pool_of_two=pool, mapped_one_core=mapped, run_each=threads))
        )
    return dict(target_error=TARGET_ERROR, compilation=compilation, regimes=regimes)


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
        path.write_text(json.dumps(results, indent=1))
    results = json.loads(path.read_text())
    print(*flow_plots.summary(results), sep="\n")
    flow_plots.draw(results, path)


if __name__ == "__main__":
    main()
