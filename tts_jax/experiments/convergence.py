"""How far two dynamics are apart, for each value of what parts them."""

from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy import stats

from ..diagnostics import Order, order
from .base import Finding, Table, Verdict, number

if TYPE_CHECKING:
    import xarray

MARGIN = 0.1
"""An order agrees with the expected one where its interval is so near to it, and does not where none of it is."""


class Convergence(eqx.Module):
    """How far one dynamics is from another, for each value of what parts them: a panel of the figure."""

    name: str
    """Of the pair, in words."""
    parameter: str
    """Its symbol."""
    measure: str
    """Of the errors."""
    expected: float
    """The order that theory gives."""
    values: Float[np.ndarray, " k"]
    errors: Float[np.ndarray, "k repeats"]
    """NaN for a run that failed."""
    repeat: str = "path"
    """What a repeat is."""

    @property
    def counted(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Values and errors of the runs that have not failed."""
        values = np.broadcast_to(self.values[:, None], self.errors.shape)
        known = np.isfinite(self.errors) & (self.errors > 0)
        return values[known], self.errors[known]

    @property
    def fit(self) -> Order | None:
        """None where runs failed for all values but one."""
        values, errors = self.counted
        return order(errors, values) if len(set(values)) > 1 else None

    @property
    def spread(self) -> float:
        """The standard deviation of the logarithm of an error over repeats; NaN where there are none."""
        if self.errors.shape[1] < 2:
            return np.nan
        return float(np.sqrt(np.mean(np.var(np.log(self.errors), axis=1, ddof=1))))

    @property
    def bands(self) -> Float[np.ndarray, "k 3"]:
        """The geometric mean over repeats, and its 95 % t interval on a log scale."""
        logs, repeats = np.log(self.errors), self.errors.shape[1]
        mean = logs.mean(axis=1)
        margin = np.zeros(len(mean))
        if repeats > 1:
            margin = stats.t.ppf(0.975, repeats - 1) * logs.std(axis=1, ddof=1) / repeats**0.5
        return np.exp(np.stack([mean, mean - margin, mean + margin], axis=1))

    @property
    def neighbours(self) -> Float[np.ndarray, "pairs repeats"]:
        """The slope of each repeat between neighbouring values."""
        return np.diff(np.log(self.errors), axis=0) / np.diff(np.log(self.values))[:, None]

    @property
    def finding(self) -> Finding:
        claim = f"{self.name}: the order in {self.parameter} is {self.expected:g}"
        values, _ = self.counted
        missing = f"; {self.errors.size - len(values)} of {self.errors.size} runs failed" * (
            len(values) < self.errors.size
        )
        if (fit := self.fit) is None:
            return Finding(claim, f"too few runs for a slope{missing}", Verdict.UNDECIDED)
        low, high = self.expected - MARGIN, self.expected + MARGIN
        holds, fails = low < fit.low and fit.high < high, fit.high < low or fit.low > high
        said = f"{fit} from {number(self.values.max())} to {number(self.values.min())}"
        if self.errors.shape[1] > 1 and not missing:
            slopes, steps = self.neighbours, np.abs(np.diff(np.log(self.values)))
            said += (
                f", {self.errors.shape[1]} {self.repeat}s each; between neighbouring {self.parameter} the slopes of "
                f"single {self.repeat}s scatter by {slopes.std(ddof=1):.2f} ({slopes.min():.2f} to "
                f"{slopes.max():.2f}): errors of single {self.repeat}s scatter by a factor {np.exp(self.spread):.2f}, "
                f"which makes {2**0.5 * self.spread / steps.mean():.2f}"
            )
        return Finding(claim, said + missing, Verdict.of(holds, fails))

    @property
    def table(self) -> Table:
        rows = tuple(
            (number(float(value)), *(number(float(x)) for x in band))
            for value, band in zip(self.values, self.bands, strict=True)
        )
        if self.errors.shape[1] == 1:
            return Table((self.parameter, self.measure), tuple(row[:2] for row in rows), self.name)
        return Table((self.parameter, f"{self.measure}, mean", "95 % from", "to"), rows, self.name)


def dataset(found: list[Convergence]) -> "xarray.Dataset":
    import xarray

    def axes(each: Convergence) -> tuple[str, str]:
        return f"value of {each.name}", f"{each.repeat} of {each.name}"

    return xarray.Dataset(
        {each.name: (axes(each), each.errors, {"long_name": each.measure}) for each in found},
        coords={axes(each)[0]: (axes(each)[0], each.values, {"long_name": each.parameter}) for each in found},
    )
