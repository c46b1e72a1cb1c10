"""What repeats say about a claim: a sign test, and the interval of the median that is its dual."""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.stats import binom

from .base import Verdict, number

LEVEL = 0.05
RULE = (
    "A claim about repeats holds, or fails, where the 95 % interval of a median lies wholly on its side, or on the "
    "other: where p < 0.05 in the exact two-sided sign test, which takes 6 repeats at least. Otherwise it is "
    "undecided. Each p-value is that of one comparison. A run that failed counts for neither side. A claim about one "
    "start is judged by its number."
)
"""For those who read the verdicts."""


class Repeats(eqx.Module):
    r"""One number of each independent repeat, and what they say about the median of all that could be drawn.

    The exact two-sided sign test of the hypothesis that the median is $m$ counts the values on either side of it: with
    $k$ of $n$ on the fuller one, $p = \min(1, 2 P(B \ge k))$, where $B$ is binomial with $n$ tries and probability 1/2.
    Its dual is the interval between two order statistics, of all $m$ with $p \ge 0.05$ (Conover, *Practical
    Nonparametric Statistics*, 3.2 and 3.4): a verdict and its p-value never contradict each other, whatever the values
    are distributed like. Fewer than 6 repeats bound nothing.

    NaN, a run that failed, and values equal to $m$ count for neither side: they may leave open what is decided without
    them, and decide nothing.
    """

    values: Float[np.ndarray, " n"]

    @classmethod
    def ratios(cls, first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> "Repeats":
        """Of pairs: 1 where both are equal, 0 and 0 too."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return cls(np.where(first == second, 1.0, first / second))

    @property
    def size(self) -> int:
        return len(self.values)

    @property
    def failed(self) -> int:
        return int(np.sum(np.isnan(self.values)))

    @property
    def median(self) -> float:
        """Of the runs that have not failed."""
        known = self.values[~np.isnan(self.values)]
        return float(np.median(known)) if known.size else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the median with a probability of at least 95 %; infinite on a side that nothing bounds."""
        outside = int(binom.ppf(LEVEL / 2, self.size, 0.5)) - 1
        if outside < 0:
            return -np.inf, np.inf
        low, high = (np.sort(np.where(np.isnan(self.values), bound, self.values)) for bound in (-np.inf, np.inf))
        return float(low[outside]), float(high[-1 - outside])

    def lower(self, median: float) -> int:
        return int(np.sum(self.values < median))

    def higher(self, median: float) -> int:
        return int(np.sum(self.values > median))

    def p_value(self, median: float) -> float:
        """Two-sided."""
        fuller = max(self.lower(median), self.higher(median))
        return min(1.0, 2 * float(binom.sf(fuller - 1, self.size, 0.5)))

    def below(self, bound: float) -> Verdict:
        """On the claim that the median is."""
        low, high = self.interval
        return Verdict.of(high < bound, low > bound)

    def above(self, bound: float) -> Verdict:
        """On the claim that the median is."""
        low, high = self.interval
        return Verdict.of(low > bound, high < bound)

    def between(self, smallest: float, largest: float) -> Verdict:
        """On the claim that the median is: a test of equivalence, its p-value the larger of those of both bounds."""
        return Verdict.all_of(self.above(smallest), self.below(largest))

    def said(self, *bounds: float) -> str:
        """The median, its interval, and the p-value at one bound, or the larger one at two."""
        low, high = self.interval
        bounded = f"95 %: {number(low)} to {number(high)}"
        missing = f", {self.failed} of {self.size} failed" if self.failed else ""
        few = "too few repeats for an interval"
        return (
            f"{number(self.median)} ({bounded if np.isfinite([low, high]).any() else few}, "
            f"p = {max(map(self.p_value, bounds)):.2g}{missing})"
        )
