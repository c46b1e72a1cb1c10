"""What the mathematics predicts."""

import itertools
import math

import numpy as np
from jaxtyping import Float

from . import _checks as checks
from .targets import PiecewiseConstant


def probability_of_good_start(target: PiecewiseConstant, neurons: int, at_least: int = 2) -> float:
    r"""The probability that every piece of the target holds `at_least` two of `neurons` positions, uniform on [0, 1].

    With pieces of lengths $l_1, \dots, l_n$ it is $m!$ times the coefficient of $z^m$ in
    $\prod_i \sum_{k \ge 2} (l_i z)^k / k!$, by dynamic programming over the pieces: after the first i of them, the
    probability that all hold enough, for each number of positions in them. From such a start the two-timescale limit
    reaches a global minimum (Marion and Berthier, 2023).

    >>> target = PiecewiseConstant([0.5], [0.0, 1.0])
    >>> probability_of_good_start(target, 4)
    0.375

    Raises `ValueError` for `neurons` below 1.
    """
    checks.count("neurons", neurons)
    edges = np.concatenate([[0.0], np.asarray(target.jumps, np.float64), [1.0]])
    inside: Float[np.ndarray, " m"] = np.eye(1, neurons + 1)[0]
    for first, last in itertools.pairwise(edges):
        share = (last - first) / last
        after = np.zeros_like(inside)
        for total in range(neurons + 1):
            # Of `total` positions left of `last`, k lie in this piece: binomial, and independent of how the rest lie.
            after[total] = sum(
                math.comb(total, k) * share**k * (1 - share) ** (total - k) * inside[total - k]
                for k in range(at_least, total + 1)
            )
        inside = after
    return float(inside[neurons])
