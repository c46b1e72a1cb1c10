"""How fast errors fall with a parameter."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from .. import _checks as checks

CONFIDENCE = 0.95


class Order(eqx.Module):
    """`error = constant * parameter**order`, fitted; the order lies between `low` and `high` with a confidence of 95 %,
    where errors scatter about the line independently, normally and alike on a log scale."""

    order: float
    low: float
    high: float
    constant: float

    def __str__(self):
        return f"{self.order:.3f} (95 %: {self.low:.3f} to {self.high:.3f})"


def order(
    errors: Float[Array | np.ndarray, " k"] | list[float], parameters: Float[Array | np.ndarray, " k"] | list[float]
) -> Order:
    r"""The observed order of convergence: the slope of $\log(\text{error})$ over $\log(\text{parameter})$.

    By least squares, with the t interval of the slope for k - 2 degrees of freedom: k `parameters`, for instance values
    of $\epsilon$, $\eta$ or the step size, and k `errors`, one for each. Several errors of one parameter, of other
    seeds, are rows of their own. Two rows alone have a slope, and an interval without ends.

    >>> print(order([0.1, 0.052, 0.026, 0.0124], [8e-3, 4e-3, 2e-3, 1e-3]))
    1.003 (95 %: 0.919 to 1.088)

    Raises `ValueError` for fewer than two different parameters, for as many errors as there are not, and for what is
    not positive and finite.

    Source: Draper and Smith (1998), Applied Regression Analysis, chapter 1.
    """
    x, y = (_logarithms(name, value) for name, value in (("parameters", parameters), ("errors", errors)))
    if x.shape != y.shape:
        raise ValueError(f"errors and parameters must be as many, got {len(y)} and {len(x)}: pass one error for each")
    if np.ptp(x) == 0:
        raise ValueError("parameters must be two different ones at least, got one: pass e.g. parameters=[0.1, 0.01]")
    fit = stats.linregress(x, y)
    freedom = len(x) - 2
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * fit.stderr if freedom else np.inf
    slope = float(fit.slope)
    return Order(slope, slope - float(margin), slope + float(margin), float(np.exp(fit.intercept)))


def _logarithms(name: str, value: object) -> Float[np.ndarray, " k"]:
    known = checks.concrete(checks.vector(name, value))
    if known is None:
        raise ValueError(f"{name} must be known numbers, got traced ones: call order outside of jax.jit and jax.vmap")
    if not known.size or not (known > 0).all():
        got = known.min() if known.size else "none"
        raise ValueError(f"{name} must be positive, got {got}: a power law has no others")
    return np.log(known.astype(float))
