"""Three speeds: a deep network, and a shallow one whose closed forms know two, against loops and solvers of others."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax.dynamics.flow import equation as module
from tts_jax.dynamics.flow.equation import Choice

EPSILON, H, STEPS = (0.5, 0.1), 0.05, 30
MODEL = eqx.nn.MLP(2, "scalar", 3, 2, jnp.tanh, key=jax.random.key(1))
X = np.random.default_rng(0).uniform(-1, 1, (12, 2))
DATA = tts.Dataset(X, 3 * np.sin(3 * X[:, 0]) * X[:, 1])
TIMES = 0.1 * H * np.arange(STEPS + 1)
SPEEDS = 0.1, 0.1, 0.5, 0.5, 1.0, 1.0


def layers():
    return lambda m: m.layers[1], lambda m: m.layers[0]


def leaves(model):
    return [leaf for layer in model.layers for leaf in (layer.weight, layer.bias)]


GRADIENT = eqx.filter_jit(eqx.filter_grad(lambda model: DATA.risk(model)))


def slopes(state):
    return [np.asarray(leaf) for leaf in leaves(GRADIENT(eqx.tree_at(leaves, MODEL, state)))]


def vectors(model):
    """A row for each time."""
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves(model)], axis=1)


def descent_by_hand():
    path = [[np.asarray(leaf) for leaf in leaves(MODEL)]]
    for _ in range(STEPS):
        moves = zip(path[-1], SPEEDS, slopes(path[-1]), strict=True)
        path.append([leaf - speed * H * slope for leaf, speed, slope in moves])
    return np.array([np.concatenate([leaf.ravel() for leaf in state]) for state in path])


def run(dynamics, times=TIMES):
    return reference.quick(lambda: tts.simulate(dynamics, MODEL, DATA, times))


def test_descent_and_euler_on_the_flow():
    """The clock is that of the slowest layer, which is given last, or first."""
    want = descent_by_hand()
    descent = run(tts.SGD(EPSILON, H, None, layers()))
    euler = run(tts.GradientFlow(EPSILON, layers(), diffrax.Euler()))
    turned = run(tts.SGD(EPSILON[::-1], H, None, layers()[::-1]))
    for got in (descent, euler, turned):
        assert reference.largest_difference(vectors(got.model), want) < 1e-13
        np.testing.assert_allclose(got.fast_time, H * np.arange(STEPS + 1), rtol=1e-12)
    np.testing.assert_array_equal(descent.step, np.arange(STEPS + 1))
    assert tts.SGD(EPSILON, H, None, layers()).steps(TIMES) == STEPS
    assert np.ptp(want, axis=0).min() > 1e-3


@pytest.fixture(scope="module")
def solved():
    shapes = [leaf.shape for leaf in leaves(MODEL)]
    cuts = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]

    def velocity(t, y):
        state = [part.reshape(shape) for part, shape in zip(np.split(y, cuts), shapes, strict=True)]
        moves = zip(SPEEDS, slopes(state), strict=True)
        return np.concatenate([-speed / 0.1 * slope.ravel() for speed, slope in moves])

    start = np.concatenate([np.ravel(leaf) for leaf in leaves(MODEL)])
    return solve_ivp(velocity, (0, 0.5), start, "LSODA", t_eval=[0, 0.2, 0.5], rtol=1e-10, atol=1e-11).y.T


@pytest.mark.parametrize("choice", [Choice.DENSE, Choice.MATRIX_FREE])
def test_the_flow(choice, solved, monkeypatch):
    """Matrix-free with a block of the two fastest layers, of 16 parameters."""
    if choice is Choice.MATRIX_FREE:
        monkeypatch.setattr(module, "DENSE", 16)
        monkeypatch.setattr(module, "EXPLICIT", 0)
    got = run(tts.GradientFlow(EPSILON, layers(), rtol=1e-9, atol=1e-9), [0, 0.2, 0.5])
    assert got.stats.method == choice.value
    assert reference.largest_difference(vectors(got.model), solved) < 1e-6
    assert got.stats.steps < 300


def test_an_optimiser_for_each_speed():
    """Momenta that differ, and one for all of them."""
    each = tuple(optax.sgd(H, momentum=m) for m in (0.0, 0.5, 0.9))
    got = run(tts.SGD(EPSILON, H, None, layers(), optimizer=each))
    momenta = 0.9, 0.9, 0.5, 0.5, 0.0, 0.0
    state = [np.asarray(leaf) for leaf in leaves(MODEL)]
    traces = [np.zeros_like(leaf) for leaf in state]
    for _ in range(STEPS):
        traces = [m * trace + slope for m, trace, slope in zip(momenta, traces, slopes(state), strict=True)]
        state = [leaf - speed * H * trace for leaf, speed, trace in zip(state, SPEEDS, traces, strict=True)]
    want = np.concatenate([leaf.ravel() for leaf in state])
    assert reference.largest_difference(vectors(got.model)[-1], want) < 1e-13
    with pytest.raises(ValueError, match=r"3 of them.*got 2"):
        tts.SGD(EPSILON, H, None, layers(), optimizer=each[:2])


# A network whose closed forms know two speeds.

CASE = reference.small_case()
START = np.concatenate([[CASE.bias], CASE.weights, CASE.positions])
BOTH = (0.4, 0.05), (lambda m: m.bias, lambda m: m.positions)
NETWORK_SPEEDS = np.concatenate([[0.4], np.ones(4), np.full(4, 0.05)])


def gradient(state, x, weight, y):
    """Of the weighted mean of `(f(x) - y)^2`, in NumPy."""
    z = (x[:, None] - state[5:]) / CASE.eta
    features = np.hstack([np.ones((len(x), 1)), reference.step(z)])
    residual = 2 * weight * (features @ state[:5] - y)
    return np.concatenate([residual @ features, -state[1:5] * (residual @ reference.step_slope(z)) / CASE.eta])


def test_samples_side_by_side():
    """For three ratios of the bias, in closed form."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(STEPS, 2)), rng.normal(size=(STEPS, 2))
    ratios = np.array([0.4, 0.04, 2.0])  # the second is slower than that of the positions

    def one(ratio):
        dynamics = tts.SGD((ratio, 0.05), H, 2, BOTH[1])
        times = jnp.minimum(ratio, 0.05) * H * np.arange(STEPS + 1.0)
        return tts.simulate(dynamics, *reference.build(CASE), times, samples=(x, y))

    got = reference.quick_jit(jax.vmap(one))(ratios)
    for lane, ratio in enumerate(ratios):
        speeds = np.concatenate([[ratio], NETWORK_SPEEDS[1:]])
        path = [START]
        for batch, labels in zip(x, y, strict=True):
            path.append(path[-1] - H * speeds * gradient(path[-1], batch, 0.5, labels))
        assert reference.largest_difference(reference.states(got)[lane], np.array(path)) < 1e-13
        np.testing.assert_array_equal(got.step[lane], np.arange(STEPS + 1))


