"""A network on Gaussian inputs as its risk sees it: by the overlaps of its directions."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real

from . import _checks as checks
from .activations import AbstractActivation, AbstractGaussianActivation


class Overlaps(eqx.Module):
    r"""$K$ neurons with directions $u_i$, of which only scalar products are known, with each other and with the
    directions $u^*_n$ of a teacher.

    **Arguments:**

    - `weights`: $a$, shape (K,)
    - `student`: $\langle u_i, u_j \rangle$, shape (K, K); or None for the mean field, where nothing need be kept
    - `teacher`: $\langle u_i, u^*_n \rangle$, shape (K, M)
    - `activation`: of the neurons

    Inputs are $N(0, I_d)$, whatever d. The mean field is the limit of many neurons from uniform directions at
    $d = \infty$: there $\langle u_i, u_j \rangle = \langle u_i, u^* \rangle \langle u_j, u^* \rangle$ in all sums over
    pairs, and directions are unit vectors. For K neurons this is right up to terms of order 1/K, by which a neuron acts
    on itself and repels others off $u^*$; start from `student=jnp.eye(K)` where these matter.

    Lists, NumPy arrays and integers become floating-point leaves.

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> tts.Overlaps([1.0, 2.0], jnp.eye(2), [[0.6], [0.0]], tts.Erf()).teacher.shape
    (2, 1)

    Raises `ValueError` where the shapes do not fit.
    """

    weights: Float[Array, "*t k"]
    student: Float[Array, "*t k k"] | None
    teacher: Float[Array, "*t k n"]
    activation: AbstractActivation | AbstractGaussianActivation

    def __init__(
        self,
        weights: Real[ArrayLike, "*t k"] | Sequence[Any],
        student: Real[ArrayLike, "*t k k"] | Sequence[Any] | None,
        teacher: Real[ArrayLike, "*t k n"] | Sequence[Any],
        activation: AbstractActivation | AbstractGaussianActivation,
    ):
        self.weights, self.teacher = checks.leaf("weights", weights), checks.leaf("teacher", teacher)
        self.student = None if student is None else checks.leaf("student", student)
        self.activation = checks.function("activation", activation, "Erf()")
        shape = self.weights.shape
        if 0 in self.teacher.shape or self.teacher.ndim < 2 or self.teacher.shape[:-1] != shape:
            raise ValueError(
                "weights must have shape (neurons,) and teacher shape (neurons, units of the teacher), "
                f"got {shape} and {self.teacher.shape}"
            )
        if self.student is None and self.teacher.shape[-1] > 1:
            raise ValueError(
                f"student=None is for a teacher of one unit, got {self.teacher.shape[-1]} of them: "
                "pass the scalar products of the directions, as directions @ directions.T"
            )
        if self.student is not None and self.student.shape != (*shape, *shape[-1:]):
            raise ValueError(
                f"student must have shape (neurons, neurons), here {(*shape, *shape[-1:])}, got {self.student.shape}"
            )

    @classmethod
    def of(cls, network: Any, teacher: Float[Array, "n d"]) -> "Overlaps":
        """Of a `network` with `weights`, `directions` and `activation`, and of the directions of a `teacher`, shape
        (M, d)."""
        u = network.directions
        return cls(network.weights, u @ u.T, u @ teacher.T, network.activation)

    @property
    def slow(self) -> PyTree:
        """What stands for the inner layer."""
        return self.student, self.teacher

    @classmethod
    def init(
        cls, key: Key[Array, ""], neurons: int, activation: AbstractActivation | AbstractGaussianActivation
    ) -> "Overlaps":
        """A start of the mean field at d = infinity, where uniform directions are orthogonal to each other and to the
        one of a teacher: weights i.i.d. N(0, 1), all overlaps 0.

        `key` is of `jax.random`, and there are K = `neurons` of this `activation`.

        Raises `ValueError` for `neurons` below 1, and for what is no key.
        """
        m = checks.count("neurons", neurons)
        return cls(
            jax.random.normal(checks.random_key("key", key), (m,), float), None, jnp.zeros((m, 1), float), activation
        )
