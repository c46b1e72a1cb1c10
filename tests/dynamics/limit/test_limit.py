"""The two-timescale limit against quadrature, SciPy, simulation by tiny Euler steps, and the flow of narrow neurons."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import load, paper_target, quick_jit, refuses
from scipy.integrate import quad, solve_ivp

import tts_jax as tts
from tts_jax.dynamics.limit.pair import has_closed_form, hit_times, pair_positions
from tts_jax.exact.quadratic import gradient, normal_equations


def network(positions) -> tts.ShallowNetwork:
    positions = jnp.asarray(positions, float)[:, None]
    return tts.ShallowNetwork(jnp.zeros_like(positions), positions, jnp.zeros(()), tts.Heaviside())


def simulate(positions, jumps, values, times, **settings) -> tts.Trajectory:
    problem = tts.Regression(tts.PiecewiseConstant(jumps, values))
    return tts.simulate(tts.TwoTimescaleLimit(**settings), network(positions), problem, jnp.asarray(times, float))


def padded(positions, neurons):
    """With neurons outside [0, 1], which change nothing: fewer shapes to compile."""
    return np.concatenate([positions, np.full(neurons - len(positions), 2.0)])


# Independent answers.


def fits(u, jumps, values):
    """For a batch: the means of the target between each position and its neighbours, and how many neurons share it."""
    edges = np.pad(jumps, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))

    def integral(x):
        return np.sum(values[:, None] * np.clip(x[..., None] - edges[:, None, :-1], 0, np.diff(edges)[:, None]), -1)

    below, above = u[:, None] < u[..., None], u[:, None] > u[..., None]
    left = np.max(np.where(below, u[:, None], 0), -1)
    right = np.min(np.where(above, u[:, None], 1), -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_left = (integral(u) - integral(left)) / (u - left)
        mean_right = (integral(right) - integral(u)) / (right - u)
    return mean_left, mean_right, u.shape[1] - below.sum(-1) - above.sum(-1)


def euler(start, jumps, values, horizon, steps, saves):
    """Filippov's system by explicit Euler steps, which end on the first jump that they reach; for a batch of starts."""
    acting = (start > 0) & (start < 1)
    u, row = np.where(acting, start, np.where(start <= 0, 0.0, 1.0)), np.arange(len(start))[:, None]
    walls = np.pad(jumps, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, 2)))
    saved, stuck, previous = [start], np.zeros(u.shape, bool), 0.0
    for step in range(1, steps + 1):
        c_left, c_right, count = fits(u, jumps, values)
        before, until = (jumps[:, None] < u[..., None]).sum(-1), (jumps[:, None] <= u[..., None]).sum(-1)
        low, high = values[row, before], values[row, until]
        from_left = (low - c_right) ** 2 - (low - c_left) ** 2
        from_right = (high - c_right) ** 2 - (high - c_left) ** 2
        drift = (high - low) * (c_left + c_right - previous)
        to_right = (from_right > 0) & ((from_left >= 0) | np.where(stuck, drift < 0, from_left + from_right >= 0))
        velocity = np.where(to_right, from_right, np.where(from_left < 0, from_left, 0.0))
        velocity = np.where(before == until, from_left, velocity)
        stuck, previous = (before != until) & (velocity == 0), c_left + c_right
        moved = u + horizon / steps * velocity / count
        moved = np.where(velocity > 0, np.minimum(moved, walls[row, until + 1]), np.maximum(moved, walls[row, before]))
        u = np.where(acting, moved, u)
        if step % (steps // saves) == 0:
            saved.append(np.where(acting, u, start))
    return np.stack(saved, 1)


def risk_of(positions, jumps, values):
    edges = np.unique(np.clip(np.concatenate([[0, 1], positions]), 0, 1))
    pieces = np.concatenate([[0], jumps, [1]])
    overlap = np.clip(np.minimum(edges[1:, None], pieces[1:]) - np.maximum(edges[:-1, None], pieces[:-1]), 0, None)
    mean = overlap @ values / np.diff(edges)
    return np.sum(overlap * (values - mean[:, None]) ** 2)


def pair_by_dop853(p, q, height, times):
    def velocity(_, gaps):
        p, q = gaps
        return [-((height * q / (p + q)) ** 2), -((height * p / (p + q)) ** 2)]

    return solve_ivp(velocity, (0, times[-1]), [p, q], "DOP853", times, rtol=1e-13, atol=1e-15).y.T


def narrow_flow(positions, jumps, values, times, eta):
    """The flow of the positions of SmoothStep neurons with their best weights (least norm)."""
    activation, target = tts.SmoothStep(eta), tts.PiecewiseConstant(jumps, values)

    @quick_jit
    def velocity(u):
        equations = normal_equations(activation, target, u, bias=True)
        weights = jnp.linalg.pinv(equations.gram, rtol=1e-9) @ equations.cross
        return -gradient(activation, target, weights, u).d_u

    def f(_, u):
        return np.asarray(velocity(jnp.asarray(u)))

    return solve_ivp(f, (0, times[-1]), positions, "LSODA", times, rtol=1e-8, atol=1e-11).y.T


# The published integrator.

START = [
    *(0.0239819, 0.0298762, 0.0514672, 0.1255853, 0.2072429, 0.2592524, 0.2784873, 0.2909047, 0.4151012, 0.4408098),
    *(0.4568332, 0.5108276, 0.5507979, 0.5588541, 0.5908628, 0.649144, 0.6762549, 0.7081478, 0.892947, 0.8962931),
]
MOVING = [3, 4, 7, 8, 10, 11, 15, 16, 17, 18]
LATER = {
    0.00105: [0.1256083, 0.2, 0.2955684, 0.4113405, 0.4569692, 0.5079993, 0.65, 0.6762546, 0.7124014, 0.8888002],
    0.007: [0.1256083, 0.2, 0.3264715, 0.3935415, 0.4570616, 0.5, 0.65, 0.6762546, 0.7367305, 0.8655231],
    0.021: [0.1256083, 0.2, 0.35, 0.3911178, 0.4570616, 0.5, 0.65, 0.6762546, 0.8, 0.8303758],
}


def test_some_positions_of_the_published_integrator():
    target = paper_target()
    run = simulate(START, target.jumps, target.values, list(LATER))
    expected = np.tile(START, (len(LATER), 1))
    expected[:, MOVING] = list(LATER.values())
    np.testing.assert_allclose(run.model.positions[..., 0], expected, rtol=0, atol=1e-4)
    assert run.status == tts.Status.SUCCESSFUL
    assert run.stats.method == "closed form"
    assert run.stats.steps == 5
    assert run.fast_time is None
    assert run.step is None
    assert isinstance(run.model.activation, tts.Heaviside)


def test_the_published_integrator():
    stored = load("limit_euler")
    positions = quick_jit(lambda start: pair_positions(start, paper_target(), jnp.asarray(stored["slow_time"])))
    for seed in stored["seeds"]:
        expected = stored[f"seed{seed}_positions"]
        assert has_closed_form(jnp.asarray(expected[0]), paper_target())
        np.testing.assert_allclose(positions(expected[0]), expected, rtol=0, atol=1e-4)


# The closed form.


@quick_jit
def closed_form(start, jumps, values, times):
    """Positions and hit times."""
    target = tts.PiecewiseConstant(jumps, values)
    return pair_positions(start, target, times), hit_times(start, target)


@pytest.mark.parametrize(
    ("p", "q", "height"), [(0.1, 0.3, 1.0), (0.3, 0.1, -2.0), (0.2, 0.2, 3.0), (0.2, 0.2 + 1e-7, 1.0), (1e-4, 0.4, 1.0)]
)
def test_a_pair_moves_as_its_differential_equation_says(p, q, height):
    jump, start = 0.5, np.array([0.5 - p, 0.5 + q])
    p, q = np.abs(start - jump)
    nearer, cubes = min(p, q), abs(q - p) * (p * p + p * q + q * q)
    split = [nearer * 10.0**-k for k in range(1, 8)]
    settings = {"points": split, "epsabs": 0, "epsrel": 1e-13, "limit": 200}
    hit = quad(lambda s: (1 + s / np.cbrt(s**3 + cubes)) ** 2, 0, nearer, **settings)[0] / height**2
    times = hit * np.array([0.1, 0.5, 0.9, 0.99, 1.001, 5.0])
    positions, hits = closed_form(start, np.array([jump]), np.array([1.0, 1.0 + height]), times)
    np.testing.assert_allclose(hits, [hit], rtol=1e-11)
    gaps = np.abs(positions - jump)
    np.testing.assert_allclose(gaps[:4], pair_by_dop853(p, q, height, times[:4]), rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.sort(gaps[4:]), np.tile([0, np.cbrt(cubes)], (2, 1)), rtol=0, atol=1e-13)
    assert (gaps[4:].min(axis=1) == 0).all()


def test_a_symmetric_pair_takes_four_times_its_distance():
    start, times = np.array([0.25, 0.75]), np.array([0.0, 0.1, 0.2, 0.25, 0.3, 1.0])
    positions, hits = closed_form(start, np.array([0.5]), np.array([0.0, 2.0]), times)
    np.testing.assert_allclose(hits, 4 * 0.25 / 4, rtol=1e-14)
    expected = np.minimum(0.25 + times, 0.5)
    np.testing.assert_allclose(positions, np.stack([expected, 1 - expected], 1), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("start", "mover"), [([0.1, 0.25], 1), ([0.7, 0.8], 0)])
def test_a_neuron_whose_partner_is_the_boundary(start, mover):
    gap, fixed = abs(start[mover] - 0.4), 0.6 if mover else 0.4
    hit = quad(lambda p: ((p + fixed) / (1.5 * fixed)) ** 2, 0, gap)[0]
    times = hit * np.array([0.1, 0.3, 0.8, 0.99, 1.01, 2.0])
    positions, hits = closed_form(np.array(start), np.array([0.4]), np.array([0.0, 1.5]), times)
    np.testing.assert_allclose(hits, [hit], rtol=1e-13)
    left = solve_ivp(
        lambda _, p: -((1.5 * fixed / (p + fixed)) ** 2), (0, hit), [gap], "DOP853", times[:4], rtol=1e-13, atol=1e-15
    )
    np.testing.assert_allclose(np.abs(positions[:4, mover] - 0.4), left.y[0], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(positions[4:, mover], 0.4)
    np.testing.assert_array_equal(positions[:, 1 - mover], start[1 - mover])


def test_hit_times_of_jumps_that_are_never_reached_and_of_starts_without_a_closed_form():
    @quick_jit
    @jax.vmap
    def hits(start):
        return hit_times(start, tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, 1.0]))

    known = hits(np.array([[0.4, 0.5, 2.0], [0.3, 0.4, 0.5], [0.1, 0.4, 0.5]]))
    np.testing.assert_array_equal(np.isfinite(known), np.tile([True, False], (3, 1)))
    np.testing.assert_array_equal(known[:, 1], np.inf)
    np.testing.assert_allclose(known[:2, 0], [0.1 * (0.27 + 0.09 + 0.01) / 0.27, 0.0])
    unknown = hits(np.array([[-0.5, 1.5, 0.4], [0.1, 0.5, 0.7], [0.4, 0.4, 0.5]]))
    assert np.isnan(unknown).all()
    nothing = hit_times(jnp.array([-0.5, 1.5]), tts.PiecewiseConstant([0.3], [0.0, 1.0]))
    np.testing.assert_array_equal(nothing, np.inf)


