"""Leaves that are held: right in every way of moving the others, against loops and solvers in NumPy and SciPy."""

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

CASE = reference.small_case()
START = np.concatenate([[CASE.bias], CASE.weights, CASE.positions])
PARTS = {"bias": slice(0, 1), "weights": slice(1, 5), "positions": slice(5, 9)}
EPSILON = 0.05
HELD = {
    "bias": lambda model: model.bias,
    "weights": lambda model: model.weights,
    "positions": lambda model: model.positions,
    "all but weights": lambda model: (model.bias, model.positions),
}


def speeds(held):
    """Of bias, weights and positions in fast time."""
    speed = np.concatenate([np.ones(5), np.full(4, EPSILON)])
    for name in PARTS:
        if name == held or (held == "all but weights" and name != "weights"):
            speed[PARTS[name]] = 0
    return speed


def gradient(state, x, weight, y):
    """Of the weighted mean of `(f(x) - y)^2`, in NumPy."""
    z = (x[:, None] - state[5:]) / CASE.eta
    features = np.hstack([np.ones((len(x), 1)), reference.step(z)])
    residual = 2 * weight * (features @ state[:5] - y)
    return np.concatenate([residual @ features, -state[1:5] * (residual @ reference.step_slope(z)) / CASE.eta])


def test_this_gradient():
    """By quadrature of the risk."""
    want = reference.answer(CASE).gradient
    x, weight = reference.quadrature(np.concatenate([reference.kinks(CASE), CASE.jumps]))
    got = gradient(START, x, weight, reference.target_values(CASE.jumps, CASE.values, x))
    np.testing.assert_allclose(got, np.concatenate([[want.bias], want.weights, want.positions]), atol=1e-8)


@pytest.mark.parametrize("held", HELD)
def test_the_flow(held):
    """Of a network that has a closed form, against Radau."""

    def velocity(t, state):
        kinks = state[5:, None] + CASE.eta * np.array([-0.5, 0, 0.5])
        x, weight = reference.quadrature(np.concatenate([kinks.ravel(), CASE.jumps]))
        y = reference.target_values(CASE.jumps, CASE.values, x)
        return -speeds(held) / EPSILON * gradient(state, x, weight, y)

    times = np.linspace(0, 0.2, 4)
    want = solve_ivp(velocity, (0, times[-1]), START, "Radau", t_eval=times, rtol=1e-10, atol=1e-11).y.T
    flow = tts.GradientFlow(EPSILON, frozen=HELD[held])
    got = reference.quick(lambda: tts.simulate(flow, *reference.build(CASE), times))
    assert got.stats.method == "Rodas5P, dense Jacobian"
    assert reference.largest_difference(reference.states(got), want) < 1e-8
    assert_held(reference.states(got), held)


def assert_held(states, held):
    fixed = speeds(held) == 0
    assert fixed.any()
    np.testing.assert_array_equal(states[:, fixed], np.broadcast_to(START[fixed], states[:, fixed].shape))
    assert np.ptp(states[:, ~fixed], axis=0).min() > 1e-4


