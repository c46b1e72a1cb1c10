"""The gradient flow against other integrators, other right-hand sides and what holds for every flow."""

import functools
import itertools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
import scipy.special
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax.dynamics.base import Groups
from tts_jax.dynamics.flow.eliminated import EliminatedWeights
from tts_jax.dynamics.flow.equation import Choice, FlowEquation
from tts_jax.dynamics.flow.matrix_free import FactoredFastBlock, spectral_radius
from tts_jax.networks import trainable
from tts_jax.solvers import Rodas5P

PAPER_TIMES = {"1": 10.0, "0.01": 3.0, "2e-05": 0.035}
DECAY = 1e-13
"""By how much a risk may rise: rounding, where it has come to rest."""


def leaves(trajectory):
    """The trainable leaves of any model, one row for each time."""
    arrays = jax.tree.leaves(eqx.filter(trajectory.model, trainable(trajectory.model)))
    return np.hstack([np.reshape(leaf, (len(trajectory.risk), -1)) for leaf in arrays])


# The paper's problem.


def paper_start(positions):
    return tts.ShallowNetwork(jnp.zeros((20, 1)), jnp.asarray(positions)[:, None], jnp.zeros(()), tts.SmoothStep(4e-3))


def paper_flow(epsilon, positions, times):
    problem = tts.Regression(reference.paper_target())
    return tts.simulate(tts.GradientFlow(epsilon), paper_start(positions), problem, times)


@pytest.fixture(scope="module")
def seed_42():
    """The start of `seed42_*` in flow.npz, from the generator that made it."""
    return np.sort(np.random.RandomState(42).uniform(size=20))


@pytest.mark.parametrize("epsilon", PAPER_TIMES)
@pytest.mark.parametrize("seed", [42, 7])
def test_reference_trajectories(seed, epsilon):
    """51 times each; the reference is LSODA at rtol 1e-11, itself good to 7e-7 at worst."""
    stored = reference.load("flow")
    want = {name: stored[f"seed{seed}_eps{epsilon}_{name}"] for name in ("bias", "weights", "positions", "slow_time")}
    np.testing.assert_allclose(want["slow_time"], np.linspace(0, PAPER_TIMES[epsilon], 51), rtol=1e-14)
    np.testing.assert_array_equal(want["positions"][0], np.sort(np.random.RandomState(seed).uniform(size=20)))
    got = paper_flow(float(epsilon), want["positions"][0], want["slow_time"])
    assert got.status == tts.Status.SUCCESSFUL
    for name, value in (("bias", got.model.bias), ("weights", got.model.weights), ("positions", got.model.positions)):
        assert reference.largest_difference(value.reshape(want[name].shape), want[name]) < 2e-6, name
    assert np.diff(got.risk).max() < DECAY
    assert got.stats.method == "Rodas5P, closed-form Hessian"
    assert got.stats.steps < 1500


def test_tiny_epsilon(seed_42):
    """Nine orders of stiffness are no harder than five; what differs from the limit shrinks with epsilon.

    Two neurons of this start are 0.006 eta apart: their weights still relax at slow times of 1e5 epsilon, so the
    functions are compared, and not at once.
    """
    times = np.linspace(0, PAPER_TIMES["2e-05"], 51)
    flows = [paper_flow(epsilon, seed_42, times) for epsilon in (1e-7, 1e-8, 1e-9)]
    for flow in flows:
        assert flow.status == tts.Status.SUCCESSFUL
        assert np.isfinite(reference.states(flow)).all()
        assert np.diff(flow.risk).max() < DECAY
        assert flow.stats.steps < 5000
    np.testing.assert_allclose(flows[-1].fast_time, times / 1e-9)
    far, near = (np.asarray(tts.distance(a, b))[1:] for a, b in itertools.pairwise(flows))
    assert (near < far / 3).all()
    assert near.max() < 1e-3


# A small case, with neurons at both edges.

SMALL_TIMES = np.linspace(0, 0.2, 6)


def small_flow(case, epsilon, **options):
    return tts.simulate(tts.GradientFlow(epsilon, **options), *reference.build(case), SMALL_TIMES)


