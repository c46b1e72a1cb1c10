"""Equinox models, and which of their leaves train."""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real
from typing_extensions import override

from . import _checks as checks
from .activations import AbstractActivation, AbstractGaussianActivation


class AbstractTwoLayerNetwork(eqx.Module):
    """A network that is linear in its outer layer; the inner one is slow where a dynamics is not told otherwise."""

    @property
    @abc.abstractmethod
    def slow(self) -> PyTree:
        """The leaves of the inner layer."""

    @property
    @abc.abstractmethod
    def vectors(self) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        """What the network is linear in (the bias first, where there is one), and the ravelled inner layer."""

    @abc.abstractmethod
    def with_vectors(self, outer: Float[Array, " n"], inner: Float[Array, " m"]) -> "AbstractTwoLayerNetwork":
        """The network of the same shape with these `vectors`."""


class ShallowNetwork(AbstractTwoLayerNetwork):
    r"""$f(x) = b + \sum_{i=1}^d \sum_{j=1}^m a_{ji}\,\sigma(x_i - u_{ji})$.

    **Arguments:**

    - `weights`: $a$, shape (m, d) for m neurons on each of d coordinates
    - `positions`: $u$, shape (m, d): the slow leaves
    - `bias`: $b$, a scalar, or None for a network without
    - `activation`: $\sigma$, with its width, such as `SmoothStep(4e-3)`

    Lists, NumPy arrays and integers become floating-point leaves. Called on one input, of shape (d,), or a scalar where
    d = 1; `jax.vmap(network)` takes many. In a `Trajectory` weights, positions and bias have a leading time axis.

    >>> import tts_jax as tts
    >>> model = tts.ShallowNetwork([[1.0], [2.0]], [[0.2], [0.6]], 0.5, tts.Heaviside())
    >>> float(model(0.3)), float(model(0.7))
    (1.5, 3.5)

    Raises `ValueError` where the shapes do not fit, also that of an input, or there is no neuron.
    """

    weights: Float[Array, "*t m d"]
    positions: Float[Array, "*t m d"]
    bias: Float[Array, "*t"] | None
    activation: AbstractActivation

    def __init__(
        self,
        weights: Real[ArrayLike, "*t m d"] | Sequence[Any],
        positions: Real[ArrayLike, "*t m d"] | Sequence[Any],
        bias: Real[ArrayLike, "*t"] | Sequence[Any] | None,
        activation: AbstractActivation,
    ):
        self.weights, self.positions = checks.leaf("weights", weights), checks.leaf("positions", positions)
        self.bias = None if bias is None else checks.leaf("bias", bias)
        self.activation = checks.function("activation", activation, "SmoothStep(4e-3)")
        shape = self.weights.shape
        if shape != self.positions.shape or len(shape) < 2:
            raise ValueError(
                "weights and positions must both have shape (neurons, dimension), "
                f"got {shape} and {self.positions.shape}"
            )
        if 0 in shape:
            raise ValueError(f"a network needs at least one neuron, got weights of shape {shape}")
        if self.bias is not None and self.bias.shape != shape[:-2]:
            raise ValueError(f"bias must be one number, of shape {shape[:-2]}, got shape {self.bias.shape}")

    @classmethod
    def init(
        cls,
        key: Key[Array, ""],
        neurons: int,
        activation: AbstractActivation,
        dimension: int = 1,
        *,
        weight_range: Real[ArrayLike, ""] = 0.0,
        bias: bool = True,
    ) -> "ShallowNetwork":
        """A start: positions i.i.d. uniform on [0, 1], weights i.i.d. uniform on [0, `weight_range`], bias 0.

        **Arguments:**

        - `key`: of `jax.random`; the positions depend on it and the two sizes alone
        - `neurons`: m, for each coordinate
        - `activation`: such as `SmoothStep(4e-3)`
        - `dimension`: d, the number of inputs
        - `weight_range`: 0 by default: all weights begin at 0
        - `bias`: whether there is one

        Raises `ValueError` for sizes that are not positive integers, and for what is no key.
        """
        shape = (checks.count("neurons", neurons), checks.count("dimension", dimension))
        position_key, weight_key = jax.random.split(checks.random_key("key", key))
        largest = checks.as_float(checks.number("weight_range", weight_range))
        has_bias = checks.truth("bias", bias)
        return cls(
            weights=largest * jax.random.uniform(weight_key, shape, float),
            positions=jax.random.uniform(position_key, shape, float),
            bias=jnp.zeros((), float) if has_bias else None,
            activation=activation,
        )

    @property
    @override
    def slow(self) -> PyTree:
        return self.positions

    @property
    @override
    def vectors(self) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        weights = self.weights.ravel()
        return weights if self.bias is None else jnp.concatenate([self.bias[None], weights]), self.positions.ravel()

    @override
    def with_vectors(self, outer: Float[Array, " n"], inner: Float[Array, " m"]) -> "ShallowNetwork":
        shape = self.weights.shape
        bias, weights = (None, outer) if self.bias is None else (outer[0], outer[1:])
        return ShallowNetwork(weights.reshape(shape), inner.reshape(shape), bias, self.activation)

    def __call__(self, x: Real[ArrayLike, " d"] | Real[ArrayLike, ""]) -> Float[Array, ""]:
        x = _one_input(x, "positions", self.positions, scalar=True)
        output = jnp.sum(self.weights * self.activation(jax.lax.broadcast_to_rank(x, 2) - self.positions))
        return output if self.bias is None else self.bias + output


