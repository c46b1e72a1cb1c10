"""Figures 1 and 2: what the symbols mean, and how the limit moves, drawn from simulated objects."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _checks as checks
from ..activations import SmoothStep
from ..dynamics import TwoTimescaleLimit
from ..dynamics.reduced import optimal_weights
from ..networks import ShallowNetwork
from ..problems import Regression
from ..simulate import simulate
from ..targets import PiecewiseConstant
from .base import AbstractExperiment, Evidence, Finding, Report, Table, Verdict, number


class Notation(AbstractExperiment):
    """A small target, and a network with the best weights for its positions: `notation.png`."""

    neurons: int = 6
    eta: float = 0.06
    jumps: tuple[float, ...] = (0.25, 0.6, 0.8)
    values: tuple[float, ...] = (1.0, 4.0, 2.5, 3.5)

    @property
    def settings(self) -> dict[str, str]:
        return {"neurons": number(self.neurons), "η": number(self.eta)}

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        from .. import plot
        from ..plot.style import save

        report("drawing", 0, 0)
        target = PiecewiseConstant(self.jumps, self.values)
        start = ShallowNetwork.init(jax.random.key(self.seed), self.neurons, SmoothStep(self.eta))
        problem = Regression(target)
        bias, *weights = optimal_weights(problem.normal_equations(start), jnp.zeros(()))
        fitted = ShallowNetwork(jnp.stack(weights)[:, None], start.positions, bias, start.activation)
        save(plot.notation(fitted, target), folder / "notation.png")
        pieces = np.diff([0.0, *self.jumps, 1.0])
        rows = (
            ("jumps v", ", ".join(map(number, self.jumps))),
            ("values f", ", ".join(map(number, self.values))),
            ("positions u", ", ".join(number(float(u)) for u in jnp.sort(start.positions[:, 0]))),
            ("width η", number(self.eta)),
            ("smallest jump Δf", number(float(np.min(np.abs(np.diff(self.values)))))),
            ("smallest piece Δv", number(float(np.min(pieces)))),
            ("error of this network", number(float(problem.risk(fitted)))),
        )
        return Evidence(figures=("notation.png",), findings=(), tables=(Table(("symbol", "value"), rows),))


class ReducedSketch(AbstractExperiment):
    """The two-timescale limit of a small network at some `times`, with the velocities of its neurons: `reduced.png`."""

    times: tuple[float, ...]
    neurons: int = 10
    jumps: tuple[float, ...] = (0.3, 0.7)
    values: tuple[float, ...] = (1.0, 3.0, 2.0)

    def __check_init__(self):
        checks.count("neurons", self.neurons)

    @property
    def settings(self) -> dict[str, str]:
        return {"neurons": number(self.neurons), "slow times": ", ".join(map(number, self.times))}

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        from .. import plot
        from ..plot.style import save

        report("limit", 0, 0)
        target = PiecewiseConstant(self.jumps, self.values)
        start = ShallowNetwork.init(jax.random.key(self.seed), self.neurons, SmoothStep(0.01))
        limit, problem, times = TwoTimescaleLimit(), Regression(target), jnp.asarray(self.times)

        def positions(slow_times):
            trajectory = simulate(limit, start, problem, slow_times)
            return trajectory.model.positions[..., 0], trajectory

        _, velocities, trajectory = jax.jvp(positions, (times,), (jnp.ones_like(times),), has_aux=True)
        report("drawing", 0, 0)
        save(plot.moves(trajectory, velocities, target), folder / "reduced.png")
        towards, others = _flanking(trajectory.model.positions[0, :, 0], velocities[0], target)
        measured = (
            f"at the start {int(np.sum(towards > 0))} of the {len(towards)} flanking neurons move towards their jump, "
            f"the other {len(others)} at most at a speed of {number(float(np.max(np.abs(others), initial=0.0)))}"
        )
        holds = bool(np.all(towards > 0) and not np.any(others))
        claim = "only the two neurons beside a jump move, and they move towards it"
        risks = tuple(
            (number(time), number(float(risk))) for time, risk in zip(self.times, trajectory.risk, strict=True)
        )
        return Evidence(
            figures=("reduced.png",),
            findings=(Finding(claim, measured, Verdict.of(holds, not holds)),),
            tables=(Table(("slow time", "error of the best fit"), risks),),
            results=(trajectory, velocities),
        )


def _flanking(
    positions: Float[Array, " m"], velocities: Float[Array, " m"], target: PiecewiseConstant
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " l"]]:
    """The speed of the two neurons beside each jump, towards it; and the velocities of all others."""
    order = np.argsort(positions)
    right = np.searchsorted(np.asarray(positions)[order], np.asarray(target.jumps))
    beside = np.stack([right - 1, right], axis=1)
    moving = np.asarray(velocities)[order]
    inside = (beside >= 0) & (beside < len(moving))
    towards = np.where(inside, moving[np.clip(beside, 0, len(moving) - 1)], 0.0) * [1, -1]
    return towards[inside], np.delete(moving, np.unique(beside[inside]))