def slow_velocity(case, epsilon):
    """The flow in slow time by Gauss-Legendre quadrature between kinks, in NumPy."""
    m = len(case.weights)

    def velocity(t, y):
        now = case._replace(bias=y[0], weights=y[1 : 1 + m], positions=y[1 + m :])
        x, w = reference.quadrature(np.concatenate([reference.kinks(now), case.jumps]))
        z = (x[:, None] - now.positions) / case.eta
        features = np.hstack([np.ones((len(x), 1)), reference.step(z)])
        residual = features @ y[: 1 + m] - reference.target_values(case.jumps, case.values, x)
        d_a = 2 * (w * residual) @ features
        d_u = -2 * now.weights * ((w * residual) @ reference.step_slope(z)) / case.eta
        return np.concatenate([-d_a / epsilon, -d_u])

    return velocity


def vector(case):
    return np.concatenate([[case.bias], case.weights, case.positions])


def radau(velocity, start, times, **options):
    """Rows for times; stiff, implicit, order 5, and nothing shared with the package."""
    with np.errstate(all="raise", under="ignore"):
        solution = solve_ivp(velocity, (0, times[-1]), start, "Radau", t_eval=times, rtol=1e-11, atol=1e-12, **options)
    assert solution.success, solution.message
    return solution.y.T


@pytest.mark.parametrize("epsilon", [1.0, 1e-3])
def test_small_case_against_radau(epsilon):
    case = reference.small_case()
    want = radau(slow_velocity(case, epsilon), vector(case), SMALL_TIMES)
    got = small_flow(case, epsilon)
    assert got.status == tts.Status.SUCCESSFUL
    assert reference.largest_difference(reference.states(got), want) < 3e-9
    assert np.diff(got.risk).max() < 0


def test_permuted_neurons_move_alike():
    case, order = reference.small_case(), np.array([2, 0, 3, 1])
    permuted = case._replace(weights=case.weights[order], positions=case.positions[order])
    columns = np.concatenate([[0], 1 + order, 5 + order])
    got, want = small_flow(permuted, 1e-3), small_flow(case, 1e-3)
    assert reference.largest_difference(reference.states(got), reference.states(want)[:, columns]) < 1e-10


def test_batches_are_their_lanes():
    """Over epsilon and over starts at once, for a factor of 1e7 in stiffness between lanes."""
    starts = [np.array([0.05, 0.33, 0.52, 0.97]), np.array([0.2, 0.25, 0.7, 0.9])]
    cases = [reference.small_case(positions=start) for start in starts for _ in range(2)]
    epsilons = np.array([1.0, 1e-7, 1e-3, 1.0])
    batch = reference.quick_jit(jax.vmap(small_flow))(reference.stack(cases), epsilons)
    for index, (case, epsilon) in enumerate(zip(cases, epsilons, strict=True)):
        alone = small_flow(case, epsilon)
        assert batch.status[index] == alone.status == tts.Status.SUCCESSFUL
        assert reference.largest_difference(reference.states(batch)[index], reference.states(alone)) < 1e-10


def test_failed_lanes_say_so_and_change_no_other():
    """An explicit solver has too few steps for a small epsilon, and none for a start that is NaN."""
    case = reference.small_case()
    cases = reference.stack([case, case._replace(bias=np.array(np.nan)), case, case])
    epsilons = np.array([1.0, 1.0, 3e-4, 0.1])
    flow = functools.partial(small_flow, solver=diffrax.Tsit5(), max_steps=1000)
    batch = reference.quick_jit(jax.vmap(flow))(cases, epsilons)
    status = tts.Status
    np.testing.assert_array_equal(
        batch.status, [status.SUCCESSFUL, status.DIVERGED, status.MAX_STEPS, status.SUCCESSFUL]
    )
    assert batch.stats.method == "Tsit5"
    assert not np.isfinite(batch.risk[1]).any()
    reached = np.isfinite(batch.risk[2])
    assert 1 < reached.sum() < len(SMALL_TIMES)
    np.testing.assert_array_equal(reached, np.arange(len(reached)) < reached.sum())
    np.testing.assert_array_equal(np.isfinite(reference.states(batch)[2]), np.tile(reached[:, None], 9))
    for index in (0, 2, 3):
        want = reference.states(small_flow(case, epsilons[index]))
        rows = np.isfinite(batch.risk[index])
        assert reference.largest_difference(reference.states(batch)[index, rows], want[rows]) < 1e-8


