"""Progress on the standard error: a bar on a terminal, otherwise a line for each phase and each tenth of it."""

import abc
import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from . import _checks as checks

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

Progress = Callable[[int, int], None]
"""Called with what is done, and of how much."""


Look = Callable[..., None]
"""Called as `look(done, total, steps=None, began=0, failed=0)`: `steps` were taken, where that is another number than
what is done, and `began` of it was done before."""


def check(progress: Any) -> None:
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ValueError(
            f"progress must be True for a bar, or a function of (done, total), got {checks.one_line(repr(progress))}: "
            "pass progress=True"
        )


@contextlib.contextmanager
def watching(progress: bool | Progress | None, name: str) -> Iterator[Look]:
    """What a user asks for."""
    if not progress:
        yield silent
    elif progress is True:
        with reporting() as report:
            report(name, 0, 0)
            yield lambda done, total, *more, **named: report(name, done, total, *more, **named)
    else:
        told: Progress = progress
        yield lambda done, total, *more, **named: told(done, total)


def silent(*report: object, **more: object) -> None:
    pass


@contextlib.contextmanager
def reporting() -> Iterator["Reporter"]:
    from rich.progress import BarColumn, Progress as Bar, SpinnerColumn, TextColumn, TimeElapsedColumn

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield _Lines(screen)
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn()
    with Bar(*columns, TextColumn("{task.fields[pace]}"), console=screen, transient=True) as bar:
        yield _Bars(bar)


def console(stderr: bool = False) -> "Console":
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made.width = 120
    return made


class Counter:
    """Counts finished runs, from several threads."""

    def __init__(self, look: Look, total: int, done: int):
        self.look, self.total, self.done, self.began, self.failed = look, total, done, done, 0
        self.lock = threading.Lock()
        self.add(0)

    def add(self, runs: int, failed: int = 0) -> None:
        with self.lock:
            self.done += runs
            self.failed += failed
            self.look(self.done, self.total, began=self.began, failed=self.failed)


class Reporter(abc.ABC):
    """Told of a phase of the work, it knows how fast that is."""

    def __init__(self):
        self.phase = ""
        self.since = 0.0
        self.before = 0

    def __call__(
        self, phase: str, done: int, total: int, steps: int | None = None, began: int = 0, failed: int = 0
    ) -> None:
        """As `Look`, of a phase."""
        if phase != self.phase:
            self.phase, self.since, self.before = phase, time.perf_counter(), done
            self.begin(phase)
        here = done - max(self.before, began)
        if here > 0:
            seconds = time.perf_counter() - self.since
            left = datetime.timedelta(seconds=round((total - done) * seconds / here))
            pace = f"{here / seconds:.2g}/s" if steps is None else f"{steps:,} steps, {steps / seconds:.2g}/s"
            self.advance(done, total, f"{pace}, {left} left{f', {failed:,} failed' if failed else ''}")

    @abc.abstractmethod
    def begin(self, phase: str) -> None: ...

    @abc.abstractmethod
    def advance(self, done: int, total: int, pace: str) -> None: ...


class _Bars(Reporter):
    def __init__(self, bar: "Bar"):
        super().__init__()
        self.bar = bar

    @override
    def begin(self, phase: str) -> None:
        for earlier in self.bar.task_ids:
            self.bar.update(earlier, completed=1, total=1)
            self.bar.stop_task(earlier)
        self.bar.add_task(phase, total=None, pace="")

    @override
    def advance(self, done: int, total: int, pace: str) -> None:
        self.bar.update(self.bar.task_ids[-1], completed=done, total=total, pace=pace)


class _Lines(Reporter):
    def __init__(self, console: "Console"):
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