def test_the_flow_of_a_network():
    def velocity(t, state):
        kinks = state[5:, None] + CASE.eta * np.array([-0.5, 0, 0.5])
        x, weight = reference.quadrature(np.concatenate([kinks.ravel(), CASE.jumps]))
        y = reference.target_values(CASE.jumps, CASE.values, x)
        return -NETWORK_SPEEDS / 0.05 * gradient(state, x, weight, y)

    times = np.linspace(0, 0.2, 4)
    want = solve_ivp(velocity, (0, times[-1]), START, "Radau", t_eval=times, rtol=1e-10, atol=1e-11).y.T
    got = reference.quick(lambda: tts.simulate(tts.GradientFlow(*BOTH), *reference.build(CASE), times))
    assert reference.largest_difference(reference.states(got), want) < 1e-8


def test_a_tuple_of_one_is_that_one():
    one = tts.GradientFlow((0.05,), (lambda m: m.positions,))
    got, want = (tts.simulate(flow, *reference.build(CASE), TIMES[:2]) for flow in (one, tts.GradientFlow(0.05)))
    np.testing.assert_array_equal(reference.states(got), reference.states(want))
    assert got.stats.method == Choice.ELIMINATED.value


def test_a_sweep():
    """Of the sizes it may be one; an axis of ratios would set one number."""
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [1.0, 2.0]))
    times, dynamics = [0.0, 0.01], tts.SGD((0.4, 0.05), 1e-2, slow=BOTH[1])
    settings = {"seeds": 2, "neurons": 3, "eta": 0.2, "progress": False}
    runs = tts.sweep(dynamics, problem, times, **settings)
    assert (runs.steps == 20).all()
    reference.refuses(
        lambda: tts.sweep(dynamics, problem, times, epsilon=[0.1, 0.2], **settings), "axis epsilon", "SGD has a tuple"
    )
    reference.refuses(
        lambda: tts.sweep(tts.SGD(0.1, 1e-2), problem, times, epsilon=[(0.1, 0.2)], **settings), "epsilon", "(1, 2)"
    )


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("make", [tts.GradientFlow, lambda epsilon, slow=None: tts.SGD(epsilon, 0.1, slow=slow)])
@pytest.mark.parametrize(
    ("epsilon", "slow", "said"),
    [
        ((0.1, 0.2), layers()[0], ["got 2 of them and no tuple", "epsilon=(0.1, 0.01)"]),
        ((0.1, 0.2), None, ["got 2 of them and no tuple"]),
        (0.1, layers(), ["got no tuple and 2 of them"]),
        ((0.1,), layers(), ["got 1 of them and 2 of them"]),
        ((), (), ["got 0 of them"]),
        ((0.1, -0.2), layers(), ["epsilon[1] must be positive"]),
        ((0.1, 0.2), (layers()[0], None), ["slow[1] must be a function", "got None"]),
        ((0.1, 0.2), (layers()[0], "u"), ["slow[1]", "'u'"]),
    ],
)
def test_refuses_when_made(make, epsilon, slow, said):
    reference.refuses(lambda: make(epsilon, slow), *said)


def test_refuses_a_leaf_in_two_groups():
    flow = tts.GradientFlow(EPSILON, (lambda m: m.layers[0], lambda m: m.layers[0].bias))
    reference.refuses(lambda: tts.simulate(flow, MODEL, DATA, TIMES), "MLP.layers[0].bias in 2 of its groups")
    flow = tts.GradientFlow(EPSILON, (layers()[0], lambda m: m.nothing))
    reference.refuses(lambda: tts.simulate(flow, MODEL, DATA, TIMES), "slow[1] must pick leaves of MLP")
