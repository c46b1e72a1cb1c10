"""The limit of infinitely fast weights and infinitely steep neurons."""

from collections.abc import Callable
from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree
from typing_extensions import override

from .. import checks
from ..activations import Heaviside
from ..networks import ShallowNetwork
from ..problems import AbstractProblem, Regression
from ..targets import PiecewiseConstant
from ..trajectory import Stats, Status, Trajectory, risk_and_status
from .base import AbstractDynamics, refuse_samples
from .pair import acts, has_closed_form, hit_times, pair_positions


class TwoTimescaleLimit(AbstractDynamics):
    r"""The limit $\epsilon \to 0$, then $\eta \to 0$, of the gradient flow, in slow time $\tau$.

    The network is at all times the best fit that is constant between neighbouring positions: with $c_L$ and $c_R$ the means of
    $f^*$ left and right of a neuron, the risk of that fit falls along its gradient,

    $$u' = (f^*(u) - c_R)^2 - (f^*(u) - c_L)^2.$$

    At a jump of $f^*$ this velocity has two one-sided values. A neuron that reaches a jump passes where both point the same way, and
    sticks (Filippov's sliding mode) while neither points away from the jump; it is released when changes of $c_L$ and $c_R$ end that.
    Where both point away, the limit $\eta \to 0$ decides: a neuron that starts on the jump goes with the sum of both, to the right if
    that is 0; one whose weight has changed its sign while it was stuck goes against the drift of $(c_L + c_R)/2$ (see `_Mode.switch`).

    Neurons outside (0, 1) carry no weight and stay. Neurons that coincide, from the start or by meeting on a jump, stay together, as
    neurons of equal position and weight do in every gradient flow (unstably: the slightest distance grows). Each of n carries 1/n of
    the weight, so they move with 1/n of the velocity above.

    The weights and the bias of the start do not matter. The result is a `ShallowNetwork` of `Heaviside` neurons in the order of the
    model, with its exact risk; `fast_time` and `step` are None, as the limit has no such clocks; `stats.steps` counts events.

    A start in which every jump keeps its own pair of neurons has a closed form (`tts_jax.dynamics.pair`), exact to rounding. Any other
    is integrated from event to event (a neuron reaches a jump, or is released) by Dopri8, to about 1e-12, or 1e-5 in 32-bit. Both work
    under `jit` and `vmap`, and can be differentiated in forward and reverse mode with respect to positions, target and times. Where
    the start is traced, both are compiled; `vmap` also runs both. After `max_events` events a run ends with `Status.MAX_STEPS`.

    The end of a nearly symmetric pair is sensitive: with gaps p and q at the start, the farther neuron stays at the cube root
    of $q^3 - p^3$ from the jump.

    Deterministic: `key` and `progress` have no effect.

    Raises `ValueError` for `max_events` below 1, and in `simulate` for a model that is not a one-dimensional `ShallowNetwork` with a
    bias, for a problem that is not a `Regression` on a `PiecewiseConstant` target, and for `samples`.

    Sources: Marion and Berthier (2023), arXiv 2304.09576, for the limit; Filippov (1988), Differential Equations with Discontinuous
    Righthand Sides, for sliding.
    """

    max_events: int = eqx.field(static=True)

    def __init__(self, max_events: int = 4096):
        self.max_events = checks.count("max_events", max_events)

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
        _check(model, problem)
        exact = eqx.filter_jit(has_closed_form)(model.positions[:, 0], problem.target)
        try:
            engine = _in_closed_form if bool(exact) else _event_driven
        except jax.errors.TracerBoolConversionError:
            engine = _by_start
        return _trajectory(engine, self.max_events, model, problem, slow_times)


