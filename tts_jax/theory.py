"""What the mathematics predicts."""

import functools
import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from . import _checks as checks
from .dynamics.limit import pair
from .networks import ShallowNetwork
from .problems import AbstractProblem, Regression
from .targets import PiecewiseConstant

NEGLIGIBLE = 1e-100
"""A probability that is left out."""


def hit_times(model: ShallowNetwork, problem: Regression) -> Float[Array, " n"]:
    r"""The slow time at which a neuron hits each jump of the target in the limit $\epsilon \to 0$, then $\eta \to 0$.

    From the positions of `model`, a one-dimensional `ShallowNetwork` of steps, to the jumps of the `PiecewiseConstant`
    target of `problem`, a `Regression`. A jump of size w with its left and right neighbouring neurons at distances
    $p \le q$ (mirrored where the right one is nearer) is hit at $T/w^2$,

    $$T = \int_0^p \left(1 + \frac{s}{(s^3 + K)^{1/3}}\right)^2 ds
        = p + p^2 K^{-1/3}\,{}_2F_1(1/3, 2/3; 5/3; -p^3/K) + q - K^{1/3}, \qquad K = q^3 - p^3,$$

    so that $p \le T \le 4p$. In the first and the last piece 0 or 1 takes the place of a missing neuron and does not
    move: from gaps p of the neuron and Q of the boundary, $T = ((p + Q)^3 - Q^3)/(3Q^2)$.

    That is what happens where `obstacle(model, problem)` is empty: each jump then keeps its neighbours to itself.
    Infinite for every jump where it is not, as no closed form is known; and for a jump of height 0, or one that no
    neuron in (0, 1) is beside. Weights and bias do not matter.

    Shape (n,), for n jumps; differentiable in both modes with respect to positions, jumps and values, except that at p
    = q, where T has a cusp, its infinite part is left out. Also under `jit` and `vmap`. Against quadrature of the
    integral, for p/q from 1e-12 to 1, the relative error is below 1e-15; in 32-bit it is that of rounded distances.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 2.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.4], [0.6]], 0.0, tts.SmoothStep(4e-3))
    >>> print(hit_times(model, problem).round(4))
    [0.1]

    Raises `ValueError` for anything but a one-dimensional `ShallowNetwork` of steps on a `PiecewiseConstant` target.

    Source: integrates the equations of Marion and Berthier (2023), arXiv 2304.09576; `diagnostics.hit_times` measures
    the same of a `GradientFlow`.
    """
    positions, target = _staircase(model, problem)
    times = pair.hit_times(positions, target)
    return jnp.where(pair.has_closed_form(positions, target), times, jnp.inf)


def obstacle(model: ShallowNetwork, problem: Regression) -> str:
    """Why `hit_times(model, problem)` knows no closed form for this start, in a sentence; empty where it knows one.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, 0.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.4], [0.7]], 0.0, tts.SmoothStep(4e-3))
    >>> obstacle(model, problem)
    'piece 1, from 0.3 to 0.6, holds 1 neuron: both its jumps need one of their own'

    Raises `ValueError` as `hit_times` does, and for traced positions or jumps.
    """
    positions, target = _staircase(model, problem)
    u, jumps = checks.concrete(positions), checks.concrete(target.jumps)
    if u is None or jumps is None:
        raise ValueError("obstacle must know positions and jumps, got traced ones: call it outside of jit and vmap")
    acting = np.sort(u[(u > 0) & (u < 1)])
    for k, (left, right) in enumerate(itertools.pairwise(jumps), 1):
        if (held := int(np.sum((acting > left) & (acting <= right)))) < 2:
            neurons = "1 neuron" if held else "no neuron"
            return f"piece {k}, from {left:g} to {right:g}, holds {neurons}: both its jumps need one of their own"
    if (equal := np.diff(acting) == 0).any():
        return f"two neurons coincide at {acting[np.argmax(equal)]:g}: together they move at half the speed of one"
    return ""


