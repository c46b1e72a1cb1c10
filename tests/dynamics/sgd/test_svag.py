"""Stochastic variance amplified gradients: their steps by hand, their first two moments, and what they tend to."""

import itertools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import tts_jax as tts

EPSILON, H, L = 0.05, 1e-2, 3
CASE = reference.small_case()
MODEL, STAIRS = reference.build(CASE)
PROBLEM = tts.Regression(STAIRS.target, 0.6)
TIMES = EPSILON * H * np.array([0, 30, 95, 200])
KEY = jax.random.key(3)


def simulate(times=TIMES, model=MODEL, problem=PROBLEM, key=KEY, epsilon=EPSILON, h=H, given=None, **options):
    return tts.simulate(tts.SGD(epsilon, h, **options), model, problem, times, key=key, **(given or {}))


def by_hand(x, y):
    """Bias, weights and positions after SVAG steps with batches of two samples, a row for both batches of a step."""
    state, (spread, size) = np.array([CASE.bias, *CASE.weights, *CASE.positions]), (np.sqrt(2 * L - 1), H / L)
    shares = np.array([1 + spread, 1 + spread, 1 - spread, 1 - spread]) / 4
    for row in zip(x, y, strict=True):
        b, a, u = state[0], state[1:5], state[5:]
        move = np.zeros_like(state)
        for share, x_i, y_i in zip(shares, *row, strict=True):
            z = (x_i - u) / CASE.eta
            tangent = [1.0], reference.step(z), -EPSILON * a * reference.step_slope(z) / CASE.eta
            move += share * 2 * (b + a @ reference.step(z) - y_i) * np.concatenate(tangent)
        state = state - size * move
    return state


@pytest.mark.parametrize("adjoint", [None, diffrax.ForwardMode()], ids=["closed form", "automatic differentiation"])
def test_steps_by_hand(adjoint):
    rng, steps = np.random.default_rng(0), 7
    x, y = rng.uniform(size=(steps * L, 4, 1)), rng.normal(size=(steps * L, 4))
    run = simulate([0.0, EPSILON * H * steps], batch_size=2, svag=L, adjoint=adjoint, given={"samples": (x, y)})
    np.testing.assert_allclose(reference.states(run)[-1], by_hand(x[..., 0], y), rtol=1e-12)
    assert (run.step.tolist(), int(run.stats.steps), run.stats.method) == ([0, steps], L * steps, "SVAG")


def test_mean_and_covariance_of_a_step():
    """Of a step of SGD with all draws of two labels out of three, where the gradient is the label."""
    labels, level = np.array([-1.0, 0.5, 4.0]), tts.ShallowNetwork(np.zeros((1, 1)), [[2.0]], 0.0, tts.SmoothStep(0.1))
    data = tts.Dataset(np.zeros((3, 1)), labels, loss=lambda prediction, label: prediction * label)
    draws = np.array(list(itertools.product(labels, repeat=4))).reshape(-1, 2, 2)

    @reference.quick_jit
    @jax.vmap
    def bias(y):
        given = {"samples": (jnp.zeros((2, 2, 1)), y)}
        return simulate(jnp.array([H]), level, data, epsilon=1.0, svag=2, given=given).model.bias[-1]

    moves = np.asarray(bias(jnp.asarray(draws))) / -H
    assert len(moves) == 81
    np.testing.assert_allclose(moves.mean(), labels.mean(), rtol=1e-12)
    np.testing.assert_allclose(2**2 * moves.var() / 2, 2 * labels.var(), rtol=1e-12)  # (h/l)^2 times l Sigma, l times


