"""Flows in local coordinates where there are any, side by side under `jax.vmap`; else by Diffrax.

From the host both go in parts: no program calls it, as none that does could be kept on disk.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._lanes import lanes_last
from ..._pace import Reached, in_parts
from ..._program import program
from ..._progress import Look
from ...solvers import ensemble, ensemble_adjoint
from ...solvers.ensemble import AbstractSideBySide, Control, Runs
from ...trajectory import Stats
from ..integration import Integration, Solution, integrate, integrate_in_parts
from . import local
from .additive import AdditiveFlow
from .equation import Choice, FlowEquation
from .local import LocalFlow
from .neurons import Setting, at_once, reaches

T = TypeVar("T")

FIRST = 2**15
"""Parameters times attempts of the first part."""


def solve(
    equation: FlowEquation,
    solver: Choice | diffrax.AbstractSolver,
    integration: Integration,
    slow_times: Float[Array, " t"],
) -> Solution:
    setting = equation.setting if solver is Choice.ELIMINATED else None
    if setting is None or not integration.by_reverse_mode:
        return integrate(equation.initial_value_problem(solver), slow_times, integration)
    if setting.jumps.ndim > 1:
        return _solution(_solve_additive((equation, integration, slow_times)))
    return _solution(_solve(_Inputs.of(equation, setting, integration, slow_times), integration.max_steps))


def solve_in_parts(
    equation: FlowEquation,
    solver: Choice | diffrax.AbstractSolver,
    integration: Integration,
    slow_times: Float[Array, " t"],
    look: Look,
) -> Solution:
    """The same of one run from the host, which looks on between two parts."""
    setting = equation.setting if solver is Choice.ELIMINATED else None
    if setting is None:
        make = eqx.Partial(FlowEquation.initial_value_problem, equation, solver)
        return integrate_in_parts(make, slow_times, integration, look)
    inputs = _Inputs.of(equation, setting, integration, slow_times)
    return _solution(look_on(_alone(inputs, integration.max_steps), look))


def _solution(found: ensemble.Solutions) -> Solution:
    stats = Stats(Choice.ELIMINATED.value, found.steps, found.rejected, found.steps + found.rejected)
    return Solution(found.saved, found.status, stats, event_time=jnp.asarray(jnp.inf, found.saved.dtype))


class _Inputs(NamedTuple):
    """Of one run; of several with a last axis."""

    y0: Float[Array, "n *#lanes"]
    setting: Setting
    slow_times: Float[Array, "t *#lanes"]
    tolerances: tuple[Float[Array, "*#lanes"], Float[Array, "*#lanes"]]

    @classmethod
    def of(
        cls,
        equation: FlowEquation,
        setting: Setting,
        integration: Integration,
        slow_times: Float[Array, " t"],
    ) -> "_Inputs":
        y0 = equation.ravel(equation.groups.moving)
        return cls(y0, setting, slow_times, integration.tolerances(y0.dtype, closed_form=True))

    def runs(self, max_steps: int) -> Runs:
        return runs_of(self.y0, self.setting, self.slow_times, 1e-2 * self.setting.epsilon, self.tolerances, max_steps)


def runs_of(
    y0: Float[Array, "n #lanes"],
    setting: Setting,
    slow_times: Float[Array, "t #lanes"],
    first_step: Float[Array, " #lanes"],
    tolerances: tuple[Float[Array, " #lanes"], Float[Array, " #lanes"]],
    max_steps: int,
) -> Runs:
    """All of them; what they agree on has one lane."""
    runs = max(leaf.shape[-1] for leaf in jax.tree.leaves((y0, setting, slow_times, first_step, tolerances)))
    coordinates = setting.jumps.shape[1] if setting.jumps.ndim > 2 else 1
    neurons, has_bias = len(y0) // (2 * coordinates), len(y0) % 2 == 1

    def equation(reach):
        if coordinates == 1:
            return LocalFlow(neurons, has_bias, reach)
        return AdditiveFlow(neurons, coordinates, has_bias, reach)

    def spread(leaf):
        return jnp.broadcast_to(leaf, (*leaf.shape[:-1], runs))

    return Runs(
        [equation(reach) for reach in reaches(neurons)],
        spread(y0),
        setting,
        spread(slow_times),
        spread(first_step),
        Control(*tolerances),
        max_steps,
        at_once(runs, coordinates),
    )


@eqx.filter_custom_vjp
def _solve(inputs: _Inputs, max_steps: int) -> ensemble.Solutions:
    return _together(lambda inputs: ensemble.solve(inputs.runs(max_steps)), inputs)


@_solve.def_fwd
def _(perturbed, inputs, max_steps):
    del perturbed
    found = _together(lambda inputs: ensemble.solve_recorded(inputs.runs(max_steps)), inputs)
    return found[0], found


@_solve.def_bwd
def _(found, cotangent, perturbed, inputs, max_steps):
    (solutions, record), bar = found, cotangent.saved

    def run(inputs, solutions, record, bar):
        runs = inputs.runs(max_steps)
        bar = jnp.broadcast_to(bar, (*bar.shape[:-1], runs.y0.shape[1]))
        return ensemble_adjoint.pull_back(runs, solutions, record, bar, perturbed.setting)

    def by_time(bar, y):
        return jnp.where(jnp.any(bar != 0), bar @ local.velocity(y, inputs.setting), 0.0)

    y0, setting = _together(run, inputs, solutions, record, bar)
    by_times = jax.vmap(by_time)(bar, solutions.saved) if perturbed.slow_times else jnp.zeros_like(inputs.slow_times)
    rtol, atol = inputs.tolerances
    return _Inputs(y0, setting, by_times, (jnp.zeros_like(rtol), jnp.zeros_like(atol)))


def pulled_back_as(plain: Callable[[T], ensemble.Solutions]) -> Callable[[Callable[[T], ensemble.Solutions]], Any]:
    """A decorator of another way to `plain(inputs)`: the reverse mode stays that of `plain`, by Diffrax."""

    def decorate(solve):
        solve = eqx.filter_custom_vjp(solve)

        @solve.def_fwd
        def _(perturbed, inputs):
            del perturbed
            moving, fixed = eqx.partition(inputs, eqx.is_inexact_array)

            def states(moving):
                found = plain(eqx.combine(moving, fixed))
                return found.saved, found

            _, pullback, found = jax.vjp(states, moving, has_aux=True)
            return found, pullback

        @solve.def_bwd
        def _(pullback, cotangent, perturbed, inputs):
            del perturbed, inputs
            (gradient,) = pullback(cotangent.saved)
            return gradient

        return solve

    return decorate


_Whole = tuple[FlowEquation, Integration, Float[Array, " t"]]


def _by_diffrax(inputs: _Whole) -> ensemble.Solutions:
    equation, integration, slow_times = inputs
    found = integrate(equation.initial_value_problem(Choice.ELIMINATED), slow_times, integration)
    return ensemble.Solutions(found.states, found.status, found.stats.steps, found.stats.rejected)


@pulled_back_as(_by_diffrax)
def _solve_additive(inputs: _Whole) -> ensemble.Solutions:
    equation, integration, slow_times = inputs
    assert equation.setting is not None
    leaves = _Inputs.of(equation, equation.setting, integration, slow_times)
    return _together(lambda inputs: ensemble.solve(inputs.runs(integration.max_steps)), leaves)


def _together(run: Callable[..., Any], *arguments: Any) -> Any:
    """Under `vmap` all runs reach `run` together, along the last axis of every array."""
    found = lanes_last(run)(*jax.tree.map(lambda leaf: leaf[..., None], arguments))
    return jax.tree.map(lambda leaf: leaf[..., 0], found)


@program
def _alone(inputs: _Inputs, max_steps: int) -> Runs:
    return jax.tree.map(lambda leaf: leaf[..., None], inputs).runs(max_steps)


def look_on(runs: Runs, look: Look) -> ensemble.Solutions:
    """Solves for one run from the host, without an axis for it."""
    first = max(1, FIRST // len(runs.y0))
    part = in_parts(partial(_go_on, runs.equations), _begin(runs), first, runs.times[-1, 0], look)
    return _end(part)


@program
def _begin(runs: Runs) -> ensemble.Part:
    return ensemble.begin(runs)


@program
def _go_on(
    equations: Sequence[AbstractSideBySide], part: ensemble.Part, attempts: Int[Array, ""]
) -> tuple[ensemble.Part, Reached]:
    part = ensemble.go_on(equations, part, attempts)
    return part, Reached(part.done, part.times[0], part.steps[0])


@program
def _end(part: ensemble.Part) -> ensemble.Solutions:
    return jax.tree.map(lambda leaf: leaf[..., 0], ensemble.end(part))
