"""Online SGD of teacher and student in infinite dimension, as an ODE in overlaps."""

import dataclasses
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree, Real
from typing_extensions import override

from ... import _checks as checks
from ..._lanes import in_turn
from ..._platform import alone
from ..._program import program
from ...activations import Erf
from ...exact import erf_units
from ...networks import PerceptronNetwork
from ...overlaps import Overlaps
from ...problems import AbstractProblem, GaussianRegression
from ...solvers import DenseJacobian, Rodas5P
from ...trajectory import Trajectory, risk_and_status
from ..base import AbstractDynamics, Begin, Groups, Pick, Task
from ..flow.equation import DENSE, TSIT5_STABLE
from ..flow.matrix_free import spectral_radius
from ..integration import InitialValueProblem, Integration, Solution, integrate, integrate_in_parts

EXPLICIT = 30_000
"""Up to this many steps, as stability demands them, an explicit solver costs less than an implicit one."""


class OnlineSGD(AbstractDynamics):
    r"""Online SGD, one fresh sample a step, of a student on a teacher in $d \to \infty$ inputs at fixed $\alpha_0 =
    \text{step\_size} \cdot d$: the exact ODE in overlaps.

    **Arguments:**

    - `epsilon`: the step size of the directions over that of the weights, positive
    - `step_size`: of SGD, in fast time
    - `frozen`: `frozen=lambda m: m.weights` holds the outer layer, `frozen=lambda m: m.slow` the inner one
    - `solver`: any of Diffrax. By default it is `diffrax.Tsit5`, or `Rodas5P` where stability would ask for more than
      30,000 steps of the former, as for small `epsilon`, and there are up to 128 overlaps. Under `jit` and `vmap`,
      where that is not known, it is `Tsit5`
    - `rtol`, `atol`: the local error of a step is kept below `atol + rtol * |y|`; by default both are 1e-10 in 64-bit,
      and 1e-5 in 32-bit, which holds risks down to 1e-5 only
    - `max_steps`, `adjoint`: as of `GradientFlow`

    The model is a `PerceptronNetwork` of `Erf`, or its `Overlaps`; the problem a `GaussianRegression`. With the
    student's $r_{ij} = \langle u_i, u_j\rangle$ and $s_{in} = \langle u_i, u^*_n\rangle$, in slow time $\tau = \epsilon
    t$,

    $$\frac{da_i}{d\tau} = -\frac{2}{\epsilon} E[g_i\,e], \qquad
      \frac{ds_{in}}{d\tau} = -2 a_i E[g'_i \lambda^*_n e],$$

    $$\frac{dr_{ij}}{d\tau} = -2 a_i E[g'_i \lambda_j e] - 2 a_j E[g'_j \lambda_i e]
      + 8 \epsilon \alpha_0\, a_i a_j \left(E[g'_i g'_j e^2] + \text{noise}^2 E[g'_i g'_j]\right),$$

    where $\lambda_i = \sqrt2 \langle u_i, x\rangle$, $g(\lambda) = \mathrm{erf}(\lambda / \sqrt2)$, and $e = f - f^*$.
    The means are closed forms (`tts_jax.exact.erf_units`). The last term, quadratic in the step, is what tells SGD from
    the flow: as `step_size` goes to 0, `GradientFlow` remains. `SGD(epsilon, step_size)` of the same model and problem
    follows it, at the same slow times, up to deviations of order $d^{-1/2}$. A step is $\text{step\_size}$ of fast
    time, so that $\alpha = p/d$ of the literature is $t / \alpha_0$; see
    `tts_jax.dynamics.overlaps.literature_speeds`.

    $d$ is the number of inputs of the problem. Only its product with `step_size` counts: a teacher of M neurons can be
    given in M inputs, with a start of `Overlaps`. The model of the trajectory is `Overlaps`, and `Trajectory.risk` is
    exact: the squared error without a factor 1/2, and without label noise.

    A step costs $O(K^2 (K + M)^2)$ for K neurons, whatever d; on a CPU `jax.vmap` solves for one run after the other,
    so that none waits for another.

    >>> import jax, tts_jax as tts
    >>> teacher, student = (tts.PerceptronNetwork.init(jax.random.key(k), 2, 300, tts.Erf()) for k in (0, 1))
    >>> run = tts.simulate(tts.OnlineSGD(1.0, 1e-3), student, tts.GaussianRegression(teacher), [0.0, 1.0])
    >>> run.model.student.shape, bool(run.risk[1] < run.risk[0])
    ((2, 2, 2), True)

    Raises `ValueError` for an `epsilon`, a `step_size`, tolerances or `max_steps` that are not positive, for a `solver`
    or an `adjoint` that is none of Diffrax, and in `simulate` for a model or problem of another kind, or units of
    `ReLU`: the mean of a product of four of them has no closed form.

    Source: Saad and Solla (1995); Biehl and Schwarze (1995); Goldt, Advani, Saxe, Krzakala and Zdeborova (2019), arXiv
    1906.08632, whose generalisation error is half of our risk.
    """

    shards = True
    resumable = False
    stochastic = False

    epsilon: Float[Array, ""]
    step_size: Float[Array, ""]
    frozen: Pick | None = eqx.field(static=True)
    solver: diffrax.AbstractSolver | None
    integration: Integration

    def __init__(
        self,
        epsilon: Real[ArrayLike, ""],
        step_size: Real[ArrayLike, ""],
        frozen: Pick | None = None,
        solver: diffrax.AbstractSolver | None = None,
        rtol: Real[ArrayLike, ""] | None = None,
        atol: Real[ArrayLike, ""] | None = None,
        max_steps: int = 2**17,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        self.epsilon = checks.as_float(checks.positive("epsilon", epsilon))
        self.step_size = checks.as_float(checks.positive("step_size", step_size))
        self.frozen = checks.picks_leaves("frozen", frozen)
        self.solver = solver
        if solver is not None:
            checks.instance("solver", solver, diffrax.AbstractSolver, "diffrax.Tsit5()")
        self.integration = Integration(rtol, atol, max_steps, adjoint)

    @override
    def run(self, task: Task) -> Trajectory:
        equation = OnlineEquation.of(self, task.problem, task.model)
        if self.solver is None and equation.is_stiff(task.elapsed[-1]):
            equation = dataclasses.replace(equation, solver=Rodas5P(DenseJacobian(), autonomous=True))
        if alone():
            make = eqx.Partial(OnlineEquation.initial_value_problem, equation)
            solution = integrate_in_parts(make, task.elapsed, self.integration, task.look)
        else:
            solution = _solve(equation, self.integration, task.elapsed)
        return _trajectory(equation, solution, task.slow_times, task.begin._replace(step=None, end=None))


class OnlineEquation(eqx.Module):
    """In slow time; its state is the vector of the weights, the student's overlaps of pairs, and the teacher's."""

    epsilon: Float[Array, ""]
    load: Float[Array, ""]
    """`step_size` times the number of inputs."""
    problem: GaussianRegression
    start: Overlaps
    moves: tuple[bool, bool] = eqx.field(static=True)
    """Whether the outer layer does, and the inner one."""
    solver: diffrax.AbstractSolver

    @classmethod
    def of(cls, dynamics: OnlineSGD, problem: AbstractProblem, model: PyTree) -> "OnlineEquation":
        """Raises `ValueError` where there is none."""
        if not isinstance(problem, GaussianRegression) or not isinstance(model, PerceptronNetwork | Overlaps):
            raise ValueError(
                "OnlineSGD moves a PerceptronNetwork, or its Overlaps, on a GaussianRegression, got "
                f"{type(model).__name__} on {type(problem).__name__}: use SGD"
            )
        teacher = problem.teacher
        if not isinstance(teacher.activation, Erf):
            raise ValueError(
                f"OnlineSGD needs units of Erf, got {type(teacher.activation).__name__}, for which the mean of "
                "a product of four units has no closed form: use SGD in a large dimension"
            )
        moving = Groups.of(model, frozen=dynamics.frozen).moving
        inner = [leaf is not None for leaf in jax.tree.leaves(moving.slow, is_leaf=lambda leaf: leaf is None)]
        if len(set(inner)) > 1:
            raise ValueError("frozen must pick student and teacher overlaps or neither: use frozen=lambda m: m.slow")
        start = model if isinstance(model, Overlaps) else Overlaps.of(model, teacher.directions)
        inputs = teacher.directions.shape[1]
        return cls(
            epsilon=dynamics.epsilon,
            load=dynamics.step_size * inputs,
            problem=problem,
            start=start,
            moves=(moving.weights is not None, inner[0]),
            solver=diffrax.Tsit5() if dynamics.solver is None else dynamics.solver,
        )

    def ravel(self, model: Overlaps) -> Float[Array, " n"]:
        assert model.student is not None, "`GaussianRegression.check` has refused that"
        return jnp.concatenate(
            [model.weights, model.student[np.triu_indices(len(model.weights))], model.teacher.ravel()]
        )

    def unravel(self, y: Float[Array, " n"]) -> Overlaps:
        units, (i, k) = len(self.start.weights), np.triu_indices(len(self.start.weights))
        weights, student, teacher = jnp.split(y, [units, units + len(i)])
        place = np.zeros((units, units), int)
        place[i, k] = place[k, i] = np.arange(len(i))
        return Overlaps(weights, student[place], teacher.reshape(self.start.teacher.shape), self.start.activation)

    def is_stiff(self, end: Float[Array, ""]) -> bool:
        """Whether an implicit solver pays for a run until slow time `end`; False where anything is traced."""
        known = not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((self, end)))
        size = len(self.ravel(self.start))
        return known and size <= DENSE and bool(end * _spectral_radius(self) > EXPLICIT * TSIT5_STABLE)

    def initial_value_problem(self) -> InitialValueProblem:
        return InitialValueProblem(
            vector_field=lambda t, y, equation: equation.velocity(y),
            y0=self.ravel(self.start),
            args=self,
            solver=self.solver,
            method=type(self.solver).__name__,
            dt0=1e-2 * jnp.minimum(self.epsilon, 1.0),
            model_at=lambda y, equation: equation.unravel(y),
            closed_form=True,
        )

    def velocity(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        model, teacher, (outer_moves, inner_moves) = self.unravel(y), self.problem.teacher, self.moves
        a, units = model.weights, len(model.weights)
        # The outputs of all units times `error` are that of the student, less that of the teacher.
        c, error = self.problem.field_covariance(model), jnp.concatenate([a, -teacher.weights])
        outer = -2 / self.epsilon * (erf_units.i2(c, units) @ error)
        mean = -2 * a[:, None] * (erf_units.i3(c, units) @ error)
        square = jnp.sum(erf_units.i4(c, units) * jnp.outer(error, error)[None, None], (2, 3))
        square = square + self.problem.noise**2 * erf_units.j2(c, units)[:, :units]
        random = 8 * self.epsilon * self.load * jnp.outer(a, a) * square
        student = mean[:, :units] + mean[:, :units].T + random
        return self.ravel(
            Overlaps(
                outer if outer_moves else jnp.zeros_like(outer),
                student if inner_moves else jnp.zeros_like(student),
                mean[:, units:] if inner_moves else jnp.zeros_like(model.teacher),
                model.activation,
            )
        )


class Speeds(NamedTuple):
    """What the literature's learning rates are here."""

    epsilon: Float[Array, ""]
    step_size: Float[Array, ""]
    slow_time: Float[Array, ""]
    """That passes while alpha grows by 1."""


def literature_speeds(lr: Real[ArrayLike, ""], lr2: Real[ArrayLike, ""] | None, inputs: Real[ArrayLike, ""]) -> Speeds:
    r"""From the conventions of Saad and Solla (1995) and Goldt et al. (2019) to ours.

    Theirs, with N = `inputs`: a student $\sum_k v_k\,\mathrm{erf}(\langle w_k, x\rangle / \sqrt{2N})$, the loss
    $\frac12 (\cdot)^2$, a step of $\text{lr}/\sqrt N$ for w and of $\text{lr2}/N$ for v, time $\alpha = p/N$, and
    overlaps $Q = w w^T / N$. Ours, with directions $u = w / \sqrt{2N}$: $Q = 2\,$`student`, $R = 2\,$`teacher`,
    $\epsilon_g = \text{risk}/2$, and

    $$\epsilon = \frac{\text{lr}}{2\,\text{lr2}}, \qquad \text{step\_size} = \frac{\text{lr2}}{2N}, \qquad
      \tau = \frac{\text{lr}}{4}\,\alpha.$$

    `lr2=None` is for an outer layer that is held, by `frozen=lambda m: m.weights`: epsilon is 1 then. Gives `epsilon`,
    `step_size`, and the slow time of a unit of $\alpha$.

    >>> from tts_jax.dynamics.overlaps import literature_speeds
    >>> speeds = literature_speeds(lr=0.2, lr2=0.1, inputs=100)
    >>> [float(each) for each in speeds]
    [1.0, 0.0005, 0.05]

    Raises `ValueError` for rates and a number of inputs that are not positive.
    """
    lr, inputs = (checks.as_float(checks.positive(name, it)) for name, it in (("lr", lr), ("inputs", inputs)))
    outer = lr / 2 if lr2 is None else checks.as_float(checks.positive("lr2", lr2))
    return Speeds(lr / (2 * outer), outer / (2 * inputs), lr / 4)


@program
def _spectral_radius(equation: OnlineEquation) -> Float[Array, ""]:
    problem = equation.initial_value_problem()
    return spectral_radius(problem.vector_field, problem.y0, problem.args)


@eqx.filter_jit
def _solve(equation: OnlineEquation, how: Integration, slow_times: Float[Array, " t"]) -> Solution:
    inputs, static = eqx.partition((equation, how, slow_times), eqx.is_array)

    def solve(inputs):
        equation, how, slow_times = eqx.combine(inputs, static)
        return integrate(equation.initial_value_problem(), slow_times, how)

    return in_turn(solve)(inputs)


@program
def _trajectory(
    equation: OnlineEquation, solution: Solution, slow_times: Float[Array, " t"], begin: Begin
) -> Trajectory:
    model = jax.vmap(equation.unravel)(solution.states)
    risk, status = risk_and_status(equation.problem, equation.start, model, solution.status)
    return Trajectory(
        slow_time=slow_times,
        fast_time=begin.fast_time_at(slow_times, equation.epsilon),
        step=None,
        model=model,
        risk=risk,
        status=status,
        stats=solution.stats,
    )
