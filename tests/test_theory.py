"""Predictions against integration by SciPy, enumeration, exact sums and Monte Carlo."""

import decimal
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy.integrate import quad, solve_ivp

import tts_jax as tts
from tts_jax import theory
from tts_jax.theory import probability_of_good_start

PAPER = reference.paper_target()
TARGET = tts.PiecewiseConstant([0.3, 0.6], [1.0, 3.0, -2.0])
PROBLEM = tts.Regression(TARGET)
BESIDE = (0.25, 0.38, 0.52, 0.7)
STARTS = {
    "a pair for each jump": (0.1, *BESIDE, 0.9),
    "nearer on the right, and one outside": (0.1, 0.2, 0.34, 0.57, 0.75, 1.2),
    "no neuron in the first piece": (0.34, 0.38, 0.52, 0.7),
    "none in the first and the last piece": (0.35, 0.45, 0.5, 0.53),
}


def network(positions, activation=None) -> tts.ShallowNetwork:
    u = jnp.asarray(positions)[:, None]
    return tts.ShallowNetwork(jnp.ones_like(u), u, 7.0, activation or tts.SmoothStep(0.02))


def integrated_hits(positions, target: tts.PiecewiseConstant) -> np.ndarray:
    """Every neuron moves with the difference of the squared misfits on its sides, until it stands on a jump."""
    jumps, values = np.asarray(target.jumps), np.asarray(target.values)
    edges, start = np.array([0.0, *jumps, 1.0]), np.sort([u for u in positions if 0 < u < 1])
    piece = np.searchsorted(jumps, start, side="right")
    moves, hits = np.ones(len(start), bool), np.full(len(jumps), np.inf)

    def velocity(_, u):
        around = np.array([0.0, *u, 1.0])
        overlap = np.minimum(around[1:, None], edges[1:]) - np.maximum(around[:-1, None], edges[:-1])
        fit = np.clip(overlap, 0, None) @ values / np.diff(around)
        here = values[piece]
        return np.where(moves, (here - fit[1:]) ** 2 - (here - fit[:-1]) ** 2, 0.0)

    def arrives(k):
        side = np.where(piece <= k, 1.0, -1.0)

        def gap(_, u):
            return np.min((side * (jumps[k] - u))[moves])

        gap.terminal = True
        return gap

    time, u = 0.0, start
    while np.isinf(hits).any():
        open_jumps = np.flatnonzero(np.isinf(hits))
        events = [arrives(k) for k in open_jumps]
        run = solve_ivp(velocity, (time, 10.0), u, "DOP853", events=events, rtol=1e-12, atol=1e-14)
        (hit,) = (k for k, times in zip(open_jumps, run.t_events, strict=True) if len(times))
        time, u = run.t[-1], run.y[:, -1]
        hits[hit] = time
        moves[np.argmin(np.abs(u - jumps[hit]))] = False
    return hits


@pytest.mark.parametrize("positions", STARTS.values(), ids=STARTS)
def test_hit_times_against_the_integrated_limit(positions):
    model = network(positions)
    assert theory.obstacle(model, PROBLEM) == ""
    np.testing.assert_allclose(theory.hit_times(model, PROBLEM), integrated_hits(positions, TARGET), atol=1e-9, rtol=0)


@pytest.mark.parametrize("ratio", [1e-12, 1e-6, 0.01, 0.3, 0.7, 0.79, 0.8, 0.99, 1 - 1e-6, 1 - 1e-12, 1.0])
def test_hit_times_to_rounding(ratio):
    """Of the distances that the positions have, rounded; 0.79 and 0.8 lie beside the place where the series change."""
    target = tts.PiecewiseConstant([0.5], [0.0, -2.0])
    u = np.array([0.5 - 0.25 * ratio, 0.75])
    p, q = 0.5 - u[0], u[1] - 0.5
    cubes = (q - p) * (q**2 + q * p + p**2)
    cuts = np.unique(np.clip([0, *(np.cbrt(cubes) * 2.0 ** np.arange(-2, 5)), p], 0, p))
    want = sum(
        quad(lambda s: (1 + s / np.cbrt(s**3 + cubes)) ** 2, *ends, epsabs=0, epsrel=2e-14)[0]
        for ends in itertools.pairwise(cuts)
    )
    got = theory.hit_times(network(u), tts.Regression(target))[0]
    assert got == pytest.approx(want / 4, rel=2e-15)


