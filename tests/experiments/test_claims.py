"""Verdicts against SciPy, numbers that can be done by hand, and simulated repeats; what is not judged, and why."""

import json

import numpy as np
import pytest
from command_line import call
from scipy import stats

from tts_jax import experiments
from tts_jax.experiments import Verdict
from tts_jax.experiments.claims import Repeats

HOLDS, FAILS, UNDECIDED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED
NAN = float("nan")


def signs(lower, higher, equal=0, failed=0):
    """Repeats about 1, of which some are lower, higher, equal, NaN."""
    below, above = 0.5 + 0.001 * np.arange(lower), 1.5 + 0.001 * np.arange(higher)
    return Repeats(np.concatenate([below, above, np.full(equal, 1.0), np.full(failed, NAN)]))


@pytest.mark.parametrize(("lower", "higher"), [(10, 10), (14, 6), (15, 5), (20, 0), (3, 17), (6, 0), (0, 1), (13, 12)])
def test_p_values_are_those_of_the_exact_binomial_test(lower, higher):
    repeats = signs(lower, higher)
    exact = stats.binomtest(lower, lower + higher, 0.5, alternative="two-sided").pvalue
    assert repeats.p_value(1.0) == pytest.approx(exact, rel=1e-12)
    assert (repeats.lower(1.0), repeats.higher(1.0)) == (lower, higher)


@pytest.mark.parametrize("n", range(1, 60))
def test_intervals_are_those_of_an_independent_implementation(n):
    values = np.random.default_rng(n).normal(size=n)
    expected = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    for mine, known, unbounded in zip(Repeats(values).interval, expected, (-np.inf, np.inf), strict=True):
        assert mine == (unbounded if np.isnan(known) else known)


def test_the_interval_of_twenty_lies_between_the_sixth_and_the_fifteenth():
    assert Repeats(np.arange(1.0, 21.0)).interval == (6.0, 15.0)  # 2 P(B <= 5) = 0.041, 2 P(B <= 6) = 0.115


@pytest.mark.parametrize(
    ("repeats", "verdict", "p"),
    [
        (signs(5, 0), UNDECIDED, 2 / 2**5),
        (signs(6, 0), HOLDS, 2 / 2**6),
        (signs(0, 6), FAILS, 2 / 2**6),
        (signs(4, 0), UNDECIDED, 2 / 2**4),
        (signs(10, 10), UNDECIDED, 1.0),
        (signs(14, 6), UNDECIDED, 120_920 / 2**20),
        (signs(15, 5), HOLDS, 43_400 / 2**20),
        (signs(5, 15), FAILS, 43_400 / 2**20),
        (signs(15, 0, equal=5), HOLDS, 43_400 / 2**20),
        (signs(14, 0, equal=6), UNDECIDED, 120_920 / 2**20),
        (signs(15, 0, failed=5), HOLDS, 43_400 / 2**20),
        (signs(14, 0, failed=6), UNDECIDED, 120_920 / 2**20),
        (signs(0, 0, failed=20), UNDECIDED, 1.0),
        (signs(0, 0, equal=20), UNDECIDED, 1.0),
    ],
)
def test_where_a_verdict_changes(repeats, verdict, p):
    """120,920 is twice the number of subsets of twenty with at most six elements; 43,400 with at most five."""
    assert repeats.below(1.0) is verdict
    assert repeats.above(1.0) is {HOLDS: FAILS, FAILS: HOLDS, UNDECIDED: UNDECIDED}[verdict]
    assert repeats.p_value(1.0) == pytest.approx(p, rel=1e-12)


def test_a_verdict_and_its_p_value_agree():
    """Of any size, with ties and failures; also at two bounds."""
    rng, seen = np.random.default_rng(0), set()
    for _ in range(500):
        values = rng.normal(rng.normal(), 1.0, size=rng.integers(1, 40)).round(1)
        values[rng.uniform(size=values.size) < rng.choice([0.0, 0.2])] = NAN
        repeats, bound = Repeats(values), round(rng.normal(), 1)
        low, high = repeats.interval
        decided = repeats.p_value(bound) < 0.05
        assert decided == (not low <= bound <= high)
        assert (repeats.below(bound) is not UNDECIDED) == decided
        wide = (bound, bound + 1.0)
        both = repeats.between(*wide)
        assert (both is not UNDECIDED) == (max(map(repeats.p_value, wide)) < 0.05)
        seen |= {repeats.below(bound), both}
    assert seen == {HOLDS, FAILS, UNDECIDED}


