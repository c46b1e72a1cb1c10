"""Seed-steps of SGD per second on each device that JAX finds here; and a picture of several machines.

python benchmarks/devices.py [--out FILE]            # on each machine
python benchmarks/devices.py --plot FILE [FILE ...]  # their files in one picture, beside the first
"""

import argparse
import json
from pathlib import Path

import report
import sgd_throughput

LANES, NEURONS = (1, 16, 256, 4096), 20


def measure() -> dict:
    import jax

    results = {**report.header("optax"), "cells": []}
    for device in jax.devices():
        # A TPU has no 64-bit floats.
        for dtype in ("float32",) if device.platform == "tpu" else ("float64", "float32"):
            for lanes in LANES:
                with jax.default_device(device):
                    contestants = {"": sgd_throughput.ours(lanes, NEURONS, dtype, cores=1)}
                    if device.platform == "gpu":
                        # An optimiser that is given, here the same one, is for the loop of XLA.
                        contestants[", loop"] = sgd_throughput.ours(lanes, NEURONS, dtype, cores=1, optax=True)
                    measured = sgd_throughput.cell(contestants, lanes, sgd_throughput.ROUNDS)
                for suffix, taken in measured.items():
                    kind = f"{device.platform}: {device.device_kind}{suffix}"
                    entry = {"device": kind, "index": device.id, "lanes": lanes, "neurons": NEURONS, "dtype": dtype}
                    results["cells"].append(entry | taken)
                    print(f"{kind}, {dtype}, {lanes} lanes: {taken['microseconds_per_seed_step']:.4g} us", flush=True)
    return results


def plot(paths: list[Path]) -> None:
    import matplotlib.pyplot as plt

    colours = [report.BLUE, report.ORANGE, report.GREEN, report.RED, report.PINK, report.SKY, report.BLACK]
    styles = {"float64": "-", "float32": "--"}
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for path in paths:
        results = json.loads(path.read_text())
        for cell in results["cells"]:
            name = f"{cell['device']} {cell['index']} ({results['cpu']})"
            pace = 1e6 / cell["microseconds_per_seed_step"]
            curves.setdefault((name, cell["dtype"]), {})[cell["lanes"]] = pace
    names = sorted({name for name, _ in curves})
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for (name, dtype), paces in curves.items():
        colour = colours[names.index(name) % len(colours)]
        label = f"{name}, {dtype[-2:]}-bit"
        axis.loglog(list(paces), list(paces.values()), styles[dtype], color=colour, marker="o", ms=3, label=label)
    axis.set_xlabel("lanes")
    axis.set_ylabel("seed-steps per second")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    figure.savefig(paths[0].with_suffix(".png"), dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=report.RESULTS / "devices.json")
    parser.add_argument("--plot", type=Path, nargs="+", metavar="FILE", help="draw these, measure nothing")
    options = parser.parse_args()
    if options.plot is None:
        options.out.write_text(json.dumps(measure(), indent=1) + "\n")
    plot(options.plot or [options.out])


if __name__ == "__main__":
    main()