def conserved(model: ShallowNetwork, problem: Regression) -> Float[Array, " n"]:
    r"""$K = q^3 - p^3$ of each jump, shape (n,), for its left and right neighbouring neurons at distances p and q.

    The two-timescale limit conserves it from the start to the hit, exactly, where `obstacle(model, problem)` is empty;
    the nearer neuron hits the jump, and the other comes to rest at the distance $|K|^{1/3}$. At finite $\epsilon$ and
    $\eta$ it drifts by $O(\epsilon)$ and $O(\eta)$.

    NaN for a jump that has no neuron in (0, 1) on one of its sides, and for one that a neuron has hit. Of a run it is
    `trajectory.map(lambda model: conserved(model, problem))`.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 2.0]))
    >>> model = tts.ShallowNetwork([[0.0], [0.0]], [[0.4], [0.7]], 0.0, tts.SmoothStep(4e-3))
    >>> conserved(model, problem).round(12).tolist()  # 0.2**3 - 0.1**3
    [0.007]

    Raises `ValueError` as `hit_times` does.

    Source: from the equations of Marion and Berthier (2023), arXiv 2304.09576.
    """
    gaps = pair.gaps_of(*_staircase(model, problem))
    return jnp.where(gaps.has_left & gaps.has_right & (gaps.left > 0), pair.cubes(gaps.left, gaps.right), jnp.nan)


def floor(problem: Regression, eta: Real[ArrayLike, ""]) -> Float[Array, ""]:
    r"""$\frac{\eta}{28} \sum_i w_i^2$, the risk that steps of width `eta` leave on the `PiecewiseConstant` target of
    `problem`.

    It is the risk of one `SmoothStep` neuron at each jump, of the jump's height $w_i$, to rounding, where the jumps are
    `eta` apart and `eta / 2` from 0 and 1; of all coordinates of an `Additive` target. The best weights at these
    positions leave $1 - O(\eta)$ times as much (0.2 % less for the paper's target at $\eta = 0.004$). Two neurons that
    merge on a jump, of weights that grow without bound, leave less.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.3, 0.6], [0.0, 1.0, -1.0]))
    >>> round(float(floor(problem, 0.028)), 12)
    0.005

    Raises `ValueError` for an `eta` that is not positive and for another target.
    """
    eta = checks.as_float(checks.positive("eta", eta))
    return eta / 28 * sum(jnp.sum(target.heights**2) for target in _targets(problem))


def smallest_risk(problem: Regression, neurons: int) -> float:
    r"""The least risk on `problem` of all functions that are constant between `neurons` breakpoints: a sharp network's
    with a bias.

    A minimum of the two-timescale limit is global where its risk is this, local where it is more. Of an `Additive`
    target each coordinate has as many breakpoints, and their risks add up.

    Only breakpoints on jumps matter: with the constants held, the risk is linear in a breakpoint as long as it stays in
    a piece of the target, so that it may be moved to one end of it, or to another breakpoint, without loss. Which jumps
    is then a grouping of pieces in a row, solved exactly in $O(n^2 \cdot \text{neurons})$ for n jumps by dynamic
    programming, in sums of terms that are not negative: to rounding.

    >>> import tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.25, 0.75], [0.0, 2.0, 0.0]))
    >>> [smallest_risk(problem, neurons) for neurons in (1, 2)]
    [0.6666666666666666, 0.0]

    Raises `ValueError` for `neurons` below 1 and for a target that is not `PiecewiseConstant`.

    Source: Fisher (1958), On grouping for maximum homogeneity, J. Amer. Statist. Assoc. 53; Bellman (1961), On the
    approximation of curves by line segments using dynamic programming, Comm. ACM 4.
    """
    checks.count("neurons", neurons)
    return sum(_smallest(target, neurons) for target in _targets(problem))


def probability_of_good_start(target: PiecewiseConstant, neurons: int, at_least: int = 2) -> float:
    r"""The probability that every piece of the `target` holds `at_least` (by default two) of m = `neurons` positions,
    i.i.d. uniform on [0, 1].

    With pieces of lengths $l_1, \dots, l_n$ and $k_0$ = `at_least` it is $m!$ times the coefficient of $z^m$ in
    $\prod_i \sum_{k \ge k_0} (l_i z)^k / k!$: independent Poisson numbers of means $m l_i$, given that their sum is m.
    From a start with two in every piece the two-timescale limit reaches a global minimum (Marion and Berthier, 2023).

    Sums of positive terms alone: the relative error is that of the lengths, rounded, below 1e-11 for 100,000 neurons,
    which take 0.05 s with six pieces. A probability below 1e-90 may come out as 0.

    >>> target = PiecewiseConstant([0.5], [0.0, 1.0])
    >>> round(probability_of_good_start(target, 4), 12)
    0.375

    Raises `ValueError` for `neurons` below 1, a negative `at_least`, and for a target without pieces.
    """
    if not isinstance(target, PiecewiseConstant):
        raise ValueError(f"only a PiecewiseConstant target has pieces, got {checks.called(target)}")
    checks.count("neurons", neurons)
    checks.count("at_least", at_least, at_least=0)
    lengths = np.diff([0.0, *np.asarray(target.jumps, np.float64), 1.0])
    pieces = (_Numbers.poisson(neurons * length, at_least) for length in lengths)
    inside = functools.reduce(lambda one, other: one.plus(other, neurons), pieces)
    return min(1.0, inside.of(neurons) / _Numbers.poisson(float(neurons)).of(neurons))


