"""Rodas5P against exact solutions, SciPy and the order conditions."""

import itertools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from scipy.integrate import solve_ivp

from tts_jax.solvers import AbstractShiftedJacobian, DenseJacobian, Rodas5P, rodas5p

jax.config.update("jax_enable_x64", True)


# Problems with exact solutions: name -> (vector field, solution).


def spiral(t, y, args):
    """Nonlinear, autonomous: tends to the unit circle."""
    a, b = y
    slack = 1 - a**2 - b**2
    return jnp.stack([a * slack - b, b * slack + a])


@jax.jit
def spiral_exact(t):
    radius = 1 / jnp.sqrt(1 + 3 * jnp.exp(-2 * t))
    return jnp.stack([radius * jnp.cos(t), radius * jnp.sin(t)])


def forced(t, y, args):
    """Nonlinear, non-autonomous."""
    return -jnp.cos(t) * y**2


@jax.jit
def forced_exact(t):
    return 1 / (2 + jnp.sin(jnp.atleast_1d(t)))


SMOOTH = {"autonomous": (spiral, spiral_exact), "non-autonomous": (forced, forced_exact)}


def prothero_robinson(t, y, rate):
    return rate * (y - jnp.sin(1 + t)) + jnp.cos(1 + t)


def kaps(t, y, epsilon):
    """Singularly perturbed; the solution is (exp(-2t), exp(-t)) for every epsilon."""
    slow = y[0] - y[1] - y[1] ** 2
    return jnp.stack([(y[1] ** 2 - y[0]) / epsilon - 2 * y[0], slow])


def robertson(t, y, args):
    a = 0.04 * y[0] - 1e4 * y[1] * y[2]
    b = 3e7 * y[1] ** 2
    return jnp.stack([-a, a - b, b])


def robertson_jacobian(t, y, args):
    zero = jnp.zeros(())
    a = jnp.stack([jnp.asarray(0.04), -1e4 * y[2], -1e4 * y[1]])
    b = jnp.stack([zero, 6e7 * y[1], zero])
    return jnp.stack([-a, a - b, b])


def van_der_pol(t, y, mu):
    return jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])


# How they are solved.


RODAS5P = Rodas5P()


def one_step(f, t0, h, y0, args=None, solver=RODAS5P):
    """`(y1, error estimate, interpolation)` of a single step."""
    t0, h = jnp.asarray(t0), jnp.asarray(h)
    y1, y_error, dense, _, _ = solver.step(dfx.ODETerm(f), t0, t0 + h, y0, args, None, False)
    return y1, y_error, solver.interpolation_cls(t0=t0, t1=t0 + h, **dense)


def traced(x):
    """Python numbers as arrays: new values do not recompile."""
    return jax.tree.map(jnp.asarray, x)


@eqx.filter_jit
def constant_steps(f, y0, h, steps, args, solver):
    return jax.lax.fori_loop(0, steps, lambda i, y: one_step(f, i * h, h, y, args, solver)[0], y0)


def solve_fixed(f, y0, t1, steps, args=None, solver=RODAS5P):
    return constant_steps(f, y0, *traced((t1 / steps, steps, args)), solver)


@eqx.filter_jit
def diffeqsolve(f, solver, controller, t0, t1, dt0, y0, args, kwargs):
    return dfx.diffeqsolve(
        dfx.ODETerm(f), solver, t0, t1, dt0, y0, args, stepsize_controller=controller, **dict(kwargs)
    )


def solve(f, y0, t1, args=None, *, solver=RODAS5P, tol=1e-8, t0=0.0, dt0=1e-3, pid=None, **kwargs):
    t0, t1, dt0, tol, args, pid = traced((t0, t1, dt0, tol, args, pid))
    controller = dfx.PIDController(rtol=tol, atol=tol, **(pid or {}))
    return diffeqsolve(f, solver, controller, t0, t1, dt0, y0, args, kwargs)


