"""Problems: the exact risk beyond smooth steps, samples, finite data, and what they refuse."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest
import reference
from problem_table import plain_case, plane, rows
from scipy import special, stats
from scipy.stats import kstest

import tts_jax as tts
from tts_jax.activations import AbstractActivation
from tts_jax.problems.base import squared_error


def paper_problem(noise=0.0):
    return tts.Regression(reference.paper_target(), noise)


def with_activation(model, activation):
    return tts.ShallowNetwork(model.weights, model.positions, model.bias, activation)


# The population risk.


def heaviside_residual(case, x):
    steps = case.weights @ (x >= case.positions)
    return (case.bias or 0.0) + steps - reference.target_values(case.jumps, case.values, x)


def heaviside_risk(case):
    """Pieces between neighbouring jumps and neurons, one constant each."""
    edges = np.sort(np.concatenate([[0, 1], case.jumps, np.clip(case.positions, 0, 1)]))
    return sum(
        (right - left) * heaviside_residual(case, (left + right) / 2) ** 2 for left, right in itertools.pairwise(edges)
    )


def test_risk_of_steps_by_hand():
    """Residual 1 on [0, 0.3), 3 on [0.3, 0.5), 0 on [0.5, 1]."""
    model = tts.ShallowNetwork(jnp.array([[2.0]]), jnp.array([[0.3]]), jnp.array(1.0), tts.Heaviside())
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [0, 3]))
    assert problem.risk(model) == pytest.approx(0.3 * 1 + 0.2 * 9, abs=1e-15)
    d = problem.gradient(model)
    assert d.bias == pytest.approx(2 * (0.3 * 1 + 0.2 * 3), abs=1e-15)
    assert d.weights[0, 0] == pytest.approx(2 * 0.2 * 3, abs=1e-15)
    assert d.positions[0, 0] == pytest.approx(1 - 9, abs=1e-14)


@pytest.mark.parametrize("bias", [True, False])
def test_risk_of_steps(bias):
    """Neurons coincident, on a jump, on 0 and outside. The derivative by a position is what the square loses there."""
    case = plain_case(bias=bias)
    case.positions[:6] = [0.5, 0.5, case.jumps[0], 0.0, -0.3, 1.2]
    model, problem = reference.build(case)
    model = with_activation(model, tts.Heaviside())
    risk, d = reference.quick_jit(jax.value_and_grad(problem.risk))(model)
    assert risk == pytest.approx(heaviside_risk(case), abs=1e-13)
    for j in (6, 7):  # the others sit where the derivative is one-sided
        u = case.positions[j]
        left, right = heaviside_residual(case, u - 1e-9), heaviside_residual(case, u + 1e-9)
        assert d.positions[j, 0] == pytest.approx(left**2 - right**2, abs=1e-12)


def test_narrow_steps_tend_to_sharp_ones():
    model, problem = reference.build(plain_case())
    risks = reference.quick_jit(jax.vmap(lambda eta: problem.risk(with_activation(model, tts.SmoothStep(eta)))))
    sharp = reference.quick_jit(problem.risk)(with_activation(model, tts.Heaviside()))
    errors = np.abs(risks(jnp.array([1e-3, 1e-4, 1e-5])) - sharp)
    np.testing.assert_allclose(errors[1:] / errors[:-1], 0.1, rtol=0.05)  # of first order in eta


class Ramp(AbstractActivation):
    """An activation that the package does not know: `max(z, 0)`."""

    degree = 1

    def __call__(self, z):
        return jnp.maximum(z, 0.0)

    def kinks(self, positions):
        return positions


def test_risk_of_an_activation_of_the_user():
    case = plain_case()
    model, problem = reference.build(case)

    def square(x):
        return (
            case.bias
            + case.weights @ np.clip(x - case.positions, 0, None)
            - reference.target_values(case.jumps, case.values, x)
        ) ** 2

    want = reference.integral(square, np.concatenate([case.positions, case.jumps]))
    assert reference.quick_jit(problem.risk)(with_activation(model, Ramp())) == pytest.approx(want, abs=1e-13)


def test_gradient_is_a_direction_that_equinox_can_apply():
    """It has the structure of the model, and no entry for the width."""
    model, problem = reference.build(plain_case())
    risk, gradient = (reference.quick_jit(lambda model, f=f: f(model)) for f in (problem.risk, problem.gradient))
    d = gradient(model)
    assert d.activation.eta is None
    autodiff = eqx.filter_eval_shape(lambda model: reference.gradient_by_autodiff(problem, model), model)
    assert jax.tree.map(jnp.shape, (autodiff.weights, autodiff.positions)) == ((8, 1), (8, 1))
    downhill = eqx.apply_updates(model, jax.tree.map(lambda leaf: -1e-4 * leaf, d))
    assert downhill.activation.eta == model.activation.eta
    assert risk(downhill) < risk(model)


def test_noise_leaves_the_risk_alone():
    model = reference.paper_model(0)
    risk = reference.quick_jit(lambda noise: paper_problem(noise).risk(model))
    assert risk(0.0) == risk(2.0) == pytest.approx(10.6, abs=1e-12)  # of f = 0: the mean of the target's square


@pytest.mark.parametrize(
    ("law", "exact", "constant"),
    [(None, stats.uniform(-1, 2), 1 / 3), (jax.random.normal, stats.norm, 1.0), (jax.random.laplace, stats.laplace, 2)],
    ids=["uniform", "normal", "laplace"],
)
def test_noise_has_its_law_and_constant(law, exact, constant):
    """The labels leave the target by `noise` times the law, whatever the input, which stays uniform."""
    n, noise = 20_000, 0.5
    problem = tts.Regression(reference.paper_target(), noise, law)
    x, y = problem.sample(jax.random.key(3), n)
    drawn = (y - problem.target(x[:, 0])) / noise
    assert stats.kstest(drawn, exact.cdf).pvalue > 0.01
    assert stats.kstest(x[:, 0], stats.uniform.cdf).pvalue > 0.01
    assert abs(np.corrcoef(drawn, x[:, 0])[0, 1]) < 3 / np.sqrt(n)
    network, squares = reference.paper_model(0), y**2  # the loss of f = 0
    loss = problem.risk(network) + constant * noise**2
    assert abs(squares.mean() - loss) < 3 * squares.std() / np.sqrt(n)


def test_noise_of_two_values():
    problem = tts.Regression(reference.paper_target(), 0.5, jax.random.rademacher)
    x, y = problem.sample(jax.random.key(3), 100)
    assert set(np.asarray(y - problem.target(x[:, 0]))) == {-0.5, 0.5}


@pytest.mark.parametrize("noise", [-0.1, np.nan, np.inf])
def test_regression_refuses_noise(noise):
    reference.refuses(lambda: paper_problem(noise), "noise", str(noise))


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("quantity", ["risk", "gradient", "normal_equations", "check"])
def test_regression_refuses_models(quantity):
    measure = getattr(paper_problem(), quantity)
    mlp = eqx.nn.MLP(1, 1, 2, 1, key=jax.random.key(0))
    plane = tts.ShallowNetwork.init(jax.random.key(0), 3, tts.SmoothStep(0.1), dimension=2)
    stacked = tts.ShallowNetwork(jnp.ones((4, 3, 1)), jnp.ones((4, 3, 1)), None, tts.SmoothStep(0.1))
    reference.refuses(lambda: measure(mlp), "ShallowNetwork", "got MLP")
    reference.refuses(lambda: measure(plane), "(neurons, 1)", "(3, 2)")
    reference.refuses(lambda: measure(stacked), "(neurons, 1)", "(4, 3, 1)")


def test_normal_equations_refuse_sharp_steps():
    model = with_activation(reference.paper_model(0), tts.Heaviside())
    reference.refuses(lambda: paper_problem().normal_equations(model), "got Heaviside")


def test_check_lets_good_models_pass():
    paper_problem().check(reference.paper_model(0))
    paper_problem().check(with_activation(reference.paper_model(0), tts.Heaviside()))
    tts.Dataset(*rows(outputs=3)).check(linear(3))


# Samples of the population.

SAMPLES = 50_000


@pytest.fixture(scope="module")
def sample():
    """Inputs, labels and noise of the paper's problem."""
    x, y = paper_problem(noise=1.0).sample(jax.random.key(0), SAMPLES)
    assert x.shape == (SAMPLES, 1)
    assert y.shape == (SAMPLES,)
    target = reference.paper_target()
    x, y = np.ravel(x), np.asarray(y)
    return x, y, y - reference.target_values(target.jumps, target.values, x)


