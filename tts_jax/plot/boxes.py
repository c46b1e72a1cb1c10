"""Distributions side by side, with every run as a dot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import _checks as checks
from .style import STYLE, WIDTH, add_legend, canvas, one_panel

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def boxes(
    values: Mapping[str, Mapping[str, Sequence[float] | Float[Array | np.ndarray, " n"]]],
    *,
    label: str,
    reference: tuple[str, float] | None = None,
    filled: tuple[str, Mapping[str, Bool[np.ndarray, " n"]]] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A box for each series in each group, on a log scale, with every run as a dot.

    Boxes run from quartile to quartile with a line at the median; whiskers reach the last run within one and a half
    times their length. A dot's place across the box depends on its rank among the runs alone. A value that is not
    positive and finite is no dot; how many there are stands above its box.

    **Arguments:**

    - `values`: `{series: {group: values}}`, of the same groups in each series, a number for each run
    - `label`: of the vertical axis
    - `reference`: a horizontal line and its label, as in `("floor", 0.008)`
    - `filled`: what a full dot means, in words, and for each group which are full, as in
      `("converged", {"0.1": [True, False]})`
    - `ax`: axes of Matplotlib to draw into, in place of a new figure; their figure is returned

    >>> figure = boxes({"SGD": {"0.1": [0.2, 0.3], "1": [0.5, 0.8]}}, label="error", reference=("floor", 0.1))
    >>> figure.axes[0].get_ylabel()
    'error'

    Raises `ValueError` where there is no series, the groups of two series differ, or a value is no number.
    """
    tables = list(values.values()) if isinstance(values, Mapping) else []
    groups = list(tables[0]) if tables and isinstance(tables[0], Mapping) else []
    if not groups or any(not isinstance(series, Mapping) or list(series) != groups for series in tables):
        raise ValueError(
            "boxes draws {series: {group: values}} with the same groups in every series, "
            f"got {checks.shown(values)}: "
            'pass e.g. {"SGD": {"0.1": errors}}'
        )
    checks.instance("label", label, str, '"error"')
    name, level = _labelled("reference", reference, float | int, '("floor", 0.008)')
    says, full = _labelled("filled", filled, Mapping, '("converged", {"0.1": [True, False]})')
    if full is not None and list(full) != groups:
        raise ValueError(f"filled must say for each group which are full, got {list(full)}: name {groups}")
    width = 0.7 / len(values)
    with rc_context(STYLE):
        figure, panels = canvas(ax, 1, lambda: one_panel(WIDTH, 2.9))
        (axes,) = panels
        handles = []
        for k, (series, by_group) in enumerate(values.items()):
            colour = COLOURS[k % len(COLOURS)]
            handles.append(Line2D([], [], color=colour, marker="s", linestyle="none", label=series))
            for at, group in enumerate(groups):
                place = at + (k - (len(values) - 1) / 2) * width
                _draw_box(
                    axes,
                    np.asarray(checks.real(f"{series}, {group}", by_group[group])),
                    place,
                    width,
                    colour,
                    full and full[group],
                )
        if reference is not None:
            handles.append(axes.axhline(level, color="0.4", linewidth=0.8, linestyle="--", label=name, zorder=1))
        if filled is not None:
            handles.append(Line2D([], [], color="0.3", marker="o", markersize=3, linestyle="none", label=says))
        axes.set(yscale="log", ylabel=label, xticks=range(len(groups)), xticklabels=groups)
        add_legend(ax, figure, panels, handles)
    return figure


def apart(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Places from -1/2 to 1/2 that depend on ranks alone: in steps of the golden ratio neighbours lie apart."""
    rank = np.argsort(np.argsort(values))
    return np.modf(rank * 0.618)[0] - 0.5


def _labelled(name: str, pair: Any, kind: Any, example: str) -> tuple[Any, Any]:
    """A pair of a text and what it stands for; two times None where it is None."""
    if pair is None:
        return None, None
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], kind)):
        raise ValueError(f"{name} must be a text and what it stands for, got {checks.shown(pair)}: pass e.g. {example}")
    return pair


def _draw_box(
    axes: Axes,
    values: Float[np.ndarray, " n"],
    place: float,
    width: float,
    colour: str,
    full: Bool[np.ndarray, " n"] | None,
) -> None:
    shown = np.isfinite(values) & (values > 0)
    lost = int(np.sum(~shown))
    if lost:
        axes.annotate(f"{lost} not shown", (place, 1.0), xycoords=("data", "axes fraction"), ha="center", va="top")
    if lost == len(values):
        return
    line = {"color": colour, "linewidth": 1.0}
    axes.boxplot(
        values[shown],
        positions=[place],
        widths=0.8 * width,
        showfliers=False,
        manage_ticks=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops=line | {"linewidth": 1.8},
    )
    across = place + 0.6 * width * apart(values[shown])
    inside = np.full(int(np.sum(shown)), colour, object)
    if full is not None:
        inside[~full[shown]] = "white"
    axes.scatter(across, values[shown], s=7, color=inside, edgecolors=colour, linewidths=0.5, zorder=3)