def best_fit(
    positions: Float[Array, " m"], target: PiecewiseConstant
) -> tuple[Float[Array, ""], Float[Array, " m"]]:
    """Bias and weights of the best approximation of the target that is constant between neighbouring positions.

    Coincident neurons share a weight; neurons outside (0, 1) have none. NaN where a position is.
    """
    acting, unknown = acts(positions), jnp.isnan(positions)
    edges = jnp.pad(jnp.sort(_parked(positions)), 1, constant_values=(0.0, 1.0))
    cluster = _Cluster.of(edges[1:-1], _parked(positions))
    left = jnp.where(acting, edges[cluster.first], 0.0)
    here = jnp.where(acting, positions, 0.5)
    right = jnp.where(acting, edges[cluster.last + 1], 1.0)
    weights = (_mean(target, here, right) - _mean(target, left, here)) / cluster.size
    first = jnp.min(jnp.where(acting, positions, 1.0))
    bias = jnp.where(jnp.any(unknown), jnp.nan, _mean(target, jnp.zeros_like(first), first))
    return bias, jnp.where(acting, weights, jnp.where(unknown, jnp.nan, 0.0))


class _Run(NamedTuple):
    positions: Float[Array, "t m"]
    events: Int[Array, ""]
    status: Int[Array, ""]


@eqx.filter_jit
def _trajectory(
    engine: Callable[..., _Run],
    max_events: int,
    model: ShallowNetwork,
    problem: Regression,
    slow_times: Float[Array, " t"],
) -> Trajectory:
    run = engine(model.positions[:, 0], problem.target, slow_times, max_events=max_events)
    bias, weights = jax.vmap(best_fit, (0, None))(run.positions, problem.target)
    network = ShallowNetwork(weights[..., None], run.positions[..., None], bias, Heaviside())
    risk, status = risk_and_status(problem, network, run.status)
    return Trajectory(
        slow_time=slow_times,
        fast_time=None,
        step=None,
        model=network,
        risk=risk,
        status=status,
        stats=Stats(METHODS[engine], run.events, jnp.zeros_like(run.events)),
    )


def _in_closed_form(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], *, max_events: int
) -> _Run:
    events = jnp.sum(hit_times(start, target) <= slow_times[-1])
    return _Run(pair_positions(start, target, slow_times), events, jnp.asarray(Status.SUCCESSFUL))


@eqx.filter_custom_jvp
def _event_driven(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], *, max_events: int
) -> _Run:
    return _integrate(start, target, slow_times, max_events)


@_event_driven.def_jvp
def _(primals, tangents, *, max_events):
    """The whole Jacobian in forward mode: contracting it is linear, and so has a reverse mode."""
    start, target, slow_times = primals
    known, unravel = ravel_pytree((start, target, jnp.zeros_like(slow_times[0])))

    def positions(parameters):
        start, target, shift = unravel(parameters)
        run = _integrate(start, target, slow_times + shift, max_events)
        return run.positions, run

    jacobian, run = jax.jacfwd(positions, has_aux=True)(known)
    filled = jax.tree.map(lambda p, t: jnp.zeros_like(p) if t is None else t, primals, tangents)
    direction, _ = ravel_pytree(filled[:2])
    moved = jacobian[..., :-1] @ direction + jacobian[..., -1] * filled[2][:, None]
    return run, _Run(moved, None, None)


def _by_start(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], *, max_events: int
) -> _Run:
    """`vmap` runs both, so each is given neurons at rest where it is not the one that counts."""
    exact = has_closed_form(start, target)
    at_rest = jnp.zeros_like(start)
    return jax.lax.cond(
        exact,
        lambda: _in_closed_form(jnp.where(exact, start, at_rest), target, slow_times, max_events=max_events),
        lambda: _event_driven(jnp.where(exact, at_rest, start), target, slow_times, max_events=max_events),
    )


METHODS = {
    _in_closed_form: "closed form",
    _event_driven: "event-driven, Dopri8",
    _by_start: "closed form where the start has one, else event-driven, Dopri8",
}


# From event to event. In units in which the target's values span 1, no velocity exceeds 1.


class _Cluster(NamedTuple):
    """The first neuron of those that coincide with a neuron, and the first one beyond them, in the sorted order."""

    first: Int[Array, " m"]
    last: Int[Array, " m"]
    size: Float[Array, " m"]

    @classmethod
    def of(cls, ordered: Float[Array, " m"], positions: Float[Array, " m"]) -> "_Cluster":
        first, last = (jnp.searchsorted(ordered, positions, side=side) for side in ("left", "right"))
        return cls(first, last, (last - first).astype(positions.dtype))


