"""The clocks of SGD, which its diffusion shares."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ... import _checks as checks
from ..base import Epsilon, Task, ratios_of, slowest


class Clock(NamedTuple):
    """Steps that count on from those of the run before."""

    first: Int[Array, ""]
    """Where the run begins."""
    steps: Int[Array, " t"]
    """Nearest to each save time."""
    fast_time: Float[Array, " t"]

    @classmethod
    def of(cls, epsilon: Epsilon, step_size: Float[Array, ""], task: Task, parts: int = 1) -> "Clock":
        """Raises `ValueError` where there are more `parts` of steps than 32 bits count."""
        ratio = slowest(ratios_of(epsilon))
        own_first, own_steps = _nearest(task.begin.slow_time, task.slow_times, ratio, step_size, parts)
        own_fast_first, own_fast = (step_size * steps.astype(step_size.dtype) for steps in (own_first, own_steps))
        shift = task.begin.shift(task.begin.step, own_first)
        return cls(
            first=own_first + shift,
            steps=own_steps + shift,
            fast_time=own_fast + task.begin.shift(task.begin.fast_time, own_fast_first),
        )


def count(epsilon: Epsilon, step_size: Float[Array, ""], slow_times: Float[np.ndarray, " t"], parts: int = 1) -> int:
    """How many parts of steps lead to the last save time."""
    fast_time = float(slow_times[-1]) / float(slowest(ratios_of(epsilon)))
    return parts * round(min(fast_time / float(step_size), 2.0**63))


def _nearest(
    begin: Float[Array, ""],
    slow_times: Float[Array, " t"],
    ratio: Float[Array, ""],
    step_size: Float[Array, ""],
    parts: int,
) -> tuple[Int[Array, ""], Int[Array, " t"]]:
    """The steps nearest to the beginning and to each save time."""
    known = checks.concrete((begin, slow_times[-1], ratio, step_size))
    if known is None:
        first, steps = (jnp.round(tau / (ratio * step_size)).astype(int) for tau in (begin, slow_times))
        return first, steps
    _, last, epsilon, size = known.tolist()
    if (most := parts * (last / epsilon / size)) >= 2**31:
        raise ValueError(
            f"slow time {last:g} takes {most:.1e} steps of epsilon * step_size = "
            f"{epsilon * size / parts:.1e}, more than 2**31: take a larger step_size"
        )
    first, steps = (np.rint(np.asarray(tau, np.float64) / (epsilon * size)) for tau in (begin, slow_times))
    return jnp.asarray(first.astype(int)), jnp.asarray(steps.astype(int))
