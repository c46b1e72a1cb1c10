"""Pictures of the datasets that `sweep` returns."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..plot.style import OTHERS, STYLE, WIDTH
from ..trajectory import Status

if TYPE_CHECKING:
    import xarray

MOST_LINES = 8
NAMED = "dynamics", "target"
"""Dimensions without an order: each value has a panel of its own."""


def risks_of(dataset: "xarray.Dataset") -> Figure:
    """The median error over seeds against slow time, with a band from the first to the third quartile.

    One line for each value of the first numerical axis (of at most 8), over all values of the other numerical axes
    together; a panel for each dynamics and target. Where there is no numerical axis the lines are the dynamics. The
    legend counts runs that failed, which are left out.
    """
    dims = [dim for dim in dataset.status.dims if dim != "seed"]
    axis = next((dim for dim in dims if dim not in NAMED), dims[0] if dims else None)
    chosen = [None] if axis is None else np.linspace(0, dataset.sizes[axis] - 1, MOST_LINES).round().astype(int)
    colours = [style["color"] for style in (*OTHERS, *OTHERS)]
    with rc_context(STYLE):
        well = dataset.risk.where(dataset.status == Status.SUCCESSFUL)
        figure, panels = _panels(well, [dim for dim in dims if dim in NAMED and dim != axis])
        for axes, risk in panels:
            for k, index in enumerate(dict.fromkeys(chosen)):
                at = {} if index is None else {axis: index}
                part, ends = risk.isel(at), dataset.status.isel(at)
                rows = part.values.reshape(-1, part.sizes["slow_time"])
                name = "all runs" if index is None else f"{axis} = {_label(dataset[axis].values[index])}"
                failed = int((ends > Status.SUCCESSFUL).sum())
                label = f"{name} ({failed:,} of {ends.size:,} failed)" if failed else name
                dash = "-" if k < len(OTHERS) else "--"
                known = rows[np.isfinite(rows).all(1)]
                low, middle, high = np.quantile(known, [0.25, 0.5, 0.75], axis=0) if len(known) else [rows[0]] * 3
                axes.plot(
                    dataset.slow_time, middle, color=colours[k], linestyle=dash, label=label if at or failed else None
                )
                axes.fill_between(dataset.slow_time, low, high, color=colours[k], alpha=0.15, linewidth=0)
            axes.set(xlabel="slow time τ", yscale="log")
            _label_rows(axes, r"error $\int_0^1 (f - f^*)^2\,dx$")
        labelled = {
            text: line for axes, _ in panels for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if labelled:
            figure.legend(labelled.values(), labelled.keys(), loc="outside right upper")
    return figure


def convergence(dataset: "xarray.Dataset") -> Figure:
    """The share of seeds that converged: a map over the first two numerical axes, or a curve over one; a panel for each
    dynamics and target."""
    if "converged" not in dataset:
        raise ValueError("this sweep has no share of convergence: its target is not piecewise constant")
    share = dataset.converged.where(dataset.status >= 0).mean("seed")
    dims = [dim for dim in share.dims if dim not in NAMED]
    share = share.mean(dims[2:])
    with rc_context(STYLE):
        figure, panels = _panels(share, [dim for dim in share.dims if dim in NAMED])
        for axes, part in panels:
            if len(dims) >= 2:
                image = axes.imshow(part.values, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
                axes.set_yticks(range(part.sizes[dims[0]]), [_label(value) for value in part[dims[0]].values])
                axes.set_xticks(range(part.sizes[dims[1]]), [_label(value) for value in part[dims[1]].values])
                axes.set(xlabel=dims[1])
                _label_rows(axes, dims[0])
            elif dims:
                axes.plot(part[dims[0]], part, "o-", color=OTHERS[0]["color"])
                axes.set(xlabel=dims[0], ylim=(-0.02, 1.02))
                _label_rows(axes, "share of global convergence")
                if dims[0] in ("epsilon", "eta", "step_size"):
                    axes.set_xscale("log")
            else:
                axes.bar(["all seeds"], [float(part)], color=OTHERS[0]["color"])
                axes.set(ylim=(0, 1))
                _label_rows(axes, "share of global convergence")
        if len(dims) >= 2:
            figure.colorbar(image, ax=[axes for axes, _ in panels], label="share of global convergence")
    return figure


def _panels(values: "xarray.DataArray", named: list[str]) -> tuple[Figure, list[tuple[Axes, "xarray.DataArray"]]]:
    """Axes with what they show: a panel for each value of the named dimensions, two in a row."""
    places = list(np.ndindex(*(values.sizes[dim] for dim in named)))
    columns = min(2, len(places))
    rows = -(-len(places) // columns)
    figure = Figure(figsize=(WIDTH, 2.9 if rows == 1 else 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for empty in grid[len(places) :]:
        empty.remove()
    panels = []
    for axes, place in zip(grid, places, strict=False):
        part = values.isel(dict(zip(named, place, strict=True)))
        axes.set_title(
            ", ".join(
                _label(part[dim].item()) if dim == "dynamics" else f"{dim} {k}"
                for dim, k in zip(named, place, strict=True)
            )
        )
        panels.append((axes, part))
    return figure, panels


def _label_rows(axes: Axes, label: str) -> None:
    """Once in each row of panels."""
    place = axes.get_subplotspec()
    if place is not None and place.is_first_col():
        axes.set_ylabel(label)


def _label(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
