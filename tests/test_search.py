"""The search of the documentation leads to the answers of those who ask for the first time."""

import html
import json
import pathlib
import re

import chromium
import pytest

SITE = pathlib.Path(__file__).parents[1] / "out" / "docs"
ANSWERS = {
    "how do I continue a run": "how-to/long-runs.html#continue-a-run",
    "which clock is slow_times": "concepts/clocks.html",
    "what does status 3 mean": "how-to/troubleshooting.html#statuses",
    "how do I hold a layer": "how-to/several-speeds.html#hold-a-layer",
    "why is float32 inaccurate": "how-to/precision.html#why-a-run-in-32-bit-is-inaccurate",
    "how many cores does a sweep use": "how-to/sweeps.html#how-many-cores-a-sweep-uses",
    "get a model out of a sweep": "how-to/sweeps.html#a-model-out-of-a-sweep",
    "what does the risk include": "concepts/clocks.html#what-the-risk-includes",
    "units of step_size": "concepts/clocks.html#units-of-the-step-size",
    "factor of the loss": "concepts/clocks.html#the-factor-of-the-loss",
    "use my own optimiser": "how-to/your-model.html#sgd-with-an-optimiser-of-yours",
    "how do I cite": "index.html#cite",
}
"""A question, and the section that answers it."""
PROBE = """<!doctype html><base href="%s"><body>
<script src="iframe-worker.js"></script><script src="search/search_index.js"></script>
<script>
  const worker = new Worker(new URL(%s, document.baseURI)), questions = %s, found = []
  worker.addEventListener("message", ({ data }) => {
    if (data.type === 3) found.push(data.data.items.map(page => page.map(section => section.location)))
    if (found.length < questions.length) worker.postMessage({ type: 2, data: questions[found.length] })
    else document.body.append("found: " + JSON.stringify(found) + ";")
  })
  worker.postMessage({ type: 0, data: { ...__index, options: {} } })
</script></body>"""
"""Asks the worker of the site, as its page does."""


def test_a_question_leads_to_its_answer(tmp_path):
    if not (SITE / "search" / "search_index.js").exists():
        pytest.skip("the site has not been built: `make docs` builds it")
    (worker,) = SITE.glob("assets/javascripts/workers/search.*.min.js")
    probe = tmp_path / "probe.html"
    asked = (f"{SITE.as_uri()}/", json.dumps(worker.relative_to(SITE).as_posix()), json.dumps(list(ANSWERS)))
    probe.write_text(PROBE % asked)
    page = chromium.shown(probe, tmp_path / "profile")
    (found,) = re.findall(r"found: (.*);", html.unescape(page).partition("<script>")[2].rpartition("</script>")[2])
    lost = {
        question: pages[:3]
        for (question, answer), pages in zip(ANSWERS.items(), json.loads(found), strict=True)
        if not any(answer in page for page in pages[:3])
    }
    assert lost == {}
