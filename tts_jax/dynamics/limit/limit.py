"""The limit of infinitely fast weights and infinitely steep neurons."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from typing_extensions import override

from ... import _checks as checks
from ..._pace import THOUSAND
from ..._platform import alone
from ..._program import program
from ...activations import Heaviside
from ...networks import ShallowNetwork
from ...problems import AbstractProblem
from ...targets import PiecewiseConstant
from ...trajectory import Stats, Status, Trajectory, risk_and_status
from ..base import AbstractDynamics, Task
from .pair import acts, has_closed_form, hit_times, pair_positions
from .sliding import Cluster, integrate, parked


class TwoTimescaleLimit(AbstractDynamics):
    r"""The limit $\epsilon \to 0$, then $\eta \to 0$, of the gradient flow, in slow time $\tau$.

    The network is at all times the best fit that is constant between neighbouring positions: with $c_L$ and $c_R$ the
    means of $f^*$ left and right of a neuron, the risk of that fit falls along its gradient,

    $$u' = (f^*(u) - c_R)^2 - (f^*(u) - c_L)^2.$$

    At a jump of $f^*$ this velocity has two one-sided values. A neuron that reaches a jump passes where both point the
    same way, and sticks (Filippov's sliding mode) while neither points away from the jump; it is released when changes
    of $c_L$ and $c_R$ end that. Where both point away, the limit $\eta \to 0$ decides: a neuron that starts on the jump
    goes with the sum of both (to the right if that is 0); one whose weight $c_R - c_L$ has changed its sign while it
    was stuck goes left where $(c_L + c_R)/2$ moves away from the target's value on the left, else right.

    Neurons outside (0, 1) carry no weight and stay. Neurons that coincide, from the start or by meeting on a jump, stay
    together, as neurons of equal position and weight do in every gradient flow (unstably: the slightest distance
    grows). Each of n carries 1/n of the weight, so they move with 1/n of the velocity above.

    The weights and the bias of the start do not matter. The result is a `ShallowNetwork` of `Heaviside` neurons in the
    order of the model, with its exact risk; `fast_time` and `step` are None, as the limit has no such clocks;
    `stats.steps` counts events.

    A start in which every jump keeps its own pair of neurons has a closed form, exact to rounding. Any other is
    integrated from event to event, to about 1e-12, or 1e-5 in 32-bit; after `max_events` of them it ends with
    `Status.MAX_STEPS`. Both work under `jit` and `vmap`, and can be differentiated in forward and reverse mode with
    respect to positions, target and times. Where the start is traced, both are compiled; `vmap` also runs both.

    The end of a nearly symmetric pair is sensitive: from gaps p < q on both sides of a jump, the farther neuron comes
    to rest at the distance $(q^3 - p^3)^{1/3}$.

    Deterministic: `key` has no effect. `progress` hears of the end alone.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 2.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.4], [0.7]], 0.0, tts.SmoothStep(4e-3))
    >>> run = tts.simulate(tts.TwoTimescaleLimit(), model, problem, [0.0, 1.0])
    >>> run.model.positions[-1, :, 0].round(4).tolist()  # 0.4 arrives, 0.7 rests at 0.5 + (0.2**3 - 0.1**3)**(1/3)
    [0.5, 0.6913]

    Raises `ValueError` for `max_events` below 1, and in `simulate` for a model that is not a one-dimensional
    `ShallowNetwork` with a bias, for a problem that is not a `Regression` on a `PiecewiseConstant` target, and for
    `samples`.

    Sources: Marion and Berthier (2023), arXiv 2304.09576, for the limit; Filippov (1988), Differential Equations with
    Discontinuous Righthand Sides, for sliding.
    """

    shards = False  # Lineax cannot be traced under `jax.shard_map`
    resumable = False
    stochastic = False

    max_events: int = eqx.field(static=True)

    def __init__(self, max_events: int = 4096):
        self.max_events = checks.count("max_events", max_events)

    @override
    def run(self, task: Task) -> Trajectory:
        model, problem = task.model, task.problem
        staircase = problem.structure(model).staircase
        if staircase is None:
            raise ValueError(
                "TwoTimescaleLimit needs a ShallowNetwork of steps with positions of shape (neurons, 1) and a "
                f"Regression on a PiecewiseConstant target, got {type(model).__name__} of "
                f"{type(getattr(model, 'activation', None)).__name__} and {type(problem).__name__}"
            )
        if model.bias is None:
            raise ValueError("TwoTimescaleLimit needs a model with a bias, got None: pass bias=jnp.zeros(())")
        target = staircase(problem)
        exact = eqx.filter_jit(has_closed_form)(model.positions[:, 0], target)
        try:
            engine = _closed_form if bool(exact) else _event_driven
        except jax.errors.TracerBoolConversionError:
            engine = _by_start
        trajectory = _trajectory(engine, jnp.asarray(self.max_events), model, problem, target, task.elapsed)
        if alone():
            task.look(THOUSAND, THOUSAND, int(trajectory.stats.steps))
        return trajectory


def best_fit(positions: Float[Array, " m"], target: PiecewiseConstant) -> tuple[Float[Array, ""], Float[Array, " m"]]:
    """Bias and weights of the best approximation of the target that is constant between neighbouring positions.

    Coincident neurons share a weight; neurons outside (0, 1) have none. NaN where a position is.
    """
    acting, unknown = acts(positions), jnp.isnan(positions)
    edges = jnp.pad(jnp.sort(parked(positions)), 1, constant_values=(0.0, 1.0))
    cluster = Cluster.of(edges[1:-1], parked(positions))
    left = jnp.where(acting, edges[cluster.first], 0.0)
    here = jnp.where(acting, positions, 0.5)
    right = jnp.where(acting, edges[cluster.end + 1], 1.0)
    weights = (_mean(target, here, right) - _mean(target, left, here)) / cluster.size
    first = jnp.min(jnp.where(acting, positions, 1.0))
    bias = jnp.where(jnp.any(unknown), jnp.nan, _mean(target, jnp.zeros_like(first), first))
    return bias, jnp.where(acting, weights, jnp.where(unknown, jnp.nan, 0.0))


def _mean(target: PiecewiseConstant, lower: Float[Array, "..."], upper: Float[Array, "..."]) -> Float[Array, "..."]:
    """The mean of the target between two points of [0, 1]: for points in one piece exactly its value there."""
    edges, values = (
        jax.lax.broadcast_to_rank(row, upper.ndim + 1)
        for row in (jnp.pad(target.jumps, 1, constant_values=(0.0, 1.0)), target.values)
    )
    overlap = jnp.minimum(upper[..., None], edges[..., 1:]) - jnp.maximum(lower[..., None], edges[..., :-1])
    return jnp.sum(values * jnp.maximum(overlap, 0.0), axis=-1) / (upper - lower)


class _Run(NamedTuple):
    positions: Float[Array, "t m"]
    events: Int[Array, ""]
    status: Int[Array, ""]


def _closed_form(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], *, max_events: Int[Array, ""]
) -> _Run:
    events = jnp.sum(hit_times(start, target) <= slow_times[-1])
    return _Run(pair_positions(start, target, slow_times), events, jnp.asarray(Status.SUCCESSFUL))


@eqx.filter_custom_jvp
def _event_driven(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], *, max_events: Int[Array, ""]
) -> _Run:
    return _Run(*integrate(start, target, slow_times, max_events))


@_event_driven.def_jvp
def _(primals, tangents, *, max_events):
    """The whole Jacobian, in forward mode through all events: contracting it is linear, and so has a reverse mode."""
    start, target, slow_times = primals
    parameters, unravel = ravel_pytree((start, target, jnp.zeros_like(slow_times[0])))

    def positions(parameters):
        start, target, shift = unravel(parameters)
        run = _Run(*integrate(start, target, slow_times + shift, max_events))
        return run.positions, run

    jacobian, run = jax.jacfwd(positions, has_aux=True)(parameters)
    *direction, later = jax.tree.map(lambda p, t: jnp.zeros_like(p) if t is None else t, primals, tangents)
    moved = jacobian[..., :-1] @ ravel_pytree(direction)[0] + jacobian[..., -1] * later[:, None]
    return run, eqx.tree_at(lambda run: run.positions, jax.tree.map(lambda _: None, run), moved, is_leaf=_is_none)


def _is_none(leaf: object) -> bool:
    return leaf is None


def _by_start(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], *, max_events: Int[Array, ""]
) -> _Run:
    """`vmap` runs both engines: each is given neurons at rest where it is not the one that counts."""
    exact = has_closed_form(start, target)
    at_rest = jnp.zeros_like(start)
    return jax.lax.cond(
        exact,
        lambda: _closed_form(jnp.where(exact, start, at_rest), target, slow_times, max_events=max_events),
        lambda: _event_driven(jnp.where(exact, at_rest, start), target, slow_times, max_events=max_events),
    )


METHODS = {
    _closed_form: "closed form",
    _event_driven: "event-driven",
    _by_start: "closed form where the start has one, else event-driven",
}


@program
def _trajectory(
    engine: Callable[..., _Run],
    max_events: Int[Array, ""],
    model: ShallowNetwork,
    problem: AbstractProblem,
    target: PiecewiseConstant,
    slow_times: Float[Array, " t"],
) -> Trajectory:
    run = engine(model.positions[:, 0], target, slow_times, max_events=max_events)
    bias, weights = jax.vmap(best_fit, (0, None))(run.positions, target)
    start = ShallowNetwork(model.weights, model.positions, model.bias, Heaviside())
    network = ShallowNetwork(weights[..., None], run.positions[..., None], bias, Heaviside())
    risk, status = risk_and_status(problem, start, network, run.status)
    return Trajectory(
        slow_time=slow_times,
        fast_time=None,
        step=None,
        model=network,
        risk=risk,
        status=status,
        stats=Stats(METHODS[engine], run.events, jnp.zeros_like(run.events)),
    )
