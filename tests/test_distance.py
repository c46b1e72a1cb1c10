"""The distance of two networks, or two runs, as functions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts

ETAS = np.array([4e-3, 0.05, 0.3, 0.9, 1.7])


def network(rng, neurons, activation, span=(-0.2, 1.2), bias=True):
    return tts.ShallowNetwork(
        jnp.asarray(rng.normal(size=(neurons, 1))),
        jnp.asarray(rng.uniform(*span, (neurons, 1))),
        jnp.asarray(rng.normal()) if bias else None,
        activation,
    )


def pairs(seed, count, neurons=8):
    """Stacks of networks of the same and of different widths."""
    rng = np.random.default_rng(seed)
    networks = [network(rng, neurons, tts.SmoothStep(eta)) for eta in rng.choice(ETAS, 2 * count)]
    return reference.stack(networks[:count]), reference.stack(networks[count:])


def value(model, x):
    """NumPy's value at one point."""
    z = x - np.ravel(model.positions)
    steps = z >= 0 if isinstance(model.activation, tts.Heaviside) else reference.step(z / float(model.activation.eta))
    return float(model.bias or 0) + np.ravel(model.weights) @ steps


def kinks(model):
    widths = (
        (0.0,) if isinstance(model.activation, tts.Heaviside) else (-0.5, 0, 0.5) * np.asarray(model.activation.eta)
    )
    return np.concatenate([np.ravel(model.positions) + width for width in widths])


def by_quadrature(a, b):
    return np.sqrt(reference.integral(lambda x: (value(a, x) - value(b, x)) ** 2, np.concatenate([kinks(a), kinks(b)])))


distances = reference.quick_jit(jax.vmap(tts.distance))


def test_smooth_steps_of_all_widths():
    a, b = pairs(0, 20)
    got = distances(a, b)
    for i in range(20):
        want = by_quadrature(*jax.tree.map(lambda leaf, i=i: leaf[i], (a, b)))
        assert got[i] == pytest.approx(want, abs=1e-13)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("other", [tts.SmoothStep(0.05), tts.Heaviside()], ids=["smooth", "sharp"])
def test_sharp_steps(other, bias):
    """Also of another number of neurons, and with or without bias."""
    rng = np.random.default_rng(1)
    a, b = network(rng, 5, tts.Heaviside()), network(rng, 8, other, bias=bias)
    assert reference.quick_jit(tts.distance)(a, b) == pytest.approx(by_quadrature(a, b), abs=1e-13)


def test_is_a_metric():
    a, b = pairs(2, 20)
    c, _ = pairs(3, 20)
    assert not np.any(distances(a, a))
    ab, bc, ac = distances(a, b), distances(b, c), distances(a, c)
    np.testing.assert_array_equal(ab, distances(b, a))
    assert np.all(ab > 0)
    assert np.all(ac <= ab + bc + 1e-12)


def test_is_the_risk_of_a_target_that_a_network_can_be():
    """A second closed form: steps at the jumps are the target."""
    target = reference.paper_target()
    exact = tts.ShallowNetwork(target.heights[:, None], target.jumps[:, None], target.values[0], tts.Heaviside())
    model = network(np.random.default_rng(4), 20, tts.SmoothStep(4e-3))
    both = reference.quick_jit(lambda model: (tts.distance(model, exact), tts.Regression(target).risk(model)))
    distance, risk = both(model)
    assert distance**2 == pytest.approx(float(risk), abs=1e-11)


def test_small_distances_are_accurate():
    """Weights that differ by 1e-9: a difference of closed forms would leave 1e-8 of rounding."""
    a, _ = pairs(5, 20)
    nudge = jnp.asarray(np.random.default_rng(6).normal(size=a.weights.shape))
    b = eqx.tree_at(lambda model: model.weights, a, a.weights + 1e-9 * nudge)
    change = eqx.tree_at(lambda model: (model.weights, model.bias), a, (b.weights - a.weights, jnp.zeros(20)))
    nothing = eqx.tree_at(lambda model: model.weights, change, jnp.zeros_like(a.weights))
    np.testing.assert_allclose(distances(a, b), distances(change, nothing), rtol=1e-6)


def test_jit_and_vmap_change_nothing():
    reference.same_under_jit_and_vmap(lambda pair: tts.distance(*pair), pairs(7, 2))


# Of two runs.


def trajectory(models, times):
    """A run through a stack of networks that share an activation."""
    count = len(times)
    return tts.Trajectory(
        slow_time=jnp.asarray(times),
        fast_time=None,
        step=None,
        model=models,
        risk=jnp.zeros(count),
        status=jnp.zeros((), int),
        stats=tts.Stats("made by hand", jnp.zeros((), int), jnp.zeros((), int)),
    )


def run(seed, times, activation, neurons=8):
    rng = np.random.default_rng(seed)
    stacked = reference.stack([network(rng, neurons, tts.Heaviside()) for _ in times])
    stacked = jax.tree.map(jnp.asarray, stacked)
    return trajectory(tts.ShallowNetwork(stacked.weights, stacked.positions, stacked.bias, activation), times)


TIMES = [0.0, 0.5, 2.0]


def test_runs_at_each_time():
    a, b = run(0, TIMES, tts.SmoothStep(0.05)), run(1, TIMES, tts.Heaviside(), neurons=5)
    got = reference.quick_jit(tts.distance)(a, b)
    assert got.shape == (3,)
    for i in range(3):
        assert got[i] == pytest.approx(by_quadrature(a.at(i), b.at(i)), abs=1e-13)
    assert not np.any(reference.quick_jit(tts.distance)(a, a))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([0.0, 0.5], ("got 3 and 2",)),
        ([0.0, 0.5, 2.0, 3.0], ("got 3 and 4",)),
        ([0.0, 0.6, 2.5], ("got 0.5 and 0.6 at index 1",)),
    ],
)
def test_runs_at_other_times_are_refused(times, said):
    a, b = run(0, TIMES, tts.Heaviside()), run(0, times, tts.Heaviside())
    reference.refuses(lambda: tts.distance(a, b), "save times", *said)


def test_times_equal_to_rounding_are_common():
    a, b = run(0, TIMES, tts.Heaviside()), run(0, [0.0, np.nextafter(0.5, 1), 2.0], tts.Heaviside())
    assert tts.distance(a, b).shape == (3,)


@pytest.mark.usefixtures("annotations_off")
def test_other_things_are_refused():
    sharp = tts.Heaviside()
    model = network(np.random.default_rng(0), 3, sharp)
    others = {
        "MLP": eqx.nn.MLP(1, 1, 2, 1, key=jax.random.key(0)),
        "Trajectory": run(0, TIMES, sharp),
        "ShallowNetwork with positions of shape (3, 2)": tts.ShallowNetwork(
            jnp.ones((3, 2)), jnp.ones((3, 2)), None, sharp
        ),
        "ShallowNetwork with positions of shape (3, 8, 1)": run(0, TIMES, sharp).model,
    }
    for name, other in others.items():
        reference.refuses(lambda other=other: tts.distance(model, other), "distance needs", f"got {name}")
        reference.refuses(lambda other=other: tts.distance(other, model), "distance needs", f"got {name}")
