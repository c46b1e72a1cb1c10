"""What can be read off a run, or asked of it."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from . import checks
from .dynamics.base import timescale_labels
from .dynamics.flow import GradientFlow, equation
from .networks import ShallowNetwork
from .problems import Regression
from .targets import PiecewiseConstant


def hit_times(
    flow: GradientFlow, model: ShallowNetwork, problem: Regression, end: Real[ArrayLike, ""]
) -> Float[Array, " n"]:
    r"""The slow time at which a neuron first arrives at each jump of the target, shape (n,).

    Arrival is $\min_j |u_j - v| \le \eta/2$: the window of a neuron covers the jump v. It is located by a Diffrax
    event on the dense output, to `1e-9` of `end`; infinite where no neuron arrives before the slow time `end`, and
    NaN where the flow failed before. Differentiable as the flow is.

    Raises `ValueError` for an `end` that is not positive, and for a model or a target without jumps and windows.
    """
    end = checks.as_float(checks.positive("end", end))
    problem.check(model)
    if not isinstance(problem.target, PiecewiseConstant) or not hasattr(model.activation, "eta"):
        raise ValueError(
            f"hit_times needs a PiecewiseConstant target and SmoothStep neurons, got {type(problem.target).__name__} "
            f"and {type(model.activation).__name__}"
        )
    return _hit_times(flow, model, problem, end)


@eqx.filter_jit
def _hit_times(
    flow: GradientFlow, model: ShallowNetwork, problem: Regression, end: Float[Array, ""]
) -> Float[Array, " n"]:
    field, y0, args, model_at, solver, _ = equation(flow, model, problem, timescale_labels(model, flow.slow))

    def gap(y, args, jump):
        moved = model_at(y, args)
        return jnp.min(jnp.abs(moved.positions - jump)) - moved.activation.eta / 2

    def arrival(jump):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            t0=jnp.zeros_like(end),
            t1=end,
            dt0=1e-2 * flow.epsilon,
            y0=y0,
            args=args,
            stepsize_controller=flow.integration.controller(y0.dtype),
            max_steps=flow.integration.max_steps,
            adjoint=flow.integration.adjoint,
            event=diffrax.Event(lambda t, y, args, **_: gap(y, args, jump), optx.Bisection(rtol=1e-9, atol=1e-12)),
            throw=False,
        )
        failed = (solution.result != diffrax.RESULTS.successful) & (solution.result != diffrax.RESULTS.event_occurred)
        never = jnp.where(failed, jnp.nan, jnp.inf)
        time = jnp.where(solution.result == diffrax.RESULTS.event_occurred, solution.ts[-1], never)
        return jnp.where(gap(y0, args, jump) <= 0, 0.0, time)

    return jax.lax.map(arrival, problem.target.jumps)
