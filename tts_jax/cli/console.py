"""What the command line prints, and how it shows progress."""

import abc
import contextlib
import datetime
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typing_extensions import override

from ..experiments import Report

BAD_INPUT = 2


def refuse(error: Exception) -> int:
    """Says in one line what is wrong with the input, and gives the exit code."""
    print(f"tts-jax: {error}", file=sys.stderr)
    return BAD_INPUT


def console(stderr: bool = False) -> Console:
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made.width = 120
    return made


@contextlib.contextmanager
def reporting() -> Iterator[Report]:
    """Progress on the standard error: a bar on a terminal, otherwise a line for each phase and each tenth of it."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield _Lines(screen)
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn()
    with Progress(*columns, TextColumn("{task.fields[pace]}"), console=screen, transient=True) as progress:
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
