"""Hermite polynomials, networks on the sphere, and the single-index model that they learn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from numpy.polynomial import hermite_e

import tts_jax as tts

COEFFICIENTS = np.array([0.3, -1.0, 0.7, 0.2, 0.0, -0.4])


def by_numpy(coefficients, z):
    """Unnormalised polynomials of NumPy."""
    return hermite_e.hermeval(z, [c / math.sqrt(math.factorial(k)) for k, c in enumerate(coefficients)])


@pytest.mark.parametrize("n", [1, 2, 6])
def test_hermite_polynomials_and_their_slope_are_those_of_numpy(n):
    coefficients, z = COEFFICIENTS[:n], np.linspace(-4, 4, 12).reshape(3, 4)
    hermite = tts.Hermite(coefficients)
    np.testing.assert_allclose(hermite(jnp.asarray(z)), by_numpy(coefficients, z), atol=1e-12)
    slope = jax.vmap(jax.grad(hermite))(jnp.asarray(z.ravel()))
    wanted = (by_numpy(coefficients, z.ravel() + 1e-5) - by_numpy(coefficients, z.ravel() - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, wanted, atol=1e-7)


def test_normalised_polynomials_stay_right_at_a_high_degree():
    """By the rule of Gauss and Hermite: an orthonormal family, to degree 60."""
    nodes, weights = hermite_e.hermegauss(80)
    values = np.stack([tts.Hermite(np.eye(61)[k])(jnp.asarray(nodes)) for k in (0, 20, 59, 60)])
    np.testing.assert_allclose(values * (weights / weights.sum()) @ values.T, np.eye(4), atol=1e-9)


def test_the_risk_of_each_degree_against_quadrature():
    """In three dimensions, by a product rule that is exact for these degrees."""
    problem = tts.SingleIndex([1.0, -1.0, 0.5], tts.Hermite([0.2, 0.9, -0.5]), noise=2.0)
    network = tts.SphereNetwork([1.0, -0.6], [[0.3, 2.0, 0.0], [-1.0, 0.1, 0.4]], tts.Hermite([0.5, 0.3, 0.8, -0.6]))
    nodes, weights = hermite_e.hermegauss(8)
    x = np.stack(np.meshgrid(nodes, nodes, nodes), axis=-1).reshape(-1, 3)
    w = np.einsum("i,j,k->jik", *3 * [weights / weights.sum()]).ravel()
    error = jax.vmap(network)(x) - problem.target(x @ problem.direction)
    assert problem.risk(network) == pytest.approx(float(w @ error**2), abs=1e-13)
    u = np.asarray(network.directions) / np.linalg.norm(network.directions, axis=1)[:, None]
    for k, part in enumerate(problem.risk_by_degree(network)):
        phi, sigma = (0.2, 0.9, -0.5, 0.0)[k], (0.5, 0.3, 0.8, -0.6)[k]
        of_degree = [by_numpy(np.eye(k + 1)[k], x @ v) for v in (*u, problem.direction)]
        parts = 0.5 * sigma * (of_degree[0] - 0.6 * of_degree[1]) - phi * of_degree[2]
        assert part == pytest.approx(float(w @ parts**2), abs=1e-13)
    overlaps = tts.Overlaps.of(network, problem.direction[None])
    assert problem.risk(overlaps) == pytest.approx(float(problem.risk(network)), abs=1e-14)


def test_the_mean_field_has_the_risk_of_many_copies():
    """Of 1,000 neurons with each overlap, what they share alone counts: up to the diagonal, of order 1 / m."""
    s, a, copies = np.array([0.3, -0.8, 0.0]), np.array([1.0, 2.0, -0.7]), 1000
    problem, activation = tts.SingleIndex([1.0], tts.Hermite([0.2, 0.9])), tts.Hermite([1.0, 0.5, 0.2])
    few = tts.Overlaps(a, None, s[:, None], activation)
    many_s, many_a = np.tile(s, copies), np.tile(a, copies)
    full = np.outer(many_s, many_s) + np.diag(1 - many_s**2)
    many = tts.Overlaps(many_a, full, many_s[:, None], activation)
    own = (a**2 @ (1.29 - (1 + 0.25 * s**2 + 0.04 * s**4))) / (9 * copies)
    assert problem.risk(few) + own == pytest.approx(float(problem.risk(many)), abs=1e-12)
    gram, cross, square = problem.normal_equations(few)
    assert a @ gram @ a - 2 * cross @ a + square == pytest.approx(float(problem.risk(few)), abs=1e-14)


def test_a_step_of_sgd_lengthens_directions_by_its_square():
    """Steps are orthogonal to the directions: |u|^2 grows by the sum of their squares, and by O(step_size)."""
    problem = tts.SingleIndex(np.eye(10)[0], tts.Hermite([0.5, 1.0, 0.7]), noise=0.1)
    start = tts.SphereNetwork.init(jax.random.key(0), 4, 10, tts.Hermite([0.4, 0.8, 0.6]))

    def growth(step_size):
        times = np.arange(0, 0.2 + step_size / 2, step_size)
        run = tts.simulate(tts.SGD(1.0, step_size), start, problem, times, key=jax.random.key(1))
        u = np.asarray(run.model.directions)
        steps = np.sum(np.diff(u, axis=0) ** 2, axis=(0, 2))
        gained = np.sum(u[-1] ** 2, axis=1) - 1
        np.testing.assert_allclose(gained, steps, rtol=1e-6)
        return gained.mean()

    coarse, fine = growth(4e-3), growth(4e-4)
    assert 3 < coarse / fine < 30


def test_the_start_is_uniform_on_the_sphere():
    network = tts.SphereNetwork.init(jax.random.key(0), 2000, 5, tts.Hermite([0.0, 1.0]))
    np.testing.assert_allclose(np.linalg.norm(network.directions, axis=1), 1, atol=1e-14)
    second = network.directions.T @ network.directions / 2000
    np.testing.assert_allclose(second, np.eye(5) / 5, atol=4 * 0.2 / np.sqrt(2000))
    assert abs(np.mean(network.weights)) < 4 / np.sqrt(2000)


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    hermite = tts.Hermite([0.0, 1.0])
    problem = tts.SingleIndex([1.0, 0.0], hermite)
    reference.refuses(lambda: tts.Hermite([]), "coefficients")
    reference.refuses(lambda: tts.SingleIndex([0.0, 0.0], hermite), "direction must not be zero")
    reference.refuses(lambda: tts.SingleIndex([1.0], tts.ReLU()), "target", "ReLU")
    reference.refuses(lambda: problem.risk(tts.SphereNetwork([1.0], [[1.0]], hermite)), "(neurons, 2)", "(1, 1)")
    reference.refuses(lambda: problem.risk(tts.SphereNetwork([1.0], [[1.0, 0.0]], tts.ReLU())), "got ReLU")
    reference.refuses(lambda: problem.risk(tts.Overlaps([1.0], [[1.0]], [[0.1, 0.2]], hermite)), "(neurons, 1)")
    reference.refuses(lambda: tts.SphereNetwork([1.0], [[1.0], [2.0]], hermite), "(1,)", "(2, 1)")
    reference.refuses(lambda: tts.Overlaps([1.0], None, [[0.1, 0.2]], hermite), "one unit", "2")
    reference.refuses(lambda: tts.Overlaps([1.0], [[1.0, 0.0]], [[0.1]], hermite), "student", "(1, 2)")
    reference.refuses(lambda: tts.Overlaps([1.0, 2.0], None, [[0.1]], hermite), "teacher", "(1, 1)")
