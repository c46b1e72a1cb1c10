"""Functions that a sweep is given: what they return, what they are called, and whether they are still the same."""

import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import tts_jax as tts
from tts_jax._fingerprint import digest
from tts_jax.sweeps import network

X = np.random.default_rng(0).uniform(-1.0, 1.0, (12, 2))
TRAIN, TEST = (tts.Dataset(x, x[:, 0] * x[:, 1]) for x in (X[:8], X[8:]))
TIMES = [0.0, 0.2]


class Perceptron(eqx.Module):
    inner: jax.Array
    outer: jax.Array
    bend: object = eqx.field(static=True)

    def __call__(self, x):
        return jnp.sum(self.outer * self.bend(self.inner @ x))


def init(key, width=3, halved=False, bend=jnp.tanh, **_):
    return Perceptron(jax.random.normal(key, (width, 2)), jnp.ones(width) / (2.0 if halved else 1.0), bend)


def swept(**given):
    sgd = tts.SGD(0.1, 0.05, slow=lambda model: model.inner)
    return tts.sweep(sgd, TRAIN, TIMES, **({"seeds": 2, "init": init, "progress": False} | given))


def first(model):
    return model.inner[0, 0]


# What a measure returns.


def test_a_tuple_is_a_vector():
    runs = swept(measure={"pair": lambda model: (model.inner[0, 0], model.inner[1, 1]), "matrix": lambda m: m.inner})
    np.testing.assert_array_equal(runs["pair"], runs.matrix.values[..., [0, 1], [0, 1]])


def test_types_of_all_networks_are_kept():
    """An integer of one and a number of another: neither is cut."""
    runs = swept(measure={"n": lambda model: 7 if len(model.outer) == 3 else model.inner[0, 0]}, width=[3, 4])
    assert (runs.n.sel(width=3) == 7).all()
    assert (abs(runs.n.sel(width=4)) % 1 > 0).all()


def test_a_type_that_no_store_has_is_stored_as_float32(tmp_path):
    pytest.importorskip("zarr")
    measure = {"short": lambda model: model.inner[0, 0].astype(jnp.bfloat16)}
    runs = swept(measure=measure, store=tmp_path / "run.zarr")
    assert runs.short.dtype == np.float32
    assert runs.equals(swept(measure=measure))


@pytest.mark.parametrize(
    "value", [None, "text", {"a": 1.0}, (1.0, jnp.ones(2)), jax.random.key(0)], ids=lambda value: type(value).__name__
)
def test_what_is_no_number_is_refused(value):
    reference.refuses(lambda: swept(measure={"n": lambda _: value}), "measure['n']", "a number or an array", "got")


# Names, which are those of folders too.


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "zarr.json", "__x", "width", "seed", "slow_time", "jump", "dynamics"]
)
def test_names_that_are_taken_or_lead_elsewhere(name, tmp_path):
    beside = tmp_path / "beside.txt"
    beside.touch()
    reference.refuses(
        lambda: swept(measure={name: first}, width=[2, 3], store=tmp_path / "run.zarr"), f"measure {name!r}", "choose"
    )
    assert list(tmp_path.iterdir()) == [beside]


@pytest.mark.parametrize("name", ["risk", "status", "seed", "slow_time", "..", "a/b"])
@pytest.mark.parametrize("values", [[1.0, 2.0], 1.0])
def test_axes_of_such_names(name, values):
    reference.refuses(lambda: swept(**{name: values}), f"axis {name!r}", "choose")


# Whether they are the same.

SCALE = 1.0
HELD_BACK = TRAIN


def redefined(function, **globals_):
    """As if a script with other values had been run again."""
    return types.FunctionType(function.__code__, function.__globals__ | globals_, function.__name__, (3,))


def scaled(model, width=3):
    return jnp.sum(jax.vmap(lambda row: jnp.sum(row) * SCALE)(model.inner))


def held_back(model, width=3):
    return HELD_BACK.risk(model)


def scaled_start(key, width=3):
    return eqx.tree_at(lambda model: model.outer, init(key, width), replace_fn=lambda outer: outer * SCALE)


def test_a_store_of_functions_that_have_changed_is_refused(tmp_path):
    pytest.importorskip("zarr")
    given = {"init": scaled_start, "measure": {"scaled": scaled, "test": held_back}, "store": tmp_path / "run.zarr"}
    runs = swept(**given)
    assert swept(**given).equals(runs)
    changed = {
        "code.measure scaled:": {"measure": {"scaled": redefined(scaled, SCALE=2.0), "test": held_back}},
        "code.measure test:": {"measure": {"scaled": scaled, "test": redefined(held_back, HELD_BACK=TEST)}},
        "code.init:": {"init": redefined(scaled_start, SCALE=2.0)},
    }
    for difference, other in changed.items():
        reference.refuses(lambda other=other: swept(**given | other), "holds another sweep", difference)


def test_data_that_a_measure_names_are_those_of_now(monkeypatch):
    before = swept(measure={"test": held_back})
    monkeypatch.setattr(f"{__name__}.HELD_BACK", TEST)
    now = swept(measure={"test": held_back})
    assert not np.allclose(before.test, now.test)
    np.testing.assert_allclose(now.test, swept(measure={"test": TEST.risk}).test, rtol=1e-9)