# The implicit step.


@pytest.mark.parametrize("bias", [0.3, None])
def test_eliminated_weights_solve_the_shifted_system(bias):
    """Against LU of the whole matrix, its Hessian by quadrature."""
    case = reference.small_case(bias=bias)
    hessian = reference.answer(case).hessian
    n = len(hessian)
    model, problem = reference.build(case)
    blocks = problem.structure(model).hessian(problem, model)
    y = jnp.concatenate([jnp.ravel(part) for part in case[3:] if part is not None])
    right = np.random.default_rng(0).normal(size=n)

    def solve(epsilon, shift):
        linear = EliminatedWeights(lambda y, args: (jnp.asarray(epsilon), blocks))
        return linear.solve(linear.factor(None, 0.0, y, None, jnp.asarray(shift)), jnp.asarray(right))

    for epsilon, shift in itertools.product([1.0, 1e-2, 1e-5], [1e2, 1e4, 1e6]):
        mobility = np.concatenate([np.full(n - 4, 1 / epsilon), np.ones(4)])
        want = np.linalg.solve(shift * np.eye(n) + mobility[:, None] * hessian, right)
        np.testing.assert_allclose(solve(epsilon, shift), want, rtol=1e-10, atol=1e-10 * np.max(np.abs(want)))
    # A step so long that a direction of negative curvature grows within it is to be rejected.
    assert np.linalg.eigvalsh(hessian)[0] < -1
    assert np.isnan(solve(1.0, 1e-2)).all()


# Any model.


@pytest.fixture(scope="module")
def perceptron():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (7, 1))
    model = eqx.nn.MLP(1, "scalar", 3, 1, activation=jax.nn.tanh, key=jax.random.key(0))
    return model, tts.Dataset(x, np.sin(3 * x[:, 0]))


def first_layer(model):
    return model.layers[0]


PERCEPTRON_TIMES = np.linspace(0, 2, 5)


def perceptron_radau(model, problem, epsilon):
    """v, c, W, b of `v tanh(W x + b) + c`; the gradient by hand."""
    hidden, output = model.layers
    x, y = np.asarray(problem.x)[:, 0], np.asarray(problem.y)

    def velocity(t, state):
        w, b, v, c = state[:3], state[3:6], state[6:9], state[9]
        h = np.tanh(x[:, None] * w + b)
        pull = -2 * (h @ v + c - y) / len(x)
        back = pull[:, None] * (1 - h**2) * v
        return np.concatenate([x @ back, back.sum(axis=0), pull @ h / epsilon, [pull.sum() / epsilon]])

    parts = hidden.weight, hidden.bias, output.weight, output.bias
    start = np.concatenate([np.ravel(part) for part in parts])
    return radau(velocity, start, PERCEPTRON_TIMES)


@pytest.mark.parametrize("solver", [None, diffrax.Kvaerno5()], ids=["default", "Kvaerno5"])
def test_any_model_with_slow_leaves(perceptron, solver):
    flow = tts.GradientFlow(0.02, slow=first_layer, solver=solver, rtol=1e-10, atol=1e-10)
    got = reference.quick(lambda: tts.simulate(flow, *perceptron, PERCEPTRON_TIMES))
    assert got.status == tts.Status.SUCCESSFUL
    assert got.stats.method == ("Rodas5P, dense Jacobian" if solver is None else "Kvaerno5")
    want = perceptron_radau(*perceptron, 0.02)
    assert reference.largest_difference(leaves(got), want) < (1e-8 if solver is None else 1e-6)
    assert np.diff(got.risk).max() < 0


class Classifier(eqx.Module):
    """Logits `W x + b + scale`, with a scale that does not train."""

    weight: jax.Array
    bias: jax.Array
    scale: jax.Array

    def __call__(self, x):
        return jax.lax.stop_gradient(self.scale) * (self.weight @ x + self.bias)


