"""The distance to the optimal weights against least squares of NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import reference

import tts_jax as tts
from tts_jax.diagnostics import distance_to_slow_manifold

TIMES = [0.0, 0.01]


def apart(features, weights, labels, parts):
    """The root of the mean square, with the weights `parts` of a rule."""
    root = np.sqrt(parts)[:, None]
    best, *_ = np.linalg.lstsq(root * features, root[:, 0] * labels, rcond=None)
    return np.sqrt(parts @ (features @ (weights - best)) ** 2)


def test_of_a_regression():
    case = reference.small_case()
    run = tts.simulate(tts.SGD(0.1, 1e-2, None), *reference.build(case), TIMES)
    found = distance_to_slow_manifold(run, reference.build(case)[1])
    for k, (bias, weights, u) in enumerate(zip(run.model.bias, run.model.weights, run.model.positions, strict=True)):
        moved = case._replace(bias=bias, weights=np.asarray(weights[:, 0]), positions=np.asarray(u[:, 0]))
        x, parts = reference.quadrature([*reference.kinks(moved), *case.jumps])
        features = np.c_[np.ones_like(x), reference.step((x[:, None] - moved.positions) / case.eta)]
        labels = reference.target_values(case.jumps, case.values, x)
        want = apart(features, np.append(bias, moved.weights), labels, parts)
        assert abs(float(found[k]) - want) < 1e-12


def test_of_data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    model, problem = (
        tts.ShallowNetwork(rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), None, tts.ReLU()),
        tts.Dataset(x, y),
    )
    run = tts.simulate(tts.SGD(0.1, 1e-2, None), model, problem, TIMES)
    u = np.asarray(run.model.positions[1])
    features = np.maximum(x[:, None] - u, 0).reshape(30, 6)
    want = apart(features, np.asarray(run.model.weights[1]).ravel(), y, np.full(30, 1 / 30))
    np.testing.assert_allclose(distance_to_slow_manifold(run, problem)[1], want, rtol=1e-10)


def test_the_reduced_flow_lies_on_it_and_the_flow_near():
    case = reference.small_case()
    model, problem = reference.build(case)

    def ends(dynamics):
        return distance_to_slow_manifold(tts.simulate(dynamics, model, problem, TIMES), problem)

    assert (ends(tts.ReducedFlow()) < 1e-9).all()
    far, near = ends(tts.GradientFlow(4e-6)), ends(tts.GradientFlow(2e-6))
    assert far[0] == near[0] > 0.1
    np.testing.assert_allclose(far[1] / near[1], 2, rtol=0.05)


def test_refusals():
    model = eqx.nn.MLP(1, 1, 2, 1, key=jax.random.key(0))
    data = tts.Dataset(jnp.ones((2, 1)), jnp.ones(2))
    run = tts.simulate(tts.SGD(0.1, 0.1, None, slow=lambda model: model.layers[0]), model, data, TIMES)
    reference.refuses(lambda: distance_to_slow_manifold(run, data), "need a ShallowNetwork, got MLP")
    shallow, problem = reference.build(reference.small_case())
    norm = tts.NormDataset(jnp.ones((2, 1)), jnp.ones(2))
    run = tts.simulate(tts.SGD(0.1, 1e-2, None), shallow, problem, TIMES)
    reference.refuses(lambda: distance_to_slow_manifold(run, norm), "not quadratic in the weights")
