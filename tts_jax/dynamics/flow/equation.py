"""The gradient flow as an equation of a vector, and the solver that suits it."""

import enum
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ...problems import AbstractProblem, Structure
from ...problems.base import risk_gradient
from ...solvers import DenseJacobian, Rodas5P
from ..base import Groups, two_timescale
from ..integration import InitialValueProblem
from .eliminated import EliminatedWeights
from .local import Setting
from .matrix_free import FactoredFastBlock, spectral_radius

DENSE = 512
"""Up to this many parameters a Jacobian is factored."""
TSIT5_STABLE = 3.3
"""Where the stability region of Tsit5 ends on the negative axis."""
EXPLICIT = 10_000
"""Up to this many steps, as stability demands them, an explicit solver costs less than a matrix-free implicit one."""


class Choice(enum.Enum):
    """A solver, in words."""

    ELIMINATED = "Rodas5P, closed-form Hessian"
    DENSE = "Rodas5P, dense Jacobian"
    EXPLICIT = "Tsit5"
    MATRIX_FREE = "Rodas5P, matrix-free"


class FlowEquation(eqx.Module):
    """The flow of a model in slow time; its state is the vector of the leaves that train."""

    epsilon: Float[Array, ""]
    problem: AbstractProblem
    groups: Groups
    """Those of the start."""
    structure: Structure
    eliminates: bool = eqx.field(static=True)
    """Whether the Hessian is known in closed form, and the inner layer alone is slow."""

    def __init__(self, epsilon: Float[Array, ""], problem: AbstractProblem, groups: Groups, structure: Structure):
        self.epsilon, self.problem, self.groups, self.structure = epsilon, problem, groups, structure
        self.eliminates = structure.hessian is not None and groups.own

    @property
    def setting(self) -> Setting | None:
        """Where steps learn a piecewise constant target in one dimension."""
        if self.structure.staircase is None or not self.eliminates:
            return None
        target, activation = self.structure.staircase(self.problem), self.groups.fixed.activation
        return Setting(self.epsilon, activation.eta, target.jumps, target.values)

    def ravel(self, moving: PyTree) -> Float[Array, " n"]:
        return jnp.concatenate(moving.vectors) if self.eliminates else ravel_pytree(moving)[0]

    def unravel(self, y: Float[Array, " n"]) -> PyTree:
        moving = self.groups.moving
        if not self.eliminates:
            return ravel_pytree(moving)[1](y)
        outer, _ = moving.vectors
        return moving.with_vectors(y[: len(outer)], y[len(outer) :])

    def choose(self, end: Float[Array, ""]) -> Choice:
        """The solver for a run until slow time `end`: an explicit one only where nothing is traced."""
        if self.eliminates:
            return Choice.ELIMINATED
        if sum(leaf.size for leaf in jax.tree.leaves(self.groups.moving)) <= DENSE:
            return Choice.DENSE
        known = not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((self, end)))
        if known and end * _spectral_radius(self) < EXPLICIT * TSIT5_STABLE:
            return Choice.EXPLICIT
        return Choice.MATRIX_FREE

    def initial_value_problem(self, solver: Choice | diffrax.AbstractSolver) -> InitialValueProblem:
        def model_at(y, args):
            _, fixed, _ = args
            return eqx.combine(self.unravel(y), fixed)

        def velocity(t, y, args):
            epsilon, fixed, problem = args
            moving = self.unravel(y)
            mobility = two_timescale(optax.scale(-1.0), epsilon, self.groups.labels)
            gradient = risk_gradient(problem, self.structure, moving, fixed)
            descent, _ = mobility.update(gradient, mobility.init(moving))
            return self.ravel(descent) / epsilon

        if isinstance(solver, Choice):
            method, solver = solver.value, self._solver(solver, model_at)
        else:
            method = type(solver).__name__
        return InitialValueProblem(
            vector_field=velocity,
            y0=self.ravel(self.groups.moving),
            args=(self.epsilon, self.groups.fixed, self.problem),
            solver=solver,
            method=method,
            dt0=1e-2 * self.epsilon,
            model_at=model_at,
            closed_form=self.structure.closed_form,
        )

    def _solver(self, choice: Choice, model_at: Callable[[Array, PyTree], PyTree]) -> diffrax.AbstractSolver:
        hessian = self.structure.hessian
        if choice is Choice.EXPLICIT:
            return diffrax.Tsit5()
        if choice is Choice.ELIMINATED and hessian is not None:
            linear = EliminatedWeights(lambda y, args: (args[0], hessian(args[2], model_at(y, args))))
            return Rodas5P(linear, autonomous=True)
        if choice is Choice.DENSE:
            return Rodas5P(DenseJacobian(), autonomous=True)
        sizes = jax.tree.map(
            lambda label, leaf: np.full(leaf.size, label == "fast"), self.groups.labels, self.groups.moving
        )
        is_fast = np.concatenate(jax.tree.leaves(sizes))
        fast = np.flatnonzero(is_fast) if is_fast.sum() <= DENSE else np.zeros(0, int)

        def mobility(args):
            epsilon, *_ = args
            return jnp.where(is_fast, 1 / epsilon, 1.0)

        return Rodas5P(FactoredFastBlock(mobility, fast), autonomous=True)


@eqx.filter_jit
def _spectral_radius(equation: FlowEquation) -> Float[Array, ""]:
    problem = equation.initial_value_problem(Choice.EXPLICIT)
    return spectral_radius(problem.vector_field, problem.y0, problem.args)
