"""The numbers of the one-dimensional experiments of Marion and Berthier (2023), arXiv 2304.09576."""

from collections.abc import Sequence

import numpy as np

JUMPS = (0.2, 0.35, 0.5, 0.65, 0.8)
VALUES = (1.0, 5.0, 1.0, 3.0, 1.0, 5.0)
NEURONS = 20
ETA = 4e-3
NOISE = 1.0


def floor(eta: float, values: Sequence[float]) -> float:
    r"""The error of the best network with one neuron at each jump: $\eta \sum_i w_i^2 / 28$, w the heights."""
    return eta * float(np.sum(np.diff(values) ** 2)) / 28