def qualified_start(rng, neurons):
    """Two neurons or more in each piece of the paper's target, so that there is a closed form."""
    walls = np.concatenate([[0], paper_target().jumps, [1]])
    start = np.concatenate([rng.uniform(walls[:-1], walls[1:], (2, 6)).ravel(), rng.uniform(0, 1, neurons - 12)])
    return padded(rng.permutation(start), 20)


def test_the_difference_of_cubes_is_conserved():
    target, times = paper_target(), np.linspace(0, 0.03, 61)
    rng = np.random.default_rng(1)
    for neurons in (12, 13, 16, 20):
        positions, hits = closed_form(qualified_start(rng, neurons), target.jumps, target.values, times)
        for jump, hit in zip(np.asarray(target.jumps), hits, strict=True):
            left = np.max(np.where(positions <= jump, positions, 0), 1)
            right = np.min(np.where(positions >= jump, positions, 1), 1)
            conserved = ((right - jump) ** 3 - (jump - left) ** 3)[times < hit]
            np.testing.assert_allclose(conserved, conserved[0], rtol=0, atol=1e-12)


# From event to event.


LANES, NEURONS, JUMPS = 24, 20, 6


@quick_jit
@jax.vmap
def simulate_many(positions, jumps, values, times):
    problem = tts.Regression(tts.PiecewiseConstant(jumps, values))
    return tts.simulate(tts.TwoTimescaleLimit(), network(positions), problem, times)