class _Mode(eqx.Module):
    """What holds between two events: the pieces of the target that each neuron sees on its left and on its right.

    They are the same, but for a neuron that sticks to the jump between them.
    """

    jumps: Float[Array, " n"]
    levels: Float[Array, " n+1"]
    left: Int[Array, " m"]
    right: Int[Array, " m"]
    acting: Bool[Array, " m"]
    cluster: _Cluster

    @property
    def moving(self) -> Bool[Array, " m"]:
        return self.acting & (self.left == self.right)

    @property
    def piece(self) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The edges of the pieces."""
        edges = jnp.pad(self.jumps, 1, constant_values=(0.0, 1.0))
        return edges[self.left], edges[self.right + 1]

    def fits(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The means of the target left and right of each neuron: smooth functions of the positions, also beyond the next jump."""
        edges = jnp.pad(x, 1, constant_values=(0.0, 1.0))
        begins = jnp.pad(self.right, (1, 0))
        ends = jnp.pad(self.left, (0, 1), constant_values=len(self.jumps))
        first, last = self.cluster.first, self.cluster.last
        return (
            self._mean(edges[first], begins[first], x, self.left),
            self._mean(x, self.right, edges[last + 1], ends[last]),
        )

    def _mean(self, lower, first, upper, last):
        jump = jnp.arange(len(self.jumps), dtype=first.dtype)
        between = (first[:, None] <= jump) & (jump < last[:, None])
        excess = jnp.where(between, jnp.diff(self.levels) * (upper[:, None] - self.jumps), 0.0)
        width = upper - lower
        return self.levels[first] + jnp.sum(excess, axis=1) / jnp.where(width == 0, 1.0, width)

    def pull(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The velocity of a lone neuron with the target's value on its left, and with that on its right."""
        c_left, c_right = self.fits(x)
        return tuple(
            (c_left - c_right) * (2 * self.levels[piece] - c_left - c_right) for piece in (self.left, self.right)
        )

    def velocity(self, t, y, args) -> Float[Array, " m"]:
        return jnp.where(self.moving, self.pull(y)[0] / self.cluster.size, 0.0)

    def slack(self, x: Float[Array, " m"]) -> Float[Array, " m"]:
        """Positive while the mode holds for a neuron."""
        lower, upper = self.piece
        from_left, from_right = self.pull(x)
        inside, stuck = jnp.minimum(x - lower, upper - x), jnp.minimum(from_left, -from_right)
        return jnp.where(self.acting, jnp.where(self.moving, inside, stuck), 1.0)

    def end(self, t, y, args, **kwargs) -> Float[Array, ""]:
        """Zero when some neuron has left its mode by the tolerance, so that the next mode starts well inside its own."""
        return jnp.min(self.slack(y)) + _tolerance(y)

    def switch(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], "_Mode"]:
        """Puts neurons that have crossed a jump onto it, then releases those that do not stay on theirs.

        Where the weight of a neuron changes its sign, both sides begin to pull at once. At finite width such a neuron follows, with a lag,
        the point of its window where the smoothed target equals the mean of both fits: it leaves on the side of the lag.
        """
        lower, upper = self.piece
        crossed = self.moving & ((x < lower) | (x > upper))
        x = jnp.where(self.moving, jnp.clip(x, lower, upper), x)[self.cluster.first]
        left, right = _pieces(self.jumps, x)
        left, right = jnp.where(crossed, left, self.left), jnp.where(crossed, right, self.right)
        mode = _Mode(self.jumps, self.levels, left, right, self.acting, _Cluster.of(x, x))
        _, (drift_left, drift_right) = jax.jvp(mode.fits, (x,), (mode.velocity(None, x, None),))
        rises = mode.levels[right] > mode.levels[left]
        return x, mode.released(x, rises == (drift_left + drift_right < 0))

    def released(self, x: Float[Array, " m"], prefer_right: Bool[Array, " m"]) -> "_Mode":
        from_left, from_right = self.pull(x)
        leaves = (self.left != self.right) & (jnp.maximum(-from_left, from_right) > _tolerance(x) / 2)
        to_right = (from_right > 0) & (prefer_right | (from_left >= 0))
        left = jnp.where(leaves & to_right, self.right, self.left)
        right = jnp.where(leaves & ~to_right, self.left, self.right)
        return eqx.tree_at(lambda mode: (mode.left, mode.right), self, (left, right))


