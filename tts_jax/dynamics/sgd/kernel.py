"""The steps of `lanes` on a GPU: a block of steps in one launch, each run on a thread of its own.

A loop of XLA launches several kernels in each step, which take microseconds however few runs there are. Here the loop
lies inside the kernel, a thread keeps the state of its run in registers, and the sum over neurons is unrolled, so that
no thread waits for another.
"""

import functools
import warnings
from collections.abc import Callable, Sequence

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ..._fingerprint import MadeFrom
from ..._platform import platform
from ...activations import SmoothStep
from ...networks import ShallowNetwork
from ...problems import Regression
from ...targets import PiecewiseConstant
from ..base import Groups, two_timescale
from .descent import Descent, State
from .stream import Replay

THREADS = 128
"""Of a program. A vector of so many entries has one on each."""
UNROLLED = 64
"""Neurons times samples of a batch, at most: a step writes out as many activations."""


def applies(descent: Descent, state: State) -> bool:
    """Whether steps for which `lanes.applies` are taken here: those of plain SGD, on a GPU that can."""
    weights = state.params.weights
    return (
        platform() == "gpu"
        and descent.given_optimizer.value is None
        and len(weights) * descent.stream.batch_size <= UNROLLED
        and works(weights.dtype.name, len(weights), descent.stream.batch_size)
    )


@functools.cache
def works(dtype: str, neurons: int, batch_size: int) -> bool:
    """Whether the kernel compiles on this machine and finds, in a few steps, what the steps of `Descent` find."""
    try:
        # Compiled ahead, it runs at once even where a run of the user is being traced.
        compiled = jax.jit(error_in_a_few_steps, static_argnums=(0, 1, 2)).lower(dtype, neurons, batch_size).compile()
        error = float(compiled())
        reason = f"results off by {error:.1e}"
    except Exception as failure:  # of any kind: the compiler may not know the machine
        error, reason = np.inf, f"{type(failure).__name__}: {failure}".splitlines()[0]
    if error < 100 * np.finfo(dtype).eps:
        return True
    warnings.warn(
        f"SGD launches every step by itself, more slowly: its kernel failed on this GPU ({reason})",
        stacklevel=2,
    )
    return False


def block(
    descent: Descent,
    state: State,
    x: Float[Array, "steps batch #lanes"],
    y: Float[Array, "steps batch #lanes"],
    start: Int[Array, "*starts"],
    end: Int[Array, "*ends"],
) -> State:
    """Steps `start` to `end - 1` of a block.

    The lanes are the last axis of each array in `state`. In `descent`, `start` and `end`, what differs between runs has
    them as its only axis.
    """
    from jax.experimental import pallas as pl

    lanes = state.params.weights.shape[-1]
    programs = -(-lanes // THREADS)

    def spread(leaf):
        """A spare thread repeats the last run."""
        leaf = jnp.broadcast_to(leaf, (*leaf.shape[:-1], lanes))
        return jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, programs * THREADS - lanes)], mode="edge")

    def rows(leaf):
        return leaf if leaf.ndim == 1 else leaf.reshape(-1, lanes)

    start, end = start.astype(jnp.int32), end.astype(jnp.int32)
    same_span = start.ndim == end.ndim == 0
    span = jnp.stack([jnp.min(start), jnp.max(end)])
    settings = descent.epsilons, descent.step_size, descent.fixed.activation
    inputs = jax.tree.map(spread, (jax.tree.map(rows, state), settings, start, end, x, y)), span
    outputs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), inputs[0][0])
    leaves, structure = jax.tree.flatten((inputs, outputs))

    def body(program, *refs):
        ((begin, settings, start, end, x, y), span), arrived = jax.tree.unflatten(structure, refs)
        lane = pl.ds(program * THREADS, THREADS)

        def load(ref):
            """The rows of a matrix one by one: a step has no other way to tell them apart."""
            return ref[lane] if len(ref.shape) == 1 else tuple(ref[row, lane] for row in range(ref.shape[0]))

        epsilons, step_size, activation = jax.tree.map(load, settings)
        optimizer = two_timescale(optax.sgd(step_size), epsilons, descent.labels)
        first, last = load(start), load(end)
        gradient = descent.sample_gradient.of_rows

        def one(i, state):
            factors = enumerate(descent.factors(x.shape[1]))
            parts = [gradient(state.params, activation, x[i, b, lane], y[i, b, lane], factor) for b, factor in factors]
            total = jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *parts)
            moved = state.moved(*optimizer.update(total, state.optimizer, state.params))
            if same_span:
                return moved
            return jax.tree.map(lambda new, old: jnp.where((first <= i) & (i < last), new, old), moved, state)

        def store(ref, value):
            if len(ref.shape) == 1:
                ref[lane] = value
            else:
                for row, vector in enumerate(value):
                    ref[row, lane] = vector

        jax.tree.map(store, arrived, jax.lax.fori_loop(span[0], span[1], one, jax.tree.map(load, begin)))

    count = len(jax.tree.leaves(outputs))
    found = launch(body, leaves[-count:], programs)(*leaves[:-count])
    found = jax.tree.unflatten(jax.tree.structure(outputs), found)
    return jax.tree.map(lambda new, old: new[..., :lanes].reshape(old.shape), found, state)


