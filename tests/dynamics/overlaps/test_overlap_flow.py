"""The flow in overlaps against all coordinates, SciPy and the numbers of an independent program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy.integrate import solve_ivp

import tts_jax as tts

ONES = tts.Hermite([1.0, 1.0, 1.0, 1.0])
UNKNOWN_D = tts.SingleIndex([1.0], ONES)


def case():
    """Start, problem, ratio and slow times of the reference, whose risk is half of ours."""
    data = {name[2:]: value for name, value in reference.load("single_index").items()}
    problem = tts.SingleIndex(data["ustar"], tts.Hermite(data["phi"]))
    network = tts.SphereNetwork(data["a0"], data["u0"], tts.Hermite(data["sigma"]))
    return data, network, problem, float(data["epsilon"]), problem.slow_time(data["t"], 6)


def test_against_an_independent_program_and_all_forty_coordinates():
    data, network, problem, epsilon, times = case()
    run = tts.simulate(tts.OverlapFlow(epsilon), network, problem, times)
    np.testing.assert_allclose(run.model.weights, data["a"], atol=1e-8)
    np.testing.assert_allclose(run.model.teacher[..., 0], data["s"], atol=1e-8)
    np.testing.assert_allclose(run.model.student, data["r"], atol=1e-8)
    np.testing.assert_allclose(run.risk, 2 * data["risk"], atol=1e-8)
    flow = tts.simulate(tts.GradientFlow(epsilon), network, problem, times)
    np.testing.assert_allclose(run.risk, flow.risk, atol=1e-7)
    np.testing.assert_allclose(run.model.weights, flow.model.weights, atol=1e-7)
    np.testing.assert_allclose(run.fast_time, flow.fast_time)
    np.testing.assert_allclose(np.linalg.norm(flow.model.directions, axis=-1), 1, atol=1e-7)


def by_scipy(epsilon, lengths, a, s, r, times):
    """Directions in as many coordinates as there are vectors, from the gradient of the risk by hand (target and
    activation of degrees 0 to 3 with coefficients 1), in slow time."""
    m = len(a)
    gram = np.block([[np.ones((1, 1)), s[None]], [s[:, None], r]])
    vectors = np.linalg.cholesky(gram + 1e-15 * np.eye(m + 1))
    teacher, u = vectors[0], vectors[1:] * lengths[:, None]

    def velocity(_, y):
        a, u = y[:m], y[m:].reshape(m, m + 1)
        length = np.linalg.norm(u, axis=1)
        e = u / length[:, None]
        s, r = e @ teacher, e @ e.T
        d_a = 2 / m * ((1 + s + s**2 + s**3) - (1 + r + r**2 + r**3) @ a / m)
        pull = np.outer(1 + 2 * s + 3 * s**2, teacher) - ((1 + 2 * r + 3 * r**2) * a / m) @ e
        pull -= np.sum(pull * e, axis=1)[:, None] * e
        return np.concatenate([d_a / epsilon, (2 / m * (a / length)[:, None] * pull).ravel()])

    found = solve_ivp(velocity, (0, times[-1]), [*a, *u.ravel()], "LSODA", times, rtol=1e-10, atol=1e-10)
    u = found.y[m:].T.reshape(-1, m, m + 1)
    e = u / np.linalg.norm(u, axis=-1)[..., None]
    return found.y[:m].T, e @ teacher, e @ np.swapaxes(e, 1, 2)


@pytest.mark.parametrize("m", [4, 11])
def test_from_overlaps_of_any_lengths(m):
    """Few neurons, with a dense Jacobian; and more, whose weights alone are factored. It starts at d = infinity."""
    rng, epsilon, times = np.random.default_rng(m), 1e-2, np.array([0.0, 1e-3, 0.1, 1.0, 0.5 * m, 2.0 * m])
    a, lengths = rng.normal(size=m), rng.uniform(0.5, 2.0, m)
    start = tts.Overlaps(a, np.diag(lengths**2), np.zeros((m, 1)), ONES)
    run = tts.simulate(tts.OverlapFlow(epsilon), start, UNKNOWN_D, times)
    want_a, want_s, want_r = by_scipy(epsilon, lengths, a, np.zeros(m), np.eye(m), times)
    assert run.stats.method.endswith("dense Jacobian" if m == 4 else "stiff weights factored")
    np.testing.assert_allclose(run.model.weights, want_a, atol=1e-6)
    np.testing.assert_allclose(np.asarray(run.model.teacher)[..., 0] / lengths, want_s, atol=1e-6)
    np.testing.assert_allclose(np.asarray(run.model.student) / np.outer(lengths, lengths), want_r, atol=1e-6)


def mean_field_by_scipy(epsilon, a, times):
    """With r_ij = s_i s_j, entry by entry; coefficients 1 for degrees 0 to 3."""
    m = len(a)

    def velocity(_, y):
        a, s = y[:m], y[m:]
        r = np.outer(s, s)
        d_a = (1 + s + s**2 + s**3) - (1 + r + r**2 + r**3) @ a / m
        push = ((1 + 2 * r + 3 * r**2) * (s[None] - r * s[:, None])) @ a / m
        d_s = a * ((1 + 2 * s + 3 * s**2) * (1 - s**2) - push)
        return 2 / m * np.concatenate([d_a / epsilon, d_s])

    return solve_ivp(velocity, (0, times[-1]), [*a, *0 * a], "LSODA", times, rtol=1e-10, atol=1e-10).y.T


def test_the_mean_field():
    m, epsilon, times = 30, 1e-3, np.array([0.0, 1e-3, 0.1, 1.0, 10.0, 60.0])
    start = tts.Overlaps.init(jax.random.key(0), m, ONES)
    run = tts.simulate(tts.OverlapFlow(epsilon), start, UNKNOWN_D, times)
    want = mean_field_by_scipy(epsilon, np.asarray(start.weights), times)
    np.testing.assert_allclose(run.model.weights, want[:, :m], atol=1e-6)
    np.testing.assert_allclose(run.model.teacher[..., 0], want[:, m:], atol=1e-6)
    assert run.model.student is None


def test_directions_keep_what_they_share_with_the_teacher_alone_up_to_1_over_m():
    """By how much neurons repel each other: r_ij - s_i s_j grows at first by -2 a_i a_j (2 / m) / m."""
    for m in (5, 20):
        a = np.linspace(0.5, 1.5, m)
        start = tts.Overlaps(a, np.eye(m), np.zeros((m, 1)), tts.Hermite([0.0, 1.0]))
        run = tts.simulate(tts.OverlapFlow(1.0), start, tts.SingleIndex([1.0], tts.Hermite([0.0, 1.0])), [1e-3])
        s, r = run.model.teacher[0, :, 0], run.model.student[0]
        beyond = (r - jnp.outer(s, s))[0, 1]
        assert beyond == pytest.approx(-4e-3 * a[0] * a[1] / m**2, rel=0.02)


def test_the_mean_field_is_the_limit_of_many_neurons():
    """From a uniform start at d = infinity all neurons come as close to it as 1 / m."""

    def apart(m):
        a, times = np.tile([1.5, 0.5], m // 2), tts.SingleIndex.slow_time(np.array([0.02]), m)
        starts = [tts.Overlaps(a, student, np.zeros((m, 1)), ONES) for student in (None, np.eye(m))]
        one, other = (tts.simulate(tts.OverlapFlow(0.1), start, UNKNOWN_D, times).risk[0] for start in starts)
        return abs(float(one - other))

    assert 2.1 < apart(4) / apart(10) < 2.6


@pytest.mark.parametrize("pairs", [True, False])
def test_derivatives_and_vmap(pairs):
    """Central differences; with stiff weights factored, and through moments."""
    m = 11
    a = jnp.asarray(np.random.default_rng(0).normal(size=m))
    student = jnp.eye(m) if pairs else None

    def last(a, epsilon):
        start = tts.Overlaps(a, student, jnp.zeros((m, 1)), ONES)
        return tts.simulate(
            tts.OverlapFlow(epsilon, max_steps=64, rtol=1e-6, atol=1e-6), start, UNKNOWN_D, jnp.array([0.1])
        ).risk[-1]

    both = reference.quick_jit(jax.vmap(last))(jnp.stack([a, a, a + 1e-4, a - 1e-4]), jnp.array([0.1, 0.2, 0.1, 0.1]))
    slope = reference.quick_jit(jax.grad(last))(a, jnp.array(0.1))
    assert jnp.sum(slope) == pytest.approx(float(both[2] - both[3]) / 2e-4, rel=1e-5)
    start = tts.Overlaps(a, student, jnp.zeros((m, 1)), ONES)
    alone = tts.simulate(tts.OverlapFlow(0.2, rtol=1e-6, atol=1e-6), start, UNKNOWN_D, [0.1])
    assert alone.risk[-1] == pytest.approx(float(both[1]), rel=1e-8)


def test_goes_on_and_refuses():
    start = tts.Overlaps.init(jax.random.key(0), 5, ONES)
    flow = tts.OverlapFlow(0.1)
    whole = tts.simulate(flow, start, UNKNOWN_D, [0.0, 1.0, 3.0])
    parts = tts.simulate(flow, start, UNKNOWN_D, [0.0, 1.0])
    parts = parts.then(tts.simulate(flow, parts, UNKNOWN_D, [1.0, 3.0]))
    reference.close((parts.risk, parts.fast_time), (whole.risk, whole.fast_time), 1e-8)
    student = tts.PerceptronNetwork([1.0], [[1.0]], tts.Erf())
    reference.refuses(
        lambda: tts.simulate(flow, student, tts.GaussianRegression(student), [1.0]), "SingleIndex", "GaussianRegression"
    )
    reference.refuses(lambda: tts.simulate(tts.GradientFlow(0.1), start, UNKNOWN_D, [1.0]), "Overlaps")
