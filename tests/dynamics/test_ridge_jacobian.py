"""The reduced flow of a penalised risk knows the Jacobian of its velocity."""

import numpy as np
import reference

import tts_jax as tts


def test_a_ridge_costs_no_steps():
    """A Jacobian that is wrong lowers the order of a Rosenbrock method: half the ridge in it takes 4,000 steps here,
    and an automatic one as many as the closed form."""
    model, problem = reference.build(reference.small_case())
    times = np.linspace(0, 0.2, 6)
    run = reference.quick(lambda: tts.simulate(tts.ReducedFlow(0.1), model, problem, times))
    assert run.stats.method == "Rodas5P, closed-form Jacobian"
    assert run.status == tts.Status.SUCCESSFUL
    assert run.stats.steps + run.stats.rejected < 200