def orders(errors, ratio=2):
    errors = np.asarray(errors)
    return np.log(errors[:-1] / errors[1:]) / np.log(ratio)


def largest(x):
    return np.max(np.abs(x))


# The coefficients.


def rooted_trees(order):
    """All rooted trees with `order` nodes, as nested sorted tuples."""
    if order == 1:
        return [()]
    found = set()
    for sizes in _partitions(order - 1, order - 1):
        for subtrees in itertools.product(*map(rooted_trees, sizes)):
            found.add(tuple(sorted(subtrees)))
    return sorted(found)


def _partitions(total, largest_part):
    if total == 0:
        yield ()
    for part in range(min(total, largest_part), 0, -1):
        for rest in _partitions(total - part, part):
            yield (part, *rest)


def tree_order(tree):
    return 1 + sum(map(tree_order, tree))


def tree_density(tree):
    return tree_order(tree) * np.prod([tree_density(t) for t in tree], dtype=int)


def standard_form():
    """alpha, Gamma and the transformation back from U, of the k-form of the method."""

    def lower(rows):
        return np.array([list(r) + [0.0] * (8 - len(r)) for r in rows])

    gamma = np.linalg.inv(np.eye(8) / rodas5p.GAMMA - lower(rodas5p._C))
    return lower(rodas5p._A) @ gamma, gamma


def residual(weights, order, theta=1.0):
    """Largest violation of the order conditions with `order` nodes (Hairer and Wanner, IV.7)."""
    alpha, gamma = standard_form()

    def phi(tree):
        matrix = alpha + gamma if len(tree) == 1 else alpha
        return np.prod([np.ones(8), *(matrix @ phi(t) for t in tree)], axis=0)

    weights = np.asarray(weights) @ gamma
    return max(abs(weights @ phi(t) - theta**order / tree_density(t)) for t in rooted_trees(order))


def test_rooted_trees_are_counted_right():
    assert [len(rooted_trees(n)) for n in range(1, 7)] == [1, 1, 2, 4, 9, 20]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_order_conditions_of_the_solution(order):
    assert residual(rodas5p._M, order) < 1e-13


def test_order_conditions_of_the_embedded_solution():
    embedded = np.array(rodas5p._M) - np.eye(8)[7]
    assert all(residual(embedded, order) < 1e-13 for order in (1, 2, 3, 4))
    assert residual(embedded, 5) > 1e-3
    assert residual(rodas5p._M, 6) > 1e-3


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.9])
def test_order_conditions_of_the_interpolation(theta):
    h1, h2, h3 = map(np.array, rodas5p.H)
    weights = theta * (np.array(rodas5p._M) + (1 - theta) * (h1 + theta * (h2 + theta * h3)))
    assert all(residual(weights, order, theta) < 1e-13 for order in (1, 2, 3, 4))
    assert residual(weights, 5, theta) > 1e-5


def test_nodes_are_the_row_sums():
    alpha, gamma = standard_form()
    np.testing.assert_allclose(alpha.sum(1), rodas5p._ALPHA, atol=1e-14)
    np.testing.assert_allclose(gamma.sum(1), rodas5p._GAMMAS, atol=1e-13)


# Orders.


@pytest.mark.parametrize("name", SMOOTH)
def test_order_is_five_on_a_smooth_problem(name):
    f, exact = SMOOTH[name]
    errors = [largest(solve_fixed(f, exact(0.0), 4.0, n) - exact(4.0)) for n in (40, 80, 160)]
    np.testing.assert_allclose(orders(errors), 5, atol=0.25)


def test_prothero_robinson_at_a_fixed_rate():
    rate = -1e6
    errors = [
        largest(solve_fixed(prothero_robinson, jnp.sin(jnp.ones(1)), 4.0, n, rate) - np.sin(5.0)) for n in (8, 16, 32)
    ]
    np.testing.assert_allclose(orders(errors), 3, atol=0.25)
    assert np.all(errors < 4 / abs(rate) * (4 / np.array([8, 16, 32])) ** 3)


