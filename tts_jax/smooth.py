"""Targets of a user: any smooth function, or another network."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real
from numpy.polynomial import chebyshev
from typing_extensions import override

from . import checks
from .activations import AbstractActivation
from .networks import ShallowNetwork
from .targets import AbstractTarget, Additive

MOST_PANELS = 512
NARROWEST = 1e-12


class SmoothTarget(AbstractTarget):
    r"""Any function on [0, 1] that JAX can evaluate at a scalar, smooth between the given `kinks`.

    When made, it is approximated by polynomials of degree 7 on panels, halved until `tolerance` (relative to the
    larger of 1 and the largest value) is met. `error` is the largest deviation $\delta$ found, at twice as many points
    as the polynomials have nodes. `Regression` then integrates the function itself by Gauss's rule, exact for those
    polynomials, between the panels' edges and the kinks of the network: its risk R is wrong by at most
    $4\delta R^{1/2} + 2\delta^2$, and rounding.

    Raises `ValueError` for a function that is not finite, has a jump or is not smooth
    enough for 512 panels.
    """

    function: Callable[[Float[Array, ""]], Float[Array, ""]]
    panels: Float[Array, " p"]
    error: float
    degree = 7

    def __init__(
        self,
        function: Callable[[Float[Array, ""]], Float[Array, ""]],
        kinks: Sequence[Real[ArrayLike, ""]] = (),
        tolerance: float = 1e-10,
    ):
        self.function = function
        checks.positive("tolerance", tolerance)
        edges = np.unique(np.concatenate([[0.0, 1.0], np.clip(np.asarray(checks.finite("kinks", kinks), float), 0, 1)]))
        while True:
            deviation, scale = _deviation(self, edges)
            rough = deviation > tolerance * max(1.0, scale)
            if not rough.any():
                break
            if len(edges) + rough.sum() > MOST_PANELS or np.diff(edges)[rough].min() < NARROWEST:
                at = edges[:-1][rough][0]
                raise ValueError(
                    f"the target is not smooth near {at:.6g} (error {deviation.max():.2g}, {len(edges) - 1} panels): "
                    "give the points where it is not as kinks=[...], or a larger tolerance"
                )
            edges = np.sort(np.concatenate([edges, (edges[:-1] + edges[1:])[rough] / 2]))
        self.panels = checks.as_float(edges[1:-1])
        self.error = float(deviation.max())

    @property
    @override
    def kinks(self) -> Float[Array, " k"]:
        return self.panels

    @override
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.vmap(self.function)(x.ravel()).reshape(x.shape)


class NetworkTarget(AbstractTarget):
    r"""$f^*(x) = \text{bias} + \sum_j a_j\,\sigma(x - u_j)$ on [0, 1]; see `teacher`."""

    weights: Float[Array, " m"]
    positions: Float[Array, " m"]
    bias: Float[Array, ""]
    activation: AbstractActivation
    degree: int = eqx.field(static=True, kw_only=True)

    @property
    @override
    def kinks(self) -> Float[Array, " k"]:
        return self.activation.kinks(self.positions)

    @override
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.bias + self.activation(x[..., None] - self.positions) @ self.weights


def teacher(network: ShallowNetwork) -> AbstractTarget | Additive:
    """The network as a target: a student's risk is exact, being that of a piecewise polynomial.

    Raises `ValueError` for a model that is not a `ShallowNetwork`.
    """
    if not isinstance(network, ShallowNetwork) or network.positions.ndim != 2:
        raise ValueError(f"teacher needs a ShallowNetwork, got {type(network).__name__}: use SmoothTarget(function)")
    bias = jnp.zeros_like(network.weights[0, 0]) if network.bias is None else network.bias
    parts = [
        NetworkTarget(
            weights=a,
            positions=u,
            bias=bias if i == 0 else jnp.zeros_like(bias),
            activation=network.activation,
            degree=network.activation.degree,
        )
        for i, (a, u) in enumerate(zip(network.weights.T, network.positions.T, strict=True))
    ]
    return parts[0] if len(parts) == 1 else Additive(parts)


def _deviation(target: SmoothTarget, edges: Float[np.ndarray, " e"]) -> tuple[Float[np.ndarray, " p"], float]:
    """How far each panel is from the polynomial through its Chebyshev nodes, and the largest value."""
    count = target.degree + 1
    nodes, between = chebyshev.chebpts1(count), np.cos(np.pi * (np.arange(2 * count) + 0.25) / (2 * count))
    to_between = chebyshev.chebvander(between, count - 1) @ np.linalg.inv(chebyshev.chebvander(nodes, count - 1))
    left, half = edges[:-1, None], np.diff(edges)[:, None] / 2
    x = left + half * (1 + np.concatenate([nodes, between]))
    with jax.ensure_compile_time_eval():
        values = np.asarray(target(checks.as_float(x)))
    if not np.isfinite(values).all():
        raise ValueError("the target must be finite on [0, 1], got infinity or NaN: clip the function")
    deviation = np.abs(values[:, count:] - values[:, :count] @ to_between.T).max(axis=1)
    return deviation, float(np.abs(values).max())
