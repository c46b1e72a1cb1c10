"""The integrals of online learning against quadrature, Monte Carlo and the formulas of Saad and Solla."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy.special import erf

from tts_jax.exact import erf_units

UNITS, FIELDS = 2, 4


def covariance(seed, fields=FIELDS, scale=0.7):
    root = scale * np.random.default_rng(seed).normal(size=(fields, fields))
    return root @ root.T


def g(z):
    return erf(z / np.sqrt(2))


def slope(z):
    return np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2)


def integrals(c, units):
    return [np.asarray(f(jnp.asarray(c), units)) for f in (erf_units.i2, erf_units.j2, erf_units.i3, erf_units.i4)]


def products(fields):
    """Of which the integrals are means: the last axis are points."""
    value, d = g(fields), slope(fields)
    first = d[:UNITS]
    yield value[:UNITS, None] * value
    yield first[:, None] * d
    yield first[:, None, None] * fields[:, None] * value
    yield first[:, None, None, None] * first[:, None, None] * value[:, None] * value


def test_against_quadrature():
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*FIELDS * [nodes])])
    mass = np.prod(np.stack([axis.ravel() for axis in np.meshgrid(*FIELDS * [weights / weights.sum()])]), axis=0)
    c = covariance(0, scale=0.3)
    fields = np.linalg.cholesky(c) @ grid
    for got, product in zip(integrals(c, UNITS), products(fields), strict=True):
        np.testing.assert_allclose(got, product @ mass, atol=1e-9)


def test_against_monte_carlo():
    """Of strongly correlated fields: more than their dimension, as of a student near its teacher."""
    root = np.random.default_rng(1).normal(size=(FIELDS, 3))
    draws = np.random.default_rng(2).normal(size=(3, 200_000))
    for got, product in zip(integrals(root @ root.T, UNITS), products(root @ draws), strict=True):
        error = product.std(axis=-1) / np.sqrt(draws.shape[1])
        assert np.abs((got - product.mean(axis=-1)) / error).max() < 4.5


def saad_and_solla(c, i, k, n, m):
    """Their I4, as printed."""
    c11, c12, c13, c14 = c[i, i], c[i, k], c[i, n], c[i, m]
    c22, c23, c24, c33, c34, c44 = c[k, k], c[k, n], c[k, m], c[n, n], c[n, m], c[m, m]
    l4 = (1 + c11) * (1 + c22) - c12**2
    l0 = l4 * c34 - c23 * c24 * (1 + c11) - c13 * c14 * (1 + c22) + c12 * c13 * c24 + c12 * c14 * c23
    l1 = l4 * (1 + c33) - c23**2 * (1 + c11) - c13**2 * (1 + c22) + 2 * c12 * c13 * c23
    l2 = l4 * (1 + c44) - c24**2 * (1 + c11) - c14**2 * (1 + c22) + 2 * c12 * c14 * c24
    return 4 / np.pi**2 / np.sqrt(l4) * np.arcsin(l0 / np.sqrt(l1 * l2))


def test_against_the_literature():
    """Twelve fields, of norms from 0.1 to 10, all of their pairs of pairs."""
    c, units = covariance(3, fields=12), 7
    c *= np.outer(*2 * [np.geomspace(0.1, 10, 12)])
    index = np.ogrid[:units, :units, :12, :12]
    np.testing.assert_allclose(integrals(c, units)[3], saad_and_solla(c, *index), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arcsine(dtype):
    x = np.concatenate([np.linspace(-1, 1, 2001), np.geomspace(1e-30, 1, 100), [0.5, np.nextafter(0.5, 1)]]).astype(
        dtype
    )
    got = np.asarray(reference.quick_jit(erf_units.arcsine)(jnp.asarray(x)))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, np.arcsin(x.astype(np.float64)), rtol=4 * np.finfo(dtype).eps)


def test_slope_of_the_arcsine():
    x = jnp.asarray(np.linspace(-0.99, 0.99, 37))
    np.testing.assert_allclose(jax.vmap(jax.grad(erf_units.arcsine))(x), 1 / np.sqrt(1 - x**2), rtol=1e-14)