def test_classification_with_a_leaf_that_does_not_train():
    """By a loss of the user's own, slow in the bias."""
    rng = np.random.default_rng(3)
    x, labels, weight = rng.normal(size=(9, 2)), np.arange(9) % 3, rng.normal(size=(3, 2))
    model, epsilon, times = Classifier(jnp.asarray(weight), jnp.zeros(3), jnp.asarray(1.5)), 0.1, np.linspace(0, 0.5, 4)
    problem = tts.Dataset(x, labels, loss=optax.softmax_cross_entropy_with_integer_labels)

    def pull(weight, bias):
        off = 1.5 * (scipy.special.softmax(1.5 * (x @ weight.T + bias), axis=1) - np.eye(3)[labels]) / len(x)
        return -off.T @ x, -off.sum(axis=0)

    def velocity(t, y):
        d_weight, d_bias = pull(y[:6].reshape(3, 2), y[6:])
        return np.concatenate([np.ravel(d_weight) / epsilon, d_bias])

    def run(dynamics):
        return reference.quick(lambda: tts.simulate(dynamics, model, problem, times, key=jax.random.key(0)))

    got = run(tts.GradientFlow(epsilon, slow=lambda m: m.bias, rtol=1e-10, atol=1e-10))
    want = radau(velocity, np.concatenate([np.ravel(weight), np.zeros(3)]), times)
    assert reference.largest_difference(leaves(got)[:, :-1], want) < 1e-8
    np.testing.assert_array_equal(got.model.scale, 1.5)
    h = times[1] / epsilon / 100
    batch, sampled = (run(tts.SGD(epsilon, h, size, slow=lambda m: m.bias)) for size in (None, 512))
    bias = np.zeros(3)
    for _ in range(100):
        d_weight, d_bias = pull(weight, bias)
        weight, bias = weight + h * d_weight, bias + epsilon * h * d_bias
    np.testing.assert_allclose(batch.model.weight[1], weight, atol=1e-13)
    np.testing.assert_allclose(sampled.risk, batch.risk, atol=0.01)
    np.testing.assert_array_equal(sampled.model.scale, 1.5)


def method(model, problem, **options):
    def traced(model):
        return tts.simulate(tts.GradientFlow(0.1, **options), model, problem, np.array([0.0, 1.0]))

    return eqx.filter_eval_shape(traced, model).stats.method


def test_which_solver(perceptron):
    """Nothing runs here: the choice follows from shapes and types."""
    model, problem = reference.build(reference.small_case())
    assert method(model, problem, slow=lambda m: m.weights) == "Rodas5P, dense Jacobian"
    wide = eqx.nn.MLP(1, "scalar", 171, 1, key=jax.random.key(0))
    assert method(wide, perceptron[1], slow=first_layer) == "Rodas5P, matrix-free"
    problem = perceptron[1]
    for epsilon, choice in ((1.0, Choice.EXPLICIT), (1e-7, Choice.MATRIX_FREE)):
        groups = Groups.of(wide, first_layer)
        equation = FlowEquation((jnp.asarray(epsilon),), problem, groups, problem.structure(wide))
        assert equation.choose(jnp.asarray(1.0)) is choice
        method_in_words = "Tsit5" if choice is Choice.EXPLICIT else "Rodas5P, matrix-free"
        assert equation.initial_value_problem(choice).method == method_in_words


# Without a matrix.


@pytest.mark.parametrize("factored", [np.array([2, 3, 5]), np.zeros(0, int)], ids=["block", "diagonal"])
def test_conjugate_gradients_solve_the_shifted_system(factored):
    rng = np.random.default_rng(0)
    root, right, is_fast = rng.normal(size=(6, 6)), rng.normal(size=6), np.isin(np.arange(6), [2, 3, 5])
    hessian = root @ root.T - 0.2 * np.eye(6)

    def solve(epsilon, shift):
        mobility = jnp.where(is_fast, 1 / epsilon, 1.0)
        linear = FactoredFastBlock(lambda args: mobility, factored)

        def field(t, y, args):
            return -mobility * (jnp.asarray(hessian) @ y)

        return linear.solve(linear.factor(field, 0.0, jnp.zeros(6), None, jnp.asarray(shift)), jnp.asarray(right))

    for epsilon, shift in itertools.product([1.0, 1e-6], [1.0, 1e4]):
        mobility = np.where(is_fast, 1 / epsilon, 1.0)
        want = np.linalg.solve(shift * np.eye(6) + mobility[:, None] * hessian, right)
        np.testing.assert_allclose(solve(epsilon, shift), want, atol=1e-9 * np.max(np.abs(want)))
    assert np.linalg.eigvalsh(hessian)[0] < -1e-2
    assert np.isnan(solve(1.0, 1e-3)).all()


