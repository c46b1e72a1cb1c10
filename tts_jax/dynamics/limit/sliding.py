r"""The two-timescale limit from event to event: a Filippov system with its discrete modes made explicit.

In a mode each neuron sees fixed pieces of the target on its left and on its right: the same one while it moves, the
two beside a jump while it sticks there. Positions then follow a smooth vector field. The mode ends when a neuron
reaches a jump or is no longer held by one; Diffrax finds that time, the neuron is put onto the jump exactly, and the
next mode follows from the one-sided velocities.

Sources: Filippov (1988), Differential Equations with Discontinuous Righthand Sides; Prince and Dormand (1981), J. Comp.
Appl. Math. 7, for the integrator.
"""

from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from ...targets import PiecewiseConstant
from ...trajectory import Status
from .pair import acts


def integrate(
    start: Float[Array, " m"], target: PiecewiseConstant, slow_times: Float[Array, " t"], max_events: Int[Array, ""]
) -> tuple[Float[Array, "t m"], Int[Array, ""], Int[Array, ""]]:
    """Positions at each slow time (NaN after a failure), the number of events, and a `Status`.

    It is differentiable in forward mode, and works in units in which the values of the target span 1: then no neuron
    is faster than 1.
    """
    span = jax.lax.stop_gradient(jnp.max(target.values) - jnp.min(target.values))
    span = jnp.where(span > 0, span, 1.0)
    times = slow_times * span**2
    order = jnp.argsort(parked(start))
    x = parked(start)[order]
    levels = (target.values - target.values[0]) / span
    mode = _Mode(target.jumps, levels, *_sides(target.jumps, x), acts(x), Cluster.of(x, x))
    state = _State(
        time=jnp.zeros_like(span),
        positions=x,
        mode=mode.released(x, mode.starts_right(x)),
        saved=jnp.where(times[:, None] > 0, jnp.nan, x[None]),
        events=jnp.zeros((), int),
        failed=jnp.asarray(False),
    )
    state = jax.lax.while_loop(
        lambda state: (state.time < times[-1]) & (state.events < max_events) & ~state.failed,
        lambda state: state.after_next_event(times),
        state,
    )
    positions = jnp.where(acts(start)[None], state.saved[:, jnp.argsort(order)], start[None])
    ended = jnp.where(state.time < times[-1], Status.MAX_STEPS, Status.SUCCESSFUL)
    return positions, state.events, jnp.where(state.failed, Status.SOLVER_FAILED, ended)


def parked(positions: Float[Array, " m"]) -> Float[Array, " m"]:
    """Neurons that do not act are put at 0 or 1, where they still do not."""
    return jnp.where(acts(positions), positions, jnp.where(positions <= 0, 0.0, 1.0))


class Cluster(NamedTuple):
    """The neurons at one place, as a range of sorted positions."""

    first: Int[Array, " m"]
    end: Int[Array, " m"]
    size: Float[Array, " m"]

    @classmethod
    def of(cls, ordered: Float[Array, " m"], positions: Float[Array, " m"]) -> "Cluster":
        first, end = (jnp.searchsorted(ordered, positions, side=side) for side in ("left", "right"))
        return cls(first, end, (end - first).astype(positions.dtype))


