"""Every notebook runs from top to bottom, at small sizes, and keeps the outputs of a full run."""

import json
import pathlib

import jax
import matplotlib.pyplot as plt
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
SMALL = {
    "1-two-timescale-regime": "epsilon, neurons = 1e-3, 6",
    "2-flow-sgd-and-limit": "epsilon, step_size, saves = 1e-3, 1e-3, 5",
    "3-a-sweep": "seeds, ratios = 2, [1.0, 0.1]",
    "4-your-model-and-data": "ratios, rows, width, end = [1.0, 0.1], 30, 3, 0.5",
    "5-differentiating-through-training": "iterations = 2",
    "6-theory-beside-measurement": "epsilons, starts, paths, saves = [1e-1, 1e-2, 1e-3], 50, 4, 5",
    "7-high-dimension": "epsilons, neurons, step_size, sgd_time = [1e-2], 5, 0.1, 0.1\n"
    "inputs, seeds, sgd_alpha, starts, end = [3, 5], 2, 4.0, 2, 3.0",
}
"""What takes the place of the cell with the tag `parameters`."""


def read(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]


def source(cell):
    return "".join(line for line in cell["source"] if not line.startswith("%"))


def test_every_notebook_is_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name, monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):  # a reader's own, and Optax promotes
        for cell in read(name):
            if cell["cell_type"] == "code":
                is_parameters = "parameters" in cell["metadata"].get("tags", [])
                exec(compile(SMALL[name] if is_parameters else source(cell), name, "exec"), names)
    plt.close("all")


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_keeps_the_outputs_of_one_run(name):
    cells = read(name)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    assert cells[0]["source"][0].startswith("# ")