class _State(eqx.Module):
    time: Float[Array, ""]
    positions: Float[Array, " m"]
    mode: _Mode
    saved: Float[Array, "t m"]
    events: Int[Array, ""]
    failed: Bool[Array, ""]


def _integrate(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], max_events: int
) -> _Run:
    order = jnp.argsort(_parked(start))
    x = _parked(start)[order]
    span = jax.lax.stop_gradient(jnp.max(target.values) - jnp.min(target.values))
    span = jnp.where(span > 0, span, 1.0)
    times = slow_times * span**2
    left, right = _pieces(target.jumps, x)
    levels = (target.values - target.values[0]) / span
    mode = _Mode(target.jumps, levels, left, right, acts(x), _Cluster.of(x, x))
    from_left, from_right = mode.pull(x)
    mode = mode.released(x, from_left + from_right >= 0)
    state = _State(
        time=jnp.zeros_like(span),
        positions=x,
        mode=mode,
        saved=jnp.where(times[:, None] > 0, jnp.nan, x),
        events=jnp.zeros((), int),
        failed=jnp.asarray(False),
    )
    state = jax.lax.while_loop(
        lambda s: (s.time < times[-1]) & (s.events < max_events) & ~s.failed, lambda s: _to_next_event(s, times), state
    )
    ended = jnp.where(state.time < times[-1], Status.MAX_STEPS, Status.SUCCESSFUL)
    positions = jnp.where(acts(start), state.saved[:, jnp.argsort(order)], start)
    return _Run(positions, state.events, jnp.where(state.failed, Status.SOLVER_FAILED, ended))


def _to_next_event(state: _State, times: Float[Array, " t"]) -> _State:
    mode, remaining = state.mode, times[-1] - state.time
    accuracy = 1e-14 if times.dtype == jnp.float64 else 1e-6
    solution = dfx.diffeqsolve(
        dfx.ODETerm(mode.velocity),
        dfx.Dopri8(),
        jnp.zeros_like(remaining),
        remaining,
        None,
        state.positions,
        saveat=dfx.SaveAt(
            subs=[dfx.SubSaveAt(ts=jnp.clip(times - state.time, 0.0, remaining)), dfx.SubSaveAt(t1=True)]
        ),
        stepsize_controller=dfx.PIDController(rtol=accuracy, atol=accuracy),
        event=dfx.Event(mode.end, optx.Bisection(0.0, _tolerance(times) / 4, flip=True), direction=False),
        adjoint=dfx.ForwardMode(),
        throw=False,
    )
    (save_times, end), (saved, x) = solution.ts, solution.ys
    switched, next_mode = mode.switch(x[0])
    has_event = solution.event_mask
    reached = (times > state.time) & jnp.isfinite(save_times)
    return _State(
        time=jnp.where(has_event, state.time + end[0], times[-1]),
        positions=switched,
        mode=next_mode,
        saved=jnp.where(reached[:, None], saved, state.saved),
        events=state.events + has_event.astype(state.events.dtype),
        failed=~has_event & (solution.result != dfx.RESULTS.successful),
    )


def _tolerance(x: Float[Array, "..."]) -> float:
    return 256 * float(jnp.finfo(x.dtype).eps)


def _pieces(jumps: Float[Array, " n"], x: Float[Array, " m"]) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
    """The pieces left and right of each position: different for one that is on a jump."""
    return jnp.searchsorted(jumps, x, side="left"), jnp.searchsorted(jumps, x, side="right")


def _parked(positions: Float[Array, " m"]) -> Float[Array, " m"]:
    """Neurons that do not act, moved to 0 or 1."""
    return jnp.where(acts(positions), positions, jnp.where(positions <= 0, 0.0, 1.0))


