"""Stochastic gradient descent at two time scales."""

import dataclasses

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
from ...problems import AbstractProblem
from ...trajectory import Stats, Status, Trajectory, is_finite, risk_and_status
from ..base import AbstractDynamics, Epsilon, Groups, Pick, Task, checked_speeds, ratios_of
from ..optimizer import Optimizer, checked, refuse_what_needs_more
from . import kernel, lanes, stretches
from .clock import Clock, count
from .descent import AbstractSteps, Adjoint, Descent, State, checked_adjoint
from .stream import AbstractStream, Epochs, Exact, Fresh, Replay


class SGD(AbstractDynamics):
    r"""One stochastic gradient step at a time, the slow leaves `epsilon` times slower.

    $$a_{p+1} = a_p - h\,\nabla_a \ell, \qquad u_{p+1} = u_p - \epsilon h\,\nabla_u \ell, \qquad
      \ell = \tfrac1B \textstyle\sum_{i=1}^B (f(x_i) - y_i)^2$$

    (or the loss of a `Dataset`) with `step_size` h and B = `batch_size` fresh samples each step. There is no factor
    1/2. Step p has fast time $t = hp$ and slow time $\tau = \epsilon h p$; a save time is rounded to the nearest step.

    **Arguments:**

    - `epsilon`: the step size of the slow leaves over that of all others, positive
    - `step_size`: h, in fast time
    - `batch_size`: B, or None for the exact gradient of the risk, which is the explicit Euler method for `GradientFlow`
      with fast-time step h
    - `slow`: which leaves are slow, as in `slow=lambda model: model.layers[0]`; networks of this package know their
      own. With several slow groups `epsilon` and `slow` are tuples of one length: the leaves of group i move
      `epsilon[i]` times as fast as the rest, and slow time is `min(epsilon) t`, as in `(0.1, 1e-3), slow=(lambda m:
      m.layers[1], lambda m: m.layers[0])`
    - `optimizer`: of Optax, in place of `optax.sgd(step_size)`; `step_size` then only sets the clocks. One sees the
      whole gradient, and a tuple `(fast, slow, ...)` each its group of leaves. The updates of the slow leaves are
      multiplied by their `epsilon` after it, so adaptive ones keep the ratio. The labels of `optax.partition` may be a
      tree of the model's structure. `optax.MultiSteps` moves once in several steps. Those that need more than gradients
      and parameters, such as `optax.lbfgs`, are refused
    - `adjoint`: how derivatives are taken: the default `diffrax.RecursiveCheckpointAdjoint()` is for reverse mode, with
      a memory that does not grow with the number of steps; `diffrax.ForwardMode()` is for forward mode
    - `reshuffle`: whether to go through all rows of a `Dataset` in a new random order in every epoch, instead of
      drawing with replacement; a batch may end one epoch and begin the next
    - `frozen`: picks leaves that do not move, as `slow` does: buffers, statistics, layers that are not to train. It
      wins over `slow`, no optimiser sees such leaves, and in the trajectory they have a time axis as all others have
    - `svag`: l, which is 1 for SGD; see below

    *Samples* are drawn for blocks of L = max(1, 512 // B) steps: step p takes its rows of
    `problem.sample(jax.random.fold_in(key, p // L), L * B)`, so that the stream depends on the key and the step number
    alone.

    *SVAG.* `svag=l` (stochastic variance amplified gradient) takes l steps of size h/l for one step of SGD, each with
    two independent batches and the gradient

    $$\tfrac12 (1 + \sqrt{2l - 1})\,\nabla \ell_1 + \tfrac12 (1 - \sqrt{2l - 1})\,\nabla \ell_2 ,$$

    which has the same mean and l times the covariance: l = 1 is SGD, and its limit for large l is `SGDDiffusion`, so
    that SGD is as well described by that as it agrees with l = 2, 4, 8, ... Clocks and save times are those of SGD;
    `stats.steps` and the stream count l to a step, and a row of `samples` holds both batches. It is for plain steps
    with samples drawn anew: `optimizer`, `reshuffle` and `batch_size=None` are refused.

    *Speed.* One-dimensional networks of smooth steps take their gradient in closed form, and runs that `jax.vmap` puts
    side by side share each instruction of the processor; other models take it by automatic differentiation. On a GPU
    such runs without an `optimizer`, with neurons times batch size up to 64, take a block of steps in one launch, each
    run on a thread; `stats.method` says so. The first run of its kind in a process checks a few steps, and where they
    fail warns and keeps to the loop of XLA.

    *Precision.* In 64-bit the state is plain. In 32-bit, which cannot hold updates of `epsilon * step_size` = 1e-10 to
    positions near 1, the state carries compensated sums (Kahan, 1965).

    *Derivatives* with respect to the start, `epsilon`, `step_size`, the samples and the target are those of the
    computed steps, at fixed numbers of steps.

    *Failure.* A run whose state becomes infinite or NaN stops there with `Status.DIVERGED`. One whose risk has grown
    beyond any sense, as under a `step_size` that is too large, goes on and has that status too.

    >>> import jax, tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]), noise=0.1)
    >>> model = tts.ShallowNetwork.init(jax.random.key(0), 4, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.SGD(0.1, 0.01), model, problem, [0.0, 0.01, 0.02], key=jax.random.key(1))
    >>> print(run.step, run.fast_time)
    [ 0 10 20] [0.  0.1 0.2]

    Raises `ValueError` for an `epsilon` or `step_size` that is not positive or does not fit `slow`, for what is no
    optimiser of Optax or needs the value of the loss, and in `simulate` where neither `key` nor `samples` is given,
    `samples` has fewer rows than steps, or `reshuffle` has no rows to draw; and for a `svag` above 1 beside what it is
    not for.

    Source: Marion and Berthier (2023), arXiv 2304.09576; Li, Malladi and Arora (2021), arXiv 2102.12470, for SVAG.
    """

    shards = True
    resumable = True

    epsilon: Epsilon
    step_size: Float[Array, ""]
    batch_size: int | None = eqx.field(static=True)
    slow: Pick | tuple[Pick, ...] | None = eqx.field(static=True)
    optimizer: Optimizer | None = eqx.field(static=True)
    adjoint: Adjoint
    reshuffle: bool = eqx.field(static=True)
    frozen: Pick | None = eqx.field(static=True)
    svag: int = eqx.field(static=True)

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
        svag: int = 1,
    ):
        self.epsilon, self.slow = checked_speeds(epsilon, slow)
        self.step_size = checks.as_float(checks.positive("step_size", step_size))
        self.batch_size = None if batch_size is None else checks.count("batch_size", batch_size)
        self.frozen = checks.picks_leaves("frozen", frozen)
        self.optimizer = None if optimizer is None else checked(optimizer, 1 + len(ratios_of(self.epsilon)))
        self.reshuffle = checks.truth("reshuffle", reshuffle)
        self.adjoint = checked_adjoint("SGD", adjoint)
        self.svag = checks.count("svag", svag)
        unfit = {"optimizer": optimizer is not None, "reshuffle=True": reshuffle, "batch_size=None": batch_size is None}
        if self.svag > 1 and any(unfit.values()):
            given = next(name for name, is_given in unfit.items() if is_given)
            raise ValueError(
                f"svag takes plain steps with two independent batches, got svag={self.svag} and {given}: leave one out"
            )

    @property
    @override
    def stochastic(self) -> bool:
        return self.batch_size is not None

    @override
    def steps(self, slow_times: Float[np.ndarray, " t"]) -> int:
        return count(self.epsilon, self.step_size, slow_times, self.svag)

    @override
    def side_by_side(self, model: PyTree, problem: AbstractProblem) -> bool:
        return True

    @override
    def run(self, task: Task) -> Trajectory:
        groups = Groups.of(task.model, self.slow, self.frozen)
        clock = Clock.of(self.epsilon, self.step_size, task, self.svag)
        first, steps = self.svag * clock.first, self.svag * clock.steps
        descent = Descent(
            epsilons=ratios_of(self.epsilon),
            step_size=self.step_size / self.svag,
            svag=self.svag,
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
        start = _with_rest(descent.start(groups.moving), task.begin.end)
        saved, end = stretches.run(_Fastest(descent), start, first, steps, task)
        stacked = groups.over_time(saved)
        status = jnp.where(is_finite(end.params), Status.SUCCESSFUL, Status.DIVERGED)
        risk, status = risk_and_status(task.problem, task.model, stacked, status)
        name = "SGD" if self.svag == 1 else "SVAG"
        one_launch = lanes.applies(descent) and kernel.applies(descent, start)
        return Trajectory(
            slow_time=task.slow_times,
            fast_time=clock.fast_time,
            step=clock.steps,
            model=stacked,
            risk=risk,
            status=status,
            stats=Stats(
                f"{name}, one launch for many steps" if one_launch else name,
                steps=steps[-1] - first,
                rejected=jnp.zeros_like(first),
            ),
            end=dataclasses.replace(end, params=None),
        )

    def _stream(self, task: Task, steps: Int[Array, " t"]) -> AbstractStream:
        if self.reshuffle and (task.samples is not None or self.batch_size is None):
            raise ValueError("reshuffle=True draws rows: leave it out, or leave out samples and batch_size=None")
        if self.batch_size is None:
            return Exact()
        batch_size = self.batch_size if self.svag == 1 else 2 * self.batch_size
        if task.samples is not None:
            return Replay.of(task.samples, batch_size, checks.concrete(steps))
        assert task.key is not None, "`simulate` has refused that"
        if self.reshuffle:
            return Epochs.of(task.problem, task.key, batch_size, checks.concrete(steps))
        return Fresh(problem=task.problem, key=task.key, batch_size=batch_size)


def _with_rest(start: State, rest: PyTree) -> State:
    """With what the run before has left beside its parameters, where it left what this one needs."""

    def kind(tree):
        return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]

    same = kind(rest) == kind(dataclasses.replace(start, params=None))
    return dataclasses.replace(rest, params=start.params) if same else start


class _Fastest(AbstractSteps):
    """The steps of a descent, by the fastest way there is."""

    descent: Descent

    @property
    @override
    def length(self) -> int:
        return self.descent.stream.length

    @override
    def samples(self, params: PyTree) -> int:
        rows, stream = self.descent.problem.rows, self.descent.stream
        return len(rows[1]) if isinstance(stream, Exact) and rows is not None else stream.batch_size

    @override
    def advance(self, state: State, first: Int[Array, ""], last: Int[Array, ""]) -> State:
        if lanes.applies(self.descent):
            return lanes.advance(self.descent, state, first, last)
        return self.descent.advance(state, first, last)