def test_inputs_and_noise_are_uniform_and_independent(sample):
    x, _, noise = sample
    assert np.abs(noise).max() <= 1 + 1e-12
    assert kstest(x, "uniform").pvalue > 1e-3
    assert kstest((noise + 1) / 2, "uniform").pvalue > 1e-3
    for powers in ((x, noise), (x, noise**2), (x**2, noise)):
        assert abs(np.corrcoef(*powers)[0, 1]) < 4 / np.sqrt(SAMPLES)
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 4 / np.sqrt(SAMPLES)


def test_stream_depends_on_the_key():
    problem = paper_problem(noise=1.0)
    x, y = problem.sample(jax.random.key(3), 10)
    again, other = problem.sample(jax.random.key(3), 10), problem.sample(jax.random.key(4), 10)
    np.testing.assert_array_equal(again[0], x)
    np.testing.assert_array_equal(again[1], y)
    assert np.all(other[0] != x)


def test_noise_scales_and_without_it_labels_are_the_target():
    key = jax.random.key(5)
    (x, clean), (_, noisy), (_, loud) = (paper_problem(noise).sample(key, 10) for noise in (0.0, 1, 2.5))
    target = reference.paper_target()
    np.testing.assert_array_equal(clean, reference.target_values(target.jumps, target.values, np.ravel(x)))
    np.testing.assert_allclose(loud - clean, 2.5 * (noisy - clean), atol=1e-14)