def test_a_function_is_the_same_wherever_it_was_read():
    """Also where it is of another module, and names one or a variable that is not there yet."""

    def made():
        import numpy

        if SCALE < 0:
            unbound = None
        return lambda x: (numpy.sin(x), unbound)

    elsewhere = types.FunctionType(
        init.__code__, init.__globals__ | {"__name__": "elsewhere"}, "init", init.__defaults__
    )
    assert (elsewhere.__module__, init.__module__) == ("elsewhere", __name__)
    assert digest(elsewhere) == digest(init)
    assert digest(made()) == digest(made())


def test_a_configuration_does_not_hold_the_data():
    rows = np.random.default_rng(1).normal(size=(1000, 2))
    sgd = tts.SGD(0.1, 0.05, slow=lambda model: model.inner)
    texts = {
        tts.sweep(sgd, tts.Dataset(x, x[:, 0]), [0.0], seeds=1, init=init, progress=False).attrs["configuration"]
        for x in (rows, rows + 1e-9)
    }
    assert len(texts) == 2
    assert all(len(text) < 2000 for text in texts)


# Networks that come back.


class ByName(eqx.Module):
    layers: dict

    def __call__(self, x):
        return jnp.sum(jnp.tanh(self.layers["in/weight"] @ x))


def test_leaves_whose_names_are_paths(tmp_path):
    pytest.importorskip("zarr")
    sgd = tts.SGD(0.1, 0.05, slow=lambda model: model.layers["in/weight"])
    runs = tts.sweep(
        sgd, TRAIN, TIMES, seeds=2, keep="model", store=tmp_path / "run.zarr", progress=False,
        init=lambda key: ByName({"in/weight": jax.random.normal(key, (3, 2))}),
    )  # fmt: skip
    got = network.model(runs, seed=1).layers["in/weight"]
    np.testing.assert_array_equal(got, runs["model.layers['in:weight']"].sel(seed=1)[-1])


def test_truths_are_an_axis():
    runs = swept(halved=[True, False], keep="model")
    assert runs.halved.dtype == bool
    whole, half = (network.model(runs, seed=1, halved=halved) for halved in (False, True))
    np.testing.assert_array_equal(whole.inner.shape, half.inner.shape)
    np.testing.assert_array_equal(half.outer, runs["model.outer"].sel(seed=1, halved=True)[-1])
    reference.refuses(lambda: network.model(runs, halved=True), "which seed?", "e.g. seed=0")


def test_functions_of_one_name_are_told_apart(monkeypatch):
    def start(bend):
        def init(key):
            return Perceptron(jax.random.normal(key, (3, 2)), jnp.ones(3), bend)

        init.__qualname__ = "init"
        return init

    sines, tangents = (swept(init=start(bend), keep="model") for bend in (jnp.sin, jnp.tanh))
    assert network.model(sines, seed=1).bend is jnp.sin
    assert network.model(tangents, seed=1).bend is jnp.tanh
    monkeypatch.setattr(network, "_known", {})  # as in another process
    with pytest.warns(UserWarning, match="init=init has changed since the sweep"):
        network.model(sines, seed=1, init=start(jnp.tanh))


def test_a_setting_that_is_no_number_is_asked_for(monkeypatch):
    runs = swept(bend=jnp.sin, keep="model")
    monkeypatch.setattr(network, "_known", {})
    reference.refuses(lambda: network.model(runs, seed=1, init=init), "init was given bend", "bend=...")
    assert network.model(runs, seed=1, init=init, bend=jnp.sin).bend is jnp.sin


# What makes an axis.


def test_an_optimiser_is_one_value():
    assert swept(optimizer=optax.sgd(0.5)).risk.dims == ("seed", "slow_time")
    assert swept(optimizer=[optax.sgd(0.5), optax.sgd(0.1)]).risk.dims == ("optimizer", "seed", "slow_time")


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("values", [{3, 5}, (width for width in (3, 5))], ids=["set", "generator"])
def test_values_without_order_are_refused(values):
    reference.refuses(lambda: swept(width=values), "axis width", "got", "pass a list")


# What is said of the results.


def test_every_axis_has_a_name():
    runs = swept(width=[2, 3], batch_size=[1, None], halved=True)
    assert all(runs[name].attrs["long_name"] for name in runs.coords)


def test_a_loss_is_not_called_a_squared_error():
    loss = tts.Dataset(X, (X[:, 0] > 0).astype(int), loss=optax.sigmoid_binary_cross_entropy)
    sgd = tts.SGD(0.1, 0.05, slow=lambda model: model.inner)
    runs = tts.sweep(sgd, loss, TIMES, seeds=2, init=init, progress=False)
    assert runs.risk.attrs["long_name"] == "mean loss"
    assert tts.plot.sweep(runs).axes[0].get_ylabel() == "mean loss"
    norm = tts.NormDataset(X, X[:, 0])
    runs = tts.sweep(sgd, norm, TIMES, seeds=2, init=init, progress=False)
    assert runs.risk.attrs["long_name"] == "norm of the residuals over their number"


def test_lanes_are_no_fewer_than_a_chunk():
    assert swept(seeds=8, lanes=1).attrs["lanes"] == "8"