def test_many_steps_tend_to_the_diffusion():
    """The mean of SGD differs from that of the diffusion, of SVAG by so much less as its steps are more."""
    rows = tts.Dataset(np.array([[-2.0], [0.5], [3.0]]), np.array([1.0, -2.0, 2.0]))
    deep = eqx.nn.MLP(1, "scalar", 1, 1, lambda z: z, key=KEY)
    deep = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.7) if eqx.is_array(leaf) else leaf, deep)
    slow, h, runs = (lambda m: m.layers[0]), 0.02, 8000

    def ends(dynamics, key):
        def run(key):
            return tts.simulate(dynamics, deep, rows, jnp.array([5 * h]), key=key).model.layers[0].weight[-1, 0, 0]

        many = jax.jit(jax.vmap(run), compiler_options=reference.OPTIMISED)
        return np.asarray(many(jax.random.split(key, runs)))

    keys = jax.random.split(KEY, 4)
    sde = ends(tts.SGDDiffusion(0.5, h, slow=slow, substeps=32), keys[0])
    one, four, many = (
        ends(tts.SGD(0.5, h, slow=slow, svag=n), key) for n, key in zip((1, 4, 32), keys[1:], strict=True)
    )
    error = np.sqrt(2 * sde.var() / runs)
    gaps = np.array([each.mean() - sde.mean() for each in (one, four, many)])
    assert abs(gaps[0]) > 12 * error
    assert abs(gaps[1] - gaps[0] / 4) < 0.1 * abs(gaps[0]) + 4 * error
    assert abs(gaps[2] - gaps[0] / 32) < 4 * error


def test_one_is_plain_sgd():
    plain, one = simulate(batch_size=2), simulate(batch_size=2, svag=1)
    np.testing.assert_array_equal(reference.states(one), reference.states(plain))
    assert plain.stats.method == one.stats.method == "SGD"


def test_clocks_going_on_checkpoints_and_lanes(tmp_path):
    """Blocks of 256 steps of SVAG share their samples; no save lies at the end of one."""
    options, file = {"svag": L, "given": {"checkpoint": tmp_path / "run.checkpoint"}}, tmp_path / "run.checkpoint"
    whole = simulate(svag=L)
    first = simulate(TIMES[:3], **options)
    assert file.exists()
    for rest in (first.then(simulate(TIMES[2:], first, svag=L)), simulate(**options)):
        np.testing.assert_array_equal(reference.states(rest), reference.states(whole))
        np.testing.assert_array_equal(rest.step, [0, 30, 95, 200])
    np.testing.assert_allclose(whole.fast_time, H * np.asarray(whole.step), rtol=1e-14)
    assert tts.SGD(EPSILON, H, svag=L).steps(TIMES) == whole.stats.steps == 200 * L
    lanes = jax.jit(jax.vmap(lambda key: simulate(jnp.asarray(TIMES), key=key, svag=L)))(jnp.stack([KEY, KEY]))
    reference.close(reference.states(lanes)[1], reference.states(whole), 1e-11)
    seen = []
    simulate(svag=L, given={"progress": lambda *done: seen.append(done)})
    assert seen[-1] == (200 * L, 200 * L)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"svag": 0}, ["svag must be an integer of at least 1", "got 0"]),
        ({"svag": 1.5}, ["svag", "got 1.5"]),
        ({"svag": 2, "optimizer": optax.sgd(H)}, ["svag=2 and optimizer"]),
        ({"svag": 2, "reshuffle": True}, ["svag=2 and reshuffle=True"]),
        ({"svag": 2, "batch_size": None}, ["svag=2 and batch_size=None"]),
    ],
)
@pytest.mark.usefixtures("annotations_off")
def test_what_has_no_amplified_gradient_is_refused(options, said):
    reference.refuses(lambda: tts.SGD(EPSILON, H, **options), *said)


@pytest.mark.usefixtures("annotations_off")
def test_samples_hold_both_batches():
    samples = np.zeros((2, 1)), np.zeros(2)
    call = {"svag": 2, "given": {"samples": samples}}
    reference.refuses(lambda: simulate([EPSILON * H], **call), "batch_size=2", "(2, 1)")
