"""What a problem knows about a model in closed form: asked once, by whoever trains it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Num, PyTree

from ..exact.forms import Hessian, NormalEquations
from ..targets import PiecewiseConstant


class SampleGradient(NamedTuple):
    r"""The gradient of $\text{factor}/2 \cdot (f(x) - y)^2$ for one sample, elementwise in all trailing axes."""

    of_arrays: Callable[[PyTree, Any, Array, Array, float | Array], PyTree]
    """`(params, activation, x, y, factor)`: neurons along the first axis of the leaves, runs along the last."""
    of_rows: Callable[[PyTree, Any, Array, Array, float], PyTree]
    """The same for leaves that are tuples with an entry for each neuron, written out neuron by neuron."""
    weighted: Callable[[PyTree, Any, Array, Array, Array], PyTree]
    """`(params, activation, x, y, coefficients)`: of the sum over many samples with coefficients, for one run."""


class SampleLaw(NamedTuple):
    """A finite law of samples: under it the gradient of the loss of one sample has the mean and the covariance that it
    has under the law that is drawn from."""

    x: Float[Array, "n ..."]
    """Inputs."""
    y: Num[Array, "n k ..."]
    """`k` labels of each input."""
    weights: Float[Array, "n k"]
    """They add up to 1."""


class Structure(NamedTuple):
    """Functions of a problem and a model. What is None is not known, and is left to automatic differentiation, or
    cannot be asked for.

    The Hessian and the normal equations are in the coordinates of `AbstractTwoLayerNetwork.vectors`.
    """

    gradient: Callable[[Any, Any], PyTree] | None = None
    """Of the risk, with the structure of the model; None for a leaf that does not train."""
    hessian: Callable[[Any, Any], Hessian] | None = None
    """Of the risk, in blocks."""
    normal_equations: Callable[[Any, Any], NormalEquations] | None = None
    """The risk as a quadratic form in what the model is linear in."""
    sample_gradient: SampleGradient | None = None
    """Of the squared error."""
    staircase: Callable[[Any], PiecewiseConstant] | None = None
    """The target of a problem, where steps learn a piecewise constant one in one dimension: there the two-timescale
    limit exists."""
    staircases: Callable[[Any], tuple[PiecewiseConstant, ...]] | None = None
    """The target of each coordinate, where smooth steps learn piecewise constant ones: there flows have local
    coordinates."""
    refusal: str = ""
    """Why there are no normal equations."""
    sample_law: Callable[[Any, Any], SampleLaw] | None = None
    unknown_law: str = "draw a Dataset from its sample"
    """What to do where there is no such law."""

    @property
    def banded(self) -> bool:
        """Whether the flow of the inner layer has local coordinates in one dimension."""
        return self.staircase is not None and self.hessian is not None

    @property
    def closed_form(self) -> bool:
        """Whether anything is known: then a flow is called exact."""
        return self.gradient is not None or self.normal_equations is not None
