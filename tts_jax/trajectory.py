"""What `simulate` returns."""

import enum
import operator
import typing
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from . import _checks as checks
from ._program import program
from .networks import ShallowNetwork, trainable
from .problems import AbstractProblem

if TYPE_CHECKING:
    import xarray

T = TypeVar("T")

BEYOND_SENSE = 1e6
"""A run has diverged where its risk is so many times that of what has learned nothing."""
NEARLY_ZERO = 1e-8
"""At zero itself a model may have no derivative."""


class Status(enum.IntEnum):
    """How a run ended. A failed run keeps what it had computed; saves that it did not reach are NaN.

    >>> import tts_jax as tts
    >>> tts.Status(3).label
    'diverged'
    """

    SUCCESSFUL = 0
    """The last save time was reached."""
    MAX_STEPS = 1
    """The cap on solver steps was reached before the last save time."""
    SOLVER_FAILED = 2
    """The solver could not meet its tolerance, however small the step."""
    DIVERGED = 3
    """The state or the risk became infinite or NaN, or the start was; or the risk grew beyond any sense: to more
    than a million times the risk of the start, or that of the model with all its trainable leaves at zero if that is
    larger, plus the square of the `noise` of the labels. That depends on no unit, and where it is zero on nothing."""

    @property
    def label(self) -> str:
        """In words, as pictures and tables show it."""
        return self.name.lower().replace("_", " ")


class Stats(eqx.Module):
    """What a run cost; of many runs, each number with a leading axis of them."""

    method: str = eqx.field(static=True)
    """What was used, in words."""
    steps: Int[Array, ""]
    """Steps taken: of the ODE solver, of SGD, or events of the limit."""
    rejected: Int[Array, ""]
    """Solver steps that were tried and thrown away; 0 where there is no error control."""
    factorisations: Int[Array, ""] | None = None
    """Of the Jacobian by Rodas5P, one for each step that was tried; None for a method that does not count them."""

    @property
    def waste(self) -> Float[Array, ""]:
        """The largest over the mean number of steps tried, of many runs: how much longer all of them take as lanes of
        `jax.vmap`, where each waits for the slowest, than by `run_each`, where none does. 1 for a single run."""
        tried = (self.steps + self.rejected).astype(float)
        return jnp.max(tried) / jnp.mean(tried)