def _mean(self, lower, first, upper, last):
        jump = jnp.arange(len(self.jumps), dtype=first.dtype)
        between = (first[:, None] <= jump) & (jump < last[:, None])
        excess = jnp.where(between, jnp.diff(self.levels) * (upper[:, None] - self.jumps), 0.0)
        width = upper - lower
        return self.levels[first] + jnp.sum(excess, axis=1) / jnp.where(width == 0, 1.0, width)

    def pull(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The velocity of a lone neuron with the target's value on its left, and with that on its right."""
        c_left, c_right = self.fits(x)
        return tuple(
            (c_left - c_right) * (2 * self.levels[piece] - c_left - c_right) for piece in (self.left, self.right)
        )

    def velocity(self, t, y, args) -> Float[Array, " m"]:
        return jnp.where(self.moving, self.pull(y)[0] / self.cluster.size, 0.0)

    def slack(self, x: Float[Array, " m"]) -> Float[Array, " m"]:
        """Positive while the mode holds for a neuron."""
        lower, upper = self.piece
        from_left, from_right = self.pull(x)
        inside, stuck = jnp.minimum(x - lower, upper - x), jnp.minimum(from_left, -from_right)
        return jnp.where(self.acting, jnp.where(self.moving, inside, stuck), 1.0)

    def end(self, t, y, args, **kwargs) -> Float[Array, ""]:
        """Zero when some neuron has left its mode by the tolerance, so that the next mode starts well inside its own."""
        return jnp.min(self.slack(y)) + _tolerance(y)

    def switch(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], "_Mode"]:
        """Puts neurons that have crossed a jump onto it, then releases those that do not stay on theirs.

        Where the weight of a neuron changes its sign, both sides begin to pull at once. At finite width such a neuron follows, with a lag,
        the point of its window where the smoothed target equals the mean of both fits: it leaves on the side of the lag.
        """
        lower, upper = self.piece
        crossed = self.moving & ((x < lower) | (x > upper))
        x = jnp.where(self.moving, jnp.clip(x, lower, upper), x)[self.cluster.first]
        left, right = _pieces(self.jumps, x)
        left, right = jnp.where(crossed, left, self.left), jnp.where(crossed, right, self.right)
        mode = _Mode(self.jumps, self.levels, left, right, self.acting, _Cluster.of(x, x))
        _, (drift_left, drift_right) = jax.jvp(mode.fits, (x,), (mode.velocity(None, x, None),))
        rises = mode.levels[right] > mode.levels[left]
        return x, mode.released(x, rises == (drift_left + drift_right < 0))

    def released(self, x: Float[Array, " m"], prefer_right: Bool[Array, " m"]) -> "_Mode":
        from_left, from_right = self.pull(x)
        leaves = (self.left != self.right) & (jnp.maximum(-from_left, from_right) > _tolerance(x) / 2)
        to_right = (from_right > 0) & (prefer_right | (from_left >= 0))
        left = jnp.where(leaves & to_right, self.right, self.left)
        right = jnp.where(leaves & ~to_right, self.left, self.right)
        return eqx.tree_at(lambda mode: (mode.left, mode.right), self, (left, right))


class _State(eqx.Module):
    time: Float[Array, ""]
    positions: Float[Array, " m"]
    mode: _Mode
    saved: Float[Array, "t m"]
    events: Int[Array, ""]
    failed: Bool[Array, ""]


def _integrate(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], max_events: int
) -> _Run:
    order = jnp.argsort(_parked(start))
    x = _parked(start)[order]
    span = jax.lax.stop_gradient(jnp.max(target.values) - jnp.min(target.values))
    span = jnp.where(span > 0, span, 1.0)
    times = slow_times * span**2
    left, right = _pieces(target.jumps, x)
    levels = (target.values - target.values[0]) / span
    mode = _Mode(target.jumps, levels, left, right, acts(x), _Cluster.of(x, x))
    from_left, from_right = mode.pull(x)
    mode = mode.released(x, from_left + from_right >= 0)
    state = _State(
        time=jnp.zeros_like(span),
        positions=x,
        mode=mode,
        saved=jnp.where(times[:, None] > 0, jnp.nan, x),
        events=jnp.zeros((), int),
        failed=jnp.asarray(False),
    )
    state = jax.lax.while_loop(
        lambda s: (s.time < times[-1]) & (s.events < max_events) & ~s.failed, lambda s: _to_next_event(s, times), state
    )
    ended = jnp.where(state.time < times[-1], Status.MAX_STEPS, Status.SUCCESSFUL)
    positions = jnp.where(acts(start), state.saved[:, jnp.argsort(order)], start)
    return _Run(positions, state.events, jnp.where(state.failed, Status.SOLVER_FAILED, ended))


