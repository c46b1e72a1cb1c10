"""A descent from save to save; from the host stretch by stretch, where it can be watched, interrupted, and written to
disk on the way."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from ..._pace import Pace
from ..._platform import alone
from ..._program import program
from ..base import Task
from .checkpoint import Checkpoint
from .descent import AbstractSteps

STRETCH = 2**20
"""Steps between two checkpoints."""
FIRST = 2**22
"""Parameters times samples of the steps after which the clock is looked at for the first time."""
BUFFER = 2**22
"""Numbers that the saves of a stretch may take, at most."""


class _Reached(NamedTuple):
    at: np.ndarray
    """The number of steps taken."""
    state: Any
    steps: np.ndarray
    """After which the parameters were saved, and these parameters."""
    saved: PyTree


def run(
    descent: AbstractSteps, start: Any, first: Int[Array, ""], steps: Int[Array, " t"], task: Task
) -> tuple[PyTree, Any]:
    """The parameters after each number of `steps`, counted from `first`, and the last state."""
    if alone():
        return _from_the_host(descent, start, np.asarray(first), np.asarray(steps), task)
    return _traced(descent, start, first, steps)


@eqx.filter_jit
def _traced(descent: AbstractSteps, start: Any, first: Int[Array, ""], steps: Int[Array, " t"]) -> tuple[PyTree, Any]:
    def to_next_save(carry, last):
        first, state = carry
        state = descent.advance(state, first, last)
        return (last, state), state.params

    (_, end), saved = jax.lax.scan(to_next_save, (first, start), steps)
    return saved, end


def _from_the_host(
    descent: AbstractSteps, start: Any, first: Int[np.ndarray, ""], steps: Int[np.ndarray, " t"], task: Task
) -> tuple[PyTree, Any]:
    none = jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape), leaf.dtype), start.params)
    begin = _Reached(np.array(first), start, np.array([], int), none)
    file = None
    if task.checkpoint is not None:
        file = Checkpoint(task.checkpoint, (descent, start, first))
        begin = _kept(file, begin, steps)
    # In one variable, which Ctrl-C finds either before a stretch or after.
    here = int(begin.at), begin.state, len(begin.steps), [begin.saved]
    last, began = int(steps[-1]), int(begin.at) - int(first)

    def write():
        at, state, done, parts = here
        if file is not None:
            file.write(_Reached(np.array(at), state, steps[:done], _joined(parts)))

    pace = Pace(max(1, FIRST // (_size(start) * descent.samples(start.params))))
    # Numbers of saves share a compiled program.
    most = max(1, min(2 ** max(4, (len(steps) - 1).bit_length()), BUFFER // _size(start)))
    try:
        while here[2] < len(steps):
            at, state, done, parts = here
            end = min(last, (at // STRETCH + 1) * STRETCH, _whole_blocks(at, pace.amount, descent.length))
            due = steps[done : done + most]
            count = int(np.searchsorted(due, end, side="right"))
            end = int(due[-1]) if count == most < len(steps) - done else end
            padded = jnp.asarray(np.append(due, np.full(most - len(due), last)))
            span = map(jnp.asarray, (at, end, count))
            with pace.measure(end - at):
                state, saved = jax.block_until_ready(_stretch(descent, state, padded, *span))
            # By NumPy: JAX would compile a program for each length.
            saved = jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], saved)
            here = end, state, done + count, [*parts, saved]
            if end % STRETCH == 0 or here[2] == len(steps):
                write()
            task.look(end - int(first), last - int(first), began=began)
    except KeyboardInterrupt:
        write()
        raise
    _, state, _, parts = here
    return jax.tree.map(_placed, _joined(parts), start.params), state


def _placed(saved: np.ndarray, like: Array) -> Array:
    return jax.device_put(saved, like.sharding if like.committed else None)


@program
def _stretch(
    descent: AbstractSteps,
    state: Any,
    saves: Int[Array, " s"],
    first: Int[Array, ""],
    last: Int[Array, ""],
    count: Int[Array, ""],
) -> tuple[Any, PyTree]:
    """Steps `first` to `last - 1`, and the parameters after those of the first `count` of `saves`."""

    def goes_on(carry):
        k, at, _, _ = carry
        return (k < count) | (at < last)

    def to_next(carry):
        k, at, state, saved = carry
        to = jnp.where(k < count, saves[jnp.minimum(k, len(saves) - 1)], last)
        state = descent.advance(state, at, to)
        return k + 1, to, state, jax.tree.map(lambda rows, row: rows.at[k].set(row), saved, state.params)

    saved = jax.tree.map(lambda leaf: jnp.zeros((len(saves) + 1, *leaf.shape), leaf.dtype), state.params)
    _, _, state, saved = jax.lax.while_loop(goes_on, to_next, (jnp.zeros_like(count), first, state, saved))
    return state, saved


def _kept(file: Checkpoint, begin: _Reached, steps: Int[np.ndarray, " t"]) -> _Reached:
    """What the file holds of the saves that are asked for; `begin` where there is no file."""
    found = file.read(begin)
    if found is None:
        return begin
    at = int(found.at)
    wanted = steps[steps <= at]
    known = np.append(np.asarray(found.steps), at)
    if at > steps[-1]:
        raise ValueError(
            f"the checkpoint {file.path} has come to step {at}, past the last save time at step {steps[-1]}: "
            "ask for later save times too, or give another file"
        )
    if missing := sorted(set(wanted.tolist()) - set(known.tolist())):
        raise ValueError(
            f"the checkpoint {file.path} has come to step {at} and has no save at step {missing[0]}: "
            "leave such save times out, or give another file"
        )
    rows = np.searchsorted(known, wanted)
    saved = jax.tree.map(lambda rest, last: np.append(rest, last[None], 0)[rows], found.saved, found.state.params)
    return found._replace(steps=wanted, saved=saved)


def _whole_blocks(at: int, amount: int, length: int) -> int:
    """So many steps further, or to the end of the last block before: samples of a part are drawn twice."""
    end = at + amount
    return end if end // length * length <= at else end // length * length


def _size(state: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def _joined(parts: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
