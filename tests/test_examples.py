"""Every example runs, in few iterations, and writes where it is told to."""

import pathlib
import re
import runpy
import sys

import jax
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
FEW = {"learn_the_start": ["--iterations", "3"], "two_neurons_merge": []}
"""Arguments for each example."""


def test_every_example_is_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(FEW)


@pytest.mark.parametrize("name", FEW)
def test_an_example_runs(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *FEW[name]])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # a reader's own
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    (picture,) = tmp_path.rglob("*.png")
    assert picture.parent == tmp_path / "out"
    before, after = map(float, re.findall(r"\d\.\d{4}", capsys.readouterr().out))
    assert after < before
