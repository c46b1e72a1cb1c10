r"""Many stiff initial value problems side by side, each with steps of its own.

All runs solve one autonomous equation $M y' = f(y)$ by `Rodas5P`, with their own parameters, starts and save times.
They lie along the last axis of every array, so that each instruction treats several of them, and a step has no call to
another library. A run that ends gives its lane to the next that waits; one that fails ends alone.
"""

import abc
import functools
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._kernel import one_kernel, put_rows, total
from . import rodas5p
from .tape import Moment, Tape

SOLVED, OUT_OF_STEPS, STALLED = 0, 1, 2


class AbstractSideBySide(eqx.Module):
    """The equation of all runs. Every array has the runs as its last axis, of one entry where they agree."""

    @abc.abstractmethod
    def velocity(self, y: Float[Array, "n lanes"], args: PyTree) -> Float[Array, "n lanes"]:
        """f."""

    def mass(self, x: Float[Array, "n lanes"], args: PyTree) -> Float[Array, "n lanes"]:
        """$M x$. Rows of M that are 0 are constraints, which the start must meet and f's derivative must resolve."""
        return x

    @abc.abstractmethod
    def workspace(self, y: Float[Array, "n lanes"]) -> PyTree:
        """Arrays that `factor` may use, and whose contents do not matter."""

    @abc.abstractmethod
    def factor(self, y: Float[Array, "n lanes"], args: PyTree, shift: Float[Array, " lanes"], space: PyTree) -> PyTree:
        """What `solve` needs of $s M - \\partial f/\\partial y$, in the structure of the workspace."""

    @abc.abstractmethod
    def solve(self, factors: PyTree, args: PyTree, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        """NaN where a step was too long for its matrix to be factored; it is then rejected."""

    def measured(
        self, error: Float[Array, "n lanes"], y: Float[Array, "n lanes"], args: PyTree
    ) -> Float[Array, "n lanes"]:
        """What counts of the error of a step from y, to be compared with the tolerance on each row."""
        return error

    def order(self, y: Float[Array, "n lanes"]) -> Int[Array, "n lanes"]:
        """The rows in the order that the equation wants at the beginning of a run."""
        return jax.lax.broadcasted_iota(int, y.shape, 0)

    def suits(self, y: Float[Array, "n lanes"], args: PyTree) -> Bool[Array, ""]:
        """Whether the workspace is large enough for a step from y."""
        return jnp.asarray(True)

    def restored(
        self, y: Float[Array, "n lanes"], row: Int[Array, "n lanes"]
    ) -> tuple[Float[Array, "n lanes"], Int[Array, "n lanes"]]:
        """In that order again after a step, and what goes along."""
        return y, row


class Control(NamedTuple):
    """Of the local error, kept below `atol + rtol * |y|` in the mean square; see `diffrax.PIDController`."""

    rtol: Float[Array, "#runs"]
    atol: Float[Array, "#runs"]
    pcoeff: float = 0.2
    icoeff: float = 0.5
    safety: float = 0.85


class Runs(NamedTuple):
    """What is to be solved, from time 0 to the last of `times`, which do not decrease.

    Leaves of `args` have the runs as their last axis, of one entry where they agree.
    """

    equations: Sequence[AbstractSideBySide]
    """The same but for their workspaces: the next is used from where one `suits` no more."""
    y0: Float[Array, "n runs"]
    """A run whose start is not finite has stalled at once."""
    args: PyTree
    times: Float[Array, "t runs"]
    first_step: Float[Array, " runs"]
    control: Control
    max_steps: int | Int[Array, ""]
    width: int
    """How many at a time."""


class Solutions(NamedTuple):
    saved: Float[Array, "t n runs"]
    """NaN after a failure."""
    status: Int[Array, " runs"]
    steps: Int[Array, " runs"]
    rejected: Int[Array, " runs"]


class Record(NamedTuple):
    """What else the reverse mode needs to know of runs that were solved."""

    order: Int[Array, "n runs"]
    """The rows as they were put at the beginning."""
    rows: Int[Array, "t n runs"]
    """And as they were at each save."""
    end: Float[Array, " runs"]
    """How far a run has come."""
    moments: Float[Array, "entries rows runs"]
    """Those of a `Tape`."""
    stride: Int[Array, " runs"]
    last: Int[Array, " runs"]
    """Which of the equations was needed."""


class _Lanes(NamedTuple):
    """What is being solved."""

    run: Int[Array, " lanes"]
    """Beyond the last where a lane is empty."""
    y: Float[Array, "n lanes"]
    row: Int[Array, "n lanes"]
    """Which row of the start has come to each place."""
    t: Float[Array, " lanes"]
    h: Float[Array, " lanes"]
    before: Float[Array, " lanes"]
    """The inverse error of the step before."""
    due: Int[Array, " lanes"]
    """The next save."""
    steps: Int[Array, " lanes"]
    rejected: Int[Array, " lanes"]


class _Queue(NamedTuple):
    """All runs, rows in order; `waiting` is the first that has no lane yet."""

    y0: Float[Array, "n runs"]
    row: Int[Array, "n runs"]
    args: PyTree
    times: Float[Array, "t runs"]
    first_step: Float[Array, " runs"]
    control: Control
    max_steps: int | Int[Array, ""]


class _Results(NamedTuple):
    """One entry for each run, and one more that nobody reads."""

    saved: Float[Array, "saves n"]
    """Save after save of the first run, then of the next."""
    row: Int[Array, "saves n"]
    status: Int[Array, " runs+1"]
    steps: Int[Array, " runs+1"]
    rejected: Int[Array, " runs+1"]
    end: Float[Array, " runs+1"]
    tape: Tape | None


class _Progress(NamedTuple):
    lanes: _Lanes
    waiting: Int[Array, ""]
    results: _Results
    left: Int[Array, ""]
    """Attempts in this part."""
    last: Int[Array, ""]
    """Which of the equations was needed."""


class Part(NamedTuple):
    """Of a solve that may not be finished."""

    queue: _Queue
    progress: _Progress

    @property
    def done(self) -> Bool[Array, ""]:
        return _is_done(self.queue, self.progress)

    @property
    def times(self) -> Float[Array, " lanes"]:
        """Where the lanes are."""
        return self.progress.lanes.t

    @property
    def steps(self) -> Int[Array, " lanes"]:
        """Of the runs that are in the lanes; of the last one to end where none is."""
        return jnp.where(self.done, self.progress.results.steps[-2], self.progress.lanes.steps)


def solve(runs: Runs) -> Solutions:
    return end(go_on(runs.equations, begin(runs), _no_limit()))


def solve_recorded(runs: Runs) -> tuple[Solutions, Record]:
    """The same, and what `ensemble_adjoint` needs."""
    n, count = runs.y0.shape
    assert isinstance(runs.max_steps, int)
    part = go_on(runs.equations, begin(runs, Tape.blank(n, count, runs.max_steps, runs.y0.dtype)), _no_limit())
    results = part.progress.results
    assert results.tape is not None

    def by_run(table):
        return jnp.moveaxis(table[:-1].reshape(count, -1, table.shape[1]), 0, -1)

    return end(part), Record(
        order=runs.equations[0].order(runs.y0),
        rows=by_run(results.row),
        end=results.end[:-1],
        moments=by_run(results.tape.moments),
        stride=results.tape.stride[:-1],
        last=jnp.full(count, part.progress.last),
    )


def begin(runs: Runs, tape: Tape | None = None) -> Part:
    """`solve`, before the first step: for a host that looks on between its parts."""
    equations, y0, args, times, first_step, control, max_steps, width = runs
    n, count = y0.shape
    saves = len(times)
    order = equations[0].order(y0)
    queue = _Queue(jnp.take_along_axis(y0, order, axis=0), order, args, times, first_step, control, max_steps)
    at_start = jnp.where((times <= 0).T[:, :, None], queue.y0.T[:, None, :], jnp.nan).reshape(count * saves, n)
    rows = jnp.broadcast_to(order.T[:, None, :], (count, saves, n)).reshape(count * saves, n)
    counts = jnp.zeros(count + 1, int)
    results = _Results(
        jnp.concatenate([at_start, at_start[:1]]),
        jnp.concatenate([rows, rows[:1]]),
        counts,
        counts,
        counts,
        jnp.zeros(count + 1, y0.dtype),
        tape,
    )
    width = min(width, count)
    none = jnp.zeros((), int)
    return Part(queue, _Progress(_begin(queue, jnp.arange(width)), jnp.asarray(width), results, none, none))


def go_on(equations: Sequence[AbstractSideBySide], part: Part, attempts: Int[Array, ""]) -> Part:
    """With so many attempts of a step more, at most."""
    queue, progress = part.queue, part.progress._replace(left=attempts)
    for i, equation in enumerate(equations):
        kernel = one_kernel(functools.partial(_go_on, equation))
        done = _is_done(queue, progress)
        progress = progress._replace(last=jnp.where(done, progress.last, i))
        progress = jax.lax.cond(done, lambda _, progress: progress, kernel, queue, progress)
    return Part(queue, progress)


def end(part: Part) -> Solutions:
    """What a finished solve has found."""
    queue, results = part.queue, part.progress.results
    (n, runs), saves = queue.y0.shape, len(queue.times)
    saved = jnp.take_along_axis(results.saved, jnp.argsort(results.row, axis=1), axis=1)[:-1].reshape(runs, saves, n)
    counted = (x[:-1] for x in (results.status, results.steps, results.rejected))
    return Solutions(jnp.moveaxis(saved, 0, -1), *counted)


def _no_limit() -> Int[Array, ""]:
    none = jnp.zeros((), int)
    return jnp.full_like(none, jnp.iinfo(none.dtype).max)


def _is_done(queue: _Queue, progress: _Progress) -> Bool[Array, ""]:
    return jnp.all(progress.lanes.run >= queue.y0.shape[1])


def _go_on(equation: AbstractSideBySide, queue: _Queue, progress: _Progress) -> _Progress:
    def goes_on(carry):
        progress, _ = carry
        goes_on = ~_is_done(queue, progress) & (progress.left > 0)
        return goes_on & equation.suits(progress.lanes.y, _args(queue, progress.lanes))

    def advance(carry):
        return _advance(equation, queue, *carry)

    start = _replace_ended(queue, progress), equation.workspace(progress.lanes.y)
    return jax.lax.while_loop(goes_on, advance, start)[0]


def _args(queue: _Queue, lanes: _Lanes) -> PyTree:
    return jax.tree.map(lambda leaf: of_runs(leaf, chosen_of(queue.y0.shape[1], lanes.run)), queue.args)


def chosen_of(runs: int, run: Int[Array, " lanes"]) -> Int[Array, " lanes"]:
    """The run of each lane, and any in an empty one."""
    return jnp.minimum(run, runs - 1)


def _begin(queue: _Queue, run: Int[Array, " lanes"]) -> _Lanes:
    chosen = chosen_of(queue.y0.shape[1], run)
    zeros = jnp.zeros(run.shape, queue.y0.dtype)
    counts = jnp.zeros(run.shape, int)
    return _Lanes(
        run=run,
        y=queue.y0[:, chosen],
        row=queue.row[:, chosen],
        t=zeros,
        h=queue.first_step[chosen],
        before=zeros + 1,
        due=jnp.sum(queue.times[:, chosen] <= 0, axis=0),
        steps=counts,
        rejected=counts,
    )


def _advance(
    equation: AbstractSideBySide, queue: _Queue, progress: _Progress, space: PyTree
) -> tuple[_Progress, PyTree]:
    """One attempt of a step in each lane."""
    lanes, runs = progress.lanes, queue.y0.shape[1]
    chosen, args = chosen_of(queue.y0.shape[1], lanes.run), _args(queue, lanes)
    end = queue.times[-1, chosen]
    control = jax.tree.map(lambda leaf: of_runs(leaf, chosen), queue.control)
    now = Moment(lanes.y, lanes.t, lanes.h, lanes.before)
    h, t1 = next_step(now, end)
    y1, stages, space = step(equation, now.y, args, h, space)
    tried = judged(equation, now, h, t1, y1, stages, args, control)
    accepted = tried.accepted & (lanes.run < runs)
    results, due = _save(queue, progress, tried, accepted, chosen)
    if results.tape is not None:
        begun = now._replace(h=tried.h)
        results = results._replace(tape=results.tape.recorded(begun, lanes.run, lanes.steps, accepted))
    y, row = equation.restored(jnp.where(accepted[None], tried.y1, lanes.y), lanes.row)
    moved = _Lanes(
        run=lanes.run,
        y=y,
        row=row,
        t=jnp.where(accepted, tried.t1, lanes.t),
        h=tried.next_h,
        before=jnp.where(accepted, tried.inverse_error, lanes.before),
        due=due,
        steps=jnp.where(accepted, lanes.steps + 1, lanes.steps),
        rejected=jnp.where(accepted, lanes.rejected, lanes.rejected + 1),
    )
    return _replace_ended(queue, progress._replace(lanes=moved, results=results, left=progress.left - 1)), space


def of_runs(leaf: Array, runs: Int[Array, " lanes"]) -> Array:
    return leaf if leaf.ndim == 0 or leaf.shape[-1] == 1 else leaf[..., runs]


class Attempt(NamedTuple):
    """A step that was tried."""

    h: Float[Array, " lanes"]
    t1: Float[Array, " lanes"]
    y1: Float[Array, "n lanes"]
    stages: Float[Array, "8 n lanes"]
    accepted: Bool[Array, " lanes"]
    next_h: Float[Array, " lanes"]
    inverse_error: Float[Array, " lanes"]


def next_step(now: Moment, end: Float[Array, " lanes"]) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
    """Its length and its end: `now.h`, or what is left."""
    left = end - now.t
    last = now.h >= left * (1 - 100 * jnp.finfo(left.dtype).eps)
    return jnp.where(last, left, now.h), jnp.where(last, end, now.t + now.h)


def judged(
    equation: AbstractSideBySide,
    now: Moment,
    h: Float[Array, " lanes"],
    t1: Float[Array, " lanes"],
    y1: Float[Array, "n lanes"],
    stages: Float[Array, "8 n lanes"],
    args: PyTree,
    control: Control,
) -> Attempt:
    error = _size(equation.measured(stages[-1], now.y, args), now.y, y1, control)
    accepted = error < 1
    factor, inverse = _next(error, accepted, now.before, control)
    return Attempt(h, t1, y1, stages, accepted, h * factor, inverse)


def step(
    equation: AbstractSideBySide, y: Float[Array, "n lanes"], args: PyTree, h: Float[Array, " lanes"], space: PyTree
) -> tuple[Float[Array, "n lanes"], Float[Array, "8 n lanes"], PyTree]:
    """The state after a step of Rodas5P, and its stages; the last of them estimates the error."""
    rate = 1 / h
    factors = equation.factor(y, args, rate / rodas5p.GAMMA, space)

    def stage(carry, row):
        stages, point, push = carry
        i, a, c = row
        u = equation.solve(factors, args, equation.velocity(point, args) + rate[None] * equation.mass(push, args))
        stages = jax.lax.dynamic_update_index_in_dim(stages, u, i, 0)
        # For the next stage: handed on, these sums are not taken again by each of their readers.
        return (stages, y + combine(a, stages), combine(c, stages)), None

    start = jnp.zeros((8, *y.shape), y.dtype), y, jnp.zeros_like(y)
    rows = jnp.arange(8), jnp.asarray(rodas5p.NEXT_A, y.dtype), jnp.asarray(rodas5p.NEXT_C, y.dtype)
    (stages, y1, _), _ = jax.lax.scan(stage, start, rows)
    return y1, stages, factors


def combine(weights: Float[Array, " 8"], stages: Float[Array, "8 n lanes"]) -> Float[Array, "n lanes"]:
    """Term by term: a contraction would call a library."""
    return sum((weights[i] * stages[i] for i in range(1, 8)), start=weights[0] * stages[0])


def _size(difference: Array, y0: Array, y1: Array, control: Control) -> Float[Array, " lanes"]:
    """In units of the tolerance; infinite where it is not a number."""
    scale = control.atol[None] + control.rtol[None] * jnp.maximum(jnp.abs(y0), jnp.abs(y1))
    error = jnp.sqrt(total((difference / scale) ** 2) / len(y0))
    return jnp.where(jnp.isfinite(error), error, jnp.inf)


def _next(
    error: Float[Array, " lanes"], accepted: Bool[Array, " lanes"], before: Float[Array, " lanes"], control: Control
) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
    """By which factor the step changes, and the inverse error for the next time."""
    inverse = 1 / error
    factor = control.safety * inverse ** ((control.icoeff + control.pcoeff) / 6) * before ** (-control.pcoeff / 6)
    factor = jnp.clip(factor, jnp.where(accepted, 1.0, 0.2), jnp.where(accepted, 10.0, control.safety))
    useful = (inverse > 0) & jnp.isfinite(inverse)
    return factor, jnp.where(useful, inverse, 1.0)


def _save(
    queue: _Queue,
    progress: _Progress,
    tried: Attempt,
    accepted: Bool[Array, " lanes"],
    chosen: Int[Array, " lanes"],
) -> tuple[_Results, Int[Array, " lanes"]]:
    """Everything that is due within the step, one save of each lane at a time."""
    lanes, saves, runs = progress.lanes, len(queue.times), queue.y0.shape[1]

    def reached(due):
        return accepted & (due < saves) & (queue.times[jnp.minimum(due, saves - 1), chosen] <= tried.t1)

    def one(carry):
        results, due = carry
        now = reached(due)
        x = ((queue.times[jnp.minimum(due, saves - 1), chosen] - lanes.t) / tried.h)[None]
        k1, k2, k3 = (combine(jnp.asarray(row, x.dtype), tried.stages) for row in rodas5p.H)
        value = (1 - x) * lanes.y + x * (tried.y1 + (1 - x) * (k1 + x * (k2 + x * k3)))
        place = jnp.where(now, lanes.run * saves + due, runs * saves)
        saved, row = put_rows(results.saved, value, place), put_rows(results.row, lanes.row, place)
        return results._replace(saved=saved, row=row), jnp.where(now, due + 1, due)

    return jax.lax.while_loop(lambda carry: jnp.any(reached(carry[1])), one, (progress.results, lanes.due))


def _ended(queue: _Queue, lanes: _Lanes) -> tuple[Bool[Array, " lanes"], Int[Array, " lanes"]]:
    """Which runs have ended, and how."""
    used, solved = lanes.run < queue.y0.shape[1], lanes.due == len(queue.times)
    spent = lanes.steps + lanes.rejected >= queue.max_steps
    stalled = (lanes.t + lanes.h == lanes.t) | ~jnp.all(jnp.isfinite(lanes.y), axis=0)
    status = jnp.where(solved, SOLVED, jnp.where(stalled, STALLED, OUT_OF_STEPS))
    return used & (solved | spent | stalled), status


def _replace_ended(queue: _Queue, progress: _Progress) -> _Progress:
    """Notes how runs have ended, and gives their lanes to those that wait."""
    runs = queue.y0.shape[1]

    def one_round(progress):
        lanes, results = progress.lanes, progress.results
        ended, status = _ended(queue, lanes)
        place = jnp.where(ended, lanes.run, runs)
        fresh = progress.waiting + jnp.cumsum(ended) - 1
        begun = _begin(queue, jnp.minimum(fresh, runs))
        return progress._replace(
            lanes=jax.tree.map(lambda new, old: jnp.where(jnp.broadcast_to(ended, old.shape), new, old), begun, lanes),
            waiting=progress.waiting + jnp.sum(ended),
            results=results._replace(
                status=put_rows(results.status, status, place),
                steps=put_rows(results.steps, lanes.steps, place),
                rejected=put_rows(results.rejected, lanes.rejected, place),
                end=put_rows(results.end, lanes.t, place),
            ),
        )

    # Again, where one that has just begun has ended at once.
    return jax.lax.while_loop(lambda progress: jnp.any(_ended(queue, progress.lanes)[0]), one_round, progress)
