"""The gradient flow at two time scales."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real
from typing_extensions import override

from .. import checks
from ..networks import trainable
from ..problems import AbstractProblem
from ..solvers import DenseJacobian, Rodas5P
from ..trajectory import Trajectory, risk_and_status
from . import structured
from .base import AbstractDynamics, refuse_samples, timescale_labels, two_timescale
from .matrix_free import FactoredFastBlock, spectral_radius
from .ode import Integration, integrate

DENSE = 512
"""Up to this many parameters a Jacobian is factored."""
TSIT5_STABLE = 3.3
"""Where the stability region of Tsit5 ends on the negative axis."""
EXPLICIT = 10_000
"""Up to this many steps, as stability demands them, an explicit solver costs less than a matrix-free implicit one."""


class GradientFlow(AbstractDynamics):
    r"""The gradient flow in fast time t, saved in slow time $\tau = \epsilon t$.

    $$\frac{da}{dt} = -\nabla_a R, \qquad \frac{du}{dt} = -\epsilon\,\nabla_u R$$

    $R$ is `problem.risk`: the mean squared error, without a factor 1/2. The equation is integrated in slow time by a
    stiff solver, for any `epsilon` from 1 to 1e-9.

    Without a `solver`, a one-dimensional `ShallowNetwork` of `SmoothStep` neurons on a `Regression` is solved by
    `Rodas5P` with the closed-form Hessian, and any other model of up to 512 parameters by `Rodas5P` with a Jacobian by
    automatic differentiation. A larger model is solved by `Rodas5P` without a matrix: conjugate gradients on
    Hessian-vector products, preconditioned by the block of the fast parameters where it has up to 512 rows. It is
    solved by `diffrax.Tsit5`, which is explicit, where the Jacobian at the start has a spectral radius for which 10,000
    steps are stable up to the last save time (not under `jit` or `vmap`, where this is not known). `stats.method` says
    which. Any Diffrax solver can be given; one without an error estimate (`diffrax.Euler()`) steps from one save time
    to the next.

    The default tolerances on the local error are `rtol = atol = 1e-10` in 64-bit, and 1e-5 in 32-bit, for a rough
    picture only. Near `epsilon = 1` some starts pass close to saddle points, which amplify any error. `max_steps`
    caps the solver's steps; a run that ends early says why in `status` and has NaN at the times it did not reach.

    Gradients of anything at any save time with respect to `epsilon`, the start, the widths and the target are those
    of the numerical solution. `adjoint` says how, as in Diffrax: the default `RecursiveCheckpointAdjoint` is for
    reverse mode (five to seven times the cost of the solve), `diffrax.ForwardMode()` for forward mode.

    `slow` says which leaves are slow, as in `slow=lambda model: model.layers[0]`; a `ShallowNetwork` knows its own.

    Raises `ValueError` for an `epsilon` that is not positive.

    Source: Marion and Berthier (2023), arXiv 2304.09576.
    """

    epsilon: Float[Array, ""]
    slow: Callable[[PyTree], Any] | None = eqx.field(static=True)
    solver: diffrax.AbstractSolver | None
    integration: Integration

    def __init__(
        self,
        epsilon: Real[ArrayLike, ""],
        slow: Callable[[PyTree], Any] | None = None,
        solver: diffrax.AbstractSolver | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        max_steps: int = 2**17,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        self.epsilon = checks.as_float(checks.positive("epsilon", epsilon))
        self.slow = slow
        self.solver = solver
        self.integration = Integration(rtol, atol, max_steps, adjoint)

    @override
    def run(
        self,
        model: PyTree,
        problem: AbstractProblem,
        slow_times: Float[Array, " t"],
        *,
        key: Key[Array, ""] | None,
        samples: tuple[ArrayLike, ArrayLike] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Trajectory:
        refuse_samples(self, samples)
        labels = timescale_labels(model, self.slow)
        return _solve(self, model, problem, labels, slow_times, _is_mild(self, model, problem, labels, slow_times[-1]))


class Equation(NamedTuple):
    """The flow as Diffrax takes it, in slow time."""

    vector_field: Callable[[ArrayLike, Array, PyTree], Array]
    y0: Float[Array, " n"]
    args: PyTree
    model_at: Callable[[Array, PyTree], PyTree]
    solver: diffrax.AbstractSolver
    method: str
    """The solver in words."""


def equation(
    flow: GradientFlow, model: PyTree, problem: AbstractProblem, labels: PyTree[str], mild: bool = False
) -> Equation:
    """The equation, and the solver that suits it; `mild` where it is known not to be very stiff."""
    params, fixed = eqx.partition(model, trainable(model))
    closed_form = structured.applies(model, problem, labels)
    if closed_form:
        ravel, unravel = structured.ravel, lambda y: structured.unravel(y, params)
    else:
        ravel, unravel = lambda tree: ravel_pytree(tree)[0], ravel_pytree(params)[1]

    def model_at(y, args):
        _, fixed, _ = args
        return eqx.combine(unravel(y), fixed)

    def velocity(t, y, args):
        epsilon, _, problem = args
        model = model_at(y, args)
        mobility = two_timescale(optax.scale(-1.0), epsilon, labels)
        gradient = eqx.filter(problem.gradient(model), trainable(model))
        descent, _ = mobility.update(gradient, mobility.init(params))
        return ravel(descent) / epsilon

    y0 = ravel(params)
    if flow.solver is not None:
        solver, method = flow.solver, type(flow.solver).__name__
    elif closed_form:
        linear = structured.EliminatedWeights(lambda y, args: (args[0], model_at(y, args), args[2]))
        solver, method = Rodas5P(linear, autonomous=True), "Rodas5P, closed-form Hessian"
    elif len(y0) <= DENSE:
        solver, method = Rodas5P(DenseJacobian(), autonomous=True), "Rodas5P, dense Jacobian"
    elif mild:
        solver, method = diffrax.Tsit5(), "Tsit5"
    else:
        sizes = jax.tree.map(lambda label, leaf: np.full(leaf.size, label == "fast"), labels, params)
        is_fast = np.concatenate(jax.tree.leaves(sizes))
        fast = np.flatnonzero(is_fast) if is_fast.sum() <= DENSE else np.zeros(0, int)
        linear = FactoredFastBlock(lambda args: jnp.where(is_fast, 1 / args[0], 1.0), fast)
        solver, method = Rodas5P(linear, autonomous=True), "Rodas5P, matrix-free"
    return Equation(velocity, y0, (flow.epsilon, fixed, problem), model_at, solver, method)


def _is_mild(
    flow: GradientFlow, model: PyTree, problem: AbstractProblem, labels: PyTree[str], end: Float[Array, ""]
) -> bool:
    """Whether a large model, of which nothing is traced, is worth an explicit solver."""
    size = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, trainable(model))))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((flow, model, problem, end)))
    if flow.solver is not None or size <= DENSE or structured.applies(model, problem, labels) or traced:
        return False
    return bool(end * _spectral_radius(flow, model, problem, labels) < EXPLICIT * TSIT5_STABLE)


@eqx.filter_jit
def _spectral_radius(
    flow: GradientFlow, model: PyTree, problem: AbstractProblem, labels: PyTree[str]
) -> Float[Array, ""]:
    field, y0, args, *_ = equation(flow, model, problem, labels)
    return spectral_radius(field, y0, args)


@eqx.filter_jit
def _solve(
    flow: GradientFlow,
    model: PyTree,
    problem: AbstractProblem,
    labels: PyTree[str],
    slow_times: Float[Array, " t"],
    mild: bool,
) -> Trajectory:
    field, y0, args, model_at, solver, method = equation(flow, model, problem, labels, mild)
    states, status, stats = integrate(
        field, y0, args, slow_times, solver, flow.integration, 1e-2 * flow.epsilon, method
    )
    moving = jax.vmap(lambda y: eqx.filter(model_at(y, args), trainable(model)))(states)
    stacked = eqx.combine(moving, model)
    risk, status = risk_and_status(problem, stacked, status)
    return Trajectory(
        slow_time=slow_times,
        fast_time=slow_times / flow.epsilon,
        step=None,
        model=stacked,
        risk=risk,
        status=status,
        stats=stats,
    )
