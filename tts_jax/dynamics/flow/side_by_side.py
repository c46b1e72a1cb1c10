"""Flows in local coordinates where there are any, side by side under `jax.vmap`; else, and in reverse, by Diffrax."""

from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._lanes import lanes_last
from ...trajectory import Stats
from ..integration import Integration, Solution, integrate
from . import local
from .equation import Choice, FlowEquation


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
    found = _solve(_Inputs(equation, integration, slow_times), jax.lax.stop_gradient(setting))
    stats = Stats(Choice.ELIMINATED.value, found.steps, found.rejected, found.steps + found.rejected)
    return Solution(found.states, found.status, stats, event_time=jnp.full_like(slow_times[0], jnp.inf))


class _Inputs(NamedTuple):
    equation: FlowEquation
    integration: Integration
    slow_times: Float[Array, " t"]


class _Found(NamedTuple):
    states: Float[Array, "t n"]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    rejected: Int[Array, ""]


@eqx.filter_custom_vjp
def _solve(inputs: _Inputs, setting: local.Setting) -> _Found:
    def run(y0, setting, slow_times, tolerances):
        return _Found(*local.integrate(y0, setting, slow_times, tolerances, inputs.integration.max_steps))

    y0 = inputs.equation.ravel(inputs.equation.groups.moving)
    arguments = y0, setting, inputs.slow_times, inputs.integration.tolerances(y0.dtype, closed_form=True)
    found = lanes_last(run)(*jax.tree.map(lambda leaf: leaf[..., None], arguments))
    return jax.tree.map(lambda leaf: leaf[..., 0], found)


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