@pytest.mark.parametrize("z", [-1.0, -1e1, -1e2, -1e4])
def test_prothero_robinson_uniformly_in_the_rate(z):
    steps = np.array([16, 32, 64])
    errors = [
        largest(solve_fixed(prothero_robinson, jnp.sin(jnp.ones(1)), 4.0, int(n), z * n / 4.0) - np.sin(5.0))
        for n in steps
    ]
    np.testing.assert_allclose(orders(errors), 4, atol=0.3)


@pytest.mark.parametrize("epsilon", [1.0, 1e-2, 1e-4, 1e-6, 1e-8])
def test_singular_perturbation(epsilon):
    exact = jnp.exp(jnp.array([-2.0, -1.0]))
    for n in (2, 4, 8, 16, 32):
        error = largest(solve_fixed(kaps, jnp.ones(2), 1.0, n, epsilon) - exact)
        assert error < 1e-4 * n**-4.0 + 0.1 * epsilon * n**-2.0


def test_l_stability():
    turn = jnp.array([[0.0, -1.0], [1.0, 0.0]])

    @jax.jit
    @jax.vmap
    def growth(real, imaginary):
        def f(t, y, args):
            return real * y + imaginary * (turn @ y)

        return one_step(f, 0.0, 1.0, jnp.array([1.0, 0.0]))[0]

    z = -np.logspace(0, 12, 49)
    damping = growth(z, 0 * z)[:, 0]
    assert abs(damping[0] - np.exp(-1.0)) < 1e-6
    assert np.all(np.abs(damping) < 1)
    assert np.all(np.abs(damping * z)[z <= -1e2] < 13)
    w = np.logspace(-3, 6, 200)
    assert np.linalg.norm(growth(0 * w, w), axis=1).max() < 1 + 1e-12


# The error estimate.


@pytest.mark.parametrize("name", SMOOTH)
def test_error_estimate_is_honest(name):
    f, exact = SMOOTH[name]
    t, h = 0.5, 0.1 * 2.0 ** -np.arange(4)
    y1, estimate, _ = jax.jit(jax.vmap(lambda h: one_step(f, t, h, exact(t))))(h)
    truth = jax.vmap(exact)(t + h)
    of_estimate = np.linalg.norm(estimate, axis=1)
    of_embedded = np.linalg.norm(y1 - estimate - truth, axis=1)
    of_solution = np.linalg.norm(y1 - truth, axis=1)
    np.testing.assert_allclose(orders(of_embedded), 5, atol=0.25)
    np.testing.assert_allclose(of_estimate / of_embedded, 1, atol=0.1)
    assert np.all(of_solution < 0.12 * of_estimate)
    np.testing.assert_allclose(orders(of_solution), 6, atol=0.25)


@pytest.mark.parametrize("tol", [1e-4, 1e-7, 1e-10])
def test_error_follows_the_tolerance(tol):
    solution = solve(spiral, spiral_exact(0.0), 4.0, tol=tol)
    assert largest(solution.ys[0] - spiral_exact(4.0)) < 10 * tol


# Dense output.


@pytest.mark.parametrize("name", SMOOTH)
def test_interpolation_order(name):
    f, exact = SMOOTH[name]
    t, theta = 0.5, np.linspace(0, 1, 21)

    @jax.jit
    @jax.vmap
    def error(h):
        y1, _, interpolation = one_step(f, t, h, exact(t))
        times = t + theta * h
        values = jax.vmap(interpolation.evaluate)(times)
        ends = jnp.stack([values[0] - exact(t), values[-1] - y1])
        return jnp.max(jnp.abs(values - jax.vmap(exact)(times))), ends

    errors, ends = error(0.1 * 2.0 ** -np.arange(4))
    np.testing.assert_allclose(orders(errors), 5, atol=0.3)
    assert largest(ends) < 1e-15


