"""The presets are the paper's, and an experiment writes down what it computed."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tts_jax import experiments
from tts_jax._provenance import Provenance
from tts_jax.distance import distance
from tts_jax.dynamics.sgd import stretches
from tts_jax.sweeps import store
from tts_jax.trajectory import over_time

SMALL = {"step_size": 1e-2, "saves": 6, "panels": (0.0, 0.035), "frame_every": 4}


@pytest.fixture(scope="module")
def reports():
    return []


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, reports):
    folder = tmp_path_factory.mktemp("run") / "made" / "where it is missing"
    small = experiments.preset("two-timescale", **SMALL)
    return small.run(folder, lambda *report: reports.append(report))


@pytest.fixture(scope="module")
def written(outcome):
    return json.loads((outcome.folder / "summary.json").read_text())


@pytest.mark.parametrize(
    ("name", "profile", "epsilon", "step_size", "slow_time", "steps"),
    [
        ("two-timescale", "paper", 2e-5, 1e-5, 0.035, 175_000_000),
        ("two-timescale", "quick", 2e-5, 1e-3, 0.035, 1_750_000),
        ("same-step", "paper", 1.0, 1e-5, 10.0, 1_000_000),
        ("same-step", "quick", 1.0, 1e-5, 10.0, 1_000_000),
    ],
)
def test_presets_are_the_papers(name, profile, epsilon, step_size, slow_time, steps):
    preset = experiments.preset(name, profile)
    assert (preset.epsilon, preset.step_size, preset.slow_time, preset.steps) == (epsilon, step_size, slow_time, steps)
    assert (preset.neurons, preset.eta, preset.noise) == (20, 4e-3, 1.0)
    assert preset.jumps == (0.2, 0.35, 0.5, 0.65, 0.8)
    assert preset.values == (1.0, 5.0, 1.0, 3.0, 1.0, 5.0)


COMPARISONS = [experiment for experiment in experiments.PRESETS if isinstance(experiment, experiments.Comparison)]


@pytest.mark.parametrize("preset", COMPARISONS, ids=lambda preset: f"{preset.name} {preset.profile}")
def test_the_default_start_holds_two_neurons_in_every_piece(preset):
    assert preset.seed == 0
    assert min(preset.neurons_per_piece) >= 2
    assert sum(preset.neurons_per_piece) == preset.neurons
    assert np.all(np.asarray(preset.start.weights) == 0)


@pytest.mark.parametrize("preset", COMPARISONS, ids=lambda preset: f"{preset.name} {preset.profile}")
def test_panels_are_save_times(preset):
    nearest = [np.min(np.abs(preset.slow_times - time)) for time in preset.panels]
    assert preset.slow_times[0] == 0
    assert preset.slow_times[-1] == pytest.approx(preset.slow_time, rel=1e-12)
    assert np.all(np.asarray(nearest) <= 1e-3 * np.asarray(preset.panels))


def test_the_same_seed_is_the_same_start_in_both_experiments():
    starts = [experiments.preset(name, seed=5).start.positions for name in ("two-timescale", "same-step")]
    np.testing.assert_array_equal(*starts)
    assert not np.array_equal(starts[0], experiments.preset("same-step", seed=6).start.positions)


@pytest.mark.parametrize(
    ("name", "profile", "changes", "message"),
    [
        ("two-timescales", "quick", {}, "must be one of .*, 'same-step', .*'two-timescale', .*, got 'two-timescales'"),
        ("same-step", "fast", {}, "profile must be one of 'quick', 'paper', got 'fast'"),
        ("same-step", "quick", {"depth": 3}, "same-step has no setting 'depth': choose one of name,"),
        ("same-step", "quick", {"epsilon": 0.0}, "epsilon must be positive"),
        ("same-step", "quick", {"step_size": -1.0}, "step_size must be positive"),
        ("same-step", "quick", {"neurons": 0}, "neurons must be an integer of at least 1"),
        ("same-step", "quick", {"seed": -1}, "seed must be an integer of at least 0"),
        ("same-step", "quick", {"seed": 2**32}, "seed must be below"),
        ("same-step", "quick", {"step_size": 100.0}, "takes 0.1 steps"),
        ("same-step", "quick", {"step_size": 1e-9}, "takes 1e[+]10 steps"),
    ],
)
def test_what_cannot_be_run_is_refused(name, profile, changes, message):
    with pytest.raises(ValueError, match=message):
        experiments.preset(name, profile, **changes)


def test_an_interrupted_run_goes_on(outcome, monkeypatch, tmp_path):
    monkeypatch.setattr(stretches, "STRETCH", 2**16)
    small, seen = experiments.preset("two-timescale", **SMALL), []

    def interrupt(phase, done, total):
        if done > 2**16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small.run(tmp_path, interrupt)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 1
    again = small.run(tmp_path, lambda phase, done, total: seen.append(done))
    assert min(filter(None, seen)) > 2**16
    assert not list(tmp_path.glob("*.checkpoint"))
    got, want = (run.evidence.results.trajectories["SGD"] for run in (again, outcome))
    np.testing.assert_array_equal(got.model.positions, want.model.positions)
    np.testing.assert_array_equal(got.risk, want.risk)


def test_all_dynamics_start_alike_and_share_their_save_times(outcome):
    assert list(outcome.evidence.results.trajectories) == ["flow", "SGD", "limit"]
    start = outcome.experiment.start
    for trajectory in outcome.evidence.results.trajectories.values():
        np.testing.assert_allclose(trajectory.model.positions[0], start.positions, rtol=1e-14)
        np.testing.assert_array_equal(trajectory.slow_time, outcome.experiment.slow_times)


def test_two_timescale_shows_the_claim(outcome):
    flow, sgd, limit = (trajectory.risk[-1] for trajectory in outcome.evidence.results.trajectories.values())
    assert limit < 1e-12
    assert flow == pytest.approx(0.00797, abs=1e-5)  # the floor set by eta
    assert sgd < 0.3  # one hundredth of the error of the best constant, at a thousand times the paper's step size


def test_the_summary_is_what_was_computed(outcome, written):
    problem = outcome.experiment.problem
    for row in written["dynamics"]:
        trajectory = outcome.evidence.results.trajectories[row["name"]]
        risk = over_time(problem.risk, trajectory.model)
        assert row["final_error"] == pytest.approx(float(risk[-1]), rel=1e-12)
        assert row["status"] == "successful"
        assert row["steps"] == trajectory.stats.steps
        assert row["run_seconds"] > 0
        assert row["compile_seconds"] > 0
    between = {tuple(row["between"]): row for row in written["distances"]}
    row = between["flow", "SGD"]
    trajectories = outcome.evidence.results.trajectories
    exact = distance(trajectories["flow"], trajectories["SGD"])
    assert row["final"] == exact[-1]
    assert row["largest"] == max(exact[1:])
    assert (
        exact[list(outcome.evidence.results.trajectories["flow"].slow_time).index(row["slow_time_of_largest"])]
        == row["largest"]
    )


def test_the_summary_says_what_was_run_and_where(outcome, written):
    restored = experiments.Comparison(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in written["configuration"].items()}
    )
    assert dataclasses.asdict(restored) == dataclasses.asdict(outcome.experiment)
    assert written["neurons_per_piece"] == list(outcome.experiment.neurons_per_piece)
    assert written["provenance"]["dtype"] == "float64"
    assert written["provenance"]["device"] == jax.devices()[0].device_kind
    assert written["provenance"]["versions"]["jax"] == jax.__version__


def test_every_file_is_written(outcome, written):
    assert {path.name for path in outcome.folder.iterdir()} == set(written["files"])
    for name in ("risks.png", "functions.png"):
        with Image.open(outcome.folder / name) as picture:
            assert picture.width == 1100
    with Image.open(outcome.folder / "animation.gif") as animation:
        assert animation.n_frames == 3  # saves 0, 4 and 6


def test_the_dataset_is_the_trajectories(outcome):
    dataset = store.load(outcome.folder / "trajectories.nc")
    assert list(dataset.dynamics.values) == ["flow", "SGD", "limit"]
    for name, trajectory in outcome.evidence.results.trajectories.items():
        labelled = dataset.sel(dynamics=name)
        for variable in ("weights", "positions", "bias"):
            np.testing.assert_array_equal(labelled[variable], getattr(trajectory.model, variable))
        np.testing.assert_array_equal(labelled.risk, trajectory.risk)
        np.testing.assert_array_equal(labelled.slow_time, trajectory.slow_time)
        assert labelled.steps == int(trajectory.stats.steps)
        assert labelled.status == "successful"
        assert labelled.method == trajectory.stats.method
    np.testing.assert_array_equal(dataset.step.sel(dynamics="SGD"), outcome.evidence.results.trajectories["SGD"].step)
    assert np.all(np.isnan(dataset.step.sel(dynamics="flow")))
    assert dataset.epsilon == 2e-5
    np.testing.assert_array_equal(dataset.attrs["jumps"], outcome.experiment.jumps)


def test_progress_counts_the_steps_of_sgd(outcome, reports):
    phases = [phase for phase, done, _ in reports if done == 0]
    runs = [phase for name in ("flow", "SGD", "limit") for phase in (f"compiling {name}", name)]
    assert phases == [*runs, "drawing"]
    counts = [(done, total) for phase, done, total in reports if done]
    done = [count for count, _ in counts]
    assert {total for _, total in counts} == {outcome.experiment.steps}
    assert done == sorted(set(done))
    assert done[-1] == outcome.experiment.steps


def test_a_run_that_fails_is_reported_and_stops_nothing(outcome, tmp_path):
    wild = experiments.preset("two-timescale", **(SMALL | {"step_size": 1.0}))
    with pytest.warns(UserWarning, match=r"SGD did not end well, Trajectory\(diverged"):
        result = wild.run(tmp_path)
    written = json.loads((tmp_path / "summary.json").read_text())
    rows = {row["name"]: row for row in written["dynamics"]}
    assert rows["SGD"]["status"] == "diverged"
    assert rows["SGD"]["final_error"] is None
    assert rows["flow"]["status"] == rows["limit"]["status"] == "successful"
    assert rows["flow"]["final_error"] == outcome.evidence.results.summary.dynamics[0].final_error
    assert written["distances"][0]["final"] is None
    assert store.load(tmp_path / "trajectories.nc").status.sel(dynamics="SGD") == "diverged"
    assert not np.isfinite(result.evidence.results.trajectories["SGD"].risk[-1])


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, reports):
    (tmp_path / "file").touch()
    before = len(reports)
    with pytest.raises(ValueError, match="cannot write into"):
        experiments.preset("same-step").run(tmp_path / "file", lambda *report: reports.append(report))
    assert len(reports) == before


def test_provenance_outside_a_repository_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr("tts_jax._provenance.__file__", str(tmp_path / "_provenance.py"))
    assert Provenance.here().commit is None


def test_load_refuses_another_kind_of_file():
    with pytest.raises(
        ValueError, match=r"reads a netCDF file \(\.nc\) or the store of a sweep \(\.zarr\), got 'out/results.csv'"
    ):
        store.load("out/results.csv")
    with pytest.raises(FileNotFoundError):
        store.load("nowhere.nc")


def test_presets_create_no_array_before_64_bit_is_on():
    assert not any(isinstance(leaf, jnp.ndarray) for leaf in jax.tree.leaves(experiments.PRESETS))
