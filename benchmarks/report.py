"""What the benchmarks share: the header of a result file, and colours that everyone can tell apart."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK, GREY = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442"),
    *("#0072B2", "#D55E00", "#CC79A7", "#888888"),
)
"""Okabe and Ito's palette."""


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
