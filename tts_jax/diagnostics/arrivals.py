"""When neurons arrive at the jumps of the target."""

import diffrax
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from .. import _checks as checks
from .._program import program
from ..dynamics import GradientFlow
from ..dynamics.flow.equation import Choice, FlowEquation
from ..dynamics.integration import Integration, integrate
from ..networks import ShallowNetwork
from ..problems import AbstractProblem, Regression
from ..trajectory import Status


def hit_times(
    flow: GradientFlow, model: ShallowNetwork, problem: Regression, end: Real[ArrayLike, ""]
) -> Float[Array, " n"]:
    r"""The slow time at which a neuron first arrives at each jump of the target, shape (n,).

    Arrival is $\min_j |u_j - v| \le \eta/2$: the window of a neuron covers the jump v. It is located by a Diffrax
    event on the dense output, to `1e-9` of `end`.

    **Arguments:**

    - `flow`: a `GradientFlow`
    - `model`: the start at slow time 0, a `ShallowNetwork` of `SmoothStep` neurons of one input
    - `problem`: a `Regression` on a `PiecewiseConstant` target
    - `end`: the slow time up to which the flow is followed

    Infinite where no neuron arrives before `end`, and NaN where the flow failed before. Differentiable as the flow is,
    by the gap at a fixed time over its speed there.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.3], [0.8]], 0.0, tts.SmoothStep(0.2))
    >>> times = hit_times(tts.GradientFlow(1e-3), model, problem, end=1.0)
    >>> times.shape, bool(0.0 < times[0] < 1.0)
    ((1,), True)

    Raises `ValueError` for an `end` that is not positive, and for a model or a target without jumps and windows.
    """
    if not isinstance(flow, GradientFlow):
        raise ValueError(f"hit_times follows a GradientFlow, got {checks.called(flow)}: pass e.g. GradientFlow(1e-3)")
    end = checks.as_float(checks.positive("end", end))
    if not isinstance(problem, AbstractProblem):
        raise ValueError(f"hit_times needs a problem after the model, got {checks.called(problem)}: pass a Regression")
    problem.check(model)
    structure = problem.structure(model)
    if structure.staircase is None or structure.hessian is None:
        raise ValueError(
            "hit_times needs a Regression on a PiecewiseConstant target and a ShallowNetwork of SmoothStep neurons, "
            f"got {type(problem).__name__} and {type(model).__name__}"
        )
    equation = flow.equation(model, problem)
    solver = equation.choose(end) if flow.solver is None else flow.solver
    return _hit_times(equation, solver, flow.integration, structure.staircase(problem).jumps, end)


@program
def _hit_times(
    equation: FlowEquation,
    solver: Choice | diffrax.AbstractSolver,
    integration: Integration,
    jumps: Float[Array, " n"],
    end: Float[Array, ""],
) -> Float[Array, " n"]:
    problem = equation.initial_value_problem(solver)

    def gap(y, args, jump):
        moved = problem.model_at(y, args)
        return jnp.min(jnp.abs(moved.positions - jump)) - moved.activation.eta / 2

    fixed = problem._replace(**jax.lax.stop_gradient(dict(y0=problem.y0, args=problem.args, dt0=problem.dt0)))

    def arrival(jump):
        event = diffrax.Event(lambda t, y, args, **_: gap(y, args, jump), optx.Bisection(rtol=1e-9, atol=1e-12))
        solution = integrate(fixed, end[None], integration, event)
        time = jnp.where(solution.status == Status.SUCCESSFUL, solution.event_time, jnp.nan)
        return jnp.where(gap(fixed.y0, fixed.args, jump) <= 0, 0.0, time)

    times = jax.lax.stop_gradient(jax.lax.map(arrival, jumps))
    comes = jnp.isfinite(times) & (times > 0)
    known = jnp.where(comes, times, 0.0)
    order = jnp.argsort(known)
    there = integrate(problem, known[order], integration).states[jnp.argsort(order)]

    def later(y, jump, comes):
        """By how much, to first order: the gap at a fixed time over the speed at which it closes."""
        y = jnp.where(comes, y, problem.y0)
        late, speed = jax.jvp(lambda y: gap(y, problem.args, jump), (y,), (problem.vector_field(0.0, y, problem.args),))
        late, speed = late - jax.lax.stop_gradient(late), jax.lax.stop_gradient(speed)
        return jnp.where(comes, -late / jnp.where(comes, speed, 1.0), 0.0)

    return times + jax.vmap(later)(there, jumps, comes)
