"""Stochastic gradient descent at two time scales."""

import os
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree, Real
from typing_extensions import override

from ... import _checks as checks
from ..._fingerprint import MadeFrom
from ...trajectory import Stats, Status, Trajectory, risk_and_status
from ..base import AbstractDynamics, Epsilon, Groups, Pick, Task, checked_speeds, ratios_of, slowest
from ..optimizer import Optimizer, checked, refuse_what_needs_more
from . import kernel, lanes
from .checkpoint import Checkpoint
from .descent import Descent, State, is_finite
from .stream import AbstractStream, Epochs, Exact, Fresh, Replay

STRETCH = 2**20
"""Steps between two reports of progress, and two checkpoints."""


class SGD(AbstractDynamics):
    r"""One stochastic gradient step at a time, the slow leaves `epsilon` times slower.

    $$a_{p+1} = a_p - h\,\nabla_a \ell, \qquad u_{p+1} = u_p - \epsilon h\,\nabla_u \ell, \qquad
      \ell = \tfrac1B \textstyle\sum_{i=1}^B (f(x_i) - y_i)^2$$

    (or the loss of a `Dataset`) with `step_size` h and B = `batch_size` fresh samples each step. Step p has fast time
    $t = hp$ and slow time $\tau = \epsilon h p$; a save time is rounded to the nearest step.

    Samples are drawn for blocks of L = max(1, 512 // B) steps: step p takes its rows of
    `problem.sample(jax.random.fold_in(key, p // L), L * B)`, so that the stream depends on the key and the step number
    alone. `reshuffle=True`, for a `Dataset`, goes through all of its rows in a new random order in every epoch instead
    of drawing with replacement; a batch may end one epoch and begin the next. `batch_size=None` takes the exact
    gradient of the risk, which is the explicit Euler method for `GradientFlow` with fast-time step h.

    `optimizer` (Optax) replaces `optax.sgd(step_size)`; `step_size` then only sets the clocks. One of them sees the
    whole gradient, and a tuple `(fast, slow, ...)` each its group of leaves. The updates of the slow leaves are
    multiplied by their `epsilon` after it, so adaptive ones keep the ratio. The labels of `optax.partition` may be a
    tree of the model's structure. `optax.MultiSteps` moves once in several steps. Those that need more than gradients
    and parameters, such as `optax.lbfgs`, are refused.

    `slow` says which leaves are slow, as in `slow=lambda model: model.layers[0]`; a `ShallowNetwork` knows its own.
    With several slow groups `epsilon` and `slow` are tuples of one length: the leaves of group i move `epsilon[i]`
    times as fast as the rest, and slow time is `min(epsilon) t`, as in `(0.1, 1e-3), slow=(lambda m: m.layers[1],
    lambda m: m.layers[0])`. `frozen` picks leaves that do not move, in the same way: buffers, statistics, layers that
    are not to train. It wins over `slow`, no optimiser sees such leaves, and in the trajectory they have a time axis as
    all others have.

    One-dimensional networks of smooth steps take their gradient in closed form, and runs that `jax.vmap` puts side by
    side share each instruction of the processor; other models take it by automatic differentiation. On a GPU such runs
    without an `optimizer`, with neurons times batch size up to 64, take a block of steps in one launch, each run on a
    thread; `stats.method` says so. The first run of its kind in a process checks a few steps, and where they fail warns
    and keeps to the loop of XLA.

    In 64-bit the state is plain. In 32-bit, which cannot hold updates of `epsilon * step_size` = 1e-10 to positions
    near 1, the state carries compensated sums (Kahan, 1965).

    Derivatives with respect to the start, `epsilon`, `step_size`, the samples and the target are those of the
    computed steps, at fixed numbers of steps. `adjoint` is as in Diffrax: the default `RecursiveCheckpointAdjoint` is
    for reverse mode, with a memory that does not grow with the number of steps; `diffrax.ForwardMode()` is for
    forward mode.

    A run whose state becomes infinite or NaN stops there with `Status.DIVERGED`.

    Raises `ValueError` for an `epsilon` or `step_size` that is not positive or does not fit `slow`, for what is no
    optimiser of Optax or needs the value of the loss, and in `simulate` where neither `key` nor `samples` is given,
    `samples` has fewer rows than steps, or `reshuffle` has no rows to draw.

    Source: Marion and Berthier (2023), arXiv 2304.09576.
    """

    side_by_side = True
    shards = True
    resumable = True

    epsilon: Epsilon
    step_size: Float[Array, ""]
    batch_size: int | None = eqx.field(static=True)
    slow: Pick | tuple[Pick, ...] | None = eqx.field(static=True)
    optimizer: Optimizer | None = eqx.field(static=True)
    adjoint: diffrax.RecursiveCheckpointAdjoint | diffrax.ForwardMode
    reshuffle: bool = eqx.field(static=True)
    frozen: Pick | None = eqx.field(static=True)

    def __init__(
        self,
        epsilon: Real[ArrayLike, ""] | tuple[Real[ArrayLike, ""], ...],
        step_size: Real[ArrayLike, ""],
        batch_size: int | None = 1,
        slow: Pick | tuple[Pick, ...] | None = None,
        optimizer: Optimizer | optax.MultiSteps | None = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
        reshuffle: bool = False,
        frozen: Pick | None = None,
    ):
        self.epsilon, self.slow = checked_speeds(epsilon, slow)
        self.step_size = checks.as_float(checks.positive("step_size", step_size))
        self.batch_size = None if batch_size is None else checks.count("batch_size", batch_size)
        self.frozen = checks.picks_leaves("frozen", frozen)
        self.optimizer = None if optimizer is None else checked(optimizer, 1 + len(ratios_of(self.epsilon)))
        self.reshuffle = reshuffle
        adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
        if not isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint | diffrax.ForwardMode):
            raise ValueError(
                "SGD is differentiated by RecursiveCheckpointAdjoint (reverse mode) or ForwardMode, "
                f"got {type(adjoint).__name__}"
            )
        self.adjoint = adjoint

    @property
    @override
    def stochastic(self) -> bool:
        return self.batch_size is not None

    @override
    def steps(self, slow_times: Float[np.ndarray, " t"]) -> int:
        fast_time = float(slow_times[-1]) / float(slowest(ratios_of(self.epsilon)))
        return round(min(fast_time / float(self.step_size), 2.0**63))

    @override
    def run(self, task: Task) -> Trajectory:
        groups = Groups.of(task.model, self.slow, self.frozen)
        steps = self._steps_at(task.slow_times)
        descent = Descent(
            epsilons=ratios_of(self.epsilon),
            step_size=self.step_size,
            given_optimizer=MadeFrom(self.optimizer),
            adjoint=self.adjoint,
            problem=task.problem,
            structure=groups.knows(task.problem.structure(task.model)),
            stream=self._stream(task, steps),
            fixed=groups.fixed,
            labels=groups.labels,
        )
        if self.optimizer is not None:
            refuse_what_needs_more(descent.optimizer, groups.moving)
        start = descent.start(groups.moving)
        if task.progress is None and task.checkpoint is None:
            saved, end = _save_at(descent, start, steps)
        else:
            saved, end = _from_host(descent, start, steps, task.progress, task.checkpoint)
        stacked = groups.over_time(saved)
        status = jnp.where(is_finite(end.params), Status.SUCCESSFUL, Status.DIVERGED)
        risk, status = risk_and_status(task.problem, stacked, status)
        one_launch = lanes.applies(descent) and kernel.applies(descent, start)
        return Trajectory(
            slow_time=task.slow_times,
            fast_time=self.step_size * steps.astype(self.step_size.dtype),
            step=steps,
            model=stacked,
            risk=risk,
            status=status,
            stats=Stats(
                "SGD, one launch for many steps" if one_launch else "SGD",
                steps=steps[-1],
                rejected=jnp.zeros_like(steps[-1]),
            ),
        )

    def _steps_at(self, slow_times: Float[Array, " t"]) -> Int[Array, " t"]:
        """The step nearest to each save time."""
        ratio = slowest(ratios_of(self.epsilon))
        known = checks.concrete((slow_times[-1], ratio, self.step_size))
        if known is None:
            return jnp.round(slow_times / (ratio * self.step_size)).astype(int)
        last, epsilon, step_size = known.tolist()
        if (most := last / epsilon / step_size) >= 2**31:
            raise ValueError(
                f"slow time {last:g} takes {most:.1e} steps of epsilon * step_size = "
                f"{epsilon * step_size:.1e}, more than 2**31: take a larger step_size"
            )
        return jnp.asarray(np.rint(np.asarray(slow_times, np.float64) / (epsilon * step_size)).astype(int))

    def _stream(self, task: Task, steps: Int[Array, " t"]) -> AbstractStream:
        if self.reshuffle and (task.samples is not None or self.batch_size is None):
            raise ValueError("reshuffle=True draws rows: leave it out, or leave out samples and batch_size=None")
        if self.batch_size is None:
            return Exact()
        if task.samples is not None:
            return Replay.of(task.samples, self.batch_size, checks.concrete(steps))
        assert task.key is not None, "`simulate` has refused that"
        if self.reshuffle:
            return Epochs.of(task.problem, task.key, self.batch_size, checks.concrete(steps))
        return Fresh(problem=task.problem, key=task.key, batch_size=self.batch_size)


