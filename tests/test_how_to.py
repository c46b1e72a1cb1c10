"""The snippets of the guide to sweeps run, in their order, but for those that say they were not."""

import pathlib
import re

import pytest

GUIDE = pathlib.Path(__file__).parents[1] / "docs" / "how-to" / "sweeps-anywhere.md"


@pytest.mark.filterwarnings("default")  # of Dask, whose threads and sockets close late
def test_the_guide_runs(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"(<!-- not run -->\n)?```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names = {"__name__": "__main__"}
    results = []
    for skipped, snippet in snippets:
        if not skipped:
            exec(snippet, names)
            results.append(names.get("runs"))
    laptop, device, workers = (runs.drop_attrs() for runs in results[1:])
    assert laptop.equals(device)
    assert laptop.equals(workers)