def test_hit_times_differentiate():
    def of(parameters):
        target = tts.PiecewiseConstant(parameters[:2], parameters[2:5])
        return theory.hit_times(network(parameters[5:]), tts.Regression(target))

    at = jnp.concatenate([TARGET.jumps, TARGET.values, jnp.asarray(STARTS["a pair for each jump"])])
    expected = reference.central_differences(of, at, 1e-6).T
    np.testing.assert_allclose(reference.quick_jit(jax.jacrev(of))(at), expected, atol=1e-8)
    np.testing.assert_allclose(reference.quick_jit(jax.jacfwd(of))(at), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ((0.2, 0.4, 0.7, 0.8), "piece 1, from 0.3 to 0.6, holds 1 neuron"),
        ((0.2, 0.3, 0.7, 0.8), "piece 1, from 0.3 to 0.6, holds no neuron"),
        ((0.4, 0.5, 0.7, 0.7), "two neurons coincide at 0.7"),
    ],
)
def test_no_closed_form_says_why(positions, said):
    assert theory.obstacle(network(positions), PROBLEM).startswith(said)
    np.testing.assert_array_equal(theory.hit_times(network(positions), PROBLEM), [np.inf, np.inf])


def test_a_jump_that_nothing_reaches():
    flat = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [1.0, 1.0, 2.0]))
    times = theory.hit_times(network((0.1, *BESIDE)), flat)
    assert times[0] == np.inf
    assert np.isfinite(times[1])
    alone = tts.Regression(tts.PiecewiseConstant([0.3], [1.0, 2.0]))
    assert theory.hit_times(network((-1.0, 2.0)), alone) == np.inf


def test_the_limit_conserves_and_the_flow_drifts_at_first_order():
    start, times = (0.1, 0.22, 0.39, 0.5, 0.71, 0.9), [0.0, 4e-3]

    def drift(dynamics, eta):
        run = tts.simulate(dynamics, network(start, tts.SmoothStep(eta)), PROBLEM, times)
        first, last = run.map(lambda model: theory.conserved(model, PROBLEM))
        assert np.isfinite(last).all()
        return np.asarray(last - first)

    np.testing.assert_allclose(theory.conserved(network(start), PROBLEM), [0.09**3 - 0.08**3, 0.11**3 - 0.1**3])
    np.testing.assert_allclose(drift(tts.TwoTimescaleLimit(), 0.01), 0.0, atol=1e-15)
    by_epsilon = [drift(tts.GradientFlow(epsilon), 1e-4) for epsilon in (2e-5, 1e-5)]
    by_width = [drift(tts.ReducedFlow(), eta) for eta in (0.01, 0.005)]
    for coarse, fine in (by_epsilon, by_width):
        assert (np.abs(fine) > 1e-8).all()
        np.testing.assert_allclose(coarse / fine, 2, rtol=0.1)


def test_conserved_is_unknown_at_a_boundary_and_after_the_hit():
    kept = theory.conserved(network((0.3, 0.4, 0.45)), PROBLEM)
    np.testing.assert_array_equal(np.isnan(kept), [True, True])


def test_the_floor():
    model = tts.ShallowNetwork(TARGET.heights[:, None], TARGET.jumps[:, None], 1.0, tts.SmoothStep(0.05))
    assert float(theory.floor(PROBLEM, 0.05)) == pytest.approx(float(PROBLEM.risk(model)), rel=1e-12)
    plane = tts.Regression(tts.Additive([TARGET, tts.PiecewiseConstant([0.5], [0.0, 1.0])]))
    both = tts.ShallowNetwork(
        [[2.0, 1.0], [-5.0, 0.0]], [[0.3, 0.5], [0.6, 0.9]], 1.0, tts.SmoothStep(0.05)
    )  # one neuron too many, of weight 0
    assert float(theory.floor(plane, 0.05)) == pytest.approx(float(plane.risk(both)), rel=1e-12)


def test_the_best_weights_gain_little_over_the_floor():
    def gain(eta):
        jumps = PAPER.jumps[:, None]
        problem = tts.Regression(PAPER)
        model = tts.ShallowNetwork(jnp.zeros_like(jumps), jumps, 0.0, tts.SmoothStep(eta))
        gram, cross, square = problem.normal_equations(model)
        return 1 - (square - cross @ np.linalg.solve(gram, cross)) / theory.floor(problem, eta)

    coarse, fine = gain(0.008), gain(0.004)
    assert fine == pytest.approx(0.0017, rel=0.01)
    assert coarse / fine == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("neurons", [1, 2, 3, 4])
def test_the_smallest_risk_against_every_choice(neurons):
    """Of breakpoints on a fine grid that holds the jumps."""
    target = tts.PiecewiseConstant([0.2, 0.4, 0.7, 0.8], [1.0, 4.0, 3.0, -1.0, 2.0])
    x = (np.arange(20) + 0.5) / 20
    y = reference.target_values(target.jumps, target.values, x)

    def risk(breaks):
        parts = np.split(y, breaks)
        return sum(((part - part.mean()) ** 2).sum() for part in parts) / len(y)

    least = min(risk(breaks) for breaks in itertools.combinations(range(1, 20), neurons))
    assert theory.smallest_risk(tts.Regression(target), neurons) == pytest.approx(least, rel=1e-13, abs=1e-16)


