"""Networks of steps in every configuration, for the closed forms in local coordinates."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import reference

from tts_jax.exact import quadratic

NEURONS = 6

NASTY = {
    "far apart": (0.004, [0.1, 0.3, 0.31, 0.5, 0.7, 0.9]),
    "one near pair": (0.05, [0.1, 0.3, 0.32, 0.5, 0.7, 0.9]),
    "a near pair swapped": (0.05, [0.1, 0.32, 0.3, 0.5, 0.7, 0.9]),
    "a merged pair": (0.05, [0.1, 0.3, 0.3000001, 0.5, 0.7, 0.9]),
    "coincident": (0.05, [0.1, 0.3, 0.3, 0.3, 0.7, 0.9]),
    "windows that touch": (0.1, [0.1, 0.2, 0.3, 0.35, 0.4, 0.9]),
    "on the edges and a jump": (0.1, [0.0, 0.0, 0.35, 0.65, 1.0, 1.0]),
    "cut by 0": (0.1, [-0.04, -0.01, 0.0, 0.02, 0.049, 0.3]),
    "cut by 0, out of order": (0.1, [0.02, -0.01, 0.049, -0.04, 0.0, 0.3]),
    "cut by 1": (0.1, [0.7, 0.951, 0.98, 1.0, 1.03, 1.049]),
    "cut by both": (0.9, [-0.4, 0.1, 0.45, 0.6, 1.2, 1.4]),
    "outside": (0.05, [-3.0, -0.025, -0.02, 1.02, 1.025, 50.0]),
    "all outside": (0.05, [-3.0, -3.0, -0.03, 1.03, 4.0, 4.0]),
    "places changed with outside": (0.1, [0.03, -0.06, 0.5, 1.06, 0.97, 0.99]),
    "wider than [0, 1]": (1.7, [-0.8, -0.2, 0.4, 0.5, 1.1, 1.8]),
    "much wider": (9.0, [-4.0, 0.2, 0.4, 0.6, 2.0, 5.0]),
    "reversed": (0.3, [0.9, 0.7, 0.5, 0.3, 0.2, 0.1]),
}


def case_of(eta, positions, seed, bias=True):
    rng = np.random.default_rng(seed)
    plain = reference.random_case(rng, eta, jumps=3, bias=bias, neurons=NEURONS)
    return plain._replace(jumps=np.array([0.35, 0.5, 0.8]), positions=np.array(positions))


def random_cases():
    for seed, (eta, span) in enumerate(itertools.product((4e-3, 0.05, 0.3, 0.9, 1.7), ((0, 1), (-0.3, 1.3)))):
        plain = reference.random_case(
            np.random.default_rng(seed), eta, jumps=3, bias=True, neurons=NEURONS, span=span, weight=10.0
        )
        yield plain._replace(positions=np.sort(plain.positions))


CASES = [case_of(*nasty, seed) for seed, nasty in enumerate(NASTY.values())] + [*random_cases()]


def arguments(case):
    return tuple(
        None if x is None else jnp.asarray(x)
        for x in (case.weights, case.positions, case.bias, case.eta, case.jumps, case.values)
    )


def side_by_side(cases):
    """The arguments of all cases, lanes last."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=-1), *map(arguments, cases))
    return tuple(stacked)


def all_pairs(f):
    """`quadratic.gradient` or `hessian` of one case."""

    @reference.quick_jit
    def compute(case):
        model, problem = reference.build(case)
        return f(model.activation, problem.target, model.vectors[0], model.positions[:, 0])

    return compute


gradient_of_all_pairs, hessian_of_all_pairs = all_pairs(quadratic.gradient), all_pairs(quadratic.hessian)


def exact_risk(case) -> Fraction:
    """Every number is a fraction, and every piece of the squared residual a polynomial."""
    exact = np.vectorize(Fraction, otypes=[object])
    u, a, jumps, values = (exact(x) for x in (case.positions, case.weights, case.jumps, case.values))
    eta, half, bias = Fraction(float(case.eta)), Fraction(1, 2), exact(case.bias or 0).item()
    points = {x for p in u for x in (p - eta / 2, p, p + eta / 2)} | set(jumps)
    points = sorted({Fraction(0), Fraction(1)} | {x for x in points if 0 < x < 1})
    total = Fraction(0)
    for left, right in itertools.pairwise(points):
        middle = (left + right) / 2
        residual = np.array([bias - values[np.sum(jumps <= middle)], 0, 0, 0], dtype=object)  # in powers of x - left
        for weight, place in zip(a, u, strict=True):
            z, shift = (middle - place) / eta, (left - place) / eta
            if z >= half:
                residual[0] += weight
            elif z > -half:
                first, slope = (half + shift, 1 / eta) if z <= 0 else (half - shift, -1 / eta)
                cube = np.array([first**3, 3 * first**2 * slope, 3 * first * slope**2, slope**3], dtype=object)
                residual = residual + weight * (4 * cube if z <= 0 else np.array([1, 0, 0, 0]) - 4 * cube)
        width = right - left
        total += sum(residual[i] * residual[j] * width ** (i + j + 1) / (i + j + 1) for i in range(4) for j in range(4))
    return total
