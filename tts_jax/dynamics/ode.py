"""What the flows share: one call of Diffrax, from slow time 0 to the last save time."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree
from typing_extensions import override

from .. import checks
from ..solvers import Rodas5P
from ..trajectory import Stats, Status


class Integration(eqx.Module):
    """How a flow is integrated and differentiated. The local error of a step is kept below `atol + rtol * |y|`."""

    rtol: float | None
    atol: float | None
    max_steps: int = eqx.field(static=True)
    adjoint: diffrax.AbstractAdjoint

    def __init__(self, rtol: float | None, atol: float | None, max_steps: int, adjoint: diffrax.AbstractAdjoint | None):
        self.rtol = None if rtol is None else checks.positive("rtol", rtol)
        self.atol = None if atol is None else checks.positive("atol", atol)
        self.max_steps = checks.count("max_steps", max_steps)
        self.adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint

    def controller(self, dtype: jnp.dtype) -> diffrax.PIDController:
        default = 1e-10 if dtype == jnp.float64 else 1e-5
        # The kinks of the flow, where windows meet, cost the controller many rejected steps. Of those tried, these
        # coefficients needed the fewest attempts, for errors of 1e-6 and epsilon from 1 to 1e-8.
        return diffrax.PIDController(
            rtol=default if self.rtol is None else self.rtol,
            atol=default if self.atol is None else self.atol,
            pcoeff=0.2,
            icoeff=0.5,
            safety=0.85,
        )


class _ToEachSave(diffrax.AbstractStepSizeController[None, None]):
    """One step to each save time. Unlike those of `diffrax.StepTo`, they may repeat, and the first may be 0."""

    slow_times: Float[Array, " t"]

    @override
    def wrap(self, direction):
        return self

    @override
    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return self._after(t0), None

    @override
    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
        return True, t1, self._after(t1), False, None, diffrax.RESULTS.successful

    def _after(self, t):
        later = jnp.searchsorted(self.slow_times, t, side="right")
        return self.slow_times[jnp.minimum(later, len(self.slow_times) - 1)]


def integrate(
    vector_field: Callable[[ArrayLike, Array, PyTree], Array],
    y0: Float[Array, " n"],
    args: PyTree,
    slow_times: Float[Array, " t"],
    solver: diffrax.AbstractSolver,
    how: Integration,
    dt0: Float[Array, ""],
    method: str,
) -> tuple[Float[Array, "t n"], Int[Array, ""], Stats]:
    """The state at each save time (NaN after a failure), a `Status`, and what it cost.

    `dt0` is the first step to try, in slow time. A solver without an error estimate steps from one save time to the
    next.
    """
    if isinstance(solver, diffrax.AbstractAdaptiveSolver):
        controller, dt0 = how.controller(y0.dtype), jnp.where(slow_times[-1] > 0, dt0, 1.0)
    else:
        controller, dt0 = _ToEachSave(slow_times), None
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(vector_field),
        solver,
        t0=jnp.zeros_like(slow_times[0]),
        t1=slow_times[-1],
        dt0=dt0,
        y0=y0,
        args=args,
        saveat=diffrax.SaveAt(ts=slow_times),
        stepsize_controller=controller,
        max_steps=how.max_steps,
        adjoint=how.adjoint,
        throw=False,
    )
    result = solution.result
    status = jnp.where(
        result == diffrax.RESULTS.successful,
        Status.SUCCESSFUL,
        jnp.where(result == diffrax.RESULTS.max_steps_reached, Status.MAX_STEPS, Status.SOLVER_FAILED),
    )
    states = jnp.where(jnp.isfinite(solution.ys), solution.ys, jnp.nan)
    taken, rejected = solution.stats["num_accepted_steps"], solution.stats["num_rejected_steps"]
    stats = Stats(method, taken, rejected, taken + rejected if isinstance(solver, Rodas5P) else None)
    return states, status, stats
