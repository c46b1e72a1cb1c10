"""Integrals of products of two smoothed steps against quadrature, and their derivatives against automatic ones."""

import jax
import numpy as np
import pytest
import reference

from tts_jax.exact.overlaps import overlap

ETAS = np.array([4e-3, 0.05, 0.3, 0.9, 1.7])


def test_overlap_of_every_pair():
    """The integral of a product, for pairs in both orders: in [0, 1], at its ends, outside; and its derivatives."""
    rng = np.random.default_rng(0)
    eta = np.repeat(ETAS, 30)
    p, q = rng.uniform(-0.6, 0.6, (2, len(eta))) * np.maximum(eta, 0.1) + rng.choice([0.0, 0.5, 1.0], (2, len(eta)))
    q[::10] = p[::10]

    @reference.quick_jit
    @jax.vmap
    def closed_and_autodiff(eta, p, q):
        def value(p, q):
            return overlap(eta, p, q).value

        by_p = jax.grad(value)
        twice = jax.grad(by_p)
        second = twice(p, q), jax.grad(by_p, 1)(p, q)
        return overlap(eta, p, q), (by_p(p, q), *second, *jax.grad(twice, (0, 1))(p, q))

    closed, autodiff = closed_and_autodiff(eta, p, q)
    for got, want, order in zip(closed[1:], autodiff, (1, 2, 2, 3, 3), strict=True):
        np.testing.assert_allclose(got * eta ** (order - 1), want * eta ** (order - 1), atol=1e-11)
    for i in range(len(eta)):
        pair = reference.Case(eta[i], None, None, None, None, np.array([p[i], q[i]]))
        want = reference.integral(
            lambda x, pair=pair: np.prod(reference.step((x - pair.positions) / pair.eta)), reference.kinks(pair)
        )
        assert closed.value[i] == pytest.approx(want, abs=1e-14)
