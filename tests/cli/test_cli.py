"""The command line, in this process but for one smoke test."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from command_line import call

import tts_jax
from tts_jax import _progress
from tts_jax.cli import run
from tts_jax.dynamics import SGD, TwoTimescaleLimit
from tts_jax.experiments import PRESETS, Comparison, preset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli") / "out"


@pytest.fixture(scope="module")
def result(folder):
    """A run of SGD, which fails, and the limit, with few frames: the gradient flow takes long to compile."""
    with pytest.MonkeyPatch.context() as patch:
        both = property(lambda self: {"SGD": SGD(self.epsilon, self.step_size), "limit": TwoTimescaleLimit()})
        patch.setattr(Comparison, "dynamics", both)
        patch.setattr(run, "preset", functools.partial(preset, saves=12, frame_every=6))
        options = ("--epsilon", "1e-4", "--neurons", "24", "--step-size", "0.2", "--seed", "3", "--out", str(folder))
        return call("run", "two-timescale", *options)


@pytest.fixture
def summary(result, folder):
    return json.loads((folder / "summary.json").read_text())


def rows(text, heading):
    """The cells of a table, below the line that holds `heading`."""
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if heading in line) + 2
    table = []
    for line in lines[start:]:
        if not line.strip():
            return table
        table.append(re.split(r"\s{2,}", line.strip()))
    return table


def test_the_version_is_that_of_the_package():
    code, out, _ = call("--version")
    assert (code, out) == (0, f"tts-jax {tts_jax.__version__}\n")


def test_the_table_is_the_summary(result, summary):
    code, text, _ = result
    assert code == 0
    expected = [
        [
            row["name"],
            "nan" if row["final_error"] is None else f"{row['final_error']:.4g}",
            row["status"],
            f"{row['steps']:,}",
            f"{row['compile_seconds']:.4g}",
            f"{row['run_seconds']:.4g}",
        ]
        for row in summary["dynamics"]
    ]
    assert rows(text, "final error") == expected
    (distance,) = summary["distances"]
    numbers = [distance[name] for name in ("largest", "slow_time_of_largest", "final")]
    assert rows(text, "L2 distance") == [["SGD to limit", *("nan" if x is None else f"{x:.4g}" for x in numbers)]]


def test_options_reach_the_run(result, summary):
    configuration = summary["configuration"]
    assert (configuration["epsilon"], configuration["neurons"]) == (1e-4, 24)
    assert (configuration["step_size"], configuration["seed"], configuration["profile"]) == (0.2, 3, "quick")
    assert summary["provenance"]["dtype"] == "float64"


def test_claims_about_other_settings_are_not_judged(result, summary):
    _, text, _ = result
    assert [finding["verdict"] for finding in summary["findings"]] == ["not judged"] * 2
    for finding in summary["findings"]:
        assert finding["changed"] == ["epsilon", "step_size", "neurons"]
        said = f"{finding['claim']}: not judged (epsilon, step_size, neurons changed); {finding['measured']}"
        assert said in text.splitlines()


def test_a_failed_run_is_shown_with_its_status(result, summary):
    code, text, _ = result
    assert code == 0
    assert summary["dynamics"][0]["status"] == "diverged"
    assert "diverged" in text


def test_the_files_are_named_and_exist(result, summary, folder):
    _, text, _ = result
    for name in summary["files"]:
        assert str(folder / name) in text.splitlines()
        assert (folder / name).exists()


def test_progress_goes_to_the_standard_error_as_plain_lines(result):
    _, text, progress = result
    phases = ["compiling SGD", "SGD", "compiling limit", "limit", "drawing"]
    lines = [line for line in progress.splitlines() if "/s, " not in line]
    assert lines[2].startswith("tts-jax: SGD did not end well, Trajectory(diverged")
    assert lines[:2] + lines[3:] == phases
    paces = [line for line in progress.splitlines() if "/s, " in line]
    assert 1 <= len(paces) <= 10
    assert all(re.fullmatch(r"SGD: [\d,]+ of [\d,]+, \S+/s, \S+ left", line) for line in paces)
    assert "\x1b" not in text + progress


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with contextlib.redirect_stderr(Terminal()) as screen, _progress.reporting() as report:
        report("compiling SGD", 0, 0)
        report("SGD", 0, 0)
        report("SGD", 500, 1000)
        report("drawing", 0, 0)
    assert "/s, 0:00:00 left" in screen.getvalue()
    assert "drawing" in screen.getvalue()


def test_list_names_every_experiment():
    code, text, _ = call("list")
    assert code == 0
    listed = [row[:3] for row in rows(text, "profile") if len(row) > 2]
    assert listed == [[experiment.name, experiment.profile, experiment.shows] for experiment in PRESETS]
    for experiment in PRESETS:
        assert f"{experiment.name}: {experiment.description}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("run",), "the following arguments are required: NAME"),
        (("run", "three-timescale"), "got 'three-timescale'"),
        (("run", "same-step", "--profile", "slow"), "profile must be one of 'quick', 'paper', got 'slow'"),
        (("run", "same-step", "--epsilon", "0"), "epsilon must be positive and finite, got 0.0"),
        (("run", "same-step", "--epsilon", "-1"), "epsilon must be positive and finite, got -1.0"),
        (("run", "same-step", "--epsilon", "nan"), "epsilon must be positive and finite, got nan"),
        (("run", "same-step", "--epsilon", "small"), "argument --epsilon: invalid float value: 'small'"),
        (("run", "same-step", "--neurons", "0"), "neurons must be an integer of at least 1, got 0"),
        (("run", "same-step", "--neurons", "2.5"), "argument --neurons: invalid int value: '2.5'"),
        (("run", "same-step", "--step-size", "inf"), "step_size must be positive and finite, got inf"),
        (("run", "same-step", "--step-size", "1e-12"), "choose a step_size"),
        (("run", "varying-epsilon", "--step-size", "1e-300"), "choose a step_size"),
        (("run", "regime-atlas", "--step-size", "1e-300"), "choose a step_size"),
        (("run", "same-step", "--seed", "-1"), "seed must be an integer of at least 0, got -1"),
        (("run", "same-step", "--epsilon", "1e-320"), "epsilon must be positive and finite, got 1e-320"),
        (("run", "same-step", "--epsilon", "1e-307"), "choose a step_size"),
        (("run", "notation", "--seed", "-1"), "seed must be an integer of at least 0, got -1"),
        (("run", "relu", "--seed", str(2**32)), "seed must be below 2**32"),
        (("run", "varying-epsilon", "--seed", str(2**32 - 1)), "seeds must end below 2**32"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, text, error = call(*arguments)
    assert (code, text) == (2, "")
    assert error.startswith("tts-jax: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_bad_input(tmp_path):
    (tmp_path / "file").touch()
    code, text, error = call("run", "same-step", "--out", str(tmp_path / "file"))
    assert (code, text) == (2, "")
    assert error.startswith("tts-jax: cannot write into")
    assert error.count("\n") == 1


def test_an_interrupt_leaves_no_traceback(monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Comparison, "run", interrupted)
    code, _, error = call("run", "same-step", "--out", str(tmp_path))
    assert (code, error) == (130, "tts-jax: interrupted\n")


def test_the_installed_command_lists_the_experiments():
    command = pathlib.Path(sys.executable).with_name("tts-jax")
    listed = subprocess.run([command, "list"], capture_output=True, text=True, check=True, timeout=120)
    assert "two-timescale" in listed.stdout
    assert listed.stderr == ""


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_terminal_without_greek_letters(encoding):
    """As of Windows, where the output is redirected."""
    command = pathlib.Path(sys.executable).with_name("tts-jax")
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    listed = subprocess.run([command, "list"], capture_output=True, check=True, timeout=120, env=environment)
    assert "two-timescale" in listed.stdout.decode(encoding)
    assert listed.stderr == b""


def test_another_run_is_not_overwritten(tmp_path):
    def notation(*options):
        return call("run", "notation", "--out", str(tmp_path), *options)

    assert notation()[0] == 0
    picture = (tmp_path / "notation.png").stat().st_mtime_ns
    code, text, error = notation("--seed", "3")
    assert (code, text) == (2, "")
    assert error == f"tts-jax: {tmp_path} holds a run with seed 1, not 3: choose another folder, or move it away\n"
    assert (tmp_path / "notation.png").stat().st_mtime_ns == picture
    code, _, error = notation()
    assert code == 0
    assert error.startswith(f"{tmp_path} holds this run already, which is made anew\n")
    (tmp_path / "summary.json").write_text("[]")
    assert "summary.json is not of an experiment" in notation()[2]


def test_reproduce_prints_every_claim_and_the_page(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "figures_of_the_paper", lambda profile: [preset("notation", profile)])
    code, text, progress = call("reproduce", "--out", str(tmp_path))
    assert code == 0
    assert "Figure 1 (notation, " in text
    assert text.splitlines()[-1] == str(tmp_path / "index.html")
    assert (tmp_path / "index.html").exists()
    assert progress == "notation: drawing\n"


def test_reproduce_all_adds_what_is_beyond_the_paper(monkeypatch, tmp_path):
    sketches = [preset(name) for name in ("notation", "reduced-sketch")]
    beyond = dataclasses.replace(sketches[1], shows="a sketch of ours")
    monkeypatch.setattr(run, "figures_of_the_paper", lambda profile: sketches[:1])
    monkeypatch.setattr(run, "every_experiment", lambda profile: [sketches[0], beyond])
    code, text, _ = call("reproduce", "--all", "--out", str(tmp_path))
    assert code == 0
    assert re.findall(r"^(.*) \(\S+, [\d.]+ s\)$", text, re.MULTILINE) == ["Figure 1", "a sketch of ours"]
    assert "<h2>Beyond the paper</h2>" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("error", [ImportError("a store needs the package zarr: pip install zarr"), ValueError("no")])
def test_reproduce_says_in_one_line_what_is_missing(error, monkeypatch, tmp_path):
    """As `run` does; what came before stays."""

    def fails(*_):
        raise error

    sketches = [preset(name) for name in ("notation", "reduced-sketch")]
    monkeypatch.setattr(run, "every_experiment", lambda profile: sketches)
    monkeypatch.setattr(type(sketches[1]), "measure", fails)
    code, text, said = call("reproduce", "--all", "--out", str(tmp_path))
    assert (code, text) == (2, "")
    assert said.splitlines()[-1] == f"tts-jax: {error}"
    assert "notation.png" in (tmp_path / "index.html").read_text()


def test_reproduce_refuses_an_unknown_profile(tmp_path):
    code, text, error = call("reproduce", "--profile", "fast", "--out", str(tmp_path / "all"))
    assert (code, text) == (2, "")
    assert error == "tts-jax: profile must be one of 'quick', 'paper', got 'fast'\n"
    assert not (tmp_path / "all").exists()
