"""Nothing is frozen in silence: what looks like a parameter trains, is named in a warning, or is refused."""

import importlib
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts

STEP = tts.SmoothStep(0.3)
POSITIONS = np.array([[0.2], [0.5], [0.8]])
DATA = tts.Dataset(np.linspace(0, 1, 9)[:, None], np.linspace(1, 2, 9))


def trained(model, problem=DATA):
    return reference.quick(lambda: tts.simulate(tts.SGD(0.5, 0.05, None), model, problem, [0.0, 1.0])).at(-1)


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("problem", [DATA, tts.Regression(tts.PiecewiseConstant([0.5], [1, 2]))], ids=["data", "exact"])
@pytest.mark.parametrize(
    ("weights", "bias"),
    [
        (np.zeros((3, 1), int), 0.0),
        ([[0], [0], [0]], 0),
        (np.zeros((3, 1)), np.array(0)),
        (jnp.zeros((3, 1), int), jnp.array(0)),
    ],
    ids=["NumPy integers", "lists", "NumPy floats", "JAX integers"],
)
def test_whatever_a_network_is_made_from_trains(weights, bias, problem):
    want = trained(tts.ShallowNetwork(jnp.zeros((3, 1)), jnp.asarray(POSITIONS), jnp.zeros(()), STEP), problem)
    got = trained(tts.ShallowNetwork(weights, POSITIONS.tolist(), bias, STEP), problem)
    assert np.all(got.weights != 0)
    assert got.bias != 0
    for name in ("weights", "positions", "bias"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


@pytest.mark.usefixtures("annotations_off")
def test_a_perceptron_from_lists_trains():
    teacher = tts.PerceptronNetwork([1], [[1, 0]], tts.ReLU())
    got = trained(tts.PerceptronNetwork([0, 1], [[1, 1], [0, 1]], tts.ReLU()), tts.GaussianRegression(teacher))
    assert np.all(np.asarray(got.weights) != [0, 1])
    assert got.directions.dtype == teacher.weights.dtype == float


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tts.ShallowNetwork(None, POSITIONS, 0.0, STEP), ["weights", "got NoneType"]),
        (lambda: tts.ShallowNetwork([["a"]], [[0.5]], 0.0, STEP), ["weights", "text (a)"]),
        (lambda: tts.ShallowNetwork([[1j]], [[0.5]], 0.0, STEP), ["weights", "complex"]),
        (lambda: tts.ShallowNetwork([[1.0], [1.0, 2.0]], [[0.5]], 0.0, STEP), ["weights", "rows of different lengths"]),
        (lambda: tts.ShallowNetwork([[1.0]], [[0.5]], [0.0, 1.0], STEP), ["bias", "got shape (2,)"]),
        (lambda: tts.ShallowNetwork([1.0], [0.5], 0.0, STEP), ["(neurons, dimension)", "(1,) and (1,)"]),
        (lambda: tts.PerceptronNetwork([1.0], [[1j]], tts.ReLU()), ["directions", "complex"]),
        (lambda: tts.PerceptronNetwork([], np.zeros((0, 2)), tts.ReLU()), ["(neurons, inputs)", "(0, 2)"]),
        (lambda: tts.ShallowNetwork.init(0, 3, STEP), ["key", "got 0"]),
        (lambda: tts.PerceptronNetwork.init(0, 3, 2, tts.ReLU()), ["key", "got 0"]),
        (lambda: tts.ShallowNetwork.init(jax.random.key(0), 3, STEP, weight_range=[1, 2]), ["weight_range", "(2,)"]),
        (lambda: tts.SmoothStep(np.ones((2, 2))), ["eta", "(2, 2)"]),
        (lambda: tts.PiecewiseConstant([0.5j], [1.0, 2.0]), ["jumps", "complex"]),
        (lambda: tts.PiecewiseConstant([0.5], ["a", "b"]), ["values", "text"]),
        (lambda: tts.PiecewiseLinear([0.5], [1.0], intercept=[1.0, 2.0]), ["intercept", "(2,)"]),
        (lambda: tts.PiecewiseLinear([0.5], [1j]), ["slopes", "complex"]),
        (lambda: tts.SmoothTarget(3.0), ["function", "got 3.0"]),
        (lambda: tts.SmoothTarget(jnp.sin, tolerance=[1e-3, 1e-4]), ["tolerance", "(2,)"]),
        (lambda: tts.GradientFlow([1e-3, 1e-2]), ["epsilon", "(2,)"]),
        (lambda: tts.GradientFlow(1e-3, rtol=1e-3j), ["rtol", "complex"]),
        (lambda: tts.GradientFlow(1e-3, atol=[]), ["atol", "(0,)"]),
        (lambda: tts.SGD("1e-3", 1e-3), ["epsilon", "text (1e-3)"]),
        (lambda: tts.SGD(1e-3, True), ["step_size", "truth values"]),
        (lambda: tts.ReducedFlow(np.ones(1)), ["ridge", "(1,)"]),
        (lambda: tts.Regression(tts.PiecewiseConstant([0.5], [1, 2]), noise=[]), ["noise", "(0,)"]),
        (lambda: tts.GaussianRegression(tts.PerceptronNetwork([1], [[1]], tts.ReLU()), 1j), ["noise", "complex"]),
        (
            lambda: tts.GaussianRegression(tts.PerceptronNetwork(np.ones((2, 1)), np.ones((2, 1, 1)), tts.ReLU())),
            ["one network", "(2, 1, 1)"],
        ),
    ],
)
def test_refuses(make, said):
    reference.refuses(make, *said)


def test_scalars_may_be_traced():
    def epsilon(value):
        flow = tts.GradientFlow(value, rtol=value, atol=value)
        return flow.epsilon + tts.SGD(value, value).step_size + tts.SmoothStep(value).eta

    np.testing.assert_allclose(jax.vmap(epsilon)(jnp.array([1.0, 2.0])), [3.0, 6.0])
    assert jax.jit(epsilon)(1) == 3


class Line(eqx.Module):
    """A model of a user's."""

    slope: jax.Array
    offset: jax.Array

    def __call__(self, x):
        return jnp.sum(self.slope * x) + self.offset


LINEAR = tts.SGD(0.5, 0.05, None, slow=lambda m: m.slope)


def line(offset, slope=1.0):
    return tts.simulate(LINEAR, Line(jnp.full(1, slope), offset), DATA, [0.0, 1.0])


@pytest.mark.parametrize("offset", [jnp.array(0), np.array(0), np.int64(0)], ids=["JAX", "NumPy", "a NumPy number"])
def test_integer_leaves_are_named_in_a_warning(offset):
    importlib.import_module("tts_jax.simulate")._say_once.cache_clear()
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.warns(UserWarning, match=r"Line\.offset does not train.*int64") as said,
    ):
        runs = [reference.quick(lambda: line(offset)) for _ in range(2)]
    assert len(said) == 1
    assert not runs[0].at(-1).offset.any()


def test_leaves_that_train_are_not_named():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reference.quick(lambda: line(jnp.array(0.0))).at(-1).offset != 0


@pytest.mark.parametrize("dynamics", [LINEAR, tts.GradientFlow(0.5, slow=lambda m: m.slope)], ids=["SGD", "flow"])
def test_complex_leaves_are_refused(dynamics):
    model = Line(jnp.ones(1), jnp.array(1j))
    reference.refuses(
        lambda: tts.simulate(dynamics, model, DATA, [0.0, 1.0]), "only real leaves train", "complex128 in Line.offset"
    )
