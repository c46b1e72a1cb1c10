"""Finite data under any loss."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PyTree
from typing_extensions import override

from .. import _checks as checks
from ..exact.forms import NormalEquations
from ..networks import ShallowNetwork
from .base import AbstractRows, outputs, squared_error
from .structure import SampleLaw, Structure


class Dataset(AbstractRows):
    r"""Finite data: the risk is the mean loss over n rows.

    $$R = \frac1n \sum_{i=1}^n \lvert f(x_i) - y_i \rvert^2$$

    **Arguments:**

    - `x`: inputs, shape (n, ...): an array, or a column or table of pandas
    - `y`: labels, shape (n, ...), likewise
    - `loss`: by default the squared error, without a factor 1/2, summed over the numbers of a row: a model is called on
      one row of `x` and must return as many numbers as a row of `y` has. Or `loss(prediction, label)`, a scalar, of
      what the model returns for a row of `x` and that row of `y`. Integer labels then stay integers, for classification

    `sample` draws rows with replacement.

    >>> import equinox as eqx, jax, optax, tts_jax as tts
    >>> model = eqx.nn.MLP(2, 3, 8, 1, key=jax.random.key(0))
    >>> x, labels = jax.random.normal(jax.random.key(1), (30, 2)), jax.numpy.arange(30) % 3
    >>> problem = tts.Dataset(x, labels, loss=optax.softmax_cross_entropy_with_integer_labels)
    >>> problem.risk(model).shape
    ()

    Raises `ValueError` where the numbers of rows differ, there is no row, or a value is not a finite number; and `risk`
    where the model returns another number of values than a label has, or the loss is no scalar.
    """

    x: Float[Array, "n ..."]
    y: Num[Array, "n ..."]
    row_loss: Callable[[PyTree, Array], Array] | None = eqx.field(static=True)

    def __init__(self, x: Any, y: Any, loss: Callable[[PyTree, Array], Array] | None = None):
        self.x, self.y = checks.numbers("x", x), checks.numbers("y", y, integers=loss is not None)
        self.row_loss = None if loss is None else checks.function("loss", loss, "optax.squared_error")
        if not self.x.ndim or not self.y.ndim or len(self.x) != len(self.y) or not len(self.x):
            raise ValueError(
                f"x and y must have one row for each observation, got shapes {self.x.shape} and {self.y.shape}"
            )

    @override
    def loss(self, model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
        if self.row_loss is None:
            return squared_error(model, x, y)
        losses = jax.vmap(self.row_loss)(outputs(model, x), y)
        if losses.ndim != 1:
            raise ValueError(f"loss(prediction, label) must return a scalar, got shape {losses.shape[1:]}")
        return jnp.mean(losses)

    @property
    @override
    def risk_in_words(self) -> str:
        return super().risk_in_words if self.row_loss is None else "mean loss"

    @override
    def structure(self, model: PyTree) -> Structure:
        if self.row_loss is not None:
            refusal = "normal equations need the squared error: leave out loss, or use GradientFlow"
        elif not isinstance(model, ShallowNetwork):
            refusal = f"normal equations on data need a ShallowNetwork, got {type(model).__name__}"
        else:
            return Structure(normal_equations=_normal_equations, sample_law=_sample_law)
        return Structure(refusal=refusal, sample_law=_sample_law)


def _normal_equations(problem: Dataset, model: ShallowNetwork) -> NormalEquations:
    features = jax.vmap(lambda x: model.activation(x[None] - model.positions).ravel())(problem.x)
    if model.bias is not None:
        features = jnp.concatenate([jnp.ones_like(features[:, :1]), features], axis=1)
    n = len(problem.x)
    labels = problem.y.reshape(n)
    return NormalEquations(features.T @ features / n, features.T @ labels / n, jnp.sum(labels**2) / n)


def _sample_law(problem: Dataset, model: PyTree) -> SampleLaw:
    """The rows, as `sample` draws them."""
    n = len(problem.x)
    return SampleLaw(problem.x, problem.y[:, None], jnp.full((n, 1), 1 / n))
