"""What every experiment has in common: a configuration that runs into a folder, and says what it found."""

import abc
import dataclasses
import enum
import json
import math
import os
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx

from .. import _checks as checks
from .._provenance import Provenance

Report = Callable[[str, int, int], None]
"""Called with the phase of the work, the steps done in it, and their number (0 and 0 where nothing is counted)."""


class Verdict(enum.StrEnum):
    """What the data says of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    """The data contradict it."""
    UNDECIDED = "undecided"
    """Neither: too few repeats, or runs that failed."""
    NOT_JUDGED = "not judged"
    """What the claim is about was changed."""

    @classmethod
    def of(cls, holds: bool, fails: bool) -> "Verdict":
        return cls.HOLDS if holds else cls.FAILS if fails else cls.UNDECIDED

    @classmethod
    def all_of(cls, *verdicts: "Verdict") -> "Verdict":
        """On a claim that is several: one that fails is enough to refute it."""
        return cls.of(set(verdicts) == {cls.HOLDS}, cls.FAILS in verdicts)


class Finding(eqx.Module):
    """One claim of the paper (or of ours) beside what was measured."""

    claim: str
    measured: str
    """With its numbers, in a sentence; of a claim about repeats with an interval and a p-value."""
    verdict: Verdict
    changed: tuple[str, ...] = ()
    """The settings for which it is not judged."""

    @property
    def judged(self) -> str:
        """The verdict in words: "holds", or "not judged (epsilon changed)"."""
        return f"{self.verdict} ({', '.join(self.changed)} changed)" if self.changed else str(self.verdict)


class Table(eqx.Module):
    """What is printed, and shown in `index.html`. Numbers as `number` formats them."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""

    def __check_init__(self):
        if any(len(row) != len(self.heading) for row in self.rows):
            raise ValueError(f"every row must have the {len(self.heading)} cells of the heading, got {self.rows}")


class Evidence(eqx.Module):
    """What an experiment measured and wrote."""

    figures: tuple[str, ...]
    """Names of pictures in the folder, the one that matters most first."""
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]
    files: tuple[str, ...] = ()
    """Names of everything else in the folder."""
    results: Any = None
    """Whatever stays in memory for whoever called: trajectories, arrays."""
    record: dict[str, Any] = eqx.field(default_factory=dict)
    """What is particular to the experiment in `summary.json`."""


class Outcome(eqx.Module):
    """What came of a run of an experiment."""

    experiment: "AbstractExperiment"
    """As it was run."""
    folder: pathlib.Path
    """Where everything was written."""
    evidence: Evidence
    """What was measured, and what it says of the claims."""
    seconds: float
    """Of the whole run, compilation and drawing included."""

    @property
    def files(self) -> tuple[str, ...]:
        """Of the folder; figures first."""
        return *self.evidence.figures, *self.evidence.files, "summary.json"


class AbstractExperiment(eqx.Module):
    """A frozen configuration, with one field for each setting; `dataclasses.replace` changes some.

    An experiment defines `settings` and `measure`, and is listed in `presets.PRESETS`. Its fields hold no arrays: it is
    made before the command line turns 64-bit on, and goes to `summary.json` as it is.
    """

    name: str
    """Of the preset."""
    profile: str
    """quick or paper."""
    shows: str
    """The figures of the paper, as in "Figures 3 and 4"; or what takes their place."""
    description: str
    """In a sentence."""
    seed: int = eqx.field(default=0, kw_only=True)
    """Of starts and samples."""

    def __check_init__(self):
        checks.count("seed", self.seed, at_least=0, below=2**32)

    @property
    def of_the_paper(self) -> bool:
        """Whether it stands behind a figure of Marion and Berthier (2023); others are beyond."""
        return re.fullmatch(r"Figures? [\d and]+|the appendix", self.shows) is not None

    @property
    @abc.abstractmethod
    def settings(self) -> dict[str, str]:
        """The numbers that matter, for the list of experiments and for `index.html`."""

    @abc.abstractmethod
    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        """Does the work, and writes figures and data into `folder`, which exists. `report` is told how far it is."""

    def check_folder(self, folder: pathlib.Path) -> bool:
        """Whether the `folder` holds this run already. Raises `ValueError` where it holds another."""
        path = folder / "summary.json"
        if not path.exists():
            return False
        try:
            there = json.loads(path.read_text(encoding="utf-8"))["configuration"]
        except (ValueError, LookupError, TypeError):
            raise ValueError(f"{path} is not of an experiment: choose another folder, or move it away") from None
        mine = _configuration(self)
        if differs := sorted(key for key in mine.keys() | there.keys() if mine.get(key) != there.get(key)):
            raise ValueError(
                f"{folder} holds a run with {differs[0]} {there.get(differs[0])}, not {mine.get(differs[0])}: "
                "choose another folder, or move it away"
            )
        return True

    def run(self, out: str | os.PathLike[str], report: Report | None = None) -> Outcome:
        """Measures, and writes into the folder `out` the figures, the data, and `summary.json`: configuration, what was
        found, and where it comes from. `report` is told how far it is; by default nothing is. No claim is judged where
        a setting that it is about is not the preset's.

        Raises `ValueError` where the folder cannot be written into, or holds the results of another configuration. A
        simulation that fails shows in its status.
        """
        report = silent if report is None else checks.function("report", report, "print")
        folder = checks.writable_folder(out)
        self.check_folder(folder)
        begin = time.perf_counter()
        evidence = _judged(self, self.measure(folder, report))
        outcome = Outcome(self, folder, evidence, time.perf_counter() - begin)
        summary = {
            "configuration": dataclasses.asdict(self),
            **evidence.record,
            "findings": [dataclasses.asdict(finding) for finding in evidence.findings],
            "tables": [dataclasses.asdict(table) for table in evidence.tables],
            "files": outcome.files,
            "seconds": outcome.seconds,
            "provenance": dataclasses.asdict(Provenance.here()),
        }
        (folder / "summary.json").write_text(json.dumps(_finite(summary), indent=2) + "\n")
        return outcome


def _judged(experiment: AbstractExperiment, evidence: Evidence) -> Evidence:
    """No claim is judged where the user changed what it is about."""
    from .presets import changes

    if not (changed := changes(experiment)):
        return evidence
    findings = tuple(Finding(each.claim, each.measured, Verdict.NOT_JUDGED, changed) for each in evidence.findings)
    return dataclasses.replace(evidence, findings=findings)


def _configuration(experiment: AbstractExperiment) -> dict[str, Any]:
    """As `summary.json` gives it back."""
    return json.loads(json.dumps(_finite(dataclasses.asdict(experiment))))


def number(value: int | float) -> str:
    """The `value` as tables show it: an integer in full, anything else to four digits.

    >>> number(1750000), number(0.00796912)
    ('1,750,000', '0.007969')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _finite(value: Any) -> Any:
    """A number that is not finite becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def silent(*report: object) -> None:
    pass
