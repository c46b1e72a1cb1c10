"""SGD as a diffusion: its noise against quadrature, its law against moment equations and many runs of SGD."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax.dynamics.base import Groups, ratios_of
from tts_jax.dynamics.diffusion import Diffusion, increments

NOISE = 0.6
CASE = reference.small_case()
MODEL, STAIRS = reference.build(CASE)
PROBLEM = tts.Regression(STAIRS.target, NOISE)
KEY = jax.random.key(3)
ROWS = np.array([[-1.5, 0.5], [0.3, 2.0], [1.0, -1.0], [2.0, 1.5]]), np.array([1.0, -2.0, 0.5, 3.0])
MLP = eqx.nn.MLP(2, "scalar", 3, 1, jnp.tanh, key=jax.random.key(1))
FIRST = {"slow": lambda m: m.layers[0]}


def diffusion(model, problem, dynamics):
    groups = Groups.of(model, dynamics.slow, dynamics.frozen)
    structure = groups.knows(problem.structure(model))
    settings = dynamics.step_size, dynamics.batch_size, dynamics.substeps, dynamics.adjoint
    ratios = ratios_of(dynamics.epsilon)
    return Diffusion(ratios, *settings, problem, structure, KEY, groups.fixed, groups.labels), groups.moving


def drift_and_covariance(model, problem, dynamics):
    """Of a step of SGD, as vectors of the leaves that move."""
    equation, params = diffusion(model, problem, dynamics)

    @reference.quick_jit
    def found():
        noise = equation.noise(jnp.zeros(()), params, None)
        shape = noise.in_structure().shape
        motions = jnp.eye(int(np.prod(shape))).reshape(-1, *shape)
        columns = jax.vmap(lambda motion: ravel_pytree(noise.mv(motion))[0])(motions)
        return ravel_pytree(equation.drift(jnp.zeros(()), params, None))[0], columns.T @ columns

    return map(np.asarray, found())


def moments_by_quadrature(case, noise, value=reference.step, slope=reference.step_slope, breaks=reference.kinks):
    """Mean and covariance of the gradient of one sample, by weights, positions and bias, from their definitions."""

    def integrand(x):
        z = (x - case.positions) / case.eta
        tangent = 2 * np.concatenate([value(z), -case.weights * slope(z) / case.eta, [1.0]])
        residual = case.bias + case.weights @ value(z) - reference.target_values(case.jumps, case.values, x)
        second = (residual**2 + noise**2 / 3) * np.outer(tangent, tangent)
        return np.concatenate([residual * tangent, second.ravel()])

    parts = reference.integral(integrand, np.concatenate([breaks(case), case.jumps]))
    n = 2 * len(case.weights) + 1
    mean, second = parts[:n], parts[n:].reshape(n, n)
    return mean, second - np.outer(mean, mean)


def speeds(epsilon):
    """Of weights, positions and bias."""
    return np.concatenate([np.ones(4), np.full(4, epsilon), [1.0]])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_drift_and_noise_of_steps(batch_size):
    h, speed = 0.01, speeds(0.2)
    drift, covariance = drift_and_covariance(MODEL, PROBLEM, tts.SGDDiffusion(0.2, h, batch_size))
    mean, want = moments_by_quadrature(CASE, NOISE)
    np.testing.assert_allclose(drift, -h * speed * mean, atol=1e-10)
    np.testing.assert_allclose(covariance, h**2 / batch_size * np.outer(speed, speed) * want, atol=1e-10)


def test_noise_of_rectified_neurons():
    relu = CASE._replace(eta=1.0)
    model = tts.ShallowNetwork(MODEL.weights, MODEL.positions, MODEL.bias, tts.ReLU())
    drift, covariance = drift_and_covariance(model, PROBLEM, tts.SGDDiffusion(1.0, 1.0))
    mean, want = moments_by_quadrature(
        *(relu, NOISE, lambda z: np.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0), lambda case: case.positions)
    )
    np.testing.assert_allclose(drift, -mean, atol=1e-9)
    np.testing.assert_allclose(covariance, want, atol=1e-9)


def test_noise_of_the_box_is_that_of_its_samples():
    """Drift too: SGD with a surrogate does not descend the risk."""
    model = tts.ShallowNetwork(MODEL.weights, MODEL.positions, MODEL.bias, tts.SmoothStep(CASE.eta, "box"))
    drift, covariance = drift_and_covariance(model, PROBLEM, tts.SGDDiffusion(1.0, 1.0))
    mean, want = moments_by_quadrature(CASE, NOISE, slope=lambda z: np.where(np.abs(z) <= 0.5, 1.0, 0.0))
    np.testing.assert_allclose(drift, -mean, atol=1e-9)
    np.testing.assert_allclose(covariance, want, atol=1e-9)


@pytest.mark.parametrize("frozen", [None, lambda m: m.layers[1].bias], ids=["all", "frozen"])
@pytest.mark.parametrize("loss", [None, lambda prediction, label: jnp.log(jnp.cosh(prediction - label))])
def test_noise_of_rows(loss, frozen):
    data = tts.Dataset(*ROWS, loss)
    drift, covariance = drift_and_covariance(MLP, data, tts.SGDDiffusion(1.0, 1.0, 2, **FIRST, frozen=frozen))
    moving = Groups.of(MLP, FIRST["slow"], frozen).moving
    fixed = Groups.of(MLP, FIRST["slow"], frozen).fixed

    def of_row(x, y):
        gradient = jax.grad(lambda moving: data.loss(eqx.combine(moving, fixed), x[None], y[None]))(moving)
        return ravel_pytree(gradient)[0]

    each = np.array([of_row(x, y) for x, y in zip(*map(jnp.asarray, ROWS), strict=True)])
    np.testing.assert_allclose(drift, -each.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(each.T, bias=True) / 2, atol=1e-12)
    assert np.linalg.matrix_rank(covariance) == 3


def test_steps_of_one_motion():
    coarse, fine = (np.asarray(increments(KEY, count, (2, 20_000))) for count in (2, 8))
    np.testing.assert_allclose(fine.reshape(2, 4, 2, -1).sum(axis=1), coarse, atol=1e-14)
    of_each = np.cov(fine.reshape(16, -1))
    np.testing.assert_allclose(of_each, np.eye(16) / 8, atol=5 / 8 / np.sqrt(20_000))


def final(dynamics, model, problem, slow_time, keys):
    """The vectors of the leaves that move, a row for each key."""

    def run(key):
        trajectory = tts.simulate(dynamics, model, problem, jnp.array([slow_time]), key=key)
        return ravel_pytree(Groups.of(trajectory.at(-1), dynamics.slow, dynamics.frozen).moving)[0]

    return np.asarray(jax.jit(jax.vmap(run), compiler_options=reference.OPTIMISED)(keys))


def linear_moments(h, t):
    """Mean and covariance of the weights and the bias of `CASE` at fast time t, from the equations of their moments.

    With features phi, gram G and residual r at theta, of which it is linear, the noise has the covariance
    `4 E (r^2 + noise^2/3) phi phi^T - 4 (G theta - b)(G theta - b)^T`, quadratic in theta.
    """
    x, w = reference.quadrature(np.concatenate([np.linspace(0, 1, 2001), reference.kinks(CASE), CASE.jumps]))
    phi = np.concatenate([reference.step((x - CASE.positions[:, None]) / CASE.eta), np.ones((1, len(x)))])
    y, n = reference.target_values(CASE.jumps, CASE.values, x), len(phi)
    gram, cross = (phi * w) @ phi.T, (phi * w) @ y

    def velocity(t, state):
        mean, second = state[:n], state[n:].reshape(n, n)
        spread = second - np.outer(mean, mean)
        square = (mean @ phi - y) ** 2 + np.einsum("iq,ij,jq->q", phi, spread, phi) + NOISE**2 / 3
        slope = 2 * (gram @ mean - cross)
        sigma = 4 * (phi * w * square) @ phi.T - np.outer(slope, slope) - 4 * gram @ spread @ gram
        turn = -2 * gram @ second + 2 * np.outer(cross, mean)
        return np.concatenate([-slope, (turn + turn.T + h * sigma).ravel()])

    start = np.append(CASE.weights, CASE.bias)
    begin = np.concatenate([start, np.outer(start, start).ravel()])
    end = solve_ivp(velocity, (0, t), begin, rtol=1e-9, atol=1e-11).y[:, -1]
    return end[:n], end[n:].reshape(n, n) - np.outer(end[:n], end[:n])


def test_law_with_held_positions():
    """A linear equation with multiplicative noise: its first two moments are those of their equations."""
    h, steps, runs, still = 0.05, 10, 1500, 1e-12
    found = final(
        tts.SGDDiffusion(still, h, substeps=8), MODEL, PROBLEM, still * h * steps, jax.random.split(KEY, runs)
    )
    found = np.delete(found, np.s_[4:8], axis=1)
    mean, covariance = linear_moments(h, h * steps)
    error = np.sqrt(np.diag(covariance) / runs)
    assert np.max(np.abs(found.mean(axis=0) - mean) / error) < 4
    pairs = np.einsum("ni,nj->nij", found - mean, found - mean)
    assert np.max(np.abs(pairs.mean(axis=0) - covariance) / (pairs.std(axis=0) / np.sqrt(runs))) < 4
    assert np.all(np.diag(covariance) > 100 * error**2)


def test_an_ornstein_uhlenbeck_process():
    """Of a bias alone the gradient is linear, and its covariance constant: both times have a known covariance."""
    labels, h, batch_size, runs = np.array([-1.0, 0.5, 4.0]), 0.01, 2, 4000
    level = tts.ShallowNetwork(np.zeros((1, 1)), [[2.0]], 0.0, tts.SmoothStep(0.1))
    data, times = tts.Dataset(np.zeros((3, 1)), labels), np.array([0.2, 0.6])
    sde = tts.SGDDiffusion(1.0, h, batch_size, substeps=16)

    def biases(key):
        return tts.simulate(sde, level, data, jnp.asarray(times), key=key).model.bias

    found = np.asarray(jax.jit(jax.vmap(biases))(jax.random.split(KEY, runs)))
    at_rest = h / batch_size * labels.var()
    apart, together = np.abs(times[:, None] - times), times[:, None] + times
    covariance = at_rest * (np.exp(-2 * apart) - np.exp(-2 * together))
    variance = np.diag(covariance)
    mean = labels.mean() * (1 - np.exp(-2 * times))
    assert np.max(np.abs(found.mean(axis=0) - mean) / np.sqrt(variance / runs)) < 4
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / runs)
    assert np.max(np.abs(np.cov(found.T) - covariance) / error) < 4


def test_weak_order_one():
    """Means and covariances of SGD and of its diffusion differ by O(h): visibly at 0.01, by a tenth of it at 0.001."""
    rows = tts.Dataset(np.array([[-2.0], [0.5], [3.0]]), np.array([1.0, -2.0, 2.0]))
    deep = eqx.nn.MLP(1, "scalar", 1, 1, lambda z: z, key=KEY)
    deep = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.7) if eqx.is_array(leaf) else leaf, deep)
    runs, gaps, errors = 8_000, [], []
    for h in (1e-2, 1e-3):
        models = tts.SGD(0.5, h, **FIRST), tts.SGDDiffusion(0.5, h, **FIRST)
        moments = []
        for model, key in zip(models, jax.random.split(KEY), strict=True):
            ends = final(model, deep, rows, 0.1, jax.random.split(key, runs))
            about = ends - ends.mean(axis=0)
            moments.append(np.concatenate([ends, about**2, about[:, :1] * about[:, 1:]], axis=1))
        sgd, sde = moments
        gaps.append(sgd.mean(axis=0) - sde.mean(axis=0))
        errors.append(np.sqrt((sgd.var(axis=0) + sde.var(axis=0)) / runs))
    gaps, errors = np.array(gaps), np.array(errors)
    assert np.max(np.abs(gaps[0]) / errors[0]) > 8
    assert np.all(np.abs(10 * gaps[1] - gaps[0]) < 0.3 * np.abs(gaps[0]) + 4 * np.hypot(10 * errors[1], errors[0]))


EPSILON, H = 0.05, 1e-2
TIMES = EPSILON * H * np.array([0, 7, 12.4, 30])
SDE = tts.SGDDiffusion(EPSILON, H)


def simulate(dynamics=SDE, times=TIMES, model=MODEL, problem=PROBLEM, key=KEY, **options):
    return tts.simulate(dynamics, model, problem, times, key=key, **options)


@pytest.fixture(scope="module")
def whole():
    return simulate()


def test_finer_steps_follow_the_same_path():
    """To a strong order of 1/2 at least: four times as many halve the distance. Another key follows another path."""
    keys = jax.random.split(KEY, 40)
    coarse, fine, finest = (
        final(tts.SGDDiffusion(EPSILON, H, substeps=k), MODEL, PROBLEM, 10 * EPSILON * H, keys) for k in (1, 4, 16)
    )

    def apart(one, other):
        return np.sqrt(np.mean((one - other) ** 2))

    assert apart(fine, finest) < 0.65 * apart(coarse, fine)
    assert apart(coarse, fine) < 0.1 * apart(finest[:20], finest[20:])


def test_clocks_risk_and_cost(whole):
    np.testing.assert_array_equal(whole.step, [0, 7, 12, 30])
    np.testing.assert_allclose(whole.fast_time, H * np.array([0, 7, 12, 30]), rtol=1e-14)
    np.testing.assert_allclose(whole.risk, [PROBLEM.risk(whole.at(k)) for k in range(4)], rtol=1e-12)
    assert (whole.stats.steps, whole.status) == (120, tts.Status.SUCCESSFUL)
    assert SDE.steps(TIMES) == 30


def test_goes_on_bit_for_bit_and_from_a_checkpoint(whole, tmp_path):
    file = tmp_path / "run.checkpoint"
    first = simulate(times=TIMES[:2], checkpoint=file)
    for rest in (first.then(simulate(times=TIMES[1:], model=first)), simulate(checkpoint=file)):
        np.testing.assert_array_equal(reference.states(rest), reference.states(whole))
        np.testing.assert_array_equal(rest.step, whole.step)
    seen = []
    simulate(progress=lambda *done: seen.append(done))
    assert seen[-1] == (30, 30)


def test_many_at_once_and_one_that_diverges(whole):
    """A lane with a step size beyond any sense fails alone."""

    @jax.jit
    @jax.vmap
    def many(h):
        return tts.simulate(tts.SGDDiffusion(EPSILON, h), MODEL, PROBLEM, TIMES * h / H, key=KEY)

    runs = many(jnp.array([H, 30.0]))
    assert runs.status.tolist() == [tts.Status.SUCCESSFUL, tts.Status.DIVERGED]
    reference.close(reference.states(runs)[0], reference.states(whole), 1e-10)


def test_single_precision(whole):
    """Of a model in 64-bit, which follows the same path, and of everything."""
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), MODEL)
    with jax.numpy_dtype_promotion("standard"):  # a user's own
        run = simulate(model=narrow)
    assert run.model.positions.dtype == jnp.float32
    np.testing.assert_allclose(reference.states(run), reference.states(whole), atol=1e-4)
    with jax.enable_x64(False):
        problem = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), PROBLEM)
        run = simulate(tts.SGDDiffusion(EPSILON, H), np.float32(TIMES), narrow, problem)
        assert run.status == tts.Status.SUCCESSFUL


def test_derivatives_are_those_of_the_path():
    """Of two steps, by both modes and by differences."""

    def risk(epsilon, adjoint=None):
        dynamics = tts.SGDDiffusion(epsilon, H, substeps=1, adjoint=adjoint)
        return simulate(dynamics, times=jnp.array([2 * H]) * epsilon).risk[-1]

    point, width = jnp.asarray(0.3), 1e-5
    want = (risk(point + width) - risk(point - width)) / (2 * width)
    reverse = jax.jit(jax.grad(risk))(point)
    _, forward = jax.jvp(lambda e: risk(e, diffrax.ForwardMode()), (point,), (jnp.ones(()),))
    np.testing.assert_allclose([reverse, forward], [want, want], rtol=1e-5)


def test_speeds_and_what_is_frozen():
    """Within a step, a leaf moves by its speed, and a frozen one not at all."""
    layers = (lambda m: m.layers[1]), (lambda m: m.layers[0])
    data = tts.Dataset(*ROWS)

    def moved(epsilon, time, **options):
        run = simulate(tts.SGDDiffusion(epsilon, H, substeps=1, **options), [0.0, time], MLP, data)
        moves = jax.tree.map(lambda leaf: leaf[1] - leaf[0], eqx.filter(run.model, eqx.is_array))
        return [leaf for layer in moves.layers for leaf in (layer.weight, layer.bias)]

    alike = moved(1.0, H, slow=layers[0])
    apart = moved((0.5, 0.1), 0.1 * H, slow=layers)
    held = moved(1.0, H, slow=layers[0], frozen=lambda m: m.layers[0].bias)
    for k, (speed, share) in enumerate(zip([0.1, 0.1, 0.5, 0.5], [1, 0, 1, 1], strict=True)):
        np.testing.assert_allclose(apart[k], speed * alike[k], rtol=1e-9)
        np.testing.assert_allclose(held[k], share * alike[k], rtol=1e-9)


def test_in_sweeps_and_on_all_cores():
    runs = tts.sweep(
        [tts.SGD(0.1, H), tts.SGDDiffusion(0.1, H)], PROBLEM, [0.0, 2e-3], seeds=2, neurons=3, eta=0.2, progress=False
    )
    assert (runs.status == 0).all()
    assert runs.steps.sel(dynamics="SGDDiffusion").values.tolist() == [8, 8]
    each = tts.run_each(lambda key: simulate(times=jnp.asarray(TIMES), key=key), jax.random.split(KEY, 2), workers=1)
    assert each.risk.shape == (2, 4)


@pytest.mark.usefixtures("annotations_off")
def test_what_it_cannot_do_is_refused():
    plane = tts.ShallowNetwork.init(KEY, 2, tts.SmoothStep(0.2), 2)
    both = tts.Regression(tts.Additive([STAIRS.target, STAIRS.target]))
    teacher = tts.PerceptronNetwork([1.0], [[1.0, 2.0]], tts.Erf())
    refused = [
        (lambda: simulate(key=None), "SGDDiffusion", "key=jax.random.key(0)"),
        (lambda: simulate(samples=(np.ones((30, 1)), np.ones(30))), "Brownian", "got samples=(x, y)"),
        (lambda: simulate(model=plane, problem=both), "got Regression", "draw a Dataset"),
        (lambda: simulate(problem=tts.Regression(STAIRS.target, 1.0, jax.random.normal)), "(3 * variance)**0.5"),
        (lambda: simulate(problem=tts.NormDataset(*ROWS), model=plane), "NormDataset", "pass Dataset(x, y)"),
        (lambda: simulate(problem=tts.GaussianRegression(teacher), model=teacher), "got GaussianRegression"),
        (lambda: tts.SGDDiffusion(0.1, H, substeps=3), "substeps", "power of 2", "got 3"),
        (lambda: tts.SGDDiffusion(0.1, H, batch_size=None), "batch_size", "got None"),
        (lambda: tts.SGDDiffusion(0.1, H, adjoint=diffrax.DirectAdjoint()), "SGDDiffusion", "got DirectAdjoint"),
    ]
    for call, *said in refused:
        reference.refuses(call, *said)
