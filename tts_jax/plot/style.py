"""What pictures share: sizes, colours, and how a target and a network are drawn."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
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
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


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
