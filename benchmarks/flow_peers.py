"""The solvers of the gradient flow that are compared: ours, and those of others.

Each maker returns `solve(epsilon, duration, y0, tolerance)`, which gives the state at the end (NaN on failure) and a
function that counts what it took.
"""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numba_flow
import numpy as np
from flow_tables import DIFFRAX, OURS
from scipy.integrate import odeint, solve_ivp
from sksundae.cvode import CVODE

import tts_jax as tts

NEURONS, ETA = 20, 4e-3
JUMPS, VALUES = [0.2, 0.35, 0.5, 0.65, 0.8], [1.0, 5.0, 1.0, 3.0, 1.0, 5.0]


def start(seed):
    """(bias, weights, positions), as drawn by the library; made without compiling anything twice."""
    model = tts.ShallowNetwork.init(jax.random.key(seed), NEURONS, tts.SmoothStep(ETA))
    return np.concatenate(model.vectors)


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
