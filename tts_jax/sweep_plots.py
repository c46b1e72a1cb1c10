"""Pictures of the datasets that `sweep` returns."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .plot.style import OTHERS, STYLE, WIDTH

if TYPE_CHECKING:
    import xarray

MOST_LINES = 8


def risks_of(dataset: "xarray.Dataset") -> Figure:
    """The median error over seeds against slow time, with a band from the first to the third quartile.

    One line for each value of the first axis (of at most 8), over all values of the others together.
    """
    axis = next((dim for dim in dataset.status.dims if dim != "seed"), None)
    chosen = [None] if axis is None else np.linspace(0, dataset.sizes[axis] - 1, MOST_LINES).round().astype(int)
    with rc_context(STYLE):
        figure, axes = _axes()
        colours = [style["color"] for style in (*OTHERS, *OTHERS)]
        for k, index in enumerate(dict.fromkeys(chosen)):
            part = dataset.risk if index is None else dataset.risk.isel({axis: index})
            rows = part.values.reshape(-1, part.sizes["slow_time"])
            known = rows[np.isfinite(rows).all(1)]
            if not len(known):
                continue
            low, middle, high = np.quantile(known, [0.25, 0.5, 0.75], axis=0)
            label = None if index is None else f"{axis} = {_label(dataset[axis].values[index])}"
            line = "-" if k < len(OTHERS) else "--"
            axes.plot(dataset.slow_time, middle, color=colours[k], linestyle=line, label=label)
            axes.fill_between(dataset.slow_time, low, high, color=colours[k], alpha=0.15, linewidth=0)
        axes.set(xlabel="slow time τ", ylabel=r"error $\int_0^1 (f - f^*)^2\,dx$", yscale="log")
        if axis is not None:
            figure.legend(loc="outside right upper")
    return figure


def convergence(dataset: "xarray.Dataset") -> Figure:
    """The share of seeds that converged: a map over the first two numerical axes, or a curve over one."""
    if "converged" not in dataset:
        raise ValueError("this sweep has no share of convergence: its target is not piecewise constant")
    share = dataset.converged.where(dataset.status >= 0).mean("seed")
    named = [dim for dim in share.dims if dim in ("dynamics", "target")]
    share = share.isel({dim: 0 for dim in named})
    dims = list(share.dims)
    for dim in dims[2:]:
        share = share.mean(dim)
    with rc_context(STYLE):
        figure, axes = _axes()
        if len(dims) >= 2:
            image = axes.imshow(share.values, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
            axes.set_yticks(range(share.sizes[dims[0]]), [_label(value) for value in share[dims[0]].values])
            axes.set_xticks(range(share.sizes[dims[1]]), [_label(value) for value in share[dims[1]].values])
            axes.set(xlabel=dims[1], ylabel=dims[0])
            figure.colorbar(image, label="share of global convergence")
        elif dims:
            axes.plot(share[dims[0]], share, "o-", color=OTHERS[0]["color"])
            axes.set(xlabel=dims[0], ylabel="share of global convergence", ylim=(-0.02, 1.02))
            if dims[0] in ("epsilon", "eta", "step_size"):
                axes.set_xscale("log")
        else:
            axes.bar(["all seeds"], [float(share)], color=OTHERS[0]["color"])
            axes.set(ylabel="share of global convergence", ylim=(0, 1))
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _label(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
