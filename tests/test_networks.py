"""Networks: their values, how they start, and which of their leaves train."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jaxtyping import TypeCheckError
from scipy.stats import kstest

import tts_jax as tts
from tts_jax.networks import trainable

STEP = tts.SmoothStep(0.3)


def init(seed=0, neurons=20, activation=STEP, **options):
    return tts.ShallowNetwork.init(jax.random.key(seed), neurons, activation, **options)


def test_value_in_one_dimension():
    case = reference.random_case(np.random.default_rng(0), 0.3, jumps=1, bias=True, neurons=8)
    model, _ = reference.build(case)
    x = np.linspace(-0.2, 1.2, 29)
    want = [reference.network(case, at) for at in x]
    np.testing.assert_allclose(jax.vmap(model)(x), want, atol=1e-14)
    np.testing.assert_allclose(jax.vmap(model)(x[:, None]), want, atol=1e-14)  # a point, or a vector of one coordinate


@pytest.mark.parametrize("bias", [None, 0.7])
def test_value_in_three_dimensions_is_a_sum_over_coordinates(bias):
    rng = np.random.default_rng(0)
    weights, positions, x = rng.normal(size=(5, 3)), rng.uniform(size=(5, 3)), rng.uniform(size=3)
    model = tts.ShallowNetwork(
        jnp.asarray(weights), jnp.asarray(positions), None if bias is None else jnp.asarray(bias), STEP
    )
    want = (bias or 0) + sum(weights[:, i] @ reference.step((x[i] - positions[:, i]) / 0.3) for i in range(3))
    assert model(jnp.asarray(x)) == pytest.approx(want, abs=1e-14)


def test_start_is_uniform():
    model = init(neurons=20_000, weight_range=3)
    for draws, scale in ((model.positions, 1), (model.weights, 3)):
        assert draws.shape == (20_000, 1)
        assert kstest(np.ravel(draws) / scale, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(np.ravel(model.positions), np.ravel(model.weights))[0, 1]) < 0.03


def test_start_by_default_has_no_weights_and_a_bias_of_zero():
    model = init()
    assert not np.any(model.weights)
    assert model.bias == 0
    assert model.bias.shape == ()
    assert init(bias=False).bias is None
    assert init(neurons=10, dimension=2).positions.shape == (10, 2)


def test_start_depends_on_the_key_alone():
    start = init()
    np.testing.assert_array_equal(init().positions, start.positions)
    assert np.all(init(seed=1).positions != start.positions)
    other = init(activation=tts.Heaviside(), weight_range=3.0, bias=False)
    np.testing.assert_array_equal(other.positions, start.positions)
    np.testing.assert_allclose(init(weight_range=6.0).weights, 2 * other.weights, rtol=1e-15)


def test_jit_and_vmap_change_no_start():
    keys = jax.random.split(jax.random.key(0), 3)
    start = eqx.filter_jit(eqx.filter_vmap(lambda key: tts.ShallowNetwork.init(key, 20, STEP)))(keys)
    for i in range(3):
        np.testing.assert_array_equal(start.positions[i], tts.ShallowNetwork.init(keys[i], 20, STEP).positions)


def test_positions_are_slow():
    model = init()
    assert model.slow is model.positions


def trained(model):
    """The leaves that train, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, trainable(model)))
    return {jax.tree_util.keystr(path) for path, _ in leaves}


@pytest.mark.parametrize("activation", [STEP, tts.SmoothStep(0.3, "box"), tts.Heaviside()], ids=repr)
def test_weights_positions_and_bias_train_and_the_width_does_not(activation):
    assert trained(init(activation=activation)) == {".weights", ".positions", ".bias"}
    assert trained(init(activation=activation, bias=False)) == {".weights", ".positions"}


def test_the_width_in_an_mlp_does_not_train():
    mlp = eqx.nn.MLP(2, 1, 4, 2, STEP, key=jax.random.key(0))
    layers = {f".layers[{i}].{name}" for i in range(3) for name in ("weight", "bias")}
    assert trained(mlp) == layers
    assert eqx.filter_jit(mlp)(jnp.zeros(2)).shape == (1,)


def test_whole_numbers_do_not_train():
    assert trainable({"count": jnp.arange(3), "name": "x", "w": jnp.ones(2)}) == {
        "count": False,
        "name": False,
        "w": True,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neurons": 0}, ("neurons", "got 0")),
        ({"neurons": True}, ("neurons", "got True")),
        ({"dimension": 0}, ("dimension", "got 0")),
        ({"dimension": -2}, ("dimension", "got -2")),
    ],
)
def test_init_refuses(options, said):
    reference.refuses(lambda: init(**options), *said)


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("weights", "positions"),
    [((3, 1), (4, 1)), ((3, 1), (3, 2)), ((3,), (3,)), ((), ()), ((0, 1), (0, 1)), ((2, 0), (2, 0))],
)
def test_refuses_shapes(weights, positions):
    reference.refuses(
        lambda: tts.ShallowNetwork(jnp.ones(weights), jnp.ones(positions), None, STEP), str(weights), "neuron"
    )


def test_annotations_are_enforced():
    """The import hook is on: without it, this suite would check no shape."""
    with pytest.raises(TypeCheckError):
        tts.ShallowNetwork(jnp.ones((3, 1)), jnp.ones((4, 1)), None, STEP)
    with pytest.raises(TypeCheckError):
        tts.SmoothStep(jnp.ones(2))


@pytest.mark.parametrize(("dimension", "shape"), [(1, (3,)), (2, (1,)), (2, ()), (2, (2, 2))])
@pytest.mark.usefixtures("annotations_off")
def test_refuses_inputs_of_another_dimension(dimension, shape):
    """Broadcasting would give a value of its own."""
    model = tts.ShallowNetwork.init(jax.random.key(0), 2, tts.SmoothStep(0.1), dimension)
    reference.refuses(lambda: model(jnp.zeros(shape)), f"shape ({dimension},), got {shape}")
    if shape:
        data = tts.Dataset(jnp.zeros((3, *shape)), jnp.zeros(3))
        reference.refuses(lambda: data.check(model), f"got {shape}")


@pytest.mark.usefixtures("annotations_off")
def test_an_input_may_be_a_list_or_whole_numbers():
    model = tts.ShallowNetwork.init(jax.random.key(0), 2, tts.SmoothStep(0.3), 2, weight_range=1.0)
    assert model([1, 0]) == model(jnp.array([1.0, 0.0]))
    student = tts.PerceptronNetwork.init(jax.random.key(0), 3, 2, tts.ReLU())
    assert student([1, 0]) == student(jnp.array([1.0, 0.0]))
    reference.refuses(lambda: student([1j, 0]), "an input", "complex")
