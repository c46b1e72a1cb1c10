"""The closed forms in local coordinates against those of all pairs."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from local_cases import (
    CASES,
    NASTY,
    NEURONS,
    arguments,
    case_of,
    exact_risk,
    gradient_of_all_pairs,
    hessian_of_all_pairs,
    side_by_side,
)

from tts_jax.exact import band, local, mean_square

SHIFT, EPSILON = np.array(2.0), np.array(0.3)

bandwidth = reference.quick_jit(local.bandwidth)
gradient = reference.quick_jit(local.gradient)
risk = reference.quick_jit(mean_square.risk)


@reference.quick_jit
def hessian(args, reach):
    """From a workspace that is not clean; the lanes are the last axis."""
    space = band.workspace(NEURONS, NEURONS - 1, args[0].shape[-1], args[0].dtype)
    space = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), space)
    shift, epsilon = (jnp.asarray(x, args[0].dtype)[None] for x in (SHIFT, EPSILON))
    unequal = jnp.zeros((NEURONS - 1, args[0].shape[-1]), bool)
    return band.hessian(*args, epsilon * shift, shift, unequal, reach, space).blocks


def own_bandwidth(case):
    return bandwidth(jnp.asarray(case.positions), jnp.asarray(case.eta))


def stacked_gradient(parts):
    by_bias_and_weights = np.cumsum(parts.d_c[::-1], axis=0)[::-1]
    return np.concatenate([by_bias_and_weights, parts.d_u])


@pytest.mark.parametrize("bias", [True, False])
def test_gradient_is_that_of_all_pairs(bias):
    for case in CASES:
        case = case if bias else case._replace(bias=None)
        got = stacked_gradient(gradient(*arguments(case), own_bandwidth(case)))
        want = np.concatenate(gradient_of_all_pairs(case))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(want).max(), err_msg=str(case))


def test_gradient_of_a_merged_pair_keeps_its_accuracy():
    """Against exact fractions: the risk is quadratic in each plateau, of which one is large, between the two."""
    gap, large = 1e-6, 1e3
    case = reference.Case(
        np.array(4e-3),
        np.array([0.35, 0.5, 0.8]),
        np.array([0.0, 1.0, 0.0, 2.0]),
        0.1,
        np.array([0.2, -large, large + 1, 0.3, -0.7, 1.0]),
        np.array([0.1, 0.3501, 0.3501 + gap, 0.5003, 0.79, 0.801]),
    )
    got = gradient(*arguments(case), own_bandwidth(case)).d_c

    def moved(j, by):
        exact = np.vectorize(Fraction, otypes=[object])
        step = exact(np.append(case.bias, case.weights))
        step[j] += by
        if j < NEURONS:
            step[j + 1] -= by
        return exact_risk(case._replace(bias=step[0], weights=step[1:]))

    for j in range(NEURONS + 1):
        want = (moved(j, Fraction(1)) - moved(j, Fraction(-1))) / 2
        assert abs(Fraction(float(got[j])) - want) < (3e-15 if j == 2 else 1e-13)


def test_lanes_do_not_see_each_other():
    args = side_by_side(CASES)
    reach = bandwidth(args[1], args[3])
    assert reach == max(map(own_bandwidth, CASES))
    got = gradient(*args, reach)
    for i, case in enumerate(CASES):
        want = gradient(*arguments(case), own_bandwidth(case))
        reference.close(jax.tree.map(lambda x, i=i: x[..., i], got), want, 1e-12 * reference.size(case))


def test_lanes_may_share_width_and_target():
    cases = [case._replace(eta=0.1, jumps=CASES[0].jumps, values=CASES[0].values) for case in CASES[1:5]]
    a, u, bias, *_ = side_by_side(cases)
    got = everything(a, u, bias, *arguments(cases[0])[3:])
    for i, case in enumerate(cases):
        want = gradient(*arguments(case), jnp.asarray(2)), risk(*arguments(case))
        reference.close(jax.tree.map(lambda x, i=i: x[..., i], got), want, 1e-12)


@reference.quick_jit
def everything(*args):
    reach = jnp.asarray(2)
    return local.gradient(*args, reach), mean_square.risk(*args)


def test_bandwidth_counts_near_pairs():
    for case in CASES:
        u, eta = case.positions, case.eta
        reaches = (u > -eta / 2) & (u - 1 < eta / 2)
        shown = np.clip(u, -eta / 2, 1 + eta / 2)
        near = [
            j - i
            for i, j in itertools.combinations(range(NEURONS), 2)
            if (reaches[i] and reaches[j] and u[j] - u[i] < eta) or shown[j] < shown[i]
        ]
        if (np.diff(u) >= 0).all():
            assert own_bandwidth(case) == max(near, default=0)
        else:
            assert own_bandwidth(case) >= max(near)


def test_bandwidth_of_places_changed_twice():
    """No pair two apart is near, but one three apart is."""
    assert bandwidth(jnp.array([0.5, 0.4, 0.6, 0.45]), jnp.array(0.04)) == 3


def test_plateaus_and_back():
    a, bias = jnp.array([[1.0, 2.0], [3.0, -1.0]]), jnp.array([0.5, 1.0])
    c = local.plateaus(a, bias)
    np.testing.assert_array_equal(c, [[0.5, 1], [1.5, 3], [4.5, 2]])
    np.testing.assert_array_equal(local.weights_of(c), a)
    np.testing.assert_array_equal(local.plateaus(a, None), c - bias[None])


def dense(blocks, reach):
    """The matrix of the blocks of one lane that count."""
    n, _, b, _ = blocks.shape
    matrix = np.zeros((n, b, n, b))
    for i in range(n):
        for k in range(min(band.width(reach), n - 1 - i) + 1):
            matrix[i, :, i + k], matrix[i + k, :, i] = blocks[i, k], blocks[i, k].T
    return matrix.reshape(n * b, n * b)


def congruent(case, matrix_aa, matrix_au, matrix_uu):
    """T^T M T in the order of the slots, with rows of the identity for what stands for nothing."""
    n = len(matrix_aa)
    t = np.eye(n) - np.eye(n, k=-1)
    c = np.arange(NEURONS + 1 - n, NEURONS + 1)
    whole, c, u = np.eye(2 * NEURONS + 4 - 2 * (NEURONS % 2)), 2 * c + 1, 2 * np.arange(1, NEURONS + 1)
    whole[np.ix_(c, c)] = t.T @ matrix_aa @ t
    whole[np.ix_(c, u)] = t.T @ matrix_au
    whole[np.ix_(u, c)] = whole[np.ix_(c, u)].T
    whole[np.ix_(u, u)] = matrix_uu
    return whole


def shifted_hessian(case):
    d_aa, d_au, d_uu = map(np.asarray, hessian_of_all_pairs(case))
    return d_aa + SHIFT * EPSILON * np.eye(len(d_aa)), d_au, d_uu + SHIFT * np.eye(NEURONS)


@pytest.mark.parametrize("bias", [True, False])
def test_hessian_is_that_of_all_pairs(bias):
    """With a reach that is just enough, and with all that the workspace has."""
    for case in CASES:
        case = case if bias else case._replace(bias=None)
        want = congruent(case, *shifted_hessian(case))
        for reach in {int(own_bandwidth(case)), NEURONS - 1}:
            got = dense(np.asarray(hessian(side_by_side([case]), jnp.asarray(reach)))[..., 0], reach)
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(want).max(), err_msg=str(case))


def test_equal_neurons_are_tied():
    """The square of the difference of their weights is added, and nothing else."""
    case = CASES[list(NASTY).index("coincident")]
    args, none = side_by_side([case]), np.zeros((NEURONS - 1, 1), bool)
    tied = none.copy()
    tied[[1, 2, 4]] = True

    @reference.quick_jit
    def blocks(equal):
        space = band.workspace(NEURONS, NEURONS - 1, 1, args[0].dtype)
        return band.hessian(*args, jnp.ones(1), jnp.ones(1), equal, NEURONS - 1, space).blocks

    with_ties, without = (dense(np.asarray(blocks(equal))[..., 0], NEURONS - 1) for equal in (tied, none))
    differences = np.diff(np.eye(NEURONS + 1)[1:], axis=0)[tied[:, 0]]
    aa = differences.T @ differences
    identity = congruent(case, np.zeros_like(aa), np.zeros((NEURONS + 1, NEURONS)), np.zeros((NEURONS, NEURONS)))
    want = congruent(case, aa, np.zeros((NEURONS + 1, NEURONS)), np.zeros((NEURONS, NEURONS))) - identity
    np.testing.assert_allclose(with_ties - without, want, atol=1e-14)


def test_hessians_side_by_side():
    args = side_by_side(CASES)
    together = np.asarray(hessian(args, jnp.asarray(NEURONS - 1)))
    for i, case in enumerate(CASES):
        want = congruent(case, *shifted_hessian(case))
        np.testing.assert_allclose(
            dense(together[..., i], NEURONS - 1), want, rtol=1e-12, atol=1e-12 * np.abs(want).max(), err_msg=str(case)
        )


def test_nothing_is_outside_the_band():
    for case in CASES:
        matrix = congruent(case, *shifted_hessian(case))
        rows = np.arange(len(matrix))
        outside = np.abs(rows[:, None] - rows) > 2 * (1 + int(own_bandwidth(case)))
        assert np.abs(matrix[outside]).max(initial=0) < 1e-13 * np.abs(matrix).max()


@pytest.mark.parametrize("bias", [True, False])
def test_rows_there_and_back_solve_the_shifted_system(bias):
    """`(s D^-1 + H) x = r`, through blocks."""
    case = next(case for case in CASES if 0 < own_bandwidth(case) <= 2)
    case = case if bias else case._replace(bias=None)
    d_aa, d_au, d_uu = shifted_hessian(case)
    matrix = np.block([[d_aa, d_au], [d_au.T, d_uu]])
    r = jnp.asarray(np.random.default_rng(0).normal(size=(len(matrix), 1)))
    rows = band.to_rows(local.by_plateaus(r[-2 * NEURONS : -NEURONS], r[0] if bias else None), r[-NEURONS:])
    blocks = dense(np.asarray(hessian(side_by_side([case]), jnp.asarray(2)))[..., 0], 2)
    x = np.linalg.solve(blocks, rows.ravel()).reshape(rows.shape)
    bias_of_x, a, u = band.from_rows(jnp.asarray(x), NEURONS)
    got = np.concatenate([[bias_of_x] if bias else np.zeros((0, 1)), a, u])
    assert bias or bias_of_x == 0
    np.testing.assert_allclose(got, np.linalg.solve(matrix, r), rtol=1e-10)


@pytest.mark.parametrize("name", ["one near pair", "coincident", "cut by 0", "cut by both"])
def test_derivatives_of_the_gradient(name):
    """Forward mode through a traced reach is the Hessian and differences say so of the rest; reverse mode agrees."""
    case = case_of(*NASTY[name], 3)
    args, reach = arguments(case), own_bandwidth(case)
    rng = np.random.default_rng(5)
    directions = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), args)
    d_a, d_u, d_bias, *_ = directions
    d_aa, d_au, d_uu = map(np.asarray, hessian_of_all_pairs(case))
    first = np.append(d_bias, d_a)
    want = np.concatenate([d_aa @ first + d_au @ d_u, d_au.T @ first + d_uu @ d_u])
    only_these = (*directions[:3], *map(jnp.zeros_like, directions[3:]))
    reference.close(stacked_gradient(pushed(args, only_these, reach)), want, 1e-10 * np.abs(want).max())

    others = (*map(jnp.zeros_like, directions[:3]), *directions[3:])
    step = 1e-6
    high, low = (
        stacked_gradient(gradient(*(x + sign * step * y for x, y in zip(args, others, strict=True)), reach))
        for sign in (1, -1)
    )
    got = stacked_gradient(pushed(args, others, reach))
    np.testing.assert_allclose(got, (high - low) / (2 * step), atol=1e-4 * np.abs(got).max())

    cotangents = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), gradient(*args, reach))
    product = total_product(cotangents, pushed(args, directions, reach))
    assert total_product(pulled(args, cotangents), directions) == pytest.approx(product, rel=1e-11)


def total_product(one, other):
    return sum(float(jnp.sum(x * y)) for x, y in zip(one, other, strict=True))


@reference.quick_jit
def pushed(args, tangents, reach):
    return jax.jvp(lambda *args: local.gradient(*args, reach), args, tangents)[1]


@reference.quick_jit
def pulled(args, cotangents):
    return jax.vjp(lambda *args: local.gradient(*args, NEURONS), *args)[1](cotangents)


def test_one_neuron():
    case = CASES[0]._replace(weights=np.array([1.3]), positions=np.array([0.02]), eta=0.1)
    args = arguments(case)
    assert own_bandwidth(case) == 0
    want = np.concatenate(gradient_of_all_pairs(case))
    np.testing.assert_allclose(stacked_gradient(gradient(*args, own_bandwidth(case))), want, rtol=1e-12)
    assert float(risk(*args)) == pytest.approx(float(exact_risk(case)), rel=1e-12)


def first_blocks(args):
    """That of one case, of which two blocks of a row count."""
    return hessian(jax.tree.map(lambda x: x[..., None], args), jnp.asarray(1))[:-1, :2]


def test_float32():
    """The same numbers to single precision, in that precision."""
    case = case_of(*NASTY["one near pair"], 0)
    args = arguments(case)
    want = risk(*args), gradient(*args, jnp.asarray(1)), first_blocks(args)
    with jax.enable_x64(False):
        args = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float32)), args)
        got = risk(*args), gradient(*args, jnp.asarray(1)), first_blocks(args)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=3e-5 * np.abs(other).max())
