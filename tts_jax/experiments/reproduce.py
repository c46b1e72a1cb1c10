"""Experiments in one folder, all figures of the paper for one, with a page that shows each beside what was found."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Sequence

import equinox as eqx

from .. import _checks as checks
from .._provenance import Provenance
from .base import AbstractExperiment, Outcome, Report, silent
from .page import html_page, markdown_table
from .presets import PRESETS


class Reproduction(eqx.Module):
    """What came of several experiments, one after the other."""

    folder: pathlib.Path
    """Where the page is, and a folder for each experiment."""
    outcomes: tuple[Outcome, ...]
    """One for each experiment, in order."""

    @property
    def page(self) -> pathlib.Path:
        """To be opened in a browser."""
        return self.folder / "index.html"

    @property
    def seconds(self) -> float:
        """Of all of them."""
        return sum(outcome.seconds for outcome in self.outcomes)


def figures_of_the_paper(profile: str = "quick") -> tuple[AbstractExperiment, ...]:
    """The experiments that stand behind a figure of the paper, in its order, in one `profile`: "quick" or "paper".

    >>> [experiment.shows for experiment in figures_of_the_paper("paper")][:2]
    ['Figure 1', 'Figure 2']

    Raises `ValueError` for an unknown profile.
    """
    chosen = [each for each in _of_profile(profile) if each.of_the_paper]
    return tuple(sorted(chosen, key=lambda each: [int(n) for n in re.findall(r"\d+", each.shows)] or [99]))


def every_experiment(profile: str = "quick") -> tuple[AbstractExperiment, ...]:
    """Those of `figures_of_the_paper`, and then those beyond the paper, in one `profile`: "quick" or "paper".

    Raises `ValueError` for an unknown profile.
    """
    return *figures_of_the_paper(profile), *(each for each in _of_profile(profile) if not each.of_the_paper)


def reproduce(
    experiments: Sequence[AbstractExperiment], out: str | os.PathLike[str], report: Report | None = None
) -> Reproduction:
    """Runs one of the `experiments` after the other, each into a folder of its own name in `out`, and writes beside
    them

    - `index.html`, each figure beside its settings, the claims, what was measured, and the time it took
    - `table.md`, the same without figures, and `reproduction.json`, for programs

    All three are written anew after each experiment. `report(phase, done, total)` is told how far it is.

    Raises `ValueError` where the folder cannot be written into, and for what is no list of experiments.
    """
    folder = checks.writable_folder(out)
    report = silent if report is None else checks.function("report", report, "print")
    given = experiments if isinstance(experiments, Sequence) else ()
    if not given or not all(isinstance(each, AbstractExperiment) for each in given):
        raise ValueError(
            f"experiments must be a list of experiments, got {checks.shown(experiments)}: "
            'pass e.g. figures_of_the_paper("quick")'
        )
    provenance = Provenance.here()
    outcomes: list[Outcome] = []
    for experiment in experiments:

        def named(phase: str, done: int, total: int, name: str = experiment.name) -> None:
            report(f"{name}: {phase}", done, total)

        outcomes.append(experiment.run(folder / experiment.name, named))
        (folder / "index.html").write_text(html_page(outcomes, provenance), encoding="utf-8")
        (folder / "table.md").write_text(markdown_table(outcomes), encoding="utf-8")
        (folder / "reproduction.json").write_text(json.dumps([_row(outcome) for outcome in outcomes], indent=2) + "\n")
    return Reproduction(folder, tuple(outcomes))


def _of_profile(profile: str) -> list[AbstractExperiment]:
    profiles = list(dict.fromkeys(each.profile for each in PRESETS))
    checks.choice("profile", profile, profiles)
    return [each for each in PRESETS if each.profile == profile]


def _row(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.experiment.name,
        "profile": outcome.experiment.profile,
        "shows": outcome.experiment.shows,
        "findings": [dataclasses.asdict(finding) for finding in outcome.evidence.findings],
        "seconds": outcome.seconds,
    }
