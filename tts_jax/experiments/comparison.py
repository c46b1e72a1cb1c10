"""What a comparison of the dynamics needs to know: the configuration, and what follows from it."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key

from .. import checks
from ..activations import SmoothStep
from ..dynamics import SGD, AbstractDynamics, GradientFlow, TwoTimescaleLimit
from ..networks import ShallowNetwork
from ..problems import Regression
from ..targets import PiecewiseConstant


class Comparison(eqx.Module):
    """One start on one problem, trained by the gradient flow, by SGD, and in the two-timescale limit.

    The start and the stream of samples follow from `seed` alone; the start is taken as it is drawn.

    Raises `ValueError` for values that cannot be simulated.
    """

    name: str
    profile: str
    description: str
    epsilon: float
    """How many times slower the positions move. Of SGD and the flow: the limit has none."""
    step_size: float
    slow_time: float
    """The end of training, in slow time."""
    saves: int
    """After the start."""
    panels: tuple[float, ...]
    """Slow times at which the figure shows the functions."""
    first_save: float | None = None
    """Save times are equidistant, or with a `first_save` geometric from there on and drawn on a log scale."""
    frame_every: int = 1
    """Saves for each frame of the animation."""
    seed: int = 0
    neurons: int = 20
    eta: float = 4e-3
    noise: float = 1.0
    jumps: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65, 0.8)
    values: tuple[float, ...] = (1.0, 5.0, 1.0, 3.0, 1.0, 5.0)

    def __check_init__(self):
        for name in ("epsilon", "step_size", "slow_time", "eta"):
            checks.positive(name, getattr(self, name))
        checks.non_negative("noise", self.noise)
        checks.count("neurons", self.neurons)
        checks.count("saves", self.saves)
        if checks.count("seed", self.seed, at_least=0) >= 2**32:
            raise ValueError(f"seed must be below 2**32, got {self.seed}")
        if not 1 <= self.steps < 2**31:
            raise ValueError(
                f"slow time {self.slow_time:g} takes {self.slow_time / (self.epsilon * self.step_size):.2g} steps of "
                f"epsilon * step_size = {self.epsilon * self.step_size:.2g}: choose a step_size that takes 1 to 2**31"
            )

    @property
    def steps(self) -> int:
        """Steps of SGD."""
        return round(self.slow_time / (self.epsilon * self.step_size))

    @property
    def slow_times(self) -> Float[np.ndarray, " t"]:
        if self.first_save is None:
            return np.linspace(0.0, self.slow_time, self.saves + 1)
        return np.concatenate([[0.0], np.geomspace(self.first_save, self.slow_time, self.saves)])

    @property
    def problem(self) -> Regression:
        return Regression(PiecewiseConstant(self.jumps, self.values), self.noise)

    @property
    def start(self) -> ShallowNetwork:
        return ShallowNetwork.init(jax.random.key(self.seed), self.neurons, SmoothStep(self.eta))

    @property
    def stream(self) -> Key[Array, ""]:
        """The key of the samples, apart from the two keys that `ShallowNetwork.init` derives."""
        return jax.random.fold_in(jax.random.key(self.seed), 2)

    @property
    def dynamics(self) -> dict[str, AbstractDynamics]:
        return {
            "flow": GradientFlow(self.epsilon),
            "SGD": SGD(self.epsilon, self.step_size),
            "limit": TwoTimescaleLimit(),
        }

    @property
    def neurons_per_piece(self) -> tuple[int, ...]:
        """How many neurons of the start lie in each piece of the target."""
        edges = [0.0, *self.jumps, 1.0]
        return tuple(np.histogram(self.start.positions, edges)[0].tolist())
