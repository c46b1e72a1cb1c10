"""How the steps of many runs began: every step of a short run, every second or fourth or ... of a longer one."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._kernel import put_rows


class Moment(NamedTuple):
    """Where a run is before a step."""

    y: Float[Array, "n lanes"]
    t: Float[Array, " lanes"]
    h: Float[Array, " lanes"]
    """The step to try."""
    before: Float[Array, " lanes"]
    """The inverse error of the step before."""

    def to_columns(self) -> Float[Array, "rows lanes"]:
        return jnp.concatenate([self.y, jnp.stack(self[1:])])

    @classmethod
    def from_rows(cls, rows: Float[Array, "lanes rows"]) -> "Moment":
        columns = jnp.moveaxis(rows, -1, 0)
        return cls(columns[:-3], *columns[-3:])


class Tape(NamedTuple):
    r"""For a run of up to N steps $2 \sqrt{N}$ to $4 \sqrt{N}$ entries."""

    moments: Float[Array, "entries rows"]
    """Entry i is the beginning of step `i * stride`, with the h that was accepted; `length` entries of the first run,
    then of the next, and one more that nobody reads."""
    stride: Int[Array, " slots"]
    """A power of two, doubled whenever the entries of a run do not suffice."""

    @classmethod
    def blank(cls, n: int, runs: int, max_steps: int, dtype: jnp.dtype) -> "Tape":
        length = 2 ** math.ceil(math.log2(max_steps) / 2 + 1)
        return cls(jnp.zeros((runs * length + 1, n + 3), dtype), jnp.ones(runs + 1, int))

    @property
    def length(self) -> int:
        return len(self.moments) // (len(self.stride) - 1)

    def recorded(
        self,
        moment: Moment,
        run: Int[Array, " lanes"],
        step: Int[Array, " lanes"],
        wanted: Bool[Array, " lanes"],
    ) -> "Tape":
        """With the beginning of step number `step` of each run, where that is `wanted`."""
        run = jnp.where(wanted, run, len(self.stride) - 1)
        full = wanted & (step == self.length * self.stride[run])
        tape = jax.lax.cond(jnp.any(full), Tape._thinned, lambda tape, *_: tape, self, run, full)
        stride = tape.stride[run]
        place = jnp.where(wanted & (step % stride == 0), run * self.length + step // stride, len(self.moments) - 1)
        return tape._replace(moments=put_rows(tape.moments, moment.to_columns(), place))

    def _thinned(self, run: Int[Array, " lanes"], full: Bool[Array, " lanes"]) -> "Tape":
        """With every second entry of the runs that have no place left."""
        unread = len(self.moments) - 1

        def move(i, moments):
            kept = moments[jnp.minimum(run * self.length + 2 * i, unread)]
            return put_rows(moments, jnp.moveaxis(kept, -1, 0), jnp.where(full, run * self.length + i, unread))

        moments = jax.lax.fori_loop(1, self.length // 2, move, self.moments)
        stride = jnp.where(full, 2 * self.stride[run], self.stride[run])
        return type(self)(moments, put_rows(self.stride, stride, run))
