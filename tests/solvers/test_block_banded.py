"""Block banded systems side by side against NumPy's dense solver."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tts_jax._kernel import one_kernel
from tts_jax.solvers import block_banded

SIZES = [(1, 1, 0), (1, 4, 0), (5, 1, 1), (5, 4, 1), (6, 3, 2), (6, 4, 5), (9, 4, 4), (7, 2, 0)]
LANES = 3


def system(n, b, width, seed=0):
    """Dense matrices, their blocks with NaN wherever none counts, and a right side."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(LANES, n, b, n, b))
    i = np.arange(n)
    half *= (np.abs(i[:, None] - i) <= width)[:, None, :, None]
    dense = half.reshape(LANES, n * b, n * b)
    dense = (dense + dense.transpose(0, 2, 1)) / 2
    dense += (1 - np.linalg.eigvalsh(dense).min()) * np.eye(n * b)
    blocks = np.full((n, width + 2, b, b, LANES), np.nan)
    for i in range(n):
        for k in range(min(width, n - 1 - i) + 1):
            blocks[i, k] = np.moveaxis(dense.reshape(LANES, n, b, n, b)[:, i, :, i + k], 0, -1)
    return dense, blocks, rng.normal(size=(n, b, LANES))


def solve(blocks, r, width):
    return block_banded.solve(block_banded.factor(blocks, width), width, r)


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize(("n", "b", "width"), SIZES)
def test_is_the_dense_solution(n, b, width, kernel):
    dense, blocks, r = system(n, b, width)
    x = jax.jit(one_kernel(solve) if kernel else solve)(jnp.asarray(blocks), jnp.asarray(r), jnp.asarray(width))
    for lane in range(LANES):
        want = np.linalg.solve(dense[lane], r[..., lane].ravel())
        np.testing.assert_allclose(x[..., lane].ravel(), want, rtol=1e-11, atol=1e-13)


def test_a_width_that_is_known():
    dense, blocks, r = system(6, 4, 2)
    x = jax.jit(functools.partial(solve, width=2))(jnp.asarray(blocks), jnp.asarray(r))
    np.testing.assert_allclose(x[..., 0].ravel(), np.linalg.solve(dense[0], r[..., 0].ravel()), rtol=1e-11)


def test_only_the_lane_that_is_not_definite_is_nan():
    _, blocks, r = system(6, 4, 2)
    want = jax.jit(solve)(blocks, r, 2)
    blocks[3, 0, 1, 1, 1] = -1.0
    got = jax.jit(solve)(blocks, r, 2)
    assert np.isnan(got[..., 1]).any()
    np.testing.assert_array_equal(got[..., ::2], want[..., ::2])
