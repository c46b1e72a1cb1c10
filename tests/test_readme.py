"""The README's example does what its comments say."""

import pathlib
import re

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import tts_jax as tts

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_example(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.extend(plt.get_fignums()))
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "simulate" in block
    )
    names: dict = {}
    exec(example, names)
    flow, sgd, limit = names["flow"], names["sgd"], names["limit"]
    assert flow.risk.shape == (101,)
    assert flow.model.positions.shape == (101, 20, 1)
    assert all(run.status == tts.Status.SUCCESSFUL for run in (flow, sgd, limit))
    assert jnp.max(tts.distance(flow, sgd)[1:]) < 0.3
    assert len(shown) == 1
    assert limit.risk[-1] < 1e-12 < flow.risk[-1] < sgd.risk[-1] < 0.05


def test_a_table_and_a_perceptron(monkeypatch, tmp_path):
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "read_csv" in block
    )
    csv = README.parent / "examples" / "measurements.csv"
    names = {"tts": tts, "jax": jax, "jnp": jnp}
    monkeypatch.chdir(tmp_path)
    exec(example.replace("examples/measurements.csv", str(csv)), names)
    slower = [float(run.risk[-1]) for run in names["runs"].values()]
    assert slower == sorted(slower, reverse=True)  # in slow time, a smaller ratio is further
    assert (tmp_path / "risks.png").exists()


def test_a_sweep_of_networks():
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "sweeps.model" in block
    )
    names = {"tts": tts, "jax": jax, "problem": tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))}
    exec(example, names)
    network, test = names["network"], names["test"]
    found = names["runs"]["test loss"].sel(seed=3, width=32, batch_size=10)
    assert abs(float(found[-1]) - float(test.risk(network))) < 1e-12
    assert found[-1] < found[0]
