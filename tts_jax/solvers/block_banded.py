r"""Symmetric positive definite block banded systems, many side by side, with a width that is data.

Runs ("lanes") are the last axis and every operation is elementwise over them: no LAPACK, no matrix product. The upper
blocks of a row stand side by side: $A_{i,i+k}$ is `blocks[i, k]`, shape `(n, capacity + 1, b, b, lanes)`, of which the
first `width + 1` count, and those with $i + k < n$. Width 1 is block tridiagonal, and n - 1 dense.
"""

import functools
import operator

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

Matrix = Float[Array, "p q lanes"]
Vector = Float[Array, "p lanes"]
Blocks = Float[Array, "n k b b lanes"]


def factor(blocks: Blocks, width: int | Int[Array, ""]) -> Blocks:
    r"""Eliminates block after block.

    With $S_i = A_{ii}$ once the rows above are eliminated, $R_i S_i R_i^T = 1$ and $V_{ik} = R_i A_{i,i+k}$,

    $$A_{i+j,i+k} \leftarrow A_{i+j,i+k} - V_{ij}^T V_{ik}, \qquad 1 \le j \le k \le w.$$

    **Returns** $S_i^{-1}$ in place of $A_{ii}$, and $S_i^{-1} A_{i,i+k}$ in place of $A_{i,i+k}$. A matrix that is not
    positive definite makes its own lane NaN and no other.

    **Operations** of one lane, for large n: $n (2 b^3 + (w + w (w + 1) / 2) \cdot 2 b^3)$ and an inverse triangular
    factor of $b$ rows, $n (2 b^3 + 3 b^2 - 2 b) / 3$.
    """
    n = blocks.shape[0]

    def eliminate(i, blocks):
        last = jnp.minimum(width, n - 1 - i)
        inverse = _inverse_factor(_get(blocks, i, 0))

        def scale(k, blocks):
            return _put(blocks, _matmul(inverse, _get(blocks, i, k)), i, k)

        def below(k, blocks):
            right = _get(blocks, i, k)

            def one(j, blocks):
                product = _transposed_matmul(_get(blocks, i, j), right)
                return _put(blocks, _get(blocks, i + j, k - j) - product, i + j, k - j)

            return lax.fori_loop(1, k + 1, one, blocks)

        def divide(k, blocks):
            return _put(blocks, _transposed_matmul(inverse, _get(blocks, i, k)), i, k)

        blocks = lax.fori_loop(1, last + 1, scale, blocks)
        blocks = lax.fori_loop(1, last + 1, below, blocks)
        blocks = lax.fori_loop(1, last + 1, divide, blocks)
        return _put(blocks, _transposed_matmul(inverse, inverse), i, 0)

    return lax.fori_loop(0, n, eliminate, blocks)


def solve(factors: Blocks, width: int | Int[Array, ""], r: Float[Array, "n b lanes"]) -> Float[Array, "n b lanes"]:
    """The solution, from the output of `factor`.

    **Operations** of one lane, for large n: $n (2 w + 1) 2 b^2$.
    """
    n = len(r)

    def down(i, r):
        y = _row(r, i)

        def one(k, r):
            return _put_row(r, _row(r, i + k) - _transposed_times(_get(factors, i, k), y), i + k)

        return lax.fori_loop(1, jnp.minimum(width, n - 1 - i) + 1, one, r)

    def up(steps, r):
        i = n - 1 - steps

        def one(k, x):
            return x - _times(_get(factors, i, k), _row(r, i + k))

        start = _times(_get(factors, i, 0), _row(r, i))
        return _put_row(r, lax.fori_loop(1, jnp.minimum(width, n - 1 - i) + 1, one, start), i)

    return lax.fori_loop(0, n, up, lax.fori_loop(0, n, down, r))


def _get(blocks: Blocks, i: Int[Array, ""], k: int | Int[Array, ""]) -> Matrix:
    return lax.dynamic_slice(blocks, (i, k, 0, 0, 0), (1, 1, *blocks.shape[2:]))[0, 0]


def _put(blocks: Blocks, block: Matrix, i: Int[Array, ""], k: int | Int[Array, ""]) -> Blocks:
    return lax.dynamic_update_slice(blocks, block[None, None], (i, k, 0, 0, 0))


def _row(r: Float[Array, "n b lanes"], i: Int[Array, ""]) -> Vector:
    return lax.dynamic_index_in_dim(r, i, 0, keepdims=False)


def _put_row(r: Float[Array, "n b lanes"], row: Vector, i: Int[Array, ""]) -> Float[Array, "n b lanes"]:
    return lax.dynamic_update_index_in_dim(r, row, i, 0)


def _inverse_factor(s: Matrix) -> Matrix:
    r"""The lower triangular $R$ with $R S R^T = 1$, entry by entry."""
    b = len(s)
    lower: list[list[Array]] = []
    inverse: list[list[Array]] = []
    for i in range(b):
        row: list[Array] = []
        for j in range(i):
            rest = functools.reduce(operator.sub, [row[k] * lower[j][k] for k in range(j)], s[i, j])
            row.append(rest * inverse[j][j])
        pivot = lax.rsqrt(functools.reduce(operator.sub, [x * x for x in row], s[i, i]))
        lower.append(row)
        inverse.append([-pivot * _sum(row[k] * inverse[k][j] for k in range(j, i)) for j in range(i)] + [pivot])
    zero = jnp.zeros_like(s[0, 0])
    return jnp.stack([jnp.stack(row + [zero] * (b - len(row))) for row in inverse])


def _sum(terms) -> Array:
    """Term by term: a sum over an axis would call a library."""
    return functools.reduce(operator.add, terms)


def _matmul(a: Matrix, b: Matrix) -> Matrix:
    return _sum(a[:, j, None] * b[None, j] for j in range(len(b)))


def _transposed_matmul(a: Matrix, b: Matrix) -> Matrix:
    return _sum(a[j, :, None] * b[j, None] for j in range(len(b)))


def _times(a: Matrix, x: Vector) -> Vector:
    return _sum(a[:, j] * x[j, None] for j in range(len(x)))


def _transposed_times(a: Matrix, x: Vector) -> Vector:
    return _sum(a[j] * x[j, None] for j in range(len(x)))
