"""How fast a flow moves in each direction, and how stiff that makes it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree, Real
from scipy.sparse.linalg import LinearOperator, eigsh

from .. import _checks as checks
from ..dynamics import GradientFlow
from ..dynamics.base import Pick
from ..dynamics.flow.equation import FlowEquation
from ..problems import AbstractProblem

DENSE = 2048
"""Up to this many parameters there is a matrix."""
ROWS = 64
"""Of it, at once."""


def spectrum(
    model: PyTree,
    problem: AbstractProblem,
    epsilon: Real[ArrayLike, ""] | tuple[Real[ArrayLike, ""], ...],
    slow: Pick | tuple[Pick, ...] | None = None,
    frozen: Pick | None = None,
    extreme: int | None = None,
) -> Float[Array, " n"]:
    r"""The rates of the gradient flow at a model: all eigenvalues of $M^{1/2} H M^{1/2}$, ascending.

    The flow $y' = -M\,\nabla R(y)$ in fast time t, with M = 1 for fast parameters and $\epsilon$ for slow ones, has the
    Jacobian $-MH$, H the Hessian of `problem.risk` (the squared error has no factor 1/2). It is similar to the
    symmetric $-M^{1/2} H M^{1/2}$: a direction of rate $\lambda$ decays like $e^{-\lambda t}$, and one of negative rate
    grows. In slow time rates are $\lambda/\min(\epsilon)$. Where training has two time scales they lie in two bands, a
    factor $\epsilon$ apart; `plot.spectra` shows them.

    **Arguments:**

    - `model`, `problem`: any; H is a closed form where `problem.structure(model)` knows one, else by automatic
      differentiation
    - `epsilon`, `slow`, `frozen`: as of `GradientFlow`
    - `extreme`: `extreme=k` finds the k smallest and the k largest alone, shape (2k,): beyond 2,048 parameters by
      Lanczos (ARPACK) on Hessian-vector products, each to 1.5e-8 of the largest (3e-4 in 32-bit), not under `jit` and
      `vmap`

    Shape (n,) for n parameters that move, each right to rounding of the largest. Under `jit`, `vmap` and `grad`, so
    that of a run they are, in shape (t, n),

    `trajectory.map(lambda model: spectrum(model, problem, epsilon))`

    >>> import tts_jax as tts
    >>> problem = tts.Dataset([[1.0], [3.0]], [0.0, 0.0])
    >>> model = tts.ShallowNetwork([[1.0]], [[0.0]], None, tts.ReLU())  # H = [[10, -8], [-8, 2]]
    >>> print(spectrum(model, problem, 0.1).round(2))
    [-0.41 10.61]

    Raises `ValueError` as `GradientFlow` does; for more than 2,048 parameters without `extreme`, and for an `extreme`
    that is more than half of them.

    Source: Marion and Berthier (2023), arXiv 2304.09576, for the flow; Lehoucq, Sorensen and Yang (1998), ARPACK
    Users' Guide.
    """
    if not isinstance(problem, AbstractProblem):
        raise ValueError(f"a problem must follow the model, got {checks.called(problem)}: pass a Regression")
    flow = GradientFlow(epsilon, slow, frozen=frozen)
    problem.check(model)
    equation = flow.equation(model, problem)
    count = sum(leaf.size for leaf in jax.tree.leaves(equation.groups.moving))
    if extreme is None and count > DENSE:
        raise ValueError(
            f"all rates are found for {DENSE:,} parameters at most, got {count:,}: pass extreme=10 for 10 at each end"
        )
    if extreme is not None and 2 * checks.count("extreme", extreme) > count:
        raise ValueError(f"extreme must be at most half of the {count:,} parameters, got {extreme:,}: leave it out")
    if extreme is not None and count > DENSE:
        return _at_both_ends(equation, extreme)
    rates = _all(equation)
    return rates if extreme is None else jnp.concatenate([rates[:extreme], rates[-extreme:]])


class Stiffness(eqx.Module):
    """How stiff a flow is: what `stiffness` finds. Rates are per fast time."""

    fastest: Float[Array, "*t"]
    """The largest rate, without its sign."""
    slowest: Float[Array, "*t"]
    """The smallest that is not zero to rounding, without its sign."""
    ratio: Float[Array, "*t"]
    """Of both: how stiff the flow is."""
    step: Float[Array, "*t"]
    """In fast time, beyond which explicit Euler, and so full-batch descent, is unstable: 2 over the fastest."""


def stiffness(rates: Float[Array | np.ndarray, "*t n"] | list[float]) -> Stiffness:
    r"""How stiff a flow of such `rates` is, from its `spectrum`, shape (n,); of shape (t, n), one number for each time.

    The ratio $\max\lvert\lambda\rvert / \min\lvert\lambda\rvert$ of extreme rates, and the largest step in fast time
    for which $y_{k+1} = y_k - h M\,\nabla R$ is stable, $h = 2/\max\lvert\lambda\rvert$. Rates below rounding of the
    fastest are those of directions in which nothing moves, as of a neuron without weight: they are left out.

    >>> found = stiffness([1e-3, 0.5, 4.0])
    >>> print(found.ratio, found.step)
    4000.0 0.5

    Raises `ValueError` for what is no array of numbers.

    Source: Hairer and Wanner (1996), Solving Ordinary Differential Equations II, IV.1 and IV.2.
    """
    size = jnp.abs(checks.leaf("rates", rates))
    if not size.ndim or not size.size:
        raise ValueError(f"rates must have an axis of rates, got shape {size.shape}: pass what spectrum returned")
    fastest = jnp.max(size, axis=-1)
    rounding = size.shape[-1] * jnp.finfo(size.dtype).eps * fastest
    slowest = jnp.min(jnp.where(size > rounding[..., None], size, fastest[..., None]), axis=-1)
    return Stiffness(fastest, slowest, fastest / slowest, 2 / fastest)


@eqx.filter_jit
def _all(equation: FlowEquation) -> Float[Array, " n"]:
    root = jnp.sqrt(equation.mobility)
    return jnp.linalg.eigvalsh(root[:, None] * _hessian(equation) * root[None])


def _hessian(equation: FlowEquation) -> Float[Array, "n n"]:
    y, closed_form = equation.ravel(equation.groups.moving), equation.structure.hessian
    if closed_form is not None and equation.eliminates:
        model = eqx.combine(equation.groups.moving, equation.groups.fixed)
        d_aa, d_au, d_uu = closed_form(equation.problem, model)
        return jnp.block([[d_aa, d_au], [d_au.T, d_uu]])
    _, product = jax.linearize(equation.gradient, y)
    return jax.lax.map(product, jnp.eye(len(y), dtype=y.dtype), batch_size=ROWS)


@eqx.filter_jit
def _product(equation: FlowEquation, vector: Float[Array, " n"]) -> Float[Array, " n"]:
    root = jnp.sqrt(equation.mobility)
    y = equation.ravel(equation.groups.moving)
    return root * jax.jvp(equation.gradient, (y,), (root * vector,))[1]


def _at_both_ends(equation: FlowEquation, count: int) -> Float[Array, " n"]:
    """The smallest as the largest below the largest of all: near zero no relative tolerance would be met."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(equation)):
        raise ValueError(
            "extreme rates of so many parameters are found outside of jax.jit and jax.vmap alone, got a traced model: "
            "loop over [trajectory.at(k) for k in range(len(trajectory.slow_time))]"
        )
    y = np.asarray(equation.ravel(equation.groups.moving))

    def largest(product):
        operator = LinearOperator((len(y), len(y)), matvec=product, dtype=y.dtype)
        start = np.random.default_rng(0).normal(size=len(y)).astype(y.dtype)
        tolerance = np.sqrt(np.finfo(y.dtype).eps)
        return np.sort(eigsh(operator, count, which="LA", v0=start, tol=tolerance, return_eigenvectors=False))

    def product(vector):
        return np.asarray(_product(equation, jnp.asarray(vector.ravel())))

    top = largest(product)
    bottom = top[-1] - largest(lambda vector: top[-1] * vector.ravel() - product(vector))
    return jnp.asarray(np.concatenate([bottom[::-1], top]))