def test_a_block_is_factored_where_it_pays():
    rng = np.random.default_rng(0)
    root, y = rng.normal(size=(40, 40)), rng.normal(size=40)
    hessian = root @ root.T
    mobility = np.where(np.arange(40) < 32, 1e6, 1.0)
    linear = FactoredFastBlock(lambda args: jnp.asarray(mobility), np.arange(32))
    for shift, pays in ((1.0, True), (1e12, False)):
        factors = linear.factor(
            lambda t, y, args: -mobility * (hessian @ y), 0.0, jnp.asarray(y), None, jnp.asarray(shift)
        )
        assert bool(factors.is_factored) == pays
        want = np.linalg.solve(shift * np.eye(40) + mobility[:, None] * hessian, y)
        np.testing.assert_allclose(linear.solve(factors, jnp.asarray(y)), want, atol=1e-9 * np.max(np.abs(want)))


def test_spectral_radius():
    matrix = np.diag([-7.0, 2.0, 0.5])
    assert spectral_radius(lambda t, y, args: jnp.asarray(matrix) @ y, jnp.ones(3), None) == pytest.approx(7, rel=1e-6)


def test_matrix_free_flow(perceptron):
    """It is for larger models: here one whose answer SciPy knows, the output layer fast, and its derivative."""
    fast = np.arange(6, 10)
    linear = FactoredFastBlock(lambda args: jnp.where(np.arange(10) < 6, 1.0, 1 / args[0][0]), fast)
    solver = Rodas5P(linear, autonomous=True)

    def run(epsilon):
        flow = tts.GradientFlow(epsilon, slow=first_layer, solver=solver, rtol=1e-9, atol=1e-9)
        got = tts.simulate(flow, *perceptron, PERCEPTRON_TIMES)
        return got.risk[-1], got

    got = reference.quick(lambda: run(jnp.asarray(0.02))[1])
    want = perceptron_radau(*perceptron, 0.02)
    assert reference.largest_difference(leaves(got), want) < 1e-6
    assert got.stats.steps < 300
    risk = reference.quick_jit(jax.value_and_grad(lambda epsilon: run(epsilon)[0]))
    difference = (risk(0.02001)[0] - risk(0.01999)[0]) / 2e-5
    np.testing.assert_allclose(risk(0.02)[1], difference, rtol=1e-6)


# Where epsilon acts.


STEPS = np.concatenate([[0, 0, 1, 1], np.arange(2, 101)])
"""With times that repeat: nothing is to move between them."""


def euler_and_descent(model, problem, epsilon, h, slow=None):
    times = epsilon * h * STEPS
    euler = tts.GradientFlow(epsilon, solver=diffrax.Euler(), slow=slow)
    descent = tts.SGD(epsilon, h, batch_size=None, slow=slow)
    return [reference.quick(lambda d=d: tts.simulate(d, model, problem, times)) for d in (euler, descent)]


@pytest.mark.parametrize("kind", ["network", "perceptron"])
def test_euler_on_the_flow_is_full_batch_descent(perceptron, kind):
    """One step of either is `a - h grad_a R`, `u - epsilon h grad_u R`: epsilon acts in one place."""
    if kind == "network":
        model, problem = reference.build(reference.small_case())
        epsilon, h, slow = 0.03, 0.1, None
    else:
        (model, problem), epsilon, h, slow = perceptron, 0.03, 0.1, first_layer
    euler, descent = euler_and_descent(model, problem, epsilon, h, slow)
    assert euler.status == descent.status == tts.Status.SUCCESSFUL
    assert reference.largest_difference(leaves(euler), leaves(descent)) < 1e-13
    np.testing.assert_array_equal(descent.step, STEPS)
    assert euler.stats.steps == 100
    start, first = leaves(euler)[1:3]
    gradient = eqx.filter(problem.gradient(model), eqx.is_inexact_array)
    gradient = eqx.tree_at(
        slow or (lambda m: m.positions), gradient, replace_fn=lambda node: jax.tree.map(lambda g: epsilon * g, node)
    )
    np.testing.assert_allclose(first - start, -h * ravel_pytree(gradient)[0], rtol=1e-12, atol=1e-15)
    assert np.ptp(leaves(euler), axis=0).min() > 1e-3  # everything moved