class Trajectory(eqx.Module):
    """One run, at the save times that were asked for: what `simulate` returns.

    Three clocks: slow time tau, fast time t = tau / epsilon (the smallest), and, for SGD, the step p = t / step_size. A
    dynamics that lacks a clock has None there. SGD saves the step nearest to a save time, so that its `fast_time =
    step_size * step` may be off `slow_time / epsilon` by half a step. Of many runs, as `jax.vmap` and `run_each` give
    them, every array has a leading axis of runs.

    >>> import jax, tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> model = tts.ShallowNetwork.init(jax.random.key(0), 4, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.SGD(0.1, 0.01), model, problem, [0.0, 0.01, 0.02], key=jax.random.key(1))
    >>> run.model.positions.shape, run.at(-1).positions.shape
    ((3, 4, 1), (4, 1))
    """

    slow_time: Float[Array, " t"]
    """The save times, as they were asked for."""
    fast_time: Float[Array, " t"] | None
    """Of each save."""
    step: Int[Array, " t"] | None
    """Of SGD, how many there had been at each save."""
    model: PyTree
    """Trainable leaves have a leading time axis, frozen ones too; all others are as in the start."""
    risk: Float[Array, " t"]
    """`problem.risk` of the model at each time: a squared error without a factor 1/2, and without label noise."""
    status: Int[Array, ""]
    """A `Status`."""
    stats: Stats
    end: PyTree = None
    """What the dynamics needs to go on from the last save beside the model and the clocks: of SGD, the state of its
    optimiser and, in 32-bit, the compensation of rounding; else None."""

    def __repr__(self):
        """How it ended, and when, with the first and the last risk; of many runs, how many ended in which way."""
        known = checks.concrete(self.status)
        if known is None or checks.concrete((self.slow_time, self.risk)) is None:
            return super().__repr__()
        ends = {status.label: int((known == status).sum()) for status in Status}
        if known.ndim:
            counts = ", ".join(f"{n:,} {name}" for name, n in ends.items() if n)
            return f"Trajectory({known.size:,} runs: {counts})"
        (how,) = (name for name, n in ends.items() if n)
        times, risk = np.asarray(self.slow_time), np.asarray(self.risk)
        reached = max(np.flatnonzero(np.isfinite(risk)), default=0)
        early = "" if reached == len(times) - 1 else f" of {times[-1]:.4g}"
        return (
            f"Trajectory({how}, slow time {times[0]:.4g} to {times[reached]:.4g}{early}, {len(times):,} saves, "
            f"risk {risk[0]:.4g} to {risk[reached]:.4g}; {self.stats.method}, {int(self.stats.steps):,} steps)"
        )

    def at(self, index: Int[ArrayLike, ""]) -> PyTree:
        """The model at one save time, the `index` of which counts from 0; -1 is the last.

        Raises `IndexError` for an index out of range, and `ValueError` for many runs.
        """
        refuse_many_runs(self, "use jax.vmap(lambda run: run.at(index))(runs)")
        saves, known = len(self.slow_time), typing.cast(Any, index)
        if not isinstance(index, jax.core.Tracer):
            try:
                fits = not isinstance(known, bool) and -saves <= operator.index(known) < saves
            except TypeError:
                fits = False
            if not fits:
                raise IndexError(
                    f"index must be an integer from {-saves} to {saves - 1} for {saves} saves, got "
                    f"{checks.shown(index)}: it counts saves, see trajectory.slow_time for their times"
                )
        stacked, fixed = eqx.partition(self.model, trainable(self.model))
        return eqx.combine(jax.tree.map(lambda leaf: leaf[index], stacked), fixed)

    def map(self, measure: Callable[[PyTree], T]) -> T:
        """`measure(model)` of the model at each save time, stacked: its arrays have a leading time axis.

        `measure` is the loss on other data, an accuracy, the weights of one neuron, whatever JAX can trace; also under
        `jit` and `vmap`.

        >>> import jax, tts_jax as tts
        >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
        >>> model = tts.ShallowNetwork.init(jax.random.key(0), 4, tts.SmoothStep(0.2))
        >>> run = tts.simulate(tts.SGD(0.1, 0.01), model, problem, [0.0, 0.01, 0.02], key=jax.random.key(1))
        >>> run.map(lambda model: model(0.3)).shape
        (3,)

        Raises `ValueError` for what cannot be called, and for many runs.
        """
        refuse_many_runs(self, "use jax.vmap(lambda run: run.map(measure))(runs)")
        checks.function("measure", measure, "problem.risk")
        return over_time(measure, self.model)

    def then(self, later: "Trajectory") -> "Trajectory":
        """This run and a `later` one that went on from it, as one; a save that both have, at the end of this and the
        beginning of the other, is there once.

        >>> import jax, tts_jax as tts
        >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
        >>> model = tts.ShallowNetwork.init(jax.random.key(0), 4, tts.SmoothStep(0.2))
        >>> sgd, key = tts.SGD(0.1, 0.01), jax.random.key(1)
        >>> run = tts.simulate(sgd, model, problem, [0.0, 0.01], key=key)
        >>> run.then(tts.simulate(sgd, run, problem, [0.01, 0.02], key=key)).step.tolist()
        [0, 10, 20]

        A clock that one of them lacks is None. Steps add up. Also for many runs at once, of one set of save times.

        Raises `ValueError` where `later` begins before this run ends, or has another model.
        """
        if not isinstance(later, Trajectory):
            raise ValueError(f"then needs a trajectory, got {checks.called(later)}: pass what simulate returned")
        times = checks.concrete(self.slow_time), checks.concrete(later.slow_time)
        if times[0] is None or times[1] is None:
            raise ValueError("then must know the save times, got traced ones: call it outside of jax.jit and jax.vmap")
        last, first = times[0][..., -1], times[1][..., 0]
        if last.shape != first.shape or np.any(first < last):
            raise ValueError(
                f"then needs a run that begins where this one ends, at slow time {last.max():g}, got one from "
                f"{first.min():g} on: make it by simulate(dynamics, trajectory, ...)"
            )
        (mine, fixed), (its, others) = (eqx.partition(run.model, trainable(run.model)) for run in (self, later))
        if not eqx.tree_equal((jax.tree.map(jnp.ndim, mine), fixed), (jax.tree.map(jnp.ndim, its), others)):
            raise ValueError(
                f"then joins runs of one model, got {type(self.model).__name__} and {type(later.model).__name__} that "
                "differ in what does not train: keep the two trajectories"
            )
        join: Callable[..., Trajectory] = partial(_joined, skip=int(np.all(first == last)))
        for _ in range(last.ndim):
            join = eqx.filter_vmap(join)
        return join(self, later)

    def to_xarray(self) -> "xarray.Dataset":
        """Labelled: dimensions `slow_time`, `neuron`, `coordinate`; status and cost as attributes.

        Raises `ValueError` for a model that is not a `ShallowNetwork`, and for many runs.
        """
        import xarray

        refuse_many_runs(self, "take one of them, or use tts_jax.sweep")
        if not isinstance(self.model, ShallowNetwork):
            raise ValueError(
                f"to_xarray labels the leaves of a ShallowNetwork, got {type(self.model).__name__}: "
                "read trajectory.model instead"
            )
        per_neuron = ("slow_time", "neuron", "coordinate")
        variables: dict = {
            "risk": ("slow_time", self.risk, {"long_name": "mean squared error"}),
            "weights": (per_neuron, self.model.weights),
            "positions": (per_neuron, self.model.positions),
        }
        optional = {"bias": self.model.bias, "fast_time": self.fast_time, "step": self.step}
        variables |= {name: ("slow_time", value) for name, value in optional.items() if value is not None}
        return xarray.Dataset(
            {name: (dims, np.asarray(value), *rest) for name, (dims, value, *rest) in variables.items()},
            coords={"slow_time": ("slow_time", np.asarray(self.slow_time), {"long_name": "slow time tau"})},
            attrs={
                "status": Status(int(self.status)).name.lower(),
                "method": self.stats.method,
                "steps": int(self.stats.steps),
                "rejected": int(self.stats.rejected),
            },
        )


