"""The reduced flow: weights at their optimum, positions moving."""

from collections.abc import Callable
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real
from typing_extensions import override

from .. import _checks as checks
from .._platform import alone
from ..exact.forms import NormalEquations
from ..networks import AbstractTwoLayerNetwork, trainable
from ..problems import AbstractProblem, Structure
from ..problems.base import risk_gradient
from ..solvers import DenseJacobian, Rodas5P
from ..trajectory import Trajectory, risk_and_status
from .base import AbstractDynamics, Task
from .integration import InitialValueProblem, Integration, Solution, integrate, integrate_in_parts


class ReducedFlow(AbstractDynamics):
    r"""The limit $\epsilon \to 0$ of `GradientFlow` at a finite width of the neurons (variable projection).

    $$\frac{du}{d\tau} = -\nabla_u R(a^*(u), u), \qquad a^*(u) = \operatorname{argmin}_a R(a, u) + \text{ridge}\,|a|^2$$

    in slow time. $a^*$ (with the bias) solves the normal equations $(G + \text{ridge})\,a = b$; where $G$ is
    singular, as for coincident neurons or a neuron outside [0, 1], it is the solution of least norm. The weights and
    the bias of the start do not matter. `fast_time` and `step` of the trajectory are None.

    Integrated by `Rodas5P`, with the Jacobian $R_{ua} R_{aa}^+ R_{au} - R_{uu}$ of the closed-form Hessian where a
    `Regression` has one, with `rtol = atol = 1e-10` on the local error in 64-bit, 1e-5 in 32-bit. With `ridge > 0`
    the positions follow the penalised risk; `Trajectory.risk` is still the risk itself.

    Differentiable as `GradientFlow` is, by the same `adjoint`.

    Raises `ValueError` for a negative `ridge`, and in `simulate` for a model or a problem without normal equations.

    Source: Marion and Berthier (2023), arXiv 2304.09576; Golub and Pereyra (1973) for variable projection.
    """

    side_by_side = False
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
    def steps(self, slow_times: Float[np.ndarray, " t"]) -> None:
        return None

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
        make = eqx.Partial(_equation, self, task.model, task.problem, structure)
        if alone():
            solution = integrate_in_parts(make, task.elapsed, self.integration, task.look)
        else:
            solution = _solve(make, task.elapsed, self.integration)
        return _trajectory(make, task.problem, task.elapsed, solution)


def optimal_weights(equations: NormalEquations, ridge: Float[Array, ""]) -> Float[Array, " n"]:
    """The minimiser of the risk plus `ridge * |a|^2`, of least norm where there are several."""
    gram = equations.gram + ridge * jnp.eye(len(equations.gram), dtype=equations.gram.dtype)
    return lx.linear_solve(lx.MatrixLinearOperator(gram), equations.cross, lx.SVD(), throw=False).value


def _equation(
    flow: ReducedFlow, model: AbstractTwoLayerNetwork, problem: AbstractProblem, structure: Structure
) -> InitialValueProblem:
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
        y0=model.vectors[1],
        args=(flow.ridge, model, problem),
        solver=Rodas5P(
            DenseJacobian(None if hessian is None else partial(eliminate, hessian=hessian)), autonomous=True
        ),
        method=f"Rodas5P, {'dense' if hessian is None else 'closed-form'} Jacobian",
        dt0=jnp.asarray(1e-6, float),
        model_at=fitted,
        closed_form=structure.closed_form,
    )


@eqx.filter_jit
def _solve(make: Callable[[], InitialValueProblem], slow_times: Float[Array, " t"], how: Integration) -> Solution:
    return integrate(make(), slow_times, how)


@eqx.filter_jit
def _trajectory(
    make: Callable[[], InitialValueProblem],
    problem: AbstractProblem,
    slow_times: Float[Array, " t"],
    solution: Solution,
) -> Trajectory:
    equation = make()
    _, model, _ = equation.args
    trains = trainable(model)
    fits = jax.vmap(lambda u: eqx.filter(equation.model_at(u, equation.args), trains))(solution.states)
    stacked = eqx.combine(fits, eqx.filter(model, trains, inverse=True))
    risk, status = risk_and_status(problem, stacked, solution.status)
    return Trajectory(
        slow_time=slow_times, fast_time=None, step=None, model=stacked, risk=risk, status=status, stats=solution.stats
    )