def test_saving_at_times_costs_no_steps():
    times = jnp.linspace(0.0, 4.0, 50)
    solution = solve(spiral, spiral_exact(0.0), 4.0, saveat=dfx.SaveAt(ts=times))
    plain = solve(spiral, spiral_exact(0.0), 4.0)
    assert solution.stats["num_steps"] == plain.stats["num_steps"]
    np.testing.assert_allclose(solution.ys, jax.vmap(spiral_exact)(times), atol=1e-7)


# Agreement with SciPy.


def radau(f, y0, times, args, jacobian):
    f, jacobian = jax.jit(f), jax.jit(jacobian)
    solution = solve_ivp(
        lambda t, y: np.asarray(f(t, y, args)),
        (0.0, times[-1]),
        y0,
        method="Radau",
        t_eval=times,
        jac=lambda t, y: np.asarray(jacobian(t, y, args)),
        rtol=1e-9,
        atol=1e-13,
    )
    return solution.y.T


ROBERTSON_TIMES = np.logspace(-2, 5, 15)


def solve_robertson(tol, **kwargs):
    saveat = dfx.SaveAt(ts=jnp.asarray(ROBERTSON_TIMES))
    return solve(robertson, jnp.array([1.0, 0.0, 0.0]), 1e5, tol=tol, dt0=1e-6, saveat=saveat, **kwargs)


def test_robertson_agrees_with_scipy_radau():
    reference = radau(robertson, [1.0, 0.0, 0.0], ROBERTSON_TIMES, None, robertson_jacobian)
    np.testing.assert_allclose(solve_robertson(1e-11).ys, reference, rtol=1e-7)


def test_van_der_pol_agrees_with_scipy_radau():
    times, mu = np.linspace(100.0, 1000.0, 19), 1e3
    reference = radau(van_der_pol, [2.0, 0.0], times, mu, jax.jacfwd(van_der_pol, argnums=1))
    saveat = dfx.SaveAt(ts=jnp.asarray(times))
    solution = solve(van_der_pol, jnp.array([2.0, 0.0]), 1000.0, mu, tol=1e-11, dt0=1e-6, saveat=saveat)
    np.testing.assert_allclose(solution.ys, reference, rtol=1e-6)


# Linear algebra.


def test_given_jacobian_equals_autodiff():
    auto = solve_robertson(1e-8)
    given = solve_robertson(1e-8, solver=Rodas5P(DenseJacobian(robertson_jacobian)))
    assert auto.stats["num_steps"] == given.stats["num_steps"]
    np.testing.assert_allclose(given.ys, auto.ys, rtol=1e-10)


def test_jacobian_of_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(2, 2\)"):
        solve(spiral, jnp.ones(2), 1.0, solver=Rodas5P(DenseJacobian(lambda t, y, a: y)))


def test_terms_that_are_not_an_ode_are_refused():
    path = dfx.LinearInterpolation(np.arange(2.0), np.arange(2.0))
    with pytest.raises(ValueError, match="not compatible"):
        dfx.diffeqsolve(dfx.ControlTerm(spiral, path), Rodas5P(), 0.0, 1.0, 0.1, jnp.ones(2))


class DiagonalJacobian(AbstractShiftedJacobian):
    """y' = -rates * (y - cos t); refuses shifts below `smallest`, as a Cholesky would."""

    smallest: float = 0.0

    def factor(self, vector_field, t, y, args, shift):
        return jnp.where(shift < self.smallest, jnp.nan, shift + args)

    def solve(self, factors, r):
        return r / factors


def relax(t, y, rates):
    return -rates * (y - jnp.cos(t))


@jax.jit
def relax_exact(t, rates):
    """From y(0) = 0."""
    particular = rates * (rates * jnp.cos(t) + jnp.sin(t)) / (1 + rates**2)
    return particular - rates**2 / (1 + rates**2) * jnp.exp(-rates * t)


