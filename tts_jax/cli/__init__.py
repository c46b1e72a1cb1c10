"""The command line: `tts-jax list`, `tts-jax run two-timescale`, `tts-jax reproduce`."""

import abc
import argparse
import contextlib
import datetime
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

import equinox._errors
import jax
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from .. import _checks as checks
from ..experiments import PRESETS, Outcome, Report, figures_of_the_paper, preset, reproduce
from ..trajectory import Status
from . import sweep

BAD_INPUT, INTERRUPTED = 2, 130
PROFILES = "quick, or paper for the paper's own numbers (default: quick)"
FAILURES = {status.name.lower() for status in Status} - {Status.SUCCESSFUL.name.lower()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line in 64-bit, and returns its exit code: 2 for bad input, before any long work.

    Compiled programs are kept in `$XDG_CACHE_HOME/tts_jax` (by default `~/.cache/tts_jax`) from one run to the next,
    or where `JAX_COMPILATION_CACHE_DIR` says.
    """
    jax.config.update("jax_enable_x64", True)
    _keep_compiled_programs()
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("tts-jax: interrupted", file=sys.stderr)
        return INTERRUPTED


def _keep_compiled_programs() -> None:
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(home, "tts_jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if "EQX_ON_ERROR" not in os.environ:
        # By default Diffrax checks its save times in a call back to Python, and JAX caches no program that has one.
        # `checks.slow_times` has made the same check by then. Equinox reads the variable on import, too early for us.
        vars(equinox._errors)["EQX_ON_ERROR"] = "nan"


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"tts-jax: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tts-jax", description="How networks train when their layers learn at different speeds.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
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
    again.add_argument(
        "--profile", default="quick", help="quick, or paper for the paper's own numbers (default: quick)"
    )
    again.add_argument("--out", metavar="DIR", default="out/reproduce", help="where to write (default: out/reproduce)")
    sweep.add_to(commands)
    return parser


def _list(options: argparse.Namespace) -> int:
    console = _console()
    for name, description in {experiment.name: experiment.description for experiment in PRESETS}.items():
        console.print(f"{name}: {description}", soft_wrap=True)
    table = Table("name", "profile", "shows", "settings", box=box.SIMPLE)
    for experiment in PRESETS:
        settings = ", ".join(f"{name} {value}" for name, value in experiment.settings.items())
        table.add_row(experiment.name, experiment.profile, experiment.shows, settings)
    console.print(table)
    return 0


def _run(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in ("seed", "seeds", "epsilon", "neurons", "step_size")}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        experiment = preset(options.name, options.profile, **changes)
        folder = checks.writable_folder(options.out or f"out/{experiment.name}-{experiment.profile}")
    except ValueError as error:
        print(f"tts-jax: {error}", file=sys.stderr)
        return BAD_INPUT
    console = _console()
    console.print(f"{experiment.name} ({experiment.profile}): {experiment.description}", soft_wrap=True)
    try:
        with _reporting() as report:
            outcome = experiment.run(folder, report)
    except (ValueError, ImportError) as error:
        print(f"tts-jax: {error}", file=sys.stderr)
        return BAD_INPUT
    _print(console, outcome)
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    try:
        experiments = figures_of_the_paper(options.profile)
        folder = checks.writable_folder(options.out)
    except ValueError as error:
        print(f"tts-jax: {error}", file=sys.stderr)
        return BAD_INPUT
    console = _console()
    with _reporting() as report:
        reproduction = reproduce(experiments, folder, report)
    for outcome in reproduction.outcomes:
        console.print(
            f"\n{outcome.experiment.shows} ({outcome.experiment.name}, {outcome.seconds:.1f} s)", soft_wrap=True
        )
        _print_findings(console, outcome)
    console.print(f"\nDone in {reproduction.seconds:.1f} s; open this page in a browser:")
    console.print(str(reproduction.page), soft_wrap=True)
    return 0


def _print(console: Console, outcome: Outcome) -> None:
    for measured in outcome.evidence.tables:
        table = Table(*measured.heading, title=measured.title or None, box=box.SIMPLE)
        for row in measured.rows:
            table.add_row(*(Text(cell, "bold red" if cell in FAILURES else "") for cell in row))
        console.print(table)
    _print_findings(console, outcome)
    console.print(f"\nDone in {outcome.seconds:.1f} s:")
    for name in outcome.files:
        console.print(str(outcome.folder / name), soft_wrap=True)


def _print_findings(console: Console, outcome: Outcome) -> None:
    for finding in outcome.evidence.findings:
        verdict = Text("yes" if finding.holds else "NO", "bold green" if finding.holds else "bold red")
        console.print(Text.assemble(finding.claim, ": ", verdict, f" ({finding.measured})"), soft_wrap=True)


def _console(stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = 120
    return console


@contextlib.contextmanager
def _reporting() -> Iterator[Report]:
    """Progress on the standard error: a bar on a terminal, otherwise a line for each phase and each tenth of it."""
    console = _console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn()
    with Progress(*columns, TextColumn("{task.fields[pace]}"), console=console, transient=True) as progress:
        yield _Bars(progress)


class _Reporter(abc.ABC):
    """A `Report` that knows how fast the work is."""

    def __init__(self):
        self.phase = ""
        self.since = 0.0
        self.before = 0

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase != self.phase:
            self.phase, self.since, self.before = phase, time.perf_counter(), done
            self.begin(phase)
        if done > self.before:
            pace = (done - self.before) / (time.perf_counter() - self.since)
            left = datetime.timedelta(seconds=round((total - done) / pace))
            self.advance(done, total, f"{pace:.2g}/s, {left} left")

    @abc.abstractmethod
    def begin(self, phase: str) -> None: ...

    @abc.abstractmethod
    def advance(self, done: int, total: int, pace: str) -> None: ...


class _Bars(_Reporter):
    def __init__(self, progress: Progress):
        super().__init__()
        self.progress = progress

    @override
    def begin(self, phase: str) -> None:
        for earlier in self.progress.task_ids:
            self.progress.update(earlier, completed=1, total=1)
            self.progress.stop_task(earlier)
        self.progress.add_task(phase, total=None, pace="")

    @override
    def advance(self, done: int, total: int, pace: str) -> None:
        self.progress.update(self.progress.task_ids[-1], completed=done, total=total, pace=pace)


class _Lines(_Reporter):
    def __init__(self, console: Console):
        super().__init__()
        self.console = console
        self.tenth = 0

    @override
    def begin(self, phase: str) -> None:
        self.console.print(phase)
        self.tenth = 0

    @override
    def advance(self, done: int, total: int, pace: str) -> None:
        if 10 * done // total > self.tenth:
            self.tenth = 10 * done // total
            self.console.print(f"{self.phase}: {done:,} of {total:,}, {pace}")
