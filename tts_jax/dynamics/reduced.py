"""The reduced flow: weights at their optimum, positions moving."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real
from typing_extensions import override

from .. import checks
from ..networks import ShallowNetwork
from ..problems import AbstractProblem, Regression
from ..quadratic import NormalEquations
from ..solvers import DenseJacobian, Rodas5P
from ..trajectory import Trajectory, risk_and_status
from .base import AbstractDynamics, refuse_samples
from .ode import Integration, integrate


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

    ridge: Float[Array, ""]
    integration: Integration

    def __init__(
        self,
        ridge: Real[ArrayLike, ""] = 0.0,
        rtol: float | None = None,
        atol: float | None = None,
        max_steps: int = 2**17,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        self.ridge = checks.as_float(checks.non_negative("ridge", ridge))
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
        if not isinstance(model, ShallowNetwork):
            raise ValueError(f"ReducedFlow needs a model that is linear in its weights, got {type(model).__name__}")
        return _solve(self, model, problem, slow_times)


def optimal_weights(equations: NormalEquations, ridge: Float[Array, ""]) -> Float[Array, " n"]:
    """The minimiser of the risk plus `ridge * |a|^2`, of least norm where there are several."""
    gram = equations.gram + ridge * jnp.eye(len(equations.gram), dtype=equations.gram.dtype)
    return lx.linear_solve(lx.MatrixLinearOperator(gram), equations.cross, lx.SVD(), throw=False).value


@eqx.filter_jit
def _solve(
    flow: ReducedFlow, model: ShallowNetwork, problem: AbstractProblem, slow_times: Float[Array, " t"]
) -> Trajectory:
    def fitted(positions, args):
        ridge, model, problem = args
        moved = eqx.tree_at(lambda m: m.positions, model, positions.reshape(model.positions.shape))
        weights = optimal_weights(problem.normal_equations(moved), ridge)
        if model.bias is not None:
            moved = eqx.tree_at(lambda m: m.bias, moved, weights[0])
            weights = weights[1:]
        return eqx.tree_at(lambda m: m.weights, moved, weights.reshape(model.weights.shape))

    def velocity(t, positions, args):
        return -args[2].gradient(fitted(positions, args)).positions.ravel()

    def jacobian(t, positions, args):
        ridge, _, problem = args
        d_aa, d_au, d_uu = problem.hessian(fitted(positions, args))
        d_aa = d_aa + 2 * ridge * jnp.eye(len(d_aa), dtype=d_aa.dtype)
        return d_au.T @ jnp.linalg.pinv(d_aa, hermitian=True) @ d_au - d_uu

    closed_form = isinstance(problem, Regression) and problem.closed_form(model)
    args = (flow.ridge, model, problem)
    states, status, stats = integrate(
        velocity,
        model.positions.ravel(),
        args,
        slow_times,
        Rodas5P(DenseJacobian(jacobian if closed_form else None), autonomous=True),
        flow.integration,
        jnp.asarray(1e-6, slow_times.dtype),
        f"Rodas5P, {'closed-form' if closed_form else 'dense'} Jacobian",
    )
    fits = jax.vmap(lambda positions: fitted(positions, args))(states)
    stacked = eqx.tree_at(lambda m: m.activation, fits, model.activation)
    risk, status = risk_and_status(problem, stacked, status)
    return Trajectory(
        slow_time=slow_times, fast_time=None, step=None, model=stacked, risk=risk, status=status, stats=stats
    )