class _AbstractDirections(AbstractTwoLayerNetwork):
    """A weight and a direction for each neuron, and no bias."""

    weights: Float[Array, "*t m"]
    directions: Float[Array, "*t m d"]

    @property
    @override
    def slow(self) -> PyTree:
        return self.directions

    @property
    @override
    def vectors(self) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        return self.weights, self.directions.ravel()


class PerceptronNetwork(_AbstractDirections):
    r"""$f(x) = \sum_{j=1}^m a_j\,\phi(w_j \cdot x)$ for $x \in R^d$.

    **Arguments:**

    - `weights`: $a$, shape (m,) for m neurons
    - `directions`: $w$, shape (m, d) for d inputs: the slow leaves
    - `activation`: $\phi$, one with a kernel for Gaussian inputs: `ReLU()` or `Erf()`

    Lists, NumPy arrays and integers become floating-point leaves. Called on one input, of shape (d,);
    `jax.vmap(network)` takes many.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> float(tts.PerceptronNetwork([1.0, -1.0], jnp.eye(2), tts.ReLU())(jnp.array([3.0, 2.0])))
    1.0

    Raises `ValueError` where the shapes do not fit, also that of an input.
    """

    activation: AbstractGaussianActivation

    def __init__(
        self,
        weights: Real[ArrayLike, "*t m"] | Sequence[Any],
        directions: Real[ArrayLike, "*t m d"] | Sequence[Any],
        activation: AbstractGaussianActivation,
    ):
        self.weights, self.directions = _checked_layers(weights, directions)
        self.activation = checks.function("activation", activation, "ReLU()")

    @classmethod
    def init(
        cls, key: Key[Array, ""], neurons: int, inputs: int, activation: AbstractGaussianActivation
    ) -> "PerceptronNetwork":
        """A start: weights i.i.d. N(0, 1/`neurons`), coordinates of directions i.i.d. N(0, 1/`inputs`).

        `key` is of `jax.random`, and `activation` one with a kernel.

        Raises `ValueError` for sizes that are not positive integers, and for what is no key.
        """
        m, d = checks.count("neurons", neurons), checks.count("inputs", inputs)
        weight_key, direction_key = jax.random.split(checks.random_key("key", key))
        return cls(
            jax.random.normal(weight_key, (m,), float) / m**0.5,
            jax.random.normal(direction_key, (m, d), float) / d**0.5,
            activation,
        )

    @override
    def with_vectors(self, outer: Float[Array, " n"], inner: Float[Array, " m"]) -> "PerceptronNetwork":
        return PerceptronNetwork(outer, inner.reshape(self.directions.shape), self.activation)

    def __call__(self, x: Real[ArrayLike, " d"]) -> Float[Array, ""]:
        x = _one_input(x, "directions", self.directions)
        return self.weights @ self.activation(self.directions @ x)