def _staircase(model: ShallowNetwork, problem: Regression) -> tuple[Float[Array, " m"], PiecewiseConstant]:
    """Positions and target."""
    if not isinstance(problem, AbstractProblem):
        raise ValueError(f"a problem must follow the model, got {checks.called(problem)}: pass a Regression")
    problem.check(model)
    staircase = problem.structure(model).staircase
    if staircase is None:
        raise ValueError(
            "the limit is known for a ShallowNetwork of steps with positions of shape (neurons, 1) and a Regression "
            f"on a PiecewiseConstant target, got {type(model).__name__} of "
            f"{type(getattr(model, 'activation', None)).__name__} and {type(problem).__name__}"
        )
    return model.positions[:, 0], staircase(problem)


def _targets(problem: Regression) -> list[PiecewiseConstant]:
    """Of each coordinate."""
    if not isinstance(problem, Regression):
        raise ValueError(f"this is known for a Regression, got {checks.called(problem)}: pass Regression(target)")
    targets = [target for target in problem.components if isinstance(target, PiecewiseConstant)]
    if len(targets) < len(problem.components):
        raise ValueError(
            f"this is known for PiecewiseConstant targets, got {checks.called(problem.target)}: "
            "pass Regression(PiecewiseConstant(jumps, values))"
        )
    return targets


def _smallest(target: PiecewiseConstant, breakpoints: int) -> float:
    """Sums over pieces i to j are those over pairs of pieces: no square is subtracted from another."""
    values = np.asarray(target.values, np.float64)
    lengths = np.diff([0.0, *np.asarray(target.jumps, np.float64), 1.0])
    pairs = np.triu(np.outer(lengths, lengths) * np.subtract.outer(values, values) ** 2)
    spread = np.cumsum(np.cumsum(pairs[::-1], axis=0)[::-1], axis=1)
    length = np.triu(np.cumsum(lengths) - np.append(0.0, np.cumsum(lengths)[:-1])[:, None])
    cost = np.where(length > 0, spread / np.where(length > 0, length, 1.0), np.inf)
    least = cost[0]
    for _ in range(min(breakpoints, len(values) - 1)):
        # Pieces 0 to i - 1 as before, and i to j as one more group.
        least = np.minimum(least, np.min(np.append(0.0, least[:-1])[:, None] + cost, axis=0))
    return float(least[-1])


class _Numbers(NamedTuple):
    """Of neurons, from `first` on, and their probabilities."""

    first: int
    probabilities: Float[np.ndarray, " k"]

    @classmethod
    def between(cls, at_least: int, at_most: int, first: int, probabilities: Float[np.ndarray, " n"]) -> "_Numbers":
        """Without those that do not count."""
        number = first + np.arange(len(probabilities))
        kept = np.flatnonzero((probabilities > NEGLIGIBLE) & (number >= at_least) & (number <= at_most))
        if not len(kept):
            return cls(at_least, np.zeros(1))
        return cls(int(number[kept[0]]), probabilities[kept[0] : kept[-1] + 1])

    @classmethod
    def poisson(cls, mean: float, at_least: int = 0) -> "_Numbers":
        """By ratios from the mode on: logarithms of factorials would cost digits."""
        mode = int(mean)
        up = np.cumprod(mean / np.arange(mode + 1, 2 * mode + 400))
        down = np.cumprod(np.arange(mode, 0, -1) / mean)
        ratios = np.concatenate([down[::-1], [1.0], up])
        return cls.between(at_least, len(ratios), 0, ratios / ratios.sum())

    def plus(self, other: "_Numbers", at_most: int) -> "_Numbers":
        sums = np.convolve(self.probabilities, other.probabilities)
        return _Numbers.between(0, at_most, self.first + other.first, sums)

    def of(self, number: int) -> float:
        at = number - self.first
        return float(self.probabilities[at]) if 0 <= at < len(self.probabilities) else 0.0
