"""The figures of the experiments on fixed points."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..networks import ShallowNetwork
from ..plot.style import KINDS, STYLE, TARGET, WIDTH, new_figure
from ..targets import AbstractTarget, Additive
from ..trajectory import Trajectory
from .arm import Arm
from .base import number

DESCENT, FLOW = KINDS["sgd"]["color"], KINDS["flow"]["color"]


def losses(same: Arm, slow: Arm, budgets: tuple[int, int]) -> Figure:
    """Boxes of the loss over the repeats, a dot for each: the published pair of budgets, then both at each budget."""
    short, long = budgets
    groups = [
        ("published budgets", [(same, short), (slow, long)]),
        (f"{short:,} steps each", [(same, short), (slow, short)]),
        (f"{long:,} steps each", [(same, long), (slow, long)]),
    ]
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 2.5)
        panels = figure.subplots(1, 3, sharey=True)
        for axes, (title, pairs) in zip(panels, groups, strict=True):
            for place, (arm, steps) in enumerate(pairs):
                k = arm.at(steps)
                _box(axes, place - 0.2, np.asarray(arm.descent.risk)[:, k], DESCENT)
                _box(axes, place + 0.2, arm.flow_loss[:, k], FLOW)
            labels = [f"ε = {number(arm.epsilon)}\n{steps:,} steps" for arm, steps in pairs]
            axes.set(title=title, yscale="log", xlim=(-0.5, 1.5), xticks=[0, 1], xticklabels=labels)
        panels[0].set_ylabel(r"loss $\|f - f^*\|_2 \, / \, n$")
        handles = [Patch(color=DESCENT, label="gradient descent"), Patch(color=FLOW, label="flow of the exact risk")]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def positions(same: Arm, slow: Arm, budgets: tuple[int, int], target: AbstractTarget | Additive) -> Figure:
    """In the plane, the positions of the first repeat as lines over the shaded target, darker for heavier neurons."""
    x = np.linspace(0, 1, 201)
    grid = jnp.asarray(np.stack(np.meshgrid(x, x), axis=-1))
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 3.8)
        panels = figure.subplots(2, 3, sharex=True, sharey=True)
        for row, kind in zip(panels, ("descent", "flow"), strict=True):
            for axes, (title, network) in zip(row, _moments(same, slow, budgets, kind), strict=True):
                axes.imshow(
                    np.asarray(target(grid)),
                    origin="lower",
                    extent=(0, 1, 0, 1),
                    aspect="auto",
                    cmap="Greys",
                    alpha=0.6,
                )
                lines = zip(np.asarray(network.positions), np.abs(np.asarray(network.weights)), strict=True)
                for u, weight in lines:
                    colour = DESCENT if kind == "descent" else FLOW
                    axes.axvline(u[0], color=colour, linewidth=1, alpha=float(np.clip(weight[0], 0.15, 1)))
                    axes.axhline(u[1], color=colour, linewidth=1, alpha=float(np.clip(weight[1], 0.15, 1)))
                axes.set(xlim=(0, 1), ylim=(0, 1), title=title if kind == "descent" else "")
            row[0].set_ylabel("gradient descent" if kind == "descent" else "flow of the exact risk")
        figure.supxlabel("$x_1$", fontsize=8)
        figure.supylabel("$x_2$", fontsize=8)
    return figure


def functions(same: Arm, slow: Arm, budgets: tuple[int, int], target: AbstractTarget | Additive) -> Figure:
    """In one dimension, the target and the networks of the first repeat, with their positions as dashes."""
    x = jnp.linspace(0, 1, 401)
    descent, flow = (_moments(same, slow, budgets, kind) for kind in ("descent", "flow"))
    with rc_context(STYLE):
        figure = new_figure(WIDTH, 2.4)
        panels = figure.subplots(1, 3)
        for axes, (title, network), (_, exact) in zip(panels, descent, flow, strict=True):
            axes.plot(x, target(x), **TARGET)
            for model, colour, width, at in ((exact, FLOW, 2.2, 0.0), (network, DESCENT, 1.0, 0.5)):
                axes.plot(x, jax.vmap(model)(x), color=colour, linewidth=width)
                for u in np.asarray(model.positions)[:, 0]:
                    axes.axvline(u, at, at + 0.5, color=colour, linewidth=0.5, linestyle="--")
            axes.set(xlim=(0, 1), title=title)
        figure.supxlabel("input x", fontsize=8)
        panels[0].set_ylabel("output f(x)")
        handles = [
            Line2D([], [], label="target", **TARGET),
            Line2D([], [], color=DESCENT, label="gradient descent"),
            Line2D([], [], color=FLOW, linewidth=2.2, label="flow of the exact risk"),
            Line2D([], [], color="0.3", linewidth=0.5, linestyle="--", label="positions"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _moments(same: Arm, slow: Arm, budgets: tuple[int, int], kind: str) -> list[tuple[str, ShallowNetwork]]:
    """The first repeat: its start, and the end of each arm."""

    def network(arm: Arm, steps: int) -> ShallowNetwork:
        run: Trajectory = getattr(arm, kind)
        k = arm.at(steps)
        return ShallowNetwork(run.model.weights[0, k], run.model.positions[0, k], None, _activation(run))

    return [
        ("start", network(same, 0)),
        (f"ε = {number(same.epsilon)}, {budgets[0]:,} steps", network(same, budgets[0])),
        (f"ε = {number(slow.epsilon)}, {budgets[1]:,} steps", network(slow, budgets[1])),
    ]


def _activation(run: Trajectory):
    return jax.tree.map(lambda leaf: leaf[0], run.model.activation)


def _box(axes: Axes, place: float, values: np.ndarray, colour: str) -> None:
    axes.boxplot(
        [values],
        positions=[place],
        widths=0.3,
        showfliers=False,
        boxprops={"color": colour},
        whiskerprops={"color": colour},
        capprops={"color": colour},
        medianprops={"color": colour, "linewidth": 2},
    )
    spread = np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(place + spread, values, ".", color=colour, markersize=2.5, alpha=0.6)
