"""How much there is to compile: time to compile goes with it, and does not depend on what else the machine does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import reference

import tts_jax as tts


def lines(f, *arguments):
    return jax.jit(f).lower(*arguments).as_text().count("\n")


def test_reverse_mode_is_less_than_four_solves():
    """The solve, its steps once more, their transposes, and the curvature of the risk."""
    model = tts.ShallowNetwork.init(jax.random.key(0), 20, tts.SmoothStep(4e-3))

    def risk(positions, epsilon):
        start = eqx.tree_at(lambda model: model.positions, model, positions)
        problem = tts.Regression(reference.paper_target())
        return tts.simulate(tts.GradientFlow(epsilon), start, problem, jnp.linspace(0, 0.035, 101)).risk[-1]

    arguments = model.positions, jnp.asarray(2e-5)
    assert lines(jax.grad(risk, (0, 1)), *arguments) < 4 * lines(risk, *arguments)