RATES = jnp.array([1.0, 30.0, 1e3, 1e5])


def test_plugged_in_linear_solver():
    dense = solve(relax, jnp.zeros(4), 2.0, RATES)
    diagonal = solve(relax, jnp.zeros(4), 2.0, RATES, solver=Rodas5P(DiagonalJacobian()))
    assert dense.stats["num_steps"] == diagonal.stats["num_steps"]
    np.testing.assert_allclose(diagonal.ys, dense.ys, rtol=1e-11)
    np.testing.assert_allclose(diagonal.ys, relax_exact(2.0, RATES)[None], atol=1e-7)


# Failure.


@pytest.mark.parametrize(
    "pid",
    [
        {"pcoeff": 0.0, "icoeff": 1.0, "dcoeff": 0.0},
        {"pcoeff": 0.3, "icoeff": 0.3, "dcoeff": 0.0},
        {"pcoeff": 0.2, "icoeff": 0.3, "dcoeff": 0.1},
    ],
    ids=["I", "PI", "PID"],
)
def test_failed_factorisation_rejects_the_step(pid):
    longest = 0.01
    solver = Rodas5P(DiagonalJacobian(smallest=1 / (rodas5p.GAMMA * longest)))
    solution = solve(relax, jnp.zeros(4), 2.0, RATES, solver=solver, dt0=1.0, pid=pid, saveat=dfx.SaveAt(steps=True))
    accepted = int(solution.stats["num_accepted_steps"])
    times = np.concatenate([[0.0], solution.ts[:accepted]])
    assert solution.stats["num_rejected_steps"] > 10
    assert np.diff(times).max() <= longest * (1 + 1e-9)
    assert np.all(np.isfinite(solution.ys[:accepted]))
    np.testing.assert_allclose(solution.ys[accepted - 1], relax_exact(2.0, RATES), atol=1e-7)


def test_vector_field_undefined_beyond_the_solution():
    # y = (1 - t/2)^2, with NaN as soon as a stage has y < 0.
    solution = solve(lambda t, y, a: -jnp.sqrt(y), jnp.ones(1), 1.99, dt0=1.9)
    assert solution.stats["num_rejected_steps"] > 0
    np.testing.assert_allclose(solution.ys, 2.5e-5, atol=1e-7)


def test_singular_matrix_rejects_the_step():
    growth = 1 / rodas5p.GAMMA  # the shift of a step of length 1
    step = jax.jit(lambda y: Rodas5P().step(dfx.ODETerm(lambda t, y, a: growth * y), 0.0, 1.0, y, None, None, False))
    y1, y_error, dense, _, result = step(jnp.ones(2))
    assert result == dfx.RESULTS.nonfinite
    np.testing.assert_array_equal(y_error, [np.inf, np.inf])
    np.testing.assert_array_equal(y1, [1.0, 1.0])
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(dense))


def pole(t, y, args):
    """Not a number after time `args`."""
    return jnp.where(t > args, jnp.nan, -y)


def test_dead_end_is_a_result_and_no_hang():
    solution = solve(pole, jnp.ones(1), 2.0, 1.0, max_steps=1000, throw=False)
    assert solution.result == dfx.RESULTS.dt_min_reached
    assert solution.stats["num_steps"] < 200
    nowhere = solve(pole, jnp.ones(1), 2.0, -1.0, max_steps=1000, throw=False)
    assert nowhere.result == dfx.RESULTS.dt_min_reached
    np.testing.assert_array_equal(nowhere.ys, [[1.0]])


def test_constant_steps_stop_at_the_last_finite_state():
    solution = dfx.diffeqsolve(
        dfx.ODETerm(pole), Rodas5P(), 0.0, 2.0, 0.25, jnp.ones(1), 1.0, saveat=dfx.SaveAt(steps=True), throw=False
    )
    assert solution.result == dfx.RESULTS.nonfinite
    np.testing.assert_allclose(solution.ys[3, 0], np.exp(-1.0), rtol=1e-6)
    assert not np.any(np.isnan(solution.ys))


