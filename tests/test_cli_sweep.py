"""Sweeps from the command line."""

import pytest
from command_line import call

import tts_jax as tts

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
