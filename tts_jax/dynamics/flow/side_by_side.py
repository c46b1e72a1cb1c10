"""Flows in local coordinates where there are any, side by side under `jax.vmap`; else, and in reverse, by Diffrax.

From the host both go in parts: no program calls it, as none that does could be kept on disk.
"""

from functools import partial
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._lanes import lanes_last
from ..._pace import Reached, in_parts
from ..._progress import Look
from ...solvers import ensemble
from ...trajectory import Stats
from ..integration import Integration, Solution, integrate, integrate_in_parts
from . import local
from .equation import Choice, FlowEquation

FIRST = 2**15
"""Parameters times attempts of the first part."""


def solve(
    equation: FlowEquation,
    solver: Choice | diffrax.AbstractSolver,
    integration: Integration,
    slow_times: Float[Array, " t"],
) -> Solution:
    setting = equation.setting if solver is Choice.ELIMINATED else None
    if setting is None or not isinstance(integration.adjoint, diffrax.RecursiveCheckpointAdjoint):
        return integrate(equation.initial_value_problem(solver), slow_times, integration)
    # What the setting depends on is differentiated in the equation.
    return _solution(_solve(_Inputs(equation, integration, slow_times), jax.lax.stop_gradient(setting)))


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
    inputs = _Inputs(equation, integration, slow_times)
    first = max(1, FIRST // len(inputs.y0))
    equations, start = _begin(inputs, setting)
    return _end(in_parts(partial(_go_on, equations), start, first, slow_times[-1], look))


def _solution(found: "_Found") -> Solution:
    stats = Stats(Choice.ELIMINATED.value, found.steps, found.rejected, found.steps + found.rejected)
    return Solution(found.states, found.status, stats, event_time=jnp.asarray(jnp.inf, found.states.dtype))


class _Inputs(NamedTuple):
    equation: FlowEquation
    integration: Integration
    slow_times: Float[Array, " t"]

    @property
    def y0(self) -> Float[Array, " n"]:
        return self.equation.ravel(self.equation.groups.moving)


class _Found(NamedTuple):
    states: Float[Array, "t n"]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    rejected: Int[Array, ""]


@eqx.filter_custom_vjp
def _solve(inputs: _Inputs, setting: local.Setting) -> _Found:
    def run(y0, setting, slow_times, tolerances):
        arguments = local.arguments(y0, setting, slow_times, tolerances, inputs.integration.max_steps)
        return _Found(*ensemble.solve(*arguments))

    y0 = inputs.y0
    leaves = y0, setting, inputs.slow_times, inputs.integration.tolerances(y0.dtype, closed_form=True)
    found = lanes_last(run)(*jax.tree.map(lambda leaf: leaf[..., None], leaves))
    return jax.tree.map(lambda leaf: leaf[..., 0], found)


def _alone(inputs: _Inputs, setting: local.Setting) -> local.Arguments:
    """Of one run."""
    tolerances = inputs.integration.tolerances(inputs.y0.dtype, closed_form=True)
    of_run = inputs.y0, setting, inputs.slow_times, tolerances
    y0, setting, slow_times, tolerances = jax.tree.map(lambda leaf: leaf[..., None], of_run)
    return local.arguments(y0, setting, slow_times, tolerances, inputs.integration.max_steps)


@eqx.filter_jit
def _begin(inputs: _Inputs, setting: local.Setting) -> tuple[list[local.LocalFlow], ensemble.Part]:
    arguments = _alone(inputs, setting)
    return arguments.equations, ensemble.begin(*arguments)


@eqx.filter_jit
def _go_on(
    equations: list[local.LocalFlow], part: ensemble.Part, attempts: Int[Array, ""]
) -> tuple[ensemble.Part, Reached]:
    part = ensemble.go_on(equations, part, attempts)
    return part, Reached(part.done, part.times[0], part.steps[0])


@eqx.filter_jit
def _end(part: ensemble.Part) -> Solution:
    return _solution(jax.tree.map(lambda leaf: leaf[..., 0], _Found(*ensemble.end(part))))


@_solve.def_fwd
def _(perturbed, inputs, setting):
    del perturbed, setting
    moving, fixed = eqx.partition(inputs, eqx.is_inexact_array)

    def states(moving):
        inputs = eqx.combine(moving, fixed)
        problem = inputs.equation.initial_value_problem(Choice.ELIMINATED)
        solution = integrate(problem, inputs.slow_times, inputs.integration)
        stats = solution.stats
        return solution.states, _Found(solution.states, solution.status, stats.steps, stats.rejected)

    _, pullback, found = jax.vjp(states, moving, has_aux=True)
    return found, pullback


@_solve.def_bwd
def _(pullback, cotangent, perturbed, inputs, setting):
    del perturbed, inputs, setting
    (gradient,) = pullback(cotangent.states)
    return gradient
