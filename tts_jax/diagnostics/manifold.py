"""How far a run is from where its fast weights would come to rest."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .. import _checks as checks
from ..dynamics.reduced import optimal_weights
from ..problems import AbstractProblem
from ..trajectory import Trajectory


def distance_to_slow_manifold(trajectory: Trajectory, problem: AbstractProblem) -> Float[Array, " t"]:
    r"""$\lVert f_{a, u} - f_{a^*(u), u} \rVert$ at each save, shape (t,): from the weights to their optimum at these u.

    Of a `trajectory` on its `problem`. $a^*(u)$ minimises the risk, a quadratic form with the matrix G in the weights
    (and the bias): it is the solution of least norm of the normal equations $G a = b$, as in `ReducedFlow`, whose
    trajectories lie on this manifold. So

    $$\lVert f_{a, u} - f_{a^*, u} \rVert^2 = (a - a^*)^T G\,(a - a^*) = R(a, u) - R(a^*, u).$$

    The norm is that of the risk: of $L^2$ over the inputs of a `Regression` or a `GaussianRegression`, and the root of
    the mean square over the rows of a `Dataset`. After a layer of slow time $O(\epsilon)$ a `GradientFlow` is
    $O(\epsilon)$ away (Tikhonov, Fenichel). Exact to rounding; to 1e-8 of the weights where G is nearly singular.

    >>> import jax, tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork([[0.0]], [[0.5]], 0.5, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.SGD(0.1, 0.01, None), model, problem, [0.0])
    >>> print(distance_to_slow_manifold(run, problem).round(2))
    [0.49]

    Raises `ValueError` for a model and a problem without normal equations, and for many runs: use `jax.vmap`.

    Source: Fenichel (1979), Geometric singular perturbation theory for ordinary differential equations, J. Differential
    Equations 31; Golub and Pereyra (1973) for variable projection.
    """
    if not isinstance(trajectory, Trajectory):
        raise ValueError(f"a trajectory comes first, got {checks.called(trajectory)}: pass what simulate returned")
    if not isinstance(problem, AbstractProblem):
        raise ValueError(f"a problem must follow the trajectory, got {checks.called(problem)}: pass a Regression")

    def measure(model: PyTree) -> Float[Array, ""]:
        equations = problem.normal_equations(model)
        weights, _ = model.vectors
        apart = weights - optimal_weights(equations, jnp.zeros_like(equations.square))
        return jnp.sqrt(jnp.maximum(apart @ equations.gram @ apart, 0.0))

    return trajectory.map(measure)
