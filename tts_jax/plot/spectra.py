"""The rates of a flow, as its spectrum has them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import _checks as checks
from .style import STYLE, WIDTH, add_legend, canvas, one_panel

DECAYS, GROWS = "#0072B2", "#D55E00"
LOWEST = 1e-12
"""Of the largest rate, at which the axis ends at the latest; what is below is zero to rounding, or nearly."""


def spectra(
    rates: Float[Array | np.ndarray, "*t n"] | Sequence[float],
    slow_times: Float[Array | np.ndarray, " t"] | Sequence[float] | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    r"""Rates $\lvert\lambda\rvert$ in fast time, on a log scale: of one model by rank, of a run over slow time.

    `rates` is what `diagnostics.spectrum` gives, of shape (n,); or (t, n) with the `slow_times` of a run, shape (t,):

    `plot.spectra(run.map(lambda model: spectrum(model, problem, epsilon)), run.slow_time)`

    Directions that decay are blue, those that grow (rates below zero) are orange. Two bands a factor $\epsilon$ apart
    are the two-timescale regime. Time has a log scale, and starts at the first positive save. Rates below 1e-12 of the
    largest are not shown; how many there are at most says the legend. `ax` (of Matplotlib) is drawn into, with a legend
    inside, in place of a new figure; its figure is returned.

    >>> spectra([4.0, 2.0, -1e-3]).axes[0].get_yscale()
    'log'

    Raises `ValueError` for rates that are no numbers in one or two axes, and for `slow_times` that do not fit.
    """
    known = np.asarray(checks.real("rates", rates))
    times = None if slow_times is None else np.asarray(checks.real("slow_times", slow_times))
    if known.ndim not in (1, 2) or not known.size or (known.ndim == 2) != (times is not None):
        raise ValueError(
            f"rates must have shape (n,), or (t, n) with slow_times, got shape {known.shape} "
            f"{'without' if times is None else 'with'} slow_times: pass what spectrum returned"
        )
    if times is not None:
        checks.known_slow_times(times)
    if times is not None and (len(times) != len(known) or not (times > 0).any()):
        raise ValueError(
            f"slow_times must be one for each of {len(known)} rows of rates, and one of them positive, got "
            f"{checks.shown(times.tolist())}: pass trajectory.slow_time"
        )
    size = np.abs(known)
    largest = np.nanmax(size, initial=0.0)
    shown = size > LOWEST * largest
    with rc_context(STYLE):
        figure, panels = canvas(ax, 1, lambda: one_panel(WIDTH, 2.9))
        (axes,) = panels
        if times is None:
            place = np.empty(len(size))
            place[np.argsort(-size)] = np.arange(1, len(size) + 1)
            axes.set(xlabel="rank of the rate", xlim=(0, len(size) + 1))
        else:
            place = np.broadcast_to(times[:, None], size.shape)
            first, last = times[times > 0].min(), times.max()
            axes.set(xlabel="slow time τ", xscale="log", xlim=(first, last) if first < last else None)
        handles = []
        for label, colour, picked in (("λ > 0, decays", DECAYS, known > 0), ("λ < 0, grows", GROWS, known < 0)):
            at = shown & picked
            if at.any():
                axes.scatter(place[at], size[at], s=9, color=colour, linewidths=0, alpha=0.7, clip_on=False)
                handles.append(_entry(label, colour))
        hidden = int(np.sum(~shown, axis=-1).max())
        if hidden:
            handles.append(Line2D([], [], linestyle="none", label=f"{hidden} zero, or nearly, not shown"))
        axes.set(yscale="log", ylabel="rate |λ| in fast time")
        add_legend(ax, figure, panels, handles)
    return figure


def _entry(label: str, colour: str) -> Any:
    return Line2D([], [], color=colour, marker="o", markersize=3.5, linestyle="none", label=label)