def _joined(run: Trajectory, later: Trajectory, skip: int) -> Trajectory:
    """Without the first `skip` saves of the later one."""

    def along_time(one: Any, other: Any) -> Any:
        if one is None or other is None:
            return None
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b[skip:]]), one, other)

    def total(one: Any, other: Any) -> Any:
        return None if one is None or other is None else one + other

    (mine, fixed), (its, _) = (eqx.partition(each.model, trainable(each.model)) for each in (run, later))
    a, b = run.stats, later.stats
    return Trajectory(
        slow_time=along_time(run.slow_time, later.slow_time),
        fast_time=along_time(run.fast_time, later.fast_time),
        step=along_time(run.step, later.step),
        model=eqx.combine(along_time(mine, its), fixed),
        risk=along_time(run.risk, later.risk),
        status=jnp.where(run.status == Status.SUCCESSFUL, later.status, run.status),
        stats=Stats(
            a.method if a.method == b.method else f"{a.method}, then {b.method}",
            total(a.steps, b.steps),
            total(a.rejected, b.rejected),
            total(a.factorisations, b.factorisations),
        ),
        end=later.end,
    )


def refuse_many_runs(run: Trajectory, mend: str) -> None:
    if run.slow_time.ndim != 1:
        raise ValueError(
            f"a trajectory of many runs has another first axis than time, got slow_time of shape "
            f"{run.slow_time.shape}: {mend}"
        )


def over_time(measure: Callable[[PyTree], T], model: PyTree) -> T:
    """`measure` of the model at each time, for a model with a leading time axis on its trainable leaves."""
    stacked, fixed = eqx.partition(model, trainable(model))
    return jax.vmap(lambda leaves: measure(eqx.combine(leaves, fixed)))(stacked)


@program
def risk_and_status(
    problem: AbstractProblem, start: PyTree, model: PyTree, status: Int[Array, ""]
) -> tuple[Float[Array, " t"], Int[Array, ""]]:
    """The risk of the saved model at each time, and how the run ended: whether it has diverged is decided here."""
    begin = jax.lax.stop_gradient(eqx.filter(start, trainable(start)))
    saved, fixed = eqx.partition(model, trainable(model))
    # Beside the saves, so that the risk is compiled once.
    rows = jax.tree.map(lambda leaf, many: jnp.concatenate([NEARLY_ZERO * leaf[None], leaf[None], many]), begin, saved)
    risk = over_time(problem.risk, eqx.combine(rows, fixed))
    large = BEYOND_SENSE * (jnp.fmax(risk[0], risk[1]) + problem.label_noise.astype(risk.dtype) ** 2)
    sensible = jnp.isfinite(risk[2:]) & ((risk[2:] <= large) | (large == 0))
    diverged = (status == Status.SUCCESSFUL) & ~jnp.all(sensible) | ~is_finite(begin)
    return risk[2:], jnp.where(diverged, jnp.asarray(Status.DIVERGED, status.dtype), status)


def is_finite(leaves: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(leaves)]))
