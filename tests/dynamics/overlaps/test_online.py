"""Online SGD in overlaps: against a public program, SciPy, SGD in many inputs, and the flow."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy.integrate import solve_ivp

import tts_jax as tts
from tts_jax.dynamics.overlaps import literature_speeds

SIMULATE, TIMES = eqx.filter_jit(tts.simulate), np.array([0.0, 0.3, 1.0])


def pair(inputs, neurons=3, of_teacher=2, seed=0):
    """A student and a teacher whose Q and T are near the identity."""
    rng = np.random.default_rng(seed)
    network = tts.PerceptronNetwork
    student = network(
        0.5 * rng.normal(size=neurons), rng.normal(size=(neurons, inputs)) / (2 * inputs) ** 0.5, tts.Erf()
    )
    directions = rng.normal(size=(of_teacher, inputs)) / (2 * inputs) ** 0.5
    return student, network(np.linspace(1.0, 0.5, of_teacher), directions, tts.Erf())


@pytest.mark.parametrize(("case", "last"), [("A", 0.00836617), ("C", 0.00855)])
def test_against_a_public_program(case, last):
    data = reference.load("online")
    q, r, t, a, v, alpha, risk, order, error = (
        data[f"{case}_{name}"] for name in ("Q0", "R0", "T0", "A0", "v0", "alpha", "risk", "order", "error")
    )
    settings = json.loads(str(data[f"{case}_settings"]))
    # A teacher with these overlaps, in as many inputs as it has neurons.
    teacher = tts.PerceptronNetwork(a, np.linalg.cholesky(t / 2), tts.Erf())
    speeds = literature_speeds(settings["lr"], settings["lr2"] if settings["both"] else None, len(a))
    frozen = None if settings["both"] else lambda model: model.weights
    online = tts.OnlineSGD(speeds.epsilon, speeds.step_size, frozen)
    run = tts.simulate(
        online,
        tts.Overlaps(v, q / 2, r / 2, tts.Erf()),
        tts.GaussianRegression(teacher, settings["sigma"]),
        speeds.slow_time * alpha,
    )
    i, k = np.triu_indices(len(v))
    got = [2 * run.model.student[:, i, k], 2 * run.model.teacher.reshape(len(alpha), -1)]
    got += [np.tile(a, (len(alpha), 1)), run.model.weights]
    assert np.abs(np.concatenate(got, axis=1) - order).max() < 1e-6 + error
    assert np.abs(run.risk / 2 - risk).max() < 1e-6 + error
    assert abs(run.risk[-1] / 2 - last) < 2e-6
    np.testing.assert_allclose(run.fast_time, run.slow_time / speeds.epsilon, rtol=1e-14)
    assert run.step is None


def literature(c, weights, of_teacher, epsilon, load, noise, pairs=None):
    """The rates as in the literature, one number after the other, in our slow time. Of the overlaps of the student with
    itself those of some pairs alone, where they are given; the others are NaN."""
    k, error = len(weights), np.concatenate([weights, -of_teacher])
    n = len(error)

    def i2(i, m):
        return 2 / np.pi * np.arcsin(c[i, m] / np.sqrt((1 + c[i, i]) * (1 + c[m, m])))

    def i3(i, p, m):
        l3 = (1 + c[i, i]) * (1 + c[m, m]) - c[i, m] ** 2
        return 2 / np.pi / np.sqrt(l3) * (c[p, m] * (1 + c[i, i]) - c[i, p] * c[i, m]) / (1 + c[i, i])

    def j2(i, j):
        return 2 / np.pi / np.sqrt((1 + c[i, i]) * (1 + c[j, j]) - c[i, j] ** 2)

    def i4(i, j, p, q):
        given = [i, j]
        gain = np.linalg.solve(np.eye(2) + c[np.ix_(given, given)], c[given])
        left = c - c[given].T @ gain
        return j2(i, j) * 2 / np.pi * np.arcsin(left[p, q] / np.sqrt((1 + left[p, p]) * (1 + left[q, q])))

    outer = [-2 / epsilon * sum(error[m] * i2(i, m) for m in range(n)) for i in range(k)]
    pull = np.array(
        [[-2 * weights[i] * sum(error[m] * i3(i, p, m) for m in range(n)) for p in range(n)] for i in range(k)]
    )
    own = np.full((k, k), np.nan)
    for i, j in np.ndindex(k, k) if pairs is None else pairs:
        square = sum(error[p] * error[q] * i4(i, j, p, q) for p in range(n) for q in range(n)) + noise**2 * j2(i, j)
        own[i, j] = pull[i, j] + pull[j, i] + 8 * epsilon * load * weights[i] * weights[j] * square
    return np.concatenate([outer, own.ravel(), pull[:, k:].ravel()])


def test_against_scipy():
    """Both layers with label noise, a large step and unequal numbers of neurons."""
    student, teacher = pair(5)
    epsilon, step_size, noise, times = 0.4, 0.3, 0.2, TIMES
    w = np.asarray(teacher.directions)
    start = tts.Overlaps.of(student, teacher.directions)

    def velocity(tau, y):
        a, own, other = np.split(y, [3, 12])
        own, other = own.reshape(3, 3), other.reshape(3, 2)
        c = 2 * np.block([[own, other], [other.T, w @ w.T]])
        return literature(c, a, np.asarray(teacher.weights), epsilon, 5 * step_size, noise)

    y0 = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(start)])
    want = solve_ivp(velocity, (0, 1), y0, "RK45", times, rtol=1e-8, atol=1e-8).y.T
    problem, online = tts.GaussianRegression(teacher, noise), tts.OnlineSGD(epsilon, step_size)
    run = SIMULATE(online, student, problem, times)
    got = np.concatenate([leaf.reshape(3, -1) for leaf in jax.tree.leaves(run.model)], axis=1)
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert abs(run.risk[0] - problem.risk(student)) < 1e-14
    # From its overlaps it goes on in the same way.
    later = SIMULATE(online, run.at(1), problem, [0.0, 0.1, 0.7])
    reference.close(later.at(-1), run.at(-1), 1e-8)


def test_twenty_neurons_each():
    """Their rates, from two short runs; the four-point integrals are 160,000."""
    student, teacher = pair(30, 20, 20)
    epsilon, step_size, noise, end = 0.4, 0.01, 0.2, 1e-4
    start = tts.Overlaps.of(student, teacher.directions)
    online = tts.OnlineSGD(epsilon, step_size, rtol=1e-12, atol=1e-12)
    run = tts.simulate(online, start, tts.GaussianRegression(teacher, noise), [0.0, end / 2, end])
    first, half, whole = np.concatenate([leaf.reshape(3, -1) for leaf in jax.tree.leaves(run.model)], axis=1)
    got = (4 * half - 3 * first - whole) / end
    w, own, other = np.asarray(teacher.directions), np.asarray(start.student), np.asarray(start.teacher)
    c = 2 * np.block([[own, other], [other.T, w @ w.T]])
    pairs, known = [(0, 0), (3, 17), (17, 3), (19, 19)], np.asarray(teacher.weights)
    want = literature(c, np.asarray(student.weights), known, epsilon, 30 * step_size, noise, pairs)
    asked = np.isfinite(want)
    assert asked.sum() == 20 + len(pairs) + 400
    np.testing.assert_allclose(got[asked], want[asked], atol=1e-5 * np.abs(want[asked]).max())


def test_sgd_in_many_inputs():
    """Deviations of a run fall like the root of the number of inputs; their mean falls faster."""
    load, epsilon, end, runs = 0.4, 0.5, np.array([0.02]), {100: 64, 10_000: 6}
    spread = []
    for d, count in runs.items():
        student, teacher = pair(d)
        start = tts.Overlaps.of(student, teacher.directions)
        # As many inputs as the teacher has neurons are enough for its overlaps: the load alone counts.
        own = tts.PerceptronNetwork(
            teacher.weights, jnp.linalg.cholesky(teacher.directions @ teacher.directions.T), tts.Erf()
        )
        exact = SIMULATE(tts.OnlineSGD(epsilon, load / 2), start, tts.GaussianRegression(own, 0.1), end)
        problem, sgd = tts.GaussianRegression(teacher, 0.1), tts.SGD(epsilon, load / d)

        def last_risk(key, sgd=sgd, student=student, problem=problem):
            return tts.simulate(sgd, student, problem, end, key=key).risk[-1]

        risks = jax.jit(lambda keys, of=last_risk: jax.lax.map(of, keys))(jax.random.split(jax.random.key(d), count))
        off = np.asarray(risks) - float(exact.risk[-1])
        spread.append(np.sqrt(np.mean(off**2)))
        assert abs(off.mean()) < 4 * off.std() / count**0.5
    ratio = np.log(max(runs) / min(runs))
    # The logarithm of each spread is known to (2 * count)**-0.5.
    error = sum(1 / (2 * count) for count in runs.values()) ** 0.5 / ratio
    assert abs(np.log(spread[1] / spread[0]) / ratio + 0.5) < 3 * error < 0.2


def test_the_flow_is_the_limit_of_small_steps():
    student, teacher = pair(5)
    problem = tts.GaussianRegression(teacher, 0.3)
    flow = tts.simulate(tts.GradientFlow(0.3), student, problem, TIMES)
    runs = [SIMULATE(tts.OnlineSGD(0.3, h), student, problem, TIMES) for h in (1e-3, 5e-4, 1e-9)]
    off = [np.asarray(run.risk - flow.risk)[1:] for run in runs]
    np.testing.assert_allclose(off[0] / off[1], 2, rtol=0.02)
    assert np.abs(off[2]).max() < 1e-8
    end = runs[2].model
    np.testing.assert_allclose(end.student, jax.vmap(lambda w: w @ w.T)(flow.model.directions), atol=1e-7)
    np.testing.assert_allclose(end.weights, flow.model.weights, atol=1e-7)


def test_ratios_side_by_side_and_derivatives():
    student, teacher = pair(5)
    problem = tts.GaussianRegression(teacher, 0.1)

    def risk(epsilon):
        return SIMULATE(tts.OnlineSGD(epsilon, 0.1), student, problem, TIMES).risk[-1]

    ratios = jnp.array([0.2, 1.0, 5.0])
    together, slopes = jax.jit(jax.vmap(jax.value_and_grad(risk)))(ratios)
    np.testing.assert_allclose(together, [float(risk(ratio)) for ratio in ratios], rtol=1e-8)
    np.testing.assert_allclose(slopes[1], (risk(1.0 + 1e-4) - risk(1.0 - 1e-4)) / 2e-4, rtol=1e-5)


def test_what_is_held():
    student, teacher = pair(5)
    problem, held = tts.GaussianRegression(teacher), lambda model: model.slow
    run = SIMULATE(tts.OnlineSGD(1.0, 0.1, frozen=held), student, problem, 1000 * TIMES)
    reference.close((run.model.student[1], run.model.teacher[1]), (run.model.student[0], run.model.teacher[0]))
    best = problem.normal_equations(student)
    np.testing.assert_allclose(run.model.weights[-1], np.linalg.solve(best.gram, best.cross), atol=1e-7)


def test_stiff():
    """The weights stay at their optimum, and an implicit solver is taken by itself."""
    student, teacher = pair(4)
    problem = tts.GaussianRegression(teacher)
    run = tts.simulate(tts.OnlineSGD(1e-6, 1e-3), student, problem, [0.1, 1.0])
    assert run.stats.method == "Rodas5P"
    end = run.at(-1)
    slope = jax.grad(lambda weights: problem.risk(eqx.tree_at(lambda m: m.weights, end, weights)))(end.weights)
    assert np.abs(slope).max() < 1e-5
    assert run.stats.steps < 500


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    student, teacher = pair(3)
    problem, online, start = (
        tts.GaussianRegression(teacher),
        tts.OnlineSGD(1.0, 0.1),
        tts.Overlaps.of(student, teacher.directions),
    )
    relus = tts.PerceptronNetwork(teacher.weights, teacher.directions, tts.ReLU())
    narrow = tts.Overlaps(start.weights, start.student, start.teacher[:, :1], tts.Erf())
    reference.refuses(lambda: tts.simulate(online, relus, tts.GaussianRegression(relus), [1.0]), "Erf", "got ReLU")
    reference.refuses(lambda: tts.GaussianRegression(relus).risk(start), "Erf", "teacher of ReLU")
    reference.refuses(lambda: tts.simulate(online, narrow, problem, [1.0]), "(neurons, 2)", "(3, 1)")
    reference.refuses(lambda: tts.simulate(tts.GradientFlow(1.0), start, problem, [1.0]), "OnlineSGD")
    alone = tts.Overlaps(start.weights, None, start.teacher[:, :1], tts.Erf())
    reference.refuses(lambda: tts.simulate(online, alone, problem, [1.0]), "got None")
    reference.refuses(lambda: tts.OnlineSGD(0.0, 0.1), "epsilon")
    reference.refuses(lambda: tts.OnlineSGD(1.0, -0.1), "step_size")
    half = tts.OnlineSGD(1.0, 0.1, frozen=lambda model: model.student)
    reference.refuses(lambda: tts.simulate(half, start, problem, [1.0]), "frozen")
    line = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    network = tts.ShallowNetwork([[1.0]], [[0.5]], 0.0, tts.SmoothStep(0.1))
    reference.refuses(lambda: tts.simulate(online, network, line, [1.0]), "got ShallowNetwork on Regression")
