"""All figures in one folder, and a page that a browser can show."""

import dataclasses
import json
import re

import chromium
import pytest
from matplotlib.figure import Figure

from tts_jax import experiments
from tts_jax._provenance import Provenance
from tts_jax.experiments import Evidence, Finding, Table, Verdict
from tts_jax.experiments.page import html_page


class Square(experiments.AbstractExperiment):
    """Stands for an experiment that takes long."""

    side: float = 2.0

    @property
    def settings(self):
        return {"side": f"{self.side:g}"}

    def measure(self, folder, report):
        report("measuring", 0, 0)
        Figure(figsize=(self.side, self.side)).savefig(folder / "square.png", dpi=10)
        return Evidence(
            figures=("square.png",),
            findings=(Finding("sides < 3 | all", "2 & no more", Verdict.of(self.side < 3, self.side > 3)),),
            tables=(Table(("side", "area"), (("2", "4"),), "a <table>"),),
        )


@pytest.fixture(scope="module")
def reports():
    return []


@pytest.fixture(scope="module")
def reproduction(tmp_path_factory, reports):
    shown = {2.0: "Figure 2", 3.0: "Figures 3 and 4", 4.0: "Figure 4 of another paper"}
    squares = (Square(f"square-{side:g}", "quick", shows, "a square", side=side) for side, shows in shown.items())
    folder = tmp_path_factory.mktemp("all") / "with a space"
    notation = experiments.preset("notation")
    return experiments.reproduce([notation, *squares], folder, lambda *report: reports.append(report))


def test_every_figure_of_the_paper_has_an_experiment_in_both_profiles():
    for profile in ("quick", "paper"):
        chosen = experiments.figures_of_the_paper(profile)
        shown = " ".join(experiment.shows for experiment in chosen)
        assert {int(number) for number in re.findall(r"\d+", shown)} >= {1, 2, 3, 4, 5, 7}
        assert {experiment.profile for experiment in chosen} == {profile}
    with pytest.raises(ValueError, match=r"profile must be .* got 'fast'"):
        experiments.figures_of_the_paper("fast")


def test_every_experiment_begins_with_those_of_the_paper():
    for profile in ("quick", "paper"):
        paper, every = experiments.figures_of_the_paper(profile), experiments.every_experiment(profile)
        assert every[: len(paper)] == paper
        assert {each.name for each in every[len(paper) :]} == {
            *("regime-atlas", "is-it-a-diffusion", "orders"),
            *("learning-order", "online-plateau", "speeds-atlas"),
        }
        assert sorted(each.name for each in every) == sorted(
            each.name for each in experiments.PRESETS if each.profile == profile
        )


def test_the_page_parts_the_paper_from_what_is_beyond(reproduction):
    page = reproduction.page.read_text()
    assert "<h1>The paper and beyond</h1>" in page
    order = re.findall(r'<h2>([^:<]*)</h2>|<section id="([^"]*)">', page)
    names = [heading or section for heading, section in order]
    assert names == ["The paper", "notation", "square-2", "square-3", "Beyond the paper", "square-4"]
    assert re.findall(r'<th colspan="4">([^<]*)</th>', page) == ["The paper", "Beyond the paper"]
    alone = html_page(reproduction.outcomes[:3], Provenance.here())
    assert "<h1>The figures of the paper, drawn anew</h1>" in alone
    assert "eyond" not in alone


def test_the_page_says_what_was_found(reproduction):
    page = reproduction.page.read_text()
    assert "sides &lt; 3 | all" in page
    assert "2 &amp; no more" in page
    assert "a &lt;table&gt;" in page
    assert re.findall(r'<span class="(\w+)">(\w+)</span></td>', page) == [
        ("holds", "holds"),
        ("undecided", "undecided"),
        ("fails", "fails"),
    ]
    assert re.findall(r"<td>([^<]*)</td><td>[\d.]+ s</td>", page) == ["(none)", "holds: 1", "undecided: 1", "fails: 1"]
    assert "the exact two-sided sign test" in page
    assert re.findall(r"<th>side</th><td>(\d)</td>", page) == ["2", "3", "4"]
    links = re.findall(r'(?:src|href)="(?!http|#)([^"]*)"', page)
    assert links
    assert all((reproduction.folder / link).is_file() for link in links)


def test_the_table_and_the_json_have_a_row_for_each_claim(reproduction):
    rows = (reproduction.folder / "table.md").read_text().splitlines()[2:]
    assert [row.count(" | ") for row in rows] == [4, 4, 4, 4]
    assert [row.split(" | ")[3] for row in rows] == ["", "holds", "**undecided**", "**fails**"]
    assert r"sides < 3 \| all" in rows[1]
    written = json.loads((reproduction.folder / "reproduction.json").read_text())
    assert [row["name"] for row in written] == ["notation", "square-2", "square-3", "square-4"]
    assert [finding["verdict"] for row in written for finding in row["findings"]] == ["holds", "undecided", "fails"]


def test_reports_name_their_experiment(reproduction, reports):
    assert [phase for phase, _, _ in reports][-2:] == ["square-3: measuring", "square-4: measuring"]


def test_a_summary_is_the_configuration_and_the_evidence(reproduction):
    outcome = reproduction.outcomes[1]
    summary = json.loads((outcome.folder / "summary.json").read_text())
    assert summary["configuration"] == dataclasses.asdict(outcome.experiment)
    assert summary["files"] == ["square.png", "summary.json"]
    assert summary["findings"] == [
        {"claim": "sides < 3 | all", "measured": "2 & no more", "verdict": "holds", "changed": []}
    ]


def test_a_table_has_full_rows():
    with pytest.raises(ValueError, match="every row must have the 2 cells"):
        Table(("a", "b"), (("1",),))


def test_a_browser_shows_every_image(reproduction, tmp_path):
    check = (
        "<script>addEventListener('load', () => document.body.append('seen: ' + "
        "[...document.images].map(image => image.complete && image.naturalWidth).join(' ') + ';'))</script></body>"
    )
    watched = reproduction.folder / "watched.html"
    watched.write_text(reproduction.page.read_text().replace("</body>", check))
    shown = chromium.shown(watched, tmp_path / "profile")
    (widths,) = re.findall(r"seen: ([\d ]*);", shown)
    assert list(map(int, widths.split())) == [1100, 20, 30, 40]
