"""The map of where training reaches a global minimum."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plot.style import STYLE, WIDTH, new_figure
from ..targets import PiecewiseConstant
from ..theory import probability_of_good_start

if TYPE_CHECKING:
    import xarray


def atlas(maps: Mapping[str, "xarray.DataArray"], target: PiecewiseConstant, caption: str) -> Figure:
    """Two maps by their titles, with dimensions `epsilon` and `neurons`; above each, the exact probability that every
    piece of the target holds two neurons."""
    widths = [share.sizes["neurons"] for share in maps.values()]
    tallest = max(next(iter(maps.values())).sizes["epsilon"], 3)
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 3.6)
        panels = figure.subplots(2, 2, width_ratios=widths, height_ratios=[1, tallest])
        for (above, axes), (title, share) in zip(panels.T, maps.items(), strict=True):
            share = share.sortby("epsilon")
            theory = [probability_of_good_start(target, int(size)) for size in share.neurons]
            _heat_map(above, np.array([theory]))
            above.set_title(title)
            above.set_xticks([])
            above.set_yticks([0], ["2 in each\npiece"])
            image = _heat_map(axes, share.values)
            axes.set_xticks(range(share.neurons.size), [str(size) for size in share.neurons.values])
            axes.set_yticks(range(share.epsilon.size), [f"{ratio:.2g}" for ratio in share.epsilon.values])
            axes.set(xlabel="neurons", ylabel="ε")
        figure.colorbar(image, ax=panels, label="share of starts that reach a global minimum", shrink=0.8)
        figure.supxlabel(
            "In the cells: per cent. Above: exact probability that every piece of the target holds two neurons.\n"
            + caption,
            fontsize=7,
        )
    return figure


def _heat_map(axes: Axes, shares: Float[np.ndarray, "rows columns"]):
    """Percentages in their colours."""
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        ink = "black" if share > 0.5 else "white"
        axes.text(column, row, f"{100 * share:.0f}", color=ink, fontsize=6, ha="center", va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image