def launch(
    body: Callable[..., None], outputs: Sequence[jax.ShapeDtypeStruct], programs: int
) -> Callable[..., Sequence[Array]]:
    """`body(program, *inputs, *outputs)` for each program, on references to the arrays in the memory of the GPU."""
    from jax.experimental.pallas import mosaic_gpu

    def program(*refs):
        body(jax.lax.axis_index("program"), *refs)

    return mosaic_gpu.kernel(program, out_type=tuple(outputs), grid=(programs,), grid_names=("program",))


def error_in_a_few_steps(dtype: str, neurons: int, batch_size: int) -> Float[Array, ""]:
    """The largest difference in what the runs of two programs arrive at here and by `Descent`."""
    steps, lanes = 8, THREADS + 1
    draw = np.random.default_rng(0).uniform
    x, y = (jnp.asarray(draw(size=(steps, batch_size, lanes)), dtype) for _ in range(2))
    weights, positions = (jnp.asarray(draw(size=(lanes, neurons, 1)), dtype) for _ in range(2))
    model = ShallowNetwork(weights, positions, weights[:, 0, 0], SmoothStep(0.5))
    model = jax.tree.map(lambda leaf: leaf.astype(dtype), model)
    groups, problem = Groups.of(model), Regression(PiecewiseConstant([], [0.0]))
    descent = Descent(
        epsilons=(jnp.asarray(0.5, dtype),),
        step_size=jnp.asarray(0.25 / neurons, dtype),
        svag=1,
        given_optimizer=MadeFrom(None),
        adjoint=diffrax.RecursiveCheckpointAdjoint(),
        problem=problem,
        structure=problem.structure(jax.tree.map(lambda leaf: leaf[0] if leaf.ndim else leaf, model)),
        stream=Replay(x=x, y=y, batch_size=batch_size),
        fixed=groups.fixed,
        labels=groups.labels,
    )
    state = descent.start(groups.moving)

    def one_by_one(state, x, y):
        for sample in zip(x[..., None], y, strict=True):
            state = descent.step(state, sample)
        return state

    start, end = jnp.asarray(0), jnp.asarray(steps)
    found = block(descent, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), state), x, y, start, end)
    expected = jax.vmap(one_by_one, in_axes=(0, -1, -1), out_axes=-1)(state, x, y)
    differences = jax.tree.map(lambda one, other: jnp.max(jnp.abs(one - other)), found.params, expected.params)
    return jnp.max(jnp.stack(jax.tree.leaves(differences)))
