"""Orders of errors that are known, and what a small run of the experiment measures and writes."""

import jax
import numpy as np
import pytest

import tts_jax as tts
from tts_jax import experiments
from tts_jax.experiments import Convergence, Verdict

VALUES = 0.1 * 2.0 ** -np.arange(6)


def convergence(order, scatter=0.0, repeats=40, expected=0.5):
    noise = scatter * np.random.default_rng(0).normal(size=(len(VALUES), repeats))
    return Convergence("one to the other", "h", "error", expected, VALUES, VALUES[:, None] ** order * np.exp(noise))


@pytest.mark.parametrize(
    ("order", "scatter", "verdict"),
    [(0.5, 0.1, Verdict.HOLDS), (1.0, 0.1, Verdict.FAILS), (0.5, 2.0, Verdict.UNDECIDED)],
)
def test_verdicts(order, scatter, verdict):
    assert convergence(order, scatter).finding.verdict is verdict


def test_neighbours_scatter_as_single_errors_do():
    found = convergence(0.5, 0.3, repeats=4000)
    assert found.spread == pytest.approx(0.3, rel=0.02)
    assert found.neighbours.std() == pytest.approx(2**0.5 * 0.3 / np.log(2), rel=0.02)
    assert "40 paths each; between neighbouring h" in convergence(0.5, 0.3).finding.measured


def test_bands_hold_the_mean():
    mean, low, high = convergence(0.5, 0.3, repeats=10).bands.T
    assert ((low < mean) & (mean < high)).all()
    np.testing.assert_allclose(mean, VALUES**0.5, rtol=0.5)


def test_failed_runs_are_counted_and_left_out():
    found = convergence(0.5, 0.1)
    found.errors[0, 0] = np.nan
    assert found.finding.verdict is Verdict.HOLDS
    assert found.finding.measured.endswith("1 of 240 runs failed")
    found.errors[1:] = np.nan
    assert found.finding.verdict is Verdict.UNDECIDED


def check_the_difference_of_means(small, found):
    """Of the paths that `simulate` gives."""
    assert found.errors.shape == (3, 16)
    start, problem, times = small.start, small.problem, [small.weak_slow_time]
    key, group, settings = jax.random.fold_in(jax.random.key(0), 2), 5, (1e-3, 0.008, small.weak_batch_size)
    means = []
    for arm, dynamics, portions in ((2, tts.SGDDiffusion(*settings), 2), (3, tts.SGD(*settings), 8)):
        keys = jax.random.split(jax.random.fold_in(key, arm), (portions, 1, 16))[:, 0, group]
        means.append(np.mean([tts.simulate(dynamics, start, problem, times, key=own).risk[0] for own in keys]))
    np.testing.assert_allclose(found.errors[1, group], abs(means[0] - means[1]), rtol=1e-6)
    assert "16 groups each" in found.finding.measured


def test_a_small_run(tmp_path):
    small = experiments.preset(
        "orders",
        epsilons=(4e-7, 2e-7, 1e-7),
        etas=(2e-3, 1e-3, 5e-4),
        step_sizes=(4e-4, 2e-4, 1e-4),
        seeds=3,
        weak_step_sizes=(0.016, 0.008, 0.004),
        weak_paths=1,
    )
    outcome = small.run(tmp_path)
    flow, limit, sgd, diffusion = outcome.evidence.results
    for found in (flow, limit):
        assert found.errors.shape == (3, 1)
        np.testing.assert_allclose(found.errors[:-1] / found.errors[1:], 2, rtol=0.1)
    assert sgd.errors.shape == (3, 3)
    assert (sgd.errors > 0).all()
    assert len(np.unique(sgd.errors)) == 9
    check_the_difference_of_means(small, diffusion)
    data = tts.load(tmp_path / "orders.nc")
    np.testing.assert_array_equal(data["SGD to flow"], sgd.errors)
    assert (tmp_path / "orders.png").stat().st_size > 10_000
    assert outcome.evidence.findings[0].changed == ("epsilons", "step_sizes")
