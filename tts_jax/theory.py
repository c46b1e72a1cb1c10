"""What the mathematics predicts."""

import numpy as np
from jaxtyping import Float
from scipy.stats import poisson

from . import _checks as checks
from .targets import PiecewiseConstant


def probability_of_good_start(target: PiecewiseConstant, neurons: int, at_least: int = 2) -> float:
    r"""The probability that every piece of the target holds `at_least` two of `neurons` positions, uniform on [0, 1].

    With pieces of lengths $l_1, \dots, l_n$ it is $m!$ times the coefficient of $z^m$ in
    $\prod_i \sum_{k \ge 2} (l_i z)^k / k!$: independent Poisson numbers of means $m l_i$, given that their sum is m.
    From such a start the two-timescale limit reaches a global minimum (Marion and Berthier, 2023).

    >>> target = PiecewiseConstant([0.5], [0.0, 1.0])
    >>> round(probability_of_good_start(target, 4), 12)
    0.375

    Raises `ValueError` for `neurons` below 1, and for a target without pieces.
    """
    if not isinstance(target, PiecewiseConstant):
        raise ValueError(f"only a PiecewiseConstant target has pieces, got {checks.called(target)}")
    checks.count("neurons", neurons)
    checks.count("at_least", at_least, at_least=0)
    lengths = np.diff([0.0, *np.asarray(target.jumps, np.float64), 1.0])
    k = np.arange(neurons + 1)
    inside: Float[np.ndarray, " m"] = np.eye(1, neurons + 1)[0]
    for length in lengths:
        enough = np.where(k < at_least, 0.0, poisson.pmf(k, neurons * length))
        inside = np.convolve(inside, enough)[: neurons + 1]
    return min(1.0, float(inside[neurons] / poisson.pmf(neurons, neurons)))
