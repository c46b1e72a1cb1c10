"""What the flows share: one call of Diffrax, from slow time 0 to the last save time."""

from collections.abc import Callable
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree, Real
from typing_extensions import override

from .. import _checks as checks
from ..solvers import Rodas5P
from ..trajectory import Stats, Status

EXACT, GENERIC, SINGLE = 1e-10, 1e-6, 1e-5
"""Default tolerances: where the problem knows the model in closed form, where not, and in 32-bit."""


class Integration(eqx.Module):
    """How a flow is integrated and differentiated. The local error of a step is kept below `atol + rtol * |y|`."""

    rtol: Float[Array, ""] | None
    atol: Float[Array, ""] | None
    max_steps: int = eqx.field(static=True)
    adjoint: diffrax.AbstractAdjoint

    def __init__(
        self,
        rtol: Real[ArrayLike, ""] | None,
        atol: Real[ArrayLike, ""] | None,
        max_steps: int,
        adjoint: diffrax.AbstractAdjoint | None,
    ):
        self.rtol, self.atol = (
            None if tolerance is None else checks.as_float(checks.positive(name, tolerance))
            for name, tolerance in (("rtol", rtol), ("atol", atol))
        )
        self.max_steps = checks.count("max_steps", max_steps)
        self.adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint

    def tolerances(self, dtype: jnp.dtype, closed_form: bool) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """`rtol` and `atol`; by default tight where the problem knows the model in `closed_form`."""
        exact = EXACT if closed_form else GENERIC
        default = jnp.asarray(exact if dtype == jnp.float64 else SINGLE, dtype)
        return default if self.rtol is None else self.rtol, default if self.atol is None else self.atol

    def controller(self, problem: "InitialValueProblem") -> diffrax.PIDController:
        """To be used with `dt0=None`."""
        rtol, atol = self.tolerances(problem.y0.dtype, problem.closed_form)
        # The kinks of the flow, where windows meet, cost the controller many rejected steps. Of those tried, these
        # coefficients needed the fewest attempts, for errors of 1e-6 and epsilon from 1 to 1e-8.
        return _StartingWith(
            first_step=problem.dt0,
            rtol=rtol,
            atol=atol,
            pcoeff=0.2,
            icoeff=0.5,
            safety=0.85,
        )


class _StartingWith(diffrax.PIDController):
    """With a first step that Diffrax does not check.

    Its checks are calls back to Python, and JAX keeps no program with such a call on disk.
    """

    first_step: Float[Array, ""] = eqx.field(kw_only=True)

    @override
    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return super().init(terms, t0, t1, y0, self.first_step, args, func, error_order)


class _SavingAt(diffrax.AbstractAdjoint):
    """`adjoint`, with save times that Diffrax does not check either; to be used with `SaveAt(t1=True)`."""

    slow_times: Float[Array, " t"]
    adjoint: diffrax.AbstractAdjoint

    @override
    def loop(self, *, saveat, init_state, **others):
        def buffers(state):
            return state.save_state.ts, state.save_state.ys

        many = eqx.tree_at(buffers, init_state, replace_fn=lambda one: jnp.repeat(one, len(self.slow_times), axis=0))
        return self.adjoint.loop(saveat=diffrax.SaveAt(ts=self.slow_times), init_state=many, **others)


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


class InitialValueProblem(NamedTuple):
    """A flow as Diffrax takes it, in slow time, with the solver that suits it."""

    vector_field: Callable[[ArrayLike, Array, PyTree], Array]
    y0: Float[Array, " n"]
    args: PyTree
    solver: diffrax.AbstractSolver
    method: str
    """The solver in words."""
    dt0: Float[Array, ""]
    """The first step to try. A solver without an error estimate steps from one save time to the next instead."""
    model_at: Callable[[Array, PyTree], PyTree]
    """The model from a state and the arguments."""
    closed_form: bool
    """Whether the problem knows the model in closed form."""


class Solution(NamedTuple):
    """Of an initial value problem."""

    states: Float[Array, "t n"]
    """At each save time, NaN after a failure; with an event, at the end alone."""
    status: Int[Array, ""]
    """A `Status`."""
    stats: Stats
    event_time: Float[Array, ""]
    """When the event occurred; infinite where it did not, or where there is none."""


def integrate(
    problem: InitialValueProblem,
    slow_times: Float[Array, " t"],
    how: Integration,
    event: diffrax.Event | None = None,
) -> Solution:
    """From slow time 0 to the last save time, or to the `event`."""
    adaptive = isinstance(problem.solver, diffrax.AbstractAdaptiveSolver)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        problem.solver,
        t0=jnp.zeros_like(slow_times[0]),
        t1=slow_times[-1],
        dt0=None,
        y0=problem.y0,
        args=problem.args,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=how.controller(problem) if adaptive else _ToEachSave(slow_times),
        max_steps=how.max_steps,
        adjoint=_SavingAt(slow_times, how.adjoint) if event is None else how.adjoint,
        event=event,
        throw=False,
    )
    result, occurred = solution.result, solution.result == diffrax.RESULTS.event_occurred
    status = jnp.where(
        (result == diffrax.RESULTS.successful) | occurred,
        Status.SUCCESSFUL,
        jnp.where(result == diffrax.RESULTS.max_steps_reached, Status.MAX_STEPS, Status.SOLVER_FAILED),
    )
    taken, rejected = solution.stats["num_accepted_steps"], solution.stats["num_rejected_steps"]
    factorisations = taken + rejected if isinstance(problem.solver, Rodas5P) else None
    return Solution(
        states=jnp.where(jnp.isfinite(solution.ys), solution.ys, jnp.nan),
        status=status,
        stats=Stats(problem.method, taken, rejected, factorisations),
        event_time=jnp.where(occurred, solution.ts[-1], jnp.inf),
    )
