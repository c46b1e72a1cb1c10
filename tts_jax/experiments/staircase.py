"""The one-dimensional setting of Marion and Berthier (2023), arXiv 2304.09576, which several experiments share."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Int

from .. import _checks as checks
from ..networks import ShallowNetwork
from ..problems import Regression
from ..sweeps.arrivals import piece_counts
from ..sweeps.grid import uniform_start
from ..targets import PiecewiseConstant
from ..theory import floor
from .base import AbstractExperiment


class AbstractStaircase(AbstractExperiment):
    """A network of smooth steps learns a piecewise constant target from noisy samples.

    Start and samples of a seed follow from it alone: they are the same for every dynamics and ratio. A start is taken
    as it is drawn.
    """

    eta: float = eqx.field(default=4e-3, kw_only=True)
    """The width of the neurons."""
    noise: float = eqx.field(default=1.0, kw_only=True)
    """Of the labels, as of `Regression`."""
    jumps: tuple[float, ...] = eqx.field(default=(0.2, 0.35, 0.5, 0.65, 0.8), kw_only=True)
    """Of the target, and `values` between them, as of `PiecewiseConstant`."""
    values: tuple[float, ...] = eqx.field(default=(1.0, 5.0, 1.0, 3.0, 1.0, 5.0), kw_only=True)

    def __check_init__(self):
        checks.positive("eta", self.eta)
        checks.non_negative("noise", self.noise)

    @property
    def target(self) -> PiecewiseConstant:
        return PiecewiseConstant(self.jumps, self.values)

    @property
    def problem(self) -> Regression:
        return Regression(self.target, self.noise)

    @property
    def floor(self) -> float:
        """The error that the width of the neurons leaves."""
        return float(floor(self.problem, self.eta))

    @property
    def success(self) -> float:
        """An error below is that of a global minimum, up to the width of the neurons: ten times the floor."""
        return 10 * self.floor

    def check_steps(self, slow_time: float, epsilon: float, step_size: float) -> None:
        """Of SGD: a number that can be done, and counted in 32 bits."""
        if not 0.5 < (steps := slow_time / epsilon / step_size) < 2**31:
            raise ValueError(
                f"slow time {slow_time:g} takes {steps:.2g} steps of epsilon * step_size = {epsilon * step_size:.2g}: "
                "choose a step_size that takes 1 to 2**31"
            )

    def check_seeds(self, name: str) -> None:
        """Of a field that says how many seeds there are, from `seed` on."""
        count = checks.count(name, getattr(self, name))
        if self.seed + count > 2**32:
            raise ValueError(f"seeds must end below 2**32, got {count} from {self.seed} on")

    def start_of(self, seed: int, neurons: int) -> ShallowNetwork:
        return uniform_start(jax.random.key(seed), neurons, self.eta)

    def pieces_of(self, start: ShallowNetwork) -> Int[np.ndarray, " p"]:
        """How many neurons lie in each piece of the target."""
        return piece_counts(np.asarray(start.positions[:, 0]), np.asarray(self.jumps))