def _to_next_event(state: _State, times: Float[Array, " t"]) -> _State:
    mode, remaining = state.mode, times[-1] - state.time
    accuracy = 1e-14 if times.dtype == jnp.float64 else 1e-6
    solution = dfx.diffeqsolve(
        dfx.ODETerm(mode.velocity),
        dfx.Dopri8(),
        jnp.zeros_like(remaining),
        remaining,
        None,
        state.positions,
        saveat=dfx.SaveAt(
            subs=[dfx.SubSaveAt(ts=jnp.clip(times - state.time, 0.0, remaining)), dfx.SubSaveAt(t1=True)]
        ),
        stepsize_controller=dfx.PIDController(rtol=accuracy, atol=accuracy),
        event=dfx.Event(mode.end, optx.Bisection(0.0, _tolerance(times) / 4, flip=True), direction=False),
        adjoint=dfx.ForwardMode(),
        throw=False,
    )
    (save_times, end), (saved, x) = solution.ts, solution.ys
    switched, next_mode = mode.switch(x[0])
    has_event = solution.event_mask
    reached = (times > state.time) & jnp.isfinite(save_times)
    return _State(
        time=jnp.where(has_event, state.time + end[0], times[-1]),
        positions=switched,
        mode=next_mode,
        saved=jnp.where(reached[:, None], saved, state.saved),
        events=state.events + has_event.astype(state.events.dtype),
        failed=~has_event & (solution.result != dfx.RESULTS.successful),
    )


def _tolerance(x: Float[Array, "..."]) -> float:
    return 256 * float(jnp.finfo(x.dtype).eps)


def _pieces(jumps: Float[Array, " n"], x: Float[Array, " m"]) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
    """The pieces left and right of each position: different for one that is on a jump."""
    return jnp.searchsorted(jumps, x, side="left"), jnp.searchsorted(jumps, x, side="right")


def _parked(positions: Float[Array, " m"]) -> Float[Array, " m"]:
    """Neurons that do not act, moved to 0 or 1."""
    return jnp.where(acts(positions), positions, jnp.where(positions <= 0, 0.0, 1.0))


def _first_acting(positions: Float[Array, " m"]) -> Float[Array, ""]:
    return jnp.min(jnp.where(acts(positions), positions, 1.0))


def _mean(
    target: PiecewiseConstant, lower: Float[Array, "..."], upper: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The mean of the target between two points of [0, 1]: for points in one piece exactly its value there."""
    edges = jnp.pad(target.jumps, 1, constant_values=(0.0, 1.0))
    overlap = jnp.minimum(upper[..., None], edges[1:]) - jnp.maximum(lower[..., None], edges[:-1])
    return jnp.sum(target.values * jnp.maximum(overlap, 0.0), axis=-1) / (upper - lower)


def _check(model: PyTree, problem: AbstractProblem) -> None:
    if not isinstance(problem, Regression) or not isinstance(problem.target, PiecewiseConstant):
        raise ValueError(
            f"TwoTimescaleLimit needs a Regression on a PiecewiseConstant target, got {type(problem).__name__}: "
            "pass Regression(PiecewiseConstant(jumps, values))"
        )
    if not isinstance(model, ShallowNetwork) or model.positions.ndim != 2 or model.positions.shape[1] != 1:
        got = f"positions of shape {model.positions.shape}" if isinstance(model, ShallowNetwork) else type(model).__name__
        raise ValueError(f"TwoTimescaleLimit needs a ShallowNetwork with positions of shape (neurons, 1), got {got}")
    if model.bias is None:
        raise ValueError("TwoTimescaleLimit needs a model with a bias, got None: pass bias=jnp.zeros(())")