def test_failure_of_one_lane_leaves_the_others():
    def run(a):
        return solve(pole, jnp.ones(1), 2.0, a, max_steps=1000, throw=False)

    lanes, alone = jax.vmap(run)(jnp.array([3.0, 1.0])), run(3.0)
    assert (lanes.result == dfx.RESULTS.successful).tolist() == [True, False]
    assert (lanes.result == dfx.RESULTS.dt_min_reached).tolist() == [False, True]
    np.testing.assert_allclose(lanes.ys[0], alone.ys, rtol=1e-13)


# Transformations.


def test_vmap_is_a_loop():
    def run(rates):
        return solve(relax, jnp.zeros(4), 2.0, rates)

    rates = jnp.outer(jnp.array([0.1, 1.0, 10.0]), RATES)
    lanes, alone = jax.vmap(run)(rates), [run(r) for r in rates]
    assert lanes.stats["num_steps"].tolist() == [int(a.stats["num_steps"]) for a in alone]
    np.testing.assert_allclose(lanes.ys, [a.ys for a in alone], rtol=1e-10)


def stiff_decay(t, y, rate):
    """With y(0) = (1, 1): y = (exp(-rate t), exp(-2 rate t)), on a slow manifold."""
    slow = -rate * y[0] * (1 + y[1] - y[0] ** 2)
    return jnp.stack([slow, -1e4 * (y[1] - y[0] ** 2) - 2 * rate * y[0] ** 2])


def decayed(rate, adjoint):
    def f(t, y, args):
        return stiff_decay(t, y, rate)

    return solve(f, jnp.ones(2), 1.0, adjoint=adjoint).ys[-1, 0]


def test_reverse_mode_in_lanes_and_over_a_closed_over_value():
    rates = np.array([0.5, 3.0])
    gradient = jax.grad(lambda rate: decayed(rate, dfx.RecursiveCheckpointAdjoint()))
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(rates), -np.exp(-rates), rtol=1e-6)


