"""The risk as a mean square along [0, 1] against exact fractions, and its derivatives."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from local_cases import CASES, NEURONS, arguments, exact_risk, hessian_of_all_pairs, side_by_side

from tts_jax.exact import mean_square, quadratic

risk = reference.quick_jit(mean_square.risk)


def test_risk_is_the_exact_fraction():
    together = risk(*side_by_side(CASES))
    for i, case in enumerate(CASES):
        want = float(exact_risk(case))
        assert float(risk(*arguments(case))) == pytest.approx(want, rel=1e-11)
        assert float(together[i]) == pytest.approx(want, rel=1e-11)


@pytest.mark.parametrize("level", [0.0, 1e5, 1e7])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eta", [4e-3, 0.3])
def test_risk_keeps_its_accuracy_near_the_optimum(level, bias, eta):
    """A target of steps by 1 from `level`; without a bias, a neuron left of 0 has its size."""
    positions = np.array([-eta, 0.349, 0.3505, 0.5003, 0.79, 0.801])
    low = np.array([0.0, 1.0, 0.0, 2.0])
    case = reference.Case(eta, np.array([0.35, 0.5, 0.8]), low, None, np.zeros(NEURONS), positions)
    model, problem = reference.build(case)
    gram, cross, _ = quadratic.normal_equations(model.activation, problem.target, model.positions[:, 0], bias=False)
    weights = np.linalg.solve(gram, cross)
    if bias:
        case = case._replace(bias=np.array(level))
    else:
        weights[0] += level
    case = case._replace(weights=weights, values=low + level)
    want = exact_risk(case)
    assert 0 < want < 0.1
    assert abs(Fraction(float(risk(*arguments(case)))) / want - 1) < 1e-10


def test_risk_is_never_negative():
    case = CASES[0]._replace(weights=np.zeros(NEURONS), values=np.full(4, 0.1), bias=np.array(0.1))
    assert risk(*arguments(case)) == 0


def test_derivatives_of_the_risk():
    """In reverse mode those by quadrature, and forward mode agrees."""
    reverse = reference.quick_jit(jax.grad(mean_square.risk, argnums=tuple(range(6))))
    direction = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(1).normal(size=x.shape)), arguments(CASES[0]))
    forward = reference.quick_jit(lambda *args: jax.jvp(mean_square.risk, args, direction)[1])
    for case in CASES[:12]:
        args = arguments(case)
        got, exact = reverse(*args), reference.answer(case).gradient
        want = (exact.weights, exact.positions, exact.bias, exact.eta, exact.jumps, exact.values)
        reference.close(got, want, 1e-9)
        expected = sum(float(jnp.sum(x * y)) for x, y in zip(got, direction, strict=True))
        assert float(forward(*args)) == pytest.approx(expected, rel=1e-11, abs=1e-11)


def test_second_derivatives_of_the_risk():
    """Forward over reverse mode, along one direction of the positions."""
    direction = jnp.asarray(np.random.default_rng(2).normal(size=NEURONS))

    @reference.quick_jit
    def second(a, u, *rest):
        return jax.jvp(lambda u: jax.grad(mean_square.risk, argnums=1)(a, u, *rest), (u,), (direction,))[1]

    for case in CASES[1:8]:
        want = np.asarray(hessian_of_all_pairs(case).d_uu) @ direction
        np.testing.assert_allclose(second(*arguments(case)), want, rtol=1e-9, atol=1e-11 * np.abs(want).max())
