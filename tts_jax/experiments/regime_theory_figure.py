"""What theory says of the flows of a regime atlas, beside what they do, in four panels."""

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from ..plot.boxes import apart
from ..plot.style import KINDS, STYLE, WIDTH, new_figure
from ..theory import probability_of_good_start
from .base import number
from .regime_theory import GOOD, LIMIT, Explained

FLOW, LIMIT_COLOUR, GOOD_COLOUR = KINDS["flow"]["color"], KINDS["limit"]["color"], "#E69F00"
WITHOUT = "#D55E00"


def panels(explained: Explained) -> Figure:
    """Shares of success over the number of neurons and last errors at the smallest ratio; hit times at some; and of how
    many runs the forecasts are right, at each."""
    atlas = explained.atlas
    smallest = number(atlas.epsilons[explained.smallest])
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 5.0)
        (shares, ends), (hits, forecasts) = figure.subplots(2, 2)
        _draw_shares(shares, explained)
        shares.set_title(f"(a) success at ε = {smallest}")
        _draw_ends(ends, explained)
        ends.set_title(f"(b) last errors at ε = {smallest}")
        _draw_hits(hits, explained)
        hits.set_title(f"(c) hit times, {atlas.hit_neurons} neurons")
        _draw_forecasts(forecasts, explained)
        forecasts.set_title("(d) what theory says of each run")
        figure.supxlabel(
            f"(a) With 95 % intervals (Clopper and Pearson) of {atlas.seeds} starts. (b) Every run a dot. "
            "(c) Each jump of each start\nthat has a closed form; the window of a neuron holds the jump then. "
            "(d) Share of all runs of which it is right.",
            fontsize=7,
        )
    return figure


def _draw_shares(axes: Axes, explained: Explained) -> None:
    atlas = explained.atlas
    numbers = range(min(atlas.sizes), max(atlas.sizes) + 1)
    exact = [probability_of_good_start(atlas.target, size) for size in numbers]
    axes.plot(numbers, exact, color=GOOD_COLOUR, linewidth=1.4, label=f"{GOOD}, exact")
    limit = explained.forecasts[LIMIT].mean("seed").values
    axes.plot(atlas.sizes, limit, "s", color=LIMIT_COLOUR, markersize=6, fillstyle="none", label="limit")
    reached = explained.reached_at_smallest.sum("seed").values
    bounds = [binomtest(int(k), atlas.seeds).proportion_ci() for k in reached]
    share = reached / atlas.seeds
    bars = [share - [each.low for each in bounds], [each.high for each in bounds] - share]
    axes.errorbar(atlas.sizes, share, bars, fmt="o", color=FLOW, markersize=3, capsize=2, linewidth=1, label="flow")
    axes.set(xlabel="neurons", ylabel="share of starts", ylim=(-0.03, 1.03))
    axes.legend(fontsize=6, loc="lower right")


def _draw_ends(axes: Axes, explained: Explained) -> None:
    atlas = explained.atlas
    at = explained.flows.isel(epsilon=explained.smallest, slow_time=-1)
    for place, size in enumerate(atlas.sizes):
        risk = at.risk.sel(neurons=size).values
        reached = explained.reached_at_smallest.sel(neurons=size).values
        across = place + 0.6 * apart(risk)
        for picked, colour in ((reached, FLOW), (~reached, WITHOUT)):
            axes.plot(across[picked], risk[picked], "o", color=colour, markersize=2, markeredgewidth=0, alpha=0.7)
        missing = explained.missing_a_jump(size)
        label = "least risk without a jump" if place == 0 else None
        axes.plot([place - 0.45, place + 0.45], [missing, missing], color=LIMIT_COLOUR, linewidth=1.2, label=label)
    axes.axhline(atlas.success, color="0.4", linewidth=0.8, linestyle="--", label="ten floors: success is below")
    axes.axhline(atlas.floor, color="0.4", linewidth=0.8, linestyle=":", label="floor")
    axes.set(yscale="log", xlabel="neurons", ylabel=r"error $\int_0^1 (f - f^*)^2\,dx$")
    axes.set_xticks(range(len(atlas.sizes)), [str(size) for size in atlas.sizes])
    axes.legend(fontsize=6, loc="upper right")


def _draw_hits(axes: Axes, explained: Explained) -> None:
    atlas, said = explained.atlas, explained.said
    colours = colormaps["viridis"](np.linspace(0.85, 0.1, len(atlas.hit_epsilons)))
    predicted = said.predicted.transpose("seed", "jump").values
    for k in np.argsort(atlas.hit_epsilons)[::-1].tolist():
        measured = said.measured.isel(hit_epsilon=k).transpose("seed", "jump").values
        known = np.isfinite(predicted) & np.isfinite(measured) & (measured > 0)
        label = f"ε = {number(atlas.hit_epsilons[k])}".replace("e-0", "e-")
        axes.scatter(predicted[known], measured[known], 6, color=[colours[k]], linewidths=0, alpha=0.8, label=label)
    finite = predicted[np.isfinite(predicted)]
    if finite.size:
        ends = [finite.min(), finite.max()]
        axes.plot(ends, ends, color="0.4", linewidth=0.8, zorder=1)
    axes.set(xscale="log", yscale="log", xlabel="predicted slow time", ylabel="measured, of the flow")
    axes.legend(fontsize=6, loc="upper left")


def _draw_forecasts(axes: Axes, explained: Explained) -> None:
    epsilons = np.array(explained.atlas.epsilons)
    order = np.argsort(epsilons)
    for name, colour, marker in ((LIMIT, LIMIT_COLOUR, "s"), (GOOD, GOOD_COLOUR, "o")):
        right = [explained.tally(name, k).agreement for k in order.tolist()]
        axes.plot(epsilons[order], right, marker=marker, color=colour, markersize=3, linewidth=1.2, label=name)
    share = explained.reached.mean(("neurons", "seed")).values[order]
    axes.plot(epsilons[order], share, color="0.6", linestyle=":", linewidth=1.2, label="share that succeeds")
    axes.set(xscale="log", xlabel="ε", ylabel="share of runs", ylim=(-0.03, 1.03))
    axes.legend(fontsize=6, loc="lower left")
