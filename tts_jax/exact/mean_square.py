r"""Mean squares of a sum of smooth steps and jumps on [0, 1], as sums of squares.

The risk of a network and the squared distance of two are $\int_0^1 r(x)^2\,dx$ of

$$r(x) = b + \sum_j a_j\,\sigma((x - u_j)/\eta_j) + \sum_i h_i\,1[x \ge v_i].$$

Between two of the points $u_j, u_j \pm \eta_j/2, v_i$ it is a cubic, whose square four nodes integrate exactly. Nothing
is subtracted late: r at a node is the sum of b and the heights so far, and of the neurons whose windows hold the node.
The mean is never negative, and keeps its relative accuracy where it is small.

Shapes are those of `local`: runs are trailing axes. Neurons and jumps are in any order; here they are sorted.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._kernel import total
from .._lanes import lanes_last
from . import step
from .local import bandwidth, cumulate
from .pairs import beside


def risk(
    a: Float[Array, "m *lanes"],
    u: Float[Array, "m *lanes"],
    bias: Float[Array, "*lanes"] | None,
    eta: Float[Array, "*#lanes"],
    jumps: Float[Array, "k *#lanes"],
    values: Float[Array, "k+1 *#lanes"],
) -> Float[Array, "*lanes"]:
    r"""$\int_0^1 (f - f^*)^2\,dx$ of the network of `local.gradient`."""
    start = -values[0] if bias is None else bias - values[0]
    return mean_square(start, a, u, jnp.broadcast_to(beside(eta, u), u.shape), values[:-1] - values[1:], jumps)


def mean_square(
    start: Float[Array, "*#lanes"],
    weights: Float[Array, "m *lanes"],
    positions: Float[Array, "m *lanes"],
    widths: Float[Array, "m *lanes"],
    heights: Float[Array, "k *#lanes"],
    jumps: Float[Array, "k *#lanes"],
) -> Float[Array, "*lanes"]:
    """The mean of $r^2$; derivatives of first order in both modes, then one more in forward mode."""
    lanes = weights.shape[1:]
    heights, jumps = (
        jnp.broadcast_to(x.reshape(*x.shape, *[1] * (weights.ndim - x.ndim)), (len(x), *lanes))
        for x in (heights, jumps)
    )
    inputs = jnp.broadcast_to(start, lanes)[None], weights, positions, widths, heights, jumps
    return _compiled(*(x.reshape(len(x), math.prod(lanes)) for x in inputs)).reshape(lanes)


@jax.custom_jvp
def _mean_square(*inputs: Float[Array, "_ lanes"]) -> Float[Array, " lanes"]:
    return lanes_last(lambda *inputs: _in_order(*_spread(inputs)))(*inputs)


@_mean_square.defjvp
def _(primals, tangents):
    # Written out, since a loop whose length is data has no transpose.
    value, slopes = lanes_last(_with_slopes)(*primals)
    return value, sum(jnp.sum(slope * tangent, axis=0) for slope, tangent in zip(slopes, tangents, strict=True))


_compiled = jax.jit(_mean_square)
"""Once for each shape, also outside `jit`."""


def _with_slopes(*inputs: Float[Array, "_ #lanes"]) -> tuple[Float[Array, " lanes"], tuple[Array, ...]]:
    value, pull = jax.vjp(_in_order, *_spread(inputs))
    return value, pull(jnp.ones_like(value))


def _spread(inputs: tuple[Float[Array, "_ #lanes"], ...]) -> list[Float[Array, "_ lanes"]]:
    lanes = max(x.shape[-1] for x in inputs)
    return [jnp.broadcast_to(x, (len(x), lanes)) for x in inputs]


def _in_order(
    start: Float[Array, "1 lanes"],
    weights: Float[Array, "m lanes"],
    positions: Float[Array, "m lanes"],
    widths: Float[Array, "m lanes"],
    heights: Float[Array, "k lanes"],
    jumps: Float[Array, "k lanes"],
) -> Float[Array, " lanes"]:
    order = jnp.argsort(positions, axis=0)
    a, u, eta = (jnp.take_along_axis(x, order, axis=0) for x in (weights, positions, widths))
    # The integrand is smooth enough at the points of the neurons for its derivative to be that under the integral.
    kinks = jax.lax.stop_gradient(jnp.concatenate([u - eta / 2, u, u + eta / 2]))
    nothing, none = jnp.zeros_like(start), jnp.zeros_like(a)
    points = jnp.concatenate([nothing, jnp.clip(kinks, 0.0, 1.0), jnp.clip(jumps, 0.0, 1.0), nothing + 1])
    rises = jnp.concatenate([start, none, a, none, heights, nothing])
    centres = np.repeat([0, 1, 0], [1 + len(u), len(u), len(u) + len(heights) + 1]).astype(np.int32)
    passes = jnp.broadcast_to(centres[:, None], points.shape)
    points, rises, passes = jax.lax.sort((points, rises, passes), dimension=0, num_keys=1)
    level, left, width = cumulate(rises)[:-1], points[:-1], points[1:] - points[:-1]
    passed = cumulate(passes)[:-1]
    nodes, parts = (x.astype(width.dtype)[:, None, None] for x in np.polynomial.legendre.leggauss(4))
    inside = width[None] * ((nodes + 1) / 2)
    reach = bandwidth(u, jnp.max(eta, axis=0))
    residual = level[None] + _windows(jax.lax.stop_gradient(reach), passed, left, inside, a, u, eta)
    # In order: a sum over axes is taken in an order that depends on how many lanes there are.
    return total(total(width[None] * (parts / 2) * residual**2))


@jax.custom_vjp
def _windows(reach, passed, left, inside, a, u, eta):
    """What the neurons whose windows hold the nodes add to the level: the part of those on the right that has begun,
    less the part of those on the left that is yet to come."""
    return jax.lax.fori_loop(
        0, reach + 1, lambda k, so_far: so_far + _pair(k, passed, left, inside, a, u, eta), jnp.zeros_like(inside)
    )


def _windows_forward(*args):
    return _windows.fun(*args), args


def _windows_backward(args, cotangent):
    reach, passed, *rest = args

    def add(k, so_far):
        _, pull = jax.vjp(functools.partial(_pair, k, passed), *rest)
        return jax.tree.map(jnp.add, so_far, pull(cotangent))

    return None, None, *jax.lax.fori_loop(0, reach + 1, add, tuple(map(jnp.zeros_like, rest)))


_windows.defvjp(_windows_forward, _windows_backward)


def _pair(
    k: Int[Array, ""],
    passed: Int[Array, "n lanes"],
    left: Float[Array, "n lanes"],
    inside: Float[Array, "q n lanes"],
    a: Float[Array, "m lanes"],
    u: Float[Array, "m lanes"],
    eta: Float[Array, "m lanes"],
) -> Float[Array, "q n lanes"]:
    """Of the k-th neuron on either side of each interval."""
    found = jnp.zeros_like(inside)
    for index, sign in ((passed + k, 1), (passed - 1 - k, -1)):
        exists = (index >= 0) & (index < len(u))
        a_k, u_k, eta_k = (jnp.take_along_axis(x, jnp.clip(index, 0, len(u) - 1), axis=0) for x in (a, u, eta))
        part = step.value(sign * ((left - u_k)[None] + inside) / eta_k[None])
        found = found + jnp.where(exists, sign * a_k, 0.0)[None] * part
    return found
