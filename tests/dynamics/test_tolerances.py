"""The default tolerances of a flow: tight where it is called exact, those of Diffrax's users where it is not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax.dynamics.base import Groups
from tts_jax.dynamics.flow.equation import Choice, FlowEquation
from tts_jax.dynamics.integration import Integration

TIMES = jnp.linspace(0.0, 2.0, 9)
X = np.random.default_rng(0).uniform(-1, 1, (20, 2))
Y = np.sin(3 * X[:, 0]) * X[:, 1]
TEACHER = tts.PerceptronNetwork([1.0], [[1.0]], tts.ReLU())


def perceptron(**tolerances):
    model = eqx.nn.MLP(2, "scalar", 6, 1, jax.nn.tanh, key=jax.random.key(1))
    flow = tts.GradientFlow(0.02, slow=lambda m: m.layers[0], **tolerances)
    return reference.quick(lambda: tts.simulate(flow, model, tts.Dataset(X, Y), TIMES))


def test_any_model_is_right_to_four_digits_in_a_fraction_of_the_steps():
    default, tight = perceptron(), perceptron(rtol=1e-10, atol=1e-10)
    error = np.max(np.abs(default.risk / tight.risk - 1))
    assert 1e-9 < error < 1e-4
    assert default.stats.steps < tight.stats.steps / 3
    asked = perceptron(rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(default.risk, asked.risk)


@pytest.mark.parametrize(
    ("model", "problem", "closed_form"),
    [
        (*reference.build(reference.small_case()), True),
        (tts.PerceptronNetwork([1.0], [[1.0]], tts.ReLU()), tts.GaussianRegression(TEACHER), True),
        (reference.paper_model(0), tts.Dataset(np.abs(X[:, :1]), Y), True),
        (reference.paper_model(0), tts.Dataset(X[:, :1], Y, loss=lambda output, y: jnp.abs(output - y)), False),
    ],
    ids=["steps", "Gaussian", "data", "another loss"],
)
def test_what_is_known_in_closed_form_is_solved_tightly(model, problem, closed_form):
    structure = problem.structure(model)
    equation = FlowEquation((jnp.asarray(0.1),), problem, Groups.of(model), structure)
    tight = equation.initial_value_problem(Choice.DENSE).closed_form
    found = Integration(None, None, 1, None).tolerances(jnp.dtype("float64"), tight)
    assert found == ((1e-10, 1e-10) if closed_form else (1e-6, 1e-6))
