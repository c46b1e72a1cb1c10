"""The snippets of the how-to guides run, in their order, but for those that say they were not."""

import pathlib
import re

import pytest

GUIDES = sorted((pathlib.Path(__file__).parents[1] / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of Dask, whose threads and sockets close late
def test_a_guide_runs(guide, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"(<!-- not run -->\n)?```python\n(.*?)```", guide.read_text(), re.DOTALL)
    names = {"__name__": "__main__"}
    results = []
    for skipped, snippet in snippets:
        if not skipped:
            exec(snippet, names)
            results.append(names.get("runs"))
    laptop, device, workers = (runs.drop_attrs() for runs in results[1:])
    assert laptop.equals(device)
    assert laptop.equals(workers)