# Finite data.


def test_risk_of_data():
    x, y = rows()
    model = tts.ShallowNetwork.init(jax.random.key(0), 5, tts.SmoothStep(0.3), dimension=2, weight_range=3, bias=False)
    weights, positions = np.asarray(model.weights), np.asarray(model.positions)
    output = np.sum(weights * reference.step((x[:, None, :] - positions) / 0.3), axis=(1, 2))
    assert tts.Dataset(x, y).risk(model) == pytest.approx(np.mean((output - y) ** 2), abs=1e-13)


def linear(outputs):
    return eqx.nn.Linear(2, outputs, key=jax.random.key(1))


def test_risk_of_several_outputs_is_their_sum():
    x, y = rows(outputs=3)
    model = linear(3)
    output = x @ np.asarray(model.weight).T + np.asarray(model.bias)
    problem = tts.Dataset(x, y)
    assert problem.risk(model) == pytest.approx(np.mean(np.sum((output - y) ** 2, axis=1)), abs=1e-14)
    d = problem.gradient(model)
    np.testing.assert_allclose(d.weight, 2 * (output - y).T @ x / len(x), atol=1e-14)
    np.testing.assert_allclose(d.bias, 2 * np.mean(output - y, axis=0), atol=1e-14)


def test_one_output_fits_labels_with_and_without_a_column():
    x, y = rows()
    assert tts.Dataset(x, y).risk(linear("scalar")) == tts.Dataset(x, y[:, None]).risk(linear("scalar"))
    assert tts.Dataset(x, y).risk(linear(1)) == tts.Dataset(x, y[:, None]).risk(linear(1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [None, 1])
def test_normal_equations_of_data_are_its_risk(bias, outputs):
    x, y = rows(outputs=outputs)
    model = tts.ShallowNetwork.init(jax.random.key(0), 5, tts.SmoothStep(0.3), dimension=2, weight_range=3, bias=bias)
    problem = tts.Dataset(x, y)
    (gram, cross, square), risk = reference.quick_jit(lambda m: (problem.normal_equations(m), problem.risk(m)))(model)
    a = model.vectors[0]
    assert gram.shape == (10 + bias, 10 + bias)
    assert a @ gram @ a - 2 * cross @ a + square == pytest.approx(float(risk), abs=1e-12)


def test_samples_of_data_are_its_rows_drawn_evenly():
    n = 10
    x = np.arange(n, dtype=float)[:, None]
    problem = tts.Dataset(x, 10 * x[:, 0])
    drawn, labels = problem.sample(jax.random.key(0), 20_000)
    assert drawn.shape == (20_000, 1)
    np.testing.assert_array_equal(labels, 10 * drawn[:, 0])
    counts = np.bincount(np.ravel(drawn).astype(int), minlength=n)
    assert np.all(np.abs(counts - 2000) < 5 * np.sqrt(2000))
    np.testing.assert_array_equal(problem.sample(jax.random.key(0), 20_000)[0], drawn)
    assert np.any(problem.sample(jax.random.key(1), 20_000)[0] != drawn)


def test_columns_of_pandas():
    x, y = rows(outputs=3)
    table = pandas.DataFrame(x, columns=["a", "b"])
    want = tts.Dataset(x, y[:, 0])
    labels = pandas.DataFrame(y).convert_dtypes()[0]  # an extension type: NumPy sees objects
    for got in (tts.Dataset(table, pandas.Series(y[:, 0])), tts.Dataset(table[["a", "b"]], labels)):
        np.testing.assert_array_equal(got.x, want.x)
        np.testing.assert_array_equal(got.y, want.y)
    reference.refuses(lambda: tts.Dataset(table, pandas.Series(["cat", "dog"] * 15)), "y must be real numbers", "'cat'")
    reference.refuses(lambda: tts.Dataset(table, pandas.Series([1, None] * 15, dtype="Int64")), "y must be")


def test_loss_of_a_user():
    x, y = rows()
    labels = np.arange(len(x)) % 3
    model = linear(3)
    problem = tts.Dataset(x, labels, loss=optax.softmax_cross_entropy_with_integer_labels)
    logits = x @ np.asarray(model.weight).T + np.asarray(model.bias)
    likelihood = special.log_softmax(logits, axis=1)[np.arange(len(x)), labels]
    assert problem.risk(model) == pytest.approx(-np.mean(likelihood), abs=1e-14)
    assert problem.y.dtype == problem.sample(jax.random.key(0), 5)[1].dtype == int
    absolute = tts.Dataset(x, y, loss=lambda prediction, label: jnp.abs(prediction - label))
    output = x @ np.asarray(linear("scalar").weight)[0] + np.asarray(linear("scalar").bias)
    assert absolute.risk(linear("scalar")) == pytest.approx(np.mean(np.abs(output - y)), abs=1e-14)
    reference.refuses(lambda: absolute.check(linear(1)), "must return a scalar", "(1,)")
    reference.refuses(lambda: absolute.normal_equations(plane(tts.SmoothStep(0.1))), "squared error")


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((3, 1)), np.zeros(4), ("(3, 1)", "(4,)")),
        (np.zeros((0, 1)), np.zeros(0), ("(0, 1)", "(0,)")),
        (np.float64(1.0), np.zeros(1), ("()", "(1,)")),
        (np.array([[np.nan]]), np.zeros(1), ("x must be finite", "nan")),
        (np.zeros((1, 1)), np.array([-np.inf]), ("y must be finite", "-inf")),
    ],
)
def test_dataset_refuses(x, y, said):
    reference.refuses(lambda: tts.Dataset(x, y), *said)


