"""What the benchmarks share: the header of a result file, and colours that everyone can tell apart."""

import argparse
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK, GREY = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442"),
    *("#0072B2", "#D55E00", "#CC79A7", "#888888"),
)
"""Okabe and Ito's palette."""


def main(
    script: str, description: str, quick: str, measure: Callable[[bool], dict], plot: Callable[[Path], None]
) -> None:
    """The command line of a benchmark: measures into a JSON file named after the script, and draws it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{Path(script).stem}.json")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw FILE, measure nothing")
    options = parser.parse_args()
    path = options.plot or options.out
    if options.plot is None:
        path.write_text(json.dumps(measure(options.quick), indent=1) + "\n")
    plot(path)


def header(*packages: str) -> dict:
    """Where and with what; call it before any pinning."""
    import jax

    def git(*args):
        done = subprocess.run(["git", *args], capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
        return done.stdout.strip()

    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--", "../tts_jax", ".")),
        "device": str(jax.devices()[0]),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "dtype": str(jax.numpy.zeros(()).dtype),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "diffrax", "equinox", *packages)},
        "load_average_at_start": os.getloadavg(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def pin(cores):
    os.sched_setaffinity(0, cores)


def in_fresh_process(part, cores, *args):
    """In a process that may start others, unlike those of `multiprocessing.Pool`."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=pin, initargs=(cores,)) as pool:
        return pool.submit(part, *args).result()


def timed(solve, *args):
    wall, cpu = time.perf_counter(), time.process_time()
    y = solve(*args)
    return y, time.perf_counter() - wall, time.process_time() - cpu
