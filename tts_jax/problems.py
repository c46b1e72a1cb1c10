"""What is minimised: a target with an input law and noise, or a finite data set.

The loss is the squared error without a factor 1/2, averaged over inputs, unless a user gives a `Dataset` another.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, Num, PyTree, Real
from typing_extensions import override

from . import additive, checks
from .activations import AbstractActivation
from .networks import ShallowNetwork
from .quadratic import Hessian, NormalEquations
from .targets import AbstractTarget, Additive


class AbstractProblem(eqx.Module):
    @abc.abstractmethod
    def risk(self, model: PyTree) -> Float[Array, ""]:
        """The mean loss that training minimises, without label noise."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n ..."], Num[Array, "n ..."]]:
        """`n` independent inputs and labels."""

    @abc.abstractmethod
    def check(self, model: PyTree) -> None:
        """Raises `ValueError` for a model that has no risk here. Cheap: called before every run."""

    @abc.abstractmethod
    def normal_equations(self, model: ShallowNetwork) -> NormalEquations:
        """The risk as a quadratic form in the weights (bias first, where there is one) at the model's positions."""

    def loss(self, model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
        """The mean loss of a batch: the squared error, unless a problem says otherwise."""
        return squared_error(model, x, y)

    def gradient(self, model: PyTree) -> PyTree:
        """The gradient of the risk, with the structure of `model`; None for a leaf that is no floating-point array."""
        return eqx.filter_grad(self.risk)(model)


class Regression(AbstractProblem):
    r"""The population problem: $x \sim U(0,1)^d$, $y = f^*(x) + \text{noise} \cdot \xi$, $\xi \sim U(-1, 1)$.

    The risk is $\int (f - f^*)^2\,dx$ over $[0, 1]^d$, exact (closed forms or exact rules, no sampling and no grid) for
    a `ShallowNetwork` of piecewise polynomial neurons and a target on [0, 1], or an `Additive` one on $[0, 1]^d$. It
    leaves out the label noise, which adds the constant `noise**2 / 3` to the expected loss of one sample.

    `noise_law(key, shape)` draws another $\xi$, of mean 0: `jax.random.normal`, `jax.random.rademacher`, `lambda key,
    shape: jax.random.t(key, 5.0, shape)`. The constant is then $\text{noise}^2\,\mathbb{E}\,\xi^2$.

    Raises `ValueError` for a negative `noise`, and `risk` for a model that it has no exact risk for.
    """

    target: AbstractTarget | Additive
    noise: Float[Array, ""]
    noise_law: Callable[..., Array] | None = eqx.field(static=True)

    def __init__(
        self,
        target: AbstractTarget | Additive,
        noise: Real[ArrayLike, ""] = 0.0,
        noise_law: Callable[..., Array] | None = None,
    ):
        self.target = target
        self.noise = checks.as_float(checks.non_negative("noise", noise))
        self.noise_law = noise_law

    @property
    def components(self) -> tuple[AbstractTarget, ...]:
        """The target's, one for each coordinate of the input."""
        return self.target.components if isinstance(self.target, Additive) else (self.target,)

    def closed_form(self, model: PyTree) -> bool:
        """Whether gradient and Hessian are closed forms: smooth steps on a piecewise constant target."""
        return isinstance(model, ShallowNetwork) and additive.closed_form(model, self.components)

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        self.check(model)
        return additive.risk(model, self.components)

    @override
    def check(self, model: PyTree) -> None:
        if not isinstance(model, ShallowNetwork) or not isinstance(model.activation, AbstractActivation):
            raise ValueError(
                f"Regression has an exact risk for a ShallowNetwork, got {type(model).__name__}: "
                "pass a ShallowNetwork, or draw a Dataset from the problem's sample"
            )
        dimension = len(self.components)
        if model.positions.ndim != 2 or model.positions.shape[1] != dimension:
            raise ValueError(
                f"a target of {dimension} inputs needs positions of shape (neurons, {dimension}), "
                f"got {model.positions.shape}: pass dimension={dimension}"
            )

    @override
    def gradient(self, model: PyTree) -> PyTree:
        self.check(model)
        if not self.closed_form(model):
            return super().gradient(model)
        d_a, d_u = additive.gradient(model, self.components)
        d_b, d_a = (None, d_a) if model.bias is None else (d_a[0], d_a[1:])
        shape = model.weights.shape
        nothing = jax.tree.map(lambda _: None, model.activation)
        return ShallowNetwork(d_a.reshape(shape), d_u.reshape(shape), d_b, nothing)

    def hessian(self, model: ShallowNetwork) -> Hessian:
        """The second derivatives by (bias and) weights and by positions, all ravelled, where `closed_form(model)`."""
        return additive.hessian(model, self.components)

    @override
    def normal_equations(self, model: ShallowNetwork) -> NormalEquations:
        self.check(model)
        if not model.activation.degree:
            raise ValueError(
                f"normal equations need neurons without jumps, got {type(model.activation).__name__}: "
                "pass activation=SmoothStep(eta)"
            )
        return additive.normal_equations(model, self.components)

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """`x` has shape (n, d), `y` shape (n,)."""
        dimension = len(self.components)
        if self.noise_law is None:
            *coordinates, noise = jax.random.uniform(key, (dimension + 1, n), float)
            x, noise = jnp.stack(coordinates, axis=1), 2 * noise - 1
        else:
            input_key, noise_key = jax.random.split(key)
            x = jax.random.uniform(input_key, (n, dimension), float)
            noise = self.noise_law(noise_key, (n,)).astype(x.dtype)
        labels = self.target(x) if isinstance(self.target, Additive) else self.target(x[:, 0])
        return x, labels + self.noise * noise


class Dataset(AbstractProblem):
    r"""Finite data: `x` of shape (n, ...) and `y` of shape (n, ...); the risk is the mean loss over the rows.

    The loss of a row is the squared error, summed over its numbers: a model is called on one row of `x` and must
    return as many numbers as a row of `y` has. Or it is `loss(prediction, label)`, a scalar, of what the model returns
    for a row of `x` and that row of `y`. Integer labels then stay integers, for classification:

    >>> import equinox as eqx, jax, optax, tts_jax as tts
    >>> model = eqx.nn.MLP(2, 3, 8, 1, key=jax.random.key(0))
    >>> x, labels = jax.random.normal(jax.random.key(1), (30, 2)), jax.numpy.arange(30) % 3
    >>> problem = tts.Dataset(x, labels, loss=optax.softmax_cross_entropy_with_integer_labels)
    >>> problem.risk(model).shape
    ()

    `x` and `y` are arrays, or columns and tables of pandas. `sample` draws rows with replacement.

    Raises `ValueError` where the numbers of rows differ, there is no row, or a value is not a finite number.
    """

    x: Float[Array, "n ..."]
    y: Num[Array, "n ..."]
    row_loss: Callable[[PyTree, Array], Array] | None = eqx.field(static=True)

    def __init__(self, x: Any, y: Any, loss: Callable[[PyTree, Array], Array] | None = None):
        self.x, self.y = checks.numbers("x", x), checks.numbers("y", y, integers=loss is not None)
        self.row_loss = loss
        if not self.x.ndim or not self.y.ndim or len(self.x) != len(self.y) or not len(self.x):
            raise ValueError(
                f"x and y must have one row for each observation, got shapes {self.x.shape} and {self.y.shape}"
            )

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        return self.loss(model, self.x, self.y)

    @override
    def loss(self, model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
        if self.row_loss is None:
            return squared_error(model, x, y)
        losses = jax.vmap(self.row_loss)(jax.vmap(model)(x), y)
        if losses.ndim != 1:
            raise ValueError(f"loss(prediction, label) must return a scalar, got shape {losses.shape[1:]}")
        return jnp.mean(losses)

    @override
    def check(self, model: PyTree) -> None:
        eqx.filter_eval_shape(self.loss, model, self.x[:1], self.y[:1])

    @override
    def normal_equations(self, model: ShallowNetwork) -> NormalEquations:
        if self.row_loss is not None:
            raise ValueError("normal equations need the squared error: leave out loss, or use GradientFlow")
        features = jax.vmap(lambda x: model.activation(x - model.positions).ravel())(self.x)
        if model.bias is not None:
            features = jnp.concatenate([jnp.ones_like(features[:, :1]), features], axis=1)
        n = len(self.x)
        return NormalEquations(features.T @ features / n, features.T @ self.y.reshape(n) / n, jnp.sum(self.y**2) / n)

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n ..."], Num[Array, "n ..."]]:
        rows = jax.random.randint(key, (n,), 0, len(self.x))
        return self.x[rows], self.y[rows]


def squared_error(model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
    """The squared error of the model, summed over its outputs and averaged over the rows."""
    output = jax.vmap(model)(x)
    if output.size != y.size:
        raise ValueError(
            f"the model returns shape {output.shape[1:]} for one input, but a label has shape {y.shape[1:]}"
        )
    return jnp.sum((output.reshape(y.shape) - y.astype(output.dtype)) ** 2) / len(y)
