r"""The reverse mode of `ensemble`: the adjoint of the steps that were taken, as of a function at fixed step sizes.

A step of `Rodas5P` from y solves $(s - J)\,U_i = f(p_i) + \frac{1}{h} \sum_{j<i} c_{ij} U_j$ with $p_i = y +
\sum_{j<i} a_{ij} U_j$, $s = 1/(\gamma h)$ and $J = f'(y)$. Its adjoint takes the stages from the last to the first.
With $\bar U_i$ from the end of the step, its saves and the stages after,

$$V_i = (s - J)^{-T}\,\bar U_i, \qquad \bar p_i = f'(p_i)^T V_i, \qquad
\bar U_j \mathrel{+}= a_{ij} \bar p_i + \frac{c_{ij}}{h} V_i \quad (j < i),$$

and $\bar y = \bar y_1 + \sum_i \bar p_i + \nabla_y \sum_i V_i^T J(y)\,U_i$. Parameters of f get
$\sum_i \nabla (V_i^T f(p_i) + V_i^T J(y)\,U_i)$.

The stages are computed again from the beginnings of the steps, and those from a `Tape`. Step sizes count as constants,
as they do in Diffrax. A run that did not reach a save has NaN as its gradient if the cotangent of that save is not 0.
"""

import abc
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._kernel import one_kernel, put_rows
from . import rodas5p
from .ensemble import (
    AbstractSideBySide,
    Control,
    Record,
    Runs,
    Solutions,
    chosen_of,
    combine,
    judged,
    next_step,
    of_runs,
    step,
)
from .tape import Moment


class Stages(NamedTuple):
    """Of a step, one after the other."""

    points: Float[Array, "8 n lanes"]
    rates: Float[Array, "8 n lanes"]
    """$f(p_i) + J(y)\\,U_i$."""
    u: Float[Array, "8 n lanes"]
    v: Float[Array, "8 n lanes"]


class AbstractReversible(AbstractSideBySide):
    """An equation that knows the transposes of what it does; written as $y' = f(y)$, with $M^{-1} f$ for f where it has
    a `mass`."""

    @abc.abstractmethod
    def solve_transposed(self, factors: PyTree, args: PyTree, r: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        """$(s - J)^{-T} r$, from the factors of `solve`."""

    @abc.abstractmethod
    def pull(self, y: Float[Array, "n lanes"], args: PyTree, v: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        """$f'(y)^T v$."""

    @abc.abstractmethod
    def pull_rates(
        self, y: Float[Array, "n lanes"], args: PyTree, stages: Stages, wanted: PyTree
    ) -> tuple[Float[Array, "n lanes"], PyTree]:
        r"""The gradient of $\sum_i v_i^T (f(p_i) + J(y)\,u_i)$ by y and by the parameters, at fixed $p_i$, $u_i$ and
        $v_i$; it may be zero for parameters that are not `wanted`."""


class _Solved(NamedTuple):
    """All runs that were solved, and what comes back to them."""

    args: PyTree
    times: Float[Array, "t runs"]
    control: Control
    steps: Int[Array, " runs"]
    record: Record
    bars: Float[Array, "t n runs"]
    """Cotangents of the saves, with their rows as they were then."""


class _Lanes(NamedTuple):
    run: Int[Array, " lanes"]
    entry: Int[Array, " lanes"]
    """Of the tape, the next to be taken; negative when none is left."""
    end: Float[Array, " lanes"]
    """Where the steps from that entry on end."""
    due: Int[Array, " lanes"]
    """How many saves are still to come."""
    bar: Float[Array, "n lanes"]
    args_bar: PyTree


def pull_back(
    runs: Runs, solutions: Solutions, record: Record, bar: Float[Array, "t n runs"], wanted: PyTree
) -> tuple[Float[Array, "n runs"], PyTree]:
    """The cotangents of y0 and, with one entry for each run, of those `args` that are `wanted`, from those of `saved`.

    `solutions` and `record` are what `ensemble.solve_recorded` has found.
    """
    equations, _, args, times, _, control, max_steps, width = runs
    width = min(width, bar.shape[-1])
    longest = 2 ** math.ceil(math.log2(max(1.0, max_steps / len(record.moments))))
    solved = _Solved(args, times, control, solutions.steps, record, jnp.take_along_axis(bar, record.rows, axis=1))
    last = jnp.max(record.last)
    found = jnp.zeros(bar.shape[1:], bar.dtype), _blank(args, bar.shape[-1])
    for i, equation in enumerate(equations):
        assert isinstance(equation, AbstractReversible)
        program = one_kernel(functools.partial(_pull_all, equation, wanted, longest, width))
        if len(equations) == 1:
            found = program(solved)
        else:
            found = jax.lax.cond(last == i, program, lambda _, x=found: x, solved)
    start, args_bar = found
    start = jnp.take_along_axis(start, jnp.argsort(record.order, axis=0), axis=0)
    start = start + jnp.sum(jnp.where((times <= 0)[:, None], bar, 0.0), axis=0)
    lost = jnp.any(jnp.isnan(solutions.saved) & (bar != 0), axis=(0, 1))
    return jax.tree.map(lambda x: jnp.where(lost, jnp.nan, x), (start, args_bar))


def _blank(args: PyTree, lanes: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[:-1], lanes), leaf.dtype), args)


