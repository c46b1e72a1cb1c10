"""The verb: a dynamics moves a model on a problem."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Key, PyTree, Real

from . import checks
from .dynamics.base import AbstractDynamics
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
) -> Trajectory:
    r"""Train `model` on `problem` by `dynamics` from slow time 0, and save it at `slow_times`.

    `slow_times` (shape (t,), not decreasing) are in slow time, $\tau = \epsilon t$. `key` seeds the stream of samples
    of a stochastic dynamics; `samples=(x, y)` replays a given stream instead, one row per step. `progress(done,
    total)` is called from the host now and then in long runs, with the numbers of steps.

    The same call works under `jax.jit`, `jax.vmap` and automatic differentiation (without `progress`).

    Raises `ValueError`, before any long work, for save times that decrease or are negative, for a model that the
    problem or the dynamics cannot treat, and for a missing `key`. A numerical failure raises nothing: see
    `Trajectory.status`.
    """
    times = checks.slow_times(slow_times)
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, model)
    problem.check(model)
    return dynamics.run(model, problem, times, key=key, samples=samples, progress=progress)
