"""Pictures of trajectories: errors, functions, an animation."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float
from matplotlib import rc_context
from matplotlib.animation import PillowWriter
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import _checks as checks
from ..networks import ShallowNetwork
from ..targets import PiecewiseConstant
from ..trajectory import Status, Trajectory
from .style import (
    STYLE,
    TARGET,
    WIDTH,
    add_legend,
    canvas,
    check_target,
    curve,
    draw_target,
    new_figure,
    one_panel,
    styles,
)

CLOCKS = {"slow": "slow time τ", "fast": "fast time t = τ/ε", "step": "step p of SGD"}
DECADES = 6
"""So far below and above the error at the start an axis of errors reaches at most; zero lies below any."""


def risks(
    trajectories: Mapping[str, Trajectory], *, log_time: bool = False, clock: str = "slow", ax: Axes | None = None
) -> Figure:
    r"""The risk of each trajectory against time, on a log scale: $\int_0^1 (f - f^*)^2\,dx$ in one dimension.

    **Arguments:**

    - `trajectories`: `{label: trajectory}`
    - `log_time`: whether time has a log scale too, and starts at the first positive save time
    - `clock`: "slow" ($\tau$), "fast" ($t = \tau/\epsilon$) or "step" (of SGD)
    - `ax`: axes of Matplotlib to draw into, with a legend inside, in place of a new figure; their figure is returned

    The axis on top of slow time counts the steps of SGD, $p = \tau/(\epsilon h)$, where all trajectories with steps
    agree on them. A triangle on the bottom axis stands at the save from which on an error is zero, or below a millionth
    of the error at the start.

    >>> import jax, tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork.init(jax.random.key(0), 4, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.SGD(0.1, 0.01), model, problem, [0.0, 0.01, 0.02], key=jax.random.key(1))
    >>> risks({"SGD": run}, clock="fast").axes[0].get_xlabel()
    'fast time t = τ/ε'

    Raises `ValueError` where there is no trajectory, and for a clock that there is not or that one of them lacks.
    """
    _check(trajectories)
    checks.truth("log_time", log_time)
    with rc_context(STYLE):
        figure, panels = canvas(ax, 1, lambda: one_panel(WIDTH, 2.9))
        add_legend(ax, figure, panels, _draw_risks(panels[0], trajectories, log_time, clock))
    return figure


def functions(
    trajectories: Mapping[str, Trajectory],
    target: PiecewiseConstant,
    times: Sequence[float] | Float[Array | np.ndarray, " k"],
    *,
    clock: str = "slow",
    ax: Any = None,
) -> Figure:
    """The target and the networks, one panel for each time.

    **Arguments:**

    - `trajectories`: `{label: trajectory}`, of networks of one input at the same save times
    - `target`: the `PiecewiseConstant` that they learn
    - `times`: of the panels; each shows the save nearest to its time, and the time of that save in its title
    - `clock`: of the times, as of `risks`
    - `ax`: as many axes (of Matplotlib) as times, to draw into in place of a new figure; their figure is returned

    Dashed vertical lines are the positions of the neurons.

    Raises `ValueError` where there is no trajectory or no time, for save times that differ, for a clock that one of
    them lacks, and for models that are not one-dimensional networks.
    """
    saves = _common_saves(trajectories, clock)
    wanted = np.asarray(checks.finite("times", times))
    if wanted.ndim != 1 or not wanted.size:
        got = checks.shown(times)
        raise ValueError(f"functions draws one panel for each time, got {got}: pass e.g. times=[0.0, 0.01, 0.035]")
    shown = [int(np.abs(saves - time).argmin()) for time in wanted]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    limits = _value_limits(trajectories, target, shown)
    with rc_context(STYLE):

        def make():
            figure = new_figure(WIDTH, 0.6 + 1.4 * rows)
            grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
            for axes in grid.flat[len(shown) :]:
                axes.remove()
            figure.supxlabel("input x", fontsize=8)
            figure.supylabel("output f(x)", fontsize=8)
            return figure, grid.flat[: len(shown)]

        figure, panels = canvas(ax, len(shown), make)
        for axes, index in zip(panels, shown, strict=True):
            draw_target(axes, target, limits)
            _draw_networks(axes, trajectories, index)
            axes.set_title(_time_label(saves[index], clock))
            if ax is not None:
                axes.set(xlabel="input x", ylabel="output f(x)")
        add_legend(ax, figure, panels, _handles(trajectories))
    return figure


def animation(
    trajectories: Mapping[str, Trajectory],
    target: PiecewiseConstant,
    path: str | os.PathLike[str],
    *,
    every: int = 1,
    frames_per_second: int = 12,
    log_time: bool = False,
    clock: str = "slow",
) -> None:
    """Writes a GIF: target and networks, and beside them the errors with a line that marks the time.

    **Arguments:**

    - `trajectories`, `target`: as of `functions`
    - `path`: the file, which ends in `.gif`
    - `every`: one frame for every `every`-th save, and one for the last
    - `frames_per_second`: below 64
    - `log_time`, `clock`: as of `risks`

    Raises `ValueError` as `functions` does, and for another path.
    """
    saves = _common_saves(trajectories, clock)
    path = checks.path("path", path, "run.gif")
    if path.suffix.lower() != ".gif":
        raise ValueError(f"path must end in .gif, got {str(path)!r}: pass e.g. path='run.gif'")
    shown = sorted({*range(0, len(saves), checks.count("every", every)), len(saves) - 1})
    limits = _value_limits(trajectories, target, shown)
    checks.truth("log_time", log_time)
    writer = PillowWriter(fps=checks.count("frames_per_second", frames_per_second, below=2**6))
    with rc_context(STYLE):
        figure = new_figure(7.5, 2.9)
        left, right = figure.subplots(1, 2)
        handles = _handles(trajectories) + _draw_risks(right, trajectories, log_time, clock)[len(trajectories) :]
        now = right.axvline(saves[0], color="0.3", linewidth=0.8)
        draw_target(left, target, limits)
        left.set(xlabel="input x", ylabel="output f(x)")
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        with writer.saving(figure, os.fspath(path), dpi=100):
            for index in shown:
                left.set_title(_time_label(saves[index], clock))
                now.set_xdata([saves[index]] * 2)
                moving = _draw_networks(left, trajectories, index)
                writer.grab_frame()
                figure.set_layout_engine("none")  # the layout of the first frame holds for all
                for artist in moving:
                    artist.remove()
    plt.close(figure)


def _draw_risks(axes: Axes, trajectories: Mapping[str, Trajectory], log_time: bool, clock: str) -> list[Line2D]:
    """Draws, and returns the handles of a legend."""
    times = _times(trajectories, clock)
    bottom, top = _error_limits([np.asarray(trajectory.risk) for trajectory in trajectories.values()])
    handles, beneath = [], ""
    for (label, trajectory), style in zip(trajectories.items(), styles(trajectories), strict=True):
        saves, error = times[label], np.asarray(trajectory.risk)
        handles += axes.plot(
            saves, np.clip(error, bottom / 10, top * 10), label=_legend_label(label, trajectory), **style
        )
        first = 1 + max(np.flatnonzero(~(error < bottom)), default=-1)
        if first < len(saves):
            axes.plot(saves[first], bottom, "v", color=style["color"], clip_on=False, zorder=4)
            beneath = "below the axis" if beneath == "below the axis" or error[first:].any() else "zero"
    if beneath:
        handles.append(Line2D([], [], color="0.3", marker="v", linestyle="none", label=f"{beneath} from here on"))
    axes.set(xlabel=CLOCKS[clock], ylabel=_risk_label(trajectories), yscale="log", ylim=(bottom, top))
    saves = np.concatenate(list(times.values()))
    if saves.any():
        first = min(saves[saves > 0]) if log_time else 0
        axes.set(xscale="log" if log_time else "linear", xlim=(first, max(saves)))
        if clock == "slow":
            _add_step_axis(axes, trajectories)
    return handles


def _times(trajectories: Mapping[str, Trajectory], clock: str) -> dict[str, np.ndarray]:
    checks.choice("clock", clock, CLOCKS)
    found = {}
    for label, trajectory in trajectories.items():
        time = {"slow": trajectory.slow_time, "fast": trajectory.fast_time, "step": trajectory.step}[clock]
        if time is None:
            raise ValueError(
                f"{label!r} has no clock {clock!r} ({trajectory.stats.method}): leave it out, or pass 'slow'"
            )
        found[label] = np.asarray(time)
    return found


def _risk_label(trajectories: Mapping[str, Trajectory]) -> str:
    """An integral over [0, 1] for one-dimensional networks; a problem with another model calls it as it will."""
    models = [trajectory.model for trajectory in trajectories.values()]
    shallow = all(isinstance(model, ShallowNetwork) and model.positions.shape[-1] == 1 for model in models)
    return r"error $\int_0^1 (f - f^*)^2\,dx$" if shallow else "risk"


def _error_limits(errors: Sequence[Float[np.ndarray, " t"]]) -> tuple[float, float]:
    """Room for all errors, but for those that vanish or explode."""
    scale = max((float(error[0]) for error in errors if np.isfinite(error[0])), default=0.0) or 1.0
    low, high = scale * 10.0**-DECADES, scale * 10.0**DECADES
    shown = [value for error in errors for value in error.tolist() if low < value < high]
    return 0.5 * min(shown, default=scale), 2 * max(shown, default=scale)


def _add_step_axis(axes: Axes, trajectories: Mapping[str, Trajectory]) -> None:
    rates = [int(t.step[-1]) / float(t.slow_time[-1]) for t in trajectories.values() if t.step is not None]
    if rates and np.allclose(rates, rates[0], rtol=1e-3):
        to_steps, to_time = functools.partial(np.multiply, rates[0]), functools.partial(np.multiply, 1 / rates[0])
        top = axes.secondary_xaxis("top", functions=(to_steps, to_time))
        top.set_xlabel("SGD step p = τ/(ε h)")


def _draw_networks(axes: Axes, trajectories: Mapping[str, Trajectory], index: int) -> list[Artist]:
    """Draws one save, and returns what it drew. The dashes of different trajectories fill each other's gaps."""
    dash, gap = 4, 4 * max(len(trajectories) - 1, 1)
    low, high = axes.get_ylim()
    drawn: list[Artist] = []
    for k, (trajectory, style) in enumerate(zip(trajectories.values(), styles(trajectories), strict=True)):
        network = trajectory.at(index)
        x, y = curve(network)
        drawn += axes.plot(x, np.clip(y, 2 * low - high, 2 * high - low), **style)
        positions = np.asarray(network.positions[:, 0])
        positions = positions[(positions >= 0) & (positions <= 1)]
        dashes = {"color": style["color"], "linewidth": 0.5, "linestyle": (-dash * k, (dash, gap)), "zorder": 1}
        drawn.append(axes.vlines(positions, low, high, **dashes))
    return drawn


