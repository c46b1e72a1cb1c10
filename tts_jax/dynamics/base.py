"""What every dynamics shares: the interface, and the one place where `epsilon` acts."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import Array, ArrayLike, Float, Key, PyTree

from ..networks import trainable
from ..problems import AbstractProblem
from ..trajectory import Trajectory


class AbstractDynamics(eqx.Module):
    """How training moves."""

    @abc.abstractmethod
    def run(
        self,
        model: PyTree,
        problem: AbstractProblem,
        slow_times: Float[Array, " t"],
        *,
        key: Key[Array, ""] | None,
        samples: tuple[ArrayLike, ArrayLike] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Trajectory:
        """See `tts_jax.simulate`, which checks the input first."""


def timescale_labels(model: PyTree, slow: Callable[[PyTree], Any] | None) -> PyTree[str]:
    """ "fast" or "slow" for each trainable leaf, None for the others.

    Raises `ValueError` where `slow` is None and the model does not know its slow leaves, or `slow` selects none, or
    what is no leaf.
    """
    if slow is None:
        if not hasattr(model, "slow"):
            raise ValueError(
                f"cannot tell which leaves of {type(model).__name__} move slowly: "
                "say which, e.g. slow=lambda model: model.layers[0]"
            )
        slow = _own_slow
    fast = jax.tree.map(lambda _: "fast", eqx.filter(model, trainable(model)))
    try:
        labels = eqx.tree_at(slow, fast, replace_fn=lambda node: jax.tree.map(lambda _: "slow", node))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"slow must pick leaves of {type(model).__name__}, as in slow=lambda model: model.layers[0], "
            f"got {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    if "slow" not in jax.tree.leaves(labels):
        raise ValueError("slow selects no trainable leaf: return at least one floating-point array of the model")
    return labels


Optimizer = optax.GradientTransformation | tuple[optax.GradientTransformation, optax.GradientTransformation]
"""For both groups of leaves, or one for the fast and one for the slow leaves."""


def two_timescale(
    optimizer: Optimizer, epsilon: Float[Array, "*runs"], labels: PyTree[str]
) -> optax.GradientTransformation:
    """Each group of leaves by its optimiser, the updates of the slow group times `epsilon`."""
    # A GradientTransformation is a tuple of two, too.
    fast, slow = (optimizer, optimizer) if isinstance(optimizer, optax.GradientTransformation) else optimizer
    groups = {"fast": fast, "slow": optax.chain(slow, optax.scale(epsilon))}
    return optax.partition(groups, lambda _: labels)  # a model is callable, and so are its labels


def refuse_samples(dynamics: AbstractDynamics, samples: tuple[ArrayLike, ArrayLike] | None) -> None:
    if samples is not None:
        raise ValueError(
            f"{type(dynamics).__name__} draws no samples, got samples=(x, y): pass the data as problem=Dataset(x, y)"
        )


def _own_slow(model):
    return model.slow
