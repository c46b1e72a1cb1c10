"""Online learning of teacher and student: small runs of both experiments."""

import json

import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax import experiments
from tts_jax.dynamics.overlaps import literature_speeds

SMALL = {"starts": 2, "end": 300.0, "saves": 12}


@pytest.fixture(scope="module")
def plateau(tmp_path_factory):
    changes = {"sizes": (2, 3), "inputs": (10, 40), "seeds": 3, "sgd_end": 3.0} | SMALL
    return experiments.preset("online-plateau", **changes).run(tmp_path_factory.mktemp("plateau"))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    changes = {"ratios": (0.1, 1.0), "sizes": (3,)} | SMALL
    return experiments.preset("speeds-atlas", **changes).run(tmp_path_factory.mktemp("atlas"))


def test_the_full_atlas_is_of_a_thousand_odes():
    paper = experiments.preset("speeds-atlas", "paper")
    assert len(paper.ratios) * len(paper.sizes) * paper.starts == 1056
    assert paper.ratios[6] == 1.0


def test_errors_are_those_of_simulate(plateau):
    about, (exact, _) = plateau.experiment, plateau.evidence.results
    student, problem = about.pair(about.keys(2)[1], 3, 40)
    speeds = literature_speeds(0.5, 0.5, 40)
    run = tts.simulate(
        tts.OnlineSGD(speeds.epsilon, speeds.step_size), student, problem, about.alphas * float(speeds.slow_time)
    )
    np.testing.assert_allclose(exact["both layers", 3].error[1], run.risk / 2, rtol=1e-4)
    with np.load(plateau.folder / "plateau.npz") as arrays:
        np.testing.assert_array_equal(arrays["error"][1], exact["both layers", 3].error)


def test_the_teacher_is_orthonormal_and_noise_counts(plateau):
    _, problem = plateau.experiment.pair(plateau.experiment.keys(1)[0], 3, 40)
    directions = problem.teacher.directions
    np.testing.assert_allclose(2 * directions @ directions.T, np.eye(2), atol=1e-14)
    assert problem.noise == 0.1


def test_nothing_is_judged_that_was_changed(plateau, atlas):
    for outcome in (plateau, atlas):
        assert {finding.verdict for finding in outcome.evidence.findings} == {experiments.Verdict.NOT_JUDGED}
        summary = json.loads((outcome.folder / "summary.json").read_text())
        assert summary["files"] == [*outcome.evidence.figures, *outcome.evidence.files, "summary.json"]


def test_a_plateau_ends_where_the_error_falls_below_its_bound(atlas):
    length, last = atlas.evidence.results
    assert length.shape == last.shape == (2, 1, 2)
    with np.load(atlas.folder / "atlas.npz") as arrays:
        error, alpha = arrays["error"], arrays["alpha"]
    for at in np.ndindex(length.shape):
        left = alpha[error[at] < 0.005]
        assert length[at] == (left[0] if left.size else np.inf)
    assert np.isfinite(last).all()


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    def preset(name, **changes):
        return lambda: experiments.preset(name, **changes)

    reference.refuses(preset("online-plateau", sizes=(4, 2)), "sizes", "(4, 2)")
    reference.refuses(preset("online-plateau", inputs=(1, 50)), "got 1")
    reference.refuses(preset("online-plateau", sgd_end=0.0), "sgd_end")
    reference.refuses(preset("speeds-atlas", ratios=(1.0,)), "ratios")
    reference.refuses(preset("speeds-atlas", sizes=(2,)), "above the teacher's 2")
    reference.refuses(preset("speeds-atlas", noise=-1.0), "noise")