def test_forward_mode_agrees_with_finite_differences():
    @jax.jit
    def derivatives(rate):
        def final(rate):
            return decayed(rate, dfx.ForwardMode())

        low, high = jax.vmap(final)(rate + jnp.array([-1e-4, 1e-4]))
        return jax.jacfwd(final)(rate), (high - low) / 2e-4

    tangent, difference = derivatives(0.5)
    np.testing.assert_allclose(tangent, -np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(difference, tangent, rtol=1e-5)


def test_second_derivatives_of_a_step():
    def decayed(rate):
        return one_step(lambda t, y, args: -rate * y, 0.0, 0.1, jnp.ones(1))[0][0]

    both = jax.jit(lambda r: [jax.hessian(decayed)(r), jax.grad(jax.grad(decayed))(r)])
    np.testing.assert_allclose(both(1.0), 0.01 * np.exp(-0.1), rtol=1e-6)


def test_gradient_through_failed_steps():
    solver = Rodas5P(DiagonalJacobian(smallest=100.0))

    def final(rates):
        solution = solve(relax, jnp.zeros(4), 1.0, rates, solver=solver, dt0=1.0)
        return solution.ys.sum(), solution.stats["num_rejected_steps"]

    gradient, rejected = jax.jit(jax.grad(final, has_aux=True))(RATES)
    exact = jax.jit(jax.grad(lambda r: relax_exact(1.0, r).sum()))(RATES)
    assert rejected > 5
    np.testing.assert_allclose(gradient, exact, atol=1e-7)


@pytest.mark.parametrize("transform", [jax.jacrev, jax.jacfwd], ids=["reverse", "forward"])
def test_derivative_of_a_failed_step_is_that_of_no_step(transform):
    solver = Rodas5P(DiagonalJacobian(smallest=100.0))

    def step(y, rates):
        return one_step(relax, 0.0, 1.0, y, rates, solver)[0]

    by_state, by_rates = jax.jit(transform(step, argnums=(0, 1)))(jnp.ones(4), RATES)
    np.testing.assert_array_equal(by_state, np.eye(4))
    np.testing.assert_array_equal(by_rates, np.zeros((4, 4)))


def test_event():
    event = dfx.Event(lambda t, y, args, **kwargs: y[0] - 0.5, optx.Newton(1e-10, 1e-10))

    def f(t, y, args):
        return -1e3 * (y - jnp.exp(-t)) - jnp.exp(-t)

    solution = solve(f, jnp.ones(1), 5.0, tol=1e-10, event=event)
    assert solution.result == dfx.RESULTS.event_occurred
    np.testing.assert_allclose(solution.ts, np.log(2.0), rtol=1e-8)
    np.testing.assert_allclose(solution.ys, 0.5, rtol=1e-9)


def test_state_may_be_any_pytree():
    def f(t, y, args):
        position, (velocity,) = y["position"], y["velocity"]
        return {"position": velocity, "velocity": (-position,)}

    y0 = {"position": jnp.array([[1.0, 0.0]]), "velocity": (jnp.array([[0.0, 2.0]]),)}
    saveat = dfx.SaveAt(t1=True, dense=True)
    solution = solve(f, y0, 3.0, tol=1e-10, saveat=saveat)
    for y, t in ((jax.tree.map(lambda x: x[-1], solution.ys), 3.0), (solution.evaluate(1.0), 1.0)):
        np.testing.assert_allclose(y["position"], [[np.cos(t), 2 * np.sin(t)]], atol=1e-7)
        np.testing.assert_allclose(y["velocity"][0], [[-np.sin(t), 2 * np.cos(t)]], atol=1e-7)


def test_backwards_in_time_with_a_given_jacobian():
    times = jnp.linspace(2.0, -1.0, 7)
    solver = Rodas5P(DenseJacobian(lambda t, y, args: -2 * jnp.cos(t) * y[:, None]))
    back = solve(forced, forced_exact(2.0), -1.0, t0=2.0, dt0=-1e-2, saveat=dfx.SaveAt(ts=times), solver=solver)
    np.testing.assert_allclose(back.ys, jax.vmap(forced_exact)(times), atol=1e-6)
    assert back.stats["num_steps"] < 45


def test_autonomous_skips_the_time_derivative_and_nothing_else():
    @jax.jit
    def with_and_without():
        solvers = (Rodas5P(autonomous=True), Rodas5P())
        return [[one_step(f, 0.5, 0.1, y(0.5), None, s)[0] - y(0.6) for s in solvers] for f, y in SMOOTH.values()]

    (left, right), (broken, whole) = with_and_without()
    np.testing.assert_allclose(left, right, atol=1e-14)
    assert largest(broken) > 100 * largest(whole)


def test_single_precision():
    y0, rate = jnp.ones(2, jnp.float32), jnp.float32(3.0)
    step = jax.jit(lambda t, h: one_step(lambda t, y, args: jnp.cos(t) - args * y, t, h, y0, rate))
    y1, y_error, interpolation = step(jnp.float32(0.0), jnp.float32(0.1))
    assert {x.dtype for x in jax.tree.leaves((y1, y_error, interpolation))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(y1, 0.7 * np.exp(-0.3) + 0.3 * np.cos(0.1) + 0.1 * np.sin(0.1), rtol=1e-6)


def test_nothing_recompiles_for_another_start():
    traces = 0

    def f(t, y, args):
        nonlocal traces
        traces += 1
        return -args * y

    solve(f, jnp.ones(2), 1.0, 2.0)
    first = traces
    solve(f, jnp.zeros(2), 3.0, 5.0, dt0=1e-1, tol=1e-6)
    assert first > 0
    assert traces == first
