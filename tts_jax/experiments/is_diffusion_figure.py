"""Errors of SGD, of SVAG and of the diffusion."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..plot.style import KINDS, STYLE, WIDTH, new_figure
from .claims import Repeats
from .is_diffusion import ALIKE, IsDiffusion

Lines = dict[str, dict[str, Any]]
"""How each arm is drawn."""


def comparison(
    experiment: IsDiffusion,
    errors: Float[np.ndarray, "case arm seed t"],
    ratios: Sequence[Sequence[Repeats]],
) -> Figure:
    """For each case the errors against slow time; below, the medians of the ratios."""
    cases, sizes = experiment.cases, experiment.amplifications
    lines = dict(zip(experiment.arms, _styles(len(sizes)), strict=True))
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 4.2)
        panels = figure.subplots(2, len(cases), squeeze=False, height_ratios=[3, 2], sharey="row")
        for (above, below), case, of_case, of_arms in zip(panels.T, cases, errors, ratios, strict=True):
            _draw_errors(above, experiment.times(case), of_case, lines)
            above.set(title=case.label, xlabel="slow time τ")
            _draw_ratios(below, sizes, of_arms, lines)
        panels[0, 0].set_ylabel(r"error $\int_0^1 (f - f^*)^2\,dx$")
        panels[1, 0].set_ylabel("ratio to the diffusion")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
        figure.supxlabel(
            "Above: medians over starts; shaded, from quartile to quartile of SGD and of the diffusion.\n"
            "Below: averages over the second half of training; median of the ratios from the same start, and its\n"
            "95 % interval; grey, the same to 5 %.",
            fontsize=7,
        )
    return figure


def _styles(sizes: int) -> list[dict[str, Any]]:
    """From SGD to the diffusion."""
    shades = colormaps["viridis"](np.linspace(0.05, 0.8, sizes - 1))
    between = [{"color": tuple(shade), "linewidth": 0.9, "linestyle": "--"} for shade in shades]
    return [KINDS["sgd"] | {"linewidth": 1.4}, *between, KINDS["diffusion"] | {"linewidth": 2.2, "zorder": 1.9}]


def _draw_errors(
    axes: Axes, times: Float[np.ndarray, " t"], errors: Float[np.ndarray, "arm seed t"], lines: Lines
) -> None:
    for (name, style), of_arm in zip(lines.items(), errors, strict=True):
        low, median, high = np.nanpercentile(of_arm, [25, 50, 75], axis=0)
        axes.plot(times, median, label=name, **style)
        if name in ("SGD", "diffusion"):
            axes.fill_between(times, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlim=(times[0], times[-1]))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())


def _draw_ratios(axes: Axes, sizes: Sequence[int], ratios: Sequence[Repeats], lines: Lines) -> None:
    axes.axhspan(*ALIKE, color="0.9")
    axes.axhline(1.0, color="0.5", linewidth=0.8)
    for place, (style, ratio) in enumerate(zip(lines.values(), ratios, strict=False)):
        axes.vlines(place, *ratio.interval, color=style["color"], linewidth=1.4)
        axes.plot(place, ratio.median, "o", color=style["color"], markersize=4)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set(xlabel="l of SVAG (1 is SGD)", xlim=(-0.5, len(sizes) - 0.5))
