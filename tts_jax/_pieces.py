"""Whether a function is, between some points, the polynomial that it is taken for."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import chebyshev

from ._fingerprint import MadeFrom

POINTS = 64
"""Where a function is looked at between two kinks, at least."""
TOLERANCE = 1e-6
"""Relative to the larger of 1 and the largest value, in 64-bit."""
NARROWEST = 1e-9
"""Between kinks that are nearer to each other a function may be anything."""
HIGHEST = 9

Function = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def misfit(
    function: Function, edges: Float[np.ndarray, " e"], degree: int, points: int
) -> tuple[Float[np.ndarray, " p"], float]:
    """How far a function is between two edges, at so many points, from the polynomial through its Chebyshev nodes, and
    its largest value. Infinite where the function is not."""
    count = degree + 1
    nodes, between = chebyshev.chebpts1(count), np.cos(np.pi * (np.arange(points) + 0.25) / points)
    to_between = chebyshev.chebvander(between, degree) @ np.linalg.inv(chebyshev.chebvander(nodes, degree))
    left, half = edges[:-1, None], np.diff(edges)[:, None] / 2
    x = left + half * (1 + np.concatenate([nodes, between]))
    with jax.ensure_compile_time_eval():
        values = np.asarray(function(jnp.asarray(x, float)))
    if not np.isfinite(values).all():
        return np.full(len(x), np.inf), np.inf
    deviation = np.abs(values[:, count:] - values[:, :count] @ to_between.T).max(axis=1)
    return deviation, float(np.abs(values).max())


def verify(module: Any, on_the_interval: Callable[[Any], tuple[Function, Float[Array, " k"]]]) -> None:
    """Raises `ValueError` where a class that the package does not know has a wrong `degree`, or kinks that it does not
    name. `on_the_interval(module)` is a function on [0, 1], and its kinks.

    Nothing is asked where a leaf is traced, and each module is asked once.
    """
    once(module, _compare_polynomial, on_the_interval)


def once(module: Any, compare: Callable[..., None], *given: Any) -> None:
    """`compare(name, module, *given)` in 64-bit, once for each module of a class that the package does not know."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(module))
    if not traced and not type(module).__module__.startswith(f"{__package__}."):
        with contextlib.suppress(jax.errors.TracerArrayConversionError):  # a tracer in a function of the module's
            _once(module.__class__, MadeFrom(module), compare, *given)


@functools.lru_cache(maxsize=64)
def _once(kind: type, module: MadeFrom[Any], compare: Callable[..., None], *given: Any) -> None:
    """`kind` tells classes of one name apart."""
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        exact = jax.tree.map(lambda x: jnp.asarray(x, float) if eqx.is_inexact_array(x) else x, module.value)
        compare(kind.__name__, exact, *given)


def _compare_polynomial(
    name: str, module: Any, on_the_interval: Callable[[Any], tuple[Function, Float[Array, " k"]]]
) -> None:
    function, kinks = on_the_interval(module)
    edges = np.unique(np.clip([0.0, *np.asarray(kinks), 1.0], 0, 1))
    edges = edges[np.append(True, np.diff(edges) > NARROWEST)]

    def worst(degree: int) -> tuple[float, int]:
        deviation, scale = misfit(function, edges, degree, max(POINTS, 2 * degree + 2))
        return float(deviation.max()) / max(1.0, scale), int(deviation.argmax())

    error, piece = worst(module.degree)
    if not error <= TOLERANCE:  # it may be NaN
        fits = next((d for d in range(module.degree + 1, HIGHEST + 1) if worst(d)[0] <= TOLERANCE), None)
        mend = "name all of its kinks" if fits is None else f"say degree = {fits}"
        raise ValueError(
            f"{name} says that it is a polynomial of degree {module.degree} between its kinks, but is none between "
            f"{edges[piece]:.6g} and {edges[piece + 1]:.6g}: {mend}"
        )
