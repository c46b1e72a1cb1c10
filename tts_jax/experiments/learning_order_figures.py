"""The figures of the learning order."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..plot.style import KINDS, STYLE, WIDTH, new_figure

if TYPE_CHECKING:
    from .learning_order import LearningOrder

COLOURS = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
"""Of degrees."""
TIME, RISK = r"time $2\tau/m$", r"risk $E(f - f^*)^2$, no factor 1/2"


def risk(risks: Float[np.ndarray, "ratios t"], about: "LearningOrder") -> Figure:
    """Of one start, with the plateaus."""
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 2.9)
        axes = figure.add_subplot()
        for k in range(about.degrees):
            level = about.degrees - k
            axes.axhline(level, color="0.8", linewidth=0.8, zorder=0)
            axes.annotate(f" $\\ell = {k}$", (1, level), xycoords=("axes fraction", "data"), va="center")
        for epsilon, values, shade in zip(about.epsilons, risks, np.linspace(0.85, 0, len(risks)), strict=True):
            colour = (0.8 * shade, 0.45 + 0.4 * shade, 0.7 + 0.2 * shade)
            axes.plot(about.times, values, color=colour, label=f"{epsilon:g}")
        axes.set(xscale="log", xlabel=TIME, ylabel=RISK, ylim=(0, None))
        axes.legend(title="ε", loc="lower left", ncols=2)
        figure.supxlabel(
            f"Grey: plateaus, the sum of $\\varphi_k^2$ over $k \\geq \\ell$. "
            f"One start of m = {about.neurons} neurons, d = ∞, mean field.",
            fontsize=7,
        )
    return figure


def half_times(halves: Float[np.ndarray, "starts ratios degrees"], about: "LearningOrder") -> Figure:
    """With the lines of theory."""
    epsilons = np.asarray(about.epsilons)
    small = np.where(epsilons < 0.1, epsilons, np.nan)
    theory = [(r"\varepsilon \ln 2", np.log(2) * epsilons)]
    theory += [(r"\varepsilon^{1/2} \ln(1/\varepsilon)", small**0.5 * np.log(1 / small))]
    theory += [(f"\\varepsilon^{{1/{2 * k}}}", epsilons ** (0.5 / k)) for k in range(2, about.degrees)]
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 3.2)
        axes = figure.add_subplot()
        for k, (name, line) in enumerate(theory):
            colour, times = COLOURS[k % len(COLOURS)], halves[:, :, k]
            middle = np.median(times, axis=0)
            spread = np.abs(np.quantile(times, [0.1, 0.9], axis=0) - middle[None])
            axes.errorbar(epsilons, middle, spread, fmt="o", markersize=3, color=colour, label=f"degree {k}")
            scale = 1.0 if k == 0 else middle[-1] / line[-1]
            axes.plot(epsilons, scale * line, color=colour, linewidth=0.9, label=f"${name}$")
        axes.set(xscale="log", yscale="log", xlabel="ε", ylabel=r"half-time, in units of $2\tau/m$")
        axes.legend(ncols=2)
        figure.supxlabel(
            f"Points: medians of {len(halves)} starts, bars to the 10th and 90th percentile.\n"
            "Lines: orders of theory, through the last point but for degree 0.",
            fontsize=7,
        )
    return figure


def sgd(
    times: Float[np.ndarray, " t"],
    flow: Float[np.ndarray, " t"],
    runs: Float[np.ndarray, "streams t"],
    about: "LearningOrder",
) -> Figure:
    """Beside the flow of the same start."""
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 2.6)
        axes = figure.add_subplot()
        for k, values in enumerate(runs):
            label = f"SGD, {len(runs)} streams" if k == 0 else None
            axes.plot(times[1:], values[1:], **(KINDS["sgd"] | {"linewidth": 0.7}), label=label)
        axes.plot(times[1:], flow[1:], **(KINDS["flow"] | {"linewidth": 1.2, "zorder": 3}), label="flow in overlaps")
        axes.set(xscale="log", xlabel=TIME, ylabel=RISK, ylim=(0, None))
        axes.legend()
        figure.supxlabel(
            f"One start of {about.sgd_neurons} neurons, d = {about.sgd_inputs}, ε = {about.sgd_epsilon:g}, "
            f"step size {about.step_size:g}.",
            fontsize=7,
        )
    return figure
