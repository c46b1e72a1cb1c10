"""Seconds for the pieces of a step of the gradient flow."""

import statistics

import jax
import jax.numpy as jnp
import numba
import numba_flow
import numpy as np
from flow_peers import ETA, JUMPS, NEURONS, VALUES, parameters, start
from report import timed

from tts_jax._kernel import one_kernel
from tts_jax.dynamics.flow.local import LocalFlow
from tts_jax.dynamics.flow.neurons import Setting


def measure(turns, repeats):
    """Seconds of CPU time for each piece of a step, all in compiled loops, at one start."""
    flow = LocalFlow(NEURONS, has_bias=True, reach=NEURONS - 1)
    setting = Setting(jnp.full(1, 1e-2), None, jnp.full(1, ETA), jnp.array(JUMPS)[:, None], jnp.array(VALUES)[:, None])
    y0, shift = jnp.asarray(start(0))[:, None], jnp.full(1, 1e3)
    y0 = jnp.take_along_axis(y0, flow.order(y0), axis=0)
    space = flow.workspace(y0)
    factors = flow.factor(y0, setting, shift, space)

    def in_xla(piece):
        @jax.jit
        @one_kernel
        def loop(y):
            return jax.lax.fori_loop(0, turns, lambda _, y: y + 1e-12 * piece(y), y)

        return lambda: jax.block_until_ready(loop(y0))

    def in_numba(function, out):
        @numba.njit
        def loop(y, out, p):
            for _ in range(turns):
                function(0.0, y, out, p)
                y[0] += 1e-12

        return lambda: loop(start(0), out, parameters(1e-2))

    pieces = dict(
        velocity=in_xla(lambda y: flow.velocity(y, setting)),
        solve=in_xla(lambda y: flow.solve(factors, setting, y)),
        factor_and_solve=in_xla(lambda y: flow.solve(flow.factor(y, setting, shift, space), setting, y)),
        numba_velocity=in_numba(numba_flow.velocity, np.empty(len(y0))),
        numba_jacobian=in_numba(numba_flow.jacobian, np.empty((len(y0), len(y0)))),
    )
    for run in pieces.values():
        run()
    rounds = [{name: timed(run)[2] for name, run in pieces.items()} for _ in range(repeats)]
    return {name: statistics.median(one[name] for one in rounds) / turns for name in pieces}