def random_batch(rng, on_grid=False):
    """Starts of 1 to 20 neurons, some outside (0, 1), and targets of 1 to 6 jumps, filled up with jumps of size 0."""
    starts, jumps, values = [], [], []
    for _ in range(LANES):
        start = rng.uniform(-0.05, 1.05, rng.integers(1, NEURONS + 1))
        jumps.append(np.sort(rng.uniform(0.01, 0.99, JUMPS)))
        heights = rng.normal(size=JUMPS) * (rng.permutation(JUMPS) <= rng.integers(JUMPS))
        if on_grid:
            start, jumps[-1] = np.round(start * 16) / 16, np.sort(rng.permutation(np.arange(1, 16))[:JUMPS]) / 16
            heights = np.round(heights)
        starts.append(padded(start, NEURONS))
        values.append(np.cumsum(np.append(rng.normal(), heights)))
    return np.stack(starts), np.stack(jumps), np.stack(values)


def test_events_and_closed_form_agree():
    """A jump of size 0 beside another one changes nothing but the engine."""
    target, times = paper_target(), np.linspace(0, 0.024, 9)
    jumps, values = np.append(target.jumps, 0.8 + 1e-9), np.append(target.values, 5.0)
    rng = np.random.default_rng(2)
    starts = np.stack([qualified_start(rng, neurons) for neurons in np.linspace(12, 20, LANES, dtype=int)])
    run = simulate_many(starts, *(np.tile(a, (LANES, 1)) for a in (jumps, values, times)))
    assert not has_closed_form(jnp.asarray(starts[0]), tts.PiecewiseConstant(jumps, values))
    expected, _ = jax.vmap(closed_form, (0, None, None, None))(starts, target.jumps, target.values, times)
    np.testing.assert_allclose(run.model.positions[..., 0], expected, rtol=0, atol=1e-10)
    assert run.stats.steps.max() >= 5


