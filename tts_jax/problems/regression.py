"""The population problem of uniform inputs."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real
from typing_extensions import override

from .. import _checks as checks
from ..activations import AbstractActivation, Heaviside, SmoothStep, verify as verify_activation
from ..exact import additive, samples
from ..exact.forms import Hessian, NormalEquations
from ..networks import ShallowNetwork
from ..targets import AbstractTarget, Additive, PiecewiseConstant, verify as verify_target
from .base import AbstractPopulation
from .structure import SampleGradient, SampleLaw, Structure


class Regression(AbstractPopulation):
    r"""The population problem: $x \sim U(0,1)^d$, $y = f^*(x) + \text{noise} \cdot \xi$, $\xi \sim U(-1, 1)$.

    The risk is $\int (f - f^*)^2\,dx$ over $[0, 1]^d$, exact (closed forms or exact rules, no sampling and no grid) for
    a `ShallowNetwork` of piecewise polynomial neurons and a target on [0, 1], or an `Additive` one on $[0, 1]^d$. It
    leaves out the label noise, which adds the constant `noise**2 / 3` to the expected loss of one sample.

    **Arguments:**

    - `target`: $f^*$, such as `PiecewiseConstant` or, of several inputs, `Additive`
    - `noise`: the size of the label noise, 0 or more
    - `noise_law`: `noise_law(key, shape)` draws another $\xi$, of mean 0: `jax.random.normal`, `jax.random.rademacher`,
      `lambda key, shape: jax.random.t(key, 5.0, shape)`. The constant is then $\text{noise}^2\,\mathbb{E}\,\xi^2$

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork([[1.0]], [[0.5]], 0.0, tts.SmoothStep(0.28))
    >>> round(float(problem.risk(model)), 12)  # eta / 28
    0.01

    Raises `ValueError` for a negative `noise`, and `risk` for a model that it has no exact risk for. A target or an
    activation of the user's is asked once whether it is a polynomial of its `degree` between its `kinks`; `ValueError`
    where it is not.

    Source: Marion and Berthier (2023), arXiv 2304.09576.
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
        if not isinstance(target, AbstractTarget | Additive):
            raise ValueError(
                f"the target of a Regression must be one of tts_jax, got {checks.called(target)}: {_instead_of(target)}"
            )
        for component in target.components if isinstance(target, Additive) else (target,):
            verify_target(component)
        self.target = target
        self.noise = checks.as_float(checks.non_negative("noise", noise))
        self.noise_law = None if noise_law is None else checks.function("noise_law", noise_law, "jax.random.normal")

    @property
    def components(self) -> tuple[AbstractTarget, ...]:
        """The target's, one for each coordinate of the input."""
        return self.target.components if isinstance(self.target, Additive) else (self.target,)

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        self.check(model)
        return additive.risk(model, self.components)

    @property
    @override
    def label_noise(self) -> Float[Array, ""]:
        return self.noise

    @override
    def check(self, model: PyTree) -> None:
        if not isinstance(model, ShallowNetwork):
            raise ValueError(
                f"Regression has an exact risk for a ShallowNetwork, got {type(model).__name__}: "
                "pass a ShallowNetwork, or draw a Dataset from the problem's sample"
            )
        if not isinstance(model.activation, AbstractActivation):
            raise ValueError(
                "Regression has an exact risk for activations that are piecewise polynomials, got "
                f"{checks.called(model.activation)}: pass e.g. SmoothStep(eta), or draw a Dataset from its sample"
            )
        verify_activation(model.activation)
        dimension = len(self.components)
        if model.positions.ndim != 2 or model.positions.shape[1] != dimension:
            raise ValueError(
                f"a target of {dimension} inputs needs positions of shape (neurons, {dimension}), "
                f"got {model.positions.shape}: pass dimension={dimension}"
            )

    @override
    def structure(self, model: PyTree) -> Structure:
        """Closed forms for smooth steps on a piecewise constant target; normal equations for all continuous neurons."""
        alone, continuous = len(self.components) == 1, model.activation.degree > 0
        closed_form = additive.steps_of(model, self.components) is not None
        constant = all(isinstance(part, PiecewiseConstant) for part in self.components)
        return Structure(
            gradient=_gradient if closed_form else None,
            hessian=_hessian if closed_form else None,
            normal_equations=_normal_equations if continuous else None,
            sample_gradient=_SAMPLE_GRADIENT if closed_form and alone else None,
            staircase=_target if constant and alone and isinstance(model.activation, SmoothStep | Heaviside) else None,
            staircases=_targets if closed_form else None,
            refusal=f"normal equations need neurons without jumps, got {type(model.activation).__name__}: "
            "pass activation=SmoothStep(eta)",
            sample_law=_sample_law if alone and self.noise_law is None else None,
            unknown_law="only the variance of a noise_law matters here, pass noise=(3 * variance)**0.5 without one"
            if alone
            else "draw a Dataset from its sample",
        )

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """`x` has shape (n, d), `y` shape (n,)."""
        key, n = checks.random_key("key", key), checks.count("n", n)
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


_SAMPLE_GRADIENT = SampleGradient(samples.of_arrays, samples.of_rows, samples.weighted)


def _instead_of(target: object) -> str:
    if isinstance(target, ShallowNetwork):
        return "pass teacher(network)"
    return "pass SmoothTarget(function)" if callable(target) else "pass e.g. PiecewiseConstant(jumps, values)"


def _gradient(problem: Regression, model: ShallowNetwork) -> ShallowNetwork:
    gradient = model.with_vectors(*additive.gradient(model, *_steps(problem, model)))
    return eqx.tree_at(lambda m: m.activation, gradient, jax.tree.map(lambda _: None, model.activation))


def _hessian(problem: Regression, model: ShallowNetwork) -> Hessian:
    return additive.hessian(model, *_steps(problem, model))


def _normal_equations(problem: Regression, model: ShallowNetwork) -> NormalEquations:
    return additive.normal_equations(model, problem.components)


def _sample_law(problem: Regression, model: ShallowNetwork) -> SampleLaw:
    """Nodes that integrate all products of two gradients; of the noise its variance matters, which two labels have."""
    x, weights = additive.nodes(model, problem.components[0])
    spread = jnp.array([-1.0, 1.0], x.dtype) * (problem.noise / 3**0.5).astype(x.dtype)
    labels = problem.components[0](x)[:, None] + spread[None]
    return SampleLaw(x[:, None], labels, jnp.broadcast_to(weights[:, None] / 2, labels.shape))


def _target(problem: Regression) -> PiecewiseConstant:
    (target,) = _targets(problem)
    return target


def _targets(problem: Regression) -> tuple[PiecewiseConstant, ...]:
    return tuple(part for part in problem.components if isinstance(part, PiecewiseConstant))


def _steps(problem: Regression, model: ShallowNetwork) -> tuple[SmoothStep, tuple[PiecewiseConstant, ...]]:
    steps = additive.steps_of(model, problem.components)
    assert steps is not None, "asked of a model without closed forms"
    return steps
