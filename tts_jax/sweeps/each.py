"""Many runs on all cores, none of which waits for another."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from .. import _checks as checks
from .._program import compiled, no_collection
from .._progress import Counter, Progress, check as checking_progress, watching
from .._workers import workers as pool_of

T = TypeVar("T")

PORTIONS = 8
"""For each worker: the more, the better they share the work, and the more often they wait for Python."""


def run_each(
    run: Callable[..., T], *args: PyTree, workers: int | None = None, progress: bool | Progress | None = None
) -> T:
    """`run` for each entry along the leading axis of the arguments; the results stacked, as by `jax.vmap(run)(*args)`.

    **Arguments:**

    - `run`: a function that JAX can trace; it is compiled once for all runs
    - `args`: its arguments. Every array of them has the same leading axis; anything else is shared by all runs
    - `workers`: threads, by default one for each core
    - `progress`: True shows how many runs are done on the standard error; a function `progress(done, total)` is told

    Under `vmap` an adaptive solve by Diffrax goes on until its slowest lane ends, and small linear algebra is slow in
    batches; a flow in local coordinates has neither fault, but keeps to one core. Here each run stands alone: the
    workers take the next few runs, to do them one after the other, as they finish some. SGD is the other way round: its
    lanes cost little beside each other, so give each core its share of them at once,
    `run_each(jax.vmap(run), keys.reshape(cores, -1))`. Ctrl-C ends the call at once.

    >>> import jax, jax.numpy as jnp, tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> def run(key, epsilon):
    ...     model = tts.ShallowNetwork.init(key, 3, tts.SmoothStep(0.1))
    ...     return tts.simulate(tts.GradientFlow(epsilon), model, problem, jnp.array([0.1]))
    >>> runs = tts.run_each(run, jax.random.split(jax.random.key(0), 4), jnp.geomspace(1e-3, 1.0, 4))
    >>> runs.risk.shape
    (4, 1)

    Raises `ValueError` where there is no run, leading axes differ, or `run` cannot be traced.
    """
    checks.function("run", run, "lambda key: simulate(..., key=key)")
    checking_progress(progress)
    arrays, shared = eqx.partition(args, eqx.is_array)
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or sizes in ({()}, {(0,)}):
        raise ValueError(
            f"the arrays of all arguments must share a leading axis of at least 1, got sizes {sizes or 'none'}"
        )
    kinds = np.number, np.bool_, jax.dtypes.extended
    for leaf in jax.tree.leaves(arrays):
        if not any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds):
            raise ValueError(f"the arrays of all arguments must be numbers or keys, got {leaf.dtype}: convert it first")
    ((count,),) = sizes
    threads = checks.count("workers", (os.cpu_count() or 1) if workers is None else workers)

    portion = max(1, count // (threads * PORTIONS))

    def arguments(begin):
        # The last portion is filled up by repeating the last run.
        return run, jnp.minimum(jnp.arange(begin, begin + portion), count - 1), arrays, shared

    program: Any = _one_by_one
    with checks.traceable("run", run), no_collection():
        lowered = program.lower(*arguments(0))
    one_by_one = compiled(lowered)  # before any worker asks for it

    def do(begin):
        result = jax.block_until_ready(one_by_one(*arguments(begin)))
        counter.add(min(portion, count - begin))
        return result

    with watching(progress, "runs") as look, pool_of(threads) as pool:
        counter = Counter(look, count, 0)
        results = list(pool.map(do, range(0, count, portion)))
    dynamic, static = eqx.partition(results, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *dynamic), static[0])


@eqx.filter_jit
def _one_by_one(run: Callable[..., T], indices: Int[Array, " k"], arrays: PyTree, shared: PyTree) -> T:
    def one(index):
        result = run(*eqx.combine(jax.tree.map(lambda leaf: leaf[index], arrays), shared))
        dynamic, static = eqx.partition(result, eqx.is_array)
        return dynamic, _Static(static)

    dynamic, static = jax.lax.map(one, indices)
    return eqx.combine(dynamic, static.tree)


class _Static(eqx.Module):
    """What is no array, as a part of the structure of a tree: so it leaves a loop of JAX."""

    tree: PyTree = eqx.field(static=True)
