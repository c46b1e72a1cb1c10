"""Sweeps from the command line."""

import re

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from command_line import call

import tts_jax as tts
from tts_jax.cli.sweep import PLAN

pytest.importorskip("zarr")

FLAGS = ["--dynamics", "sgd", "--epsilon", "0.1", "0.01", "--neurons", "3", "4", "--seeds", "5"]
REST = ["--slow-time", "0.02", "--saves", "2", "--step-size", "0.01"]


def test_sweep_resume_show_plot(tmp_path):
    store = str(tmp_path / "run.zarr")
    code, text, progress = call("sweep", *FLAGS, *REST, "--store", store)
    assert code == 0
    assert "20 runs: 20 successful" in text
    assert "runs: 20 of 20, " in progress
    assert tts.load(store).sizes["seed"] == 5
    (tmp_path / "run.zarr" / "risk" / "c" / "1" / "0" / "0" / "0").unlink()
    code, _, progress = call("sweep", "--resume", store)
    lost, first, *_ = progress.splitlines()
    assert "has lost a part of 5 runs" in lost
    assert (code, first) == (0, "runs")
    assert re.search(r"^runs: 20 of 20, \S+/s, 0:00:00 left$", progress, re.MULTILINE)
    code, text, _ = call("show", store)
    assert code == 0
    assert text.count(" 5 ") >= 4
    code, text, _ = call("plot", store)
    assert code == 0
    pictures = {file.name for file in (tmp_path / "run-figures").iterdir()}
    assert pictures == {"risks.png", "statuses.png", "convergence.png"}
    assert plt.get_fignums() == []


