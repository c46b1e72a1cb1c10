"""What is minimised: a target with an input law and noise, or a finite data set.

One loss everywhere: the squared error without a factor 1/2, averaged over inputs.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real
from typing_extensions import override

from . import checks
from .activations import AbstractActivation, SmoothStep
from .networks import ShallowNetwork, linear_weights
from .piecewise import mean_square
from .quadratic import NormalEquations, gradient, normal_equations
from .targets import PiecewiseConstant


class AbstractProblem(eqx.Module):
    @abc.abstractmethod
    def risk(self, model: PyTree) -> Float[Array, ""]:
        """The mean squared error that training minimises, without label noise."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n ..."], Float[Array, "n ..."]]:
        """`n` independent inputs and labels."""

    @abc.abstractmethod
    def check(self, model: PyTree) -> None:
        """Raises `ValueError` for a model that has no risk here. Cheap: called before every run."""

    @abc.abstractmethod
    def normal_equations(self, model: ShallowNetwork) -> NormalEquations:
        """The risk as a quadratic form in the weights (bias first, where there is one) at the model's positions."""

    def gradient(self, model: PyTree) -> PyTree:
        """The gradient of the risk, with the structure of `model`; None for a leaf that is no floating-point array."""
        return eqx.filter_grad(self.risk)(model)


class Regression(AbstractProblem):
    r"""The population problem: $x \sim U(0,1)$, $y = f^*(x) + \text{noise} \cdot \xi$, $\xi \sim U(-1, 1)$.

    The risk is $\int_0^1 (f - f^*)^2\,dx$, exact (closed forms, no sampling and no grid) for a one-dimensional
    `ShallowNetwork` of `SmoothStep` or `Heaviside` neurons and a `PiecewiseConstant` target. It leaves out the label
    noise, which adds the constant `noise**2 / 3` to the expected loss of one sample.

    `noise_law(key, shape)` draws another $\xi$, of mean 0: `jax.random.normal`, `jax.random.rademacher`, `lambda key,
    shape: jax.random.t(key, 5.0, shape)`. The constant is then $\text{noise}^2\,\mathbb{E}\,\xi^2$.

    Raises `ValueError` for a negative `noise`, and `risk` for a model that it has no exact risk for.
    """

    target: PiecewiseConstant
    noise: Float[Array, ""]
    noise_law: Callable[..., Array] | None = eqx.field(static=True)

    def __init__(
        self,
        target: PiecewiseConstant,
        noise: Real[ArrayLike, ""] = 0.0,
        noise_law: Callable[..., Array] | None = None,
    ):
        self.target = target
        self.noise = checks.as_float(checks.non_negative("noise", noise))
        self.noise_law = noise_law

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        positions = _one_dimensional(model)
        if isinstance(model.activation, SmoothStep):
            gram, cross, square = self.normal_equations(model)
            a = linear_weights(model)
            return a @ (gram @ a - 2 * cross) + square

        def residual(x):
            return jax.vmap(model)(x) - self.target(x)

        kinks = jnp.concatenate([model.activation.kinks(positions), self.target.jumps])
        return mean_square(residual, kinks, max(model.activation.degree, self.target.degree))

    @override
    def check(self, model: PyTree) -> None:
        _one_dimensional(model)

    @override
    def gradient(self, model: PyTree) -> PyTree:
        positions = _one_dimensional(model)
        if not isinstance(model.activation, SmoothStep):
            return super().gradient(model)
        d_a, d_u = gradient(model.activation, self.target, linear_weights(model), positions)
        d_b, d_a = (None, d_a) if model.bias is None else (d_a[0], d_a[1:])
        return ShallowNetwork(d_a[:, None], d_u[:, None], d_b, jax.tree.map(lambda _: None, model.activation))

    @override
    def normal_equations(self, model: ShallowNetwork) -> NormalEquations:
        positions = _one_dimensional(model)
        if not isinstance(model.activation, SmoothStep):
            raise ValueError(
                f"normal equations need SmoothStep neurons, got {type(model.activation).__name__}: "
                "pass activation=SmoothStep(eta)"
            )
        return normal_equations(model.activation, self.target, positions, bias=model.bias is not None)

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n 1"], Float[Array, " n"]]:
        """`x` has shape (n, 1), `y` shape (n,)."""
        if self.noise_law is None:
            draws = jax.random.uniform(key, (n, 2), float)
            x, noise = draws[:, 0], 2 * draws[:, 1] - 1
        else:
            input_key, noise_key = jax.random.split(key)
            x = jax.random.uniform(input_key, (n,), float)
            noise = self.noise_law(noise_key, (n,)).astype(x.dtype)
        return x[:, None], self.target(x) + self.noise * noise


class Dataset(AbstractProblem):
    r"""Finite data: `x` of shape (n, ...) and `y` of shape (n, ...); the risk is the mean squared error over the rows.

    A model is called on one row of `x` and must return as many numbers as a row of `y` has. `sample` draws rows with
    replacement.

    Raises `ValueError` where the numbers of rows differ, there is no row, or a value is not finite.
    """

    x: Float[Array, "n ..."]
    y: Float[Array, "n ..."]

    def __init__(self, x: ArrayLike, y: ArrayLike):
        self.x, self.y = (checks.as_float(checks.finite(name, value)) for name, value in (("x", x), ("y", y)))
        if not self.x.ndim or not self.y.ndim or len(self.x) != len(self.y) or not len(self.x):
            raise ValueError(
                f"x and y must have one row for each observation, got shapes {self.x.shape} and {self.y.shape}"
            )

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        return squared_error(model, self.x, self.y)

    @override
    def check(self, model: PyTree) -> None:
        eqx.filter_eval_shape(squared_error, model, self.x[:1], self.y[:1])

    @override
    def normal_equations(self, model: ShallowNetwork) -> NormalEquations:
        features = jax.vmap(lambda x: model.activation(x - model.positions).ravel())(self.x)
        if model.bias is not None:
            features = jnp.concatenate([jnp.ones_like(features[:, :1]), features], axis=1)
        n = len(self.x)
        return NormalEquations(features.T @ features / n, features.T @ self.y.reshape(n) / n, jnp.sum(self.y**2) / n)

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n ..."], Float[Array, "n ..."]]:
        rows = jax.random.randint(key, (n,), 0, len(self.x))
        return self.x[rows], self.y[rows]


def squared_error(model: PyTree, x: Float[Array, "n ..."], y: Float[Array, "n ..."]) -> Float[Array, ""]:
    """The squared error of the model, summed over its outputs and averaged over the rows."""
    output = jax.vmap(model)(x)
    if output.size != y.size:
        raise ValueError(
            f"the model returns shape {output.shape[1:]} for one input, but a label has shape {y.shape[1:]}"
        )
    return jnp.sum((output.reshape(y.shape) - y) ** 2) / len(y)


def _one_dimensional(model: PyTree) -> Float[Array, " m"]:
    """The positions, where the model is one whose risk is known in closed form."""
    if not isinstance(model, ShallowNetwork) or not isinstance(model.activation, AbstractActivation):
        raise ValueError(
            f"Regression has an exact risk for a ShallowNetwork, got {type(model).__name__}: "
            "pass a ShallowNetwork, or draw a Dataset from the problem's sample"
        )
    if model.positions.ndim != 2 or model.positions.shape[1] != 1:
        raise ValueError(
            f"a one-dimensional target needs positions of shape (neurons, 1), got {model.positions.shape}: "
            "pass dimension=1"
        )
    return model.positions[:, 0]
