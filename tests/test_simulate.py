"""The verb and what it returns: clocks, save times, inputs of every kind, refusals, labels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import xarray

import tts_jax as tts
from tts_jax.networks import trainable

TIMES = np.linspace(0, 0.2, 6)
H = 0.01
DYNAMICS = {
    "flow": tts.GradientFlow(0.05),
    "sgd": tts.SGD(0.05, H),
    "reduced": tts.ReducedFlow(),
}


def run(dynamics, times=TIMES, case=None, **options):
    if isinstance(dynamics, tts.SGD):
        options.setdefault("key", jax.random.key(0))
    return tts.simulate(dynamics, *reference.build(case or reference.small_case()), times, **options)


@pytest.fixture(scope="module")
def runs():
    return {name: run(dynamics) for name, dynamics in DYNAMICS.items()}


# Clocks and save times.


def test_clocks(runs):
    """`tau = epsilon t` and `t = h p`; a dynamics that lacks a clock has None there."""
    for trajectory in runs.values():
        assert trajectory.status == tts.Status.SUCCESSFUL
        np.testing.assert_array_equal(trajectory.slow_time, TIMES)
        assert trajectory.risk.shape == (6,)
        assert trajectory.model.positions.shape == trajectory.model.weights.shape == (6, 4, 1)
        assert trajectory.model.bias.shape == (6,)
        assert trajectory.model.activation.eta == 0.2
    np.testing.assert_allclose(runs["flow"].fast_time, TIMES / 0.05, rtol=1e-15)
    np.testing.assert_array_equal(runs["sgd"].step, [0, 80, 160, 240, 320, 400])
    np.testing.assert_allclose(runs["sgd"].fast_time, TIMES / 0.05, rtol=1e-14)
    assert runs["flow"].step is runs["reduced"].step is runs["reduced"].fast_time is None


def test_every_run_begins_at_the_start_and_its_risk_is_the_problems(runs):
    case = reference.small_case()
    start = np.concatenate([[case.bias], case.weights, case.positions])
    for name, trajectory in runs.items():
        first = reference.states(trajectory)[0]
        np.testing.assert_array_equal(first[5:], case.positions)
        if name != "reduced":
            np.testing.assert_array_equal(first, start)
        last = reference.states(trajectory)[-1]
        moved = case._replace(bias=last[0], weights=last[1:5], positions=last[5:])
        assert trajectory.risk[-1] == pytest.approx(reference.answer(moved).risk, abs=1e-12)


def test_a_save_time_is_rounded_to_the_nearest_step():
    times = 0.05 * H * np.array([0.0, 0.49, 0.51, 2.4, 2.6, 7.0])
    trajectory = run(DYNAMICS["sgd"], times)
    np.testing.assert_array_equal(trajectory.step, [0, 0, 1, 2, 3, 7])
    np.testing.assert_array_equal(trajectory.slow_time, times)
    np.testing.assert_allclose(trajectory.fast_time, H * np.array([0, 0, 1, 2, 3, 7]), rtol=1e-15)


@pytest.mark.parametrize("name", DYNAMICS)
def test_save_times_may_repeat_and_begin_late(runs, name):
    late, repeated = run(DYNAMICS[name], TIMES[[1, 1, 3, 3, 5, 5]]), run(DYNAMICS[name], np.zeros(6))
    want = reference.states(runs[name])
    assert reference.largest_difference(reference.states(late), want[[1, 1, 3, 3, 5, 5]]) < 1e-8
    np.testing.assert_array_equal(reference.states(repeated), want[[0] * 6])
    assert late.status == repeated.status == tts.Status.SUCCESSFUL


@pytest.mark.parametrize("dynamics", [tts.GradientFlow(0.05), tts.SGD(0.05, H)], ids=["flow", "sgd"])
def test_the_start_alone(dynamics):
    model, problem = network(), data()
    trajectory = reference.quick(lambda: tts.simulate(dynamics, model, problem, [0.0], key=jax.random.key(0)))
    assert trajectory.status == tts.Status.SUCCESSFUL
    np.testing.assert_array_equal(trajectory.model.positions, model.positions[None])
    np.testing.assert_array_equal(trajectory.model.weights, model.weights[None])
    assert trajectory.risk == pytest.approx(np.array([1.0]))
    assert trajectory.stats.steps == 0


# Transformations.


@pytest.mark.parametrize("name", DYNAMICS)
def test_nothing_is_traced_again(runs, name):
    """Another epsilon, step size, ridge, start, target or key of the same shapes."""
    others = {"flow": tts.GradientFlow(1e-3), "sgd": tts.SGD(1e-2, 0.02), "reduced": tts.ReducedFlow(0.1)}
    case = reference.small_case(positions=np.array([0.1, 0.2, 0.3, 0.4]), values=np.array([0.0, 1.0, 3.0]), eta=0.1)
    model, problem = reference.build(case)
    key = jax.random.key(5) if name == "sgd" else None
    events = []

    def count(event, duration, **_):
        del duration
        events.append(event.rsplit("/", 1)[-1])

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        tts.simulate(others[name], model, problem, 0.1 * TIMES, key=key)
        assert {"jaxpr_trace_duration", "backend_compile_duration"}.isdisjoint(events)
        jax.jit(lambda x: x)(0.0)
        assert {"jaxpr_trace_duration", "backend_compile_duration"}.issubset(events)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


def test_under_jit(runs):
    """The dynamics, the model, the problem and the times are arguments. For `vmap` see the tests of each dynamics."""

    @eqx.filter_jit(compiler_options={"xla_backend_optimization_level": 0})
    def jitted(dynamics, model, problem, times, key):
        return tts.simulate(dynamics, model, problem, times, key=key)

    got = jitted(DYNAMICS["sgd"], *reference.build(reference.small_case()), jnp.asarray(TIMES), jax.random.key(0))
    np.testing.assert_allclose(reference.states(got), reference.states(runs["sgd"]), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got.step, runs["sgd"].step)


@pytest.mark.usefixtures("annotations_off")
def test_numpy_leaves(runs):
    """And a list of times, as in a notebook."""
    case = reference.small_case()
    _, problem = reference.build(case)
    model = tts.ShallowNetwork(case.weights[:, None], case.positions[:, None], np.array(case.bias), tts.SmoothStep(0.2))
    assert isinstance(model.weights, jax.Array)
    got = tts.simulate(DYNAMICS["sgd"], model, problem, list(TIMES), key=jax.random.key(0))
    np.testing.assert_array_equal(reference.states(got), reference.states(runs["sgd"]))
    assert isinstance(got.model.weights, jax.Array)


# What comes back.


def test_at(runs):
    trajectory = runs["sgd"]
    _, problem = reference.build(reference.small_case())
    for index in (0, 3, -1):
        model = trajectory.at(index)
        assert model.positions.shape == (4, 1)
        np.testing.assert_array_equal(model.positions, trajectory.model.positions[index])
        np.testing.assert_array_equal(model.bias, trajectory.model.bias[index])
        assert model.activation.eta == 0.2
        assert problem.risk(model) == pytest.approx(float(trajectory.risk[index]), abs=1e-13)
    traced = jax.jit(lambda index: trajectory.at(index).weights)(2)
    np.testing.assert_array_equal(traced, trajectory.model.weights[2])


def by_hand(model):
    """A trajectory of two equal models."""
    moving, fixed = eqx.partition(model, trainable(model))
    stacked = eqx.combine(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), moving), fixed)
    stats = tts.Stats("by hand", jnp.array(3), jnp.array(1))
    return tts.Trajectory(jnp.array([0.0, 1.0]), None, None, stacked, jnp.zeros(2), jnp.array(2), stats)


def test_at_leaves_what_does_not_train():
    """Functions of an Equinox model have no time axis."""
    model = eqx.nn.MLP(1, "scalar", 3, 1, key=jax.random.key(0))
    last = by_hand(model).at(-1)
    assert last.activation is model.activation
    x = jnp.array([0.3])
    assert last(x) == model(x)


@pytest.mark.parametrize("name", DYNAMICS)
def test_to_xarray(runs, name):
    trajectory = runs[name]
    data = trajectory.to_xarray()
    assert dict(data.sizes) == {"slow_time": 6, "neuron": 4, "coordinate": 1}
    assert data.weights.dims == data.positions.dims == ("slow_time", "neuron", "coordinate")
    assert data.bias.dims == data.risk.dims == ("slow_time",)
    for variable in ("risk", "fast_time", "step"):
        value = getattr(trajectory, variable)
        assert (variable in data) == (value is not None)
        if value is not None:
            assert data[variable].dtype == value.dtype
            np.testing.assert_array_equal(data[variable], value)
    for variable in ("bias", "weights", "positions"):
        np.testing.assert_array_equal(data[variable], getattr(trajectory.model, variable))
    np.testing.assert_array_equal(data.slow_time, TIMES)
    assert data.attrs == {
        "status": "successful",
        "method": trajectory.stats.method,
        "steps": int(trajectory.stats.steps),
        "rejected": int(trajectory.stats.rejected),
    }
    assert data.risk.attrs
    assert data.slow_time.attrs


def test_to_xarray_survives_the_disk(runs, tmp_path):
    data = runs["sgd"].to_xarray()
    data.to_netcdf(tmp_path / "run.nc", engine="scipy")
    back = tts.load(tmp_path / "run.nc")
    xarray.testing.assert_identical(back, data)


def test_to_xarray_without_bias_and_in_two_dimensions():
    model = tts.ShallowNetwork.init(jax.random.key(0), 3, tts.SmoothStep(0.5), dimension=2, bias=False)
    data = by_hand(model).to_xarray()
    assert dict(data.sizes) == {"slow_time": 2, "neuron": 3, "coordinate": 2}
    assert "bias" not in data
    np.testing.assert_array_equal(data.positions[1], model.positions)
    assert data.attrs == {"status": "solver_failed", "method": "by hand", "steps": 3, "rejected": 1}


# Refusals.


def perceptron():
    return eqx.nn.MLP(1, "scalar", 3, 1, key=jax.random.key(0))


def network(dimension=1):
    return tts.ShallowNetwork.init(jax.random.key(0), 3, tts.SmoothStep(0.2), dimension=dimension)


def regression():
    return reference.build(reference.small_case())[1]


def data():
    return tts.Dataset(np.zeros((4, 1)), np.ones(4))


ROWS = np.zeros(4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: tts.GradientFlow(0.0), ["epsilon", "got 0.0"]),
        (lambda: tts.GradientFlow(-1e-3), ["epsilon", "got -0.001"]),
        (lambda: tts.GradientFlow(np.nan), ["epsilon", "got nan"]),
        (lambda: tts.GradientFlow(np.linspace(-1, 1, 50)), ["epsilon", "one number, got shape (50,)"]),
        (lambda: tts.GradientFlow(0.1, max_steps=0), ["max_steps", "got 0"]),
        (lambda: tts.GradientFlow(0.1, rtol=0.0), ["rtol", "got 0.0"]),
        (lambda: tts.GradientFlow(0.1, atol=-1.0), ["atol", "got -1.0"]),
        (lambda: tts.SmoothStep(0.0), ["eta", "got 0.0"]),
        (lambda: tts.SmoothStep(-4e-3), ["eta", "got -0.004"]),
        (lambda: tts.SmoothStep(np.inf), ["eta", "got inf"]),
        (lambda: tts.ShallowNetwork.init(jax.random.key(0), 0, tts.SmoothStep(0.2)), ["neurons", "got 0"]),
        (lambda: tts.PiecewiseConstant(np.linspace(0, 2, 50), np.zeros(51)), ["jumps", "2."]),
        (lambda: run(DYNAMICS["flow"], [0.0, 0.2, 0.1]), ["decrease", "got 0.2 before 0.1"]),
        (lambda: run(DYNAMICS["flow"], [-0.1, 0.1]), ["negative", "got -0.1"]),
        (lambda: run(DYNAMICS["reduced"], [0.0, np.nan]), ["finite", "nan"]),
        (lambda: run(DYNAMICS["sgd"], [0.0, np.inf]), ["finite", "inf"]),
        (lambda: run(DYNAMICS["sgd"], []), ["non-empty", "shape (0,)"]),
        (lambda: run(DYNAMICS["flow"], 0.1), ["vector", "shape ()"]),
        (lambda: run(DYNAMICS["flow"], np.zeros((2, 2))), ["vector", "shape (2, 2)"]),
        (lambda: run(tts.GradientFlow(0.1, slow=lambda m: m.layers[0])), ["slow", "ShallowNetwork", "layers"]),
        (lambda: run(tts.SGD(0.1, 0.1, slow=lambda m: 2 * m.positions)), ["slow", "ShallowNetwork"]),
        (lambda: run(tts.GradientFlow(0.1, slow=lambda m: ())), ["slow", "no trainable leaf"]),
        (lambda: run(tts.GradientFlow(0.1, slow=lambda m: m.activation)), ["slow", "no trainable leaf"]),
        (lambda: tts.simulate(tts.GradientFlow(0.1), perceptron(), data(), TIMES), ["MLP", "slow=lambda"]),
        (lambda: run(DYNAMICS["flow"], samples=(ROWS, ROWS)), ["GradientFlow", "samples"]),
        (lambda: run(DYNAMICS["reduced"], samples=(ROWS, ROWS)), ["ReducedFlow", "samples"]),
        (lambda: run(DYNAMICS["sgd"], key=None), ["SGD", "key=jax.random.key(0)"]),
        (lambda: run(DYNAMICS["sgd"], key=0), ["one random key, got 0", "key=jax.random.key(0)"]),
        (lambda: run(DYNAMICS["sgd"], key=jax.random.split(jax.random.key(0))), ["one random key", "shape (2,)"]),
        (lambda: run(DYNAMICS["sgd"], samples=data()), ["samples=(x, y)", "got Dataset", "as the problem"]),
        (lambda: run(tts.GradientFlow), ["a dynamics", "got the class GradientFlow"]),
        (lambda: run(DYNAMICS["flow"], np.array([0.0, 1j])), ["slow_times", "complex"]),
        (
            lambda: tts.simulate(DYNAMICS["flow"], regression(), network(), TIMES),
            ["Regression and then ShallowNetwork"],
        ),
        (lambda: tts.simulate(DYNAMICS["flow"], network(), None, TIMES), ["ShallowNetwork and then NoneType"]),
        (
            lambda: tts.simulate(tts.GradientFlow(0.1, slow=lambda m: m.layers[0]), perceptron(), regression(), TIMES),
            ["Regression", "MLP"],
        ),
        (
            lambda: tts.simulate(DYNAMICS["flow"], network(2), regression(), TIMES),
            ["positions", "(3, 2)"],
        ),
        (
            lambda: tts.simulate(DYNAMICS["flow"], network(), tts.Dataset(np.zeros((4, 1)), np.zeros((4, 2))), TIMES),
            ["returns shape ()", "label has shape (2,)"],
        ),
    ],
)
@pytest.mark.usefixtures("annotations_off")
def test_refuses(call, said):
    """In one line, with what was got."""
    reference.refuses(call, *said)


def test_refuses_labels_for_other_models():
    reference.refuses(by_hand(perceptron()).to_xarray, "MLP", "trajectory.model")
