"""The closed forms of the risk, its gradient and its Hessian against quadrature, autodiff and differences."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.flatten_util import ravel_pytree

import tts_jax as tts
from tts_jax.exact import quadratic

ETAS = (4e-3, 0.05, 0.3, 0.9, 1.7)
NEURONS = 8
TOLERANCE = 1e-11


def placements(eta, jumps):
    """Where closed forms go wrong: 8 neurons each."""
    random = np.random.default_rng(11)
    jump = jumps[0] if len(jumps) else 0.5
    return [
        np.repeat([0.4, jump, 0.0, 0.7], [3, 2, 2, 1]),  # coincident
        np.array([0, 1, jump, 0, 1, jump + eta / 2, jump - eta / 2, 0.5]),  # on 0, 1 and a jump
        eta * np.array([0.25, -0.5, -0.25, 0, 0.5, 1, 1.5, -1]),  # windows cut by 0
        1 + eta * np.array([-0.25, -0.5, 0, 0.25, 0.5, 1, -1.5, -1]),  # windows cut by 1
        0.3 + eta * np.array([0, 1, 0.5, 1.5, 2, -0.5, -1, 0.25]),  # windows that touch
        eta * random.uniform(-0.6, 0.6, NEURONS),  # a crowd at 0
        1 + eta * random.uniform(-0.6, 0.6, NEURONS),  # a crowd at 1
        np.repeat([0.0, 1.0], 4) + eta * random.uniform(-0.6, 0.6, NEURONS),  # a crowd at both
        np.array([-50, -3, 3, 50, 0.2, 0.9, -1.0000001, 2]),  # far outside
    ]


def batch(eta, jumps, bias, neurons):
    rng = np.random.default_rng([int(1e4 * eta), jumps, bias, neurons])
    draw = functools.partial(reference.random_case, rng, eta, jumps=jumps, bias=bias, neurons=neurons)
    yield from (draw(), draw(span=(-0.3, 1.3)), draw(weight=1e4))
    plain = draw()
    for positions in placements(eta, plain.jumps):
        yield draw()._replace(jumps=plain.jumps, positions=positions[:neurons])


class Group(NamedTuple):
    """Cases of one shape, so that everything about them compiles once."""

    jumps: int
    bias: bool
    neurons: int = NEURONS

    @property
    def cases(self):
        return [case for eta in ETAS for case in batch(eta, *self)]


GROUPS = [Group(0, True), Group(1, False), Group(5, True), Group(5, False, 1)]


def risk(case):
    model, problem = reference.build(case)
    return problem.risk(model)


def gradient(case):
    """The closed form, with respect to bias, weights and positions as one vector."""
    model, problem = reference.build(case)
    d = problem.gradient(model)
    return ravel_pytree((d.bias, d.weights, d.positions))[0]


def hessian(case):
    model, problem = reference.build(case)
    d_aa, d_au, d_uu = quadratic.hessian(model.activation, problem.target, *model.vectors)
    return jnp.block([[d_aa, d_au], [d_au.T, d_uu]])


def parameters(case):
    """Bias, weights and positions as one vector, and the way back to the case."""
    vector, unravel = ravel_pytree(case[3:])
    return vector, lambda vector: reference.Case(*case[:3], *unravel(vector))


def over(cases, f):
    """By `lax.map`, not `vmap`, so that each case takes its own branch."""
    return reference.quick_jit(functools.partial(jax.lax.map, f))(reference.stack(cases))


def agree(what, got, want, cases, tolerance=TOLERANCE, power=0):
    """Case by case, to `tolerance * size / eta**power`."""
    errors = [
        np.max(np.abs(a - b), initial=0) * case.eta**power / reference.size(case)
        for a, b, case in zip(np.asarray(got), np.asarray(want), cases, strict=True)
    ]
    worst = int(np.argmax(errors))
    assert errors[worst] < tolerance, f"{what} is off by {errors[worst]:.1e} in {cases[worst]}"


def as_vectors(cases):
    """Bias, weights and positions of a stack of cases, one row each."""
    return np.concatenate([np.reshape(part, (len(cases.eta), -1)) for part in cases[3:] if part is not None], axis=1)


@functools.cache
def integrals(group):
    return reference.stack([reference.answer(case) for case in group.cases])


@functools.cache
def closed_forms(group):
    return over(group.cases, lambda case: (risk(case), gradient(case), hessian(case)))


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_closed_forms_are_the_integrals(group):
    value, first, second = closed_forms(group)
    want = integrals(group)
    agree("the risk", value, want.risk, group.cases)
    agree("the gradient", first, as_vectors(want.gradient), group.cases)
    agree("the Hessian", second, want.hessian, group.cases, power=1)


def test_autodiff_of_the_risk_is_the_integral():
    """By weights and positions, and by the width and the target too."""
    group = Group(5, True)
    derivatives = over(group.cases, jax.grad(risk))
    for name, got, want in zip(reference.Case._fields, derivatives, integrals(group).gradient, strict=True):
        # sigma's argument is up to 50 / eta, and its rounding shows
        agree(f"autodiff by {name}", got, want, group.cases, tolerance=1e-9 if name == "eta" else TOLERANCE)


def test_differences_agree():
    """Central differences of the risk and of its gradient, and autodiff of the gradient."""
    group = Group(5, True)

    def everything(case):
        fields, unravel = ravel_pytree(case)
        theta, with_theta = parameters(case)
        step = 1e-5 * case.eta
        return (
            unravel(reference.central_differences(lambda x: risk(unravel(x)), fields, step)),
            reference.central_differences(lambda x: gradient(with_theta(x)), theta, step),
            jax.jacfwd(lambda x: gradient(with_theta(x)))(theta),
        )

    first, second, autodiff = over(group.cases, everything)
    for name, got, want in zip(reference.Case._fields, first, integrals(group).gradient, strict=True):
        agree(f"the derivative by {name}", got, want, group.cases, tolerance=1e-3)
    agree("the Hessian", second, closed_forms(group)[2], group.cases, tolerance=1e-2, power=1)
    agree("the Hessian", autodiff, closed_forms(group)[2], group.cases, power=1)


def test_one_centred_neuron_by_hand():
    """eta = 1, u = 1/2: the mean of sigma is 1/2 and that of its square 23/56."""
    case = reference.Case(1.0, np.array([]), np.array([3.0]), None, np.array([1.0]), np.array([0.5]))
    assert reference.quick_jit(risk)(case) == pytest.approx(23 / 56 - 3 + 9, abs=1e-15)


def test_risk_of_the_published_run():
    """Snapshots of the authors' SGD, whose risk was integrated numerically to about 1e-6."""
    stored = reference.load("sgd_stream")
    problem = tts.Regression(reference.paper_target())
    activation = tts.SmoothStep(4e-3)

    @reference.quick_jit
    @jax.vmap
    def risks(bias, weights, positions):
        return problem.risk(tts.ShallowNetwork(weights[:, None], positions[:, None], bias, activation))

    for run in ("eps1", "eps0.01", "eps2e-05"):
        got = risks(stored[f"{run}_bias"], stored[f"{run}_weights"], stored[f"{run}_positions"])
        np.testing.assert_allclose(got, stored[f"{run}_risk"], rtol=1e-6, atol=3e-6)