STEPS, H, BATCH = 40, 0.02, 3
TIMES = EPSILON * H * np.arange(STEPS + 1)


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_samples(held, decay):
    """Two runs side by side, of a network whose other leaves have their gradient in closed form."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(2, STEPS, BATCH)), rng.normal(size=(2, STEPS, BATCH))
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(H)) if decay else None
    dynamics = tts.SGD(EPSILON, H, BATCH, optimizer=optimizer, frozen=HELD[held])

    def run(x, y):
        return tts.simulate(dynamics, *reference.build(CASE), TIMES, samples=(x, y))

    got = reference.quick_jit(jax.vmap(run))(x, y)
    for lane in range(2):
        path = [START]
        for batch, labels in zip(x[lane], y[lane], strict=True):
            slope = gradient(path[-1], batch, 1 / BATCH, labels) + decay * path[-1]
            path.append(path[-1] - H * speeds(held) * slope)
        assert reference.largest_difference(reference.states(got)[lane], np.array(path)) < 1e-13
        assert_held(reference.states(got)[lane], held)


def test_single_precision():
    """Compensated sums of what moves, and of nothing else."""

    def run(times, case):
        dynamics = tts.SGD(EPSILON, H, None, frozen=lambda model: model.bias)
        return tts.simulate(dynamics, *reference.build(case), times)

    want = run(TIMES, CASE)
    with jax.enable_x64(False):
        got = run(TIMES.astype(np.float32), jax.tree.map(np.float32, CASE))
    assert reference.states(got).dtype == np.float32
    assert reference.largest_difference(reference.states(got), reference.states(want)) < 1e-6
    np.testing.assert_array_equal(got.model.bias, np.float32(CASE.bias))


# Any model.


class Normed(eqx.Module):
    """A perceptron behind statistics of its inputs, which are arrays of NumPy."""

    mean: np.ndarray
    scale: np.ndarray
    first: eqx.nn.Linear
    last: eqx.nn.Linear
    power: float

    def __call__(self, x):
        return self.last(jnp.tanh(self.first((x - self.mean) / self.scale))) ** self.power


X = np.random.default_rng(0).normal(3.0, 2.0, (10, 2))
DATA = tts.Dataset(X, np.cos(X[:, :1]))
KEYS = jax.random.split(jax.random.key(0))
NORMED = Normed(X.mean(0), X.std(0), eqx.nn.Linear(2, 3, key=KEYS[0]), eqx.nn.Linear(3, 1, key=KEYS[1]), 1.0)


def train(dynamics, model=NORMED):
    with jax.numpy_dtype_promotion("standard"):  # Optax itself promotes
        return reference.quick(lambda: tts.simulate(dynamics, model, DATA, TIMES))


def statistics(model):
    return model.mean, model.scale


def test_arrays_of_numpy_train_unless_they_are_frozen():
    free = train(tts.SGD(EPSILON, H, None, slow=lambda m: m.first))
    assert np.all(free.at(-1).mean != NORMED.mean)
    assert free.model.power == 1.0
    held = train(tts.SGD(EPSILON, H, None, slow=lambda m: m.first, frozen=statistics))
    for name in ("mean", "scale"):
        np.testing.assert_array_equal(getattr(held.model, name), np.tile(getattr(NORMED, name), (STEPS + 1, 1)))


@pytest.mark.parametrize("optimizer", [None, optax.adamw(H, weight_decay=0.5)], ids=["plain", "decay"])
def test_frozen_wins_over_slow(optimizer):
    """Against the model whose frozen leaves are constants of its function."""

    class Rest(eqx.Module):
        weight: jax.Array
        last: eqx.nn.Linear

        def __call__(self, x):
            first = eqx.tree_at(lambda linear: linear.weight, NORMED.first, self.weight)
            return self.last(jnp.tanh(first((x - NORMED.mean) / NORMED.scale)))

    def held(model):
        return *statistics(model), model.first.bias

    got = train(tts.SGD(EPSILON, H, None, slow=lambda m: m.first, frozen=held, optimizer=optimizer))
    rest = Rest(NORMED.first.weight, NORMED.last)
    want = train(tts.SGD(EPSILON, H, None, slow=lambda m: m.weight, optimizer=optimizer), rest)
    np.testing.assert_allclose(got.model.first.weight, want.model.weight, atol=1e-14)
    np.testing.assert_allclose(got.model.last.weight, want.model.last.weight, atol=1e-14)
    np.testing.assert_array_equal(got.model.first.bias, np.tile(NORMED.first.bias, (STEPS + 1, 1)))


def test_euler_on_the_flow_is_full_batch_descent():
    euler = train(tts.GradientFlow(EPSILON, lambda m: m.first, diffrax.Euler(), frozen=statistics))
    descent = train(tts.SGD(EPSILON, H, None, lambda m: m.first, frozen=statistics))
    assert reference.largest_difference(euler.risk, descent.risk) < 1e-13
    np.testing.assert_allclose(euler.model.first.weight, descent.model.first.weight, atol=1e-13)


def test_a_trajectory_has_a_time_axis_on_frozen_leaves():
    model, problem = reference.build(CASE)
    run = train_network(tts.SGD(EPSILON, H, None, frozen=lambda m: m.positions))
    assert run.model.positions.shape == run.model.weights.shape == (STEPS + 1, 4, 1)
    np.testing.assert_array_equal(run.at(-1).positions, model.positions)
    np.testing.assert_allclose(run.map(problem.risk), run.risk, rtol=1e-12)
    assert run.to_xarray().positions.dims == ("slow_time", "neuron", "coordinate")
    other = train_network(tts.SGD(EPSILON, H, None, frozen=lambda m: m.bias))
    assert tts.distance(run, other)[-1] > 1e-3


def train_network(dynamics):
    return tts.simulate(dynamics, *reference.build(CASE), TIMES)


def test_arrival_times():
    """Where positions are held, the neurons that are there have arrived, and no other does."""
    model, problem = reference.build(CASE)
    flow = tts.GradientFlow(EPSILON, frozen=lambda m: m.positions)
    got = tts.diagnostics.hit_times(flow, model, problem, 0.1)
    there = [np.abs(CASE.positions - jump).min() <= CASE.eta / 2 for jump in CASE.jumps]
    np.testing.assert_array_equal(got, np.where(there, 0.0, np.inf))


def test_a_sweep():
    runs = tts.sweep(
        tts.SGD(EPSILON, 1e-3, frozen=lambda m: m.bias),
        tts.Regression(tts.PiecewiseConstant([0.5], [1.0, 2.0])),
        [0.0, 0.01],
        seeds=2,
        neurons=3,
        eta=0.2,
        weights=True,
        progress=False,
    )
    assert not runs.bias.any()
    assert (runs.weights[:, 1] != 0).all()


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("make", [tts.GradientFlow, lambda *args, **more: tts.SGD(args[0], 0.1, None, **more)])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"slow": "u"}, ["slow must be a function", "got 'u'", "slow=lambda"]),
        ({"slow": NORMED.first}, ["slow must be a function", "got Linear"]),
        ({"slow": NORMED.mean}, ["got ndarray"]),
        ({"frozen": "norm"}, ["frozen must be a function", "'norm'", "frozen=lambda"]),
        ({"frozen": True}, ["got True"]),
    ],
)
def test_refuses_when_made(make, settings, said):
    reference.refuses(lambda: make(0.1, **settings), *said)


@pytest.mark.parametrize(
    ("frozen", "said"),
    [
        (lambda m: m.norm, ["frozen must pick leaves of Normed", "AttributeError"]),
        (lambda m: m.power, ["frozen selects no trainable leaf"]),
        (lambda m: (m.mean, m.scale, m.first, m.last), ["frozen selects every trainable leaf"]),
        (lambda m: (), ["frozen selects no trainable leaf"]),
    ],
)
def test_refuses_when_run(frozen, said):
    flow = tts.GradientFlow(0.1, slow=lambda m: m.first, frozen=frozen)
    reference.refuses(lambda: tts.simulate(flow, NORMED, DATA, TIMES), *said)
