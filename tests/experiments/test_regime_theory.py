"""What theory says of the atlas, against small steps of the limit's equation in NumPy, and counts by hand."""

import jax
import numpy as np
import pytest
import xarray

import tts_jax as tts
from tts_jax import experiments
from tts_jax.experiments import Verdict
from tts_jax.experiments.regime_theory import GOOD, LIMIT, Explained, Tally, predict
from tts_jax.experiments.regime_theory_figure import panels

JUMPS, VALUES = np.array([0.3, 0.5, 0.7]), np.array([1.0, 3.0, 0.0, 2.0])
ATLAS = experiments.preset(
    "regime-atlas",
    jumps=tuple(JUMPS),
    values=tuple(VALUES),
    epsilons=(1.0, 1e-3),
    sizes=(3, 5),
    seeds=8,
    slow_times=(0.0, 0.3, 0.5),
    eta=0.01,
    hit_epsilons=(1e-2, 1e-4),
    hit_neurons=12,
)
EDGES = np.array([0.0, *JUMPS, 1.0])


def fits(u):
    """Of sorted positions: the mean of the target between neighbours, and the risk of that."""
    around = np.pad(u, ((0, 0), (1, 1)), constant_values=(0.0, 1.0))[..., None]
    overlap = np.clip(np.minimum(around[:, 1:], EDGES[1:]) - np.maximum(around[:, :-1], EDGES[:-1]), 0, None)
    mean = overlap @ VALUES / overlap.sum(axis=-1)
    return mean, np.sum(overlap * (VALUES - mean[..., None]) ** 2, axis=(1, 2))


def small_steps(u, end, step=4e-5):
    """The last risk of the limit, and when a neuron first was at each jump: there it goes to and fro."""
    u, hits = np.sort(u), np.full((len(u), len(JUMPS)), np.inf)
    for k in range(round(end / step)):
        mean, _ = fits(u)
        here = VALUES[np.searchsorted(JUMPS, u)]
        moved = u + step * ((here - mean[:, 1:]) ** 2 - (here - mean[:, :-1]) ** 2)
        crossed = ((u[..., None] - JUMPS) * (moved[..., None] - JUMPS) <= 0).any(axis=1)
        hits = np.where(crossed & np.isinf(hits), k * step, hits)
        u = np.sort(moved)
    return fits(u)[1], hits


def start(seed, neurons):
    return tts.ShallowNetwork.init(jax.random.key(seed), neurons, tts.SmoothStep(0.01))


def positions(neurons):
    return np.stack([np.asarray(start(seed, neurons).positions[:, 0]) for seed in range(8)])


@pytest.fixture(scope="module")
def said():
    return predict(ATLAS)


def test_the_limit_against_small_steps(said):
    assert (said.limit_status == 0).all()
    ends = said.limit_risk.sel(neurons=3).values
    assert 2 < (ends > 0.1).sum() < 6
    np.testing.assert_allclose(ends, small_steps(positions(3), 0.5)[0], atol=0.01)


def test_hit_times_against_small_steps(said):
    """Of starts with two neurons at least in each piece between two jumps; no other has a prediction."""
    u = positions(12)
    pairs = np.all([((u > low) & (u < high)).sum(axis=1) >= 2 for low, high in ((0.3, 0.5), (0.5, 0.7))], axis=0)
    np.testing.assert_array_equal(np.isfinite(said.predicted).all("jump"), pairs)
    np.testing.assert_array_equal(np.isnan(said.measured.values).all(axis=(0, 2)), ~pairs)
    assert 2 < pairs.sum() < 8
    _, hits = small_steps(u[pairs], 0.1)
    np.testing.assert_allclose(said.predicted[pairs], hits, atol=1e-3)
    seed, flow = int(np.flatnonzero(pairs)[-1]), tts.GradientFlow(1e-2, rtol=1e-6, atol=1e-6)
    measured = said.measured.sel(seed=seed, hit_epsilon=1e-2).values
    order = [k for k in np.argsort(measured) if measured[k] > 0]
    assert len(order) > 1
    run = tts.simulate(flow, start(seed, 12), ATLAS.problem, measured[order])
    for save, jump in zip(run.model.positions[..., 0], JUMPS[order], strict=True):
        assert np.abs(save - jump).min() == pytest.approx(0.005, abs=1e-5)


def explained(said, risk, counts, status=0):
    """Of made-up flows at the smallest ratio; at the largest none succeeds."""
    shape = 2, 2, 8, 3
    risks = np.ones(shape)
    risks[1, ..., -1] = risk
    flows = xarray.Dataset(
        {
            "risk": (("epsilon", "neurons", "seed", "slow_time"), risks),
            "status": (("epsilon", "neurons", "seed"), np.broadcast_to(status, shape[:-1])),
            "neurons_per_piece": (("epsilon", "neurons", "seed", "piece"), np.broadcast_to(counts, (*shape[:-1], 4))),
        },
        coords={"epsilon": [1.0, 1e-3], "neurons": [3, 5], "seed": np.arange(8)},
    )
    return Explained(ATLAS, flows, said)


