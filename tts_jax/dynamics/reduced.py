"""The reduced flow: weights at their optimum, positions moving."""

from functools import partial
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, PyTree, Real
from typing_extensions import override

from .. import _checks as checks
from .._lanes import lanes_last
from .._platform import alone
from .._program import program
from .._progress import Look
from ..activations import SmoothStep
from ..exact.forms import NormalEquations
from ..networks import AbstractTwoLayerNetwork, ShallowNetwork, trainable
from ..problems import AbstractProblem, Structure
from ..problems.base import risk_gradient
from ..solvers import DenseJacobian, Rodas5P, ensemble
from ..solvers.ensemble import Runs, Solutions
from ..trajectory import Stats, Trajectory, is_finite, risk_and_status
from .base import AbstractDynamics, Task
from .flow import local
from .flow.neurons import Setting
from .flow.side_by_side import look_on, pulled_back_as, runs_of
from .integration import InitialValueProblem, Integration, Solution, integrate, integrate_in_parts

FIRST_STEP = 1e-6
"""To try, in slow time."""
BANDED = "Rodas5P, banded"


class ReducedFlow(AbstractDynamics):
    r"""The limit $\epsilon \to 0$ of `GradientFlow` at a finite width of the neurons (variable projection).

    $$\frac{du}{d\tau} = -\nabla_u R(a^*(u), u), \qquad a^*(u) = \operatorname{argmin}_a R(a, u) + \text{ridge}\,|a|^2$$

    in slow time, with R the mean squared error without a factor 1/2. $a^*$ (with the bias) solves the normal equations
    $(G + \text{ridge})\,a = b$; where $G$ is singular, as for coincident neurons or a neuron outside [0, 1], it is the
    solution of least norm. The weights and the bias of the start do not matter. `fast_time` and `step` of the
    trajectory are None.

    **Arguments:**

    - `ridge`: 0 or more. Where it is positive the positions follow the penalised risk; `Trajectory.risk` is still the
      risk itself
    - `rtol`, `atol`: the local error of a step is kept below `atol + rtol * |y|`; by default both are 1e-10 in 64-bit,
      1e-5 in 32-bit
    - `max_steps`: caps the solver's steps; a run that ends early says why in `status`
    - `adjoint`: how derivatives are taken, as of `GradientFlow`

    For smooth steps on a `PiecewiseConstant` of one input, `Rodas5P` solves the differential-algebraic equation of
    index 1, $0 = \nabla_a(R + \text{ridge}\,|a|^2)$ beside that of u, in local coordinates with banded matrices: a step
    is linear in the neurons, and runs lie side by side under `jax.vmap`. At each save the weights are fitted once more.
    Elsewhere, in reverse, and with `adjoint=diffrax.ForwardMode()`, it solves for the positions alone, with the
    Jacobian $R_{ua} R_{aa}^+ R_{au} - R_{uu}$.

    *Neurons that merge.* Neighbours may close up on a jump, their weights growing without bound with opposite signs:
    together they draw a step steeper than their activation. What is regular there is the sum of the weights and
    the dipole, weight times gap. A ridge $\lambda$ holds the rest, of $2 + 500\,\eta$ units of rounding (for $\eta =
    0.004$, $10^{-15}$), and of up to a thousand times that where three merge: the gap of two ends at some
    $(\lambda/\eta)^{1/4}\,\eta$, and their risk is off by $O(\lambda^{1/2})$, $10^{-9}$ for two on a jump of height 4.
    Of three, it is off by $O(\lambda^{1/5})$, as that of `GradientFlow` is by $O(\epsilon^{1/5})$.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.3], [0.8]], 0.0, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.ReducedFlow(), model, problem, [0.0, 0.1])
    >>> bool(run.risk[-1] < run.risk[0]), run.fast_time is None
    (True, True)

    Raises `ValueError` for a negative `ridge` and for tolerances or `max_steps` that are not positive, and in
    `simulate` for a model or a problem without normal equations.

    Source: Marion and Berthier (2023), arXiv 2304.09576; Golub and Pereyra (1973) for variable projection.
    """

    shards = False  # Lineax cannot be traced under `jax.shard_map`
    resumable = False
    stochastic = False

    ridge: Float[Array, ""]
    integration: Integration

    def __init__(
        self,
        ridge: Real[ArrayLike, ""] = 0.0,
        rtol: Real[ArrayLike, ""] | None = None,
        atol: Real[ArrayLike, ""] | None = None,
        max_steps: int = 2**17,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        self.ridge = checks.as_float(checks.non_negative("ridge", ridge))
        self.integration = Integration(rtol, atol, max_steps, adjoint)

    @override
    def side_by_side(self, model: PyTree, problem: AbstractProblem) -> bool:
        return problem.structure(model).banded and self.integration.by_reverse_mode

    @override
    def run(self, task: Task) -> Trajectory:
        structure = task.problem.structure(task.model)
        if not isinstance(task.model, AbstractTwoLayerNetwork):
            raise ValueError(
                f"ReducedFlow needs a model that is linear in its weights, got {type(task.model).__name__}: "
                "pass a ShallowNetwork or a PerceptronNetwork"
            )
        if structure.normal_equations is None:
            raise ValueError(structure.refusal)
        inputs = _Inputs(self, task.model, task.problem, structure, task.elapsed)
        return _trajectory(inputs, _found(inputs, task.look))


def optimal_weights(equations: NormalEquations, ridge: Float[Array, ""]) -> Float[Array, " n"]:
    """The minimiser of the risk plus `ridge * |a|^2`, of least norm where there are several."""
    gram = equations.gram + ridge * jnp.eye(len(equations.gram), dtype=equations.gram.dtype)
    return lx.linear_solve(lx.MatrixLinearOperator(gram), equations.cross, lx.SVD(), throw=False).value


class _Inputs(NamedTuple):
    flow: ReducedFlow
    model: AbstractTwoLayerNetwork
    problem: AbstractProblem
    structure: Structure
    slow_times: Float[Array, " t"]

    @property
    def start(self) -> Float[Array, " m"]:
        """The positions; NaN where anything of the model is."""
        finite = is_finite(eqx.filter(self.model, trainable(self.model)))
        return jnp.where(finite, self.model.vectors[1], jnp.nan)

    @property
    def has_bias(self) -> bool:
        outer, inner = self.model.vectors
        return len(outer) > len(inner)


def _found(inputs: _Inputs, look: Look) -> tuple[str, Solutions]:
    """In words how, and what."""
    flow, _, _, structure, slow_times = inputs
    if structure.banded and alone():
        return BANDED, _fitted_at_saves(inputs, look_on(_runs(inputs), look))
    if structure.banded and flow.integration.by_reverse_mode:
        return BANDED, _side_by_side(inputs)
    method = f"Rodas5P, {'dense' if structure.hessian is None else 'closed-form'} Jacobian"
    if alone():
        make = eqx.Partial(_equation, inputs)
        return method, _with_weights(inputs, integrate_in_parts(make, slow_times, flow.integration, look))
    return method, _of_positions(inputs)


def _setting(inputs: _Inputs) -> Setting:
    flow, model, problem, structure, _ = inputs
    assert structure.staircase is not None
    assert isinstance(model, ShallowNetwork)
    assert isinstance(model.activation, SmoothStep)
    target, eta = structure.staircase(problem), model.activation.eta
    return Setting(jnp.zeros_like(eta), flow.ridge, eta, target.jumps, target.values)


class _Leaves(NamedTuple):
    """Of runs, which are the last axis."""

    u: Float[Array, "m #lanes"]
    setting: Setting
    slow_times: Float[Array, "t #lanes"]
    first_step: Float[Array, " #lanes"]
    tolerances: tuple[Float[Array, " #lanes"], Float[Array, " #lanes"]]


def _leaves(inputs: _Inputs) -> _Leaves:
    """Of one run."""
    u = inputs.start
    tolerances = inputs.flow.integration.tolerances(u.dtype, closed_form=True)
    first_step = jnp.full_like(inputs.slow_times[0], FIRST_STEP)
    leaves = u, _setting(inputs), inputs.slow_times, first_step, tolerances
    return _Leaves(*jax.tree.map(lambda leaf: leaf[..., None], leaves))


def _begin(leaves: _Leaves, has_bias: bool, max_steps: int) -> Runs:
    u, setting, slow_times, first_step, tolerances = leaves
    y0 = local.fitted(u, has_bias, setting)
    return runs_of(y0, setting, slow_times, first_step, tolerances, max_steps)


@program
def _runs(inputs: _Inputs) -> Runs:
    return _begin(_leaves(inputs), inputs.has_bias, inputs.flow.integration.max_steps)


@program
def _fitted_at_saves(inputs: _Inputs, found: Solutions) -> Solutions:
    states = _refitted(found.saved[..., None], inputs.has_bias, _leaves(inputs).setting)
    return found._replace(saved=states[..., 0])


def _refitted(states: Float[Array, "t n lanes"], has_bias: bool, setting: Setting) -> Float[Array, "t n lanes"]:
    """With the weights once more at their optimum."""
    saves, n, runs = states.shape
    u = jnp.moveaxis(states[:, -(n // 2) :], 0, 1).reshape(n // 2, saves * runs)
    beside = jax.tree.map(lambda leaf: leaf if leaf.shape[-1] == 1 else jnp.tile(leaf, saves), setting)
    return jnp.moveaxis(local.fitted(u, has_bias, beside).reshape(n, saves, runs), 1, 0)


def _equation(inputs: _Inputs) -> InitialValueProblem:
    """Of the positions alone."""
    flow, model, problem, structure, _ = inputs
    trains = trainable(model)
    equations, hessian = structure.normal_equations, structure.hessian
    assert equations is not None

    def fitted(u, args):
        ridge, model, problem = args
        moved = model.with_vectors(model.vectors[0], u)
        return moved.with_vectors(optimal_weights(equations(problem, moved), ridge), u)

    def velocity(t, u, args):
        _, _, problem = args
        _, d_u = risk_gradient(problem, structure, *eqx.partition(fitted(u, args), trains)).vectors
        return -d_u

    def eliminate(t, u, args, hessian):
        ridge, _, problem = args
        d_aa, d_au, d_uu = hessian(problem, fitted(u, args))
        d_aa = d_aa + 2 * ridge * jnp.eye(len(d_aa), dtype=d_aa.dtype)
        return d_au.T @ jnp.linalg.pinv(d_aa, hermitian=True) @ d_au - d_uu

    return InitialValueProblem(
        vector_field=velocity,
        y0=inputs.start,
        args=(flow.ridge, model, problem),
        solver=Rodas5P(
            DenseJacobian(None if hessian is None else partial(eliminate, hessian=hessian)), autonomous=True
        ),
        method=f"Rodas5P, {'dense' if hessian is None else 'closed-form'} Jacobian",
        dt0=jnp.asarray(FIRST_STEP, float),
        model_at=fitted,
        closed_form=structure.closed_form,
    )


@eqx.filter_jit
def _of_positions(inputs: _Inputs) -> Solutions:
    """By Diffrax."""
    return _with_weights(inputs, integrate(_equation(inputs), inputs.slow_times, inputs.flow.integration))


@program
def _with_weights(inputs: _Inputs, solution: Solution) -> Solutions:
    equation = _equation(inputs)
    states = jax.vmap(lambda u: jnp.concatenate(equation.model_at(u, equation.args).vectors))(solution.states)
    return Solutions(states, solution.status, solution.stats.steps, solution.stats.rejected)


@pulled_back_as(_of_positions)
def _side_by_side(inputs: _Inputs) -> Solutions:
    """In local coordinates, together with all that `jax.vmap` puts beside."""

    has_bias, max_steps = inputs.has_bias, inputs.flow.integration.max_steps

    def run(*leaves):
        found = ensemble.solve(_begin(_Leaves(*leaves), has_bias, max_steps))
        return found._replace(saved=_refitted(found.saved, has_bias, leaves[1]))

    return jax.tree.map(lambda leaf: leaf[..., 0], lanes_last(run)(*_leaves(inputs)))


@program
def _trajectory(inputs: _Inputs, how_and_what: tuple[str, Solutions]) -> Trajectory:
    _, model, problem, _, slow_times = inputs
    method, found = how_and_what
    trains = trainable(model)
    outer, _ = model.vectors
    fits = jax.vmap(lambda y: eqx.filter(model.with_vectors(y[: len(outer)], y[len(outer) :]), trains))(found.saved)
    stacked = eqx.combine(fits, eqx.filter(model, trains, inverse=True))
    risk, status = risk_and_status(problem, model, stacked, found.status)
    stats = Stats(method, found.steps, found.rejected, found.steps + found.rejected)
    return Trajectory(
        slow_time=slow_times, fast_time=None, step=None, model=stacked, risk=risk, status=status, stats=stats
    )
