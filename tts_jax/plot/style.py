"""What pictures share: sizes, colours, and how a target and a network are drawn."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .. import _checks as checks
from ..networks import ShallowNetwork
from ..targets import PiecewiseConstant

WIDTH = 5.5
"""Inches: the text width of a conference paper."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "legend.columnspacing": 1.2,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
}
KINDS: dict[str, dict[str, Any]] = {
    "reduced": {"color": "#CC79A7", "linestyle": ":"},
    "diffusion": {"color": "#E69F00"},
    "limit": {"color": "#009E73", "linestyle": (0, (5, 2.5)), "zorder": 3},
    "sgd": {"color": "#D55E00", "linewidth": 1.0},
    "flow": {"color": "#0072B2", "linewidth": 2.2, "zorder": 1.9},
}
OTHERS = [{"color": colour, "linewidth": 1.2} for colour in ("#56B4E9", "#000000", "#882255", "#999933")]
TARGET: dict[str, Any] = {"color": "0.6", "linewidth": 2.5}


def new_figure(width: float, height: float) -> Figure:
    """One that `plt.show()` shows. A notebook shows what a cell returns, and would show such a figure twice."""
    if "inline" in matplotlib.get_backend():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure
    return plt.figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Into a file, and out of memory."""
    figure.savefig(path, dpi=200)
    plt.close(figure)


def one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def canvas(ax: Any, count: int, make: Callable[[], tuple[Figure, Any]]) -> tuple[Figure, list[Axes]]:
    """`count` axes to draw into, and their figure: those in `ax`, or those that `make` gives with a new figure.

    Raises `ValueError` where `ax` is something else.
    """
    if ax is None:
        figure, panels = make()
        return figure, list(np.ravel(panels))
    panels = [axes for each in jax.tree.leaves(ax) for axes in (each.flat if isinstance(each, np.ndarray) else [each])]
    if len(panels) != count or not all(isinstance(axes, Axes) for axes in panels):
        got = ", ".join(sorted({checks.called(axes) for axes in panels})) or "none"
        wanted = "one Axes of Matplotlib" if count == 1 else f"{count} Axes of Matplotlib, one for each panel"
        raise ValueError(
            f"ax must be {wanted}, got {len(panels)} of {got}: pass e.g. plt.subplots(1, {count})[1], or leave it out"
        )
    return panels[0].figure.canvas.figure, panels


def add_legend(ax: Any, figure: Figure, panels: Sequence[Axes], handles: Sequence[Artist]) -> None:
    """Above a figure of our own; inside the first of axes that were given."""
    if ax is None:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    else:
        panels[0].legend(handles=handles)


def styles(labels: Iterable[str]) -> list[dict[str, Any]]:
    """One for each label; the second of a kind, or an unknown kind, takes the next free colour."""
    chosen: list[dict[str, Any]] = []
    for label in labels:
        kinds = [style for kind, style in KINDS.items() if kind in label.lower()]
        free = [style for style in (*kinds[:1], *OTHERS) if style not in chosen]
        chosen.append(free[0] if free else OTHERS[-1])
    return chosen


def check_target(target: PiecewiseConstant) -> None:
    if not isinstance(target, PiecewiseConstant):
        raise ValueError(f"this draws a PiecewiseConstant target, got {checks.called(target)}: pass problem.target")


def check_network(network: ShallowNetwork) -> None:
    if not isinstance(network, ShallowNetwork) or network.positions.shape[-1] != 1:
        raise ValueError(
            f"this draws a one-dimensional ShallowNetwork, got {checks.called(network)}: pass e.g. trajectory.at(-1)"
        )


def draw_target(axes: Axes, target: PiecewiseConstant, limits: tuple[float, float]) -> None:
    edges = np.concatenate([[0.0], np.asarray(target.jumps), [1.0]])
    axes.stairs(np.asarray(target.values), edges, baseline=None, **TARGET)
    axes.set(xlim=(0, 1), ylim=limits)


def curve(network: ShallowNetwork) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Points of the graph, with both sides of every kink."""
    kinks = np.asarray(network.activation.kinks(network.positions[:, 0]))
    kinks = np.clip(np.nan_to_num(kinks), 0, 1)
    grid = np.linspace(0, 1, 401, dtype=kinks.dtype)
    x = np.sort(np.concatenate([grid, kinks, np.nextafter(kinks, np.zeros_like(kinks))]))
    return x, np.asarray(_evaluate(network, jnp.asarray(x)))


@eqx.filter_jit
def _evaluate(network: ShallowNetwork, x: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.vmap(network)(x)
