"""Problems by name, each with a model that it knows something about, and what noise adds to the loss of a sample."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import reference

import tts_jax as tts

STAIRS = tts.PiecewiseConstant([0.3, 0.5, 0.7], [0, 1, 2, 3])
RAMPS = tts.PiecewiseLinear([0.3, 0.5, 0.7], [1.0, -2.0, 3.0])
OTHER = tts.PiecewiseConstant([0.4], [1.0, -2.0])


class Known(NamedTuple):
    problem: tts.problems.AbstractProblem
    model: Any
    noise: float = 0.0


def plane(activation, *, seed=0, neurons=5, bias=True, dimension=2):
    """Neurons in and beyond [0, 1]^d."""
    rng = np.random.default_rng(seed)
    return tts.ShallowNetwork(
        jnp.asarray(rng.normal(size=(neurons, dimension))),
        jnp.asarray(rng.uniform(-0.2, 1.2, (neurons, dimension))),
        jnp.asarray(0.7) if bias else None,
        activation,
    )


def plain_case(**options):
    shape = {"jumps": 5, "bias": True, "neurons": 8} | options
    return reference.random_case(np.random.default_rng(4), 0.05, **shape)


def student_and_teacher(activation, inputs=3):
    student = tts.PerceptronNetwork.init(jax.random.key(0), 4, inputs, activation)
    return student, tts.PerceptronNetwork.init(jax.random.key(1), 2, inputs, activation)


def rows(n=30, inputs=2, outputs=None, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(n, inputs)), rng.normal(size=n if outputs is None else (n, outputs))


def _gaussian(activation):
    student, teacher = student_and_teacher(activation)
    return Known(tts.GaussianRegression(teacher, noise=0.3), student, 0.09)


PROBLEMS: dict[str, Callable[[], Known]] = {
    "steps": lambda: Known(
        tts.Regression(reference.paper_target(), noise=1.0), reference.build(plain_case())[0], 1 / 3
    ),
    "steps, normal noise": lambda: Known(
        tts.Regression(reference.paper_target(), 0.5, jax.random.normal), plane(tts.SmoothStep(0.1), dimension=1), 0.25
    ),
    "steps in three inputs": lambda: Known(
        tts.Regression(tts.Additive(3 * (STAIRS,)), noise=0.5), plane(tts.SmoothStep(0.05), dimension=3), 0.25 / 3
    ),
    "ramps in three inputs": lambda: Known(
        tts.Regression(tts.Additive(3 * (RAMPS,)), noise=0.5), plane(tts.ReLU(), dimension=3), 0.25 / 3
    ),
    "a teacher of steps": lambda: Known(
        tts.Regression(tts.teacher(plane(tts.SmoothStep(0.2)))), plane(tts.SmoothStep(0.1), seed=1, bias=False)
    ),
    "a smooth function": lambda: Known(
        tts.Regression(tts.SmoothTarget(lambda x: jnp.sin(6 * x) + jnp.exp(-x))), plane(tts.ReLU(), dimension=1)
    ),
    "Gaussian inputs, ReLU": lambda: _gaussian(tts.ReLU()),
    "Gaussian inputs, erf": lambda: _gaussian(tts.Erf()),
    "a single index": lambda: Known(
        tts.SingleIndex([3.0, 0.0, -4.0], tts.Hermite([0.5, 1.0, -0.7]), noise=0.4),
        tts.SphereNetwork(
            [1.0, -2.0, 0.5],
            [[1.0, 0.2, 0.3], [-0.4, 2.0, 0.1], [0.3, 0.1, -0.8]],
            tts.Hermite([0.4, 0.8, 0.6, 0.5]),
        ),
        0.16,
    ),
    "data": lambda: Known(tts.Dataset(*rows()), plane(tts.SmoothStep(0.3))),
}
"""Functions, so that nothing is made before it is asked for."""