def _handles(trajectories: Mapping[str, Trajectory]) -> list[Line2D]:
    """Of a legend of the functions."""
    networks = [
        Line2D([], [], label=_legend_label(label, trajectory), **style)
        for (label, trajectory), style in zip(trajectories.items(), styles(trajectories), strict=True)
    ]
    positions = Line2D([], [], color="0.3", linewidth=0.5, linestyle="--", label="positions")
    return [Line2D([], [], label="target", **TARGET), *networks, positions]


def _value_limits(
    trajectories: Mapping[str, Trajectory], target: PiecewiseConstant, shown: Sequence[int]
) -> tuple[float, float]:
    """Room for all networks at all times, but for spikes beyond the range of the target on either side of it."""
    check_target(target)
    values = np.concatenate([curve(trajectory.at(index))[1] for index in shown for trajectory in trajectories.values()])
    low, high = float(min(target.values)), float(max(target.values))
    span = (high - low) or 1.0
    values = np.clip([low, high, *values[np.isfinite(values)]], low - span, high + span)
    return values.min() - 0.05 * span, values.max() + 0.05 * span


def _legend_label(label: str, trajectory: Trajectory) -> str:
    status = Status(int(trajectory.status))
    return label if status == Status.SUCCESSFUL else f"{label} ({status.label})"


