"""Numbered steps, one after the other: those of SGD, and what others have in common with them."""

import abc
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ... import _checks as checks
from ..._fingerprint import MadeFrom
from ...problems import AbstractProblem, SampleGradient, Structure
from ...problems.base import risk_gradient
from ...trajectory import is_finite
from ..base import two_timescale
from ..optimizer import Optimizer
from .stream import AbstractStream

T = TypeVar("T")
Adjoint: TypeAlias = diffrax.RecursiveCheckpointAdjoint | diffrax.ForwardMode


class AbstractSteps(eqx.Module):
    """What a step does follows from its number and the state before, whose `params` are the leaves that move."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """Of a block of steps, which cost least together."""

    @abc.abstractmethod
    def samples(self, params: PyTree) -> int:
        """Of how many a step takes the gradient."""

    @abc.abstractmethod
    def advance(self, state: Any, first: Int[Array, ""], last: Int[Array, ""]) -> Any:
        """The state after steps `first` to `last - 1`."""


def checked_adjoint(dynamics: str, adjoint: diffrax.AbstractAdjoint | None) -> Adjoint:
    """Raises `ValueError` for one that does not differentiate a loop of steps."""
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    if not isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint | diffrax.ForwardMode):
        raise ValueError(
            f"{dynamics} is differentiated by RecursiveCheckpointAdjoint (reverse mode) or ForwardMode, "
            f"got {checks.called(adjoint)}: pass adjoint=diffrax.ForwardMode(), or leave it out"
        )
    return adjoint


def repeat(
    adjoint: Adjoint, goes_on: Callable[[T], Bool[Array, ""]], body: Callable[[T], T], start: T, checkpoints: int = 512
) -> T:
    """`body` as long as it `goes_on`; so many `checkpoints` are for reverse mode, where the adjoint does not say."""
    if isinstance(adjoint, diffrax.ForwardMode):
        return jax.lax.while_loop(goes_on, body, start)
    # JAX has no reverse mode through a loop of unknown length; Diffrax takes this one too.
    return eqxi.while_loop(goes_on, body, start, kind="checkpointed", checkpoints=adjoint.checkpoints or checkpoints)


class State(eqx.Module):
    params: PyTree
    excess: PyTree | None
    """What rounding has added to `params` so far, in 32-bit; None in 64-bit."""
    optimizer: optax.OptState

    @classmethod
    def start(cls, params: PyTree, optimizer: optax.OptState) -> "State":
        single = any(leaf.dtype != jnp.float64 for leaf in jax.tree.leaves(params))
        return cls(params, jax.tree.map(jnp.zeros_like, params) if single else None, optimizer)

    def moved(self, updates: PyTree, optimizer: optax.OptState) -> "State":
        """By the updates of the optimiser; in 32-bit as a compensated sum (Kahan, 1965)."""
        updates = jax.tree.map(lambda update, param: update.astype(param.dtype), updates, self.params)
        if self.excess is None:
            return State(optax.apply_updates(self.params, updates), None, optimizer)
        wanted = jax.tree.map(jnp.subtract, updates, self.excess)
        params = optax.apply_updates(self.params, wanted)
        excess = jax.tree.map(lambda new, old, change: (new - old) - change, params, self.params, wanted)
        return State(params, excess, optimizer)


class Descent(eqx.Module):
    """Everything that is the same in every step."""

    epsilons: tuple[Float[Array, ""], ...]
    step_size: Float[Array, ""]
    svag: int = eqx.field(static=True)
    given_optimizer: MadeFrom[Optimizer | None] = eqx.field(static=True)
    adjoint: Adjoint
    problem: AbstractProblem
    structure: Structure
    stream: AbstractStream
    fixed: PyTree
    labels: PyTree[int]

    @property
    def sample_gradient(self) -> SampleGradient:
        """Where `lanes.applies`."""
        assert self.structure.sample_gradient is not None
        return self.structure.sample_gradient

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return two_timescale(self.given_optimizer.value or optax.sgd(self.step_size), self.epsilons, self.labels)

    def start(self, params: PyTree) -> State:
        return State.start(params, self.optimizer.init(params))

    @property
    def coefficients(self) -> tuple[float, ...]:
        """Of the parts of a batch: with them the covariance of a gradient is `svag` times that of one part."""
        if self.svag == 1:
            return (1.0,)
        spread = (2 * self.svag - 1) ** 0.5
        return (1 + spread) / 2, (1 - spread) / 2

    def factors(self, samples: int) -> tuple[float, ...]:
        """Of the squared errors of the samples of a batch, twice: as `SampleGradient` takes them."""
        size = samples // len(self.coefficients)
        return tuple(2 * coefficient / size for coefficient in self.coefficients for _ in range(size))

    def loss(self, params: PyTree, batch: PyTree) -> Float[Array, ""]:
        model = eqx.combine(params, self.fixed)
        x, y = (jnp.split(part, len(self.coefficients)) for part in batch)
        parts = [c * self.problem.loss(model, *part) for c, *part in zip(self.coefficients, x, y, strict=True)]
        return sum(parts[1:], start=parts[0])

    def step(self, state: State, batch: PyTree) -> State:
        if batch is None:
            gradient = risk_gradient(self.problem, self.structure, state.params, self.fixed)
        else:
            gradient = jax.grad(self.loss)(state.params, batch)
        return state.moved(*self.optimizer.update(gradient, state.optimizer, state.params))

    def advance(self, state: State, first: Int[Array, ""], last: Int[Array, ""]) -> State:
        """Steps `first` to `last - 1`, by automatic differentiation of the loss: any model, any optimiser.

        Each step is the same machine code wherever a run is cut, so that its result does not depend on the save times.
        """

        length = self.stream.length

        def block(carry):
            at, state = carry
            batches = self.stream.block(at // length)

            def one(carry):
                i, state = carry
                return i + 1, self.step(state, jax.tree.map(lambda leaf: leaf[i], batches))

            start, end = jnp.maximum(first - at, 0), jnp.minimum(last - at, length)
            _, state = repeat(self.adjoint, lambda carry: carry[0] < end, one, (start, state), length)
            return at + length, state

        def goes_on(carry):
            at, state = carry
            return (at < last) & is_finite(state.params)

        return repeat(self.adjoint, goes_on, block, (first // length * length, state))[1]
