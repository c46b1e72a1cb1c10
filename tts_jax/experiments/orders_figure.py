"""Errors against what makes them, with fitted slopes."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..plot.style import STYLE, WIDTH, new_figure

if TYPE_CHECKING:
    from .convergence import Convergence

RUNS, FIT, THEORY = "#0072B2", "#D55E00", "0.5"


def panels(found: list["Convergence"]) -> Figure:
    """Four panels: every run as a dot, means with 95 % intervals, the fitted line, and the slope of theory."""
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 4.8)
        for axes, each in zip(np.ravel(figure.subplots(2, 2)), found, strict=True):
            _draw(axes, each)
        handles, labels = figure.axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _draw(axes: Axes, found: "Convergence") -> None:
    values, errors = found.counted
    many = found.errors.shape[1] > 1
    size = 2.2 if many else 4
    label = "run, or group of runs"
    axes.plot(values, errors, "o", color=RUNS, markersize=size, markeredgewidth=0, alpha=0.6, label=label)
    mean, low, high = found.bands.T
    if many:
        bars = np.stack([mean - low, high - mean])
        axes.errorbar(found.values, mean, bars, fmt="none", color="0.1", capsize=2, linewidth=1, label="mean, 95 %")
    title = found.name
    if (fit := found.fit) is not None:
        x = np.array([found.values.min(), found.values.max()])
        axes.plot(x, fit.constant * x**fit.order, color=FIT, linewidth=1.2, label="least squares")
        start = 0.5 * errors[values == x[0]].min()
        axes.plot(x, start * (x / x[0]) ** found.expected, "--", color=THEORY, linewidth=1, label="slope of theory")
        title += f"\norder {fit.order:.2f} (95 %: {fit.low:.2f} to {fit.high:.2f})"
    axes.set(xscale="log", yscale="log", xlabel=found.parameter, ylabel=found.measure, title=title)
    for axis in (axes.xaxis, axes.yaxis):  # one power of ten at least has a number, and none is crowded
        low, high = axis.get_view_interval()
        decade = 10.0 ** np.floor(np.log10(high))
        axis.set_view_interval(min(low, 0.9 * decade), high)
        axis.set_minor_formatter(NullFormatter())
