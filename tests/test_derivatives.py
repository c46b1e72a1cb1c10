"""Derivatives through training, in both modes, against central differences of the computed result."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import tts_jax as tts

TIMES = (0.004, 0.02)


class Setting(eqx.Module):
    """Everything that a run depends on smoothly."""

    epsilon: jax.Array
    eta: jax.Array
    weights: jax.Array
    positions: jax.Array
    bias: jax.Array
    jumps: jax.Array
    values: jax.Array

    @property
    def model(self) -> tts.ShallowNetwork:
        return tts.ShallowNetwork(self.weights, self.positions, self.bias, tts.SmoothStep(self.eta))

    @property
    def problem(self) -> tts.Regression:
        return tts.Regression(tts.PiecewiseConstant(self.jumps, self.values), noise=0.5)


def setting(epsilon: float) -> Setting:
    positions = [[0.08], [0.22], [0.37], [0.52], [0.81]]
    weights = [[0.5], [-0.3], [0.2], [0.4], [-0.1]]
    numbers = (epsilon, 0.05, weights, positions, 0.3, [0.3, 0.6], [1.0, 3.0, 2.0])
    return Setting(*map(jnp.asarray, numbers))


def measure(trajectory: tts.Trajectory) -> jax.Array:
    return trajectory.risk.sum() + jnp.sum(jnp.sin(trajectory.model.positions)) + jnp.sum(trajectory.model.weights[-1])


def flow(parameters: Setting, adjoint: diffrax.AbstractAdjoint) -> jax.Array:
    dynamics = tts.GradientFlow(parameters.epsilon, rtol=1e-8, atol=1e-8, adjoint=adjoint)
    return measure(tts.simulate(dynamics, parameters.model, parameters.problem, jnp.asarray(TIMES)))


def sgd(parameters: Setting, adjoint: diffrax.AbstractAdjoint) -> jax.Array:
    step_size = 2e-3 * parameters.eta  # a step size that depends on what is differentiated
    fixed = jax.lax.stop_gradient(parameters.epsilon * step_size)
    dynamics = tts.SGD(parameters.epsilon, step_size, batch_size=2, adjoint=adjoint)
    times = fixed * jnp.array([700.0, 1500.0])
    return measure(tts.simulate(dynamics, parameters.model, parameters.problem, times, key=jax.random.key(3)))


@pytest.mark.parametrize(
    ("run", "epsilons", "step"), [(flow, (1e-4, 1.0), 1e-5), (sgd, (0.3,), 1e-7)], ids=["flow", "SGD"]
)
def test_derivatives(run, epsilons, step):
    reverse = jax.jit(jax.value_and_grad(lambda p: run(p, diffrax.RecursiveCheckpointAdjoint())))
    forward = jax.jit(lambda p, d: jax.jvp(lambda p: run(p, diffrax.ForwardMode()), (p,), (d,))[1])
    rng = np.random.default_rng(0)
    for epsilon in epsilons:
        parameters = setting(epsilon)
        flat, unravel = ravel_pytree(parameters)
        _, gradient = reverse(parameters)
        gradient, _ = ravel_pytree(gradient)
        assert jnp.isfinite(gradient).all()
        directions = [np.eye(len(flat))[0], np.eye(len(flat))[1], *rng.normal(size=(3, len(flat)))]
        for direction in directions:
            direction = jnp.asarray(direction).at[0].multiply(epsilon)
            ends = (reverse(unravel(flat + sign * step * direction))[0] for sign in (1, -1))
            expected = (next(ends) - next(ends)) / (2 * step)
            scale = 1 + jnp.abs(expected)
            assert jnp.abs(gradient @ direction - expected) < 2e-5 * scale
            assert jnp.abs(forward(parameters, unravel(direction)) - gradient @ direction) < 1e-9 * scale


def test_modes_compose_with_vmap_and_jit():
    starts = jnp.stack([setting(0.1).positions + shift for shift in (0.0, 0.03)])

    def end(positions):
        parameters = eqx.tree_at(lambda p: p.positions, setting(0.1), positions)
        return sgd(parameters, diffrax.RecursiveCheckpointAdjoint())

    together = jax.jit(jax.vmap(jax.grad(end)))(starts)
    alone = jnp.stack([jax.grad(end)(start) for start in starts])
    np.testing.assert_allclose(together, alone, rtol=1e-8)


def test_other_adjoints_are_refused_by_sgd():
    with pytest.raises(ValueError, match="BacksolveAdjoint"):
        tts.SGD(0.1, 0.1, adjoint=diffrax.BacksolveAdjoint())
