"""Stiff runs side by side against SciPy, and what must not depend on who lies beside whom."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy.integrate import solve_ivp

from tts_jax.solvers.ensemble import OUT_OF_STEPS, SOLVED, STALLED, AbstractSideBySide, Control, Runs, solve

RUNS, WIDTH, MAX_STEPS = 20, 7, 10_000
MU = np.geomspace(0.1, 1000.0, RUNS)
TIMES = np.linspace(0.5, 1.5, RUNS)[None] * np.array([0.0, 0.0, 0.3, 2.0, 2.0, 10.0])[:, None]
STARTS = np.stack([np.linspace(1.0, 2.0, RUNS), np.linspace(-1.0, 1.0, RUNS)])


class VanDerPol(AbstractSideBySide):
    r"""$x' = v,\ v' = \mu (1 - x^2) v - x$."""

    def velocity(self, y, mu):
        x, v = y
        return jnp.stack([v, mu * (1 - x**2) * v - x])

    def workspace(self, y):
        return (jnp.zeros_like(y[0]),) * 3

    def factor(self, y, mu, shift, space):
        x, v = y
        return shift, 2 * mu * x * v + 1, shift - mu * (1 - x**2)

    def solve(self, factors, mu, r):
        shift, below, last = factors
        return jnp.stack([last * r[0] + r[1], shift * r[1] - below * r[0]]) / (shift * last + below)[None]


@functools.partial(jax.jit, static_argnames="width", compiler_options=reference.OPTIMISED)
def run(y0=STARTS, times=TIMES, max_steps=MAX_STEPS, width=WIDTH):
    tolerance = jnp.full(1, 1e-9)
    first_step = jnp.full(RUNS, 1e-4)
    control = Control(tolerance, tolerance)
    return solve(Runs([VanDerPol()], y0, jnp.asarray(MU), times, first_step, control, max_steps, width))


@pytest.fixture(scope="module")
def whole():
    return run(STARTS, TIMES, MAX_STEPS)


def same(got, want, runs=slice(None)):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[..., runs], b[..., runs]), got, want)


def test_stiff_runs(whole):
    assert (whole.status == SOLVED).all()
    for i, mu in enumerate(MU):
        want = solve_ivp(
            lambda t, y, mu=mu: [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]],
            (0, TIMES[-1, i]),
            STARTS[:, i],
            "LSODA",
            np.unique(TIMES[:, i]),
            rtol=1e-11,
            atol=1e-11,
        )
        # Fast decays may be late by a time of the size of the error.
        np.testing.assert_allclose(
            whole.saved[np.array([1, 2, 4, 5]), :, i], want.y.T, rtol=1e-6, atol=1e-6, err_msg=str(mu)
        )


@pytest.mark.parametrize("width", [1, 3, RUNS])
def test_width_does_not_matter(whole, width):
    same(run(STARTS, TIMES, MAX_STEPS, width=width), whole)


def test_saves_at_time_0_and_twice(whole):
    np.testing.assert_array_equal(whole.saved[:2], np.broadcast_to(STARTS, (2, *STARTS.shape)))
    np.testing.assert_array_equal(whole.saved[3], whole.saved[4])


def test_nothing_to_do(whole):
    """A lane whose run ends at time 0 is given on at once, to one that may do so too."""
    idle = np.isin(np.arange(RUNS), [0, 1, 5, 7, 8, 19])
    got = run(STARTS, np.where(idle, 0.0, TIMES), MAX_STEPS)
    same(got, whole, ~idle)
    assert (got.status == SOLVED).all()
    assert not got.steps[idle].any()
    np.testing.assert_array_equal(got.saved[..., idle], np.broadcast_to(STARTS[:, idle], (6, 2, idle.sum())))


def test_a_run_from_nan_is_alone(whole):
    bad = np.isin(np.arange(RUNS), [3, 11])
    got = run(np.where(bad & (np.arange(2) == 1)[:, None], np.nan, STARTS), TIMES, MAX_STEPS)
    same(got, whole, ~bad)
    assert (got.status[bad] == STALLED).all()
    assert not (got.steps[bad] + got.rejected[bad]).any()
    assert np.isnan(got.saved[2:, :, bad]).all()


def test_out_of_steps(whole):
    tried = np.asarray(whole.steps + whole.rejected)
    limit = int(np.median(tried))
    got = run(STARTS, TIMES, limit)
    short = tried > limit
    assert 0 < short.sum() < RUNS
    same(got, whole, ~short)
    assert (got.status[short] == OUT_OF_STEPS).all()
    assert ((got.steps + got.rejected)[short] == limit).all()
    reached = np.isfinite(got.saved)
    assert not reached[-1, :, short].any()
    np.testing.assert_array_equal(np.where(reached, got.saved, 0), np.where(reached, whole.saved, 0))
