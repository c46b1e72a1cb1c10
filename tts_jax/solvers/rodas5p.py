"""Rodas5P: a linearly implicit method of order 5 for stiff problems."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool

from .shifted import AbstractShiftedJacobian, DenseJacobian, Time, Y

# The names follow the equations in the docstring of `Rodas5P`.
GAMMA = 0.21193756319429014

_A6 = (
    -7.502846399306121,
    2.561846144803919,
    -11.627539656261098,
    -0.18268767659942256,
    0.030198172008377946,
)
_A = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    _A6,
    (*_A6, 1.0),
    (*_A6, 1.0, 1.0),
)
_M = (*_A6, 1.0, 1.0, 1.0)

_C = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (
        24.854864614690072,
        -3.0009227002832186,
        47.4931110020768,
        5.5814197821558125,
        -0.6610691825249471,
    ),
    (
        30.91273214028599,
        -3.1208243349937974,
        77.79954646070892,
        34.28646028294783,
        -19.097331116725623,
        -28.087943162872662,
    ),
    (
        37.80277123390563,
        -3.2571969029072276,
        112.26918849496327,
        66.9347231244047,
        -40.06618937091002,
        -54.66780262877968,
        -9.48861652309627,
    ),
)

_ALPHA = (
    0.0,
    0.6358126895828704,
    0.4095798393397535,
    0.9769306725060716,
    0.4288403609558664,
    1.0,
    1.0,
    1.0,
)
_GAMMAS = (
    0.21193756319429014,
    -0.42387512638858027,
    -0.3384627126235924,
    1.8046452872882734,
    2.325825639765069,
    0.0,
    0.0,
    0.0,
)

H = (
    (
        25.948786856663858,
        -2.5579724845846235,
        10.433815404888879,
        -2.3679251022685204,
        0.524948541321073,
        1.1241088310450404,
        0.4272876194431874,
        -0.17202221070155493,
    ),
    (
        -9.91568850695171,
        -0.9689944594115154,
        3.0438037242978453,
        -24.495224566215796,
        20.176138334709044,
        15.98066361424651,
        -6.789040303419874,
        -6.710236069923372,
    ),
    (
        11.419903575922262,
        2.8879645146136994,
        72.92137995996029,
        80.12511834622643,
        -52.072871366152654,
        -59.78993625266729,
        -0.15582684282751913,
        4.883087185713722,
    ),
)


NEXT_A, NEXT_C = (
    np.array([(*row, *(0.0,) * (8 - len(row))) for row in rows]) for rows in ((*_A[1:], _M), (*_C[1:], ()))
)
"""How the stages so far make the point, and the push, of the next one; after the last, the end of the step."""


class _Interpolation(dfx.AbstractLocalInterpolation):
    r"""$y(\theta) = (1-\theta) y_0 + \theta (y_1 + (1-\theta)(k_1 + \theta (k_2 + \theta k_3)))$."""

    t0: Time
    t1: Time
    y0: Y
    y1: Y
    k: tuple[Y, Y, Y]

    def evaluate(self, t0: Time, t1: Time | None = None, left: bool = True) -> Y:
        del left
        if t1 is not None:
            return jtu.tree_map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        width = jnp.asarray(self.t1 - self.t0)
        theta = (t0 - self.t0) / jnp.where(width == 0, 1, width)

        def interpolate(y0, y1, k1, k2, k3):
            x = theta.astype(y0.dtype)
            return (1 - x) * y0 + x * (y1 + (1 - x) * (k1 + x * (k2 + x * k3)))

        return jtu.tree_map(interpolate, self.y0, self.y1, *self.k)


class Rodas5P(dfx.AbstractAdaptiveSolver[None]):
    r"""Rosenbrock--Wanner method of order 5 for stiff ordinary differential equations.

    8 stages, an embedded solution of order 4, A- and L-stable, stiffly accurate, with its
    own continuous extension of order 4, so that `SaveAt(ts=...)`, `SaveAt(dense=True)`
    and events cost no further steps. One Jacobian, one factorisation, eight evaluations
    of the vector field and eight solves a step; no nonlinear iteration that could fail to
    converge. With $f_t$ the time derivative at the start of the step:

    $$\left(\frac{1}{\gamma h} I - J\right) U_i = f\Big(t + \alpha_i h, y_0 + \sum_{j<i}
    a_{ij} U_j\Big) + \sum_{j<i} \frac{c_{ij}}{h} U_j + \gamma_i h f_t,
    \qquad y_1 = y_0 + \sum_i m_i U_i, \qquad \hat y_1 = y_1 - U_8.$$

    Stiffness lowers the order, as it does for every Rosenbrock method. On the equation of
    Prothero and Robinson, $y' = \lambda (y - \varphi) + \varphi'$, the global error is
    $O(h^4)$ uniformly in $\lambda$, and $O(h^3/|\lambda|)$ when $h |\lambda| \gg 1$; on a
    smooth solution of a singularly perturbed problem it is $O(h^5) + O(\epsilon h^2)$.

    Use it as any Diffrax solver:

    >>> import diffrax, jax.numpy as jnp
    >>> from tts_jax.solvers import Rodas5P
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1e3 * (y - jnp.cos(t)))
    >>> solution = diffrax.diffeqsolve(
    ...     decay, Rodas5P(), t0=0.0, t1=1.0, dt0=1e-4, y0=jnp.zeros(2),
    ...     stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4))

    **Arguments:**

    - `linear`: how the linear systems are solved, an
        [`AbstractShiftedJacobian`][tts_jax.solvers.AbstractShiftedJacobian].
    - `autonomous`: promise that the vector field does not depend on time; $f_t$ is then
        not computed.

    The state is any PyTree of real arrays. The terms must be a `diffrax.ODETerm`
    (otherwise Diffrax raises a `ValueError`).

    **Failure.** A step with a NaN or an infinity in it (from the vector field, or from a
    factorisation that failed) has an infinite error estimate: an adaptive controller
    rejects it and tries a shorter one. A constant controller cannot, and the solve ends
    with `RESULTS.nonfinite`. Once the step has shrunk until `t0 + h == t0` the solve ends
    with `RESULTS.dt_min_reached`. No such value reaches an accepted state, or a derivative
    of the solution. (Only an initial state that is itself NaN is beyond help: every step is
    rejected until `max_steps`.)

    ??? cite "Reference"

        G. Steinebach. Construction of Rosenbrock--Wanner method Rodas5P and numerical
        benchmarks within the Julia Differential Equations package. BIT Numerical
        Mathematics 63:27, 2023.
    """

    linear: AbstractShiftedJacobian = DenseJacobian()
    autonomous: bool = eqx.field(default=False, static=True)

    term_structure: ClassVar = dfx.ODETerm
    interpolation_cls: ClassVar[Callable[..., _Interpolation]] = _Interpolation

    def order(self, terms: dfx.AbstractTerm) -> int:
        del terms
        return 5

    def init(self, terms: dfx.AbstractTerm, t0: Time, t1: Time, y0: Y, args: Any) -> None:
        del terms, t0, t1, y0, args

    def step(
        self,
        terms: dfx.AbstractTerm,
        t0: Time,
        t1: Time,
        y0: Y,
        args: Any,
        solver_state: None,
        made_jump: Bool[Array, ""] | Bool[np.ndarray, ""] | bool,
    ) -> tuple[Y, Y, dict[str, Any], None, dfx.RESULTS]:
        del solver_state, made_jump
        attempt = eqx.filter_closure_convert(partial(self._attempt, terms), t0, t1, y0, args)
        (y1, y_error, k), finite = _finite_or_zero(attempt, t0, t1, y0, args)

        # An adaptive controller ignores the result of a step that it rejects, and
        # accepts one without an error, so that a stalled solve ends.
        stalled = jnp.asarray(t1 <= t0)
        finite = finite & ~stalled
        no_estimate = jnp.where(stalled, 0.0, jnp.inf)
        y1 = _select(finite, y1, y0)
        y_error = jtu.tree_map(lambda e: jnp.where(finite, e, no_estimate.astype(e.dtype)), y_error)
        result = dfx.RESULTS.where(
            stalled,
            dfx.RESULTS.dt_min_reached,
            dfx.RESULTS.where(finite, dfx.RESULTS.successful, dfx.RESULTS.nonfinite),
        )
        return y1, y_error, dict(y0=y0, y1=y1, k=k), None, result

    def func(self, terms: dfx.AbstractTerm, t0: Time, y0: Y, args: Any) -> Y:
        return terms.vf(t0, y0, args)

    def _attempt(self, terms: dfx.AbstractTerm, t0: Time, t1: Time, y0: Y, args: Any) -> tuple[Y, Y, tuple[Y, Y, Y]]:
        # Diffrax flips the clock to integrate backwards: flip it back, so that `linear`
        # meets the user's own vector field and time, and a step that may be negative.
        direction = terms.contr(jnp.zeros_like(t0), jnp.ones_like(t0))
        t, h = direction * t0, direction * (t1 - t0)

        def vector_field(t, y, args):
            return terms.vf(direction * t, y, args)

        f_t = None
        if not self.autonomous:
            _, f_t = jax.jvp(lambda t: vector_field(t, y0, args), (t,), (jnp.ones_like(t),))
        rate = 1 / h
        factors = self.linear.factor(vector_field, t, y0, args, rate / GAMMA)

        def stage(stages, row):
            i, a, c, alpha, gamma = row
            f = vector_field(t + alpha * h, _add(y0, _combine(a, stages)), args)
            f = _add(f, _scale(rate, _combine(c, stages)))
            if f_t is not None:
                f = _add(f, _scale(gamma * h, f_t))
            u = self.linear.solve(factors, f)
            return jtu.tree_map(lambda all_of, one: all_of.at[i].set(one), stages, u), None

        stages = jtu.tree_map(lambda y: jnp.zeros((8, *y.shape), y.dtype), y0)
        rows = [jnp.asarray(rows, rate.dtype) for rows in (_padded(_A), _padded(_C), _ALPHA, _GAMMAS)]
        stages, _ = jax.lax.scan(stage, stages, (jnp.arange(8), *rows))
        y1 = _add(y0, _combine(jnp.asarray(_M), stages))
        last = jtu.tree_map(lambda all_of: all_of[-1], stages)
        return y1, last, tuple(_combine(jnp.asarray(row), stages) for row in H)


def _padded(rows):
    return np.array([(*row, *(0.0,) * (8 - len(row))) for row in rows])


def _combine(weights, vectors):
    return jtu.tree_map(
        lambda xs: jnp.tensordot(weights.astype(xs.dtype), xs, 1, precision=jax.lax.Precision.HIGHEST), vectors
    )


def _scale(a, x):
    return jtu.tree_map(lambda xi: a.astype(xi.dtype) * xi, x)


def _add(x, y):
    return jtu.tree_map(jnp.add, x, y)


def _select(pred, x, y):
    return jtu.tree_map(partial(jnp.where, pred), x, y)


def _zero_unless(pred, x):
    return jtu.tree_map(lambda xi: jnp.where(pred, xi, jnp.zeros_like(xi)), x)


def _all_finite(x):
    return jnp.array([jnp.isfinite(xi).all() for xi in jtu.tree_leaves(x)]).all()


@eqx.filter_custom_jvp
def _finite_or_zero(attempt, *inputs):
    """`attempt(*inputs)`, or zeros if its first output is not finite; and which it was.

    The derivative of a failed attempt is zero, in forward and in reverse mode. A mere
    `where` around the attempt would send a zero cotangent through its NaNs.
    """
    out = attempt(*inputs)
    finite = _all_finite(out[0])
    return _zero_unless(finite, out), finite


@_finite_or_zero.def_jvp
def _finite_or_zero_jvp(primals, tangents):
    differentiated = jtu.tree_map(lambda t: t is not None, tangents, is_leaf=lambda t: t is None)
    moving, fixed = eqx.partition(primals, differentiated)

    def run(moving):
        attempt, *inputs = eqx.combine(moving, fixed)
        return attempt(*inputs)

    out, pushforward = jax.linearize(run, moving)
    finite = _all_finite(out[0])
    out_tangents = pushforward(_zero_unless(finite, tangents))
    return (_zero_unless(finite, out), finite), (
        _zero_unless(finite, out_tangents),
        None,
    )
