"""Activations, and the integrals over [0, 1] that an exact risk needs.

An activation's own parameters (the width `eta`) are settings, not weights: no dynamics trains them, but they are
leaves, so that a result can be differentiated with respect to them and vmapped over them.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real
from typing_extensions import override

from . import checks


class AbstractActivation(eqx.Module):
    """A scalar function, applied elementwise to `x - u`."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]: ...

    @abc.abstractmethod
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        """Where `x -> activation(x - u)` changes its polynomial, for each position; between, its degree is `degree`."""

    degree: eqx.AbstractClassVar[int]


class Overlap(NamedTuple):
    """`G(p, q) = int_0^1 sigma((x - p)/eta) sigma((x - q)/eta) dx` and derivatives; all of the broadcast shape."""

    value: Float[Array, "..."]
    d_p: Float[Array, "..."]
    d_pp: Float[Array, "..."]
    d_pq: Float[Array, "..."]


class Integral(NamedTuple):
    """An integral as a function of a position, and its first two derivatives."""

    value: Float[Array, "..."]
    d_u: Float[Array, "..."]
    d_uu: Float[Array, "..."]


class SmoothStep(AbstractActivation):
    r"""The smoothed step $z \mapsto \sigma(z/\eta)$ of Marion and Berthier (2023).

    $\sigma$ is 0 below -1/2, $4(z + 1/2)^3$ on [-1/2, 0], $1 - 4(1/2 - z)^3$ on [0, 1/2] and 1 above: twice
    continuously differentiable but for the jump of $\sigma''$ at 0.

    `surrogate="box"` leaves the function as it is and replaces its derivative by the box $1/\eta$ on
    $|z| \le \eta/2$, as the published implementation of the paper does. It acts where a derivative is taken *through* the
    activation, that is in `SGD`; the exact risk and its gradient do not pass through it.

    Raises `ValueError` for `eta <= 0` and for an unknown surrogate.
    """

    eta: Float[Array, ""]
    surrogate: str | None = eqx.field(static=True)
    degree = 3

    def __init__(self, eta: Real[ArrayLike, ""], surrogate: str | None = None):
        if surrogate not in (None, "box"):
            raise ValueError(f"surrogate must be None or 'box', got {surrogate!r}")
        self.eta = checks.as_float(checks.positive("eta", eta))
        self.surrogate = surrogate

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        s = z / self.eta
        return _box_step(s) if self.surrogate == "box" else _step(s)

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return jnp.concatenate([positions + shift * self.eta for shift in (-0.5, 0.0, 0.5)])

    def tail(self, start: Float[Array, "..."], u: Float[Array, "..."]) -> Integral:
        r"""$\int_v^1 \sigma((x-u)/\eta)\,dx$ for `start` $v \le 1$; `tail(0, u)` is the mean of one neuron."""
        upper, lower = (1 - u) / self.eta, (start - u) / self.eta
        return Integral(
            self.eta * (_antiderivative(upper) - _antiderivative(lower)),
            _step(lower) - _step(upper),
            (_step_slope(upper) - _step_slope(lower)) / self.eta,
        )

    def overlap(self, p: Float[Array, "..."], q: Float[Array, "..."]) -> Overlap:
        """Closed form for every pair: coincident, cut by 0 or 1, outside [0, 1]. Elementwise, `p` and `q` broadcast."""
        eta = self.eta
        first_is_larger = p >= q
        high, low = jnp.where(first_is_larger, p, q), jnp.where(first_is_larger, q, p)
        tail = self.tail(jnp.zeros_like(eta), high)
        inner = _inner_overlap((high - low) / eta)
        right = _outer_overlap((high - 1) / eta, (low - 1) / eta)
        left = _outer_overlap(-low / eta, -high / eta)
        d_high = tail.d_u - inner.d_u + right.d_a - left.d_b
        d_low = inner.d_u + right.d_b - left.d_a
        d_high_high = tail.d_uu + (right.d_aa + left.d_bb - inner.d_uu) / eta
        d_low_low = (right.d_bb + left.d_aa - inner.d_uu) / eta
        return Overlap(
            tail.value + eta * (right.value + left.value - inner.value),
            jnp.where(first_is_larger, d_high, d_low),
            jnp.where(first_is_larger, d_high_high, d_low_low),
            (inner.d_uu + right.d_ab + left.d_ab) / eta,
        )


