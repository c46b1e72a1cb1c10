"""Independent answers in NumPy and SciPy, written from the definitions alone, and the paper's problem."""

import pathlib
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad_vec

import tts_jax as tts
from tts_jax.networks import trainable
from tts_jax.problems import Structure
from tts_jax.problems.base import risk_gradient

FOLDER = pathlib.Path(__file__).parent / "data"


def load(name: str) -> dict[str, np.ndarray]:
    """The arrays of `data/NAME.npz`; `data/README.md` says how they were computed."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def paper_target() -> tts.PiecewiseConstant:
    return tts.PiecewiseConstant(jumps=[0.2, 0.35, 0.5, 0.65, 0.8], values=[1, 5, 1, 3, 1, 5])


def paper_model(seed: int, eta: float = 4e-3, neurons: int = 20) -> tts.ShallowNetwork:
    return tts.ShallowNetwork.init(jax.random.key(seed), neurons, tts.SmoothStep(eta))


class Case(NamedTuple):
    """A one-dimensional network of smooth steps and a target; `bias` is None for a network without one."""

    eta: float
    jumps: np.ndarray
    values: np.ndarray
    bias: float | None
    weights: np.ndarray
    positions: np.ndarray


def build(case: Case) -> tuple[tts.ShallowNetwork, tts.Regression]:
    """The case as a model and a problem; of a stack of cases, under `vmap`."""
    case = jax.tree.map(jnp.asarray, case)
    model = tts.ShallowNetwork(case.weights[:, None], case.positions[:, None], case.bias, tts.SmoothStep(case.eta))
    return model, tts.Regression(tts.PiecewiseConstant(case.jumps, case.values))


def small_case(**changes) -> Case:
    """Four neurons, the outer two cut by 0 and 1. Every test that moves it shares what is compiled for these shapes."""
    jumps, values = np.array([0.3, 0.6]), np.array([1.0, -1.0, 2.0])
    weights, positions = np.array([0.5, -0.4, 1.0, 0.3]), np.array([0.05, 0.33, 0.52, 0.97])
    return Case(0.2, jumps, values, np.array(0.3), weights, positions)._replace(**changes)


class Answer(NamedTuple):
    """The risk, its derivative with respect to every field of the case, and its second derivatives with respect to
    bias (where there is one), weights and positions, in this order."""

    risk: np.ndarray
    gradient: Case
    hessian: np.ndarray


def step(z):
    return np.where(z <= 0, 4 * np.clip(z + 0.5, 0, None) ** 3, 1 - 4 * np.clip(0.5 - z, 0, None) ** 3)


def step_slope(z):
    return 12 * np.clip(0.5 - np.abs(z), 0, None) ** 2


def step_curvature(z):
    return -24 * np.sign(z) * np.clip(0.5 - np.abs(z), 0, None)


def target_values(jumps, values, x):
    return np.asarray(values)[np.searchsorted(jumps, x, side="right")]


def network(case: Case, x):
    """The network at one point."""
    return (case.bias or 0.0) + case.weights @ step((x - case.positions) / case.eta)


def kinks(case: Case):
    return np.concatenate([case.positions + shift * case.eta for shift in (-0.5, 0, 0.5)])


def integral(f, points):
    """The integral over [0, 1], adaptive, split at the points where `f` is not smooth."""
    inside = sorted({float(x) for x in points if 0 < x < 1})
    value, error, info = quad_vec(f, 0, 1, points=inside, epsabs=1e-9, norm="max", quadrature="gk15", full_output=True)
    assert info.success, (error, info)
    return value


def answer(case: Case) -> Answer:
    """Quadrature of the squared residual and of its derivatives with respect to every parameter."""
    biases, m = (0, len(case.weights)) if case.bias is None else (1, len(case.weights))

    def integrands(x):
        z = (x - case.positions) / case.eta
        slope, curvature = step_slope(z) / case.eta, step_curvature(z) / case.eta**2
        residual = network(case, x) - target_values(case.jumps, case.values, x)
        tangent = np.concatenate([np.ones(biases), step(z), -case.weights * slope])
        second = np.zeros((biases + 2 * m, biases + 2 * m))
        w, u = biases + np.arange(m), biases + m + np.arange(m)
        second[w, u] = second[u, w] = -slope
        second[u, u] = case.weights * curvature
        d_eta = -case.weights @ (z * slope)
        piece = np.searchsorted(case.jumps, x, side="right") == np.arange(len(case.values))
        return np.concatenate(
            [
                [residual**2],
                2 * residual * tangent,
                (2 * (np.outer(tangent, tangent) + residual * second)).ravel(),
                [2 * residual * d_eta],
                -2 * residual * piece,
            ]
        )

    n = biases + 2 * m
    parts = integral(integrands, np.concatenate([kinks(case), case.jumps]))
    risk, d_bias, d_weights, d_positions, hessian, d_eta, d_values = np.split(
        parts, np.cumsum([1, biases, m, m, n * n, 1])
    )
    at_jumps = np.array([network(case, v) for v in case.jumps])
    d_jumps = (at_jumps - case.values[:-1]) ** 2 - (at_jumps - case.values[1:]) ** 2
    d_bias = d_bias[0] if biases else None
    gradient = Case(d_eta[0], d_jumps, d_values, d_bias, d_weights, d_positions)
    return Answer(risk[0], gradient, hessian.reshape(n, n))


def stack(items):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *items)


def size(case: Case):
    """What an error of the risk is relative to: 1, but the square of its terms where weights are heavy."""
    terms = abs(case.bias or 0.0) + np.abs(case.weights).sum() + np.abs(case.values).max()
    return 1.0 if terms < 30 else terms**2


def random_case(rng, eta, *, jumps, bias, neurons, weight=1.0, span=(0.0, 1.0)) -> Case:
    """Jumps at least 0.02 from each other and from 0 and 1, neurons uniform in `span`."""
    gaps = rng.dirichlet(np.ones(jumps + 1)) * (1 - 0.02 * (jumps + 1)) + 0.02
    return Case(
        eta,
        np.cumsum(gaps)[:-1],
        rng.uniform(-3, 5, jumps + 1),
        rng.normal() if bias else None,
        weight * rng.normal(size=neurons),
        rng.uniform(*span, neurons),
    )


OPTIMISED = {"xla_backend_optimization_level": 3}
"""Compiled so, a run takes the same bits whoever lies beside it."""


def quick_jit(f):
    """For what is computed once: compiles in half the time."""
    return jax.jit(lambda *args: f(*args), compiler_options={"xla_backend_optimization_level": 0})


def quick(f):
    """`f()`, compiled with little effort; its result may hold what is no array."""
    return eqx.filter_jit(f, compiler_options={"xla_backend_optimization_level": 0})()


def states(trajectory: tts.Trajectory) -> np.ndarray:
    """Bias, weights and positions in one dimension, a row for each time (after the axes of a batch)."""
    model = trajectory.model
    return np.concatenate([model.bias[..., None], model.weights[..., 0], model.positions[..., 0]], axis=-1)


def largest_difference(got, want) -> float:
    return np.max(np.abs(np.asarray(got) - np.asarray(want)))


def central_differences(f, x, step):
    """The derivative of `f` with respect to a vector, one row for each coordinate."""
    shifts = step * jnp.eye(len(x))
    return (jax.vmap(f)(x[None] + shifts) - jax.vmap(f)(x[None] - shifts)) / (2 * step)


def gradient_by_autodiff(problem, model):
    """Of the risk, whatever closed form the problem knows."""
    return risk_gradient(problem, Structure(), *eqx.partition(model, trainable(model)))


def close(got, want, tolerance=1e-13):
    """Two PyTrees of one structure, to `tolerance` of the larger of 1 and the wanted value."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, want)


def same_under_jit_and_vmap(f, batch, tolerance=1e-13):
    """`f` of each item of a batch: one by one, jitted, and all at once."""

    def item(i):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[i]), batch)

    items = [item(i) for i in range(len(jax.tree.leaves(batch)[0]))]
    eager = stack([f(item) for item in items])
    jitted = quick_jit(f)
    close(stack([jitted(item) for item in items]), eager, tolerance)
    close(quick_jit(jax.vmap(f))(batch), eager, tolerance)


def refuses(call, *said):
    """`call` raises a `ValueError` of one line that says what was got."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011, the message is looked at below
        call()
    message = str(raised.value)
    assert "\n" not in message
    for text in said:
        assert text in message


def quadrature(points):
    """Nodes and weights that integrate degree 7 without error between neighbouring `points` in [0, 1]."""
    edges = np.unique(np.concatenate([[0, 1], np.clip(points, 0, 1)]))
    nodes, weights = np.polynomial.legendre.leggauss(4)
    left, width = edges[:-1, None], np.diff(edges)[:, None]
    return (left + width * (nodes + 1) / 2).ravel(), (width * weights / 2).ravel()