def test_the_smallest_risk_of_the_paper():
    problem = tts.Regression(PAPER)
    found = [theory.smallest_risk(problem, neurons) for neurons in range(1, 8)]
    assert (np.diff(found[:5]) < 0).all()
    assert found[4:] == [0.0, 0.0, 0.0]
    plane = tts.Regression(tts.Additive([PAPER, TARGET]))
    apart = sum(theory.smallest_risk(part, 1) for part in (problem, PROBLEM))
    assert theory.smallest_risk(plane, 1) == pytest.approx(apart, rel=1e-14)


@pytest.mark.parametrize("neurons", [3, 5, 8])
def test_enumeration(neurons):
    target = tts.PiecewiseConstant([0.2, 0.7], [0, 1, 0])
    lengths = [0.2, 0.5, 0.3]
    expected = sum(
        math.prod(lengths[k] for k in places)
        for places in itertools.product(range(3), repeat=neurons)
        if min(np.bincount(places, minlength=3)) >= 2
    )
    assert probability_of_good_start(target, neurons) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("neurons", [12, 20, 40])
def test_monte_carlo(neurons):
    lengths, trials = np.diff([0, 0.2, 0.35, 0.5, 0.65, 0.8, 1]), 200_000
    good = (np.random.default_rng(0).multinomial(neurons, lengths, trials) >= 2).all(1).mean()
    p = probability_of_good_start(PAPER, neurons)
    assert abs(p - good) < 4 * math.sqrt(p * (1 - p) / trials)


@pytest.mark.parametrize(
    ("jumps", "neurons"),
    [
        ([0.2, 0.35, 0.5, 0.65, 0.8], 20),
        ([0.2, 0.35, 0.3504, 0.65, 0.8], 5000),
        ([0.2, 0.35, 0.35002, 0.65, 0.8], 100_000),
        ([0.2, 0.2000001], 100_000),
    ],
)
def test_inclusion_and_exclusion(jumps, neurons):
    """Over which pieces hold no neuron, or one, in 60 digits: the terms cancel."""
    with decimal.localcontext(decimal.Context(prec=60)):
        lengths = [decimal.Decimal(float(x)) for x in np.diff([0.0, *jumps, 1.0])]
        expected = decimal.Decimal(0)
        for held in itertools.product(["enough", "none", "one"], repeat=len(lengths)):
            ones = [length for length, state in zip(lengths, held, strict=True) if state == "one"]
            rest = sum(length for length, state in zip(lengths, held, strict=True) if state == "enough")
            term = math.prod(ones, start=decimal.Decimal(math.perm(neurons, len(ones)))) * rest ** (neurons - len(ones))
            expected += term * (-1) ** sum(state != "enough" for state in held)
        found = probability_of_good_start(tts.PiecewiseConstant(jumps, range(len(jumps) + 1)), neurons)
    assert found == pytest.approx(float(expected), rel=1e-11)


def test_impossible_and_certain():
    assert probability_of_good_start(PAPER, 11) == 0
    assert probability_of_good_start(PAPER, 400) == pytest.approx(1, abs=1e-9)
    assert 1 - 1e-10 < probability_of_good_start(PAPER, 5000) <= 1
    with pytest.raises(ValueError, match="neurons"):
        probability_of_good_start(PAPER, 0)


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: probability_of_good_start(tts.PiecewiseLinear([0.5], [1.0]), 4), "got PiecewiseLinear"),
        (lambda: theory.hit_times(PROBLEM, network(BESIDE)), "got ShallowNetwork"),
        (lambda: theory.hit_times(network(BESIDE, tts.ReLU()), PROBLEM), "of ReLU and Regression"),
        (lambda: theory.conserved(network(BESIDE), tts.Dataset([[0.5]], [1.0])), "and Dataset"),
        (lambda: theory.floor(tts.Regression(tts.PiecewiseLinear([0.5], [1.0])), 0.1), "got PiecewiseLinear"),
        (lambda: theory.floor(PROBLEM, 0.0), "eta must be positive"),
        (lambda: theory.smallest_risk(TARGET, 2), "got PiecewiseConstant: pass Regression(target)"),
        (lambda: theory.smallest_risk(PROBLEM, 0), "neurons must be an integer"),
    ],
)
def test_refusals(call, said):
    reference.refuses(call, said)
