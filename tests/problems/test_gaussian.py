"""Teacher and student on Gaussian inputs: kernels, exact risks, exact flows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from problem_table import student_and_teacher
from scipy.integrate import solve_ivp
from scipy.special import erf

import tts_jax as tts
from tts_jax.exact.kernels import arc_cosine, arc_sine

ACTIVATIONS = [tts.ReLU(), tts.Erf()]


def test_kernels_by_hand():
    """Parallel, opposite and orthogonal directions, and none at all."""
    e, f, zero = jnp.array([2.0, 0.0]), jnp.array([0.0, 3.0]), jnp.zeros(2)
    assert arc_cosine(e, e) == pytest.approx(2.0, abs=1e-15)
    assert arc_cosine(e, -e) == pytest.approx(0.0, abs=1e-15)
    assert arc_cosine(e, f) == pytest.approx(6 / (2 * np.pi), abs=1e-15)
    assert arc_cosine(e, zero) == arc_cosine(zero, zero) == arc_sine(e, zero) == arc_sine(e, f) == 0
    assert arc_sine(e, e) == pytest.approx(2 / np.pi * np.arcsin(8 / 9), abs=1e-15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, 3.0, np.pi])
def test_kernel_and_its_gradient_against_quadrature(activation, angle):
    """Polar coordinates in the plane of w and v, Gauss's rule between the kinks of ReLU."""
    w, v = 0.8 * np.array([1.0, 0.0]), 1.3 * np.array([np.cos(angle), np.sin(angle)])
    kinks = np.mod(np.concatenate([np.array([0.5, 1.5]) * np.pi, angle + np.array([0.5, 1.5]) * np.pi]), 2 * np.pi)
    edges = np.unique(np.concatenate([[0, 2 * np.pi], np.linspace(0, 2 * np.pi, 9), kinks]))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, None] / 2
    phi, weight = ((edges[:-1, None] + half * (nodes + 1)).ravel(), (half * weights).ravel())
    r, radial = np.polynomial.legendre.leggauss(80)
    r, radial = 5 * (r + 1), 5 * radial
    x = r[:, None, None] * np.stack([np.cos(phi), np.sin(phi)], axis=-1)
    measure = (radial * r * np.exp(-(r**2) / 2))[:, None] * weight / (2 * np.pi)
    if isinstance(activation, tts.ReLU):
        value, slope = (lambda z: np.maximum(z, 0)), (lambda z: 1.0 * (z > 0))
    else:
        value, slope = erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))
    want = np.sum(measure * value(x @ w) * value(x @ v))
    d_want = np.einsum("rp,rpi->i", measure * slope(x @ w) * value(x @ v), x)
    got, d = jax.value_and_grad(activation.kernel)(jnp.asarray(w), jnp.asarray(v))
    assert got == pytest.approx(want, abs=1e-9)
    np.testing.assert_allclose(d, d_want, atol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_teacher_has_no_risk_and_a_finite_hessian(activation):
    """For ReLU it is that of the mean square: E x x^T 1[w.x > 0] = 1/2, twice."""
    _, teacher = student_and_teacher(activation, inputs=2)
    one = tts.PerceptronNetwork(jnp.ones(1), teacher.directions[:1], activation)
    problem = tts.GaussianRegression(one)

    @reference.quick_jit
    def measured(w):
        def risk(w):
            return problem.risk(tts.PerceptronNetwork(one.weights, w, activation))

        return risk(w), jax.grad(risk)(w), jax.jacfwd(jax.grad(risk))(w)

    risk, d, second = measured(one.directions)
    assert abs(risk) < 1e-15
    np.testing.assert_allclose(d, 0, atol=1e-14)
    if isinstance(activation, tts.ReLU):
        np.testing.assert_allclose(second.reshape(2, 2), np.eye(2), atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_flow_against_scipy(activation):
    student, teacher = student_and_teacher(activation)
    problem, epsilon, times = tts.GaussianRegression(teacher), 0.05, np.array([0.0, 0.1, 1.0])
    run = tts.simulate(tts.GradientFlow(epsilon), student, problem, times)

    @jax.jit
    def velocity(tau, y):
        d = jax.grad(lambda a, w: problem.risk(tts.PerceptronNetwork(a, w, activation)), (0, 1))(
            y[:4], y[4:].reshape(4, 3)
        )
        return -jnp.concatenate([d[0] / epsilon, d[1].ravel()])

    start = np.concatenate([student.weights, np.ravel(student.directions)])
    solution = solve_ivp(velocity, (0, 1), start, "LSODA", times, rtol=1e-10, atol=1e-10)
    got = np.concatenate([run.model.weights, run.model.directions.reshape(3, -1)], axis=1)
    np.testing.assert_allclose(got, solution.y.T, atol=1e-6)
    assert np.all(np.diff(run.risk) < 0)


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    _, teacher = student_and_teacher(tts.Erf())
    problem = tts.GaussianRegression(teacher)
    other, _ = student_and_teacher(tts.ReLU())
    wide, _ = student_and_teacher(tts.Erf(), inputs=5)
    steps = tts.ShallowNetwork.init(jax.random.key(0), 3, tts.SmoothStep(0.1))
    reference.refuses(lambda: problem.risk(other), "Erf", "got ReLU")
    reference.refuses(lambda: problem.risk(wide), "(neurons, 3)", "(4, 5)")
    reference.refuses(lambda: problem.check(steps), "got SmoothStep")
    reference.refuses(lambda: tts.GaussianRegression(steps), "got ShallowNetwork")
    reference.refuses(lambda: tts.GaussianRegression(teacher, noise=-1.0), "noise")
    reference.refuses(lambda: tts.PerceptronNetwork(jnp.ones(2), jnp.ones((3, 2)), tts.Erf()), "(2,)", "(3, 2)")