def _pull_all(
    equation: AbstractReversible, wanted: PyTree, longest: int, width: int, runs: _Solved
) -> tuple[Float[Array, "n runs"], PyTree]:
    """So many runs at a time."""
    n, count = runs.record.order.shape
    portions = -(-count // width)

    def portion(i, results):
        lanes = _pull_portion(equation, wanted, longest, runs, i * width + jnp.arange(width))
        return jax.tree.map(
            lambda all_of, new: jax.lax.dynamic_update_slice_in_dim(all_of, new, i * width, all_of.ndim - 1),
            results,
            (lanes.bar, lanes.args_bar),
        )

    start = jnp.zeros((n, portions * width), runs.bars.dtype), _blank(runs.args, portions * width)
    return jax.tree.map(lambda x: x[..., :count], jax.lax.fori_loop(0, portions, portion, start))


def _pull_portion(
    equation: AbstractReversible, wanted: PyTree, longest: int, runs: _Solved, run: Int[Array, " lanes"]
) -> _Lanes:
    n, count = runs.record.order.shape
    record, chosen = runs.record, chosen_of(count, run)
    args, control = jax.tree.map(lambda leaf: of_runs(leaf, chosen), (runs.args, runs.control))
    steps, stride, end = jnp.where(run < count, runs.steps[chosen], 0), record.stride[chosen], record.end[chosen]
    lanes = _Lanes(
        run=chosen,
        entry=(steps + stride - 1) // stride - 1,
        end=end,
        due=jnp.sum((runs.times[:, chosen] <= end[None]).astype(int), axis=0),
        bar=jnp.zeros((n, len(run)), runs.bars.dtype),
        args_bar=_blank(args, len(run)),
    )

    def take_entry(carry):
        lanes, rows, space = carry
        begun = Moment.from_rows(record.moments[jnp.maximum(lanes.entry, 0), :, chosen])
        among = jnp.where(lanes.entry >= 0, jnp.minimum(stride, steps - lanes.entry * stride), 0)
        rows = put_rows(rows, begun.to_columns(), first)

        def advance(carry):
            lanes, now, done, i, rows, space = carry
            trying = (done < among - 1) & (now.t < lanes.end)
            replays = jnp.any(trying)
            row = Moment.from_rows(rows[first + i])
            now = jax.tree.map(lambda one, other: jnp.where(replays, one, other), now, row)
            to_try, t1 = next_step(now, lanes.end)
            active = jnp.where(replays, trying, (i < among) & (now.h > 0))
            h = jnp.where(active, jnp.where(replays, to_try, now.h), 1.0)
            y1, u, space = step(equation, now.y, args, h, space)

            def replay(lanes, now, done, rows):
                tried = judged(equation, now, h, t1, y1, u, args, control)
                accepted = tried.accepted & trying
                begun = now._replace(h=h).to_columns()
                rows = put_rows(rows, begun, jnp.where(accepted, first + done, len(rows) - 1))
                y, _ = equation.restored(jnp.where(accepted[None], y1, now.y), jnp.zeros(now.y.shape, int))
                moved = Moment(
                    y,
                    jnp.where(accepted, tried.t1, now.t),
                    jnp.where(trying, tried.next_h, now.h),
                    jnp.where(accepted, tried.inverse_error, now.before),
                )
                done = jnp.where(accepted, done + 1, done)
                last = moved._replace(h=lanes.end - moved.t).to_columns()
                rows = put_rows(rows, last, jnp.where(accepted, first + done, len(rows) - 1))
                return lanes, moved, done, rows

            def pull(lanes, now, done, rows):
                lanes = _pull_step(equation, wanted, runs, lanes, now, h, active, args, y1, u, space)
                return lanes, now, done, rows

            lanes, now, done, rows = jax.lax.cond(replays, replay, pull, lanes, now, done, rows)
            return lanes, now, done, jnp.where(replays, i, i - 1), rows, space

        start = lanes, begun, jnp.zeros_like(among), jnp.max(among) - 1, rows, space
        lanes, _, _, _, rows, space = jax.lax.while_loop(lambda carry: carry[3] >= 0, advance, start)
        end = jnp.where(lanes.entry >= 0, begun.t, lanes.end)
        return lanes._replace(entry=lanes.entry - 1, end=end), rows, space

    first = jnp.arange(len(run)) * longest
    rows = jnp.zeros((len(run) * longest + 1, n + 3), runs.bars.dtype)
    start = lanes, rows, equation.workspace(lanes.bar)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[0].entry >= 0), take_entry, start)[0]


