"""What `flow_vs_solvers.py` found, as pictures, from its result file alone."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import matplotlib.ticker as ticker
import numpy as np
import report
from flow_tables import OURS, POOLED

LOOK = {
    OURS: dict(color=report.BLACK, marker="o", linewidth=2.5, zorder=5),
    "LSODA": dict(color=report.BLUE, marker="s"),
    "CVODE BDF": dict(color=report.RED, marker="^"),
    "SciPy BDF": dict(color=report.PINK, marker="D"),
    "SciPy Radau": dict(color=report.GREEN, marker="v"),
    "LSODA, quadrature": dict(color=report.BLUE, marker="s", linestyle="--", markerfacecolor="white"),
    "CVODE BDF, quadrature": dict(color=report.RED, marker="^", linestyle="--", markerfacecolor="white"),
    "Tsit5": dict(color=report.ORANGE, marker="P"),
    "Dopri8": dict(color=report.SKY, marker="X"),
    "Kvaerno5": dict(color=report.GREY, marker="*"),
    "Tsit5, quadrature": dict(color=report.ORANGE, marker="P", linestyle="--", markerfacecolor="white"),
    "Kvaerno5, quadrature": dict(color=report.GREY, marker="*", linestyle="--", markerfacecolor="white"),
}


def draw(results: dict, path: Path):
    """Two pictures beside the result file."""
    _work_precision(results).savefig(path.with_suffix(".png"), dpi=150)
    _many_starts(results).savefig(path.with_name(path.stem + "_batch.png"), dpi=150)


def _power(x):
    """`x` for a formula, with a power of ten."""
    digits, exponent = f"{x:.0e}".split("e")
    factor = "" if digits == "1" else rf"{digits} \times "
    return digits if int(exponent) == 0 else rf"{factor}10^{{{int(exponent)}}}"


def _work_precision(results):
    figure, axes = plt.subplots(2, 2, figsize=(12, 9.5), sharex=True, sharey=True, layout="constrained")
    for axis, regime in zip(axes.flat, results["regimes"], strict=True):
        for name, curve in regime["single"]["curves"].items():
            points = [(1e3 * point["cpu_seconds"], point["error"]) for point in curve if point["error"] is not None]
            axis.loglog(*np.reshape(points, (-1, 2)).T, label=name, **(dict(linewidth=1.4, markersize=6) | LOOK[name]))
        axis.axhline(results["target_error"], color="0.6", linewidth=0.8, zorder=0, label="error of the tables")
        unknown = max(regime["single"]["reference_disagreement"])
        axis.axhspan(1e-16, unknown, color="0.92", zorder=0, label="the references disagree")
        axis.set_title(rf"$\varepsilon = {_power(regime['epsilon'])}$, up to slow time {regime['slow_time']:g}")
        axis.set(ylim=(1e-12, 10))
        axis.grid(alpha=0.25)
    for axis in axes[1]:
        axis.set_xlabel("CPU time of one trajectory, one thread (ms)")
    for axis in axes[:, 0]:
        axis.set_ylabel("largest error in a weight or position at the end")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _many_starts(results):
    figure, axis = plt.subplots(figsize=(11, 4.8), layout="constrained")
    shown = {
        "ours, tts.run_each, both cores": ("run_each", LOOK[OURS]),
        "ours, lax.map, one core": ("mapped_one_core", LOOK[OURS] | dict(markerfacecolor="white")),
        "ours, pool of two": (OURS, LOOK[OURS] | dict(marker="x")),
    }
    shown |= {f"{name}, pool of two": (name, LOOK[name]) for name in POOLED}
    for i, (label, (key, look)) in enumerate(shown.items()):
        height = [1e3 * (regime["batch"] | regime["batch"]["pool_of_two"])[key] for regime in results["regimes"]]
        x = np.arange(len(height)) + 0.1 * (i - (len(shown) - 1) / 2)
        axis.plot(x, height, label=label, **(look | dict(linestyle="", markersize=9)))
    starts = results["regimes"][0]["batch"]["starts"]
    names = [rf"$\varepsilon = {_power(regime['epsilon'])}$" for regime in results["regimes"]]
    axis.set_xticks(range(len(names)), names)
    for between in range(len(names) - 1):
        axis.axvline(between + 0.5, color="0.8", linewidth=0.8)
    axis.set(yscale="log", ylabel="wall-clock time per trajectory (ms)", ylim=(1, None))
    error = _power(results["target_error"])
    axis.set_title(rf"{starts} starts, each solver at the tolerance that gives an error of ${error}$")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.grid(axis="y", which="both", alpha=0.25)
    axis.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