def test_a_store_at_a_url(tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    store = f"file://{tmp_path}/there/run.zarr"
    assert call("sweep", *FLAGS, *REST, "--store", store)[0] == 0
    (tmp_path / "there" / "run.zarr" / "status" / "c" / "1" / "0" / "0").unlink()
    assert int((tts.load(store).status < 0).sum()) == 5
    code, text, _ = call("sweep", "--resume", store)
    assert (code, "20 runs: 20 successful" in text) == (0, True)
    assert call("show", store)[1].count(" 5 ") >= 4
    assert call("plot", store)[0] == 0
    assert {file.suffix for file in (tmp_path / "run-figures").iterdir()} == {".png"}


def test_pictures_of_a_network_of_yours(tmp_path):
    data = tts.Dataset([[0.0], [1.0]], [0.0, 1.0])
    sgd = tts.SGD(0.5, 0.1, slow=lambda model: model.weight)
    store = tmp_path / "run.zarr"
    tts.sweep(
        sgd, data, [0.0, 0.5], seeds=2, store=store, progress=False, epsilon=[0.5, 1.0],
        init=lambda key: eqx.nn.Linear(1, "scalar", key=key),
        measure={"slope": lambda model: model.weight[0, 0], "weights": lambda model: model.weight},
    )  # fmt: skip
    _, text, _ = call("show", str(store))
    assert "4 runs: 4 successful" in text
    assert "median slope" in text
    assert "converged" not in text
    assert f"{float(tts.load(store).slope.sel(epsilon=0.5)[:, -1].median()):.4g}" in text
    assert call("plot", str(store))[0] == 0
    assert {file.name for file in (tmp_path / "run-figures").iterdir()} == {"risks.png", "statuses.png", "slope.png"}


def test_the_diffusion_has_a_name(tmp_path):
    """Its runs are those of `simulate`, of a network that is filled up too; its steps cost more than those of SGD."""
    flags = ["--dynamics", "sgd", "diffusion", "--epsilon", "0.1", "--neurons", "7", "--seeds", "2", *REST]
    code, text, _ = call("sweep", *flags, "--dry-run")
    assert code == 0
    assert "4 runs (2 dynamics x 2 seed) in 2 chunks; 80 steps of SGD" in text
    _, longer, _ = call("sweep", *flags, "--slow-time", "20000", "--dry-run")
    _, of_sgd, _ = call("sweep", *flags, "--slow-time", "20000", "--dynamics", "sgd", "--dry-run")
    cost = [int(re.search(r"about ([\d,]+) s", each)[1].replace(",", "")) for each in (longer, of_sgd)]
    assert cost[0] > 100 * cost[1] > 0
    store = str(tmp_path / "run.zarr")
    code, text, _ = call("sweep", *flags, "--store", store)
    assert code == 0
    assert "4 runs: 4 successful" in text
    key = jax.random.key(1)
    start = tts.ShallowNetwork.init(key, 7, tts.SmoothStep(4e-3))
    problem = tts.Regression(tts.PiecewiseConstant(PLAN["jumps"], PLAN["values"]), PLAN["noise"])
    own = jax.random.fold_in(key, 2)
    alone = tts.simulate(tts.SGDDiffusion(0.1, 0.01), start, problem, [0.0, 0.01, 0.02], key=own)
    np.testing.assert_allclose(tts.load(store).risk.sel(dynamics="diffusion", seed=1), alone.risk, rtol=1e-9)


@pytest.mark.parametrize("axes", [{}, {"neurons": [3, 4]}, {"neurons": [3, 4], "epsilon": [0.1, 0.2, 0.3]}])
def test_pictures_show_every_dynamics(axes):
    arms = {name: tts.SGD(1.0, step) for name, step in (("slow", 1e-2), ("fast", 2e-2), ("fastest", 4e-2))}
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    dataset = tts.sweep(arms, problem, [0.01, 0.02], seeds=2, progress=False, **({"neurons": 3} | axes))
    share, risks = tts.plot.convergence(dataset), tts.plot.sweep(dataset)
    assert [axes.get_title() for axes in share.axes[:3]] == list(arms)
    if axes:
        assert [axes.get_title() for axes in risks.axes] == list(arms)
    else:
        assert [text.get_text() for text in risks.legends[0].get_texts()] == [f"dynamics = {name}" for name in arms]


def test_a_file_and_flags_say_the_same(tmp_path):
    (tmp_path / "plan.toml").write_text(
        'dynamics = ["sgd"]\nepsilon = [0.1, 0.01]\nneurons = [3, 4]\nseeds = 5\nslow_time = 0.02\nsaves = 2\n'
    )
    by_file = call("sweep", str(tmp_path / "plan.toml"), "--step-size", "0.01", "--dry-run")
    assert by_file == call("sweep", *FLAGS, *REST, "--dry-run")
    assert by_file[0] == 0
    assert "20 runs (2 epsilon x 2 neurons x 5 seed) in 4 chunks" in by_file[1]


def test_a_file_may_be_written_as_the_flags_are(tmp_path):
    """With hyphens, with a store, and with numbers that YAML takes for text; names of dynamics in any case."""
    store = tmp_path / "run.zarr"
    (tmp_path / "plan.yaml").write_text(
        "dynamics: SGD\nepsilon: [1e-1, 1e-2]\nneurons: [3]\nseeds: [0, 1]\nslow-time: 2e-2\nsaves: 2\n"
        f"store: {store}\n"
    )
    code, text, _ = call("sweep", str(tmp_path / "plan.yaml"), "--step-size", "0.01")
    assert code == 0
    assert "4 runs: 4 successful" in text
    data = tts.load(store)
    np.testing.assert_allclose(data.epsilon, [0.1, 0.01])
    assert data.slow_time[-1] == 0.02
    code, _, _ = call("sweep", "--resume", str(store))
    assert code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epsilon: [a]", "epsilon must be float, got 'a'"),
        ("epsilon: {a: 1}", "epsilon must be float, got {'a': 1}"),
        ("epsilon: [[1.0]]", "epsilon must be float, got [1.0]"),
        ("epsilon: []", "axis epsilon must be a number or a non-empty list"),
        ("epsilon: null", "epsilon must be float, got None"),
        ("neurons: 2.5", "neurons must be int, got 2.5"),
        ("seeds: true", "seeds must be int, got True"),
        ("saves: 1.5", "saves must be int, got 1.5"),
        ("saves: -3", "saves must be an integer of at least 1, got -3"),
        ("slow_time: [1, 2]", "slow_time must be one value, got [1, 2]"),
        ("slow_time: -1", "slow_time must be positive and finite, got -1.0"),
        ("rtol: a", "rtol must be float, got 'a'"),
        ("rtol: 0", "rtol must be positive"),
        ("values: 3", "has 6 values, got 1"),
        ("dynamics: 3", "dynamics must be str, got 3"),
        ("store: 3", "store must be str, got 3"),
        ("speed: 3", "unknown settings speed: choose of store, dynamics"),
        ("3", "must name settings, got int"),
        ("epsilon: [", "cannot read"),
    ],
)
@pytest.mark.usefixtures("annotations_off")
def test_a_file_with_a_fault_is_one_line(line, message, tmp_path):
    (tmp_path / "plan.yaml").write_text(line)
    code, text, error = call("sweep", str(tmp_path / "plan.yaml"), "--dry-run")
    assert (code, text) == (2, "")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep"], "needs a store"),
        (["sweep", "--dynamics", "fly", "--dry-run"], "there is no dynamics 'fly'"),
        (["sweep", "--epsilon", "-1", "--dry-run"], "epsilon must be positive"),
        (["sweep", "--resume", "none.zarr"], "there is no store"),
        (["sweep", "--resume", "none.zarr", "--seeds", "3"], "leave the other settings out"),
        (["show", "none.zarr"], "there is no store"),
        (["plot", "none.zarr"], "there is no store"),
    ],
)
def test_bad_input_is_one_line(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, error = call(*arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
