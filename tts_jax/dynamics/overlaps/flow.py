"""The gradient flow in overlaps."""

import diffrax
import equinox as eqx
from jaxtyping import Array, ArrayLike, Float, PyTree, Real
from typing_extensions import override

from ... import _checks as checks
from ..._platform import alone
from ..._program import program
from ...networks import SphereNetwork
from ...overlaps import Overlaps
from ...problems import SingleIndex
from ...trajectory import Trajectory, risk_and_status
from ..base import AbstractDynamics, Begin, Task
from ..integration import Integration, Solution, integrate, integrate_in_parts
from .equation import AbstractOverlapEquation
from .mean_field import MeanField
from .pairs import AllPairs


class OverlapFlow(AbstractDynamics):
    r"""`GradientFlow` of a `SphereNetwork` on a `SingleIndex`, as a closed equation of overlaps that does not know d.

    With $s_i$ and $r_{ij}$ the cosines of directions with $u^*$ and with each other, V and U the series of the risk
    (see `SingleIndex`), and $g_{ij} = V'(s_i) s_j - \frac{1}{m} \sum_k a_k U'(r_{ik}) r_{kj}$ and
    $g_{i*} = V'(s_i) - \frac{1}{m} \sum_k a_k U'(r_{ik}) s_k$, it is in slow time $\tau = \epsilon t$

    $$\epsilon\,a_i' = \frac{2}{m} \Big[ V(s_i) - \frac{1}{m} \sum_j a_j U(r_{ij}) \Big], \quad
      s_i' = \frac{2 a_i}{m |u_i|^2} (g_{i*} - g_{ii} s_i), \quad
      r_{ij}' = \frac{2 a_i}{m |u_i|^2} (g_{ij} - g_{ii} r_{ij}) + \frac{2 a_j}{m |u_j|^2} (g_{ji} - g_{jj} r_{ij}).$$

    The clocks are those of `GradientFlow` with the same `epsilon`, so that both can be compared time by time; the time
    of Berthier, Montanari and Zhou is $2 \tau / m$ (see `SingleIndex.slow_time`). The risk has no factor 1/2.

    **Arguments:**

    - `epsilon`: the speed of the directions over that of the weights, positive
    - `rtol`, `atol`: the local error of a step is kept below `atol + rtol * |y|`; by default both are 1e-10 in 64-bit,
      and 1e-5 in 32-bit, for a rough picture only
    - `max_steps`: caps the solver's steps; a run that ends early says why in `status`
    - `adjoint`: how derivatives are taken, as of `GradientFlow`

    It starts from a `SphereNetwork` of any d, or from `Overlaps` with a teacher of one unit; the trajectory's model is
    `Overlaps`, its risk exact. Uniform directions at $d = \infty$ are `Overlaps(weights, jnp.eye(m), jnp.zeros((m, 1)),
    activation)`. With `student=None`, as of `Overlaps.init`, it is the mean field, the limit $m \to \infty$ from such
    a start: $r_{ij} = s_i s_j$ in all sums, m weights and m overlaps. A flow of m neurons departs from it by O(1/m)
    until $t$ is of order m, that is $\tau = O(m^2 \epsilon)$: then each weight has felt itself. Hence the orders
    $m \to \infty$ and $\epsilon \to 0$ do not commute.

    >>> import jax, tts_jax as tts
    >>> problem = tts.SingleIndex([1.0], tts.Hermite([0.5, 1.0]))
    >>> start = tts.Overlaps.init(jax.random.key(0), 50, tts.Hermite([1.0, 1.0]))
    >>> run = tts.simulate(tts.OverlapFlow(1e-4), start, problem, [0.0, 100.0])
    >>> bool(run.risk[-1] < 1e-6)
    True

    *Cost.* `Rodas5P`, for any `epsilon`, with exact Jacobians. In the mean field neurons act on each other through
    K + 1 moments of weights and overlaps alone: a step is 2 x 2 blocks and a matrix of K + 1 rows, O(m K^2). Else
    the unknowns are m (m + 2). The weights alone are stiff, and linear: their m x m block is factored, and the rest
    is solved by GMRES, which that block preconditions: O(m^3) a step, a few dozen products of m x m matrices for
    each of eight stages. Up to 128 unknowns (m = 10) the Jacobian is factored as a whole. A hundred neurons take
    seconds, several hundred minutes to hours; in the mean field a thousand take a fraction of a second.

    Raises `ValueError` for an `epsilon`, tolerances or `max_steps` that are not positive, and in `simulate` for another
    problem or model.

    Source: Berthier, Montanari and Zhou (2024), arXiv 2303.00055.
    """

    shards = False
    resumable = False
    stochastic = False

    epsilon: Float[Array, ""]
    integration: Integration

    def __init__(
        self,
        epsilon: Real[ArrayLike, ""],
        rtol: Real[ArrayLike, ""] | None = None,
        atol: Real[ArrayLike, ""] | None = None,
        max_steps: int = 2**17,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        self.epsilon = checks.as_float(checks.positive("epsilon", epsilon))
        self.integration = Integration(rtol, atol, max_steps, adjoint)

    @override
    def run(self, task: Task) -> Trajectory:
        if not isinstance(task.problem, SingleIndex):
            raise ValueError(
                f"OverlapFlow is for a SingleIndex, got {type(task.problem).__name__}: take GradientFlow there"
            )
        equation = _equation(self.epsilon, task.model, task.problem)
        if alone():
            make = eqx.Partial(AbstractOverlapEquation.initial_value_problem, equation)
            solution = integrate_in_parts(make, task.elapsed, self.integration, task.look)
        else:
            solution = _solve(equation, self.integration, task.elapsed)
        return _trajectory(equation, task.problem, solution, task.slow_times, task.begin)


def _equation(epsilon: Float[Array, ""], model: PyTree, problem: SingleIndex) -> AbstractOverlapEquation:
    if isinstance(model, SphereNetwork):
        model = Overlaps.of(model, problem.direction[None])
    kind = MeanField if model.student is None else AllPairs
    return kind(epsilon, model, *problem.series(model.activation))


@eqx.filter_jit
def _solve(equation: AbstractOverlapEquation, how: Integration, elapsed: Float[Array, " t"]) -> Solution:
    return integrate(equation.initial_value_problem(), elapsed, how)


@program
def _trajectory(
    equation: AbstractOverlapEquation,
    problem: SingleIndex,
    solution: Solution,
    slow_times: Float[Array, " t"],
    begin: Begin,
) -> Trajectory:
    start = equation.start
    moved = eqx.filter_vmap(lambda y: eqx.filter(equation.model_at(y), eqx.is_inexact_array))(solution.states)
    stacked = Overlaps(moved.weights, moved.student, moved.teacher, start.activation)
    risk, status = risk_and_status(problem, start, stacked, solution.status)
    return Trajectory(
        slow_time=slow_times,
        fast_time=begin.fast_time_at(slow_times, equation.epsilon),
        step=None,
        model=stacked,
        risk=risk,
        status=status,
        stats=solution.stats,
    )