def _advance(descent: Descent, state: State, first: Int[Array, ""], last: Int[Array, ""]) -> State:
    """Steps `first` to `last - 1`, by the fastest way there is."""
    if lanes.applies(descent):
        return lanes.advance(descent, state, first, last)
    return descent.advance(state, first, last)


@eqx.filter_jit
def _save_at(descent: Descent, start: State, steps: Int[Array, " t"]) -> tuple[PyTree, State]:
    """The parameters after each number of steps, and the last state."""

    def to_next_save(carry, last):
        first, state = carry
        state = _advance(descent, state, first, last)
        return (last, state), state.params

    (_, end), saved = jax.lax.scan(to_next_save, (jnp.zeros_like(steps[0]), start), steps)
    return saved, end


def _from_host(
    descent: Descent,
    start: State,
    steps: Int[Array, " t"],
    progress: Callable[[int, int], None] | None,
    checkpoint: str | os.PathLike[str] | None,
) -> tuple[PyTree, State]:
    """The same, from the host stretch by stretch."""
    saved = jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), start.params)
    begin = np.array(0), start, saved
    file = None
    if checkpoint is not None:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((descent, start, steps))):
            raise ValueError("checkpoint is for one run at a time: call simulate outside of jax.jit and jax.vmap")
        file = Checkpoint(checkpoint, (descent, start, steps))
        begin = file.read(begin) or begin
    at, state, total = int(begin[0]), begin[1], int(steps[-1])
    history = [jax.tree.map(lambda leaf, i=i: leaf[i], begin[2]) for i in range(len(jax.tree.leaves(begin[2])[0]))]

    def stacked():
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *history) if history else saved

    def write():
        if file is not None:
            file.write((np.array(at), state, stacked()))

    finished = len(history) == len(steps)
    for last in steps.tolist()[len(history) :]:
        while at < last:
            end = min(last, (at // STRETCH + 1) * STRETCH)
            state = jax.block_until_ready(_advance_compiled(descent, state, jnp.asarray(at), jnp.asarray(end)))
            at = end
            if at % STRETCH == 0:
                write()
            if progress is not None:
                progress(at, total)
        history.append(state.params)
    if not finished:
        write()
    return stacked(), state


_advance_compiled = eqx.filter_jit(_advance)
