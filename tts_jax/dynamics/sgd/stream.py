"""Where the samples of each step come from."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, Num
from typing_extensions import override

from ... import _checks as checks
from ...problems import AbstractProblem

ROWS = 512
"""Samples drawn together, at most; fixed, since the numbers drawn depend on it."""


def steps_in_block(batch_size: int) -> int:
    return max(1, ROWS // batch_size)


class AbstractStream(eqx.Module):
    """Batches in blocks of steps, counted from step 0."""

    batch_size: eqx.AbstractVar[int]

    @property
    def length(self) -> int:
        return steps_in_block(self.batch_size)

    @abc.abstractmethod
    def block(
        self, index: Int[Array, ""]
    ) -> tuple[Float[Array, "steps batch ..."], Num[Array, "steps batch ..."]] | None:
        """The batches of steps `index * length` to `(index + 1) * length - 1`; None where a step draws no samples."""


class Exact(AbstractStream):
    """Every step takes the gradient of the risk."""

    batch_size: int = eqx.field(default=1, static=True)

    @override
    def block(self, index):
        return None


class Fresh(AbstractStream):
    """A block draws all of its samples from the key folded with its index, whatever runs beside it."""

    problem: AbstractProblem
    key: Key[Array, ""]
    batch_size: int = eqx.field(static=True)

    @override
    def block(self, index):
        drawn = self.problem.sample(jax.random.fold_in(self.key, index), self.length * self.batch_size)
        return jax.tree.map(lambda part: part.reshape(self.length, self.batch_size, *part.shape[1:]), drawn)


class Epochs(AbstractStream):
    """Sample s is row `order[s % n]` of n, where `order` permutes them anew by the key folded with the epoch `s // n`.

    A batch may end one epoch and begin the next.
    """

    x: Float[Array, "n ..."]
    y: Num[Array, "n ..."]
    key: Key[Array, ""]
    batch_size: int = eqx.field(static=True)

    @classmethod
    def of(cls, problem: AbstractProblem, key: Key[Array, ""], batch_size: int, steps: np.ndarray | None) -> "Epochs":
        if problem.rows is None:
            raise ValueError(
                f"reshuffle=True goes through the rows of a Dataset, got {type(problem).__name__}: leave it out"
            )
        if steps is not None and int(steps[-1]) * batch_size >= 2**31 and not jax.config.read("jax_enable_x64"):
            raise ValueError(
                f"{steps[-1]} steps of batch_size={batch_size} are more samples than 32-bit integers count: "
                'call jax.config.update("jax_enable_x64", True)'
            )
        x, y = problem.rows
        return cls(x=x, y=y, key=key, batch_size=batch_size)

    @property
    @override
    def length(self) -> int:
        """Of an epoch at least, so that each order is drawn about once."""
        return max(steps_in_block(self.batch_size), -(-len(self.x) // self.batch_size))

    @override
    def block(self, index):
        n, drawn = len(self.x), self.length * self.batch_size
        epoch, start = jnp.divmod(index * drawn, n)
        epochs = epoch + jnp.arange((n + drawn - 2) // n + 1)
        orders = jax.vmap(lambda e: jax.random.permutation(jax.random.fold_in(self.key, e), n))(epochs)
        rows = orders.ravel()[start + jnp.arange(drawn)].reshape(self.length, self.batch_size)
        return self.x[rows], self.y[rows]


class Replay(AbstractStream):
    """Step p takes row p."""

    x: Float[Array, "steps batch ..."]
    y: Num[Array, "steps batch ..."]
    batch_size: int = eqx.field(static=True)

    @classmethod
    def of(cls, samples: tuple[ArrayLike, ArrayLike], batch_size: int, steps: np.ndarray | None) -> "Replay":
        x, y = checks.numbers("x", samples[0]), checks.numbers("y", samples[1], integers=True)
        if batch_size == 1:
            x, y = (part[:, None] if part.ndim else part for part in (x, y))
        if min(x.ndim, y.ndim) < 2 or x.shape[:2] != y.shape[:2] or x.shape[1] != batch_size:
            raise ValueError(
                f"samples=(x, y) must have one row of batch_size={batch_size} for each step, "
                f"got shapes {np.shape(samples[0])} and {np.shape(samples[1])}"
            )
        if steps is not None and steps[-1] > len(x):
            raise ValueError(
                f"the last save time needs {steps[-1]} steps, a row of samples each, got {len(x)} rows: "
                "give more samples or end earlier"
            )
        return cls(x=x, y=y, batch_size=batch_size)

    @override
    def block(self, index):
        rows = index * self.length + jnp.arange(self.length)
        return self.x[rows], self.y[rows]
