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

from ..._program import program
from ...problems import AbstractProblem, Structure
from ...problems.base import risk_gradient
from ...solvers import DenseJacobian, Rodas5P
from ..base import Groups, slowest, two_timescale
from ..integration import InitialValueProblem
from .eliminated import EliminatedWeights
from .matrix_free import FactoredFastBlock, spectral_radius
from .neurons import Setting

DENSE = 128
"""Up to this many parameters a Jacobian is factored."""
FACTORED = 512
"""Beyond, so many of the fastest parameters have their block of the Hessian factored."""
TSIT5_STABLE = 3.3
"""Where the stability region of Tsit5 ends on the negative axis."""
EXPLICIT = 500
"""Up to this many steps, as stability demands them, an explicit solver costs less than a matrix-free implicit one."""


class Choice(enum.Enum):
    """A solver, in words."""

    ELIMINATED = "Rodas5P, closed-form Hessian"
    DENSE = "Rodas5P, dense Jacobian"
    EXPLICIT = "Tsit5"
    MATRIX_FREE = "Rodas5P, matrix-free"


class FlowEquation(eqx.Module):
    """The flow of a model in slow time; its state is the vector of the leaves that train."""

    epsilons: tuple[Float[Array, ""], ...]
    """Of each slow group."""
    problem: AbstractProblem
    groups: Groups
    """Those of the start."""
    structure: Structure
    eliminates: bool = eqx.field(static=True)
    """Whether the Hessian is known in closed form, and the inner layer alone is slow."""

    def __init__(
        self, epsilons: tuple[Float[Array, ""], ...], problem: AbstractProblem, groups: Groups, structure: Structure
    ):
        self.epsilons, self.problem, self.groups, self.structure = epsilons, problem, groups, structure
        self.eliminates = structure.hessian is not None and groups.own

    @property
    def setting(self) -> Setting | None:
        """Where smooth steps learn piecewise constant targets."""
        if self.structure.staircases is None or not self.eliminates:
            return None
        targets, eta = self.structure.staircases(self.problem), self.groups.fixed.activation.eta
        if len(targets) == 1:
            return Setting(self.epsilons[0], None, eta, targets[0].jumps, targets[0].values)
        most = max(len(target.jumps) for target in targets)
        # Jumps of height 0 fill up.
        jumps = [jnp.pad(target.jumps, (0, most - len(target.jumps)), constant_values=1.0) for target in targets]
        values = [jnp.pad(target.values, (0, most - len(target.jumps)), mode="edge") for target in targets]
        return Setting(self.epsilons[0], None, eta, jnp.stack(jumps, axis=1), jnp.stack(values, axis=1))

    def ravel(self, moving: PyTree) -> Float[Array, " n"]:
        return jnp.concatenate(moving.vectors) if self.eliminates else ravel_pytree(moving)[0]

    def unravel(self, y: Float[Array, " n"]) -> PyTree:
        moving = self.groups.moving
        if not self.eliminates:
            return ravel_pytree(moving)[1](y)
        outer, _ = moving.vectors
        return moving.with_vectors(y[: len(outer)], y[len(outer) :])

    def gradient(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.ravel(risk_gradient(self.problem, self.structure, self.unravel(y), self.groups.fixed))

    @property
    def mobility(self) -> Float[Array, " n"]:
        r"""The diagonal of M in $dy/dt = -M\,\nabla R$, in fast time."""
        ones = jax.tree.map(jnp.ones_like, self.groups.moving)
        slowed = two_timescale(optax.identity(), self.epsilons, self.groups.labels)
        return self.ravel(slowed.update(ones, slowed.init(ones))[0])

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
            epsilons, fixed, problem = args
            moving = self.unravel(y)
            mobility = two_timescale(optax.scale(-1.0), epsilons, self.groups.labels)
            gradient = risk_gradient(problem, self.structure, moving, fixed)
            descent, _ = mobility.update(gradient, mobility.init(moving))
            return self.ravel(descent) / slowest(epsilons)

        if isinstance(solver, Choice):
            method, solver = solver.value, self._solver(solver, model_at)
        else:
            method = type(solver).__name__
        return InitialValueProblem(
            vector_field=velocity,
            y0=self.ravel(self.groups.moving),
            args=(self.epsilons, self.groups.fixed, self.problem),
            solver=solver,
            method=method,
            dt0=1e-2 * slowest(self.epsilons),
            model_at=model_at,
            closed_form=self.structure.closed_form,
        )

    def _solver(self, choice: Choice, model_at: Callable[[Array, PyTree], PyTree]) -> diffrax.AbstractSolver:
        hessian = self.structure.hessian
        if choice is Choice.EXPLICIT:
            return diffrax.Tsit5()
        if choice is Choice.ELIMINATED and hessian is not None:
            linear = EliminatedWeights(lambda y, args: (args[0][0], hessian(args[2], model_at(y, args))))
            return Rodas5P(linear, autonomous=True)
        if choice is Choice.DENSE:
            return Rodas5P(DenseJacobian(), autonomous=True)
        spread = jax.tree.map(lambda label, leaf: np.full(leaf.size, label), self.groups.labels, self.groups.moving)
        group = np.concatenate(jax.tree.leaves(spread))
        factored = int((np.cumsum(np.bincount(group)) <= FACTORED).sum())

        def mobility(args):
            epsilons, *_ = args
            speeds = jnp.stack([jnp.ones_like(epsilons[0]), *epsilons])
            return (speeds / slowest(epsilons))[group]

        return Rodas5P(FactoredFastBlock(mobility, np.flatnonzero(group < factored)), autonomous=True)


@program
def _spectral_radius(equation: FlowEquation) -> Float[Array, ""]:
    problem = equation.initial_value_problem(Choice.EXPLICIT)
    return spectral_radius(problem.vector_field, problem.y0, problem.args)