class Heaviside(AbstractActivation):
    """The step `1[z >= 0]`: the limit `eta -> 0` of `SmoothStep`, in which the two-timescale limit lives."""

    degree = 0

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(z >= 0, 1.0, 0.0).astype(z.dtype)

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return positions


# sigma in units of its width. Branches are chosen by `where(z <= 0, ...)`, never by `abs`, so that automatic
# differentiation takes the true one-sided derivative at z = 0 too.


def _half_window(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(jnp.where(z <= 0, 0.5 + z, 0.5 - z), 0.0)


def _step_value(z: Float[Array, "..."]) -> Float[Array, "..."]:
    cube = 4 * _half_window(z) ** 3
    return jnp.where(z <= 0, cube, 1 - cube)


def _step_slope(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return 12 * _half_window(z) ** 2


@jax.custom_jvp
def _step(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return _step_value(z)


@_step.defjvp
def _(primals, tangents):
    (z,), (dz,) = primals, tangents
    return _step(z), _step_slope(z) * dz


@jax.custom_jvp
def _box_step(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return _step_value(z)


@_box_step.defjvp
def _(primals, tangents):
    (z,), (dz,) = primals, tangents
    return _box_step(z), jnp.where(jnp.abs(z) <= 0.5, dz, jnp.zeros_like(dz))


def _antiderivative(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return _half_window(z) ** 4 + jnp.where(z <= 0, 0.0, z)


def _inner_overlap(distance: Float[Array, "..."]) -> Integral:
    r"""$C(D) = \int \sigma(-z-D)\,\sigma(z)\,dz$ over the whole line, for $D \ge 0$."""
    full, half = jnp.maximum(1 - distance, 0.0), jnp.maximum(0.5 - distance, 0.0)
    return Integral(
        4 / 35 * full**7 - 8 / 5 * half**6,
        -4 / 5 * full**6 + 48 / 5 * half**5,
        24 / 5 * full**5 - 48 * half**4,
    )


class _OuterOverlap(NamedTuple):
    value: Float[Array, "..."]
    d_a: Float[Array, "..."]
    d_b: Float[Array, "..."]
    d_aa: Float[Array, "..."]
    d_ab: Float[Array, "..."]
    d_bb: Float[Array, "..."]


def _outer_overlap(a: Float[Array, "..."], b: Float[Array, "..."]) -> _OuterOverlap:
    r"""$\Phi(a, b) = \int_0^\infty \sigma(y - a)\,\sigma(b - y)\,dy$ for $a \ge b$.

    Repeated partial integration leaves truncated powers of `b` times the derivatives of $1 - \sigma$ at `a`; beyond
    its window $\Phi$ depends on $a - b$ alone, which the clipping keeps.
    """
    distance = a - b
    a = jnp.clip(a, -0.5, 0.5)
    b = a - distance
    w, v = jnp.maximum(b + 0.5, 0.0), jnp.maximum(b, 0.0)
    s_1 = 12 * w**2 - 24 * v
    s0 = 4 * w**3 - 12 * v**2
    s1 = w**4 - 4 * v**3
    s2 = w**5 / 5 - v**4
    s3 = w**6 / 30 - v**5 / 5
    s4 = w**7 / 210 - v**6 / 30
    above = a > 0
    rest = jnp.where(above, jnp.maximum(0.5 - distance, 0.0), 0.0)
    half = jnp.where(above, 0.5 - a, 0.5 + a)
    complement = 1 - _step_value(a)
    slope = 12 * half**2
    curvature = jnp.where(above, -24 * half, 24 * half)
    d_a = -slope * s1 + curvature * s2 - 24 * s3 + 24 / 5 * rest**5
    d_aa = -curvature * s1 + 24 * s2 - 24 * rest**4
    d_ab = -slope * s0 - d_aa
    return _OuterOverlap(
        complement * s1 + slope * s2 - curvature * s3 + 24 * s4 - 4 / 5 * rest**6,
        d_a,
        complement * s0 - d_a,
        d_aa,
        d_ab,
        complement * s_1 - d_ab,
    )
