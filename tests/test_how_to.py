"""The snippets of the guides run, in their order, but for those that say they were not."""

import pathlib
import re
import shutil

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "how-to"


def snippets(name):
    found = re.findall(r"(<!-- not run -->\n)?```python\n(.*?)```", (FOLDER / f"{name}.md").read_text(), re.DOTALL)
    return [snippet for skipped, snippet in found if not skipped]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a guide where it finds the files of the repository that it names, and gives its names after each snippet."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")

    def run(name):
        names = {"__name__": "__main__"}
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # a reader's own
            for snippet in snippets("index") + snippets(name):
                exec(snippet, names)
                yield names

    return run


def test_the_guide_to_several_speeds(run):
    *_, names = run("several-speeds")
    assert names["run"].slow_time.tolist() == [0.0, 0.1, 0.2]


def test_the_guide_to_long_runs(run, tmp_path):
    *_, names = run("long-runs")
    assert names["later"].step.tolist() == [10, 20]
    assert names["run"].step.tolist() == [0, 20]
    assert (tmp_path / "run.ckpt").exists()


def test_a_table_and_a_perceptron(run, tmp_path):
    *_, names = run("your-model")
    slower = [float(run.risk[-1]) for run in names["runs"].values()]
    assert slower == sorted(slower, reverse=True)  # in slow time, a smaller ratio is further
    assert (tmp_path / "risks.png").exists()


def test_a_sweep_of_networks(run):
    runs = {}
    for names in run("sweeps"):
        if "network" in names:
            runs.setdefault("kept", names["runs"])
    network, test = names["network"], names["test"]
    found = runs["kept"]["test loss"].sel(seed=3, width=32, batch_size=10)
    assert abs(float(found[-1]) - float(test.risk(network))) < 1e-12
    assert found[-1] < found[0]


@pytest.mark.filterwarnings("default")  # of Dask, whose threads and sockets close late
def test_the_guide_to_sweeps_anywhere(run):
    pytest.importorskip("distributed")
    results = [names.get("runs") for names in run("sweeps-anywhere")]
    laptop, device, workers = (runs.drop_attrs() for runs in results[2:])
    assert laptop.equals(device)
    assert laptop.equals(workers)
