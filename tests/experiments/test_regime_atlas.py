"""The atlas of regimes: small, interrupted, and resumed."""

import dataclasses
import json

import numpy as np
import pytest
from command_line import call
from PIL import Image

import tts_jax as tts
from tts_jax import experiments

pytest.importorskip("zarr")

SMALL = {
    "epsilons": (1.0, 1e-3),
    "sizes": (5, 8),
    "seeds": 3,
    "slow_times": (0.0, 3.0, 10.0),
    "sgd_epsilons": (1.0, 0.1),
    "sgd_sizes": (5,),
    "sgd_seeds": 2,
    "sgd_slow_time": 0.01,
    "step_size": 1e-3,
    "hit_epsilons": (1e-3,),
    "hit_neurons": 5,
    "seed": 4,
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return experiments.preset("regime-atlas", **SMALL).run(tmp_path_factory.mktemp("atlas"))


def test_the_full_atlas_is_of_6144_flows():
    paper = experiments.preset("regime-atlas", "paper")
    assert (len(paper.epsilons), len(paper.sizes), paper.seeds) == (12, 8, 64)
    assert (max(paper.epsilons), min(paper.epsilons)) == (1.0, 1e-5)
    assert (min(paper.sizes), max(paper.sizes)) == (5, 60)


def test_a_run_of_the_atlas_is_the_run_that_simulate_gives(outcome):
    atlas, flows = outcome.experiment, tts.load(outcome.folder / "flow.zarr")
    start = experiments.preset("two-timescale", seed=5, neurons=8).start
    alone = tts.simulate(tts.GradientFlow(1e-3), start, tts.Regression(atlas.target), np.asarray(atlas.slow_times))
    np.testing.assert_allclose(flows.risk.sel(epsilon=1e-3, neurons=8, seed=5), alone.risk, rtol=1e-3)


def test_shares_are_counts_of_low_risks(outcome):
    atlas, (flows, sgds, _) = outcome.experiment, outcome.evidence.results
    assert atlas.success == pytest.approx(10 * 4e-3 / 28 * 56)
    share = atlas.share(flows)
    assert share.dims == ("epsilon", "neurons")
    assert float(share.sel(epsilon=1e-3, neurons=8)) == np.mean(flows.risk.values[1, 1, :, -1] < atlas.success)
    assert sgds.sizes == {"epsilon": 2, "neurons": 1, "seed": 2, "slow_time": 1, "neuron": 5, "piece": 6, "jump": 5}
    summary = json.loads((outcome.folder / "summary.json").read_text())
    assert summary["flow"]["runs"] == 12
    assert summary["flow"]["failed"] == 0


def test_claims_are_tests_over_the_seeds(outcome):
    """Twelve seeds of which the flow converges from all or none: as many at the small ratio as are said."""
    flows = outcome.evidence.results[0].isel(seed=[0] * 12)
    low = np.where(np.arange(12) < 10, 0.0, 1.0)

    def gain(small, large, failed=0):
        risk = np.broadcast_to(np.stack([large, small])[:, None, :, None], flows.risk.shape)
        status = flows.status.copy(data=np.zeros(flows.status.shape, int))
        status[0, 0, :failed] = 2
        return outcome.experiment._gain(flows.assign(risk=(flows.risk.dims, risk), status=status))

    said, repeats = gain(low, np.ones(12))
    assert said.startswith("share over all numbers of neurons 0.833 at ε = 0.001, 0.000 at ε = 1; larger for 10 of 12")
    assert repeats.above(0.0) is experiments.Verdict.HOLDS
    assert gain(np.ones(12), low)[1].above(0.0) is experiments.Verdict.FAILS
    assert gain(low, low)[1].above(0.0) is experiments.Verdict.UNDECIDED
    said, repeats = gain(low, np.ones(12), failed=3)
    assert said.endswith("3 of 12 failed)")
    assert repeats.above(0.0) is experiments.Verdict.UNDECIDED


def test_everything_is_written(outcome):
    assert {path.name for path in outcome.folder.iterdir()} == set(outcome.files)
    for name in ("atlas.png", "theory.png"):
        with Image.open(outcome.folder / name) as picture:
            assert picture.width == 1100
    said = tts.load(outcome.folder / "theory.nc")
    assert said.equals(outcome.evidence.results[2])
    assert said.limit_risk.sizes == {"neurons": 2, "seed": 3}


def test_an_interrupted_atlas_goes_on(outcome, tmp_path):
    counts = []

    def interrupt(phase, done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcome.experiment.run(tmp_path, interrupt)
    again = outcome.experiment.run(tmp_path, lambda *report: counts.append(report))
    assert counts[0][1] > 0
    for resumed, whole in zip(again.evidence.results, outcome.evidence.results, strict=True):
        assert resumed.drop_attrs().equals(whole.drop_attrs())


def test_another_atlas_in_the_same_folder_is_refused_in_one_line(monkeypatch, outcome):
    changed = dataclasses.replace(outcome.experiment, eta=5e-3)
    monkeypatch.setattr("tts_jax.cli.run.preset", lambda *_, **__: changed)
    code, _, error = call("run", "regime-atlas", "--out", str(outcome.folder))
    assert code == 2
    assert "holds a run with eta 0.004, not 0.005" in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilons": (1.0, 0.0)}, "epsilons must be positive"),
        ({"sizes": (0,)}, "sizes must be an integer of at least 1"),
        ({"seeds": 0}, "seeds must be an integer of at least 1"),
        ({"slow_times": (1.0,)}, "needs two slow times"),
        ({"hit_epsilons": (-1.0,)}, "hit_epsilons must be positive"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        experiments.preset("regime-atlas", **changes)
