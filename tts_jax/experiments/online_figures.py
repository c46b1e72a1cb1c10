"""The figures of online learning."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plot.style import KINDS, STYLE, WIDTH, new_figure

if TYPE_CHECKING:
    from .online import OnlinePlateau
    from .speeds_atlas import SpeedsAtlas

ERROR = r"generalisation error $\frac{1}{2} E(f - f^*)^2$"


def plateau(
    alphas: Float[np.ndarray, " t"],
    curves: Mapping[tuple[str, int], Float[np.ndarray, "starts t"]],
    sgd_alphas: Float[np.ndarray, " s"],
    sgd: Float[np.ndarray, "seeds s"],
    about: "OnlinePlateau",
) -> Figure:
    """Over time, of the first start; at the end, of all."""
    layers, sizes = list(dict.fromkeys(layers for layers, _ in curves)), about.sizes
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(sizes)))
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 2.7)
        panels = figure.subplots(1, 3, width_ratios=[1, 1, 0.9])
        for axes, name in zip(panels, layers, strict=False):
            for size, colour in zip(sizes, colours, strict=True):
                axes.loglog(alphas[1:], curves[name, size][0, 1:], color=colour, label=f"K = {size}")
            axes.set(title=name, xlabel=r"$\alpha$ = samples / inputs", ylim=(1e-4, 2))
        mean, spread = sgd.mean(axis=0), sgd.std(axis=0, ddof=1 if len(sgd) > 1 else 0)
        dots = {"color": KINDS["sgd"]["color"], "fmt": "o", "markersize": 2.5, "linewidth": 1}
        label = f"SGD, K = {about.of_teacher},\nd = {about.inputs[-1]}"
        panels[0].errorbar(sgd_alphas, mean, spread, label=label, zorder=3, **dots)
        panels[0].set_ylabel(ERROR)
        panels[1].tick_params(labelleft=False)
        panels[0].legend(fontsize=6, loc="lower left")
        _ends(panels[2], curves, layers, sizes)
        figure.supxlabel(
            f"Lines: exact ODE, one start. Dots: mean and standard deviation of {len(sgd)} runs of SGD, both layers.\n"
            f"Right: medians, and all {about.starts} starts. M = {about.of_teacher}, lr = lr2 = {about.rate:g}, "
            f"noise {about.noise:g}.",
            fontsize=6.5,
        )
    return figure


def _ends(
    axes: Axes,
    curves: Mapping[tuple[str, int], Float[np.ndarray, "starts t"]],
    layers: list[str],
    sizes: tuple[int, ...],
) -> None:
    for name, colour, marker in zip(layers, (KINDS["flow"]["color"], KINDS["diffusion"]["color"]), "os", strict=True):
        ends = 1e3 * np.stack([curves[name, size][:, -1] for size in sizes])
        axes.plot(sizes, np.median(ends, axis=1), marker=marker, markersize=4, color=colour, label=name)
        axes.plot(np.repeat(sizes, ends.shape[1]), ends.ravel(), ".", color=colour, markersize=2)
    axes.set(xlabel="neurons K", title="last error, in 1e-3", xticks=sizes)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(fontsize=6)


def atlas(maps: Mapping[str, Float[np.ndarray, "ratios sizes"]], about: "SpeedsAtlas") -> Figure:
    """Medians over the starts, by their titles."""
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 3.0)
        for axes, (title, values) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
            known = np.where(np.isfinite(values), np.log10(values), np.nan)
            image = axes.imshow(known, cmap="viridis", aspect="auto", origin="lower")
            middle = np.mean(image.get_clim())
            for (row, column), value in np.ndenumerate(values):
                dark = known[row, column] < middle
                text = "never" if np.isinf(value) else f"{value:.0f}" if value >= 1 else f"{1e4 * value:.1f}"
                ink = "white" if dark else "black"
                axes.text(column, row, text, color=ink, fontsize=5.5, ha="center", va="center")
            axes.set(xlabel="neurons K", ylabel="lr2 / lr", title=title)
            axes.set_xticks(range(len(about.sizes)), [str(size) for size in about.sizes])
            axes.set_yticks(range(len(about.ratios)), [f"{ratio:.2g}" for ratio in about.ratios])
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            figure.colorbar(image, ax=axes, label="log10", shrink=0.8)
        figure.supxlabel(
            f"Exact ODE, medians of {about.starts} starts a cell. M = {about.of_teacher}, lr = {about.rate:g}, "
            f"noise {about.noise:g}. Error: half of the risk.",
            fontsize=6.5,
        )
    return figure
