"""Stochastic gradient descent at two time scales."""

import abc
from collections.abc import Callable
from typing import Any, TypeVar

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, Num, PyTree, Real
from typing_extensions import override

from .. import checks
from ..networks import trainable
from ..problems import AbstractProblem
from ..trajectory import Stats, Status, Trajectory, risk_and_status
from .base import AbstractDynamics, Optimizer, timescale_labels, two_timescale

T = TypeVar("T")

BLOCK = 1024
"""Steps whose samples are drawn together."""
UNROLL = 4
CHUNK = 2**20
"""Steps between two reports of progress."""


class SGD(AbstractDynamics):
    r"""One stochastic gradient step at a time, the slow leaves `epsilon` times slower.

    $$a_{p+1} = a_p - h\,\nabla_a \ell, \qquad u_{p+1} = u_p - \epsilon h\,\nabla_u \ell, \qquad
      \ell = \tfrac1B \textstyle\sum_{i=1}^B (f(x_i) - y_i)^2$$

    (or the loss of a `Dataset`) with `step_size` h and B = `batch_size` fresh samples each step. Step p has fast time
    $t = hp$ and slow time $\tau = \epsilon h p$; a save time is rounded to the nearest step.

    Step p draws `problem.sample(jax.random.fold_in(key, p), batch_size)`: the stream depends on the key and the step
    number alone. `batch_size=None` takes the exact gradient of the risk instead, which is the explicit Euler method
    for `GradientFlow` with fast-time step h.

    `optimizer` (Optax) replaces `optax.sgd(step_size)`, for both groups, or a pair of them `(fast, slow)`, one for
    each; `step_size` then only sets the clocks. The updates of the slow leaves are multiplied by `epsilon` after the
    optimiser, so adaptive ones keep the ratio. `slow` says which leaves are slow, as in `slow=lambda model:
    model.layers[0]`; a `ShallowNetwork` knows its own.

    In 64-bit the state is plain. In 32-bit, which cannot hold updates of `epsilon * step_size` = 1e-10 to positions
    near 1, the state carries compensated sums (Kahan, 1965).

    Derivatives with respect to the start, `epsilon`, `step_size`, the samples and the target are those of the
    computed steps, at fixed numbers of steps. `adjoint` is as in Diffrax: the default `RecursiveCheckpointAdjoint` is
    for reverse mode, with a memory that does not grow with the number of steps; `diffrax.ForwardMode()` is for
    forward mode.

    A run whose state becomes infinite or NaN stops there with `Status.DIVERGED`.

    Raises `ValueError` for an `epsilon` or `step_size` that is not positive, and in `simulate` where neither `key`
    nor `samples` is given, or `samples` has fewer rows than steps.

    Source: Marion and Berthier (2023), arXiv 2304.09576.
    """

    epsilon: Float[Array, ""]
    step_size: Float[Array, ""]
    batch_size: int | None = eqx.field(static=True)
    slow: Callable[[PyTree], Any] | None = eqx.field(static=True)
    optimizer: Optimizer | None = eqx.field(static=True)
    adjoint: diffrax.AbstractAdjoint

    def __init__(
        self,
        epsilon: Real[ArrayLike, ""],
        step_size: Real[ArrayLike, ""],
        batch_size: int | None = 1,
        slow: Callable[[PyTree], Any] | None = None,
        optimizer: Optimizer | None = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        self.epsilon = checks.as_float(checks.positive("epsilon", epsilon))
        self.step_size = checks.as_float(checks.positive("step_size", step_size))
        self.batch_size = None if batch_size is None else checks.count("batch_size", batch_size)
        self.slow = slow
        self.optimizer = optimizer
        self.adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
        if not isinstance(self.adjoint, diffrax.RecursiveCheckpointAdjoint | diffrax.ForwardMode):
            raise ValueError(
                "SGD is differentiated by RecursiveCheckpointAdjoint (reverse mode) or ForwardMode, "
                f"got {type(self.adjoint).__name__}"
            )

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
        labels = timescale_labels(model, self.slow)
        steps = self._steps(slow_times)
        params, fixed = eqx.partition(model, trainable(model))
        descent = _Descent(self, problem, self._stream(problem, steps, key, samples), fixed, labels)
        start = descent.start(params)
        saved, end = (
            _save_at(descent, start, steps) if progress is None else _report_at(descent, start, steps, progress)
        )
        stacked = eqx.combine(saved, fixed)
        status = jnp.where(_is_finite(end.params), Status.SUCCESSFUL, Status.DIVERGED)
        risk, status = risk_and_status(problem, stacked, status)
        return Trajectory(
            slow_time=slow_times,
            fast_time=self.step_size * steps.astype(self.step_size.dtype),
            step=steps,
            model=stacked,
            risk=risk,
            status=status,
            stats=Stats("SGD", steps=steps[-1], rejected=jnp.zeros_like(steps[-1])),
        )

    def _steps(self, slow_times: Float[Array, " t"]) -> Int[Array, " t"]:
        """The step nearest to each save time."""
        known = checks.concrete((slow_times[-1], self.epsilon, self.step_size))
        if known is None:
            return jnp.round(slow_times / (self.epsilon * self.step_size)).astype(int)
        last, epsilon, step_size = known.astype(np.float64)
        if last / (epsilon * step_size) >= 2**31:
            raise ValueError(
                f"slow time {last:g} takes {last / (epsilon * step_size):.1e} steps of epsilon * step_size = "
                f"{epsilon * step_size:.1e}, more than 2**31: take a larger step_size"
            )
        return jnp.asarray(np.rint(np.asarray(slow_times, np.float64) / (epsilon * step_size)).astype(int))

    def _stream(
        self,
        problem: AbstractProblem,
        steps: Int[Array, " t"],
        key: Key[Array, ""] | None,
        samples: tuple[ArrayLike, ArrayLike] | None,
    ) -> "_Stream | None":
        if self.batch_size is None:
            if samples is not None:
                raise ValueError("batch_size=None takes the exact gradient, got samples=(x, y): leave one of them out")
            return None
        if samples is not None:
            return _Replay.of(samples, self.batch_size, checks.concrete(steps))
        if key is None:
            raise ValueError("SGD draws samples: pass key=jax.random.key(0), or samples=(x, y) to replay a stream")
        return _Fresh(problem, key, self.batch_size)


class _Stream(eqx.Module):
    @abc.abstractmethod
    def draw(self, step: Int[Array, ""]) -> tuple[Float[Array, "batch ..."], Num[Array, "batch ..."]]:
        """The batch of one step."""


class _Fresh(_Stream):
    problem: AbstractProblem
    key: Key[Array, ""]
    batch_size: int = eqx.field(static=True)

    @override
    def draw(self, step):
        return self.problem.sample(jax.random.fold_in(self.key, step), self.batch_size)


class _Replay(_Stream):
    x: Float[Array, "steps batch ..."]
    y: Num[Array, "steps batch ..."]

    @classmethod
    def of(cls, samples: tuple[ArrayLike, ArrayLike], batch_size: int, steps: np.ndarray | None) -> "_Replay":
        x, y = checks.numbers("x", samples[0]), checks.numbers("y", samples[1], integers=True)
        if batch_size == 1:
            x, y = (part[:, None] if part.ndim else part for part in (x, y))
        if min(x.ndim, y.ndim) < 2 or x.shape[:2] != y.shape[:2] or x.shape[1] != batch_size:
            raise ValueError(
                f"samples=(x, y) must have one row of batch_size={batch_size} for each step, "
                f"got shapes {np.shape(samples[0])} and {np.shape(samples[1])}"
            )
        if steps is not None and steps[-1] > len(x):
            raise ValueError(
                f"the last save time needs {steps[-1]} steps, but samples has {len(x)} rows: "
                "give more samples or end earlier"
            )
        return cls(x, y)

    @override
    def draw(self, step):
        return self.x[step], self.y[step]


class _State(eqx.Module):
    params: PyTree
    excess: PyTree | None
    """What rounding has added to `params` so far, in 32-bit; None in 64-bit."""
    optimizer: optax.OptState


class _Descent(eqx.Module):
    """Everything that is the same in every step."""

    dynamics: SGD
    problem: AbstractProblem
    stream: _Stream | None
    fixed: PyTree
    labels: PyTree[str]

    @property
    def optimizer(self) -> optax.GradientTransformation:
        optimizer = self.dynamics.optimizer or optax.sgd(self.dynamics.step_size)
        return two_timescale(optimizer, self.dynamics.epsilon, self.labels)

    def start(self, params: PyTree) -> _State:
        single = any(leaf.dtype != jnp.float64 for leaf in jax.tree.leaves(params))
        return _State(params, jax.tree.map(jnp.zeros_like, params) if single else None, self.optimizer.init(params))

    def step(self, state: _State, batch: PyTree) -> _State:
        if self.stream is None:
            model = eqx.combine(state.params, self.fixed)
            gradient = eqx.filter(self.problem.gradient(model), trainable(model))
        else:
            gradient = jax.grad(lambda params: self.problem.loss(eqx.combine(params, self.fixed), *batch))(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        updates = jax.tree.map(lambda update, param: update.astype(param.dtype), updates, state.params)
        if state.excess is None:
            return _State(optax.apply_updates(state.params, updates), None, optimizer)
        wanted = jax.tree.map(jnp.subtract, updates, state.excess)
        params = optax.apply_updates(state.params, wanted)
        excess = jax.tree.map(lambda new, old, change: (new - old) - change, params, state.params, wanted)
        return _State(params, excess, optimizer)

    def advance(self, state: _State, first: Int[Array, ""], last: Int[Array, ""]) -> _State:
        """Steps `first` to `last - 1`.

        Samples are drawn for a block of steps and `UNROLL` steps are compiled together, both counted from step 0:
        each step is the same machine code wherever a run is cut, so that its result does not depend on the save
        times.
        """

        def block(carry):
            at, state = carry
            batches = None if self.stream is None else jax.vmap(self.stream.draw)(at + jnp.arange(BLOCK))

            def group(carry):
                i, state = carry
                for k in range(UNROLL):
                    moved = self.step(state, jax.tree.map(lambda leaf, i=i + k: leaf[i], batches))
                    active = (at + i + k >= first) & (at + i + k < last)
                    state = jax.tree.map(lambda new, old, active=active: jnp.where(active, new, old), moved, state)
                return i + UNROLL, state

            start = jnp.maximum(first - at, 0) // UNROLL * UNROLL
            end = jnp.minimum(last - at, BLOCK)
            _, state = self._loop(lambda carry: carry[0] < end, group, (start, state), BLOCK // UNROLL)
            return at + BLOCK, state

        def goes_on(carry):
            at, state = carry
            return (at < last) & _is_finite(state.params)

        return self._loop(goes_on, block, (first // BLOCK * BLOCK, state), 512)[1]

    def _loop(self, goes_on: Callable[[T], Bool[Array, ""]], body: Callable[[T], T], start: T, checkpoints: int) -> T:
        adjoint = self.dynamics.adjoint
        if isinstance(adjoint, diffrax.ForwardMode):
            return jax.lax.while_loop(goes_on, body, start)
        kind = "checkpointed"
        return eqxi.while_loop(goes_on, body, start, kind=kind, checkpoints=adjoint.checkpoints or checkpoints)


@eqx.filter_jit
def _save_at(descent: _Descent, start: _State, steps: Int[Array, " t"]) -> tuple[PyTree, _State]:
    """The parameters after each number of steps, and the last state."""

    def to_next_save(carry, last):
        first, state = carry
        state = descent.advance(state, first, last)
        return (last, state), state.params

    (_, end), saved = jax.lax.scan(to_next_save, (jnp.zeros_like(steps[0]), start), steps)
    return saved, end


def _report_at(
    descent: _Descent, start: _State, steps: Int[Array, " t"], progress: Callable[[int, int], None]
) -> tuple[PyTree, _State]:
    """The same, from the host chunk by chunk."""
    at, state, saved, total = 0, start, [], int(steps[-1])
    for last in steps.tolist():
        while at < last:
            chunk_end = min(last, at + CHUNK)
            state = jax.block_until_ready(_advance(descent, state, jnp.asarray(at), jnp.asarray(chunk_end)))
            at = chunk_end
            progress(at, total)
        saved.append(state.params)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *saved), state


_advance = eqx.filter_jit(_Descent.advance)


def _is_finite(params: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]))
