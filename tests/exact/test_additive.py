"""Several input dimensions, ReLU neurons and piecewise linear targets: exact risks and flows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.flatten_util import ravel_pytree
from problem_table import OTHER, RAMPS, STAIRS, plane
from scipy.integrate import solve_ivp

import tts_jax as tts


def product_rule(model, targets):
    """A tensor grid of nodes that integrates the square of the residual without error."""
    width = getattr(model.activation, "eta", 0.0)
    axes = []
    for u, target in zip(np.asarray(model.positions).T, targets, strict=True):
        points = [*u, *(u - width / 2), *(u + width / 2), *np.asarray(target.kinks)]
        axes.append(reference.quadrature(np.array(points)))
    nodes = np.stack(np.meshgrid(*(x for x, _ in axes), indexing="ij"), axis=-1)
    weights = np.prod(np.meshgrid(*(w for _, w in axes), indexing="ij"), axis=0)
    return jnp.asarray(nodes.reshape(-1, len(axes))), jnp.asarray(weights.ravel())


CASES = [
    (tts.SmoothStep(0.1), (STAIRS, STAIRS), True),
    (tts.SmoothStep(0.3), (STAIRS, OTHER), False),
    (tts.SmoothStep(0.3), (STAIRS, RAMPS), True),
    (tts.ReLU(), (RAMPS, STAIRS), False),
    (tts.Heaviside(), (OTHER, OTHER), True),
]


@pytest.mark.parametrize(("activation", "components", "bias"), CASES)
def test_additive_risk_and_its_derivatives(activation, components, bias):
    """Against a tensor grid in two dimensions, its derivatives by automatic differentiation where f is smooth."""
    model, target = plane(activation, bias=bias), tts.Additive(components)
    problem = tts.Regression(target)
    x, weights = product_rule(model, components)
    want = weights @ (jax.vmap(model)(x) - target(x)) ** 2

    @reference.quick_jit
    def measured(model):
        sharp = isinstance(activation, tts.Heaviside)
        return problem.risk(model), problem.gradient(model), None if sharp else problem.normal_equations(model)

    risk, d, equations = measured(model)
    assert risk == pytest.approx(float(want), abs=1e-12)
    if isinstance(activation, tts.Heaviside):  # no normal equations, and no derivative by positions of the nodes
        return
    a, (gram, cross, square) = model.vectors[0], equations
    assert gram.shape == (10 + bias, 10 + bias)
    assert a @ gram @ a - 2 * cross @ a + square == pytest.approx(float(want), abs=1e-12)
    np.testing.assert_allclose(d.vectors[0], 2 * (gram @ a - cross), atol=1e-12)
    d_square = reference.quick_jit(jax.grad(lambda u: weights @ (_network(model, u, x) - target(x)) ** 2))
    np.testing.assert_allclose(d.positions, d_square(model.positions), atol=1e-11)


def _network(model, positions, x):
    moved = tts.ShallowNetwork(model.weights, positions, model.bias, model.activation)
    return jax.vmap(moved)(x)


@pytest.mark.parametrize(
    ("components", "bias"), [((STAIRS, STAIRS), False), ((STAIRS, OTHER), True)], ids=["of one form", "of two"]
)
def test_hessian_is_the_derivative_of_the_gradient(components, bias):
    model, problem = plane(tts.SmoothStep(0.2), bias=bias), tts.Regression(tts.Additive(components))
    flat, unravel = ravel_pytree((model.bias, model.weights, model.positions))

    def gradient(flat):
        b, a, u = unravel(flat)
        d = problem.gradient(tts.ShallowNetwork(a, u, b, model.activation))
        return ravel_pytree((d.bias, d.weights, d.positions))[0]

    want = reference.quick_jit(lambda flat: reference.central_differences(gradient, flat, 1e-5))(flat)
    d_aa, d_au, d_uu = reference.quick_jit(lambda m: problem.structure(m).hessian(problem, m))(model)
    np.testing.assert_allclose(np.block([[d_aa, d_au], [d_au.T, d_uu]]), want, atol=1e-7)


def test_one_component_is_the_target_itself():
    model, problem = reference.build(reference.small_case())
    alone = tts.Regression(tts.Additive([problem.target]))
    both = reference.quick_jit(lambda m: [(p.risk(m), p.gradient(m)) for p in (problem, alone)])(model)
    reference.close(*both)


# ReLU in one dimension.


def test_relu_by_hand():
    r"""$\int_0^1 (\max(x - 1/2, 0) - x)^2 dx = 1/24 + 1/8$."""
    model = tts.ShallowNetwork(jnp.array([[1.0]]), jnp.array([[0.5]]), None, tts.ReLU())
    problem = tts.Regression(tts.PiecewiseLinear([0.0], [1.0]))
    assert problem.risk(model) == pytest.approx(1 / 24 + 1 / 8, abs=1e-15)
    d = problem.gradient(model)
    assert d.bias is None
    assert d.weights[0, 0] == pytest.approx(2 * (1 / 24 - 5 / 48), abs=1e-15)
    assert d.positions[0, 0] == pytest.approx(2 * (0.5 * 0.5), abs=1e-15)


def gram_of_ramps(u):
    """The closed form, for positions in [0, 1]."""
    p, q = np.minimum(u[:, None], u), np.maximum(u[:, None], u)
    return (1 - q) ** 3 / 3 + (q - p) * (1 - q) ** 2 / 2


def test_normal_equations_of_relu():
    u = np.random.default_rng(1).uniform(size=6)
    model = tts.ShallowNetwork(jnp.ones((6, 1)), jnp.asarray(u)[:, None], None, tts.ReLU())
    knots, slopes = np.asarray(RAMPS.knots), np.asarray(RAMPS.slopes)
    gram, cross, square = reference.quick_jit(tts.Regression(RAMPS).normal_equations)(model)
    together = gram_of_ramps(np.concatenate([u, knots]))
    np.testing.assert_allclose(gram, together[:6, :6], atol=1e-15)
    np.testing.assert_allclose(cross, together[:6, 6:] @ slopes, atol=1e-15)
    assert square == pytest.approx(slopes @ together[6:, 6:] @ slopes, abs=1e-15)


def test_relu_network_that_is_the_target_has_no_risk():
    model = tts.ShallowNetwork(RAMPS.slopes[:, None], RAMPS.knots[:, None], None, tts.ReLU())
    problem = tts.Regression(RAMPS)
    assert problem.risk(model) < 1e-32
    assert max(map(jnp.max, map(jnp.abs, jax.tree.leaves(problem.gradient(model))))) < 1e-16


def test_relu_networks_have_a_distance():
    a, b = (plane(tts.ReLU(), seed=seed, dimension=1) for seed in (0, 1))
    target = tts.PiecewiseLinear(b.positions[:, 0], b.weights[:, 0], b.bias)
    distance, risk = reference.quick_jit(lambda a: (tts.distance(a, b), tts.Regression(target).risk(a)))(a)
    assert distance**2 == pytest.approx(float(risk), abs=1e-12)


# Targets.


def test_values_of_targets():
    x = np.linspace(0, 1, 11)
    ramps = np.clip(x - 0.3, 0, None) - 2 * np.clip(x - 0.5, 0, None) + 3 * np.clip(x - 0.7, 0, None)
    np.testing.assert_allclose(RAMPS(jnp.asarray(x)), ramps, atol=1e-15)
    np.testing.assert_allclose(
        tts.PiecewiseLinear([0.5], [2], 1.5)(jnp.asarray(x)), 1.5 + 2 * np.clip(x - 0.5, 0, None)
    )
    grid = jnp.asarray(np.stack(np.meshgrid(x, x), axis=-1))
    np.testing.assert_allclose(tts.Additive([RAMPS, STAIRS])(grid), RAMPS(grid[..., 0]) + STAIRS(grid[..., 1]))


@pytest.mark.usefixtures("annotations_off")
def test_targets_refuse():
    reference.refuses(lambda: tts.PiecewiseLinear([0.1, 0.2], [1.0]), "2 slopes", "got 1")
    reference.refuses(lambda: tts.PiecewiseLinear([np.nan], [1.0]), "knots", "nan")
    reference.refuses(lambda: tts.Additive([]), "at least one", "none")
    reference.refuses(lambda: tts.Additive([STAIRS, lambda x: x]), "component", "got function")
    model = plane(tts.SmoothStep(0.1))
    reference.refuses(lambda: tts.Regression(tts.Additive(3 * [STAIRS])).risk(model), "(neurons, 3)", "(5, 2)")


# Training.


@pytest.mark.parametrize(
    ("activation", "components", "method"),
    [
        (tts.SmoothStep(0.3), (STAIRS, OTHER), "Rodas5P, closed-form Hessian"),
        (tts.ReLU(), (RAMPS, RAMPS), "Rodas5P, dense Jacobian"),
    ],
)
def test_flow_against_scipy(activation, components, method):
    problem, epsilon = tts.Regression(tts.Additive(components)), 0.05
    model = tts.ShallowNetwork.init(jax.random.key(2), 3, activation, dimension=2, weight_range=3, bias=False)
    times = np.array([0.0, 0.02, 0.1])
    run = tts.simulate(tts.GradientFlow(epsilon), model, problem, times)
    assert run.stats.method == method

    @jax.jit
    def velocity(tau, y):
        a, u = y.reshape(2, 3, 2)
        d = reference.gradient_by_autodiff(problem, tts.ShallowNetwork(a, u, None, activation))
        return -jnp.concatenate([d.weights.ravel() / epsilon, d.positions.ravel()])

    start = np.concatenate([np.ravel(model.weights), np.ravel(model.positions)])
    solution = solve_ivp(velocity, (0, 0.1), start, "LSODA", times, rtol=1e-10, atol=1e-10)
    got = np.concatenate([run.model.weights.reshape(3, -1), run.model.positions.reshape(3, -1)], axis=1)
    np.testing.assert_allclose(got, solution.y.T, atol=1e-6)
    assert np.all(np.diff(run.risk) < 0)