class SphereNetwork(_AbstractDirections):
    r"""$f(x) = \frac{1}{m} \sum_{i=1}^m a_i\,\sigma(\langle u_i / |u_i|, x \rangle)$ for $x \in R^d$.

    **Arguments:**

    - `weights`: $a$, shape (m,) for m neurons
    - `directions`: $u$, shape (m, d) for d inputs: the slow leaves
    - `activation`: $\sigma$; with a `Hermite` one the risk on a `SingleIndex` is exact

    The lengths of the directions do not matter to $f$, and the gradient flow keeps them:
    $\langle u_i, \nabla_{u_i} R \rangle = 0$. A step of SGD is orthogonal to $u_i$ and lengthens it: $|u_i|^2$ grows by
    the square of the step. Lists, NumPy arrays and integers become floating-point leaves. Called on one input, of shape
    (d,); `jax.vmap(network)` takes many.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> float(tts.SphereNetwork([2.0, 4.0], [[3.0, 0.0], [0.0, 1.0]], tts.Hermite([0.0, 1.0]))(jnp.ones(2)))
    3.0

    Raises `ValueError` where the shapes do not fit, also that of an input.

    Source: Berthier, Montanari and Zhou (2024), arXiv 2303.00055.
    """

    activation: AbstractActivation | AbstractGaussianActivation

    def __init__(
        self,
        weights: Real[ArrayLike, "*t m"] | Sequence[Any],
        directions: Real[ArrayLike, "*t m d"] | Sequence[Any],
        activation: AbstractActivation | AbstractGaussianActivation,
    ):
        self.weights, self.directions = _checked_layers(weights, directions)
        self.activation = checks.function("activation", activation, "Hermite([0.0, 1.0])")

    @classmethod
    def init(
        cls,
        key: Key[Array, ""],
        neurons: int,
        inputs: int,
        activation: AbstractActivation | AbstractGaussianActivation,
    ) -> "SphereNetwork":
        """A start: weights i.i.d. N(0, 1), directions i.i.d. uniform on the unit sphere.

        `key` is of `jax.random`, there are `neurons` directions in `inputs` coordinates, and `activation` is as in the
        class.

        Raises `ValueError` for sizes that are not positive integers, and for what is no key.
        """
        m, d = checks.count("neurons", neurons), checks.count("inputs", inputs)
        weight_key, direction_key = jax.random.split(checks.random_key("key", key))
        gaussian = jax.random.normal(direction_key, (m, d), float)
        directions = gaussian / jnp.linalg.norm(gaussian, axis=1, keepdims=True)
        return cls(jax.random.normal(weight_key, (m,), float), directions, activation)

    @override
    def with_vectors(self, outer: Float[Array, " n"], inner: Float[Array, " m"]) -> "SphereNetwork":
        return SphereNetwork(outer, inner.reshape(self.directions.shape), self.activation)

    def __call__(self, x: Real[ArrayLike, " d"]) -> Float[Array, ""]:
        x = _one_input(x, "directions", self.directions)
        lengths = jnp.linalg.norm(self.directions, axis=1)
        return jnp.mean(self.weights * self.activation((self.directions @ x) / lengths))


def _checked_layers(weights: Any, directions: Any) -> tuple[Array, Array]:
    """As leaves, of shapes (m,) and (m, d)."""
    a, w = checks.leaf("weights", weights), checks.leaf("directions", directions)
    if w.ndim < 2 or 0 in w.shape or a.shape != w.shape[:-1]:
        raise ValueError(
            f"weights must have shape (neurons,) and directions shape (neurons, inputs), got {a.shape} and {w.shape}"
        )
    return a, w


def _one_input(x: Any, name: str, inner: Array, scalar: bool = False) -> Array:
    """`x` as an array; raises `ValueError` for what is not one input of a network with this inner layer."""
    if inner.ndim > 2:
        raise ValueError(
            f"a network of a trajectory has a time axis ({name} of shape {inner.shape}) and cannot be called: "
            "use trajectory.at(index), or trajectory.map(measure)"
        )
    x = checks.leaf("an input", checks.finite("an input", x))
    got, inputs = x.shape, inner.shape[1]
    if got != (inputs,) and not (scalar and (got, inputs) == ((), 1)):
        raise ValueError(
            f"a network with {name} of shape {inner.shape} takes one input of shape ({inputs},), got {got}: "
            "use jax.vmap(network) for many"
        )
    return x


def trainable(model: PyTree) -> PyTree[bool]:
    """Which leaves train: every floating-point array, but for the settings of an activation."""

    def is_activation(node):
        return isinstance(node, AbstractActivation)

    def spec(node):
        return jax.tree.map(lambda _: False, node) if is_activation(node) else eqx.is_inexact_array(node)

    return jax.tree.map(spec, model, is_leaf=is_activation)
