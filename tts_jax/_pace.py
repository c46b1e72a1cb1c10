"""Long work in parts between which the host looks up: short enough to be interrupted, and too long to cost anything."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._progress import Look

T = TypeVar("T")

THOUSAND = 1000
"""Of what a run, that does not know its steps, is told to have done."""

SECONDS = 0.25
"""Of a part."""
GROWTH = 16
"""From a part to the next, at most: the first may have been compiled."""


class Pace:
    """How much to do next, learned from how long the last part took."""

    def __init__(self, amount: int):
        self.amount = amount

    @contextlib.contextmanager
    def measure(self, done: int) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        fits = done * SECONDS / max(time.perf_counter() - begin, 1e-6)
        if done:
            self.amount = max(1, int(min(max(fits, self.amount / GROWTH), self.amount * GROWTH)))


class Reached(NamedTuple):
    """By a solve that is done in parts."""

    done: Bool[Array, ""]
    time: Float[Array, ""]
    steps: Int[Array, ""]


def in_parts(
    go_on: Callable[[T, Int[Array, ""]], tuple[T, Reached]], state: T, first: int, end: Float[Array, ""], look: Look
) -> T:
    """`go_on(state, attempts)` of a step, `first` ones at first, until it is done; `end` is the time of the last."""
    pace, last = Pace(first), max(float(end), 1e-300)
    while True:
        with pace.measure(pace.amount):
            state, reached = jax.block_until_ready(go_on(state, jnp.asarray(pace.amount)))
        done = THOUSAND if reached.done else min(int(THOUSAND * float(reached.time) / last), THOUSAND - 1)
        look(done, THOUSAND, int(reached.steps))
        if reached.done:
            return state
