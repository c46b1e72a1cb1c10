"""The gradient flow at two time scales."""

import diffrax
import equinox as eqx
import jax
from jaxtyping import Array, ArrayLike, Float, PyTree, Real
from typing_extensions import override

from ... import _checks as checks
from ..._platform import alone
from ..._program import program
from ...problems import AbstractProblem
from ...trajectory import Trajectory, risk_and_status
from ..base import AbstractDynamics, Begin, Epsilon, Groups, Pick, Task, checked_speeds, ratios_of, slowest
from ..integration import Integration, Solution
from .equation import FlowEquation
from .side_by_side import solve, solve_in_parts


class GradientFlow(AbstractDynamics):
    r"""The gradient flow in fast time t, saved in slow time $\tau = \epsilon t$.

    $$\frac{da}{dt} = -\nabla_a R, \qquad \frac{du}{dt} = -\epsilon\,\nabla_u R$$

    $R$ is `problem.risk`: the mean squared error, without a factor 1/2. The equation is integrated in slow time by a
    stiff solver, for any `epsilon` from 1 to 1e-9.

    **Arguments:**

    - `epsilon`: the speed of the slow leaves over that of all others, positive
    - `slow`: which leaves are slow, as in `slow=lambda model: model.layers[0]`; networks of this package know their
      own. With several slow groups `epsilon` and `slow` are tuples of one length: the leaves of group i move
      `epsilon[i]` times as fast as the rest, and slow time is `min(epsilon) t`, as in `(0.1, 1e-3), slow=(lambda m:
      m.layers[1], lambda m: m.layers[0])`
    - `solver`: any of Diffrax; one without an error estimate (`diffrax.Euler()`) steps from one save time to the next.
      By default it is chosen as said below
    - `rtol`, `atol`: the local error of a step is kept below `atol + rtol * |y|`. By default both are 1e-10 in 64-bit
      where the problem knows the model in closed form, as networks of this package; 1e-6 for any other model, whose
      risk is then right to four digits or more; and 1e-5 in 32-bit, for a rough picture only
    - `max_steps`: caps the solver's steps; a run that ends early says why in `status` and has NaN at the times it did
      not reach
    - `adjoint`: how derivatives are taken: the default `diffrax.RecursiveCheckpointAdjoint()` is for reverse mode,
      `diffrax.ForwardMode()` for forward mode
    - `frozen`: picks leaves that do not move, as `slow` does: buffers, statistics, layers that are not to train. It
      wins over `slow`, and in the trajectory such leaves have a time axis as all others have

    *Solver.* Without a `solver`, a `ShallowNetwork` with a closed form is solved by `Rodas5P` with the closed-form
    Hessian. For `SmoothStep` neurons and `PiecewiseConstant` targets, one for each input, a step costs O(m (1 + K)^2)
    for m neurons of which K neighbours are closer than `eta`; `jax.vmap` puts such runs side by side, and one that ends
    or fails costs the others nothing. Any other model of up to 128 parameters is solved by `Rodas5P` with a Jacobian by
    automatic differentiation. A larger model is solved by `Rodas5P` without a matrix: conjugate gradients on
    Hessian-vector products, preconditioned by the block of the fast parameters where that pays and it has up to 512
    rows. It is solved by `diffrax.Tsit5`, which is explicit, where the Jacobian at the start has a spectral radius for
    which 500 steps are stable up to the last save time (not under `jit` or `vmap`, where this is not known).
    `stats.method` says which.

    *Error.* Of neighbours closer than `eta`, whose weights nearly cancel where they merge on a jump, the error of a
    weight counts as far as it changes the network. Equal neurons stay equal. Near `epsilon = 1` some starts pass close
    to saddle points, which amplify any error.

    *Derivatives* of anything at any save time with respect to `epsilon`, the start, the widths and the target are those
    of a numerical solution at the step sizes it took. In local coordinates the reverse mode is the adjoint of the steps
    themselves, in four to five times the time of the solve and memory in proportion to the square root of `max_steps`;
    the forward mode is Diffrax's. A gradient is NaN where it asks for a save that the run did not reach.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.3], [0.8]], 0.0, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.GradientFlow(1e-3), model, problem, [0.0, 1.0])
    >>> bool(run.risk[-1] < 0.1 * run.risk[0]), run.fast_time.tolist()
    (True, [0.0, 1000.0])

    Raises `ValueError` for an `epsilon` that is not positive or does not fit `slow`, for tolerances or `max_steps` that
    are not positive, and for a `solver` or an `adjoint` that is none of Diffrax; and in `simulate` where `slow` or
    `frozen` picks no leaf that trains.

    Source: Marion and Berthier (2023), arXiv 2304.09576.
    """

    shards = True
    resumable = False
    stochastic = False

    epsilon: Epsilon
    slow: Pick | tuple[Pick, ...] | None = eqx.field(static=True)
    frozen: Pick | None = eqx.field(static=True)
    solver: diffrax.AbstractSolver | None
    integration: Integration

    def __init__(
        self,
        epsilon: Real[ArrayLike, ""] | tuple[Real[ArrayLike, ""], ...],
        slow: Pick | tuple[Pick, ...] | None = None,
        solver: diffrax.AbstractSolver | None = None,
        rtol: Real[ArrayLike, ""] | None = None,
        atol: Real[ArrayLike, ""] | None = None,
        max_steps: int = 2**17,
        adjoint: diffrax.AbstractAdjoint | None = None,
        frozen: Pick | None = None,
    ):
        self.epsilon, self.slow = checked_speeds(epsilon, slow)
        self.frozen = checks.picks_leaves("frozen", frozen)
        self.solver = solver
        if solver is not None:
            checks.instance("solver", solver, diffrax.AbstractSolver, "diffrax.Tsit5()")
        self.integration = Integration(rtol, atol, max_steps, adjoint)

    def equation(self, model: PyTree, problem: AbstractProblem) -> FlowEquation:
        """The equation that a `model` follows, once it has passed `check` of the `problem`."""
        groups = Groups.of(model, self.slow, self.frozen)
        return FlowEquation(ratios_of(self.epsilon), problem, groups, groups.knows(problem.structure(model)))

    @override
    def side_by_side(self, model: PyTree, problem: AbstractProblem) -> bool:
        return self.solver is None and self.equation(model, problem).setting is not None

    @override
    def run(self, task: Task) -> Trajectory:
        equation = self.equation(task.model, task.problem)
        solver = equation.choose(task.elapsed[-1]) if self.solver is None else self.solver
        if alone():
            solution = solve_in_parts(equation, solver, self.integration, task.elapsed, task.look)
        else:
            solution = _solve(equation, solver, self.integration, task.elapsed)
        return _trajectory(equation, solution, task.slow_times, task.begin._replace(step=None, end=None))


_solve = eqx.filter_jit(solve)


@program
def _trajectory(equation: FlowEquation, solution: Solution, slow_times: Float[Array, " t"], begin: Begin) -> Trajectory:
    epsilon, groups = slowest(equation.epsilons), equation.groups
    stacked = groups.over_time(jax.vmap(equation.unravel)(solution.states))
    start = eqx.combine(groups.moving, groups.fixed)
    risk, status = risk_and_status(equation.problem, start, stacked, solution.status)
    return Trajectory(
        slow_time=slow_times,
        fast_time=begin.fast_time_at(slow_times, epsilon),
        step=None,
        model=stacked,
        risk=risk,
        status=status,
        stats=solution.stats,
    )