def _time_label(time: float, clock: str) -> str:
    return {"slow": f"slow time τ = {time:.3g}", "fast": f"fast time t = {time:.3g}", "step": f"step {time:,.0f}"}[
        clock
    ]


def _check(trajectories: Mapping[str, Trajectory]) -> None:
    if not isinstance(trajectories, Mapping) or not trajectories:
        got = "no trajectory" if isinstance(trajectories, Mapping) else type(trajectories).__name__
        raise ValueError(f'trajectories are drawn by their names, got {got}: pass e.g. {{"flow": flow, "SGD": sgd}}')
    for label, trajectory in trajectories.items():
        if not isinstance(trajectory, Trajectory) or trajectory.slow_time.ndim != 1:
            many = isinstance(trajectory, Trajectory)
            got = f"{trajectory.slow_time.shape[0]} runs: pass one of them" if many else type(trajectory).__name__
            raise ValueError(f"{label!r} must be one Trajectory, as simulate gives it, got {got}")


def _common_saves(trajectories: Mapping[str, Trajectory], clock: str) -> Float[np.ndarray, " t"]:
    _check(trajectories)
    for label, trajectory in trajectories.items():
        if not isinstance(trajectory.model, ShallowNetwork) or trajectory.model.positions.shape[-1] != 1:
            raise ValueError(f"cannot draw {label!r}: its model is not a one-dimensional ShallowNetwork")
    saves = list(_times(trajectories, clock).values())
    if any(len(other) != len(saves[0]) or not np.allclose(other, saves[0], rtol=1e-6) for other in saves):
        raise ValueError(
            "trajectories in one picture must share their save times: simulate all with the same slow_times"
            + (", epsilon and step_size, or pass clock='slow'" if clock != "slow" else "")
        )
    return saves[0].astype(float)
