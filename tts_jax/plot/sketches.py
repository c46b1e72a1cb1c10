"""Figures that explain: the notation, and how the limit moves."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import _checks as checks
from ..activations import SmoothStep
from ..networks import ShallowNetwork
from ..targets import PiecewiseConstant
from ..trajectory import Trajectory
from .style import (
    KINDS,
    STYLE,
    TARGET,
    WIDTH,
    add_legend,
    canvas,
    check_network,
    check_target,
    curve,
    draw_target,
    new_figure,
    one_panel,
)

COLOUR = KINDS["flow"]["color"]
DIMENSION: dict[str, Any] = {"arrowstyle": "<->", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.8}
"""A line with two heads that spans what it names."""


def notation(network: ShallowNetwork, target: PiecewiseConstant, *, ax: Axes | None = None) -> Figure:
    r"""Target and network with their symbols.

    Jumps $v_i$ and values $f_i$ of the `target`, positions $u_j$ and the width $\eta$ of the neurons of the `network`,
    the smallest jump $\Delta f = \min_i |f_i - f_{i-1}|$ and the smallest piece $\Delta v = \min_i (v_{i+1} - v_i)$,
    with $v_0 = 0$ and $v_{n+1} = 1$; all read off the two objects. `ax` (of Matplotlib) is drawn into in place of a new
    figure; its figure is returned.

    >>> import tts_jax as tts
    >>> network = tts.ShallowNetwork([[1.0], [-0.5]], [[0.3], [0.7]], 0.0, tts.SmoothStep(0.1))
    >>> figure = notation(network, tts.PiecewiseConstant([0.3, 0.7], [0.0, 1.0, 0.5]))
    >>> figure.axes[0].get_xlabel()
    'input x'

    Raises `ValueError` for a network that is not a one-dimensional one of `SmoothStep` neurons, and a target that is
    not `PiecewiseConstant`.
    """
    check_target(target)
    check_network(network)
    if not isinstance(network.activation, SmoothStep):
        raise ValueError(
            f"notation draws SmoothStep neurons, got {checks.called(network.activation)}: pass such a network"
        )
    jumps, values = np.asarray(target.jumps), np.asarray(target.values)
    positions, eta = np.sort(np.asarray(network.positions[:, 0])), float(network.activation.eta)
    x, y = curve(network)
    span = float(max(values.max(), y.max()) - min(values.min(), y.min()))
    bottom, top = min(values.min(), y.min()) - 0.42 * span, max(values.max(), y.max()) + 0.12 * span
    with rc_context(STYLE):
        figure, panels = canvas(ax, 1, lambda: one_panel(WIDTH, 2.9))
        (axes,) = panels
        draw_target(axes, target, (bottom, top))
        axes.plot(x, y, color=COLOUR, linewidth=1.4)
        axes.vlines(positions, bottom, top, color=COLOUR, linewidth=0.5, linestyle=(0, (4, 4)), zorder=1)
        middle = (np.concatenate([[0.0], jumps]) + np.concatenate([jumps, [1.0]])) / 2
        for k, (at, value) in enumerate(zip(middle, values, strict=True)):
            axes.annotate(f"$f_{k}$", (at, value), (0, 3), textcoords="offset points", ha="center", color="0.35")
        _name_ticks(axes, positions, jumps)
        _span_smallest(axes, jumps, values)
        _span_width(axes, network, eta, top - 0.04 * span)
        handles = [
            Line2D([], [], label="target $f^*$", **TARGET),
            Line2D([], [], label="network $f$", color=COLOUR, linewidth=1.4),
            Line2D([], [], label="positions $u_j$", color=COLOUR, linewidth=0.5, linestyle="--"),
        ]
        add_legend(ax, figure, panels, handles)
    return figure


def _name_ticks(axes: Axes, positions: Float[np.ndarray, " m"], jumps: Float[np.ndarray, " n"]) -> None:
    """Jumps below the axis, positions on it."""
    axes.set_xticks([0, *jumps, 1], ["0", *(f"$v_{k + 1}$" for k in range(len(jumps))), "1"])
    axes.set_yticks([])
    axes.set(xlabel="input x", ylabel="output")
    for j, position in enumerate(positions):
        axes.annotate(
            f"$u_{{{j + 1}}}$",
            (position, 0.02),
            (2, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=COLOUR,
        )


def _span_smallest(axes: Axes, jumps: Float[np.ndarray, " n"], values: Float[np.ndarray, " k"]) -> None:
    """Dimension lines over the smallest jump, beside it, and over the smallest piece, below the target."""
    k = int(np.argmin(np.abs(np.diff(values))))
    beside = jumps[k] + 0.012
    axes.annotate("", (beside, values[k]), (beside, values[k + 1]), arrowprops=DIMENSION)
    axes.annotate(
        r"$\Delta f$", (beside, (values[k] + values[k + 1]) / 2), (3, 0), textcoords="offset points", va="center"
    )
    edges = np.concatenate([[0.0], jumps, [1.0]])
    k = int(np.argmin(np.diff(edges)))
    low, high = axes.get_ylim()
    level = low + 0.16 * (high - low)
    axes.vlines(edges[k : k + 2], level, values[k : k + 2].min(), color="0.6", linewidth=0.5, linestyle=":")
    axes.annotate("", (edges[k], level), (edges[k + 1], level), arrowprops=DIMENSION)
    axes.annotate(
        r"$\Delta v$", ((edges[k] + edges[k + 1]) / 2, level), (0, 3), textcoords="offset points", ha="center"
    )


def _span_width(axes: Axes, network: ShallowNetwork, eta: float, level: float) -> None:
    """A dimension line over the window of the neuron that stands most alone."""
    positions = np.asarray(network.positions[:, 0])
    others = np.abs(positions[:, None] - np.append(positions, [0.0, 1.0]))
    others[np.arange(len(positions)), np.arange(len(positions))] = np.inf
    loneliest = positions[int(np.argmax(others.min(axis=1)))]
    axes.axvspan(loneliest - eta / 2, loneliest + eta / 2, color=COLOUR, alpha=0.12, linewidth=0)
    axes.annotate("", (loneliest - eta / 2, level), (loneliest + eta / 2, level), arrowprops=DIMENSION)
    axes.annotate(r"$\eta$", (loneliest + eta / 2, level), (3, 0), textcoords="offset points", va="center")


def moves(
    trajectory: Trajectory,
    velocities: Float[Array | np.ndarray, "t m"],
    target: PiecewiseConstant,
    *,
    ax: Any = None,
) -> Figure:
    """Target and network at every save of a one-dimensional `trajectory`, with an arrow for each neuron that moves.

    `velocities` has shape (t, m): of the positions, in any unit; the longest arrow has a fixed length. `target` is the
    `PiecewiseConstant` that was learned. `ax`, as many axes (of Matplotlib) as saves, are drawn into in place of a new
    figure; their figure is returned.

    Raises `ValueError` for velocities of another shape, and for a trajectory or a target of another kind.
    """
    check_target(target)
    checks.instance("trajectory", trajectory, Trajectory, "simulate(...)")
    check_network(trajectory.model)
    saves, speeds = np.asarray(trajectory.slow_time), np.asarray(checks.finite("velocities", velocities))
    if speeds.shape != trajectory.model.positions.shape[:-1]:
        raise ValueError(
            f"velocities must have a row for each of {len(saves)} saves and a column for each neuron, got shape "
            f"{speeds.shape}: take them of this trajectory"
        )
    values = np.asarray(target.values)
    span = float(values.max() - values.min()) or 1.0
    bottom, top = values.min() - 0.45 * span, values.max() + 0.1 * span
    colour = KINDS["limit"]["color"]
    with rc_context(STYLE):

        def make():
            figure = new_figure(WIDTH, 2.3)
            figure.supxlabel("input x", fontsize=8)
            return figure, figure.subplots(1, len(saves), sharex=True, sharey=True, squeeze=False)

        figure, panels = canvas(ax, len(saves), make)
        for k, axes in enumerate(panels):
            network = trajectory.at(k)
            positions = np.asarray(network.positions[:, 0])
            draw_target(axes, target, (bottom, top))
            axes.plot(*curve(network), color=colour, linewidth=1.2)
            axes.vlines(positions, bottom, top, color=colour, linewidth=0.5, linestyle=(0, (4, 4)), zorder=1)
            _draw_arrows(axes, positions, 0.1 * speeds[k] / (np.abs(speeds).max() or 1.0), bottom + 0.2 * span)
            axes.set_title(f"slow time τ = {saves[k]:.3g}")
            if ax is not None:
                axes.set_xlabel("input x")
        panels[0].set_ylabel("output f(x)")
        handles = [
            Line2D([], [], label="target", **TARGET),
            Line2D([], [], label="best fit between the positions", color=colour, linewidth=1.2),
            Line2D([], [], label="positions", color=colour, linewidth=0.5, linestyle="--"),
            Line2D([], [], label="velocity", color="black", marker=r"$\rightarrow$", markersize=9, linestyle="none"),
        ]
        add_legend(ax, figure, panels, handles)
    return figure


def _draw_arrows(
    axes: Axes, positions: Float[np.ndarray, " m"], lengths: Float[np.ndarray, " m"], level: float
) -> None:
    head: dict[str, Any] = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.0}
    for position, length in zip(positions, lengths, strict=True):
        if length:
            axes.annotate("", (position + length, level), (position, level), arrowprops=head)
        else:
            axes.plot(position, level, ".", color="black", markersize=3)
