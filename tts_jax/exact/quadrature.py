"""Exact integrals of piecewise polynomials over [0, 1]."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def rule(kinks: Float[Array, " k"], degree: int) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Nodes and weights that integrate over [0, 1] any function that between two `kinks` is a polynomial of at most
    `2 * degree + 1`, such as the square of one of at most `degree`: Gauss and Legendre's rule on each interval."""
    edges = jnp.sort(jnp.pad(jnp.clip(kinks, 0.0, 1.0), 1, constant_values=(0.0, 1.0)))
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    width = jnp.diff(edges)[:, None]
    x = edges[:-1, None] + width * jnp.asarray((nodes + 1) / 2, edges.dtype)[None]
    return x.ravel(), (width * jnp.asarray(weights / 2, edges.dtype)[None]).ravel()


def mean_square(
    f: Callable[[Float[Array, " n"]], Float[Array, " n"]], kinks: Float[Array, " k"], degree: int
) -> Float[Array, ""]:
    r"""$\int_0^1 f(x)^2\,dx$ for an elementwise `f` that is a polynomial of at most `degree` between two `kinks`.

    Unlike a difference of closed forms it does not cancel: a small integral keeps its relative accuracy, and none is
    negative.
    """
    x, weights = rule(kinks, degree)
    return weights @ f(x) ** 2
