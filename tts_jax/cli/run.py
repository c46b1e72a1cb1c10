"""The subcommands of experiments: `list`, `run` and `reproduce`."""

import argparse
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import _checks as checks
from .._progress import console, reporting
from ..experiments import PRESETS, Outcome, Verdict, every_experiment, figures_of_the_paper, preset, reproduce
from ..experiments.claims import RULE
from ..trajectory import Status
from .console import refuse

PROFILES = "quick, or paper for the paper's own numbers (default: quick)"
COLOURS = {
    Verdict.HOLDS: "bold green",
    Verdict.FAILS: "bold red",
    Verdict.UNDECIDED: "bold yellow",
    Verdict.NOT_JUDGED: "dim",
}
FAILURES = {status.name.lower() for status in Status} - {Status.SUCCESSFUL.name.lower()}


def add_to(commands: Any) -> None:
    """Adds the subcommands to a parser of arguments."""
    commands.add_parser("list", help="the experiments").set_defaults(command=_list)
    run = commands.add_parser("run", help="simulate an experiment and write its figures into a folder")
    run.set_defaults(command=_run)
    run.add_argument("name", metavar="NAME", help="an experiment of `tts-jax list`")
    run.add_argument("--profile", default="quick", help=PROFILES)
    run.add_argument("--seed", type=int, metavar="N", help="of the start and of the samples (default: 0)")
    run.add_argument("--epsilon", type=float, metavar="X", help="step size of the positions over that of the weights")
    run.add_argument("--neurons", type=int, metavar="M")
    run.add_argument("--step-size", type=float, metavar="H", help="of SGD")
    run.add_argument("--seeds", type=int, metavar="N", help="how many starts, where an experiment has several")
    run.add_argument("--out", metavar="DIR", help="where to write (default: out/NAME-PROFILE)")
    again = commands.add_parser("reproduce", help="all figures of the paper, with a page that shows what was found")
    again.set_defaults(command=_reproduce)
    again.add_argument("--all", action="store_true", help="the experiments beyond the paper too")
    again.add_argument("--profile", default="quick", help=PROFILES)
    again.add_argument("--out", metavar="DIR", default="out/reproduce", help="where to write (default: out/reproduce)")


def _list(options: argparse.Namespace) -> int:
    screen = console()
    for name, description in {experiment.name: experiment.description for experiment in PRESETS}.items():
        screen.print(f"{name}: {description}", soft_wrap=True)
    table = Table("name", "profile", "shows", "settings", box=box.SIMPLE)
    for experiment in PRESETS:
        settings = ", ".join(f"{name} {value}" for name, value in experiment.settings.items())
        table.add_row(experiment.name, experiment.profile, experiment.shows, settings)
    screen.print(table)
    return 0


def _run(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in ("seed", "seeds", "epsilon", "neurons", "step_size")}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        experiment = preset(options.name, options.profile, **changes)
        default = f"out/{experiment.name}-{experiment.profile}"
        folder = checks.writable_folder(default if options.out is None else options.out)
        again = experiment.check_folder(folder)
    except ValueError as error:
        return refuse(error)
    if again:
        print(f"{folder} holds this run already, which is made anew", file=sys.stderr)
    screen = console()
    screen.print(f"{experiment.name} ({experiment.profile}): {experiment.description}", soft_wrap=True)
    try:
        with reporting() as report:
            outcome = experiment.run(folder, report)
    except (ValueError, ImportError) as error:
        return refuse(error)
    _print(screen, outcome)
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    try:
        experiments = (every_experiment if options.all else figures_of_the_paper)(options.profile)
        folder = checks.writable_folder(options.out)
    except ValueError as error:
        return refuse(error)
    screen = console()
    try:
        with reporting() as report:
            reproduction = reproduce(experiments, folder, report)
    except (ValueError, ImportError) as error:
        return refuse(error)
    for outcome in reproduction.outcomes:
        screen.print(
            f"\n{outcome.experiment.shows} ({outcome.experiment.name}, {outcome.seconds:.1f} s)", soft_wrap=True
        )
        _print_findings(screen, outcome)
    screen.print(f"\n{RULE}", soft_wrap=True)
    screen.print(f"\nDone in {reproduction.seconds:.1f} s; open this page in a browser:")
    screen.print(str(reproduction.page), soft_wrap=True)
    return 0


def _print(screen: Console, outcome: Outcome) -> None:
    for measured in outcome.evidence.tables:
        table = Table(*measured.heading, title=measured.title or None, box=box.SIMPLE)
        for row in measured.rows:
            table.add_row(*(Text(cell, "bold red" if cell in FAILURES else "") for cell in row))
        screen.print(table)
    _print_findings(screen, outcome)
    screen.print(f"\nDone in {outcome.seconds:.1f} s:")
    for name in outcome.files:
        screen.print(str(outcome.folder / name), soft_wrap=True)


def _print_findings(screen: Console, outcome: Outcome) -> None:
    for finding in outcome.evidence.findings:
        verdict = Text(finding.judged, COLOURS[finding.verdict])
        screen.print(Text.assemble(finding.claim, ": ", verdict, f"; {finding.measured}"), soft_wrap=True)