def _pull_step(
    equation: AbstractReversible,
    wanted: PyTree,
    runs: _Solved,
    lanes: _Lanes,
    now: Moment,
    h: Float[Array, " lanes"],
    active: Bool[Array, " lanes"],
    args: PyTree,
    y1: Float[Array, "n lanes"],
    u: Float[Array, "8 n lanes"],
    factors: PyTree,
) -> _Lanes:
    """Back over one step of each lane."""
    y, rate = now.y, 1 / h
    y1_bar = _as_before(equation, y1, lanes.bar)
    a, c = (jnp.asarray(table, y.dtype) for table in (rodas5p.NEXT_A, rodas5p.NEXT_C))
    u_bar, y1_bar, y_bar, due = _pull_saves(runs, lanes, now, h, active, y1_bar)
    u_bar = u_bar + a[7][:, None, None] * y1_bar[None]
    a, c = (jnp.concatenate([jnp.zeros_like(table[:1]), table[:-1]]) for table in (a, c))

    def stage(carry, row):
        u_bar, y_bar = carry
        i, a, c = row
        v = equation.solve_transposed(factors, args, jax.lax.dynamic_index_in_dim(u_bar, i, 0, keepdims=False))
        point = y + combine(a, u)
        point_bar = equation.pull(point, args, v)
        u_bar = u_bar + a[:, None, None] * point_bar[None] + c[:, None, None] * (rate[None] * v)[None]
        own = jax.lax.dynamic_index_in_dim(u, i, 0, keepdims=False)
        return (u_bar, y_bar + point_bar), (point, (rate / rodas5p.GAMMA)[None] * own - rate[None] * combine(c, u), v)

    (_, y_bar), (points, rates, v) = jax.lax.scan(stage, (u_bar, y_bar + y1_bar), (jnp.arange(8), a, c), reverse=True)
    by_jacobian, args_bar = equation.pull_rates(y, args, Stages(points, rates, u, v), wanted)
    y_bar = y_bar + by_jacobian
    return lanes._replace(
        due=due,
        bar=jnp.where(active[None], y_bar, lanes.bar),
        args_bar=jax.tree.map(lambda total, x: total + jnp.where(active, x, 0.0), lanes.args_bar, args_bar),
    )


def _as_before(
    equation: AbstractReversible, y1: Float[Array, "n lanes"], bar: Float[Array, "n lanes"]
) -> Float[Array, "n lanes"]:
    """The cotangent of the rows as they were when the step ended, before they were restored to their order."""
    place = jax.lax.broadcasted_iota(int, y1.shape, 0)
    _, came_from = equation.restored(y1, place)

    def back(i, found):
        source, value = (jax.lax.dynamic_index_in_dim(x, i, 0, keepdims=True) for x in (came_from, bar))
        return jnp.where(place == source, value, found)

    return jax.lax.fori_loop(0, jnp.where(jnp.any(came_from != place), len(bar), 0), back, bar)


def _pull_saves(
    runs: _Solved,
    lanes: _Lanes,
    now: Moment,
    h: Float[Array, " lanes"],
    active: Bool[Array, " lanes"],
    y1_bar: Float[Array, "n lanes"],
) -> tuple[Float[Array, "8 n lanes"], Float[Array, "n lanes"], Float[Array, "n lanes"], Int[Array, " lanes"]]:
    """What the saves within a step give to its stages, its end and its beginning, one save of each lane at a time."""
    table = jnp.asarray(rodas5p.H, h.dtype)

    def time(due):
        return runs.times[jnp.maximum(due - 1, 0), lanes.run]

    def within(due):
        return active & (due > 0) & (time(due) > now.t) & (time(due) > 0)

    def one(carry):
        u_bar, y1_bar, y_bar, due = carry
        here = within(due)
        bar = jnp.moveaxis(runs.bars[jnp.maximum(due - 1, 0), :, lanes.run], -1, 0)
        bar = jnp.where(here[None], bar, 0.0)
        x = (time(due) - now.t) / h
        k1, k2, k3 = (table[k][:, None] for k in range(3))
        part = (x * (1 - x))[None] * (k1 + x[None] * (k2 + x[None] * k3))
        return (
            u_bar + part[:, None] * bar[None],
            y1_bar + x[None] * bar,
            y_bar + (1 - x)[None] * bar,
            jnp.where(here, due - 1, due),
        )

    start = jnp.zeros((8, *y1_bar.shape), h.dtype), y1_bar, jnp.zeros_like(y1_bar), lanes.due
    return jax.lax.while_loop(lambda carry: jnp.any(within(carry[3])), one, start)
