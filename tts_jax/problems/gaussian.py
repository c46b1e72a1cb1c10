"""Teacher and student on Gaussian inputs, with the exact population risk."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real
from typing_extensions import override

from .. import _checks as checks
from ..activations import AbstractGaussianActivation, Erf, verify_kernel
from ..exact import erf_units
from ..exact.forms import NormalEquations
from ..networks import PerceptronNetwork
from ..overlaps import Overlaps
from .base import AbstractPopulation
from .structure import Structure


class GaussianRegression(AbstractPopulation):
    r"""The teacher-student problem: $x \sim N(0, I_d)$, $y = f^*(x) + \text{noise} \cdot \xi$, $\xi \sim N(0, 1)$.

    With a `PerceptronNetwork` of the same activation as `teacher` and as student the risk is

    $$E (f - f^*)^2 = \sum_{ij} a_i a_j k(w_i, w_j) - 2 \sum_{ij} a_i a^*_j k(w_i, w^*_j)
      + \sum_{ij} a^*_i a^*_j k(w^*_i, w^*_j),$$

    exact in any dimension: k is the arc-cosine kernel for `ReLU` and the arc-sine kernel for `Erf`. It leaves out the
    label noise, which adds the constant `noise**2` to the expected loss of one sample. For `Erf` the risk is known from
    the `Overlaps` of a student too.

    **Arguments:**

    - `teacher`: $f^*$, a `PerceptronNetwork` of `ReLU` or `Erf`, with directions of shape (units, d)
    - `noise`: the size of the label noise, 0 or more

    >>> import tts_jax as tts
    >>> problem = tts.GaussianRegression(tts.PerceptronNetwork([2.0], [[0.6, 0.8]], tts.ReLU()))
    >>> float(problem.risk(tts.PerceptronNetwork([0.0], [[1.0, 0.0]], tts.ReLU())).round(12))  # E (2 max(z, 0))^2
    2.0

    Raises `ValueError` for a negative `noise`, and `risk` for a model of another kind, dimension or activation. The
    kernel of an activation of the user's is compared once with quadrature; `ValueError` where it is another.

    Source: Cho and Saul (2009), Williams (1998); Saad and Solla (1995) for the exact dynamics.
    """

    teacher: PerceptronNetwork
    noise: Float[Array, ""]

    def __init__(self, teacher: PerceptronNetwork, noise: Real[ArrayLike, ""] = 0.0):
        if not isinstance(teacher, PerceptronNetwork) or not isinstance(teacher.activation, AbstractGaussianActivation):
            raise ValueError(
                f"GaussianRegression needs a PerceptronNetwork of ReLU or Erf as teacher, got {type(teacher).__name__}"
            )
        if teacher.directions.ndim != 2:
            raise ValueError(
                f"the teacher must be one network, got directions of shape {teacher.directions.shape}: "
                "take trajectory.at(index) of a trajectory"
            )
        verify_kernel(teacher.activation)
        self.teacher = teacher
        self.noise = checks.as_float(checks.non_negative("noise", noise))

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        self.check(model)
        a = jnp.concatenate([model.weights, -self.teacher.weights])
        if isinstance(model, Overlaps):
            c = self.field_covariance(model)
            return a @ erf_units.i2(c, len(c)) @ a
        w = jnp.concatenate([model.directions, self.teacher.directions])
        return a @ _pairs(model.activation, w, w) @ a

    def field_covariance(self, model: Overlaps) -> Float[Array, "n n"]:
        r"""Of the local fields $\sqrt2 \langle w_i, x \rangle$ of the student, whose overlaps are the `model`, and then
        of the teacher, shape (K + M, K + M): the arguments of $\mathrm{erf}(\lambda / \sqrt2)$."""
        assert model.student is not None, "`check` has refused that"
        own = self.teacher.directions @ self.teacher.directions.T
        return 2 * jnp.block([[model.student, model.teacher], [model.teacher.T, own]])

    @property
    @override
    def label_noise(self) -> Float[Array, ""]:
        return self.noise

    @override
    def check(self, model: PyTree) -> None:
        expected, inputs = type(self.teacher.activation), self.teacher.directions.shape[-1]
        if isinstance(model, Overlaps):
            self._check_overlaps(model)
            return
        if not isinstance(model, PerceptronNetwork) or not isinstance(model.activation, expected):
            got = type(getattr(model, "activation", model)).__name__
            raise ValueError(
                f"the risk is exact for a PerceptronNetwork of {expected.__name__} like the teacher, got {got}: "
                "pass one, or draw a Dataset from the problem's sample"
            )
        verify_kernel(model.activation)
        if model.directions.ndim != 2 or model.directions.shape[1] != inputs:
            raise ValueError(
                f"the teacher has {inputs} inputs, so directions must have shape (neurons, {inputs}), "
                f"got {model.directions.shape}"
            )

    def _check_overlaps(self, model: Overlaps) -> None:
        units = len(self.teacher.weights)
        if not isinstance(model.activation, Erf) or not isinstance(self.teacher.activation, Erf):
            got = [type(each.activation).__name__ for each in (model, self.teacher)]
            raise ValueError(
                f"the risk of Overlaps is known where both are of Erf, got a student of {got[0]} and a teacher of "
                f"{got[1]}: pass a PerceptronNetwork like the teacher"
            )
        if model.student is None:
            raise ValueError("the risk needs the overlaps of the student with itself, got None: pass their matrix")
        if model.teacher.ndim != 2 or model.teacher.shape[1] != units:
            raise ValueError(
                f"the teacher has {units} neurons, so the overlaps with it must have shape (neurons, {units}), got "
                f"{model.teacher.shape}"
            )

    @override
    def structure(self, model: PyTree) -> Structure:
        if isinstance(model, Overlaps):
            raise ValueError("Overlaps move by OnlineSGD alone, as they have no gradient: pass a PerceptronNetwork")
        return Structure(normal_equations=_normal_equations)

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """`x` has shape (n, d), `y` shape (n,)."""
        key, n = checks.random_key("key", key), checks.count("n", n)
        draws = jax.random.normal(key, (n, self.teacher.directions.shape[-1] + 1), float)
        x = draws[:, :-1]
        return x, jax.vmap(self.teacher)(x) + self.noise * draws[:, -1]


def _normal_equations(problem: GaussianRegression, model: PerceptronNetwork) -> NormalEquations:
    teacher, w = problem.teacher, model.directions
    square = teacher.weights @ _pairs(model.activation, teacher.directions, teacher.directions) @ teacher.weights
    cross = _pairs(model.activation, w, teacher.directions) @ teacher.weights
    return NormalEquations(_pairs(model.activation, w, w), cross, square)


def _pairs(
    activation: AbstractGaussianActivation, w: Float[Array, "m d"], v: Float[Array, "k d"]
) -> Float[Array, "m k"]:
    return jax.vmap(lambda w: jax.vmap(lambda v: activation.kernel(w, v))(v))(w)
