"""What is to be learned: functions on [0, 1], and their sums over the coordinates of [0, 1]^d."""

import abc
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real
from typing_extensions import override

from . import _checks as checks, _pieces as pieces
from .activations import AbstractActivation, verify as verify_activation
from .networks import ShallowNetwork

MOST_PANELS = 512
NARROWEST = 1e-12


class AbstractTarget(eqx.Module):
    """A function on [0, 1] that is a polynomial of at most `degree` between two `kinks`."""

    degree: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def kinks(self) -> Float[Array, " k"]:
        """In any order; those outside [0, 1] do not matter."""

    @abc.abstractmethod
    def __call__(self, x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
        """Elementwise."""


class PiecewiseConstant(AbstractTarget):
    r"""A step function on [0, 1]: `values[0]` left of `jumps[0]`, `values[k]` on `[jumps[k-1], jumps[k])`.

    **Arguments:**

    - `jumps`: shape (n,), strictly increasing inside (0, 1)
    - `values`: shape (n + 1,), one for each piece between two jumps

    Both are leaves: results can be differentiated with respect to them. Called on inputs of any shape, elementwise.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> tts.PiecewiseConstant(jumps=[0.25, 0.75], values=[0.0, 2.0, 1.0])(jnp.array([0.1, 0.25, 0.9])).tolist()
    [0.0, 2.0, 1.0]

    Raises `ValueError` where that does not hold.
    """

    jumps: Float[Array, " n"]
    values: Float[Array, " n+1"]
    degree = 0

    def __init__(
        self,
        jumps: Sequence[Real[ArrayLike, ""]] | Real[ArrayLike, " n"],
        values: Sequence[Real[ArrayLike, ""]] | Real[ArrayLike, " k"],
    ):
        self.jumps = checks.as_float(checks.vector("jumps", jumps))
        self.values = checks.as_float(checks.vector("values", values))
        if len(self.values) != len(self.jumps) + 1:
            raise ValueError(
                f"a target with {self.jumps.size} jumps has {self.jumps.size + 1} values, got {self.values.size}: "
                "give one value for each piece between two jumps"
            )
        known = checks.concrete(self.jumps)
        if known is not None and not ((known > 0) & (known < 1)).all():
            raise ValueError(f"jumps must lie inside (0, 1), got {checks.one_line(known)}")
        if known is not None and not (np.diff(known) > 0).all():
            raise ValueError(
                f"jumps must be strictly increasing, got {checks.one_line(known)}: sort them and leave out repetitions"
            )

    @property
    @override
    def kinks(self) -> Float[Array, " k"]:
        return self.jumps

    @property
    def heights(self) -> Float[Array, " n"]:
        """The size of each jump, `values[k+1] - values[k]`."""
        return jnp.diff(self.values)

    @property
    def mean(self) -> Float[Array, ""]:
        r"""$\int_0^1 f^*(x)\,dx$."""
        return self.values[-1] - jnp.sum(self.jumps * self.heights)

    @property
    def square_mean(self) -> Float[Array, ""]:
        r"""$\int_0^1 f^*(x)^2\,dx$."""
        edges = jnp.pad(self.jumps, 1, constant_values=(0.0, 1.0))
        return jnp.sum(self.values**2 * jnp.diff(edges))

    @override
    def __call__(self, x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
        x = checks.leaf("x", checks.finite("x", x))
        # One by one: for a sum over an axis the CPU backend of XLA writes out every term, and wakes other threads.
        value = jnp.broadcast_to(self.values[0], x.shape)
        for jump, after in zip(self.jumps, self.values[1:], strict=True):
            value = jnp.where(x >= jump, after, value)
        return value


class PiecewiseLinear(AbstractTarget):
    r"""$f^*(x) = \text{intercept} + \sum_k \text{slopes}_k \max(x - \text{knots}_k, 0)$ on [0, 1].

    **Arguments:**

    - `knots`: shape (n,), in any order; a knot at or below 0 gives the slope at 0
    - `slopes`: shape (n,); `slopes[k]` is how much the slope grows at `knots[k]`
    - `intercept`: the value left of all knots

    All are leaves. Called on inputs of any shape, elementwise.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> tts.PiecewiseLinear(knots=[0.0, 0.5], slopes=[2.0, -4.0])(jnp.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 0.0]

    Raises `ValueError` for knots and slopes that differ in number, and for values that are not finite.
    """

    knots: Float[Array, " n"]
    slopes: Float[Array, " n"]
    intercept: Float[Array, ""]
    degree = 1

    def __init__(
        self,
        knots: Sequence[Real[ArrayLike, ""]] | Real[ArrayLike, " n"],
        slopes: Sequence[Real[ArrayLike, ""]] | Real[ArrayLike, " k"],
        intercept: Real[ArrayLike, ""] = 0.0,
    ):
        self.knots = checks.as_float(checks.vector("knots", knots))
        self.slopes = checks.as_float(checks.vector("slopes", slopes))
        self.intercept = checks.as_float(checks.number("intercept", intercept))
        if self.knots.shape != self.slopes.shape:
            raise ValueError(
                f"a target with {self.knots.size} knots has {self.knots.size} slopes, got {self.slopes.size}: "
                "give the change of slope at each knot"
            )

    @property
    @override
    def kinks(self) -> Float[Array, " k"]:
        return self.knots

    @override
    def __call__(self, x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
        x = checks.leaf("x", checks.finite("x", x))
        knots = jax.lax.broadcast_to_rank(self.knots, x.ndim + 1)
        return self.intercept + jnp.maximum(x[..., None] - knots, 0.0) @ self.slopes


class Additive(eqx.Module):
    r"""$f^*(x) = \sum_{i=1}^d \text{components}_i(x_i)$ on $[0, 1]^d$.

    `components` is a list of d targets on [0, 1], one for each coordinate. Called on inputs of shape (..., d), it gives
    shape (...).

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> step, tent = tts.PiecewiseConstant([0.5], [0.0, 1.0]), tts.PiecewiseLinear([0.0, 0.5], [2.0, -4.0])
    >>> float(tts.Additive([step, tent])(jnp.array([0.7, 0.25])))
    1.5

    Raises `ValueError` where there is no component, or one is no target on [0, 1].
    """

    components: tuple[AbstractTarget, ...]

    def __init__(self, components: Sequence[AbstractTarget]):
        if not isinstance(components, AbstractTarget | Sequence):
            raise ValueError(
                f"Additive needs a list of targets, got {checks.called(components)}: give one per coordinate"
            )
        self.components = (components,) if isinstance(components, AbstractTarget) else tuple(components)
        if not self.components:
            raise ValueError("a target needs at least one component, got none: give one for each coordinate")
        for component in self.components:
            if not isinstance(component, AbstractTarget):
                raise ValueError(
                    f"a component is a target on [0, 1], got {type(component).__name__}: "
                    "pass e.g. PiecewiseConstant(jumps, values)"
                )

    def __call__(self, x: Real[ArrayLike, "... d"]) -> Float[Array, "..."]:
        """Of inputs along the last axis. Raises `ValueError` where their number is another."""
        x, inputs = checks.leaf("x", checks.finite("x", x)), len(self.components)
        if x.shape[-1:] != (inputs,):
            raise ValueError(f"a target of {inputs} inputs takes x of shape (..., {inputs}), got {x.shape}")
        parts = [component(x[..., i]) for i, component in enumerate(self.components)]
        return jnp.sum(jnp.stack(parts), axis=0)


class SmoothTarget(AbstractTarget):
    r"""Any function on [0, 1] that JAX can evaluate at a scalar, smooth between the given `kinks`.

    When made, it is approximated by polynomials of degree 7 on panels, halved until `tolerance` is met. `error` is the
    largest deviation $\delta$ found, at twice as many points as the polynomials have nodes, and `panels` are the inner
    edges of the panels. `Regression` then integrates the function itself by Gauss's rule, exact for those polynomials,
    between the panels' edges and the kinks of the network: its risk R is wrong by at most
    $4\delta R^{1/2} + 2\delta^2$, and rounding.

    **Arguments:**

    - `function`: of a scalar, such as `jnp.sin`
    - `kinks`: where it is not smooth, in any order; none by default
    - `tolerance`: of the approximation, relative to the larger of 1 and the largest value

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> target = tts.SmoothTarget(lambda x: jnp.abs(jnp.sin(x - 0.3)), kinks=[0.3])
    >>> target.error < 1e-10
    True

    Raises `ValueError` for a function that is not finite, has a jump, is not smooth enough for 512 panels, or cannot be
    traced by JAX.
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
        self.function = checks.function("function", function, "jnp.sin")
        with checks.traceable("function", function):
            jax.eval_shape(lambda x: function(x), jnp.zeros(()))  # which takes no ufunc of NumPy itself
        checks.positive("tolerance", tolerance)
        edges = np.unique([0.0, 1.0, *np.clip(np.asarray(checks.vector("kinks", kinks), float), 0, 1)])
        while True:
            deviation, scale = pieces.misfit(self, edges, self.degree, 2 * self.degree + 2)
            if not np.isfinite(scale):
                raise ValueError("the target must be finite on [0, 1], got infinity or NaN: clip the function")
            rough = deviation > tolerance * max(1.0, scale)
            if not rough.any():
                break
            if len(edges) + rough.sum() > MOST_PANELS or np.diff(edges)[rough].min() < NARROWEST:
                at = edges[:-1][rough][0]
                raise ValueError(
                    f"the target is not smooth near {at:.6g}, got an error of {deviation.max():.2g} on "
                    f"{len(edges) - 1} panels: "
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
    def __call__(self, x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
        x = checks.leaf("x", checks.finite("x", x))
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
    def __call__(self, x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
        x = checks.leaf("x", checks.finite("x", x))
        positions = jax.lax.broadcast_to_rank(self.positions, x.ndim + 1)
        return self.bias + self.activation(x[..., None] - positions) @ self.weights


def teacher(network: ShallowNetwork) -> AbstractTarget | Additive:
    """The `network` as a target: a student's risk is exact, being that of a piecewise polynomial.

    A target on [0, 1] for a `ShallowNetwork` of one input, an `Additive` one for several. Its weights, positions and
    bias are leaves.

    >>> import tts_jax as tts
    >>> network = tts.ShallowNetwork([[1.0], [-2.0]], [[0.3], [0.6]], 0.5, tts.ReLU())
    >>> round(float(tts.Regression(tts.teacher(network)).risk(network)), 12)
    0.0

    Raises `ValueError` for a model that is not a `ShallowNetwork`, or whose activation is not of its `degree`.
    """
    if not isinstance(network, ShallowNetwork) or network.positions.ndim != 2:
        raise ValueError(f"teacher needs a ShallowNetwork, got {type(network).__name__}: use SmoothTarget(function)")
    verify_activation(network.activation)
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


def verify(target: AbstractTarget) -> None:
    """Raises `ValueError` for a target of the user's that is no polynomial of its `degree` between its `kinks`."""
    pieces.verify(target, _on_the_interval)


def _on_the_interval(target: AbstractTarget) -> tuple[pieces.Function, Float[Array, " k"]]:
    return target, target.kinks