class _Mode(eqx.Module):
    """What holds between two events. Positions are sorted."""

    jumps: Float[Array, " n"]
    levels: Float[Array, " n+1"]
    left: Int[Array, " m"]
    """The piece of the target that a neuron sees on its left; `right` likewise."""
    right: Int[Array, " m"]
    acting: Bool[Array, " m"]
    cluster: Cluster

    @property
    def moving(self) -> Bool[Array, " m"]:
        return self.acting & (self.left == self.right)

    @property
    def room(self) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The jumps between which a neuron moves."""
        edges = jnp.pad(self.jumps, 1, constant_values=(0.0, 1.0))
        return edges[self.left], edges[self.right + 1]

    def fits(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The means of the target left and right of each neuron; smooth functions, also a little beyond a jump."""
        edges = jnp.pad(x, 1, constant_values=(0.0, 1.0))
        begins = jnp.pad(self.right, (1, 0))
        ends = jnp.pad(self.left, (0, 1), constant_values=len(self.jumps))
        first, end = self.cluster.first, self.cluster.end
        return (
            self._mean(edges[first], begins[first], x, self.left),
            self._mean(x, self.right, edges[end + 1], ends[end]),
        )

    def _mean(self, lower, first, upper, last):
        """From `lower` in piece `first` to `upper` in piece `last`."""
        jump = jnp.arange(len(self.jumps), dtype=first.dtype)[None]
        between = (first[:, None] <= jump) & (jump < last[:, None])
        rise = jnp.where(between, jnp.diff(self.levels)[None] * (upper[:, None] - self.jumps[None]), 0.0)
        width = upper - lower
        return self.levels[first] + jnp.sum(rise, axis=1) / jnp.where(width == 0, 1.0, width)

    def pull(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """The velocity of a lone neuron with the target's value on its left, and with that on its right."""
        c_left, c_right = self.fits(x)
        here, there = self.levels[self.left], self.levels[self.right]
        return (c_left - c_right) * (2 * here - c_left - c_right), (c_left - c_right) * (2 * there - c_left - c_right)

    def starts_right(self, x: Float[Array, " m"]) -> Bool[Array, " m"]:
        """Whether the sum of both pulls points right, or is 0 to the rounding of the fits: of sums of order 1."""
        c_left, c_right = self.fits(x)
        excess = self.levels[self.left] + self.levels[self.right] - (c_left + c_right)
        return jnp.where(c_left >= c_right, excess, -excess) >= -_tolerance(x)

    def velocity(self, t, y, args) -> Float[Array, " m"]:
        return jnp.where(self.moving, self.pull(y)[0] / self.cluster.size, 0.0)

    def slack(self, t, y, args, **kwargs) -> Float[Array, ""]:
        """Positive while the mode holds, and for a tolerance longer, so that the next one starts inside its own."""
        lower, upper = self.room
        from_left, from_right = self.pull(y)
        inside, stuck = jnp.minimum(y - lower, upper - y), jnp.minimum(from_left, -from_right)
        return jnp.min(jnp.where(self.acting, jnp.where(self.moving, inside, stuck), 1.0)) + _tolerance(y)

    def next(self, x: Float[Array, " m"]) -> tuple[Float[Array, " m"], "_Mode"]:
        """Puts neurons that have crossed a jump onto it, then releases those that do not stay on theirs.

        Where the weight of a stuck neuron changes its sign, both sides begin to pull at once. At a finite width it lags
        behind the point of its window where the smoothed target equals the mean of the two fits, and which now repels
        it: so it leaves against the drift of that point, and to the right where that is 0 to rounding.
        """
        lower, upper = self.room
        crossed = self.moving & ((x < lower) | (x > upper))
        x = jnp.where(self.moving, jnp.clip(x, lower, upper), x)[self.cluster.first]
        left, right = _sides(self.jumps, x)
        left, right = jnp.where(crossed, left, self.left), jnp.where(crossed, right, self.right)
        mode = _Mode(self.jumps, self.levels, left, right, self.acting, Cluster.of(x, x))
        _, (drift_left, drift_right) = jax.jvp(mode.fits, (x,), (mode.velocity(None, x, None),))
        rises = self.levels[right] > self.levels[left]
        drift = jnp.where(rises, 1.0, -1.0) * (drift_left + drift_right)
        leaves_left = drift > _tolerance(x) * (jnp.abs(drift_left) + jnp.abs(drift_right))
        return x, mode.released(x, ~leaves_left)

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

    def after_next_event(self, times: Float[Array, " t"]) -> "_State":
        remaining = times[-1] - self.time
        accuracy = 1e-14 if times.dtype == jnp.float64 else 1e-6
        solution = dfx.diffeqsolve(
            dfx.ODETerm(self.mode.velocity),
            dfx.Dopri8(),
            jnp.zeros_like(remaining),
            remaining,
            None,
            self.positions,
            saveat=dfx.SaveAt(
                subs=[dfx.SubSaveAt(ts=jnp.clip(times - self.time, 0.0, remaining)), dfx.SubSaveAt(t1=True)]
            ),
            stepsize_controller=dfx.PIDController(rtol=accuracy, atol=accuracy),
            event=dfx.Event(self.mode.slack, optx.Bisection(0.0, _tolerance(times) / 4, flip=True), direction=False),
            adjoint=dfx.ForwardMode(),
            throw=False,
        )
        (save_times, (end,)), (saved, (x,)) = solution.ts, solution.ys
        is_event = solution.event_mask
        is_new = (times > self.time) & jnp.isfinite(save_times)
        x, mode = self.mode.next(x)
        return _State(
            time=jnp.where(is_event, self.time + end, times[-1]),
            positions=x,
            mode=mode,
            saved=jnp.where(is_new[:, None], saved, self.saved),
            events=self.events + is_event.astype(self.events.dtype),
            failed=~is_event & (solution.result != dfx.RESULTS.successful),
        )


def _tolerance(x: Float[Array, "..."]) -> float:
    return 256 * float(jnp.finfo(x.dtype).eps)


def _sides(jumps: Float[Array, " n"], x: Float[Array, " m"]) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
    """The pieces left and right of each position: two where it is on a jump."""
    return jnp.searchsorted(jumps, x, side="left"), jnp.searchsorted(jumps, x, side="right")
