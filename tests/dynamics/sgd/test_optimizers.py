"""What an optimiser sees, and which are taken: against loops by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import tts_jax as tts

EPSILON, H, STEPS = 0.1, 0.05, 20
X = np.random.default_rng(0).uniform(-1, 1, (12, 2))
Y = 3 * np.sin(3 * X[:, 0]) * X[:, 1]
DATA = tts.Dataset(X, Y)
MODEL = eqx.nn.MLP(2, "scalar", 4, 1, jnp.tanh, key=jax.random.key(1))
TIMES = EPSILON * H * np.arange(STEPS + 1)


def first_layer(model):
    return model.layers[0]


def weights_and_biases(weight, bias, model=MODEL):
    """A label for each leaf, in a tree of the model's structure: one of Equinox, which can be called."""
    labels = jax.tree.map(lambda _: weight, model)
    return eqx.tree_at(lambda m: [layer.bias for layer in m.layers], labels, [bias, bias])


def descend(optimizer):
    dynamics = tts.SGD(EPSILON, H, None, slow=first_layer, optimizer=optimizer)
    with jax.numpy_dtype_promotion("standard"):  # Optax itself promotes
        return reference.quick(lambda: tts.simulate(dynamics, MODEL, DATA, TIMES))


def leaves(model):
    return [np.asarray(leaf) for layer in model.layers for leaf in (layer.weight, layer.bias)]


SPEEDS = EPSILON, EPSILON, 1.0, 1.0


def by_hand(update):
    """`update(gradients, step)` of all four leaves at once, in NumPy; then epsilon for the first layer."""
    gradient = eqx.filter_jit(eqx.filter_grad(lambda model: DATA.risk(model)))
    model, path = MODEL, [leaves(MODEL)]
    for step in range(STEPS):
        updates = update(leaves(gradient(model)), step)
        path.append([leaf + speed * new for leaf, speed, new in zip(path[-1], SPEEDS, updates, strict=True)])
        model = eqx.tree_at(lambda m: [leaf for n in m.layers for leaf in (n.weight, n.bias)], model, path[-1])
    return [np.stack(column) for column in zip(*path, strict=True)]


def clipped(gradients, step):
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
    return [-0.05 * g * min(1.0, 0.2 / norm) for g in gradients]


def clipped_by_group(gradients, step):
    return clipped(gradients[:2], step) + clipped(gradients[2:], step)


def by_label(gradients, step):
    return [-rate * g for rate, g in zip((0.05, 0.01, 0.05, 0.01), gradients, strict=True)]


class EveryThird:
    """The mean of three gradients, every third step."""

    def __init__(self):
        self.seen = []

    def __call__(self, gradients, step):
        self.seen.append(gradients)
        mean = [-0.05 * sum(each) / 3 for each in zip(*self.seen[-3:], strict=True)]
        return mean if step % 3 == 2 else [0 * g for g in gradients]


ARRAYS = eqx.filter(MODEL, eqx.is_array)
CLIPPED = optax.chain(optax.clip_by_global_norm(0.2), optax.sgd(0.05))
TWO_RATES = {"w": optax.sgd(0.05), "b": optax.sgd(0.01)}


@pytest.mark.parametrize(
    ("optimizer", "update"),
    [
        (CLIPPED, clipped),
        ((CLIPPED, CLIPPED), clipped_by_group),
        (optax.partition(TWO_RATES, weights_and_biases("w", "b")), by_label),
        (optax.multi_transform(TWO_RATES, weights_and_biases("w", "b", ARRAYS)), by_label),
        (optax.chain(optax.identity(), optax.partition(TWO_RATES, weights_and_biases("w", "b"))), by_label),
        (optax.MultiSteps(optax.sgd(0.05), 3, accumulator_dtype=float), EveryThird()),
    ],
    ids=["one sees all", "a pair sees its groups", "labels", "multi_transform", "within a chain", "MultiSteps"],
)
def test_an_optimiser_against_a_loop_by_hand(optimizer, update):
    got, want = descend(optimizer), by_hand(update)
    assert got.status == tts.Status.SUCCESSFUL
    for one, other in zip(leaves(got.model), want, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)
        assert np.ptp(other, axis=0).max() > 1e-3


def test_labels_within_multi_steps_of_labels():
    inner = optax.partition(TWO_RATES, weights_and_biases("w", "b"))
    got = descend(optax.MultiSteps(inner, 1, accumulator_dtype=float))
    for one, other in zip(leaves(got.model), by_hand(by_label), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (0.01, ["optimizer", "got 0.01", "optax.adam(1e-3)"]),
        ("adam", ["got 'adam'"]),
        (optax.adam, ["got adam, not called"]),
        ([optax.adam(1e-3), optax.adam(1e-3)], ["got list"]),
        ((optax.adam(1e-3), 0.1), ["got 0.1"]),
        ((optax.adam(1e-3),), ["2 of them", "got 1"]),
        (optax.lookahead(optax.adam(1e-3), 5, 0.5), ["optax.lookahead"]),
        (optax.lbfgs(1e-3), ["value, grad, and value_fn"]),
        (optax.polyak_sgd(), ["needs value"]),
        (optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()), ["needs value"]),
    ],
)
def test_refuses_when_made(optimizer, said):
    reference.refuses(lambda: tts.SGD(0.1, 1e-3, optimizer=optimizer), *said)


def test_refuses_before_a_run_what_labels_hid():
    hidden = optax.partition({"w": optax.polyak_sgd(), "b": optax.sgd(0.1)}, weights_and_biases("w", "b"))
    dynamics = tts.SGD(0.1, 1e-3, slow=first_layer, optimizer=hidden)
    reference.refuses(lambda: tts.simulate(dynamics, MODEL, DATA, [0.0, 1e4], key=jax.random.key(0)), "needs value")
