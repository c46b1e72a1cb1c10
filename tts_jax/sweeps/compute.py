"""Chunks of a sweep, computed by this process."""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._platform import in_64_bit
from .._workers import workers
from ..trajectory import Status
from .grid import Cell, Chunk
from .launch import Launch, Program, launches_of, places_of
from .results import Layout, Results
from .starts import Starts

LAUNCHES = 8
"""Of each program on a CPU, where there is as much to do."""


class Computer:
    """Keeps compiled programs from one `compute` to the next."""

    def __init__(self, layout: Layout, devices: Sequence[jax.Device], lanes: int):
        self.layout, self.lanes, self.starts = layout, lanes, Starts(layout.grid)
        self.places = {name: places_of(arm, devices) for name, arm in layout.grid.dynamics.items()}
        on_cpu = devices[0].platform == "cpu"
        self.cores = (os.cpu_count() or 1) if len(devices) == 1 and on_cpu else 1
        # On a CPU for as many cores, or devices that stand for them, as there may be: the same on each.
        self.at_least = LAUNCHES if on_cpu else len(devices)
        self.wide = in_64_bit()
        """Of the caller, whose context threads do not have."""
        self.cells: dict[Any, list[Cell]] = {}
        for cell in layout.grid.cells:
            self.cells.setdefault(cell.program, []).append(cell)
        self.programs: dict[Any, Program] = {}
        self.executables: dict[Any, concurrent.futures.Future[Any]] = {}
        self.lock = threading.Lock()

    def launches(self, todo: Sequence[Chunk]) -> list[Launch]:
        return launches_of(todo, self.layout, self.places, self.lanes, self.at_least)

    def compute(self, todo: Sequence[Chunk], results: Results, count: Callable[[int, int], None]) -> None:
        """Programs are compiled by threads of their own, while those that are ready run. `count` is told of runs that
        are done, and how many of them failed."""
        if not todo:
            return
        launches = self.launches(todo)
        at_once = min(len(launches), max(self.cores, *map(len, self.places.values())))
        with workers(at_once) as runners, workers(self.cores) as compilers:
            with self.lock:
                for launch in launches:
                    if launch.compiled_as not in self.executables:
                        self.executables[launch.compiled_as] = compilers.submit(self._compiled, launch)
            running = [runners.submit(self._run, launch, results, count) for launch in launches]
            for done in concurrent.futures.as_completed(running):
                done.result()

    def _program(self, launch: Launch) -> Program:
        name = launch.program
        with self.lock:
            if name not in self.programs:
                self.programs[name] = Program(self.cells[name], self.layout.kept, self.layout.grid.slow_times)
            return self.programs[name]

    def _compiled(self, launch: Launch) -> Any:
        with jax.enable_x64(self.wide):
            return self._program(launch).compile(launch, self.starts)

    def _run(self, launch: Launch, results: Results, count: Callable[[int, int], None]) -> None:
        with jax.enable_x64(self.wide):
            arguments = self._program(launch).arguments(launch, self.starts)
            outcome = jax.tree.map(np.asarray, self.executables[launch.compiled_as].result()(*arguments))
            for k, chunk in enumerate(launch.chunks):
                first = k * self.layout.chunk_size
                mine = {name: value[first : first + chunk.runs] for name, value in outcome.items() if value is not None}
                results.write(chunk, self.layout.variables_of(chunk, self.starts.of(chunk), mine))
                count(chunk.runs, int((mine["status"] != Status.SUCCESSFUL).sum()))
