"""Activations, and the integrals over [0, 1] that an exact risk needs.

An activation's own parameters (the width `eta`) are settings, not weights: no dynamics trains them, but they are
leaves, so that a result can be differentiated with respect to them and vmapped over them.
"""

import abc
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real
from typing_extensions import override

from . import _checks as checks
from .exact.kernels import arc_cosine, arc_sine


class AbstractActivation(eqx.Module):
    """A scalar function, applied elementwise to `x - u`."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]: ...

    @abc.abstractmethod
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        """Where `x -> activation(x - u)` changes its polynomial, for each position; between, its degree is `degree`."""

    degree: eqx.AbstractClassVar[int]


class AbstractGaussianActivation(eqx.Module):
    """A scalar function whose products have a known mean over Gaussian inputs."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]: ...

    @abc.abstractmethod
    def kernel(self, w: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$E\,\phi(w \cdot x)\,\phi(v \cdot x)$ for $x \sim N(0, I_d)$."""


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

    `surrogate="box"` leaves the function as it is and replaces its derivative by the box $1/\eta$ on $|z| \le
    \eta/2$, as the published implementation of the paper does. It acts where a derivative is taken *through* the
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

    def value_and_slope(self, z: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """The value, and the derivative or its surrogate, from one window; `eta` and `z` broadcast.

        Not for automatic differentiation, which takes `abs` to be flat at 0.
        """
        rate = jax.lax.broadcast_to_rank(1 / self.eta, z.ndim)
        s = z * rate
        reach = 0.5 - jnp.abs(s)
        window = jnp.where(reach < 0, 0.0, reach)
        slope = jnp.where(reach >= 0, 1.0, 0.0).astype(s.dtype) if self.surrogate == "box" else _slope_of(window)
        return _value_of(s, window), slope * rate

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return jnp.concatenate([positions + shift * self.eta for shift in (-0.5, 0.0, 0.5)])

    def tail(self, start: Float[Array, "..."], u: Float[Array, "..."]) -> Integral:
        r"""$\int_v^1 \sigma((x-u)/\eta)\,dx$ for `start` $v \le 1$; `tail(0, u)` is the mean of one neuron."""
        rate = 1 / self.eta
        upper, lower = (1 - u) * rate, (start - u) * rate
        return Integral(
            self.eta * (_antiderivative(upper) - _antiderivative(lower)),
            _step(lower) - _step(upper),
            (_step_slope(upper) - _step_slope(lower)) * rate,
        )

    def cuts(self, positions: Float[Array, "..."]) -> Bool[Array, "..."]:
        """Whether 0 or 1 cuts the window of a neuron."""
        half = self.eta / 2
        return (jnp.abs(positions) < half) | (jnp.abs(positions - 1) < half)

    def overlap(self, p: Float[Array, "..."], q: Float[Array, "..."], *, cut: bool = True) -> Overlap:
        """Closed form for every pair: coincident, cut by 0 or 1, outside [0, 1]. Elementwise, `p` and `q` broadcast.

        `cut=False` leaves out `cut_overlap`, which is zero but between neurons whose windows are cut.
        """
        first, rate = p >= q, 1 / self.eta
        of_p, of_q = (self.tail(jnp.zeros_like(self.eta), u) for u in (p, q))
        excess = _inner_overlap(jnp.abs(p - q) * rate)
        both_reach = self._reaches(p) & self._reaches(q)
        excess = jax.tree.map(lambda part: jnp.where(both_reach, part, 0.0), excess)
        inner = Overlap(
            jnp.where(first, of_p.value, of_q.value) - self.eta * excess.value,
            jnp.where(first, of_p.d_u - excess.d_high, -excess.d_low),
            jnp.where(first, of_p.d_uu - excess.d_high_high * rate, -excess.d_low_low * rate),
            -excess.d_high_low * rate,
        )
        return jax.tree.map(jnp.add, inner, self.cut_overlap(p, q)) if cut else inner

    def cut_overlap(self, p: Float[Array, "..."], q: Float[Array, "..."]) -> Overlap:
        """What `overlap` needs to add where 0 or 1 cuts the windows of both neurons; zero for any other pair."""
        first, rate = p >= q, 1 / self.eta
        distance = jnp.abs(p - q) * rate
        right = _outer_overlap(_AtEdge.of((p - 1) * rate), _AtEdge.of((q - 1) * rate), first, distance)
        left = _outer_overlap(_AtEdge.of(-p * rate), _AtEdge.of(-q * rate), ~first, distance).mirrored()
        both_reach = self._reaches(p) & self._reaches(q)
        outer = jax.tree.map(lambda one, other: jnp.where(both_reach, one + other, 0.0), right, left)
        return Overlap(
            self.eta * outer.value,
            jnp.where(first, outer.d_high, outer.d_low),
            jnp.where(first, outer.d_high_high, outer.d_low_low) * rate,
            outer.d_high_low * rate,
        )

    def _reaches(self, u: Float[Array, "..."]) -> Bool[Array, "..."]:
        """Whether a part of the window lies in [0, 1]."""
        return (u > -self.eta / 2) & (u < 1 + self.eta / 2)


class Heaviside(AbstractActivation):
    """The step `1[z >= 0]`: the limit `eta -> 0` of `SmoothStep`, in which the two-timescale limit lives."""

    degree = 0

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(z >= 0, 1.0, 0.0).astype(z.dtype)

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return positions


class ReLU(AbstractActivation, AbstractGaussianActivation):
    """`max(z, 0)`."""

    degree = 1

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(z > 0, z, 0.0)

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return positions

    @override
    def kernel(self, w: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        return arc_cosine(w, v)


class Erf(AbstractGaussianActivation):
    """The error function `erf(z)`; scale the directions by `2**-0.5` for `erf(z / 2**0.5)`."""

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.scipy.special.erf(z)

    @override
    def kernel(self, w: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        return arc_sine(w, v)


# sigma in units of its width. Branches are chosen by `where(z <= 0, ...)`, never by `abs`, so that automatic
# differentiation takes the true one-sided derivative at z = 0 too.


def _half_window(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(jnp.where(z <= 0, 0.5 + z, 0.5 - z), 0.0)


def _value_of(z: Float[Array, "..."], half_window: Float[Array, "..."]) -> Float[Array, "..."]:
    cube = 4 * half_window**3
    return jnp.where(z <= 0, cube, 1 - cube)


def _slope_of(half_window: Float[Array, "..."]) -> Float[Array, "..."]:
    return 12 * half_window**2


def _step_value(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return _value_of(z, _half_window(z))


def _step_slope(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return _slope_of(_half_window(z))


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


class _PairIntegral(NamedTuple):
    """An integral over two neurons, in units of the width, and its derivatives by the higher and the lower position."""

    value: Float[Array, "..."]
    d_high: Float[Array, "..."]
    d_low: Float[Array, "..."]
    d_high_high: Float[Array, "..."]
    d_high_low: Float[Array, "..."]
    d_low_low: Float[Array, "..."]

    def mirrored(self) -> "_PairIntegral":
        """As a function of the positions, where it is given as one of their mirror images."""
        return _PairIntegral(self.value, -self.d_low, -self.d_high, self.d_low_low, self.d_high_low, self.d_high_high)


def _inner_overlap(distance: Float[Array, "..."]) -> _PairIntegral:
    r"""$\int (1 - \sigma(z + D))\,\sigma(z)\,dz$ over the whole line, for $D \ge 0$."""
    full, half = jnp.maximum(1 - distance, 0.0), jnp.maximum(0.5 - distance, 0.0)
    slope = -4 / 5 * full**6 + 48 / 5 * half**5
    bend = 24 / 5 * full**5 - 48 * half**4
    return _PairIntegral(4 / 35 * full**7 - 8 / 5 * half**6, slope, -slope, bend, -bend, bend)


class _AtEdge(NamedTuple):
    """One neuron at an edge of [0, 1], `beyond` widths outside; O(m) work that O(m^2) pairs share."""

    beyond: Float[Array, "..."]
    complement: Float[Array, "..."]
    """1 minus the value of sigma there."""
    slope: Float[Array, "..."]
    curvature: Float[Array, "..."]
    value: Float[Array, "..."]
    integral: Float[Array, "..."]
    """Of sigma, from -infinity; the next three are repeated integrals."""
    second: Float[Array, "..."]
    third: Float[Array, "..."]
    fourth: Float[Array, "..."]

    @classmethod
    def of(cls, beyond: Float[Array, "..."]) -> "_AtEdge":
        """For neurons at most half a width outside."""
        half = _half_window(beyond)
        w, v = jnp.maximum(beyond + 0.5, 0.0), jnp.maximum(beyond, 0.0)
        return cls(
            beyond=beyond,
            complement=1 - _step_value(beyond),
            slope=_slope_of(half),
            curvature=jnp.where(beyond > 0, -24 * half, 24 * half),
            value=4 * w**3 - 12 * v**2,
            integral=w**4 - 4 * v**3,
            second=w**5 / 5 - v**4,
            third=w**6 / 30 - v**5 / 5,
            fourth=w**7 / 210 - v**6 / 30,
        )


def _outer_overlap(p: _AtEdge, q: _AtEdge, first: Bool[Array, "..."], distance: Float[Array, "..."]) -> _PairIntegral:
    r"""$\Phi(a, b) = \int_0^\infty \sigma(y - a)\,\sigma(b - y)\,dy$.

    Here a and b are the larger and the smaller `beyond`, and $a \le 1/2$. Repeated partial integration leaves the
    repeated integrals of $\sigma$ at b times the derivatives of $1 - \sigma$ at a, the last of which jumps by 48 at a
    = 0.
    """
    a, b = (jax.tree.map(partial(jnp.where, chosen), p, q) for chosen in (first, ~first))
    jump = jnp.where(a.beyond > 0, jnp.maximum(0.5 - distance, 0.0), 0.0)
    d_a = -a.slope * b.integral + a.curvature * b.second - 24 * b.third + 24 / 5 * jump**5
    d_aa = -a.curvature * b.integral + 24 * b.second - 24 * jump**4
    d_ab = -a.slope * b.value - d_aa
    return _PairIntegral(
        value=a.complement * b.integral + a.slope * b.second - a.curvature * b.third + 24 * b.fourth - 4 / 5 * jump**6,
        d_high=d_a,
        d_low=a.complement * b.value - d_a,
        d_high_high=d_aa,
        d_high_low=d_ab,
        d_low_low=a.complement * b.slope - d_ab,
    )
