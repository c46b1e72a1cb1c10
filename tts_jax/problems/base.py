"""The interface of what is minimised."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num, PyTree
from typing_extensions import override

from .. import _checks as checks
from ..exact.forms import NormalEquations
from ..networks import trainable
from .structure import Structure

SQUARED_ERROR = "mean squared error, without label noise"


class AbstractProblem(eqx.Module):
    """What is minimised: the interface of every problem, and of those of your own.

    The loss is the squared error without a factor 1/2, averaged over inputs, unless a user gives a `Dataset` another.
    A `model` is any Equinox model, a PyTree; a problem says in `check` which ones it can treat.
    """

    @abc.abstractmethod
    def risk(self, model: PyTree) -> Float[Array, ""]:
        """The mean loss of the `model` that training minimises, without label noise.

        Raises `ValueError` as `check` does.
        """

    @abc.abstractmethod
    def loss(self, model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
        """The mean loss of the `model` on a batch: n inputs `x` and labels `y`, along the first axis."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n ..."], Num[Array, "n ..."]]:
        """`n` independent inputs and labels, along the first axis; all of them follow from the `key`.

        Raises `ValueError` for `n` below 1, and for what is no key.
        """

    @property
    @abc.abstractmethod
    def rows(self) -> tuple[Float[Array, "n ..."], Num[Array, "n ..."]] | None:
        """Inputs and labels of finite data; None where samples never repeat."""

    @abc.abstractmethod
    def check(self, model: PyTree) -> None:
        """Raises `ValueError` for a `model` that has no risk here. Cheap: called before every run."""

    @abc.abstractmethod
    def structure(self, model: PyTree) -> Structure:
        """What is known in closed form about a `model` that has passed `check`; depends on types and shapes alone."""

    @property
    def label_noise(self) -> Float[Array, ""]:
        """How large the noise of the labels is, which the risk leaves out."""
        return jnp.zeros((), float)

    @property
    def risk_in_words(self) -> str:
        """What the risk is, for datasets and pictures."""
        return SQUARED_ERROR

    def gradient(self, model: PyTree) -> PyTree:
        """The gradient of the risk, with the structure of `model`; None for a leaf that does not train.

        Raises `ValueError` as `check` does.
        """
        self.check(model)
        return risk_gradient(self, self.structure(model), *eqx.partition(model, trainable(model)))

    def normal_equations(self, model: PyTree) -> NormalEquations:
        r"""The risk as a quadratic form in the weights a (bias first, where there is one) at the positions of the
        `model`: $R = a^T \text{gram}\,a - 2\,\text{cross}^T a + \text{square}$.

        Raises `ValueError` where it is none, and as `check` does.
        """
        self.check(model)
        structure = self.structure(model)
        if structure.normal_equations is None:
            raise ValueError(structure.refusal)
        return structure.normal_equations(self, model)


class AbstractPopulation(AbstractProblem):
    """Under the squared error, with samples that never repeat."""

    @override
    def loss(self, model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
        return squared_error(model, x, y)

    @property
    @override
    def rows(self) -> None:
        return None


class AbstractRows(AbstractProblem):
    """Finite data, from which rows are drawn with replacement."""

    x: eqx.AbstractVar[Float[Array, "n ..."]]
    y: eqx.AbstractVar[Num[Array, "n ..."]]

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        return self.loss(model, self.x, self.y)

    @override
    def check(self, model: PyTree) -> None:
        checks.function("model", model, "eqx.nn.MLP(...)")
        eqx.filter_eval_shape(self.loss, model, self.x[:1], self.y[:1])

    @property
    @override
    def rows(self) -> tuple[Float[Array, "n ..."], Num[Array, "n ..."]]:
        return self.x, self.y

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n ..."], Num[Array, "n ..."]]:
        rows = jax.random.randint(checks.random_key("key", key), (checks.count("n", n),), 0, len(self.x))
        return self.x[rows], self.y[rows]


def risk_gradient(problem: AbstractProblem, structure: Structure, moving: PyTree, fixed: PyTree) -> PyTree:
    """The gradient of the risk by the leaves that move, for a model in two parts."""
    if structure.gradient is not None:
        gradient = structure.gradient(problem, eqx.combine(moving, fixed))
        return jax.tree.map(
            lambda leaf, slope: None if leaf is None else slope, moving, gradient, is_leaf=lambda leaf: leaf is None
        )
    return jax.grad(lambda moving: problem.risk(eqx.combine(moving, fixed)))(moving)


def outputs(model: PyTree, x: Float[Array, "n ..."]) -> PyTree:
    """Of the model, for each row."""
    checks.function("model", model, "eqx.nn.MLP(...)")
    with checks.traceable("the model", model):
        return jax.vmap(model)(x)


def squared_error(model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
    """The squared error of the model, summed over its outputs and averaged over the rows."""
    output = outputs(model, x)
    if output.size != y.size:
        raise ValueError(
            f"the model returns shape {output.shape[1:]} for one input, but a label has shape {y.shape[1:]}"
        )
    return jnp.sum((output.reshape(y.shape) - y.astype(output.dtype)) ** 2) / len(y)
