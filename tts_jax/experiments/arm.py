"""What the experiments on fixed points train, and their figures show."""

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from ..trajectory import Trajectory


class Arm(eqx.Module):
    """All repeats with one ratio of step sizes; their leaves have a leading axis of repeats."""

    epsilon: float
    steps: Int[np.ndarray, " t"]
    """Those after which the runs are saved."""
    descent: Trajectory
    """Full-batch gradient descent; its risk is the norm of the residual over the number of points."""
    flow: Trajectory
    """The exact flow of the population risk from the same starts, up to the time that the descent has come to."""
    flow_loss: Float[np.ndarray, "repeats t"]
    """`(R/n)^(1/2)`: the loss of the descent, with the mean over all inputs in place of that over its points."""
    fast_time_of_risk: Float[np.ndarray, "repeats t"]
    r"""The fast time of the flow of the mean square, in which the norm's own passes: $\int dt/(2nL)$."""

    def at(self, steps: int) -> int:
        """The index of a save."""
        return int(np.flatnonzero(self.steps == steps)[0])
