"""Outcomes as a page for a browser, and as a table for a README."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from .._provenance import Provenance
from .base import Finding, Outcome, Table, Verdict
from .claims import RULE

PAPER, BEYOND = "The paper", "Beyond the paper"
STYLE = """
:root { --ink: #1c1c1c; --soft: #5f6368; --line: #d9dce0; --yes: #00694b; --no: #b3261e; --open: #8a5300;
        --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a0a5ab; --line: #3c4043; --yes: #4fc79a; --no: #ff8a80; --open: #f0b45a;
          --paper: #17181a; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
       max-width: 76rem; padding: 0 1rem; }
section { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1rem; display: grid; gap: 1rem 2rem;
          grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); }
section h2, section > p { grid-column: 1 / -1; margin: 0; }
@media (max-width: 60rem) { section { grid-template-columns: minmax(0, 1fr); } }
img { width: 100%; height: auto; background: #fff; border-radius: 4px; display: block; margin-bottom: 1rem; }
h3 { font-size: 1em; margin: 0.8rem 0 0.3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: 0.2rem 0.9rem 0.2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th, .soft { color: var(--soft); font-weight: normal; }
.holds { color: var(--yes); font-weight: 600; } .fails { color: var(--no); font-weight: 600; }
.undecided { color: var(--open); font-weight: 600; } .not_judged { color: var(--soft); }
"""


def html_page(outcomes: Sequence[Outcome], provenance: Provenance) -> str:
    """A page that lies in the folder above those of the outcomes, and needs nothing else."""
    profile, parts = outcomes[0].experiment.profile, _parts(outcomes)
    total = sum(outcome.seconds for outcome in outcomes)
    title = "The paper and beyond" if BEYOND in parts else "The figures of the paper, drawn anew"
    rows = "".join(f'<tr><th colspan="4">{name}</th></tr>' + "".join(map(_row, part)) for name, part in parts.items())
    sections = "\n".join(f"<h2>{name}</h2>\n" + "\n".join(map(_section, part)) for name, part in parts.items())
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    commit = f", commit {provenance.commit}" if provenance.commit else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n"
        "<p>P. Marion and R. Berthier, <i>Leveraging the two-timescale regime to demonstrate convergence of neural "
        'networks</i>, NeurIPS 2023, <a href="https://arxiv.org/abs/2304.09576">arXiv 2304.09576</a>. Profile '
        f"<b>{escape(profile)}</b>, {_duration(total)} in all.</p>\n<p>{escape(RULE)}</p>\n"
        f'<div class="scroll"><table><tr><th>shows</th><th>experiment</th><th>claims</th><th>took</th></tr>'
        f"{rows}</table></div>\n{sections}\n"
        f'<p class="soft">{escape(versions)}; {escape(provenance.device)}, {escape(provenance.dtype)}'
        f"{escape(commit)}.</p>\n</body>\n</html>\n"
    )


def _parts(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """By their headings."""
    parts: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        parts.setdefault(PAPER if outcome.experiment.of_the_paper else BEYOND, []).append(outcome)
    return parts


def _row(outcome: Outcome) -> str:
    return (
        f'<tr><td><a href="#{_name(outcome)}">{escape(outcome.experiment.shows)}</a></td>'
        f"<td>{_name(outcome)}</td><td>{_tally(outcome)}</td><td>{_duration(outcome.seconds)}</td></tr>"
    )


def markdown_table(outcomes: Iterable[Outcome]) -> str:
    """One row for each claim."""
    lines = ["| shows | claim | measured | verdict | experiment took |", "|---|---|---|---|---|"]
    for outcome in outcomes:
        claims = [
            (each.claim, each.measured, each.judged if each.verdict is Verdict.HOLDS else f"**{each.judged}**")
            for each in outcome.evidence.findings
        ]
        for k, claim in enumerate(claims or [("no claim", "drawn from the objects", "")]):
            shows = f"{outcome.experiment.shows} (`{outcome.experiment.name}`)" if k == 0 else ""
            took = _duration(outcome.seconds) if k == 0 else ""
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (shows, *claim, took)) + " |")
    return "\n".join(lines) + "\n"


def _section(outcome: Outcome) -> str:
    experiment, evidence = outcome.experiment, outcome.evidence
    images = "".join(
        f'<a href="{_name(outcome)}/{escape(name)}"><img src="{_name(outcome)}/{escape(name)}" '
        f'alt="{escape(experiment.description)}: {escape(name)}"></a>'
        for name in evidence.figures
    )
    findings = "".join(
        f"<tr><td>{escape(finding.claim)}</td><td>{escape(finding.measured)}</td><td>{_verdict(finding)}</td></tr>"
        for finding in evidence.findings
    )
    claims = (
        f'<h3>Claims</h3><div class="scroll"><table><tr><th>claim</th><th>measured</th><th>verdict</th></tr>{findings}'
        "</table></div>"
        if findings
        else ""
    )
    files = ", ".join(
        f'<a href="{_name(outcome)}/{escape(name)}">{escape(name)}</a>'
        for name in outcome.files[len(evidence.figures) :]
    )
    return (
        f'<section id="{_name(outcome)}">\n<h2>{escape(experiment.shows)}: {_name(outcome)}</h2>\n'
        f'<p>{escape(experiment.description)}. <span class="soft">Took {_duration(outcome.seconds)}.</span></p>\n'
        f"<div>{images}</div>\n<div>{claims}<h3>Settings</h3>{_settings(experiment.settings | _seed(outcome))}"
        f"{''.join(map(_table, evidence.tables))}<h3>Files</h3><p>{files}</p></div>\n</section>"
    )


def _settings(settings: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in settings.items())
    return f'<div class="scroll"><table>{rows}</table></div>'


def _table(table: Table) -> str:
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in table.heading)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f'<h3>{escape(table.title)}</h3><div class="scroll"><table><tr>{heading}</tr>{rows}</table></div>'


def _seed(outcome: Outcome) -> dict[str, str]:
    return {"seed": str(outcome.experiment.seed)}


def _verdict(finding: Finding) -> str:
    return f'<span class="{finding.verdict.name.lower()}">{escape(finding.judged)}</span>'


def _tally(outcome: Outcome) -> str:
    counts = Counter(finding.verdict for finding in outcome.evidence.findings)
    return ", ".join(f"{verdict}: {counts[verdict]}" for verdict in Verdict if verdict in counts) or "(none)"


def _name(outcome: Outcome) -> str:
    return escape(outcome.experiment.name)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