def test_against_tiny_euler_steps():
    rng, saves = np.random.default_rng(3), 8
    starts, jumps, values = random_batch(rng)
    horizon = 6 / np.ptp(values, axis=1, keepdims=True) ** 2
    run = simulate_many(starts, jumps, values, horizon * np.linspace(0, 1, saves + 1))
    coarse, fine = (euler(starts, jumps, values, horizon, steps, saves) for steps in (600, 1200))
    error = np.abs(fine - coarse).max((1, 2))
    assert np.quantile(error, 0.9) < 5e-3
    difference = np.abs(run.model.positions[..., 0] - fine).max((1, 2))
    assert (difference <= 3 * error + 1e-3).all(), difference / error
    assert (run.stats.steps > 0).sum() > LANES // 2
    assert np.abs(fine[:, -1] - fine[:, 0]).max() > 0.1


@pytest.mark.parametrize("on_grid", [False, True])
def test_the_risk_never_rises_and_nothing_fails(on_grid):
    rng = np.random.default_rng(4)
    for _ in range(4):
        starts, jumps, values = random_batch(rng, on_grid)
        run = simulate_many(starts, jumps, values, np.tile(np.linspace(0, 3, 9), (LANES, 1)))
        assert (run.status == tts.Status.SUCCESSFUL).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.model))
        assert np.diff(run.risk, axis=1).max() <= 1e-12
        for lane in range(0, LANES, 5):
            expected = [risk_of(u, jumps[lane], values[lane]) for u in run.model.positions[lane, ..., 0]]
            np.testing.assert_allclose(run.risk[lane], expected, rtol=0, atol=1e-13)


