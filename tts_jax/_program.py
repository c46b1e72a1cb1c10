"""Programs that the host calls, compiled so that it can be interrupted."""

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import equinox as eqx
import jax

from ._platform import alone
from ._workers import workers

F = TypeVar("F", bound=Callable[..., Any])


def program(function: F) -> F:
    """`eqx.filter_jit`, but that Ctrl-C ends its tracing and its compilation at once."""
    jitted: Any = eqx.filter_jit(function)
    known: set[int] = set()

    @functools.wraps(function)
    def call(*args):
        if alone() and (kind := _kind(args)) not in known:
            with no_collection():
                lowered = jitted.lower(*args)
            compiled(lowered)  # JAX keeps it, and calls it below
            known.add(kind)
        return jitted(*args)

    return cast(F, call)


def compiled(lowered: Any) -> Any:
    """`lowered.compile()` in a thread of its own: nobody stops XLA, but Ctrl-C need not wait for it."""
    with workers(1) as pool:
        return pool.submit(lowered.compile).result()


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """JAX listens to the collection of garbage, and Ctrl-C raised in its listener would be lost."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _kind(args: tuple[Any, ...]) -> int:
    """Of those arguments that share a compiled program."""
    leaves, structure = jax.tree.flatten(args)
    return hash((structure, *((leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf for leaf in leaves)))
