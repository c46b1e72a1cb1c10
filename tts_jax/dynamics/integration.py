"""What the flows share: one call of Diffrax, from slow time 0 to the last save time, or a few calls from the host."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree, Real
from typing_extensions import override

from .. import _checks as checks
from .._pace import Reached, in_parts
from .._program import program
from .._progress import Look
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
        chosen = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
        self.adjoint = checks.instance("adjoint", chosen, diffrax.AbstractAdjoint, "diffrax.ForwardMode()")

    @property
    def by_reverse_mode(self) -> bool:
        return isinstance(self.adjoint, diffrax.RecursiveCheckpointAdjoint)

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
        many = _with_buffers(init_state, self.slow_times)
        return self.adjoint.loop(saveat=diffrax.SaveAt(ts=self.slow_times), init_state=many, **others)


class _Attempts(diffrax.AbstractAdjoint):
    """So many attempts more, from the state `before`; None is the start, from which none is made.

    The state that is reached is in `solution.stats`.
    """

    slow_times: Float[Array, " t"]
    before: PyTree
    attempts: Int[Array, ""]
    most: int = eqx.field(static=True)

    @override
    def loop(self, *, saveat, init_state, throw, passed_solver_state, passed_controller_state, max_steps, **others):
        del throw, passed_solver_state, passed_controller_state
        if self.before is None:
            start = jax.tree.map(jnp.asarray, _with_buffers(init_state, self.slow_times))
            return start, {"state": start}
        result = diffrax.RESULTS.where(
            self.before.result == diffrax.RESULTS.max_steps_reached, diffrax.RESULTS.successful, self.before.result
        )
        state = eqx.tree_at(lambda state: state.result, self.before, result)
        until = jnp.minimum(state.num_steps + self.attempts, self.most)

        def outer(goes_on, body, state, *, max_steps, buffers):
            del max_steps
            return eqxi.while_loop(
                lambda state: goes_on(state) & (state.num_steps < until), body, state, buffers=buffers, kind="lax"
            )

        end, stats = self._loop(
            saveat=diffrax.SaveAt(ts=self.slow_times),
            init_state=state,
            max_steps=max_steps,
            inner_while_loop=partial(eqxi.while_loop, kind="lax"),
            outer_while_loop=outer,
            **others,
        )
        return end, stats | {"state": jax.tree.map(jnp.asarray, end)}


def _with_buffers(state: PyTree, slow_times: Float[Array, " t"]) -> PyTree:
    """For all save times."""

    def buffers(state):
        return state.save_state.ts, state.save_state.ys

    return eqx.tree_at(buffers, state, replace_fn=lambda one: jnp.repeat(one, len(slow_times), axis=0))


class AbstractGivenSteps(diffrax.AbstractStepSizeController[None, None]):
    """Steps that do not depend on the solution."""

    @abc.abstractmethod
    def after(self, t: ArrayLike) -> Array:
        """Where the step from t ends."""

    @override
    def wrap(self, direction):
        return self

    @override
    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return self.after(t0), None

    @override
    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
        return True, t1, self.after(t1), False, None, diffrax.RESULTS.successful


class _ToEachSave(AbstractGivenSteps):
    """One step to each save time. Unlike those of `diffrax.StepTo`, they may repeat, and the first may be 0."""

    slow_times: Float[Array, " t"]

    @override
    def after(self, t: ArrayLike) -> Array:
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
    adjoint = _SavingAt(slow_times, how.adjoint) if event is None else how.adjoint
    return _read(problem, _by_diffrax(problem, slow_times, how, adjoint, event))


def integrate_in_parts(
    make: Callable[[], InitialValueProblem], slow_times: Float[Array, " t"], how: Integration, look: Look
) -> Solution:
    """The same from the host, which looks on between two parts; `make` is a PyTree, as `eqx.Partial` is."""

    def go_on(carry, attempts):
        state, _ = carry
        state, solution = _part(make, slow_times, how, state, attempts)
        tried = solution.stats.steps + solution.stats.rejected
        done = (solution.status != Status.MAX_STEPS) | (tried >= how.max_steps)
        return (state, solution), Reached(done, state.tprev, solution.stats.steps)

    start = _part(make, slow_times, how, None, jnp.asarray(0))
    return in_parts(go_on, start, 1, slow_times[-1], look)[1]


@program
def _part(
    make: Callable[[], InitialValueProblem],
    slow_times: Float[Array, " t"],
    how: Integration,
    before: PyTree,
    attempts: Int[Array, ""],
) -> tuple[PyTree, Solution]:
    problem = make()
    adjoint = _Attempts(slow_times, before, attempts, how.max_steps)
    solution = _by_diffrax(problem, slow_times, how, adjoint, None)
    return solution.stats["state"], _read(problem, solution)


def _by_diffrax(
    problem: InitialValueProblem,
    slow_times: Float[Array, " t"],
    how: Integration,
    adjoint: diffrax.AbstractAdjoint,
    event: diffrax.Event | None,
) -> diffrax.Solution:
    end = jnp.where(jnp.all(jnp.isfinite(problem.y0)), slow_times[-1], 0.0)  # what starts from NaN ends there
    adaptive = isinstance(problem.solver, diffrax.AbstractAdaptiveSolver)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(problem.vector_field),
        problem.solver,
        t0=jnp.zeros_like(slow_times[0]),
        t1=end,
        dt0=None,
        y0=problem.y0,
        args=problem.args,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=how.controller(problem) if adaptive else _ToEachSave(slow_times),
        max_steps=how.max_steps,
        adjoint=adjoint,
        event=event,
        throw=False,
    )


def _read(problem: InitialValueProblem, solution: diffrax.Solution) -> Solution:
    times: Any = solution.ts
    states: Any = solution.ys
    result, occurred = solution.result, solution.result == diffrax.RESULTS.event_occurred
    status = jnp.where(
        (result == diffrax.RESULTS.successful) | occurred,
        Status.SUCCESSFUL,
        jnp.where(result == diffrax.RESULTS.max_steps_reached, Status.MAX_STEPS, Status.SOLVER_FAILED),
    )
    taken, rejected = solution.stats["num_accepted_steps"], solution.stats["num_rejected_steps"]
    factorisations = taken + rejected if isinstance(problem.solver, Rodas5P) else None
    return Solution(
        states=jnp.where(jnp.isfinite(states), states, jnp.nan),
        status=status,
        stats=Stats(problem.method, taken, rejected, factorisations),
        event_time=jnp.where(occurred, times[-1], jnp.inf),
    )
