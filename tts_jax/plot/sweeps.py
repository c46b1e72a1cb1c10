"""Pictures of the datasets that `sweep` returns."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from .. import _checks as checks
from ..problems.base import SQUARED_ERROR
from ..sweeps.results import check_sweep
from ..trajectory import Status
from .style import OTHERS, STYLE, WIDTH, canvas, new_figure

if TYPE_CHECKING:
    import xarray

MOST_LINES = 8
MARGIN = 0.04
GEOMETRIC = "epsilon", "eta", "step_size"
"""Axes on a log scale."""
SHARE = "share of global convergence"
LABELS = {
    "risk": r"error $\mathbb{E}\,(f - f^*)^2$",
    "converged": SHARE,
    "slow_time": "slow time τ",
    "epsilon": "ε",
    "eta": "η",
    "step_size": "step size h",
}


def sweep(dataset: "xarray.Dataset", x: str = "slow_time", y: str = "risk", *, ax: Any = None) -> Figure:
    """A variable of a sweep against slow time or one of its axes: the median over seeds, with a band from the first to
    the third quartile; of `y="converged"`, the share.

    **Arguments:**

    - `dataset`: what `tts_jax.sweep` or `tts_jax.load` returned
    - `x`: "slow_time" or a numerical axis of the sweep, e.g. "epsilon"; against an axis the last save counts
    - `y`: a variable with one number for each run ("steps", "converged") or save ("risk")
    - `ax`: as many axes (of Matplotlib) as panels, to draw into in place of a new figure; their figure is returned

    One line for each value of the first other numerical axis (of at most 8), over all values of the rest together; a
    panel for each dynamics, target and other value that is no number. Where there is no other numerical axis the lines
    are the first of those. Runs that failed are left out, or have not converged, and the legend counts them.

    Raises `ValueError` for a dataset that is not of a sweep, and an `x` or `y` that it has not.
    """
    dims, without_order = _check(dataset, x, y), _without_order(dataset)
    lines = next((dim for dim in dims if dim not in (x, *without_order)), next(iter(d for d in dims if d != x), None))
    indices = [None] if lines is None else np.linspace(0, dataset.sizes[lines] - 1, MOST_LINES).round().astype(int)
    values = dataset[y].where(dataset.status >= 0 if y == "converged" else dataset.status == Status.SUCCESSFUL)
    if x != "slow_time" and "slow_time" in values.dims:
        values = values.isel(slow_time=-1)
    named = [dim for dim in dims if dim in without_order and dim != lines]
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
            axes.set_xlim(*_limits(dataset[x].values, x in GEOMETRIC))  # also where no run succeeded
            axes.set_yscale("log" if y == "risk" else "linear")
            if y == "converged":
                axes.set_ylim(-0.02, 1.02)
            if x != "slow_time" and dataset.sizes[x] <= MOST_LINES:
                axes.set_xticks(dataset[x].values, [_label(value) for value in dataset[x].values])
                axes.xaxis.minorticks_off()
            _label_rows(axes, _label_of(dataset, y), ax)
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
    check_sweep(dataset)
    dims = [str(dim) for dim in dataset.status.dims if dim != "seed"]
    possible = ["slow_time", *(dim for dim in dims if dim not in _without_order(dataset))]
    checks.choice("x", x, possible)
    drawable = _drawable(dataset)
    if x == "slow_time":
        drawable = [name for name in drawable if "slow_time" in dataset[name].dims]
    checks.choice(f"y against {x!r}", y, drawable)
    return dims


def _drawable(dataset: "xarray.Dataset") -> list[str]:
    """What has one number for each run, or save."""
    runs = set(dataset.status.dims)
    return [str(name) for name, of in dataset.data_vars.items() if runs <= set(of.dims) <= {*runs, "slow_time"}]


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
    """The share of seeds that converged: `heat_map(dataset, "converged")`, into `ax` where it is given.

    Raises `ValueError` for a dataset without that share.
    """
    check_sweep(dataset)
    if "converged" not in dataset:
        raise ValueError("this sweep has no share of convergence: its target is not piecewise constant")
    return heat_map(dataset, "converged", ax=ax)


def heat_map(dataset: "xarray.Dataset", y: str = "risk", *, ax: Any = None) -> Figure:
    """The variable `y` of a sweep over its first two numerical axes, or a curve over one: at the last save, the median
    over seeds and other axes of the runs that succeeded; of `y="converged"`, the share of all.

    `dataset` is what `tts_jax.sweep` or `tts_jax.load` returned. A panel for each dynamics, target and other value that
    is no number, in `ax` where as many axes (of Matplotlib) are given.

    Raises `ValueError` for a dataset that is not of a sweep, and a `y` that it has not.
    """
    check_sweep(dataset)
    checks.choice("y", y, _drawable(dataset))
    is_share = y == "converged"
    dims = [dim for dim in dataset.status.dims if dim != "seed" and dim not in _without_order(dataset)]
    values = dataset[y].where(dataset.status >= 0 if is_share else dataset.status == Status.SUCCESSFUL)
    values = values.isel(slow_time=-1) if "slow_time" in values.dims else values
    over = ["seed", *dims[2:]]
    values = values.mean(over) if is_share else values.median(over)
    label = _label_of(dataset, y) if is_share else f"median {_label_of(dataset, y)}"
    logarithmic = y == "risk" and bool((values > 0).any())
    low, high = (0.0, 1.0) if is_share else (float(values.min()), float(values.max()))
    scale = LogNorm(float(values.where(values > 0).min()), high) if logarithmic else Normalize(low, high)
    with rc_context(STYLE):
        figure, panels = _panels(values, [str(dim) for dim in values.dims if dim not in dims], ax)
        for axes, part in panels:
            if len(dims) >= 2:
                image = axes.imshow(part.values, norm=scale, cmap="viridis", origin="lower", aspect="auto")
                axes.set_yticks(range(part.sizes[dims[0]]), [_label(value) for value in part[dims[0]].values])
                axes.set_xticks(range(part.sizes[dims[1]]), [_label(value) for value in part[dims[1]].values])
                axes.set(xlabel=LABELS.get(str(dims[1]), dims[1]))
                _label_rows(axes, LABELS.get(str(dims[0]), str(dims[0])), ax)
                continue
            if dims:
                axes.plot(part[dims[0]], part, "o-", color=OTHERS[0]["color"])
                axes.set(xlabel=LABELS.get(str(dims[0]), dims[0]))
                axes.set_xscale("log" if dims[0] in GEOMETRIC else "linear")
            else:
                axes.bar(["all seeds"], [float(part)], color=OTHERS[0]["color"])
            axes.set_yscale("log" if logarithmic else "linear")
            if is_share:
                axes.set_ylim(-0.02, 1.02)
            _label_rows(axes, label, ax)
        if len(dims) >= 2:
            figure.colorbar(image, ax=[axes for axes, _ in panels], label=label)
    return figure


def statuses(dataset: "xarray.Dataset", x: str | None = None, *, ax: Any = None) -> Figure:
    """How runs ended, as shares of all that have been computed: a bar for each value of the axis `x`, by default of the
    first one.

    `dataset` is what `tts_jax.sweep` or `tts_jax.load` returned. `ax` (of Matplotlib) is drawn into in place of a new
    figure; its figure is returned.

    Raises `ValueError` for a dataset that is not of a sweep, and an `x` that it has not.
    """
    check_sweep(dataset)
    dims = [str(dim) for dim in dataset.status.dims if dim != "seed"]
    if x is not None:
        checks.choice("x", x, dims)
    over = x or next(iter(dims), None)
    labels = ["all runs"] if over is None else [_label(value) for value in dataset[over].values]
    rows = dataset.status.values.reshape(1, -1) if over is None else dataset.status.transpose(over, ...).values
    rows = rows.reshape(len(labels), -1)
    known = np.maximum((rows >= 0).sum(1), 1)
    with rc_context(STYLE):
        figure, (axes,) = canvas(ax, 1, lambda: _alone(0.7 * WIDTH, 2.9))
        below = np.zeros(len(labels))
        for k, end in enumerate(Status):
            share = (rows == end).sum(1) / known
            if k == 0 or share.any():
                axes.bar(labels, share, bottom=below, label=end.label, color=OTHERS[k]["color"])
                below = below + share
        axes.set(xlabel=LABELS.get(over or "", over or ""), ylabel="share of runs", ylim=(0, 1.02))
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _limits(x: np.ndarray, logarithmic: bool) -> tuple[float | None, float | None]:
    """With a margin on both sides; none of one value."""
    low, high = float(x.min()), float(x.max())
    if low == high:
        return None, None
    if logarithmic:
        return low * (low / high) ** MARGIN, high * (high / low) ** MARGIN
    return low - MARGIN * (high - low), high + MARGIN * (high - low)


def _alone(width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = new_figure(width, height)
    return figure, [figure.subplots()]


def _without_order(dataset: "xarray.Dataset") -> list[str]:
    """Dimensions whose values are no numbers: each of them has a panel of its own."""
    return [str(dim) for dim in dataset.status.dims if dataset[dim].dtype.kind in "OUT"]


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
            f"{dim} {k}" if dim == "target" else _label(part[dim].item()) for dim, k in zip(named, place, strict=True)
        ]
        axes.set_title(", ".join(title))
        panels.append((axes, part))
    return figure, panels


def _label_rows(axes: Axes, label: str, ax: Any) -> None:
    """Once in each row of panels of our own."""
    place = axes.get_subplotspec()
    if ax is not None or place is None or place.is_first_col():
        axes.set_ylabel(label)


def _label_of(dataset: "xarray.Dataset", y: str) -> str:
    says = dataset[y].attrs.get("long_name", SQUARED_ERROR)
    return says if y == "risk" and says != SQUARED_ERROR else LABELS.get(y, y)


def _label(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
