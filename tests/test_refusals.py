"""What cannot mean anything is refused where it is given, in one line: what was got, and what to pass."""

import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import reference

import tts_jax as tts
from tts_jax import _checks as checks
from tts_jax.activations import AbstractGaussianActivation

KEY = jax.random.key(0)
TARGET = tts.PiecewiseConstant([0.5], [0.0, 1.0])
PROBLEM = tts.Regression(TARGET)
DATA = tts.Dataset(np.ones((2, 1)), np.ones(2))
NORM = tts.NormDataset(np.ones((2, 1)), np.ones(2))
TEACHER = tts.PerceptronNetwork([1.0], [[1.0, 2.0]], tts.Erf())
CASES = [
    (lambda: tts.Dataset(np.ones((2, 1)), np.ones(2), loss="mse"), "loss must be a function, got 'mse'"),
    (lambda: tts.GradientFlow(0.1, solver="tsit5"), "solver must be diffrax.Tsit5() or the like, got 'tsit5'"),
    (lambda: tts.GradientFlow(0.1, solver=diffrax.Tsit5), "solver must be diffrax.Tsit5()"),
    (lambda: tts.GradientFlow(0.1, adjoint=3), "adjoint must be diffrax.ForwardMode() or the like, got 3"),
    (lambda: tts.ReducedFlow(adjoint="forward"), "adjoint must be diffrax.ForwardMode() or the like, got 'forward'"),
    (lambda: tts.SGD(0.1, 0.1, adjoint=3), "got int: pass adjoint=diffrax.ForwardMode()"),
    (lambda: tts.SGD(0.1, 0.1, reshuffle="yes"), "reshuffle must be True or False, got 'yes'"),
    (lambda: tts.ShallowNetwork.init(KEY, 3, None), "activation must be a function, got None", "SmoothStep(4e-3)"),
    (lambda: tts.PerceptronNetwork([1.0], [[1.0]], "relu"), "activation must be a function, got 'relu'", "ReLU()"),
    (lambda: tts.load(3), "path must be a path, got 3: pass e.g. path='run.zarr'"),
    (lambda: tts.cache(3), "path must be a path, got 3"),
    (lambda: tts.sweep(tts.SGD(0.1, 0.1), PROBLEM, [0.1], seeds=1, init=3), "init must be a function, got 3"),
    (lambda: tts.sweep(tts.SGD(0.1, 0.1), PROBLEM, [0.1], seeds=1, devices=3), "devices must be a list", "got int"),
    (lambda: tts.sweep(tts.SGD(0.1, 0.1), PROBLEM, [0.1], seeds=1, devices=[]), "devices must be a list", "got list"),
    (lambda: tts.Additive(3), "Additive needs a list of targets, got int"),
    (lambda: tts.SmoothTarget(np.sin), "a function that JAX can trace, got sin", "jnp.sin"),
    (lambda: tts.SmoothTarget(lambda x: np.abs(x)), "a function that JAX can trace", "jnp"),
    (lambda: tts.SmoothTarget(math.sin), "a function that JAX can trace, got sin", "jnp"),
    (lambda: tts.run_each(3, jnp.ones(2)), "run must be a function, got 3"),
    (lambda: checks.positive("epsilon", "fast"), "epsilon must be real numbers, got text (fast): pass a number"),
    (lambda: checks.finite("x", ["a"]), "got text (a): convert it, and give categories numbers"),
    (lambda: checks.finite("y", pandas.Series([1.0, None], name="rate")), "column 'rate' of y must be finite, got nan"),
    (lambda: PROBLEM.sample(0, 3), "key must be one random key, got 0"),
    (lambda: DATA.sample(0, 3), "key must be one random key, got 0"),
    (lambda: NORM.sample(0, 3), "key must be one random key, got 0"),
    (lambda: tts.GaussianRegression(TEACHER).sample(0, 3), "key must be one random key, got 0"),
    (lambda: PROBLEM.sample(KEY, 0), "n must be an integer of at least 1, got 0"),
]


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_refused(case):
    call, *said = case
    reference.refuses(call, *said)


@pytest.mark.usefixtures("annotations_off")
def test_a_file_that_is_not_there(tmp_path):
    for name, kind in (("a.nc", "file"), ("a.zarr", "store")):
        with pytest.raises(FileNotFoundError, match=f"^there is no {kind} .*{name}: look at the path"):
            tts.load(tmp_path / name)


class Cube(AbstractGaussianActivation):
    r"""$z^3$, for which $E\,(w \cdot x)^3 (v \cdot x)^3 = 9\,w^2 v^2\,(w \cdot v) + 6\,(w \cdot v)^3$."""

    factor: float

    def __call__(self, z):
        return z**3

    def kernel(self, w, v):
        return self.factor * (9 * (w @ w) * (v @ v) * (w @ v) + 6 * (w @ v) ** 3)


def test_a_kernel_of_the_users_is_verified():
    tts.GaussianRegression(tts.PerceptronNetwork([1.0], [[1.0, 2.0]], Cube(1.0)))
    wrong = tts.PerceptronNetwork([1.0], [[1.0, 2.0]], Cube(1.5))
    reference.refuses(lambda: tts.GaussianRegression(wrong), "the kernel of Cube", "quadrature finds", "kernel(w, v)")
    problem = tts.GaussianRegression(tts.PerceptronNetwork([1.0], [[1.0, 2.0]], Cube(1.0)))
    reference.refuses(lambda: problem.risk(wrong), "the kernel of Cube")


@pytest.mark.parametrize("kind", [tts.ReLU, tts.Erf])
def test_kernels_of_the_package_pass_the_same(kind):
    """Kinks cost the quadrature less than the tolerance."""
    own = type("Mine", (kind,), {"__module__": __name__})
    tts.GaussianRegression(tts.PerceptronNetwork([1.0], [[1.0, 2.0]], own()))
