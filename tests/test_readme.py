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


def test_the_figures_of_the_paper_are_those_of_the_gallery():
    """Their verdicts are counted as there, and each number of a row is measured there."""
    page = (README.parent / "docs" / "gallery" / "paper.md").read_text()
    sections = {text.split("\n")[0]: text for text in page.split("\n## ")[1:]}
    shown = []
    for row in re.findall(r"^\| (.*paper\.md#.*) \|$", README.read_text(), re.MULTILINE):
        figures, claims, number, _ = row.split(" | ")
        names = re.findall(r"paper\.md#([\w-]+)", figures)
        found = "".join(map(sections.get, names))
        counted = {
            verdict: len(re.findall(rf"\| \**{verdict}s?\** \|$", found, re.MULTILINE))
            for verdict in ("hold", "fail", "undecided")
        }
        said = {verdict: int(count) for count, verdict in re.findall(r"(\d) (hold|fail|undecided)", claims)}
        assert said == {verdict: count for verdict, count in counted.items() if count}
        assert [each for each in re.findall(r"0\.\d{3,}", number) if each not in found] == []
        shown += names
    assert shown == list(sections)
