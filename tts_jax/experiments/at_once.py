"""Work of an experiment on all cores."""

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import numpy as np

from .._platform import in_64_bit
from .._progress import Counter
from .._workers import workers

K = TypeVar("K")
T = TypeVar("T")


def at_once(jobs: Mapping[K, Callable[[], T]], told: Callable[[int, int], None]) -> dict[K, T]:
    """What each job gives, in NumPy; `told` how many are done, and of how many.

    A core takes one job after the other, with its compilation: programs that differ compile side by side.
    """
    wide = in_64_bit()
    counter = Counter(lambda done, total, **_: told(done, total), len(jobs), 0)

    def do(job: Callable[[], T]) -> T:
        with jax.enable_x64(wide):  # a thread has not the context of the caller
            found = jax.tree.map(np.asarray, job())
        counter.add(1)
        return found

    with workers(os.cpu_count() or 1) as pool:
        return dict(zip(jobs, pool.map(do, jobs.values()), strict=True))
