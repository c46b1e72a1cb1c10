"""The verb: a dynamics moves a model on a problem."""

import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Key, PyTree, Real

from . import _checks as checks
from .dynamics.base import AbstractDynamics, Task
from .problems import AbstractProblem
from .trajectory import Trajectory


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

    The same call works under `jax.jit`, `jax.vmap` and automatic differentiation (without `progress` and `checkpoint`).

    Raises `ValueError`, before any long work, for save times that decrease or are negative, for a model that the
    problem or the dynamics cannot treat, for a missing `key`, and for a `checkpoint` of another configuration. A
    numerical failure raises nothing: see `Trajectory.status`.
    """
    times = checks.slow_times(slow_times)
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, model)
    problem.check(model)
    name = type(dynamics).__name__
    if samples is not None and not dynamics.stochastic:
        raise ValueError(
            f"{name} draws no samples here, got samples=(x, y): leave them out, or pass the data as Dataset(x, y)"
        )
    if dynamics.stochastic and key is None and samples is None:
        raise ValueError(f"{name} draws samples: pass key=jax.random.key(0), or samples=(x, y) to replay a stream")
    if checkpoint is not None and not dynamics.resumable:
        raise ValueError(f"checkpoint is for SGD, got {name}: leave it out")
    return dynamics.run(Task(model, problem, times, key, samples, progress, checkpoint))
