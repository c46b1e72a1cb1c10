"""The verb: a dynamics moves a model on a problem."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree, Real

from . import _checks as checks
from ._platform import alone
from ._program import no_collection
from ._progress import check as checking_progress, watching
from .dynamics.base import AbstractDynamics, Begin, Task
from .networks import trainable
from .problems import AbstractProblem
from .trajectory import Status, Trajectory, refuse_many_runs


def simulate(
    dynamics: AbstractDynamics,
    model: PyTree | Trajectory,
    problem: AbstractProblem,
    slow_times: Sequence[Real[ArrayLike, ""]] | ArrayLike,
    *,
    key: Key[Array, ""] | None = None,
    samples: tuple[ArrayLike, ArrayLike] | None = None,
    progress: bool | Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Trajectory:
    r"""Train `model` on `problem` by `dynamics` from slow time 0, and save it at `slow_times`.

    **Arguments:**

    - `dynamics`: how training moves: `GradientFlow`, `SGD`, `TwoTimescaleLimit`, ...
    - `model`: the start, any Equinox model that the problem can treat; or a `Trajectory` that goes on
    - `problem`: what is minimised: `Regression`, `Dataset`, ...
    - `slow_times`: shape (t,), not decreasing, in slow time $\tau = \epsilon t$
    - `key`: seeds the stream of samples of a stochastic dynamics
    - `samples`: `samples=(x, y)` replays a given stream instead, of shapes (steps, ...): one row per step of SGD, which
      has an axis of `batch_size` first where that is more than 1
    - `progress`: True shows on the standard error what is done, the steps per second and the time left: as a bar in a
      terminal, else in a line for each tenth. A function `progress(done, total)` is called from the host instead, a few
      times a second: with steps of SGD, with thousandths of the slow time of a dynamics that does not know its steps
      beforehand. The numbers count from where this call begins
    - `checkpoint`: a file for SGD runs of hours: the state after every 2**20 steps. A process that was killed goes on
      where it was written last when the same call is made again, and ends bit for bit as an undisturbed one does; a
      finished run is read from it. The same call with later save times goes on from it, too

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.3], [0.8]], 0.0, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.GradientFlow(1e-3), model, problem, [0.0, 1.0])
    >>> run.risk.shape, run.model.positions.shape, tts.Status(int(run.status)).label
    ((2,), (2, 2, 1), 'successful')

    *Going on.* A `Trajectory` in place of the model goes on from its last save: `slow_times` are absolute, and begin
    there at the earliest; `trajectory.then(later)` joins both. A flow or a limit goes on as one long run would, to its
    tolerance. SGD does so bit for bit where it is given the same `key` (or the same `samples`, from step 0 on): in the
    same stream of samples, with the state of its optimiser and the compensation of rounding. Any other dynamics may go
    on too. The slow time is then the common clock; fast time and steps count on, each as the new dynamics counts, or
    follow from the slow time where the run before had no such clock. SGD begins there with a fresh state of its
    optimiser, and with the one that it finds where that has the same leaves, as `optax.adam` has with any rate.

    *What trains.* All floating-point arrays of the model, those of NumPy too, but for those of an activation and those
    that the dynamics holds `frozen`. A warning names integer arrays, which do not. Numbers of Python and NumPy are
    settings.

    *Ctrl-C* ends a run after at most about half a second, while it is compiled too; SGD then writes its `checkpoint`.
    Under a `jax.jit` of yours the host cannot look on: compilation and run end when they have ended.

    *Traced calls.* The same call works under `jax.jit`, `jax.vmap` and automatic differentiation (without `progress`
    and `checkpoint`). Save times that are traced cannot be refused: where they decrease, are negative or lie before the
    last save of the trajectory that goes on, the run is NaN and has `Status.DIVERGED`. So is, with its own status, a
    run that goes on from a traced one that failed.

    Raises `ValueError`, before any long work, for save times that decrease, are negative or too early, for a trajectory
    that failed or is of many runs (`jax.vmap(lambda run: simulate(dynamics, run, ...))(runs)` takes each), for a model
    that the problem or the dynamics cannot treat or that has complex or infinite leaves or NaN, for a missing `key`,
    and for a `checkpoint` of another configuration, or without a save that is asked for. A numerical failure raises
    nothing: see `Trajectory.status`. Outside of `jit` and `vmap` a warning says which run failed, how, and what to do.
    """
    if not isinstance(dynamics, AbstractDynamics):
        raise ValueError(f"simulate needs a dynamics, got {checks.called(dynamics)}: pass e.g. GradientFlow(1e-3)")
    if not isinstance(problem, AbstractProblem):
        raise ValueError(
            f"simulate needs a problem after the model, got {checks.called(model)} and then {checks.called(problem)}: "
            "pass e.g. Regression(target), or Dataset(x, y)"
        )
    times = checks.slow_times(slow_times)
    begin, before = Begin.anew(), jnp.asarray(Status.SUCCESSFUL)
    goes_on = isinstance(model, Trajectory)
    if goes_on:
        begin, before = _begin(model, times), model.status
        model = model.at(-1)
    _check_leaves(model)
    with no_collection():  # it traces a model of the user's
        problem.check(model)
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, model)
    name = type(dynamics).__name__
    if isinstance(samples, AbstractProblem):
        raise ValueError(
            f"samples=(x, y) has a row for each step, got {checks.called(samples)}: pass it as the problem instead"
        )
    if not (samples is None or (isinstance(samples, tuple | list) and len(samples) == 2)):
        raise ValueError(f"samples must be a pair (x, y) with a row for each step, got {checks.shown(samples)}")
    if samples is not None and not dynamics.stochastic:
        raise ValueError(
            f"{name} draws no samples here, got samples=(x, y): leave them out, or pass the data as Dataset(x, y)"
        )
    if dynamics.stochastic and key is None and samples is None:
        mend = "the key of the run that goes on, for the same stream" if goes_on else "key=jax.random.key(0)"
        raise ValueError(f"{name} draws at random: pass {mend}; SGD replays samples=(x, y) too")
    if key is not None:
        checks.random_key("key", key)
    if checkpoint is not None:
        checks.path("checkpoint", checkpoint, "run.checkpoint")
    if checkpoint is not None and not dynamics.resumable:
        raise ValueError(f"checkpoint is for SGD, got {name}: leave it out")
    checking_progress(progress)
    if (progress or checkpoint is not None) and not alone():
        raise ValueError(
            "progress and checkpoint are for one run at a time: call simulate outside of jax.jit and jax.vmap, or "
            "leave them out"
        )
    with watching(progress, name) as look:
        trajectory = dynamics.run(Task(model, problem, times, begin, key, samples, look, checkpoint))
    trajectory = dataclasses.replace(trajectory, slow_time=times)
    known = checks.concrete((begin.slow_time, before)) is not None and checks.concrete(times) is not None
    if not known:
        trajectory = _in_order(trajectory, begin.slow_time, before)
    _warn_of_failure(name, trajectory)
    return trajectory


def _begin(run: Trajectory, times: Float[Array, " t"]) -> Begin:
    """Where a trajectory ends, from which a run goes on."""
    refuse_many_runs(run, "use jax.vmap(lambda run: simulate(dynamics, run, problem, slow_times))(runs)")
    status = checks.concrete(run.status)
    if status is not None and status != Status.SUCCESSFUL:
        how = Status(int(status)).label
        raise ValueError(f"a run that failed cannot go on, got one with status {how}: start from a model of it, at(k)")
    last = run.slow_time[-1]
    known = checks.concrete(last), checks.concrete(times)
    if known[0] is not None and known[1] is not None and known[1][0] < known[0]:
        raise ValueError(
            f"slow_times must begin at {known[0]:.17g} or later, where the trajectory ends that goes on, got "
            f"{known[1][0]:.17g}: earlier saves are in that trajectory"
        )
    fast_time, step = (None if clock is None else clock[-1] for clock in (run.fast_time, run.step))
    return Begin(last, fast_time, step, run.end)


def _in_order(trajectory: Trajectory, begin: Float[Array, ""], before: Int[Array, ""]) -> Trajectory:
    """NaN where the save times are not in order from `begin` on, or where the run that goes on has failed."""
    in_order = jnp.all(jnp.diff(trajectory.slow_time, prepend=begin) >= 0)
    good = in_order & (before == Status.SUCCESSFUL)
    moving, fixed = eqx.partition((trajectory.model, trajectory.risk), (trainable(trajectory.model), True))
    model, risk = eqx.combine(jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), moving), fixed)
    status = jnp.where(in_order, trajectory.status, jnp.asarray(Status.DIVERGED, trajectory.status.dtype))
    status = jnp.where(before == Status.SUCCESSFUL, status, before.astype(status.dtype))
    return dataclasses.replace(trajectory, model=model, risk=risk, status=status)


MENDS = {
    Status.MAX_STEPS: "raise max_steps, or max_events of the limit",
    Status.SOLVER_FAILED: "end earlier, or give another solver or larger rtol and atol where the dynamics has them",
    Status.DIVERGED: "take smaller steps, e.g. a smaller step_size of SGD or more save times of a solver without rtol",
}


def _warn_of_failure(name: str, trajectory: Trajectory) -> None:
    known = checks.concrete(trajectory.status)
    if known is not None and known != Status.SUCCESSFUL:
        _say_once(f"{name} did not end well, {trajectory!r}: {MENDS[Status(int(known))]}")


def _check_leaves(model: PyTree) -> None:
    """Refuses leaves that are complex or not finite, and says which ones look as if they trained but do not."""
    trains = jax.tree.leaves(trainable(model))
    for (path, leaf), moves in zip(jax.tree_util.tree_leaves_with_path(model), trains, strict=True):
        name = f"{type(model).__name__}{jax.tree_util.keystr(path)}"
        if moves and jnp.iscomplexobj(leaf):
            raise ValueError(
                f"only real leaves train, got {leaf.dtype} in {name}: keep real and imaginary part as two leaves"
            )
        if moves:
            checks.finite(f"the start, {name},", leaf)
        if isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, np.signedinteger):
            _say_once(
                f"{name} does not train, as its type is {leaf.dtype}: convert it with jnp.asarray(..., float), or "
                "make it static where it is no parameter"
            )


@functools.cache
def _say_once(message: str) -> None:
    """In a process; JAX resets what `warnings` remembers."""
    warnings.warn(message, stacklevel=4)  # where `simulate` is called
