"""The reduced flow: its weights, its velocity by least squares, and the limit epsilon -> 0 of the gradient flow."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy.integrate import solve_ivp

import tts_jax as tts

TIMES = np.linspace(0, 0.2, 6)


def reduced_flow(case, **options):
    return tts.simulate(tts.ReducedFlow(**options), *reference.build(case), TIMES)


def positions(trajectory):
    return np.asarray(trajectory.model.positions[..., 0])


def fit(features, values, ridge=0.0):
    """Least squares, and of least norm, by LAPACK on the features themselves: the Gram matrix is never formed."""
    n = features.shape[1]
    features = np.vstack([features, np.sqrt(ridge) * np.eye(n)])
    return np.linalg.lstsq(features, np.concatenate([values, np.zeros(n)]), rcond=1e-9)[0]


def weights_and_velocity(case, u, ridge=0.0):
    x, w = reference.quadrature(np.concatenate([reference.kinks(case._replace(positions=u)), case.jumps]))
    z = (x[:, None] - u) / case.eta
    features = np.hstack([np.ones((len(x), 1)), reference.step(z)])
    target = reference.target_values(case.jumps, case.values, x)
    a = fit(np.sqrt(w)[:, None] * features, np.sqrt(w) * target, ridge)
    return a, 2 * a[1:] * ((w * (features @ a - target)) @ reference.step_slope(z)) / case.eta


def least_squares_path(velocity, start):
    solution = solve_ivp(velocity, (0, TIMES[-1]), start, "DOP853", t_eval=TIMES, rtol=1e-11, atol=1e-12)
    assert solution.success, solution.message
    return solution.y.T


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_small_case_against_least_squares(ridge):
    case = reference.small_case()
    got = reduced_flow(case, ridge=ridge)
    assert got.status == tts.Status.SUCCESSFUL
    assert got.stats.method == "Rodas5P, banded"
    assert got.fast_time is None
    assert got.step is None
    want = least_squares_path(lambda t, u: weights_and_velocity(case, u, ridge)[1], case.positions)
    assert np.ptp(want, axis=0).min() > 1e-4
    assert reference.largest_difference(positions(got), want) < 1e-9
    weights = np.array([weights_and_velocity(case, u, ridge)[0] for u in want])
    assert reference.largest_difference(reference.states(got)[:, :5], weights) < 1e-8


def test_weights_are_optimal_and_the_risk_falls():
    case = reference.small_case()
    got = reduced_flow(case)
    _, problem = reference.build(case)

    @reference.quick_jit
    @jax.vmap
    def gradient(y):
        model, _ = reference.build(case._replace(bias=y[0], weights=y[1:5], positions=y[5:]))
        return problem.gradient(model)

    d = gradient(reference.states(got))
    assert np.max(np.abs(d.bias)) < 1e-13
    assert np.max(np.abs(d.weights)) < 1e-13
    assert np.min(np.max(np.abs(d.positions[..., 0]), axis=1)) > 1e-3
    assert np.diff(got.risk).max() < 0


def test_start_weights_do_not_matter():
    want = reduced_flow(reference.small_case())
    got = reduced_flow(reference.small_case(bias=np.array(-7.0), weights=np.zeros(4)))
    np.testing.assert_array_equal(reference.states(got), reference.states(want))


def test_gradient_flow_tends_to_it_at_first_order():
    """As functions and in the positions, once the initial layer is over: both errors are C epsilon over three decades.

    Jumps of a tenth, for which the positions are a hundred times slower, and the weights as fast as ever.
    """
    case, times = reference.small_case(values=np.array([0.1, -0.1, 0.2])), 100 * TIMES
    start, problem = reference.build(case)
    limit = tts.simulate(tts.ReducedFlow(), start, problem, times)
    epsilons = np.array([1e-2, 1e-3, 1e-4, 1e-5])
    flows = [tts.simulate(tts.GradientFlow(epsilon), start, problem, times) for epsilon in epsilons]
    moved = [reference.largest_difference(positions(flow)[1:], positions(limit)[1:]) for flow in flows]
    apart = [np.max(tts.distance(flow, limit)[1:]) for flow in flows]
    for errors in (moved, apart):
        slopes = np.diff(np.log(errors)) / np.diff(np.log(epsilons))
        assert (np.abs(slopes - 1) < [0.1, 0.02, 0.02]).all()  # the next order shows at the largest epsilon
    last = tts.simulate(tts.GradientFlow(1e-9), start, problem, times)
    assert last.status == tts.Status.SUCCESSFUL
    assert reference.largest_difference(positions(last)[1:], positions(limit)[1:]) < 1e-6
    assert np.max(tts.distance(last, limit)[1:]) < 1e-6


@pytest.mark.parametrize(
    "start",
    [
        [0.33, 0.33, 0.33, 0.8],
        [0.2, 0.45, 0.45, 0.7],
        [-0.4, 0.33, 0.52, 0.9],
        [-0.4, -0.4, 0.52, 1.3],
        [0.1, 0.4, 0.7, 1.3],
    ],
)
def test_redundant_neurons(start):
    """Coincident neurons share one weight and stay together; those outside [0, 1] rest: the fit is of least norm."""
    case = reference.small_case(positions=np.array(start))
    got = reduced_flow(case)
    assert got.status == tts.Status.SUCCESSFUL
    assert np.isfinite(reference.states(got)).all()
    assert np.diff(got.risk).max() < 1e-14
    want = least_squares_path(lambda t, u: weights_and_velocity(case, u)[1], case.positions)
    for i in range(4):
        for j in range(i):
            if start[i] == start[j]:
                assert reference.largest_difference(positions(got)[:, i], positions(got)[:, j]) < 1e-9
                assert reference.largest_difference(got.model.weights[:, i], got.model.weights[:, j]) < 1e-7
        if not -0.1 < start[i] < 1.1:
            np.testing.assert_allclose(positions(got)[:, i], start[i], rtol=1e-15)
    assert reference.largest_difference(positions(got), want) < 1e-8


# Neurons that merge.

PAPER = tts.PiecewiseConstant([0.2, 0.35, 0.5, 0.65, 0.8], [1.0, 5.0, 1.0, 3.0, 1.0, 5.0])
MERGING = [0.010997, 0.325749, 0.355626, 0.360542, 0.490099, 0.643395]
ETA = 4e-3


def steps_at(positions):
    positions = jnp.asarray(positions)[:, None]
    return tts.ShallowNetwork(jnp.zeros_like(positions), positions, 0.0, tts.SmoothStep(ETA))


@pytest.fixture(scope="module")
def merged():
    times = [0.2, 1.0, 1.6, 3.0, 10.0]
    return tts.simulate(tts.ReducedFlow(rtol=1e-8, atol=1e-8), steps_at(MERGING), tts.Regression(PAPER), times)


def test_a_merger_against_divided_differences(merged):
    """The risks of LSODA and Radau on the flow in divided differences, which is regular there."""
    assert merged.status == tts.Status.SUCCESSFUL
    assert merged.stats.steps < 2000
    want = [0.3075165868, 0.3075094465, 0.3070831151, 0.30708311506, 0.30708311476]
    np.testing.assert_allclose(merged.risk, want, atol=2e-9)


def test_what_merged_neurons_have_in_common_is_regular(merged):
    """Their weights grow without bound; their sum and their dipole, weight times gap, are those of a steeper step."""
    (left, right), gap = np.asarray(merged.model.weights[-1, 2:4, 0]), np.diff(positions(merged)[-1, 2:4])[0]
    assert gap < 1e-3 * ETA
    assert left < -500
    assert left + right == pytest.approx(-4.0, abs=0.01)
    case = reference.Case(
        ETA, np.asarray(PAPER.jumps), np.asarray(PAPER.values), np.array(0.0), None, positions(merged)[-1]
    )
    x, w = reference.quadrature(np.concatenate([reference.kinks(case), case.jumps]))
    z = (x[:, None] - case.positions) / ETA
    columns = np.delete(np.hstack([np.ones((len(x), 1)), reference.step(z)]), 4, axis=1)
    columns = np.hstack([columns, -reference.step_slope(z[:, 2:3])])  # in place of the second of the pair
    fitted = fit(np.sqrt(w)[:, None] * columns, np.sqrt(w) * reference.target_values(case.jumps, case.values, x))
    assert right * gap / ETA == pytest.approx(fitted[-1], rel=1e-3)


@pytest.mark.parametrize(("neurons", "seed", "tolerance"), [(20, 20, 1e-7), (60, 2060, 1e-4)])
def test_random_starts_that_merge(neurons, seed, tolerance):
    """Two, and three: the limit of the flow, whose error falls as that of the merger does."""
    start = steps_at(np.sort(np.random.default_rng(seed).uniform(size=neurons)))
    problem, tight = tts.Regression(PAPER), {"rtol": 1e-8, "atol": 1e-8}
    got = tts.simulate(tts.ReducedFlow(**tight), start, problem, [0.5, 3.0, 10.0])
    flows = [tts.simulate(tts.GradientFlow(e, **tight), start, problem, [0.5, 3.0, 10.0]) for e in (1e-8, 1e-10)]
    assert got.status == tts.Status.SUCCESSFUL
    assert got.stats.steps < 10_000
    coarse, fine = (np.abs(np.asarray(flow.risk - got.risk)) for flow in flows)
    assert (fine < coarse).all()
    assert (fine < tolerance).all()


def test_runs_side_by_side():
    starts = jnp.asarray(np.stack([MERGING, np.linspace(0.1, 0.9, 6), np.full(6, np.nan)]))

    def run(u):
        return tts.simulate(tts.ReducedFlow(rtol=1e-8, atol=1e-8), steps_at(u), tts.Regression(PAPER), [0.0, 0.5, 2.0])

    got = jax.jit(jax.vmap(run))(starts)
    np.testing.assert_array_equal(got.status == tts.Status.SUCCESSFUL, [True, True, False])
    for i in range(2):
        alone = jax.tree.map(lambda x, i=i: x[i], got)
        np.testing.assert_allclose(got.risk[i], run(starts[i]).risk, atol=1e-9)
        assert alone.stats.steps < 2000


@pytest.fixture(scope="module")
def differences():
    """Of the last risk by each position of the start: of runs alone, in the program that the tests above have used."""
    case, step = reference.small_case(), 1e-5
    ends = [
        [float(reduced_flow(case._replace(positions=case.positions + way * shift)).risk[-1]) for way in (1, -1)]
        for shift in step * np.eye(4)
    ]
    return np.array(ends) @ [1, -1] / (2 * step)


@pytest.mark.parametrize("adjoint", [diffrax.RecursiveCheckpointAdjoint(), diffrax.ForwardMode()])
def test_gradient_by_the_start(adjoint, differences):
    case = reference.small_case()
    _, problem = reference.build(case)

    def final_risk(u):
        model, _ = reference.build(case._replace(positions=u))
        return tts.simulate(tts.ReducedFlow(adjoint=adjoint), model, problem, TIMES).risk[-1]

    differentiate = jax.jacfwd if isinstance(adjoint, diffrax.ForwardMode) else jax.grad
    got = reference.quick_jit(differentiate(final_risk))(jnp.asarray(case.positions))
    np.testing.assert_allclose(got, differences, rtol=1e-5, atol=1e-7)


def test_float32():
    with jax.enable_x64(False):
        model = tts.ShallowNetwork(np.zeros((6, 1)), np.array(MERGING)[:, None], 0.0, tts.SmoothStep(ETA))
        target = tts.PiecewiseConstant(PAPER.jumps.tolist(), PAPER.values.tolist())
        got = tts.simulate(tts.ReducedFlow(), model, tts.Regression(target), [0.2, 3.0])
    assert got.risk.dtype == jnp.float32
    np.testing.assert_allclose(got.risk, [0.30751659, 0.30708312], rtol=2e-4)


# Finite data.


def data_case():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(40, 2))
    y = np.sin(4 * x[:, 0]) + x[:, 1] ** 2
    u = np.array([[0.2, 0.3], [0.5, 0.8], [0.8, 0.6]])
    return x, y, u


def test_finite_data_in_two_dimensions():
    x, y, start = data_case()
    eta = 0.8

    def velocity(t, u):
        z = (x[:, None] - u.reshape(3, 2)) / eta
        features = reference.step(z).reshape(len(x), -1)
        a = fit(features, y)
        return 2 * a * np.mean((features @ a - y)[:, None] * reference.step_slope(z).reshape(len(x), -1), axis=0) / eta

    model = tts.ShallowNetwork(jnp.zeros((3, 2)), jnp.asarray(start), None, tts.SmoothStep(eta))
    got = tts.simulate(tts.ReducedFlow(), model, tts.Dataset(x, y[:, None]), TIMES)
    assert got.status == tts.Status.SUCCESSFUL
    want = least_squares_path(velocity, start.ravel())
    assert reference.largest_difference(got.model.positions.reshape(6, 6), want) < 1e-7
    assert np.diff(got.risk).max() < 0


# What goes wrong.


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    model, problem = reference.build(reference.small_case())
    x, y, _ = data_case()
    perceptron = eqx.nn.MLP(2, "scalar", 3, 1, key=jax.random.key(0))

    def run(model, problem, **options):
        return lambda: tts.simulate(tts.ReducedFlow(), model, problem, TIMES, **options)

    reference.refuses(run(perceptron, tts.Dataset(x, y)), "MLP", "linear in its weights")
    reference.refuses(run(perceptron, problem), "MLP")
    steps = tts.ShallowNetwork(model.weights, model.positions, model.bias, tts.Heaviside())
    reference.refuses(run(steps, problem), "Heaviside", "SmoothStep")
    reference.refuses(run(model, problem, samples=(x[:, 0], y)), "ReducedFlow", "samples")
    reference.refuses(lambda: tts.ReducedFlow(ridge=-1.0), "ridge", "-1.0")
    reference.refuses(lambda: tts.ReducedFlow(ridge=np.nan), "ridge", "nan")
