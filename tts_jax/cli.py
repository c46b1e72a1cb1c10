"""The command line: `tts-jax list`, `tts-jax run two-timescale`."""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import jax
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from . import checks
from .experiments import PRESETS, Outcome, Summary, preset, run

PLAIN_REPORTS = 10
"""Lines of progress where the output is not a terminal."""
BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line in 64-bit, and returns its exit code: 2 for bad input, before any long work."""
    jax.config.update("jax_enable_x64", True)
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("tts-jax: interrupted", file=sys.stderr)
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"tts-jax: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tts-jax", description="Two-timescale training of shallow networks: the paper's experiments.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="what there is to run").set_defaults(command=_list)
    run_parser = commands.add_parser("run", help="simulate an experiment, and write its figures into a folder")
    run_parser.set_defaults(command=_run)
    run_parser.add_argument("name", metavar="NAME", help="an experiment of `tts-jax list`")
    run_parser.add_argument("--profile", default="quick", help="quick, or paper: the paper's own numbers (default: quick)")
    run_parser.add_argument("--seed", type=int, metavar="N", help="of the start and the samples (default: 0)")
    run_parser.add_argument("--epsilon", type=float, metavar="X", help="how many times slower the positions move")
    run_parser.add_argument("--neurons", type=int, metavar="M")
    run_parser.add_argument("--step-size", type=float, metavar="H", help="of SGD")
    run_parser.add_argument("--out", metavar="DIR", help="where to write (default: out/NAME-PROFILE)")
    return parser


def _list(options: argparse.Namespace) -> int:
    table = Table("name", "profile", "ε", "step size", "slow time", "SGD steps", "what it shows", box=box.SIMPLE)
    for experiment in PRESETS:
        numbers = (experiment.epsilon, experiment.step_size, experiment.slow_time, experiment.steps)
        table.add_row(experiment.name, experiment.profile, *(f"{x:.6g}" for x in numbers), experiment.description)
    _output().print(table)
    return 0


def _run(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in ("seed", "epsilon", "neurons", "step_size")}
    try:
        experiment = preset(options.name, options.profile, **{k: v for k, v in given.items() if v is not None})
        folder = checks.writable_folder(options.out or f"out/{experiment.name}-{experiment.profile}")
    except ValueError as error:
        print(f"tts-jax: {error}", file=sys.stderr)
        return BAD_INPUT
    console = _output()
    console.print(f"{experiment.name}, {experiment.profile} profile: {experiment.description}", soft_wrap=True)
    with _reporting() as report:
        outcome = run(experiment, folder, report)
    _print(console, outcome)
    return 0
