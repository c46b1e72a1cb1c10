"""Finite data under the loss of the multi-dimensional experiments of the paper."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num, PyTree
from typing_extensions import override

from .. import _checks as checks
from ..networks import ShallowNetwork
from .base import AbstractRows, squared_error
from .structure import Structure

AT_ONCE = 500
"""Rows whose features are held at once: they stay in the cache of a core."""


class NormDataset(AbstractRows):
    r"""Finite data, n rows; the risk is $L = \frac1n \lVert f(x) - y \rVert_2$.

    That is not the mean square $\hat R$ but $L = (\hat R/n)^{1/2}$, so $\nabla L = \nabla \hat R/(2nL)$: gradient flow
    takes the path of the mean squared error on another clock, $dt_{\hat R} = dt_L/(2nL)$. The gradient where all
    residuals are zero is taken as zero. `sample` draws rows with replacement.

    **Arguments:**

    - `x`: inputs, shape (n, d)
    - `y`: labels, shape (n,)

    >>> import jax.numpy as jnp, tts_jax as tts
    >>> problem = tts.NormDataset(jnp.array([[0.0], [1.0]]), jnp.array([3.0, 4.0]))
    >>> float(problem.risk(tts.ShallowNetwork([[0.0]], [[0.5]], 0.0, tts.ReLU())))
    2.5

    Raises `ValueError` where the numbers of rows differ, there is no row, or a value is not finite; and `risk` for a
    model that does not return one number.

    Source: the published code of Marion and Berthier (2023), arXiv 2304.09576.
    """

    x: Float[Array, "n d"]
    y: Float[Array, " n"]

    def __init__(self, x: ArrayLike, y: ArrayLike):
        self.x, self.y = checks.numbers("x", x), checks.numbers("y", y)
        if self.x.ndim != 2 or self.y.ndim != 1 or len(self.x) != len(self.y) or not len(self.x):
            raise ValueError(
                f"x must have shape (n, d) and y shape (n,), got {self.x.shape} and {self.y.shape}: "
                "give one row for each observation"
            )

    @override
    def loss(self, model: PyTree, x: Float[Array, "n ..."], y: Num[Array, "n ..."]) -> Float[Array, ""]:
        square = squared_error(model, x, y)
        positive = square > 0
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0) / len(y)), 0.0)

    @property
    @override
    def risk_in_words(self) -> str:
        return "norm of the residuals over their number"

    @override
    def structure(self, model: PyTree) -> Structure:
        """The gradient of a `ShallowNetwork` takes one pass over the rows."""
        return Structure(
            gradient=_gradient if isinstance(model, ShallowNetwork) and model.positions.ndim == 2 else None,
            refusal="the norm is not quadratic in the weights, got NormDataset: pass Dataset(x, y)",
            unknown_law="its loss of a batch is no mean over the rows, pass Dataset(x, y)",
        )


def _gradient(problem: NormDataset, model: ShallowNetwork) -> ShallowNetwork:
    n, rows = len(problem.x), -(-len(problem.x) // AT_ONCE) * AT_ONCE
    columns = jnp.pad(problem.x, ((0, rows - n), (0, 0))).reshape(-1, AT_ONCE, problem.x.shape[1]).transpose(0, 2, 1)
    labels = jnp.pad(problem.y, (0, rows - n)).reshape(-1, AT_ONCE)
    counted = (jnp.arange(rows) < n).reshape(-1, AT_ONCE)
    shape, a = model.weights.shape, model.weights.ravel()

    def add(sums, some):
        x, y, counted = some
        z = (x[None] - model.positions[:, :, None]).reshape(a.size, AT_ONCE)
        features, slopes = jax.jvp(model.activation, (z,), (jnp.ones_like(z),))
        output = a @ features if model.bias is None else model.bias + a @ features
        r = jnp.where(counted, output - y, 0.0)
        terms = (features @ r, slopes @ r, jnp.sum(r), r @ r)
        return jax.tree.map(jnp.add, sums, terms), None

    zeros = (jnp.zeros_like(a), jnp.zeros_like(a), jnp.zeros_like(a[0]), jnp.zeros_like(a[0]))
    (d_a, d_u, d_b, square), _ = jax.lax.scan(add, zeros, (columns, labels, counted))
    scale = jnp.where(square > 0, 1 / (n * jnp.sqrt(jnp.where(square > 0, square, 1.0))), 0.0)
    return ShallowNetwork(
        (scale * d_a).reshape(shape),
        (-scale * a * d_u).reshape(shape),
        None if model.bias is None else scale * d_b,
        jax.tree.map(lambda _: None, model.activation),
    )
