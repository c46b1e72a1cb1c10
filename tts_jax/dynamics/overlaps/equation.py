"""What both equations of the overlaps share."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from ...overlaps import Overlaps
from ...solvers import AbstractShiftedJacobian, Rodas5P
from ..integration import InitialValueProblem


class AbstractOverlapEquation(eqx.Module):
    """The flow in slow time; its state is a vector of the weights and of cosines."""

    epsilon: eqx.AbstractVar[Float[Array, ""]]
    start: eqx.AbstractVar[Overlaps]

    @property
    @abc.abstractmethod
    def y0(self) -> Float[Array, " n"]: ...

    @abc.abstractmethod
    def velocity(self, y: Float[Array, " n"]) -> Float[Array, " n"]: ...

    @abc.abstractmethod
    def model_at(self, y: Float[Array, " n"]) -> Overlaps: ...

    @abc.abstractmethod
    def linear_algebra(self) -> tuple[AbstractShiftedJacobian, str]:
        """How the linear systems of a step are solved, and that in words."""

    def initial_value_problem(self) -> InitialValueProblem:
        linear, name = self.linear_algebra()
        return InitialValueProblem(
            vector_field=lambda t, y, equation: equation.velocity(y),
            y0=self.y0,
            args=self,
            solver=Rodas5P(linear, autonomous=True),
            method=f"Rodas5P, {name}",
            dt0=1e-2 * self.epsilon,
            model_at=lambda y, equation: equation.model_at(y),
            closed_form=True,
        )
