"""Figure 7: the same starts for every ratio, and an error that falls with it."""

import json

import jax
import numpy as np
import pytest
import reference
from scipy import stats

import tts_jax as tts
from tts_jax import experiments


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    few = experiments.preset("varying-epsilon", seeds=4, epsilons=(0.3, 1.0), seed=7)
    return few.run(tmp_path_factory.mktemp("varying"))


def test_the_presets_are_the_papers():
    paper = experiments.preset("varying-epsilon", "paper")
    assert (paper.seeds, paper.step_size, paper.slow_time) == (20, 1e-5, 3.0)
    assert [paper.steps(epsilon) for epsilon in paper.epsilons] == [30_000_000, 3_000_000, 300_000]
    assert (paper.neurons, paper.eta, paper.noise) == (20, 4e-3, 1.0)


def test_a_lane_is_the_run_that_simulate_gives(tmp_path):
    """For 1,000 steps: later the dynamics amplifies rounding errors."""
    short = experiments.preset("varying-epsilon", seeds=4, epsilons=(0.3, 1.0), seed=7, slow_time=0.01)
    key = jax.random.key(9)
    start = tts.ShallowNetwork.init(key, 20, tts.SmoothStep(4e-3))
    problem = tts.Regression(reference.paper_target(), noise=1.0)
    alone = tts.simulate(tts.SGD(1.0, 1e-5), start, problem, [0.01], key=jax.random.fold_in(key, 2))
    lanes = short.run(tmp_path).evidence.results
    np.testing.assert_allclose(lanes[0, 1, 2], alone.risk[-1], rtol=1e-9)


def test_final_errors_are_of_the_published_size(outcome):
    """200 runs of an independent implementation at a ratio of 1 end between 0.493 and 1.478."""
    exact, box = outcome.evidence.results
    assert np.all((exact[1] > 0.493 / 1.5) & (exact[1] < 1.478 * 1.5))
    assert np.median(exact[0]) < np.median(exact[1])
    assert not np.array_equal(exact, box)


def test_final_errors_are_distributed_as_those_of_an_independent_implementation(outcome):
    published = reference.load("fig7")
    for arm, name in enumerate(("exact", "box")):
        assert stats.ks_2samp(outcome.evidence.results[arm, 1], published[f"eps1_{name}"]).pvalue > 0.01


def test_everything_is_written(outcome):
    data = tts.load(outcome.folder / "errors.nc")
    np.testing.assert_array_equal(data.error, outcome.evidence.results)
    assert (data.status == "successful").all()
    assert data.seed.values.tolist() == [7, 8, 9, 10]
    np.testing.assert_array_equal(data.neurons_per_piece.sum("piece"), 20)
    summary = json.loads((outcome.folder / "summary.json").read_text())
    share = (data.neurons_per_piece.min("piece") >= 2).mean()
    assert summary["share_with_two_neurons_in_every_piece"] == share
    (table,) = summary["tables"]
    assert [row[:3] for row in table["rows"]] == [
        [arm, epsilon, steps]
        for arm in ("exact gradient", "box gradient")
        for epsilon, steps in (("0.3", "1,000,000"), ("1", "300,000"))
    ]
    assert table["rows"][1][5] == f"{np.median(outcome.evidence.results[0, 1]):.4g}"
    assert {path.name for path in outcome.folder.iterdir()} == set(outcome.files)


SPREAD = np.geomspace(0.9, 1.1, 20)


def verdicts(exact, box=None):
    """Of twenty made-up repeats for each ratio, smallest first; the box gives the same errors where none are said."""
    errors = np.stack([exact, exact if box is None else box])
    return [finding.judged for finding in experiments.preset("varying-epsilon", seeds=20)._findings(errors)]


def test_claims_are_tests_over_the_starts():
    clear = np.array([[0.01], [0.1], [1.0]]) * SPREAD
    assert verdicts(clear) == ["holds"] * 4
    assert verdicts(clear[::-1]) == ["fails", "fails", "fails", "holds"]
    assert verdicts(clear, 3 * clear) == ["holds", "holds", "holds", "fails"]
    half = clear.copy()
    half[0, ::2] = 2.0  # half of the starts miss it
    assert verdicts(half) == ["undecided", "holds", "undecided", "holds"]
    assert verdicts(clear, np.where(half == 2.0, 0.03, clear)) == ["holds", "holds", "holds", "undecided"]


def test_runs_that_fail_decide_nothing_and_are_counted():
    clear = np.array([[0.01], [0.1], [1.0]]) * SPREAD
    few, many = clear.copy(), clear.copy()
    few[0, :5], many[0, :6] = np.nan, np.nan
    assert verdicts(few) == ["holds"] * 4
    assert verdicts(many) == ["undecided", "holds", "undecided", "undecided"]
    preset = experiments.preset("varying-epsilon", seeds=20)
    first, second, growth, box = (finding.measured for finding in preset._findings(np.stack([many, clear])))
    assert first.startswith("14 of 20 errors at ε = 0.01 are below 0.08, ten times the floor set by η; median 0.0")
    assert [said.count("6 of 20 failed") for said in (first, second, growth, box)] == [1, 0, 1, 1]


def test_four_starts_are_too_few(outcome):
    findings = outcome.evidence.findings
    assert {finding.judged for finding in findings} == {"not judged (epsilons changed)"}
    assert all("too few repeats for an interval, p = 0.12)" in finding.measured for finding in findings[1:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds must be an integer of at least 1"),
        ({"epsilons": (0.1, -1.0)}, "epsilons must be positive"),
        ({"seed": 2**32 - 1}, "seeds must end below"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        experiments.preset("varying-epsilon", **changes)