@pytest.mark.parametrize(("outputs", "labels"), [(3, None), (1, 3), (3, 2)])
def test_outputs_that_do_not_fit_the_labels_are_refused(outputs, labels):
    """Broadcasting would give a loss of its own."""
    x, y = map(jnp.asarray, rows(outputs=labels))
    label = "()" if labels is None else f"({labels},)"
    for measure in (lambda model: squared_error(model, x, y), tts.Dataset(x, y).check):
        reference.refuses(lambda measure=measure: measure(linear(outputs)), f"({outputs},)", label)


# Under transformations.


def test_jit_and_vmap_change_nothing():
    x, y = rows(inputs=1)

    def risks(case):
        model, problem = reference.build(case)
        sharp = problem.risk(with_activation(model, tts.Heaviside()))
        return sharp, tts.Dataset(x, y).risk(model), problem.sample(jax.random.key(0), 3)

    case = plain_case()
    reference.same_under_jit_and_vmap(risks, reference.stack([case, case._replace(weights=2 * case.weights)]))


def test_jit_and_vmap_change_no_sample():
    keys = jax.random.split(jax.random.key(0), 2)
    for problem in (paper_problem(noise=1.0), tts.Dataset(*rows())):
        batched = reference.quick_jit(jax.vmap(lambda key, problem=problem: problem.sample(key, 5)))(keys)
        for i in range(2):
            one = problem.sample(keys[i], 5)
            jax.tree.map(lambda many, single, i=i: np.testing.assert_array_equal(many[i], single), batched, one)
