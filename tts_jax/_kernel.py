"""Parts of a program that become one kernel on a CPU."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata
from jax.typing import DTypeLike
from jaxtyping import Array, Int, PyTree

from ._platform import platform

T = TypeVar("T", bound=PyTree)


def one_kernel(f: Callable[..., T]) -> Callable[..., T]:
    """`f`, on a CPU as machine code from its first operation to its last, loops and branches included.

    XLA makes a kernel of each small group of operations, and gives kernels to several threads where it can. Where they
    take a microsecond or less, that costs more than they do, and more on two cores than on one. This asks for what XLA
    does by itself with small loops. `f` may hold what it emits as code of its own: nothing that sorts, scatters, calls
    a library (a contraction; a sum over an axis, for which see `total`) or the host.
    """
    if platform() != "cpu":
        return f

    def run(*args):
        leaves, structure = jax.tree.flatten(args)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        word = jnp.uint64 if any(leaf.dtype.itemsize == 8 for leaf in leaves) else jnp.uint32

        def unpacked(words):
            ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
            parts = zip(jnp.split(words, ends), leaves, strict=True)
            args = [_from_words(part, leaf).reshape(leaf.shape) for part, leaf in parts]
            return f(*jax.tree.unflatten(structure, args))

        # In one argument: the compiler breaks off where it finds that a part of the program needs one of its own not.
        words = jnp.concatenate([_as_words(leaf.reshape(-1), word) for leaf in leaves])
        results, structure_of_results = jax.tree.flatten(jax.jit(unpacked)(words))
        results[0] = set_xla_metadata(results[0], xla_cpu_small_call="true", inlineable="false")
        return jax.tree.unflatten(structure_of_results, results)

    return run


def _as_words(leaf: Array, word: DTypeLike) -> Array:
    if leaf.dtype == bool:
        return leaf.astype(word)
    return jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(word)


def _from_words(words: Array, like: Array) -> Array:
    if like.dtype == bool:
        return words.astype(bool)
    return jax.lax.bitcast_convert_type(words.astype(f"uint{8 * like.dtype.itemsize}"), like.dtype)


def total(x: Array) -> Array:
    """The sum over the first axis, one after the other."""
    return jax.lax.fori_loop(
        1, len(x), lambda i, so_far: so_far + jax.lax.dynamic_index_in_dim(x, i, 0, keepdims=False), x[0]
    )


def put_rows(table: Array, columns: Array, places: Int[Array, " lanes"]) -> Array:
    """Writes the last axis of `columns` into the rows of `table`, one after the other on a CPU."""
    if platform() != "cpu":
        return table.at[places].set(jnp.moveaxis(columns, -1, 0))

    def put(lane, table):
        row = jax.lax.dynamic_index_in_dim(columns, lane, columns.ndim - 1, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(table, row, places[lane], 0)

    return jax.lax.fori_loop(0, len(places), put, table)
