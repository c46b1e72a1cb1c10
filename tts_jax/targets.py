"""What is to be learned: functions on [0, 1], and their sums over the coordinates of [0, 1]^d."""

import abc
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real
from typing_extensions import override

from . import checks


class AbstractTarget(eqx.Module):
    """A function on [0, 1] that is a polynomial of at most `degree` between two `kinks`."""

    degree: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def kinks(self) -> Float[Array, " k"]:
        """In any order; those outside [0, 1] do not matter."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Elementwise."""


class PiecewiseConstant(AbstractTarget):
    r"""A step function on [0, 1]: `values[0]` left of `jumps[0]`, `values[k]` on `[jumps[k-1], jumps[k])`.

    `jumps` has shape (n,), strictly increasing inside (0, 1), and `values` shape (n + 1,). Both are leaves: results
    can be differentiated with respect to them.

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
        self.jumps = jnp.atleast_1d(checks.as_float(jumps))
        self.values = jnp.atleast_1d(checks.as_float(checks.finite("values", values)))
        if self.jumps.ndim != 1 or self.values.ndim != 1 or len(self.values) != len(self.jumps) + 1:
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
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        # One by one: for a sum over an axis the CPU backend of XLA writes out every term, and wakes other threads.
        value = jnp.broadcast_to(self.values[0], x.shape)
        for jump, after in zip(self.jumps, self.values[1:], strict=True):
            value = jnp.where(x >= jump, after, value)
        return value


class PiecewiseLinear(AbstractTarget):
    r"""$f^*(x) = \text{intercept} + \sum_k \text{slopes}_k \max(x - \text{knots}_k, 0)$ on [0, 1].

    `knots` and `slopes` have shape (n,); `slopes[k]` is how much the slope grows at `knots[k]`. A knot at or below 0
    gives the slope at 0. All are leaves.

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
        self.knots = jnp.atleast_1d(checks.as_float(checks.finite("knots", knots)))
        self.slopes = jnp.atleast_1d(checks.as_float(checks.finite("slopes", slopes)))
        self.intercept = checks.as_float(checks.finite("intercept", intercept))
        if self.knots.ndim != 1 or self.knots.shape != self.slopes.shape:
            raise ValueError(
                f"a target with {self.knots.size} knots has {self.knots.size} slopes, got {self.slopes.size}: "
                "give the change of slope at each knot"
            )

    @property
    @override
    def kinks(self) -> Float[Array, " k"]:
        return self.knots

    @override
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.intercept + jnp.maximum(x[..., None] - self.knots, 0.0) @ self.slopes


class Additive(eqx.Module):
    r"""$f^*(x) = \sum_{i=1}^d \text{components}_i(x_i)$ on $[0, 1]^d$, each component a target on [0, 1].

    Raises `ValueError` where there is no component, or one is no target on [0, 1].
    """

    components: tuple[AbstractTarget, ...]

    def __init__(self, components: Sequence[AbstractTarget]):
        self.components = tuple(components)
        if not self.components:
            raise ValueError("a target needs at least one component, got none: give one for each coordinate")
        for component in self.components:
            if not isinstance(component, AbstractTarget):
                raise ValueError(
                    f"a component is a target on [0, 1], got {type(component).__name__}: "
                    "pass e.g. PiecewiseConstant(jumps, values)"
                )

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "..."]:
        """Of inputs along the last axis."""
        parts = [component(x[..., i]) for i, component in enumerate(self.components)]
        return jnp.sum(jnp.stack(parts), axis=0)
