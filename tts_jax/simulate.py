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
from jaxtyping import Array, ArrayLike, Key, PyTree, Real

from . import _checks as checks
from .dynamics.base import AbstractDynamics, Task
from .networks import trainable
from .problems import AbstractProblem
from .trajectory import Status, Trajectory


def simulate(
    dynamics: AbstractDynamics,
    model: PyTree,
    problem: AbstractProblem,
    slow_times: Sequence[Real[ArrayLike, ""]] | ArrayLike,
    *,
    key: Key[Array, ""] | None = None,
    samples: tuple[ArrayLike, ArrayLike] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Trajectory:
    r"""Train `model` on `problem` by `dynamics` from slow time 0, and save it at `slow_times`.

    `slow_times` (shape (t,), not decreasing) are in slow time, $\tau = \epsilon t$. `key` seeds the stream of samples
    of a stochastic dynamics; `samples=(x, y)` replays a given stream instead, one row per step. `progress(done,
    total)` is called from the host now and then in long runs, with the numbers of steps.

    `checkpoint` is a file for SGD runs of hours: the state after every 2**20 steps. A process
    that was killed goes on where it was written last when the same call is made again, and ends bit for bit as an
    undisturbed one does; a finished run is read from it.

    All floating-point arrays of the model train, those of NumPy too, but for those of an activation and those that the
    dynamics holds `frozen`. A warning names integer arrays, which do not. Numbers of Python and NumPy are settings.

    Save times that are traced cannot be refused: where they decrease or are negative, the run is NaN and has
    `Status.DIVERGED`.

    The same call works under `jax.jit`, `jax.vmap` and automatic differentiation (without `progress` and `checkpoint`).

    Raises `ValueError`, before any long work, for save times that decrease or are negative, for a model that the
    problem or the dynamics cannot treat or that has complex leaves, for a missing `key`, and for a `checkpoint` of
    another configuration. A numerical failure raises nothing: see `Trajectory.status`.
    """
    if not isinstance(dynamics, AbstractDynamics):
        raise ValueError(f"simulate needs a dynamics, got {checks.called(dynamics)}: pass e.g. GradientFlow(1e-3)")
    if not isinstance(problem, AbstractProblem):
        raise ValueError(
            f"simulate needs a problem after the model, got {checks.called(model)} and then {checks.called(problem)}: "
            "pass e.g. Regression(target), or Dataset(x, y)"
        )
    times = checks.slow_times(slow_times)
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, model)
    _check_leaves(model)
    problem.check(model)
    name = type(dynamics).__name__
    if isinstance(samples, AbstractProblem):
        raise ValueError(
            f"samples=(x, y) has a row for each step, got {checks.called(samples)}: pass it as the problem instead"
        )
    if samples is not None and not dynamics.stochastic:
        raise ValueError(
            f"{name} draws no samples here, got samples=(x, y): leave them out, or pass the data as Dataset(x, y)"
        )
    if dynamics.stochastic and key is None and samples is None:
        raise ValueError(f"{name} draws samples: pass key=jax.random.key(0), or samples=(x, y) to replay a stream")
    if key is not None:
        checks.random_key("key", key)
    if checkpoint is not None and not dynamics.resumable:
        raise ValueError(f"checkpoint is for SGD, got {name}: leave it out")
    trajectory = dynamics.run(Task(model, problem, times, key, samples, progress, checkpoint))
    return trajectory if checks.concrete(times) is not None else _in_order(trajectory)


def _in_order(trajectory: Trajectory) -> Trajectory:
    """NaN where the save times are not."""
    good = jnp.all(jnp.diff(trajectory.slow_time, prepend=0.0) >= 0)
    moving, fixed = eqx.partition((trajectory.model, trajectory.risk), (trainable(trajectory.model), True))
    model, risk = eqx.combine(jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), moving), fixed)
    status = jnp.where(good, trajectory.status, jnp.asarray(Status.DIVERGED, trajectory.status.dtype))
    return dataclasses.replace(trajectory, model=model, risk=risk, status=status)


def _check_leaves(model: PyTree) -> None:
    """Refuses complex leaves, and says which ones look as if they trained but do not."""
    trains = jax.tree.leaves(trainable(model))
    for (path, leaf), moves in zip(jax.tree_util.tree_leaves_with_path(model), trains, strict=True):
        name = f"{type(model).__name__}{jax.tree_util.keystr(path)}"
        if moves and jnp.iscomplexobj(leaf):
            raise ValueError(
                f"only real leaves train, got {leaf.dtype} in {name}: keep real and imaginary part as two leaves"
            )
        if isinstance(leaf, jax.Array | np.generic) and jnp.issubdtype(leaf.dtype, np.signedinteger):
            _say_once(
                f"{name} does not train, as its type is {leaf.dtype}: convert it with jnp.asarray(..., float), or "
                "make it static where it is no parameter"
            )


@functools.cache
def _say_once(message: str) -> None:
    """In a process; JAX resets what `warnings` remembers."""
    warnings.warn(message, stacklevel=4)  # where `simulate` is called
