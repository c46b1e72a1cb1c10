"""The reduced flow of a penalised risk knows the Jacobian of its velocity."""

import diffrax
import equinox as eqx
import numpy as np
import pytest
import reference

import tts_jax as tts


@pytest.mark.parametrize(
    ("adjoint", "method"), [(None, "banded"), (diffrax.ForwardMode(), "closed-form Jacobian")], ids=["banded", "dense"]
)
def test_a_ridge_costs_no_steps(adjoint, method):
    """A Jacobian that is wrong lowers the order of a Rosenbrock method: half the ridge in it takes 4,000 steps here,
    and an automatic one as many as the closed form."""
    model, problem = reference.build(reference.small_case())
    times, flow = np.linspace(0, 0.2, 6), tts.ReducedFlow(0.1, adjoint=adjoint)
    run = eqx.filter_jit(lambda model: tts.simulate(flow, model, problem, times))(model)
    assert run.stats.method == f"Rodas5P, {method}"
    assert run.status == tts.Status.SUCCESSFUL
    assert run.stats.steps + run.stats.rejected < 200
