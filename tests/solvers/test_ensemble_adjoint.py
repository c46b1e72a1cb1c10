"""The adjoint of runs side by side, against automatic differentiation of their steps, and what must not matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from test_ensemble import MU, RUNS, STARTS, TIMES, VanDerPol

from tts_jax.solvers.ensemble import Control, Runs, solve, solve_recorded, step
from tts_jax.solvers.ensemble_adjoint import AbstractReversible, pull_back

ENOUGH, TIGHT = 2**20, 2**11
"""So many steps that all are on the tape; so few that only each second, fourth or eighth is."""
TOLERANCE = Control(jnp.full(1, 1e-9), jnp.full(1, 1e-9))
FIRST = jnp.full(RUNS, 1e-4)
BAR = np.random.default_rng(0).normal(size=(len(TIMES), 2, RUNS))


class Reversible(VanDerPol, AbstractReversible):
    def solve_transposed(self, factors, mu, r):
        shift, below, last = factors
        return jnp.stack([last * r[0] - below * r[1], r[0] + shift * r[1]]) / (shift * last + below)[None]

    def pull(self, y, mu, v):
        return jax.vjp(lambda y: self.velocity(y, mu), y)[1](v)[0]

    def pull_rates(self, y, mu, stages, wanted):
        (x, speed), (v, u) = y, (jnp.moveaxis(stages.v, 1, 0), jnp.moveaxis(stages.u, 1, 0))
        by_x, by_speed = (sum(v[1][i] * part[i] for i in range(8)) for part in u)
        at_x, at_speed = jnp.moveaxis(stages.points, 1, 0)
        by_mu = sum(v[1][i] * (1 - at_x[i] ** 2) * at_speed[i] for i in range(8))
        by_mu = by_mu - 2 * x * speed * by_x + (1 - x**2) * by_speed
        return -2 * mu[None] * jnp.stack([speed * by_x + x * by_speed, x * by_x]), by_mu


@functools.partial(jax.jit, static_argnames=("max_steps", "width"), compiler_options=reference.OPTIMISED)
def gradient(y0=STARTS, bar=BAR, max_steps=ENOUGH, width=7):
    y0, mu, times = jnp.asarray(y0), jnp.asarray(MU), jnp.asarray(TIMES)
    runs = Runs([Reversible()], y0, mu, times, FIRST, TOLERANCE, max_steps, width)
    solutions, record = solve_recorded(runs)
    return solutions, record, pull_back(runs, solutions, record, jnp.asarray(bar), True)


@pytest.fixture(scope="module")
def whole():
    return gradient(STARTS, BAR)


def test_the_solve_is_the_same(whole):
    want = jax.jit(
        lambda y0: solve(
            Runs([VanDerPol()], y0, jnp.asarray(MU), jnp.asarray(TIMES), FIRST, TOLERANCE, jnp.asarray(ENOUGH), 7)
        ),
        compiler_options=reference.OPTIMISED,
    )(STARTS)
    jax.tree.map(np.testing.assert_array_equal, whole[0], want)


def test_against_automatic_differentiation_of_the_steps(whole):
    """Of the end alone."""
    solutions, record, _ = whole
    bar = np.where(np.arange(len(TIMES))[:, None, None] == len(TIMES) - 1, BAR, 0.0)
    _, _, (by_start, by_mu) = gradient(STARTS, bar)

    @jax.jit
    def end(y0, mu, h):
        """All runs at once; a run that has ended stays."""

        def one(y, h):
            safe = jnp.where(h > 0, h, 1.0)
            y1 = step(VanDerPol(), y, mu, safe, VanDerPol().workspace(y))[0]
            return jnp.where(h > 0, y1, y), None

        return jax.lax.scan(one, y0, h)[0]

    longest = int(solutions.steps.max())
    h = jnp.where(np.arange(longest)[:, None] < solutions.steps[None], record.moments[:longest, -2], 0.0)
    np.testing.assert_allclose(end(STARTS, MU, h), solutions.saved[-1], rtol=1e-9, atol=1e-9)
    _, pull = jax.vjp(lambda y0, mu: end(y0, mu, h), STARTS, MU)
    want_start, want_mu = pull(jnp.asarray(BAR[-1]))
    np.testing.assert_allclose(by_start, want_start, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(by_mu, want_mu, rtol=1e-7, atol=1e-9)


def test_all_saves_against_differences(whole):
    """Of what is computed, whose steps change a little with the start."""
    by_start, _ = whole[2]
    change = np.array([[0.6], [-0.8]]) * 1e-4

    def value(y0):
        return np.sum(np.asarray(gradient(y0, BAR)[0].saved) * BAR, axis=(0, 1))

    want = (value(STARTS + change) - value(STARTS - change)) / 2
    np.testing.assert_allclose(np.sum(by_start * change, axis=0), want, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("width", [1, RUNS])
def test_width_does_not_matter(whole, width):
    got = gradient(STARTS, BAR, width=width)[2]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12), got, whole[2])


def test_a_short_tape_is_played_again(whole):
    _, record, got = gradient(STARTS, BAR, TIGHT)
    assert set(np.asarray(record.stride)) >= {2, 4, 8}
    assert (np.asarray(whole[1].stride) == 1).all()
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10), got, whole[2])


def test_a_failure_is_alone(whole):
    bad = np.arange(RUNS) == 3
    got = gradient(np.where(bad, np.nan, STARTS), BAR)[2]
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[..., ~bad], y[..., ~bad]), got, whole[2])
    assert np.isnan(got[0][:, bad]).all()
    assert np.isnan(got[1][bad]).all()


def test_out_of_steps(whole):
    """What was not reached has no gradient; without it, that of the rest is right."""
    few = 2**8
    solutions, _, got = gradient(STARTS, BAR, few)
    short = np.isnan(solutions.saved).any(axis=(0, 1))
    assert 0 < short.sum() < RUNS
    np.testing.assert_array_equal(np.isnan(got[0]).all(axis=0), short)
    bar = np.where(np.isnan(solutions.saved), 0.0, BAR)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10),
        gradient(STARTS, bar, few)[2],
        gradient(STARTS, bar)[2],
    )
