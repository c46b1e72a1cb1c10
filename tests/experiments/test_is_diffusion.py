"""Whether SGD is a diffusion: what is run, what is said of it, and what is written."""

import jax
import numpy as np
import pytest

import tts_jax as tts
from tts_jax import experiments

SMALL = {
    "epsilons": (1.0, 0.1),
    "step_sizes": (1e-3, 1e-2),
    "slow_times": (0.012, 0.008),
    "saves": 4,
    "neurons": 3,
    "amplifications": (1, 4),
}
NAME = "is-it-a-diffusion"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return experiments.preset(NAME, seeds=2, seed=5, **SMALL).run(tmp_path_factory.mktemp("diffusion"))


def test_runs_are_those_of_simulate(outcome):
    """Each from the start of its seed, in its own stream."""
    errors = outcome.evidence.results
    assert errors.shape == (2, 3, 2, 4)
    experiment, key = outcome.experiment, jax.random.key(6)
    start = tts.ShallowNetwork.init(key, 3, tts.SmoothStep(4e-3))
    for arm, dynamics in ((1, tts.SGD(0.1, 1e-2, svag=4)), (2, tts.SGDDiffusion(0.1, 1e-2, substeps=2))):
        own = jax.random.fold_in(jax.random.fold_in(key, 2), arm)
        times = 0.008 * np.arange(1, 5) / 4
        alone = tts.simulate(dynamics, start, experiment.problem, times, key=own)
        np.testing.assert_allclose(errors[1, arm, 1], alone.risk, rtol=1e-9)


def test_everything_is_written(outcome):
    data = tts.load(outcome.folder / "errors.nc")
    np.testing.assert_array_equal(data.error, outcome.evidence.results)
    assert (data.status == "successful").all()
    assert data.arm.values.tolist() == ["SGD", "SVAG, l = 4", "diffusion"]
    np.testing.assert_allclose(data.slow_time[0], [0.003, 0.006, 0.009, 0.012])
    (table,) = outcome.evidence.tables
    average = np.median(outcome.evidence.results[1, 2, :, 2:].mean(axis=-1))
    assert table.rows[-1][:2] + table.rows[-1][3:4] == ("ε = 0.1, h = 0.01", "diffusion", f"{average:.4g}")
    assert {path.name for path in outcome.folder.iterdir()} == set(outcome.files)


def verdicts(of_sgd, of_svag):
    """Of made-up errors of twenty starts at two pairs: of SGD, of SVAG, and of a diffusion with error 1."""
    errors = np.ones((2, 3, 20, 4))
    errors[:, 0], errors[:, 1] = of_sgd, of_svag
    experiment = experiments.preset(NAME, seeds=20, **SMALL)
    return [finding.verdict.value for finding in experiment._findings(experiment.ratios(errors))]


def test_claims_are_tests_over_the_starts():
    near, far = np.linspace(0.97, 1.03, 20)[:, None], np.linspace(0.8, 0.93, 20)[:, None]
    late = np.ones((20, 4))
    late[:, :2] = 3.0  # what is early does not matter
    assert verdicts(near, late) == ["holds", "holds", "holds"]
    assert verdicts(far, near) == ["fails", "fails", "holds"]
    assert verdicts(np.stack([far * late, near * late]), np.stack([near, far]) * late) == ["fails", "holds", "fails"]
    assert verdicts(np.where(np.arange(20)[:, None] % 2, 0.9, 1.0), near) == ["undecided", "undecided", "holds"]
    assert verdicts(np.where(np.arange(20)[:, None] < 6, np.nan, near), near) == ["undecided", "undecided", "holds"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step_sizes": (1e-3,)}, "as many"),
        ({"epsilons": (1.0, -1.0)}, "epsilons must be positive"),
        ({"slow_times": (1.0, 1e9)}, "choose a step_size"),
        ({"amplifications": (2, 4)}, "increase from 1"),
        ({"substeps": 3}, "power of 2"),
        ({"seeds": 0}, "seeds must be"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        experiments.preset(NAME, **SMALL | changes)


def test_the_paper_profile_has_published_pairs():
    cases = experiments.preset(NAME, "paper").cases
    assert {(case.epsilon, case.step_size) for case in cases} >= {(1.0, 1e-5), (2e-5, 1e-3)}