def test_permuted_neurons():
    rng = np.random.default_rng(5)
    starts, jumps, values = random_batch(rng)
    times = np.tile(np.linspace(0, 3, 9), (LANES, 1))
    order = rng.permutation(NEURONS)
    run, permuted = (simulate_many(u, jumps, values, times) for u in (starts, starts[:, order]))
    for name in ("positions", "weights"):
        a, b = getattr(run.model, name)[:, :, order], getattr(permuted.model, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_a_failed_lane_leaves_the_others_as_they_are():
    starts, jumps, values = random_batch(np.random.default_rng(6))
    times = np.tile(np.linspace(0, 3, 9), (LANES, 1))
    run = simulate_many(starts, jumps, values, times)
    starts[3, 0] = np.nan
    spoilt = simulate_many(starts, jumps, values, times)
    others = np.arange(LANES) != 3
    assert spoilt.status[3] == tts.Status.DIVERGED
    np.testing.assert_array_equal(run.model.positions[others], spoilt.model.positions[others])
    np.testing.assert_array_equal(run.risk[others], spoilt.risk[others])


# Starts of every kind. All have four neurons and six jumps, so that they share one compilation.


def event_driven(positions, jumps, values, times, **settings):
    """The same function with more jumps, of size 0 and beyond all others, which leave no start a closed form."""
    missing = 6 - len(jumps)
    jumps = np.concatenate([jumps, 1 - 1e-9 * np.arange(missing, 0, -1)])
    values = np.concatenate([values, np.full(missing, values[-1])])
    run = simulate(padded(positions, 4), jumps, values, times, **settings)
    assert run.stats.method == "event-driven"
    return run


def positions_of(run, neurons):
    return np.asarray(run.model.positions[:, :neurons, 0])


def test_coincident_neurons_move_as_one_that_is_slower():
    times = np.linspace(0, 0.6, 7)
    pair = event_driven([0.2, 0.2], [0.5], [0.0, 1.0], times)
    one = event_driven([0.2], [0.5], [0.0, 1.0], times / 2)
    np.testing.assert_allclose(positions_of(pair, 2), positions_of(one, 1)[:, [0, 0]], rtol=0, atol=1e-12)
    gap = np.cbrt(np.maximum((0.3 + 0.5) ** 3 - 3 * 0.25 * times / 2, 0.5**3)) - 0.5
    np.testing.assert_allclose(positions_of(pair, 1)[:, 0], 0.5 - gap, rtol=0, atol=1e-11)
    np.testing.assert_allclose(pair.model.weights[:, 0], pair.model.weights[:, 1])
    np.testing.assert_allclose(pair.risk, one.risk, rtol=0, atol=1e-11)


def test_a_symmetric_pair_meets_on_the_jump():
    run = event_driven([0.25, 0.75], [0.5], [0.0, 1.0], np.linspace(0, 1.2, 7))
    expected = np.minimum(0.25 + np.linspace(0, 1.2, 7) / 4, 0.5)
    np.testing.assert_allclose(positions_of(run, 2), np.stack([expected, 1 - expected], 1), rtol=0, atol=1e-5)
    assert run.risk[-1] < 1e-5  # not 0: rounding makes the cubes of the gaps differ by 1e-18


@pytest.mark.parametrize("positions", [[], [-0.5, 1.5], [0.0, 1.0], [7.0, -3.0]])
def test_without_a_neuron_inside_nothing_moves(positions):
    run = event_driven(positions, [0.3, 0.6], [0.0, 1.0, -1.0], np.linspace(0, 3, 7))
    np.testing.assert_array_equal(run.model.positions[..., 0], np.tile(padded(positions, 4), (7, 1)))
    assert (run.model.weights == 0).all()
    np.testing.assert_allclose(run.model.bias, 0.3 - 0.4)
    np.testing.assert_allclose(run.risk, 0.3 + 0.4 - 0.01)
    assert run.stats.steps == 0


def test_neurons_that_start_on_jumps_stay_where_the_fit_is_exact():
    run = event_driven([0.6, 0.3, 0.3], [0.3, 0.6], [0.0, 1.0, -1.0], np.linspace(0, 3, 7))
    np.testing.assert_array_equal(positions_of(run, 3), np.tile([0.6, 0.3, 0.3], (7, 1)))
    np.testing.assert_allclose(run.model.weights[:, :3, 0], np.tile([-2.0, 0.5, 0.5], (7, 1)))
    np.testing.assert_allclose(run.risk, 0, atol=1e-30)


# In the last five, both sides of the jump at 0.5 or 0.6 pull: at the start, or when the weight changes its sign.
NARROW = {
    "one neuron between two jumps": ([0.45], [0.3, 0.6], [0.0, 1.0, 3.0], 0.4),
    "two jumps between two neurons": ([0.2, 0.75], [0.4, 0.55], [0.0, 1.5, 1.0], 0.5),
    "passes a small jump": ([0.25], [0.4, 0.7], [0.0, 0.2, 2.0], 0.3),
    "starts on a jump and leaves": ([0.3], [0.3, 0.6], [0.0, 1.0, 3.0], 0.1),
    "leaves to the right": ([0.5], [0.25, 0.5, 0.75], [3.0, 0.0, 1.0, -2.4], 0.05),
    "leaves to the left": ([0.5], [0.25, 0.5, 0.75], [3.0, 0.0, 1.0, -1.6], 0.05),
    "is repelled, nearer the upper value": ([0.45, 0.6, 0.8], [0.2, 0.5, 0.6, 0.7, 0.8], [-3, 1, 0, 0.8, 0.2, 5], 0.15),
    "is repelled, mirrored": ([0.2, 0.4, 0.55], [0.2, 0.3, 0.4, 0.5, 0.8], [5, 0.2, 0.8, 0, 1, -3], 0.15),
    "is repelled, nearer the lower value": ([0.45, 0.6, 0.8], [0.2, 0.5, 0.6, 0.7, 0.8], [-3, 1, 0, 3, -2, 5], 0.15),
}


@pytest.mark.parametrize("name", NARROW)
def test_the_limit_is_the_limit_of_narrow_neurons(name):
    positions, jumps, values, horizon = NARROW[name]
    times = np.linspace(0, horizon, 7)
    run = event_driven(positions, jumps, values, times)
    neurons = len(positions)
    errors = [
        np.abs(
            narrow_flow(positions, jumps, values, times, eta)[[0, 3, 6]] - positions_of(run, neurons)[[0, 3, 6]]
        ).max()
        for eta in (1e-3, 2.5e-4)
    ]
    assert errors[1] < 1e-2
    assert errors[1] < 0.6 * errors[0] or errors[1] < 1e-5
    assert np.abs(positions_of(run, neurons)[-1] - positions).max() > 0.01


def test_a_run_that_is_cut_off_keeps_what_it_has():
    start, jumps, values = [0.45, 0.6, 0.8], [0.2, 0.5, 0.6, 0.7, 0.8], [-3, 1, 0, 3, -2, 5]
    times = np.linspace(0, 0.15, 7)
    whole = event_driven(start, jumps, values, times, max_events=4096)
    with pytest.warns(UserWarning, match=r"max steps.*raise max_steps, or max_events"):
        cut = event_driven(start, jumps, values, times, max_events=1)
    assert whole.stats.steps > 1
    assert cut.status == tts.Status.MAX_STEPS
    assert cut.stats.steps == 1
    kept = np.isfinite(cut.risk)
    assert 1 <= kept.sum() < len(times)
    np.testing.assert_allclose(cut.model.positions[kept], whole.model.positions[kept])
    for leaf in (cut.model.positions[..., :3, 0], cut.model.weights[..., :3, 0], cut.model.bias):
        assert np.isnan(leaf[~kept]).all()


# Engines, transformations, derivatives.


def test_a_known_start_with_a_closed_form_does_without_the_solver(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("the solver was called")

    monkeypatch.setattr(dfx, "diffeqsolve", forbidden)

    def last_risk(start):
        return simulate(start, [0.5], [0.0, 1.0], [0.0, 0.1, 0.2]).risk[-1]

    start = jnp.array([0.2, 0.4, 0.7])
    assert np.isfinite(last_risk(start))
    assert np.isfinite(jax.grad(last_risk)(start)).all()
    with pytest.raises(AssertionError, match="the solver was called"):
        last_risk(jnp.array([0.4, 0.4, 0.7]))


def observed(start, jumps, values, times):
    """One number that depends on everything a run returns."""
    run = simulate(start, jumps, values, times)
    scale = jnp.cos(jnp.arange(run.model.positions.size, dtype=float)).reshape(run.model.positions.shape)
    return jnp.sum(scale * (run.model.positions + 0.1 * run.model.weights)) + jnp.sum(run.risk * jnp.sin(times))


def slope_along(f, arguments, directions, h=1e-6):
    ahead, behind = ([a + s * h * d for a, d in zip(arguments, directions, strict=True)] for s in (1, -1))
    return (f(*ahead) - f(*behind)) / (2 * h)


# Times before and after the hits: (start, jumps, values, times).
DIFFERENTIATED = {
    "closed form": ([0.2, 0.42, 0.55, 0.9], [0.35, 0.75], [0.0, 1.0, -1.0], [0.05, 0.1, 0.4, 0.9]),
    "boundary": ([0.5, 0.55, 0.6, 0.9], [0.35, 0.95], [0.0, 1.0, -1.0], [0.02, 0.1, 0.4, 0.9]),
    "symmetric": ([0.2, 0.5, 0.6, 0.9], [0.35, 0.75], [0.0, 1.0, -1.0], [0.02, 0.05, 0.1, 0.12]),
    "one between two jumps": ([0.5, 0.9, -1.0, 2.0], [0.35, 0.75], [0.0, 1.0, -1.0], [0.05, 0.1, 0.4, 0.9]),
    "two jumps in a cell": ([0.2, 0.9, 0.95, 2.0], [0.35, 0.55], [0.0, 1.0, -0.5], [0.05, 0.1, 0.4, 0.9]),
}


def test_derivatives_of_known_and_of_traced_starts():
    rng = np.random.default_rng(7)
    value_and_grad = quick_jit(jax.vmap(jax.value_and_grad(observed, (0, 1, 2, 3))))
    arguments = [jnp.array(column, float) for column in zip(*DIFFERENTIATED.values(), strict=True)]
    directions = [jnp.asarray(rng.normal(size=a.shape)) for a in arguments]
    values, slopes = value_and_grad(*arguments)
    expected = slope_along(lambda *shifted: value_and_grad(*shifted)[0], arguments, directions)
    reverse = sum(jnp.sum(g * d, axis=1) for g, d in zip(slopes, directions, strict=True))
    np.testing.assert_allclose(reverse, expected, rtol=1e-6, atol=1e-6)
    for row in (0, 1, 2):
        lane, along = ([leaf[row] for leaf in leaves] for leaves in (arguments, directions))
        value, forward = jax.jvp(observed, lane, along)
        np.testing.assert_allclose(value, values[row], rtol=1e-12)
        np.testing.assert_allclose(forward, expected[row], rtol=1e-6, atol=1e-6)


def test_derivatives_of_hit_times():
    def times(start, jumps, values):
        return hit_times(start, tts.PiecewiseConstant(jumps, values))

    compiled = quick_jit(times)
    forward_mode = quick_jit(lambda arguments, directions: jax.jvp(times, arguments, directions)[1])
    for start, jumps, values, _ in list(DIFFERENTIATED.values())[:2]:
        arguments = [jnp.array(a, float) for a in (start, jumps, values)]
        directions = [jnp.cos(jnp.arange(len(a), dtype=float)) for a in arguments]
        forward = forward_mode(arguments, directions)
        np.testing.assert_allclose(forward, slope_along(compiled, arguments, directions), rtol=1e-7, atol=1e-7)


def test_a_neuron_that_has_hit_follows_the_jump_alone():
    start, jumps, values = jnp.array([0.2, 0.42, 0.55, 0.9]), jnp.array([0.35, 0.75]), jnp.array([0.0, 1.0, -1.0])

    def nearest(start, jumps, values):
        return pair_positions(start, tts.PiecewiseConstant(jumps, values), jnp.array([0.9]))[0, 1]

    value, (d_start, d_jumps, d_values) = quick_jit(jax.value_and_grad(nearest, (0, 1, 2)))(start, jumps, values)
    assert value == jumps[0]
    np.testing.assert_array_equal(d_start, 0)
    np.testing.assert_array_equal(d_jumps, [1, 0])
    np.testing.assert_array_equal(d_values, 0)


def test_single_precision():
    starts = np.tile(padded([0.2, 0.45, 0.7], NEURONS), (LANES, 1))
    jumps = np.tile([0.35, 0.55, 0.95, 0.96, 0.97, 0.98], (LANES, 1))
    values = np.tile([0.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0], (LANES, 1))
    starts[0, :14] = np.linspace(0.1, 0.992, 14)
    jumps[0] = starts[0, 1:12:2] + np.linspace(0.01, 0.05, 6)
    times = np.tile(np.linspace(0, 1, 9), (LANES, 1))
    assert has_closed_form(jnp.asarray(starts[0]), tts.PiecewiseConstant(jumps[0], values[0]))
    double = simulate_many(starts, jumps, values, times)
    with jax.enable_x64(False):
        single = simulate_many(*(a.astype(np.float32) for a in (starts, jumps, values, times)))
    assert (single.status == tts.Status.SUCCESSFUL).all()
    assert single.model.positions.dtype == single.risk.dtype == jnp.float32
    np.testing.assert_allclose(single.model.positions, double.model.positions, rtol=0, atol=1e-5)


def test_what_it_refuses(annotations_off):
    target = tts.PiecewiseConstant([0.5], [0.0, 1.0])
    problem, dynamics = tts.Regression(target), tts.TwoTimescaleLimit()
    no_bias = eqx.tree_at(lambda model: model.bias, network([0.2]), None)
    refuses(lambda: tts.simulate(dynamics, no_bias, problem, jnp.zeros(1)), "bias")
    data = tts.Dataset(np.zeros((3, 1)), np.zeros(3))
    refuses(lambda: tts.simulate(dynamics, network([0.2]), data, jnp.zeros(1)), "Dataset", "Regression")
    refuses(lambda: tts.TwoTimescaleLimit(max_events=0), "max_events", "0")
    samples = np.zeros((3, 1)), np.zeros(3)
    refuses(lambda: tts.simulate(dynamics, network([0.2]), problem, jnp.zeros(1), samples=samples), "samples")
    wide = tts.ShallowNetwork.init(jax.random.key(0), 3, tts.Heaviside(), dimension=2)
    refuses(lambda: tts.simulate(dynamics, wide, problem, jnp.zeros(1)), "(3, 2)")
