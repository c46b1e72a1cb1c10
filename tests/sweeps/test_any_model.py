"""Sweeps of networks of the user's: what axes act on, what is measured, and what is kept."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.sweeps import kept, launch, network, width
from tts_jax.sweeps.grid import Grid, uniform_start

X = np.random.default_rng(0).uniform(-1.0, 1.0, (24, 2))
TRAIN, TEST = (tts.Dataset(x, np.sign(x[:, 0] * x[:, 1])) for x in (X[:16], X[16:]))
TIMES = [0.0, 0.5, 1.0]


def inner(model):
    return model.layers[0]


def init(key, width, activation=jnp.tanh):
    return eqx.nn.MLP(2, "scalar", width, 1, activation, key=key)


def accuracy(model):
    return jnp.mean(jnp.sign(jax.vmap(model)(TEST.x)) == TEST.y, dtype=float)


def outputs(model):
    return jax.vmap(model)(TEST.x[:3])


AXES = {"width": [3, 5], "batch_size": [1, None], "activation": [jnp.tanh, jnp.sin]}


def swept(store=None):
    sgd, measure = tts.SGD(0.1, 0.05, slow=inner), {"test loss": TEST.risk, "accuracy": accuracy, "outputs": outputs}
    return tts.sweep(
        sgd, TRAIN, TIMES, seeds=[4, 2], init=init, measure=measure, keep="model", store=store, progress=False, **AXES
    )


@pytest.fixture(scope="module")
def runs():
    return swept()


def alone(seed, width, batch_size, activation):
    sgd, key = tts.SGD(0.1, 0.05, batch_size=batch_size, slow=inner), jax.random.key(seed)
    return tts.simulate(sgd, init(key, width, activation), TRAIN, TIMES, key=jax.random.fold_in(key, 2))


@pytest.mark.parametrize(("seed", "width", "batch_size", "activation"), [(2, 3, None, jnp.sin), (4, 5, 1, jnp.tanh)])
def test_a_cell_is_the_run_of_its_own(runs, seed, width, batch_size, activation):
    """Axes of `init`, numbers and functions, and one of the dynamics, which is a setting and no leaf."""
    run = alone(seed, width, batch_size, activation)
    label = {1: "1", None: "null"}[batch_size]
    cell = runs.sel(seed=seed, width=width, batch_size=label, activation=activation.__name__)
    np.testing.assert_allclose(cell.risk, run.risk, rtol=1e-9)
    for k in range(3):
        there = network.model(
            runs, seed=seed, width=width, batch_size=batch_size, activation=activation, slow_time=TIMES[k]
        )
        assert jax.tree.structure(there) == jax.tree.structure(run.at(k))
        for got, want in zip(*map(jax.tree.leaves, (there, run.at(k))), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9) if eqx.is_array(got) else None
        assert float(cell["test loss"][k]) == pytest.approx(float(TEST.risk(there)), rel=1e-9)
        assert float(cell.accuracy[k]) == float(accuracy(there))
        np.testing.assert_allclose(cell["outputs"][k], outputs(there), rtol=1e-9)
    assert cell.steps == run.step[-1]


def test_networks_come_back_from_a_store(runs, tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    store = tmp_path / "runs.zarr"
    swept(store)
    there, at = tts.load(store), {"seed": 2, "width": 3, "batch_size": None, "activation": jnp.sin}
    assert list(there) == list(runs)
    monkeypatch.setattr(network, "_known", {})  # as in another process
    reference.refuses(lambda: tts.sweeps.model(there, **at), "init", "pass that function")
    reference.refuses(lambda: tts.sweeps.model(there, init=lambda key, width: None, **at), "init", "got ")
    got = tts.sweeps.model(there, init=init, **at)
    np.testing.assert_allclose(got(TEST.x[0]), alone(2, 3, None, jnp.sin).at(-1)(TEST.x[0]), rtol=1e-9)


def test_what_is_not_there_is_said(runs):
    at = {"seed": 2, "width": 3, "batch_size": None}
    reference.refuses(lambda: tts.sweeps.model(runs, **at), "which activation?", "pass activation=")
    reference.refuses(lambda: tts.sweeps.model(runs, depth=1), "no dimension depth", "activation")
    reference.refuses(lambda: tts.sweeps.model(runs, seed=3), "seed = 3", "[4 2]")
    plain = runs.drop_vars([name for name in runs if str(name).startswith("model")])
    reference.refuses(lambda: tts.sweeps.model(plain, seed=2), "keep='model'")


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep": "weights"}, ("keep", "got 'weights'", "'model'")),
        ({"lanes": 0}, ("lanes", "got 0")),
        ({"measure": accuracy}, ("measure", "got <function accuracy")),
        ({"measure": {"accuracy": 3}}, ("measure['accuracy']", "got 3")),
        ({"measure": {"risk": accuracy}}, ("measure 'risk'", "another")),
        ({"measure": {"n": lambda model: float(model(TEST.x[0]))}}, ("measure['n']", "jnp")),
        ({"measure": {"w": lambda model: model.layers[0].weight}}, ("measure 'w'", "(3, 2) and (5, 2)")),
        ({"batch_size": [0]}, ("batch_size", "got 0")),
        ({"activation": [jnp.tanh, jnp.tanh]}, ("activation", "twice")),
        ({"init": lambda key, width, depth: None}, ("init needs depth", "depth=...")),
        ({"init": lambda: None}, ("init", "random key")),
        ({"step_sise": [0.1]}, ("no axis 'step_sise'", "step_size", "width", "activation")),
    ],
)
def test_refused_before_any_work(given, words):
    arguments = {"seeds": 1, "init": init, "width": [3, 5], "progress": False} | given
    reference.refuses(lambda: tts.sweep(tts.SGD(0.1, 0.05, slow=inner), TRAIN, TIMES, **arguments), *words)


def test_networks_of_the_library_come_back_whole():
    """Of different sizes, as they are: the default start needs no word, and its width is that of the sweep."""
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    flow = tts.GradientFlow(0.1)
    runs = tts.sweep(
        flow, problem, [0.0, 0.1], seeds=2, neurons=[3, 5], eta=[0.1, 0.2], keep="model", weights=True, progress=False
    )
    got = tts.sweeps.model(runs, seed=1, neurons=3, eta=0.2)
    start = uniform_start(jax.random.key(1), 3, 0.2)
    np.testing.assert_allclose(got.weights, tts.simulate(flow, start, problem, [0.1]).model.weights[-1], rtol=1e-6)
    assert (got.positions.shape, float(got.activation.eta)) == ((3, 1), 0.2)
    assert float(problem.risk(got)) == pytest.approx(float(runs.risk.sel(seed=1, neurons=3, eta=0.2)[-1]), rel=1e-9)


# Lanes.

PROBLEM = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, -1.0]), noise=0.5)
CELLS = {"epsilon": [1.0, 0.3, 0.1], "eta": [0.05, 0.1], "noise": [0.0, 0.5], "step_size": [1e-2, 2e-2]}


def test_lanes_change_no_bit_of_sgd():
    """Alone beside copies of itself, or beside runs of other ratios, widths, noise and numbers of steps."""
    few, many = (
        tts.sweep(tts.SGD(1.0, 1.0), PROBLEM, [0.0, 0.3], seeds=8, neurons=5, lanes=lanes, progress=False, **CELLS)
        for lanes in (8, 256)
    )
    assert (few.attrs["lanes"], many.attrs["lanes"]) == ("8", "256")
    assert few.drop_attrs().equals(many.drop_attrs())
    cell = many.sel(epsilon=0.3, eta=0.1, noise=0.5, step_size=1e-2, seed=7)
    start = uniform_start(jax.random.key(7), 5, 0.1)
    run = tts.simulate(tts.SGD(0.3, 1e-2), start, PROBLEM, [0.0, 0.3], key=jax.random.fold_in(jax.random.key(7), 2))
    np.testing.assert_allclose(cell.risk, run.risk, rtol=1e-9)


def test_lanes_change_flows_by_less_than_their_tolerance():
    flow, axes = tts.GradientFlow(1.0, rtol=1e-8, atol=1e-8), {"epsilon": [1.0, 1e-2], "eta": [0.05, 0.1]}
    few, many = (
        tts.sweep(flow, PROBLEM, [0.1, 1.0], seeds=3, neurons=[4, 7], lanes=lanes, progress=False, **axes)
        for lanes in (3, 64)
    )
    np.testing.assert_allclose(few.risk, many.risk, rtol=1e-7)
    assert (many.status == 0).all()


def test_a_launch_holds_runs_of_many_cells_of_as_many_steps():
    """As wide as is asked for, but that some launches remain for other cores; and as the grid has it, whatever is
    still to be done."""
    from tts_jax.sweeps.results import Layout

    axes = {"epsilon": [1.0, 0.5], "eta": np.linspace(0.01, 0.1, 20).tolist(), "neurons": [3, 8]}
    grid = Grid(tts.SGD(1.0, 1e-2), PROBLEM, [0.0, 1.0], 4, uniform_start, axes)
    layout = Layout(grid, kept.Kept(None, False, False), {})
    chunks, places = layout.chunks(), {"SGD": [None]}
    launches = launch.launches_of(chunks, layout, places, 32, 4)
    assert {(one.width, len(one.chunks)) for one in launches} == {(8, 8)}
    assert all(len({chunk.cell.steps for chunk in one.chunks}) == 1 for one in launches)
    assert len({chunk.cell.program for chunk in chunks}) == 1
    assert sum(len(one.chunks) for one in launches) == len(chunks) == 80
    (last,) = launch.launches_of(chunks[-3:], layout, places, 32, 4)
    assert (last.width, len(last.chunks)) == (8, 3)
    assert {one.width for one in launch.launches_of(chunks, layout, places, 10**6, 8)} == {5}


def test_how_many_lanes_fill_a_device_is_measured(monkeypatch):
    device = jax.devices()[0]
    assert width.lanes_for(device, 100) == width.ON_CPU
    monkeypatch.setattr(width, "CANDIDATES", (4, 8, 16))
    monkeypatch.setattr(width, "_seconds", lambda _, lanes: max(lanes, 8.0))
    assert width.filling.__wrapped__(device) == 8
    monkeypatch.undo()
    assert width._seconds(device, 4) > 0


def test_what_cannot_be_sharded_runs_on_each_device():
    """On any device that is named, with the results of the default one; several, with those of one."""
    limit = tts.TwoTimescaleLimit()
    places = launch.places_of(limit, [jax.devices()[0]] * 2)
    assert places == [jax.devices()[0]] * 2
    one, two = (
        tts.sweep(limit, PROBLEM, [0.0, 0.1], seeds=3, neurons=4, devices=devices, progress=False)
        for devices in (None, [jax.devices()[0]] * 2)
    )
    np.testing.assert_allclose(one.risk, two.risk, rtol=1e-9)


def test_a_dataset_says_what_its_numbers_are(runs):
    data = tts.sweep(
        tts.GradientFlow(0.1), PROBLEM, [0.0, 0.1], seeds=2, neurons=4, eta=0.05, weights=True, progress=False
    )
    for name in (*data.data_vars, *(name for name in data.coords if name != "neurons")):
        assert data[name].attrs["long_name"], name
    np.testing.assert_array_equal(data.jump_position, [0.3, 0.6])
    assert data.jump_position.dims == ("jump",)
    np.testing.assert_array_equal(data.neuron, range(4))
    np.testing.assert_array_equal(data.piece, range(3))
    assert data.hit_time.attrs["units"] == data.slow_time.attrs["units"] == "slow time"
    assert set(json.loads(runs.attrs["configuration"])["measure"]) == {"test loss", "accuracy", "outputs"}
