"""Sweeps from the command line."""

import pytest
from command_line import call

import tts_jax as tts
from tts_jax.sweeps.pictures import convergence, risks_of

pytest.importorskip("zarr")

FLAGS = ["--dynamics", "sgd", "--epsilon", "0.1", "0.01", "--neurons", "3", "4", "--seeds", "5"]
REST = ["--slow-time", "0.02", "--saves", "2", "--step-size", "0.01"]


def test_sweep_resume_show_plot(tmp_path):
    store = str(tmp_path / "run.zarr")
    code, text, progress = call("sweep", *FLAGS, *REST, "--store", store)
    assert code == 0
    assert "20 runs: 20 successful" in text
    assert "20 of 20 runs" in progress
    assert tts.load(store).sizes["seed"] == 5
    (tmp_path / "run.zarr" / "risk" / "c" / "1" / "0" / "0" / "0").unlink()
    code, _, progress = call("sweep", "--resume", store)
    assert (code, progress.splitlines()[0]) == (0, "15 of 20 runs")
    code, text, _ = call("show", store)
    assert code == 0
    assert text.count(" 5 ") >= 4
    code, text, _ = call("plot", store)
    assert code == 0
    assert {file.name for file in (tmp_path / "run-figures").iterdir()} == {"risks.png", "convergence.png"}


@pytest.mark.parametrize("axes", [{}, {"neurons": [3, 4]}, {"neurons": [3, 4], "epsilon": [0.1, 0.2, 0.3]}])
def test_pictures_show_every_dynamics(axes):
    arms = {name: tts.SGD(1.0, step) for name, step in (("slow", 1e-2), ("fast", 2e-2), ("fastest", 4e-2))}
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    dataset = tts.sweep(arms, problem, [0.01, 0.02], seeds=2, progress=False, **({"neurons": 3} | axes))
    share, risks = convergence(dataset), risks_of(dataset)
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