def test_forecasts_are_counted(said):
    rng = np.random.default_rng(0)
    risk, counts = np.where(rng.uniform(size=(2, 8)) < 0.5, 1e-3, 1.0), rng.integers(1, 4, size=(2, 8, 4))
    found = explained(said, risk, counts)
    reached, good = risk < ATLAS.success, counts.min(axis=-1) >= 2
    tally = found.tally(GOOD, 1)
    assert tally == (
        *((good & reached).sum(), (good & ~reached).sum()),
        *((~good & reached).sum(), (~good & ~reached).sum()),
    )
    assert tally.sensitivity == pytest.approx(good[reached].mean())
    assert tally.specificity == pytest.approx(1 - good[~reached].mean())
    assert tally.agreement == pytest.approx((good == reached).mean())
    np.testing.assert_allclose(found.agreement_of_seeds(GOOD), (good == reached).mean(axis=0))
    of_limit = said.limit_risk.values < ATLAS.success
    assert found.tally(LIMIT, 1).agreement == pytest.approx((of_limit == reached).mean())
    assert found.tally(LIMIT, 0) == (0, of_limit.sum(), 0, (~of_limit).sum())
    forecasts, sizes, hits = found.tables()
    assert forecasts.rows[0][1:5] == tuple(map(str, tally))
    assert float(sizes.rows[1][4]) == pytest.approx(reached[1].mean(), abs=5e-4)
    of_hits = said.measured[0].values
    later = of_hits[~np.isnan(of_hits) & (of_hits != 0)]
    assert hits.rows[0][1] == f"{np.isfinite(later).sum()} of {later.size}"


def test_a_missed_jump_costs_what_the_cheapest_grouping_does(said):
    """Two neighbouring pieces are one."""
    pieces = np.diff(EDGES)
    joined = [
        pieces[k] * pieces[k + 1] / (pieces[k] + pieces[k + 1]) * (VALUES[k] - VALUES[k + 1]) ** 2 for k in range(3)
    ]
    assert explained(said, 1.0, 2).missing_a_jump(5) == pytest.approx(min(joined))


def verdicts(*arguments, **options):
    return [finding.verdict for finding in explained(*arguments, **options).findings()]


def test_verdicts(said):
    holds, fails, undecided = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED
    least = explained(said, 1.0, 2).missing_a_jump(5)
    limit = np.ones((2, 8))
    limit[:, ::2] = 0.0
    said = said.assign(limit_risk=(("neurons", "seed"), limit))
    assert verdicts(said, limit, 1)[:3] == [holds, undecided, holds]
    assert verdicts(said, 1 - limit, 1)[0] is fails
    assert verdicts(said, limit, np.where(limit == 0, 1, 2)[..., None])[1] is holds
    assert verdicts(said, limit, np.where(limit == 0, 2, 1)[..., None])[1] is undecided
    for end, verdict in ((least, holds), (least - 0.9 * ATLAS.floor, holds), (least - 1.1 * ATLAS.floor, fails)):
        assert verdicts(said, np.where(limit == 0, 0.0, end), 1)[2] is verdict
    assert verdicts(said, 0.0, 1)[2] is undecided
    assert verdicts(said, limit, 1, status=2)[2] is undecided


def test_hit_times_that_come_nearer(said):
    at = xarray.DataArray(np.ones((8, 3)), dims=("seed", "jump"))
    both = xarray.concat([at * np.linspace(1.2, 1.4, 8)[:, None], at * 1.1], "hit_epsilon")
    near = said.assign(predicted=at, measured=both.transpose("hit_epsilon", "seed", "jump"))
    assert verdicts(near, 1.0, 2)[3] is Verdict.HOLDS
    assert verdicts(near.assign(measured=near.measured[::-1].drop_vars("hit_epsilon")), 1.0, 2)[3] is Verdict.FAILS
    held = near.measured.copy()
    held[:, :, 0] = 0.0  # from the beginning
    assert verdicts(near.assign(measured=held), 1.0, 2)[3] is Verdict.HOLDS
    never = near.measured.copy()
    never[0] = np.inf
    assert verdicts(near.assign(measured=never), 1.0, 2)[3] is Verdict.HOLDS
    none = near.assign(predicted=at * np.inf, measured=near.measured * np.nan)
    assert verdicts(none, 1.0, 2)[3] is Verdict.UNDECIDED


def test_the_picture_is_drawn(said):
    assert len(panels(explained(said, 1e-3, 2)).axes) == 4
    assert np.isnan(Tally(0, 0, 0, 0).agreement)
