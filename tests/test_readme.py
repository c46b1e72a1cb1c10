"""The README's example does what its comments say."""

import pathlib
import re

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
