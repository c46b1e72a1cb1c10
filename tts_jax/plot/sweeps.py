"""Pictures of the datasets that `sweep` returns."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import _checks as checks
from ..trajectory import Status
from .style import OTHERS, STYLE, WIDTH, canvas, new_figure

if TYPE_CHECKING:
    import xarray

MOST_LINES = 8
NAMED = "dynamics", "target"
"""Dimensions without an order: each value has a panel of its own."""
GEOMETRIC = "epsilon", "eta", "step_size"
"""Axes on a log scale."""
SHARE = "share of global convergence"
LABELS = {"risk": r"error $\int_0^1 (f - f^*)^2\,dx$", "converged": SHARE, "slow_time": "slow time τ"}


def sweep(dataset: "xarray.Dataset", x: str = "slow_time", y: str = "risk", *, ax: Any = None) -> Figure:
    """A variable of a sweep against slow time or one of its axes: the median over seeds, with a band from the first to
    the third quartile; of `y="converged"`, the share.

    `x` is "slow_time" or a numerical axis of the sweep, e.g. "epsilon"; against an axis the last save counts. `y` has
    one number for each run ("steps", "converged") or save ("risk"). One line for each value of the first other
    numerical axis (of at most 8), over all values of the rest together; a panel for each dynamics and target. Where
    there is no other numerical axis the lines are the dynamics. Runs that failed are left out, or have not converged,
    and the legend counts them.

    `ax`, as many axes (of Matplotlib) as panels, are drawn into in place of a new figure; their figure is returned.

    Raises `ValueError` for a dataset that is not of a sweep, and an `x` or `y` that it has not.
    """
    dims = _check(dataset, x, y)
    lines = next((dim for dim in dims if dim not in (x, *NAMED)), next(iter(d for d in dims if d != x), None))
    indices = [None] if lines is None else np.linspace(0, dataset.sizes[lines] - 1, MOST_LINES).round().astype(int)
    values = dataset[y].where(dataset.status >= 0 if y == "converged" else dataset.status == Status.SUCCESSFUL)
    if x != "slow_time" and "slow_time" in values.dims:
        values = values.isel(slow_time=-1)
    named = [dim for dim in dims if dim in NAMED and dim != lines]
    with rc_context(STYLE):
        figure, panels = _panels(values, named, ax)
        for axes, part in panels:
            for k, index in enumerate(dict.fromkeys(indices)):
                at = {} if index is None else {lines: index}
                failed = int((dataset.status.isel(at) > Status.SUCCESSFUL).sum())
                label = "all runs" if index is None else f"{lines} = {_label(dataset[lines].values[index])}"
                if failed:
                    label = f"{label} ({failed:,} of {dataset.status.isel(at).size:,} failed)"
                drawn = label if at or failed else None
                _draw_line(axes, dataset[x].values, part.isel(at).transpose(x, ...).values, k, drawn, y)
            axes.set(xlabel=LABELS.get(x, x), xscale="log" if x in GEOMETRIC else "linear")
            axes.set_yscale("log" if y == "risk" else "linear")
            if y == "converged":
                axes.set_ylim(-0.02, 1.02)
            if x != "slow_time" and dataset.sizes[x] <= MOST_LINES:
                axes.set_xticks(dataset[x].values, [_label(value) for value in dataset[x].values])
                axes.xaxis.minorticks_off()
            _label_rows(axes, LABELS.get(y, y), ax)
        labelled = {
            text: line for axes, _ in panels for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if labelled and ax is None:
            figure.legend(labelled.values(), labelled.keys(), loc="outside right upper")
        elif labelled:
            panels[0][0].legend(labelled.values(), labelled.keys())
    return figure


def _check(dataset: "xarray.Dataset", x: str, y: str) -> list[str]:
    """The dimensions of its runs, but for the seed."""
    _check_sweep(dataset)
    dims = [str(dim) for dim in dataset.status.dims if dim != "seed"]
    runs = set(dataset.status.dims)
    possible = ["slow_time", *(dim for dim in dims if dim not in NAMED)]
    checks.choice("x", x, possible)
    drawable = [str(name) for name, of in dataset.data_vars.items() if runs <= set(of.dims) <= {*runs, "slow_time"}]
    if x == "slow_time":
        drawable = [name for name in drawable if "slow_time" in dataset[name].dims]
    checks.choice(f"y against {x!r}", y, drawable)
    return dims


def _check_sweep(dataset: "xarray.Dataset") -> None:
    if "seed" not in getattr(dataset, "dims", ()) or "status" not in getattr(dataset, "data_vars", ()):
        raise ValueError(f"this draws the dataset of a sweep, got {checks.called(dataset)}: pass tts.load('run.zarr')")


def _draw_line(axes: Axes, x: np.ndarray, rows: np.ndarray, k: int, label: str | None, y: str) -> None:
    """Of rows with one entry of `x` each, over the runs among their numbers."""
    rows = rows.reshape(len(x), -1)
    known = np.isfinite(rows)
    style: dict[str, Any] = {"color": [*OTHERS, *OTHERS][k]["color"], "linestyle": "-" if k < len(OTHERS) else "--"}
    if y == "converged":
        share = [row[there].mean() if there.any() else np.nan for row, there in zip(rows, known, strict=True)]
        axes.plot(x, share, marker="o", markersize=4, label=label, **style)
        return
    low, middle, high = np.transpose(
        [
            np.quantile(row[there], [0.25, 0.5, 0.75]) if there.any() else [np.nan] * 3
            for row, there in zip(rows, known, strict=True)
        ]
    )
    axes.plot(x, middle, label=label, marker="o" if len(x) < 12 else None, markersize=3, **style)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def convergence(dataset: "xarray.Dataset", *, ax: Any = None) -> Figure:
    """The share of seeds that converged: a map over the first two numerical axes, or a curve over one; a panel for each
    dynamics and target, in `ax` where as many axes (of Matplotlib) are given.

    Raises `ValueError` for a dataset without that share.
    """
    _check_sweep(dataset)
    if "converged" not in dataset:
        raise ValueError("this sweep has no share of convergence: its target is not piecewise constant")
    share = dataset.converged.where(dataset.status >= 0).mean("seed")
    dims = [dim for dim in share.dims if dim not in NAMED]
    share = share.mean(dims[2:])
    with rc_context(STYLE):
        figure, panels = _panels(share, [dim for dim in share.dims if dim in NAMED], ax)
        for axes, part in panels:
            if len(dims) >= 2:
                image = axes.imshow(part.values, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
                axes.set_yticks(range(part.sizes[dims[0]]), [_label(value) for value in part[dims[0]].values])
                axes.set_xticks(range(part.sizes[dims[1]]), [_label(value) for value in part[dims[1]].values])
                axes.set(xlabel=dims[1])
                _label_rows(axes, dims[0], ax)
            elif dims:
                axes.plot(part[dims[0]], part, "o-", color=OTHERS[0]["color"])
                axes.set(xlabel=dims[0], ylim=(-0.02, 1.02))
                _label_rows(axes, SHARE, ax)
                if dims[0] in GEOMETRIC:
                    axes.set_xscale("log")
            else:
                axes.bar(["all seeds"], [float(part)], color=OTHERS[0]["color"])
                axes.set(ylim=(0, 1))
                _label_rows(axes, SHARE, ax)
        if len(dims) >= 2:
            figure.colorbar(image, ax=[axes for axes, _ in panels], label=SHARE)
    return figure


def _panels(
    values: "xarray.DataArray", named: list[str], ax: Any
) -> tuple[Figure, list[tuple[Axes, "xarray.DataArray"]]]:
    """Axes with what they show: a panel for each value of the named dimensions, two in a row."""
    places = list(np.ndindex(*(values.sizes[dim] for dim in named)))
    columns = min(2, len(places))
    rows = -(-len(places) // columns)

    def make():
        figure = new_figure(WIDTH, 2.9 if rows == 1 else 2.2 * rows)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for empty in grid[len(places) :]:
            empty.remove()
        return figure, grid[: len(places)]

    figure, drawn = canvas(ax, len(places), make)
    panels = []
    for axes, place in zip(drawn, places, strict=True):
        part = values.isel(dict(zip(named, place, strict=True)))
        title = [
            _label(part[dim].item()) if dim == "dynamics" else f"{dim} {k}" for dim, k in zip(named, place, strict=True)
        ]
        axes.set_title(", ".join(title))
        panels.append((axes, part))
    return figure, panels


def _label_rows(axes: Axes, label: str, ax: Any) -> None:
    """Once in each row of panels of our own."""
    place = axes.get_subplotspec()
    if ax is not None or place is None or place.is_first_col():
        axes.set_ylabel(label)


def _label(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
