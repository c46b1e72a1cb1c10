r"""The population risk of an additive network on an additive target, inputs uniform on $[0, 1]^d$.

With $r_i(x_i)$ what coordinate i contributes to the residual, and the bias $b$,

$$R = \sum_i \left(E r_i^2 - (E r_i)^2\right) + \left(b + \sum_i E r_i\right)^2,$$

so that only one-dimensional integrals are needed. A coordinate sees the others as a constant: the derivatives of R
with respect to its weights and positions are those of the one-dimensional risk with the bias
$c_i = b + \sum_{k \ne i} E r_k$. Coordinates are coupled by $2\,\nabla E r_i\,(\nabla E r_k)^T$ alone.

Closed forms are those of `tts_jax.exact.quadratic`, for smooth steps and piecewise constant components. Anything else
that is a polynomial between known points is integrated there by Gauss's rule, also without error.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..activations import AbstractActivation, SmoothStep
from ..networks import ShallowNetwork
from ..targets import AbstractTarget, PiecewiseConstant
from . import overlaps, quadratic
from .forms import Gradient, Hessian, NormalEquations
from .mean_square import risk as of_steps
from .quadrature import mean_square, rule

Components = tuple[AbstractTarget, ...]


def steps_of(model: ShallowNetwork, components: Components) -> tuple[SmoothStep, tuple[PiecewiseConstant, ...]] | None:
    """The activation and the components where there are closed forms: for smooth steps on constant pieces."""
    constant = tuple(part for part in components if isinstance(part, PiecewiseConstant))
    if not isinstance(model.activation, SmoothStep) or len(constant) < len(components):
        return None
    return model.activation, constant


def risk(model: ShallowNetwork, components: Components) -> Float[Array, ""]:
    steps = steps_of(model, components)
    if steps is not None and len(components) == 1:
        activation, (target,) = steps
        return of_steps(
            model.weights[:, 0], model.positions[:, 0], model.bias, activation.eta, target.jumps, target.values
        )
    bias = jnp.zeros_like(model.weights[0, 0]) if model.bias is None else model.bias

    def residual(target, a, u):
        return lambda x: model.activation(x[:, None] - u[None]) @ a - target(x)

    if len(components) == 1:
        alone = residual(components[0], model.weights[:, 0], model.positions[:, 0])
        return mean_square(lambda x: bias + alone(x), *_pieces(model.activation, components[0], model.positions[:, 0]))

    def moments(target, a, u):
        x, weights = rule(*_pieces(model.activation, target, u))
        r = residual(target, a, u)(x)
        mean = weights @ r
        return mean, weights @ (r - mean) ** 2

    means, variances = _each(moments, components, model.weights.T, model.positions.T)
    return jnp.sum(variances) + (bias + jnp.sum(means)) ** 2


def normal_equations(model: ShallowNetwork, components: Components) -> NormalEquations:
    """For (the bias and) the weights in the order of `ShallowNetwork.vectors`."""
    has_bias = model.bias is not None

    def of_one(target, u, bias=True):
        if (steps := steps_of(model, (target,))) is not None:
            activation, (constant,) = steps
            return quadratic.normal_equations(activation, constant, u, bias=bias)
        x, weights = rule(*_pieces(model.activation, target, u))
        features = model.activation(x[:, None] - u[None])
        if bias:
            features = jnp.concatenate([jnp.ones_like(features[:, :1]), features], axis=1)
        y, weighted = target(x), features.T * weights[None]
        return NormalEquations(weighted @ features, weighted @ y, weights @ y**2)

    if len(components) == 1:
        return of_one(components[0], model.positions[:, 0], has_bias)
    gram, cross, square = _each(of_one, components, model.positions.T)
    features, targets = gram[:, 0, 1:].T, cross[:, 0]  # means
    target = jnp.sum(targets)
    coordinate = jnp.arange(len(components))
    pairs = features[:, :, None, None] * features[None, None]
    pairs = pairs.at[:, coordinate, :, coordinate].set(gram[:, 1:, 1:]).reshape(features.size, features.size)
    labels = (cross[:, 1:].T + features * (target - targets)[None]).ravel()
    square = jnp.sum(square - targets**2) + target**2
    if not has_bias:
        return NormalEquations(pairs, labels, square)
    row = jnp.concatenate([jnp.ones_like(features[:1, 0]), features.ravel()])
    pairs = jnp.concatenate([row[1:, None], pairs], axis=1)
    return NormalEquations(jnp.concatenate([row[None], pairs]), jnp.concatenate([target[None], labels]), square)


def gradient(model: ShallowNetwork, activation: SmoothStep, targets: tuple[PiecewiseConstant, ...]) -> Gradient:
    """In closed form, with respect to `ShallowNetwork.vectors`."""
    if len(targets) == 1:
        return quadratic.gradient(activation, targets[0], *model.vectors)
    a = _seen_by_each(model, activation, targets)
    d_a, d_u = _each(lambda target, a, u: quadratic.gradient(activation, target, a, u), targets, a, model.positions.T)
    weights = d_a[:, 1:].T.ravel()
    if model.bias is not None:
        weights = jnp.concatenate([d_a[0, :1], weights])
    return Gradient(weights, d_u.T.ravel())


def hessian(model: ShallowNetwork, activation: SmoothStep, targets: tuple[PiecewiseConstant, ...]) -> Hessian:
    """In closed form, with the rows and columns of `gradient`."""
    if len(targets) == 1:
        return quadratic.hessian(activation, targets[0], *model.vectors)
    blocks = _each(
        lambda target, a, u: quadratic.hessian(activation, target, a, u),
        targets,
        _seen_by_each(model, activation, targets),
        model.positions.T,
    )
    d, m = len(targets), len(model.weights)
    coordinate = jnp.arange(d)
    mean_a, mean_u = blocks.d_aa[:, 0, 1:].T, blocks.d_au[:, 0].T  # twice the derivatives of the mean residual

    def coupled(mean_p, mean_q, own):
        pairs = 0.5 * mean_p[:, :, None, None] * mean_q[None, None]
        return pairs.at[:, coordinate, :, coordinate].set(own).reshape(m * d, m * d)

    d_aa = coupled(mean_a, mean_a, blocks.d_aa[:, 1:, 1:])
    d_au = coupled(mean_a, mean_u, blocks.d_au[:, 1:])
    d_uu = coupled(mean_u, mean_u, blocks.d_uu)
    if model.bias is not None:
        row = mean_a.ravel()
        d_aa = jnp.block([[jnp.full((1, 1), 2.0, row.dtype), row[None]], [row[:, None], d_aa]])
        d_au = jnp.concatenate([mean_u.ravel()[None], d_au])
    return Hessian(d_aa, d_au, d_uu)


def _seen_by_each(
    model: ShallowNetwork, activation: SmoothStep, targets: tuple[PiecewiseConstant, ...]
) -> Float[Array, "d n"]:
    """The weights of each coordinate after the bias c_i that it sees."""
    of_targets = jnp.stack([target.mean for target in targets])
    of_neurons = overlaps.tail(activation.eta, jnp.zeros_like(activation.eta), model.positions).value
    means = jnp.sum(model.weights * of_neurons, axis=0) - of_targets
    total = jnp.sum(means) if model.bias is None else model.bias + jnp.sum(means)
    return jnp.concatenate([(total - means)[:, None], model.weights.T], axis=1)


def nodes(model: ShallowNetwork, target: AbstractTarget) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """A rule that integrates products of two gradients of the squared residual of one coordinate."""
    kinks, degree = _pieces(model.activation, target, model.positions[:, 0])
    return rule(kinks, 2 * degree)


def _pieces(
    activation: AbstractActivation, target: AbstractTarget, u: Float[Array, " m"]
) -> tuple[Float[Array, " k"], int]:
    """Where the residual of one coordinate has kinks, and its degree between them."""
    return jnp.concatenate([activation.kinks(u), target.kinks]), max(activation.degree, target.degree)


def _each(f: Callable[..., Any], components: Components, *arrays: Float[Array, "d ..."]) -> Any:
    """`f` of each component with its entry along the leading axis; compiled once where all are of one form."""
    shapes = [jax.tree.map(jnp.shape, part) for part in components]
    if all(shape == shapes[0] for shape in shapes) and len({jax.tree.structure(part) for part in components}) == 1:
        # One after the other: under `vmap` each would take both branches of the closed forms.
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *components)
        return jax.lax.map(lambda one: f(*one), (stacked, *arrays))
    results = [f(part, *(array[i] for array in arrays)) for i, part in enumerate(components)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
