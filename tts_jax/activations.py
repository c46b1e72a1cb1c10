"""Activations.

An activation's own parameters (the width `eta`) are settings, not weights: no dynamics trains them, but they are
leaves, so that a result can be differentiated with respect to them and vmapped over them.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real
from typing_extensions import override

from . import _checks as checks, _pieces as pieces
from .exact import step
from .exact.kernels import arc_cosine, arc_sine

KERNEL_TOLERANCE = 1e-2
"""Relative to the standard deviations: quadrature is that near for functions with kinks."""


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


class SmoothStep(AbstractActivation):
    r"""The smoothed step $z \mapsto \sigma(z/\eta)$ of Marion and Berthier (2023).

    $\sigma$ is 0 below -1/2, $4(z + 1/2)^3$ on [-1/2, 0], $1 - 4(1/2 - z)^3$ on [0, 1/2] and 1 above: twice
    continuously differentiable but for the jump of $\sigma''$ at 0.

    **Arguments:**

    - `eta`: the width $\eta$, positive: the input over which the step rises. A leaf, which no dynamics trains
    - `surrogate`: None, or "box", which leaves the function as it is and replaces its derivative by the box $1/\eta$ on
      $|z| \le \eta/2$, as the published implementation of the paper does. It acts where a derivative is taken *through*
      the activation, that is in `SGD`; the exact risk and its gradient do not pass through it

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> tts.SmoothStep(0.2)(jnp.array([-0.1, 0.0, 0.05, 0.1])).round(6).tolist()
    [0.0, 0.5, 0.9375, 1.0]

    Raises `ValueError` for an `eta` that is not positive, and for an unknown surrogate.

    Source: Marion and Berthier (2023), arXiv 2304.09576.
    """

    eta: Float[Array, ""]
    surrogate: str | None = eqx.field(static=True)
    degree = 3

    def __init__(self, eta: Real[ArrayLike, ""], surrogate: str | None = None):
        self.eta = checks.as_float(checks.positive("eta", eta))
        self.surrogate = None if surrogate is None else checks.choice("surrogate", surrogate, ["box"])

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        s = z / self.eta
        return step.value_with_box(s) if self.surrogate == "box" else step.value(s)

    def value_and_slope(self, z: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """The value at `z`, and the derivative or its surrogate, from one window; `eta` and `z` broadcast.

        Not for automatic differentiation, which takes `abs` to be flat at 0.
        """
        rate = jax.lax.broadcast_to_rank(1 / self.eta, z.ndim)
        s = z * rate
        reach = 0.5 - jnp.abs(s)
        window = jnp.where(reach < 0, 0.0, reach)
        slope = jnp.where(reach >= 0, 1.0, 0.0).astype(s.dtype) if self.surrogate == "box" else step.slope_of(window)
        return step.value_of(s, window), slope * rate

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return jnp.concatenate([positions + shift * self.eta for shift in (-0.5, 0.0, 0.5)])


class Heaviside(AbstractActivation):
    r"""The step $1[z \ge 0]$: the limit $\eta \to 0$ of `SmoothStep`, in which the two-timescale limit lives.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> tts.Heaviside()(jnp.array([-0.1, 0.0, 0.1])).tolist()
    [0.0, 1.0, 1.0]
    """

    degree = 0

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(z >= 0, 1.0, 0.0).astype(z.dtype)

    @override
    def kinks(self, positions: Float[Array, " m"]) -> Float[Array, " k"]:
        return positions


class ReLU(AbstractActivation, AbstractGaussianActivation):
    r"""$z \mapsto \max(z, 0)$, on [0, 1] and on Gaussian inputs.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> tts.ReLU()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

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
    r"""The error function $\mathrm{erf}(z) = \frac{2}{\sqrt\pi} \int_0^z e^{-t^2}\,dt$, on Gaussian inputs.

    Much of the literature takes $\mathrm{erf}(z/\sqrt2)$: scale the directions by $1/\sqrt2$ for it.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> round(float(tts.Erf()(jnp.array(1.0))), 4)
    0.8427
    """

    @override
    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.scipy.special.erf(z)

    @override
    def kernel(self, w: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        return arc_sine(w, v)


def verify(activation: AbstractActivation) -> None:
    """Raises `ValueError` for an activation of the user's that is no polynomial of its `degree` between its `kinks`."""
    if not isinstance(activation, AbstractActivation):
        raise ValueError(
            f"this is exact for activations that are piecewise polynomials, got {checks.called(activation)}: "
            "pass e.g. SmoothStep(eta)"
        )
    pieces.verify(activation, _on_the_interval)


def verify_kernel(activation: AbstractGaussianActivation) -> None:
    """Raises `ValueError` for an activation of the user's whose `kernel` is not the mean of its product."""
    pieces.once(activation, _compare_kernel)


def _compare_kernel(name: str, activation: AbstractGaussianActivation) -> None:
    """By Gauss and Hermite's rule in the plane, for two directions that are neither parallel nor orthogonal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    w, v = jnp.array([1.1, 0.3]), jnp.array([-0.4, 0.9])
    plane = jnp.stack([jnp.repeat(jnp.asarray(nodes), len(nodes)), jnp.tile(jnp.asarray(nodes), len(nodes))])
    first, second = activation(w @ plane), activation(v @ plane)

    def mean(values):
        return float(np.outer(weights, weights).ravel() @ np.asarray(values))

    expected, size = mean(first * second), (mean(first**2) * mean(second**2)) ** 0.5
    got = float(activation.kernel(w, v))
    if not abs(got - expected) <= KERNEL_TOLERANCE * size:  # it may be NaN
        raise ValueError(
            f"the kernel of {name} must be the mean of its product over Gaussian inputs, got {got:.6g} for directions "
            f"{w.tolist()} and {v.tolist()}, where quadrature finds {expected:.6g}: mend kernel(w, v)"
        )


def _on_the_interval(activation: AbstractActivation) -> tuple[pieces.Function, Float[Array, " k"]]:
    """Three neurons, whose differences from an input reach from -1 to 1."""
    positions = jnp.array([0.0, 0.37, 1.0])

    def sum_of_three(x):
        first, second, third = (activation(x - position) for position in positions)
        return first + 0.7 * second + 1.3 * third

    return sum_of_three, activation.kinks(positions)