@pytest.fixture(scope="module")
def plain():
    """One ordinary case, with neurons in both edge windows."""
    return reference.random_case(np.random.default_rng(3), 0.3, jumps=5, bias=True, neurons=NEURONS)


@reference.quick_jit
def summary(case):
    return risk(case), gradient(case), hessian(case)


@pytest.mark.parametrize("bias", [True, False])
def test_normal_equations_are_the_risk(plain, bias):
    case = plain if bias else plain._replace(bias=None)
    model, problem = reference.build(case)
    normal_equations = reference.quick_jit(tts.Regression.normal_equations)
    gram, cross, square = map(np.asarray, normal_equations(problem, model))
    a = np.concatenate([[case.bias] if bias else [], case.weights])
    want = reference.answer(case)
    assert a @ gram @ a - 2 * cross @ a + square == pytest.approx(want.risk, abs=TOLERANCE)
    np.testing.assert_allclose(2 * (gram @ a - cross), as_vectors(reference.stack([want.gradient]))[0, : len(a)])
    np.testing.assert_array_equal(gram, gram.T)
    assert np.linalg.eigvalsh(gram).min() > -1e-14


def test_permuted_neurons_permute_the_derivatives(plain):
    order = np.random.default_rng(5).permutation(NEURONS)
    permuted = plain._replace(weights=plain.weights[order], positions=plain.positions[order])
    entries = np.concatenate([[0], 1 + order, 1 + NEURONS + order])
    (value, d, dd), got = jax.tree.map(np.asarray, (summary(plain), summary(permuted)))
    reference.close(got, (value, d[entries], dd[np.ix_(entries, entries)]))


def test_jit_and_vmap_change_nothing(plain):
    cases = reference.stack([plain, plain._replace(weights=-plain.weights), plain._replace(eta=0.05)])
    reference.same_under_jit_and_vmap(gradient, cases, 1e-12)


def test_the_same_shapes_compile_once(plain):
    """Also outside `jit`, as in a notebook."""
    compiled = []
    _, problem = reference.build(plain)
    model, other = (reference.paper_model(seed, eta=0.1 + seed, neurons=13) for seed in (0, 1))  # 13: here alone

    def count(event, duration, **_):
        del duration
        compiled.append(event == "/jax/core/compile/backend_compile_duration")

    def evaluate(model):
        return problem.risk(model), problem.gradient(model), problem.normal_equations(model)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        evaluate(model)
        before = sum(compiled)
        evaluate(other)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert before > 0
    assert sum(compiled) == before


def test_float32(plain):
    """The same numbers to single precision, in that precision: nothing is promoted on the way."""
    with jax.enable_x64(False):
        single = summary(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), plain))
    assert {leaf.dtype for leaf in single} == {jnp.dtype("float32")}
    for low, high in zip(single, summary(plain), strict=True):
        np.testing.assert_allclose(low, high, atol=1e-5 * np.max(np.abs(high)))