@pytest.mark.parametrize("n", [6, 20, 33])
def test_the_interval_covers_the_median_as_often_as_it_says(n):
    """Of a skewed law without a mean, and never less often than 95 %; by the binomial law it is known how often."""
    draws = np.random.default_rng(1).pareto(0.9, size=(4000, n))
    median = 2 ** (1 / 0.9) - 1
    covered = np.mean([low <= median <= high for low, high in (Repeats(values).interval for values in draws)])
    outside = next(k for k in range(n) if stats.binom.cdf(k, n, 0.5) > 0.025)
    exact = 1 - 2 * stats.binom.cdf(outside - 1, n, 0.5)
    assert exact >= 0.95
    assert covered == pytest.approx(exact, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


def test_ratios_of_pairs():
    first, second = np.array([1.0, 0.0, 2.0, 0.0, NAN, 1.0]), np.array([2.0, 0.0, 0.0, 3.0, 1.0, NAN])
    repeats = Repeats.ratios(first, second)
    np.testing.assert_array_equal(repeats.values, [0.5, 1.0, np.inf, 0.0, NAN, NAN])
    assert repeats.failed == 2


def test_what_is_said():
    assert signs(18, 2).said(1.0) == "0.5095 (95 %: 0.505 to 0.514, p = 0.0004)"
    assert signs(4, 0).said(1.0) == "0.5015 (too few repeats for an interval, p = 0.12)"
    assert signs(15, 0, failed=5).said(1.0) == "0.507 (95 %: 0.5 to 0.514, p = 0.041, 5 of 20 failed)"
    assert signs(14, 0, failed=6).said(1.0) == ("0.5065 (too few repeats for an interval, p = 0.12, 6 of 20 failed)")
    assert signs(0, 0, failed=7).said(1.0) == "nan (too few repeats for an interval, p = 1, 7 of 7 failed)"


def test_equivalence_needs_the_interval_within_both_bounds():
    near, far = Repeats(np.linspace(0.9, 1.1, 20)), Repeats(np.linspace(2.5, 3.0, 20))
    wide = Repeats(np.geomspace(0.1, 10.0, 20))
    assert [each.between(0.5, 2.0) for each in (near, far, wide)] == [HOLDS, FAILS, UNDECIDED]
    assert Verdict.all_of(HOLDS, HOLDS) is HOLDS
    assert Verdict.all_of(HOLDS, UNDECIDED) is UNDECIDED
    assert Verdict.all_of(UNDECIDED, FAILS) is FAILS
    assert Verdict.all_of() is UNDECIDED


@pytest.mark.parametrize(
    ("name", "profile", "changed", "said"),
    [
        ("two-timescale", "quick", {"seed": 3}, ()),
        ("two-timescale", "paper", {"saves": 10, "panels": (0.0,), "frame_every": 2}, ()),
        ("two-timescale", "quick", {"epsilon": 1.0}, ("epsilon",)),
        ("two-timescale", "quick", {"step_size": 1e-5}, ("step_size",)),
        ("same-step", "quick", {"epsilon": 1e-3, "neurons": 30, "slow_time": 1.0}, ("epsilon", "slow_time", "neurons")),
        ("same-step", "quick", {"epsilon": 1.0}, ()),
        ("varying-epsilon", "quick", {"seeds": 100, "seed": 1}, ()),
        ("varying-epsilon", "quick", {"epsilons": (0.1, 1.0)}, ("epsilons",)),
        ("varying-epsilon", "paper", {"values": (1.0, 2.0, 1.0, 2.0, 1.0, 2.0), "eta": 1e-3}, ("eta", "values")),
        ("additive-10d", "quick", {"repeats": 20}, ()),
        ("additive-10d", "quick", {"points": 10_000}, ("points",)),
        ("regime-atlas", "quick", {"sgd_seeds": 3}, ()),
        ("regime-atlas", "quick", {"sgd_slow_time": 1.0}, ("sgd_slow_time",)),
    ],
)
def test_what_a_claim_is_about(name, profile, changed, said):
    assert sorted(experiments.presets.changes(experiments.preset(name, profile, **changed))) == sorted(said)


def test_no_preset_has_changed():
    assert not any(map(experiments.presets.changes, experiments.PRESETS))


def test_a_claim_about_another_number_of_neurons_is_not_judged(tmp_path):
    code, text, _ = call("run", "reduced-sketch", "--neurons", "12", "--out", str(tmp_path))
    (finding,) = json.loads((tmp_path / "summary.json").read_text())["findings"]
    assert code == 0
    assert (finding["verdict"], finding["changed"]) == ("not judged", ["neurons"])
    assert f"{finding['claim']}: not judged (neurons changed); {finding['measured']}" in text
    assert "4 of the 4 flanking neurons" in finding["measured"]
