"""How many runs are done."""

import sys
import threading
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the number of runs that are done, and of all."""


class Counter:
    """Counts finished runs, from several threads."""

    def __init__(self, report: Progress, total: int, done: int):
        self.report, self.total, self.done = report, total, done
        self.lock = threading.Lock()
        report(done, total)

    def add(self, runs: int) -> None:
        with self.lock:
            self.done += runs
            self.report(self.done, self.total)


class Lines:
    """A line on the standard error for each tenth of the runs."""

    def __init__(self):
        self.tenth = -1

    def __call__(self, done: int, total: int) -> None:
        if (tenth := 10 * done // total) > self.tenth:
            self.tenth = tenth
            print(f"{done:,} of {total:,} runs", file=sys.stderr, flush=True)


def silent(done: int, total: int) -> None:
    pass
