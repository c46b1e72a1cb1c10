"""A function of one direction of Gaussian inputs, with the exact population risk in overlaps."""

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real
from typing_extensions import override

from .. import _checks as checks
from ..exact.forms import NormalEquations
from ..hermite import Hermite
from ..networks import SphereNetwork
from ..overlaps import Overlaps
from .base import AbstractPopulation
from .structure import Structure


class SingleIndex(AbstractPopulation):
    r"""The single-index model: $x \sim N(0, I_d)$, $y = \varphi(\langle u^*, x \rangle) + \text{noise} \cdot \xi$,
    $\xi \sim N(0, 1)$.

    With $\varphi = \sum_k \varphi_k h_k$ and a `SphereNetwork` of $\sigma = \sum_k \sigma_k h_k$, both `Hermite`, the
    risk is

    $$E (f - \varphi)^2 = \sum_k \varphi_k^2 - \frac{2}{m} \sum_i a_i V(s_i)
      + \frac{1}{m^2} \sum_{ij} a_i a_j U(r_{ij}), \quad V(s) = \sum_k \varphi_k \sigma_k s^k,
      \quad U(r) = \sum_k \sigma_k^2 r^k,$$

    exact in any dimension, with $s_i$ and $r_{ij}$ the cosines between directions and $u^*$, and between two of them.
    There is no factor 1/2. It leaves out the label noise, which adds `noise**2` to the expected loss of one sample.
    `Overlaps` have the same risk.

    **Arguments:**

    - `direction`: $u^*$, shape (d,); its length does not matter, and it is kept with length 1
    - `target`: $\varphi$, a `Hermite`
    - `noise`: the size of the label noise, 0 or more

    >>> import tts_jax as tts
    >>> problem = tts.SingleIndex([3.0, 4.0], tts.Hermite([1.0, 2.0]))
    >>> round(float(problem.risk(tts.SphereNetwork([2.0], [[0.6, 0.8]], tts.Hermite([0.0, 1.0])))), 12)
    1.0

    *Clocks.* Berthier, Montanari and Zhou minimise half of this risk by m times its gradient. A flow with the same
    `epsilon` is then theirs in another unit of time: their time is $2 \tau / m$; see `slow_time`.

    Raises `ValueError` for a direction that is zero, and a negative `noise`; `risk` for a model of another kind,
    dimension or activation.

    Source: Berthier, Montanari and Zhou (2024), arXiv 2303.00055.
    """

    direction: Float[Array, " d"]
    target: Hermite
    noise: Float[Array, ""]

    def __init__(
        self,
        direction: Real[ArrayLike, " d"] | Sequence[Any],
        target: Hermite,
        noise: Real[ArrayLike, ""] = 0.0,
    ):
        direction = checks.as_float(checks.vector("direction", direction))
        scaled = direction / jnp.max(jnp.abs(direction), initial=0.0)  # whose squares neither overflow nor vanish
        self.direction = scaled / jnp.linalg.norm(scaled)
        if (known := checks.concrete(self.direction)) is not None and not (known.size and np.all(np.isfinite(known))):
            raise ValueError("direction must not be zero, got one without a length: pass e.g. direction=jnp.eye(d)[0]")
        self.target = checks.instance("target", target, Hermite, "Hermite([0.0, 1.0])")
        self.noise = checks.as_float(checks.non_negative("noise", noise))

    @override
    def risk(self, model: PyTree) -> Float[Array, ""]:
        return jnp.sum(self.risk_by_degree(model))

    def risk_by_degree(self, model: PyTree) -> Float[Array, " k"]:
        r"""What degree k adds to the risk of the `model`, $E ((f - \varphi)_k)^2$, for k up to the larger degree of
        target and activation, shape (k + 1,); degrees are orthogonal.

        Raises `ValueError` as `risk` does.
        """
        self.check(model)
        s, r = cosines(self, model)
        phi, sigma = self._both(model.activation)
        a, degree = model.weights, len(phi) - 1
        first = powers(s, degree) @ a / len(a)
        if r is None:
            return (phi - sigma * first) ** 2
        return phi**2 - 2 * phi * sigma * first + sigma**2 * (powers(r, degree) @ a @ a) / len(a) ** 2

    def series(self, activation: Hermite) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """The coefficients of V and of U for neurons of this `activation`, from degree 0 on."""
        phi, sigma = self._both(activation)
        return phi * sigma, sigma**2

    @staticmethod
    def slow_time(time: Real[ArrayLike, "..."], neurons: int) -> Float[Array, "..."]:
        r"""From the `time` of Berthier, Montanari and Zhou to slow time, with m `neurons`: $\tau = m\,\text{time} / 2$.

        They let $\epsilon\,a_i' = -m\,\nabla_{a_i} R/2$ and $u_i' = -m\,\nabla_{u_i} R/2$ for the R of this module,
        where a flow has $\epsilon\,da/d\tau = -\nabla_a R$ and $du/d\tau = -\nabla_u R$.
        """
        return checks.as_float(time) * neurons / 2

    @property
    @override
    def label_noise(self) -> Float[Array, ""]:
        return self.noise

    @override
    def check(self, model: PyTree) -> None:
        if not isinstance(model, SphereNetwork | Overlaps) or not isinstance(model.activation, Hermite):
            got = checks.called(getattr(model, "activation", model))
            raise ValueError(
                f"the risk is exact for a SphereNetwork, or Overlaps, of Hermite, got {got}: "
                "pass one, or draw a Dataset from the problem's sample"
            )
        inputs = self.direction.shape[-1]
        if isinstance(model, SphereNetwork) and model.directions.shape[1:] != (inputs,):
            raise ValueError(
                f"the direction has {inputs} coordinates, so directions must have shape (neurons, {inputs}), "
                f"got {model.directions.shape}"
            )
        if isinstance(model, Overlaps) and (model.teacher.ndim, model.teacher.shape[-1]) != (2, 1):
            raise ValueError(
                f"a single-index model is a teacher of one unit, so teacher must have shape (neurons, 1), "
                f"got {model.teacher.shape}"
            )

    @override
    def structure(self, model: PyTree) -> Structure:
        return Structure(normal_equations=_normal_equations)

    @override
    def sample(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """`x` has shape (n, d), `y` shape (n,)."""
        key, n = checks.random_key("key", key), checks.count("n", n)
        draws = jax.random.normal(key, (n, self.direction.shape[-1] + 1), float)
        x = draws[:, :-1]
        return x, self.target(x @ self.direction) + self.noise * draws[:, -1]

    def _both(self, activation: Hermite) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """The coefficients of target and activation, zeros after the last of the shorter."""
        both = self.target.coefficients, activation.coefficients
        longest = max(len(each) for each in both)
        phi, sigma = (jnp.pad(each, (0, longest - len(each))) for each in both)
        return phi, sigma


def cosines(
    problem: SingleIndex, model: SphereNetwork | Overlaps
) -> tuple[Float[Array, " m"], Float[Array, "m m"] | None]:
    """Of each direction with that of the problem, and of each two; None as in `Overlaps`."""
    if isinstance(model, SphereNetwork):
        unit = model.directions / jnp.linalg.norm(model.directions, axis=1, keepdims=True)
        return unit @ problem.direction, unit @ unit.T
    if model.student is None:
        return model.teacher[:, 0], None
    lengths = jnp.sqrt(jnp.diagonal(model.student))
    return model.teacher[:, 0] / lengths, model.student / jnp.outer(lengths, lengths)


def powers(x: Float[Array, "*n"], degree: int) -> Float[Array, "k *n"]:
    """From 0 to `degree`, along a first axis."""
    return jnp.stack([jnp.ones_like(x), *itertools.accumulate(degree * [x], operator.mul)])


def _normal_equations(problem: SingleIndex, model: SphereNetwork | Overlaps) -> NormalEquations:
    s, r = cosines(problem, model)
    assert isinstance(model.activation, Hermite), "`check` has refused others"
    if r is None:
        r = jnp.outer(s, s)
    v, u = problem.series(model.activation)
    m = len(s)
    gram, cross = (jnp.polyval(series[::-1], overlap) for series, overlap in ((u, r), (v, s)))
    return NormalEquations(gram / m**2, cross / m, jnp.sum(problem.target.coefficients**2))
