"""The learning order, in small: against SciPy, NumPy and a loop over the samples."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import reference
from numpy.polynomial import hermite_e
from PIL import Image
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax import experiments
from tts_jax.experiments import Verdict
from tts_jax.experiments.learning_order import Beside, Flows

EPSILONS, NEURONS, STARTS = (1e-2, 1e-3, 1e-4), 8, 2
SGD = {"sgd_epsilon": 0.2, "sgd_neurons": 3, "sgd_inputs": 5, "sgd_repeats": 2, "step_size": 1e-2, "sgd_end": 1.2}
SMALL = {"epsilons": EPSILONS, "neurons": NEURONS, "starts": STARTS, "seed": 3} | SGD


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return experiments.preset("learning-order", **SMALL).run(tmp_path_factory.mktemp("order"))


def weights_of(start):
    """Those that a start begins with."""
    key = jax.random.split(jax.random.key(3), STARTS)[start]
    return np.asarray(tts.Overlaps.init(key, NEURONS, tts.Hermite(np.ones(4))).weights)


def by_scipy(a, epsilon, end=10.0):
    """The flow at d = infinity in the time of Berthier, Montanari and Zhou, sums over all pairs; when each degree is
    half learned, by events."""
    m = len(a)

    def velocity(_, y):
        a, s = y[:m], y[m:]
        r = np.outer(s, s)
        v, dv = 1 + s + s**2 + s**3, 1 + 2 * s + 3 * s**2
        u, du = 1 + r + r**2 + r**3, 1 + 2 * r + 3 * r**2
        d_s = a * (dv * (1 - s**2) - (du * (s[None] - r * s[:, None])) @ a / m)
        return np.concatenate([(v - u @ a / m) / epsilon, d_s])

    events = [lambda _, y, k=k: np.mean(y[:m] * y[m:] ** k) - 0.5 for k in range(4)]
    found = solve_ivp(
        velocity,
        (0, end),
        np.concatenate([a, 0 * a]),
        "LSODA",
        rtol=1e-10,
        atol=1e-10,
        events=events,
        dense_output=True,
    )
    halves = np.array([times[0] if len(times) else np.nan for times in found.t_events])

    def risk(times):
        a, s = np.split(found.sol(times), 2)
        return sum((1 - np.mean(a * s**k, axis=0)) ** 2 for k in range(4))

    return halves, risk


@pytest.mark.parametrize(("start", "ratio"), [(0, 0), (1, 2)])
def test_half_times_and_risks_are_those_of_scipy(outcome, start, ratio):
    flows, halves, _ = outcome.evidence.results
    want, risk = by_scipy(weights_of(start), EPSILONS[ratio])
    assert np.isfinite(want).all()
    np.testing.assert_allclose(halves[start, ratio], want, rtol=1e-3)  # between saves it is interpolated
    np.testing.assert_allclose(flows.risk[start, ratio], risk(outcome.experiment.times), atol=1e-5)
    assert flows.mean_weight[start, ratio] == pytest.approx(weights_of(start).mean(), abs=1e-15)
    with np.load(outcome.folder / "half_times.npz") as arrays:
        np.testing.assert_array_equal(arrays["half_times"], halves)
    # Midway between degrees the plateaus are what is left: 3, 2 and 1.
    midway = np.sqrt(want[:-1] * want[1:])
    off = np.max(np.abs(risk(midway) / [3, 2, 1] - 1))
    got = outcome.experiment.off_plateau(np.asarray(flows.risk), halves)[start, ratio]
    assert got == pytest.approx(off, abs=2e-3)


def test_slopes_are_those_of_numpy(outcome):
    times = np.random.default_rng(0).uniform(0.1, 3.0, (5, 3))
    want = np.polyfit(np.log(EPSILONS), np.log(times).T, 1)[0]
    np.testing.assert_allclose(outcome.experiment.slopes(times), want, rtol=1e-12)


def hermite(z):
    """The sum of the first four normalised polynomials, and its slope."""
    coefficients = 1 / np.sqrt([1, 1, 2, 6])
    return hermite_e.hermeval(z, coefficients), hermite_e.hermeval(z, hermite_e.hermeder(coefficients))


def by_a_loop(step_size, key, network, epsilon, steps):
    """SGD by hand, sample by sample, in the stream of the key: the last risk, and lengths."""
    a, u = np.array(network.weights), np.array(network.directions)
    m, d = u.shape
    problem = tts.SingleIndex(np.eye(d)[0], tts.Hermite(np.ones(4)))
    drawn = [np.asarray(problem.sample(jax.random.fold_in(key, k), 512)[0]) for k in range(-(-steps // 512))]
    for x in np.concatenate(drawn)[:steps]:
        length = np.linalg.norm(u, axis=1)
        e = u / length[:, None]
        value, slope = hermite(e @ x)
        error = np.mean(a * value) - hermite(x[0])[0]
        push = 2 * error * (a * slope / length)[:, None] / m * (x[None] - (e @ x)[:, None] * e)
        a, u = a - step_size * 2 * error * value / m, u - epsilon * step_size * push
    length = np.linalg.norm(u, axis=1)
    e = u / length[:, None]
    s, r = e[:, 0], e @ e.T
    return sum(1 - 2 * np.mean(a * s**k) + a @ r**k @ a / m**2 for k in range(4)), length


def test_sgd_is_a_loop_over_the_samples_and_its_flow_begins_with_it(outcome):
    _, _, beside = outcome.evidence.results
    begin, *streams = jax.random.split(jax.random.key(4), 3)
    network = tts.SphereNetwork.init(begin, 3, 5, tts.Hermite(np.ones(4)))
    assert beside.sgd.shape == (2, 2, 61)
    for runs, lengths, step_size in zip(beside.sgd, beside.lengths, (1e-2, 4e-2), strict=True):
        # The end is time 1.2 of theirs: slow time 1.8, and a step is 0.2 times its size of it.
        risk, length = by_a_loop(step_size, streams[1], network, 0.2, round(1.8 / 0.2 / step_size))
        assert runs[1, -1] == pytest.approx(risk, rel=1e-8)
        np.testing.assert_allclose(lengths[1], length, rtol=1e-10)
    assert beside.flow[0] == pytest.approx(beside.sgd[0, 0, 0], rel=1e-12)
    assert (beside.lengths > 1).all()


LENGTHS = np.ones((2, 20, 3))


def made_up(experiment, orders, starts=20, flattens=1):
    """Flows and half-times whose degrees come in times of these orders, up to 1 %."""
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=(starts, 3, 4)))
    epsilons = np.asarray(EPSILONS)
    after = np.stack([epsilons**order for order in orders], axis=-1)
    after[:, 1] *= np.log(1 / epsilons)
    halves = np.cumsum(after * noise, axis=-1)
    halves[..., 0] = np.log(2) * epsilons * noise[..., 0] ** 0.1
    off = 1 + 0.01 * (epsilons / 1e-3)[None, :, None] ** flattens * np.abs(noise[..., :1])
    steps = np.sum(experiment.times >= halves[..., None], axis=2)  # degrees learned by each time
    risk = (4 - steps) * off
    flows = Flows(risk, np.zeros((starts, 3, 1, 4)), np.zeros((starts, 3), int), np.zeros((starts, 3)))
    return flows, halves


def test_claims_are_tests_over_the_starts(outcome):
    experiment = outcome.experiment
    flow = np.ones(5)
    near, far = 1 + 0.01 * np.arange(1, 21)[:, None] * flow, 1 + 0.02 * np.arange(1, 21)[:, None] * flow

    def verdicts(orders, fine=near, coarse=far, **options):
        flows, halves = made_up(experiment, orders, **options)
        return [
            each.verdict
            for each in experiment._findings(flows, halves, Beside(flow, flow, np.stack([fine, coarse]), LENGTHS))
        ]

    holds, fails = Verdict.HOLDS, Verdict.FAILS
    theory = (1, 1 / 2, 1 / 4, 1 / 6)
    assert verdicts(theory) == [holds] * 7
    assert verdicts((1, 1, 1 / 4, 1 / 6))[1] == fails
    assert verdicts((1, 1 / 2, 1 / 2, 1 / 6))[2] == fails
    assert verdicts((1, 1 / 2, 1 / 4, 1 / 4))[3] == fails
    assert verdicts(theory, fine=far, coarse=near)[6] == fails
    assert set(verdicts(theory, starts=5)[:6]) == {Verdict.UNDECIDED}
    flows, halves = made_up(experiment, theory)
    later = halves * np.array([1.1, 1, 1, 1])
    beside = Beside(flow, flow, np.stack([near, far]), LENGTHS)
    assert experiment._findings(flows, later, beside)[0].verdict == fails
    flows, halves = made_up(experiment, theory, flattens=-1)
    assert experiment._findings(flows, halves, beside)[5].verdict == fails


def test_a_degree_that_is_not_learned_has_no_half_time(outcome):
    learned = np.zeros((2, 500, 4))
    learned[0, 100:, 1] = 1.0
    learned[0, :, 2] = 1.0
    got = outcome.experiment.half_times(learned)
    times = outcome.experiment.times
    assert got[0, 1] == pytest.approx(np.sqrt(times[99] * times[100]), rel=1e-12)
    assert np.isnan(np.delete(got.ravel(), 1)).all()


def test_what_is_written(outcome):
    summary = json.loads((outcome.folder / "summary.json").read_text())
    assert summary["failed_flows"] == 0
    assert summary["files"] == [*outcome.evidence.figures, "half_times.npz", "summary.json"]
    assert {path.name for path in outcome.folder.iterdir()} == set(summary["files"])
    for name in outcome.evidence.figures:
        with Image.open(outcome.folder / name) as picture:
            assert picture.width == 1100
    assert {finding.verdict for finding in outcome.evidence.findings} == {Verdict.NOT_JUDGED}
    times, lengths = outcome.evidence.tables
    _, halves, beside = outcome.evidence.results
    assert times.rows[1][2] == f"{np.median(halves[:, 1, 1]):.4g}"
    assert lengths.rows[1] == ("0.04", f"{beside.lengths[1].mean():.4g}", f"{beside.lengths[1].max():.4g}")


def test_the_quick_profile_has_all_ratios_and_enough_starts_for_a_verdict():
    quick, paper = (dataclasses.asdict(experiments.preset("learning-order", profile)) for profile in ("quick", "paper"))
    differ = {name for name in quick if quick[name] != paper[name]}
    assert differ == {"profile", "starts", "sgd_neurons", "sgd_repeats", "step_size"}
    assert min(quick["starts"], quick["sgd_repeats"]) >= 6


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    def preset(**changes):
        return lambda: experiments.preset("learning-order", **changes)

    reference.refuses(preset(epsilons=(1.0, 0.1)), "three at least", "(1.0, 0.1)")
    reference.refuses(preset(epsilons=(0.1, 1.0, 0.01)), "decrease")
    reference.refuses(preset(epsilons=(1.0, 0.1, -1.0)), "epsilon must be positive")
    reference.refuses(preset(degrees=2), "degrees", "at least 3")
    reference.refuses(preset(sgd_end=0.0), "sgd_end")
    reference.refuses(preset(starts=0), "starts")
