"""Derivatives through training, in both modes, against central differences of the computed result."""

import dataclasses

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
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
    step_size: jax.Array | None = None
    x: jax.Array | None = None
    y: jax.Array | None = None

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
    dynamics = tts.GradientFlow(parameters.epsilon, adjoint=adjoint)
    return measure(tts.simulate(dynamics, parameters.model, parameters.problem, jnp.asarray(TIMES)))


def reduced(parameters: Setting, adjoint: diffrax.AbstractAdjoint) -> jax.Array:
    """Does not depend on epsilon, the weights and the bias: their derivatives are zero."""
    dynamics = tts.ReducedFlow(adjoint=adjoint)
    return measure(tts.simulate(dynamics, parameters.model, parameters.problem, jnp.asarray(TIMES)))


def sgd(parameters: Setting, adjoint: diffrax.AbstractAdjoint) -> jax.Array:
    dynamics = tts.SGD(parameters.epsilon, parameters.step_size, batch_size=2, adjoint=adjoint)
    times = jax.lax.stop_gradient(parameters.epsilon * 1e-4) * jnp.array([70.0, 150.0])
    samples = (parameters.x, parameters.y)
    return measure(tts.simulate(dynamics, parameters.model, parameters.problem, times, samples=samples))


def with_samples(parameters: Setting) -> Setting:
    x, y = np.random.default_rng(1).uniform(0, 1, (151, 2, 1)), np.random.default_rng(2).uniform(1, 3, (151, 2))
    return dataclasses.replace(parameters, step_size=jnp.asarray(1e-4), x=jnp.asarray(x), y=jnp.asarray(y))


def directions(parameters: Setting):
    """One in each parameter alone; a scalar moves in proportion to itself."""
    rng = np.random.default_rng(0)
    leaves, structure = jax.tree.flatten(parameters)
    for k, leaf in enumerate(leaves):
        along = [jnp.zeros_like(other) for other in leaves]
        along[k] = leaf if leaf.ndim == 0 else jnp.asarray(rng.normal(size=leaf.shape))
        yield jax.tree.unflatten(structure, along)


@pytest.mark.parametrize(
    ("run", "epsilons", "step", "modes_agree"),
    [(flow, (2e-5, 1e-2, 1.0), 2e-4, 2e-7), (sgd, (2e-5, 1e-2, 1.0), 1e-6, 1e-8), (reduced, (1.0,), 2e-4, 1e-8)],
    ids=["flow", "SGD", "reduced"],
)
def test_derivatives(run, epsilons, step, modes_agree):
    """By every parameter, in every regime, in both modes, against differences of fourth order.

    The modes of the flow do not take the same steps.
    """
    reverse = reference.quick_jit(jax.value_and_grad(lambda p: run(p, diffrax.RecursiveCheckpointAdjoint())))
    forward = reference.quick_jit(lambda p, d: jax.jvp(lambda p: run(p, diffrax.ForwardMode()), (p,), (d,))[1])
    for epsilon in epsilons:
        parameters = with_samples(setting(epsilon)) if run is sgd else setting(epsilon)
        flat, unravel = ravel_pytree(parameters)
        gradient, _ = ravel_pytree(reverse(parameters)[1])
        assert jnp.isfinite(gradient).all()
        for direction in directions(parameters):
            along, _ = ravel_pytree(direction)
            near, far = (
                sum(sign * reverse(unravel(flat + sign * size * step * along))[0] for sign in (1, -1)) / (2 * size)
                for size in (1, 2)
            )
            expected = (4 * near - far) / (3 * step)
            scale = jnp.abs(expected) + 0.1
            assert jnp.abs(gradient @ along - expected) < 1e-6 * scale, (epsilon, direction)
            assert jnp.abs(forward(parameters, direction) - gradient @ along) < modes_agree * scale, (
                epsilon,
                direction,
            )


def test_gradient_of_the_limit_in_closed_form():
    """Gaps p < q at a jump end as 0 and `(q^3 - p^3)^(1/3)`, after a time in proportion to the jump's height^-2."""

    def end(u, v):
        model = tts.ShallowNetwork(jnp.zeros((2, 1)), u[:, None], jnp.zeros(()), tts.Heaviside())
        problem = tts.Regression(tts.PiecewiseConstant(v[None], jnp.array([1.0, 3.0])))
        run = tts.simulate(tts.TwoTimescaleLimit(), model, problem, jnp.array([10.0]))
        return run.model.positions[0, :, 0]

    u, v, p, q = jnp.array([0.3, 0.75]), jnp.asarray(0.5), 0.2, 0.25
    slope = np.cbrt(q**3 - p**3) ** -2
    np.testing.assert_allclose(end(u, v), [0.5, 0.5 + slope**-0.5], rtol=1e-14)
    for mode in (jax.jacrev, jax.jacfwd):
        by_start, by_jump = mode(end, (0, 1))(u, v)
        np.testing.assert_allclose(by_start, [[0, 0], [p**2 * slope, q**2 * slope]], atol=1e-12)
        np.testing.assert_allclose(by_jump, [1, 1 - (p**2 + q**2) * slope], atol=1e-12)


@pytest.mark.parametrize("dynamics", [tts.GradientFlow, lambda epsilon: tts.SGD(epsilon, 1e-3)], ids=["flow", "SGD"])
def test_nothing_recompiles(dynamics):
    """When epsilon, the start, the target or the save times change."""
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))

    def run(epsilon, scale):
        case = jax.tree.map(lambda leaf: leaf * scale, setting(epsilon))
        times = scale * epsilon * jnp.array([1e-2, 2e-2])
        tts.simulate(dynamics(epsilon), case.model, case.problem, times, key=jax.random.key(0)).risk.block_until_ready()
        return sum("backend_compile" in event for event in compiled)

    run(0.3, 1.0)
    first = run(0.3, 0.99)
    assert first > 0
    assert run(0.1, 0.98) == first


def test_modes_compose_with_vmap_and_jit():
    starts = jnp.stack([setting(0.1).positions + shift for shift in (0.0, 0.03)])

    def end(positions):
        parameters = eqx.tree_at(lambda p: p.positions, setting(0.1), positions)
        return sgd(with_samples(parameters), diffrax.RecursiveCheckpointAdjoint())

    together = jax.jit(jax.vmap(jax.grad(end)))(starts)
    gradient = reference.quick_jit(jax.grad(end))
    alone = jnp.stack([gradient(start) for start in starts])
    np.testing.assert_allclose(together, alone, rtol=1e-8)


def test_other_adjoints_are_refused_by_sgd():
    with pytest.raises(ValueError, match="BacksolveAdjoint"):
        tts.SGD(0.1, 0.1, adjoint=diffrax.BacksolveAdjoint())
