"""Rates against quadrature, and against least squares, whose Hessian is a matrix product."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.flatten_util import ravel_pytree

import tts_jax as tts
from tts_jax.diagnostics import spectrum, stiffness

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=30)
LINEAR = eqx.nn.Linear(4, 1, key=jax.random.key(0))
DATA = tts.Dataset(X, Y)
WITH_ONE = np.c_[X, np.ones(30)]


def bias(model):
    return model.bias


def rates(hessian, speeds):
    root = np.sqrt(speeds)
    return np.linalg.eigvalsh(root[:, None] * hessian * root)


@pytest.mark.parametrize("epsilon", [1.0, 1e-3])
def test_closed_form_against_quadrature(epsilon):
    case = reference.small_case()
    found = spectrum(*reference.build(case), epsilon)
    want = rates(reference.answer(case).hessian, np.repeat([1.0, epsilon], [5, 4]))
    np.testing.assert_allclose(found, want, atol=1e-7 * np.abs(want).max())


def test_groups_of_leaves():
    hessian = 2 * WITH_ONE.T @ WITH_ONE / 30
    one_slow = spectrum(LINEAR, DATA, 0.01, slow=bias)
    np.testing.assert_allclose(one_slow, rates(hessian, np.array([1, 1, 1, 1, 0.01])), rtol=1e-12)
    two_slow = spectrum(LINEAR, DATA, (0.01, 0.1), slow=(bias, lambda model: model.weight))
    np.testing.assert_allclose(two_slow, rates(hessian, np.array([0.1, 0.1, 0.1, 0.1, 0.01])), rtol=1e-12)
    held = spectrum(LINEAR, DATA, 0.01, slow=lambda model: model.weight, frozen=bias)
    np.testing.assert_allclose(held, 0.01 * np.linalg.eigvalsh(hessian[:4, :4]), rtol=1e-12)


def test_a_perceptron_against_its_hessian():
    model = eqx.nn.MLP(4, 1, 3, 1, jnp.tanh, key=jax.random.key(2))
    parameters, rebuild = ravel_pytree(eqx.filter(model, eqx.is_array))
    static = eqx.filter(model, eqx.is_array, inverse=True)

    def risk(parameters):
        outputs = jax.vmap(eqx.combine(rebuild(parameters), static))(jnp.asarray(X))
        return jnp.mean((outputs[:, 0] - Y) ** 2)

    speeds = np.repeat([0.05, 1.0], [15, 4])
    found = spectrum(model, DATA, 0.05, slow=lambda m: m.layers[0])
    np.testing.assert_allclose(found, rates(np.asarray(jax.hessian(risk)(parameters)), speeds), atol=1e-12)


def test_a_loss_that_is_no_square():
    parameters = np.append(np.asarray(LINEAR.weight), np.asarray(LINEAR.bias))
    r = WITH_ONE @ parameters - Y
    norm, pull = np.linalg.norm(r), WITH_ONE.T @ r
    hessian = (WITH_ONE.T @ WITH_ONE / norm - np.outer(pull, pull) / norm**3) / 30
    found = spectrum(LINEAR, tts.NormDataset(X, Y), 1.0, slow=bias)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(hessian), rtol=1e-10)


def test_of_a_run_and_the_ends():
    model, problem = reference.build(reference.small_case())
    run = tts.simulate(tts.SGD(0.1, 1e-2, None), model, problem, [0.0, 0.01, 0.02])
    all_rates = run.map(lambda model: spectrum(model, problem, 0.1))
    ends = run.map(lambda model: spectrum(model, problem, 0.1, extreme=2))
    assert all_rates.shape == (3, 9)
    np.testing.assert_array_equal(ends, all_rates[:, [0, 1, -2, -1]])
    np.testing.assert_allclose(all_rates[1], spectrum(run.at(1), problem, 0.1), atol=1e-12)


@pytest.fixture(scope="module")
def wide():
    """Fewer rows than parameters: most rates are zero."""
    x = RNG.normal(size=(60, 2100)) * np.linspace(1, 3, 2100)
    return eqx.nn.Linear(2100, 1, key=jax.random.key(1)), tts.Dataset(x, x[:, 0]), x


def test_the_ends_by_lanczos(wide):
    model, problem, x = wide
    found = spectrum(model, problem, 0.25, slow=bias, extreme=3)
    design = np.c_[x, 0.5 * np.ones(60)]
    want = 2 * np.linalg.svd(design, compute_uv=False) ** 2 / 60
    np.testing.assert_allclose(found[3:], np.sort(want)[-3:], rtol=1e-7)
    np.testing.assert_allclose(found[:3], 0.0, atol=1e-7 * want.max())


@pytest.mark.usefixtures("annotations_off")
def test_refusals(wide):
    model, problem, _ = wide
    reference.refuses(lambda: spectrum(model, problem, 1.0, slow=bias), "2,048 parameters at most, got 2,101")
    traced = jax.jit(
        lambda weight: spectrum(eqx.tree_at(lambda m: m.weight, model, weight), problem, 1.0, bias, None, 2)
    )
    reference.refuses(lambda: traced(model.weight), "got a traced model")
    reference.refuses(lambda: spectrum(LINEAR, DATA, 1.0, slow=bias, extreme=3), "half of the 5 parameters, got 3")
    reference.refuses(lambda: spectrum(LINEAR, DATA, 1.0), "cannot tell which leaves of Linear move slowly")
    reference.refuses(lambda: stiffness(1.0), "an axis of rates")


def test_stiffness_is_where_descent_becomes_unstable():
    found = stiffness(spectrum(LINEAR, DATA, 0.01, slow=bias))
    hessian = rates(2 * WITH_ONE.T @ WITH_ONE / 30, np.array([1, 1, 1, 1, 0.01]))
    assert float(found.ratio) == pytest.approx(hessian[-1] / hessian[0], rel=1e-12)
    for factor, stable in ((0.98, True), (1.02, False)):
        step = factor * float(found.step)
        descent = tts.SGD(0.01, step, None, slow=bias)
        run = tts.simulate(descent, LINEAR, DATA, 0.01 * step * np.array([0.0, 60.0, 120.0]))
        assert (run.risk[2] < 1.01 * run.risk[1]) == stable


def test_stiffness_leaves_out_what_is_zero():
    found = stiffness(jnp.array([[-4.0, 1e-18, 0.5], [0.0, 1.0, 2.0]]))
    np.testing.assert_array_equal(found.ratio, [8.0, 2.0])
    np.testing.assert_array_equal(found.step, [0.5, 1.0])
