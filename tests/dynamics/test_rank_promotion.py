"""Everything works under the flags that a user may have: `jax_numpy_rank_promotion`, as Diffrax tests itself, and
promotion of types as JAX has it by default."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import tts_jax as tts

TIMES = [0.0, 0.05]
KEY = jax.random.key(0)
DYNAMICS = {
    "flow": tts.GradientFlow(0.1),
    "flow, explicit": tts.GradientFlow(0.1, rtol=1e-5, atol=1e-5, slow=lambda m: m.positions),
    "SGD": tts.SGD(0.1, 0.01),
    "SGD, batches by Adam": tts.SGD(0.1, 0.01, 3, optimizer=optax.adam(0.01)),
    "SGD as a diffusion": tts.SGDDiffusion(0.1, 0.01, 2),
    "SGD, exact gradient": tts.SGD(0.1, 0.01, None),
    "reduced": tts.ReducedFlow(),
    "limit": tts.TwoTimescaleLimit(),
}


@pytest.fixture(autouse=True)
def flags():
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        yield


def simulate(dynamics, model, problem):
    key = KEY if dynamics.stochastic else None
    run = reference.quick(lambda: tts.simulate(dynamics, model, problem, TIMES, key=key))
    assert run.status == tts.Status.SUCCESSFUL
    assert np.isfinite(np.asarray(run.risk)).all()
    return run


@pytest.mark.parametrize("name", DYNAMICS)
def test_every_dynamics_on_a_network_of_steps(name):
    run = simulate(DYNAMICS[name], *reference.build(reference.small_case()))
    np.testing.assert_array_equal(tts.distance(run, run), np.zeros(2))
    assert tts.distance(run.at(0), run.at(1)) > 0
    assert run.map(lambda model: model(0.3)).shape == (2,)


@pytest.mark.parametrize("name", ["flow", "SGD", "reduced"])
@pytest.mark.parametrize("kind", ["ReLU", "plane", "perceptron", "norm"])
def test_other_networks_and_problems(name, kind):
    rng = np.random.default_rng(0)
    shape = (4, 1) if kind == "ReLU" else (4, 2)
    weights, positions = jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.uniform(size=shape))
    steps, stairs = tts.SmoothStep(0.2), tts.PiecewiseConstant([0.5], [0.0, 1.0])
    rows = rng.uniform(size=(5, 2)), rng.normal(size=5)
    model, problem = {
        "ReLU": lambda: (
            tts.ShallowNetwork(weights, positions, 0.1, tts.ReLU()),
            tts.Regression(tts.PiecewiseLinear([0.2], [1.0])),
        ),
        "plane": lambda: (
            tts.ShallowNetwork(weights, positions, 0.1, steps),
            tts.Regression(tts.Additive([stairs, stairs])),
        ),
        "perceptron": lambda: (
            tts.PerceptronNetwork(weights[:, 0], positions, tts.Erf()),
            tts.GaussianRegression(tts.PerceptronNetwork(weights[:2, 1], positions[:2], tts.Erf())),
        ),
        "norm": lambda: (
            tts.ShallowNetwork(weights, positions, 0.1, steps),
            tts.Dataset(*rows) if name == "reduced" else tts.NormDataset(*rows),
        ),
    }[kind]()
    simulate(DYNAMICS[name], model, problem)
