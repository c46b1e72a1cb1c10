"""Online learning of teacher and student: small runs of both experiments, against the literature's equations in SciPy
and its steps in NumPy."""

import json

import jax
import numpy as np
import pytest
import reference
from scipy.integrate import solve_ivp
from scipy.special import erf

from tts_jax import experiments
from tts_jax.experiments import Verdict
from tts_jax.experiments.online import BOTH, ONE, Run

LR, NOISE = 0.5, 0.1
SMALL = {"starts": 2, "end": 100.0, "saves": 12}
HOLDS, FAILS, UNDECIDED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED


@pytest.fixture(scope="module")
def plateau(tmp_path_factory):
    changes = {"sizes": (2, 3), "inputs": (10, 40), "seeds": 2, "sgd_end": 3.0} | SMALL
    return experiments.preset("online-plateau", **changes).run(tmp_path_factory.mktemp("plateau"))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    changes = {"ratios": (0.1, 1.0), "sizes": (3,)} | SMALL
    return experiments.preset("speeds-atlas", **changes).run(tmp_path_factory.mktemp("atlas"))


def begin(pair):
    """Start and teacher as the literature has them: w and B with fields <w, x> / N^(1/2), weights v and A."""
    student, problem = pair
    scale = (2 * student.directions.shape[1]) ** 0.5
    w, b = (scale * np.asarray(each.directions) for each in (student, problem.teacher))
    return w, b, np.asarray(student.weights), np.asarray(problem.teacher.weights)


def arcsine(c):
    norm = 1 + np.diagonal(c)
    return 2 / np.pi * np.arcsin(c / np.sqrt(np.outer(norm, norm)))


def by_scipy(pair, lr2, alphas):
    """Generalisation errors, by their equations in alpha, with I3 and I4 as Saad and Solla have them."""
    w, b, v, a = begin(pair)
    n, k, both = w.shape[1], len(v), len(v) + len(a)
    t = b @ b.T / n

    def parts(y):
        q, r, v = np.split(y, [k * k, k * both])
        q, r = q.reshape(k, k), r.reshape(k, -1)
        return np.block([[q, r], [r.T, t]]), v, np.concatenate([v, -a])

    def rates(_, y):
        c, v, error = parts(y)
        i, p, m = np.ogrid[:k, :both, :both]
        d = 1 + np.diagonal(c)
        i3 = 2 / np.pi * (c[p, m] * d[i] - c[i, p] * c[i, m]) / d[i] / np.sqrt(d[i] * d[m] - c[i, m] ** 2)
        i, j, p, q = np.ogrid[:k, :k, :both, :both]
        l4 = d[i] * d[j] - c[i, j] ** 2

        def left(p, q, own):
            value = l4 * (c[p, q] + own) - c[j, p] * c[j, q] * d[i] - c[i, p] * c[i, q] * d[j]
            return value + c[i, j] * (c[i, p] * c[j, q] + c[i, q] * c[j, p])

        i4 = 4 / np.pi**2 / np.sqrt(l4) * np.arcsin(left(p, q, 0) / np.sqrt(left(p, p, 1) * left(q, q, 1)))
        j2 = 2 / np.pi / np.sqrt(l4[..., 0, 0])
        pull = -LR * v[:, None] * (i3 @ error)
        square = LR**2 * np.outer(v, v) * (i4 @ error @ error + NOISE**2 * j2)
        d_q = pull[:, :k] + pull[:, :k].T + square
        return np.concatenate([d_q.ravel(), pull[:, k:].ravel(), -lr2 * (arcsine(c)[:k] @ error)])

    y0 = np.concatenate([(w @ w.T / n).ravel(), (w @ b.T / n).ravel(), v])
    found = solve_ivp(rates, (0, alphas[-1]), y0, "RK45", alphas, rtol=1e-8, atol=1e-8)
    each = [parts(y) for y in found.y.T]
    return np.array([error @ arcsine(c) @ error / 2 for c, _, error in each])


def by_a_loop(pair, lr2, key, steps):
    """The last generalisation error of SGD, step by step; the stream is that of the key."""
    w, b, v, a = begin(pair)
    n = w.shape[1]
    x, y = map(np.asarray, pair[1].sample(jax.random.fold_in(key, 0), 512))
    for p in range(steps):
        field = w @ x[p] / n**0.5
        g, slope = erf(field / 2**0.5), (2 / np.pi) ** 0.5 * np.exp(-(field**2) / 2)
        error = v @ g - y[p]
        w = w - LR / n**0.5 * error * np.outer(v * slope, x[p])
        v = v - lr2 / n * error * g
    all_w, error = np.concatenate([w, b]), np.concatenate([v, -a])
    return error @ arcsine(all_w @ all_w.T / n) @ error / 2


@pytest.mark.parametrize(("layers", "lr2"), [(BOTH, 0.5), (ONE, 0.0)])
def test_errors_are_those_of_scipy(plateau, layers, lr2):
    about, (exact, _) = plateau.experiment, plateau.evidence.results
    want = by_scipy(about.pair(about.keys(2)[1], 3, 40, held=layers == ONE), lr2, about.alphas)
    np.testing.assert_allclose(exact[layers, 3].error[1], want, rtol=1e-5)
    with np.load(plateau.folder / "plateau.npz") as arrays:
        at = [*zip(arrays["layers"], arrays["neurons"], strict=True)].index((layers, 3))
        np.testing.assert_array_equal(arrays["error"][at], exact[layers, 3].error)


def test_sgd_is_a_loop_over_the_samples(plateau):
    about, (_, sgd) = plateau.experiment, plateau.evidence.results
    draws, pair = jax.random.split(jax.random.key(about.seed + 1), 2), about.pair(about.keys(1)[0], 2, 10)
    assert sgd[10].error[1, -1] == pytest.approx(by_a_loop(pair, LR, draws[1], 30), rel=1e-9)


def test_the_atlas_has_the_errors_of_scipy_at_each_ratio(atlas):
    about = atlas.experiment
    with np.load(atlas.folder / "atlas.npz") as arrays:
        error = arrays["error"]
    for k, ratio in enumerate(about.ratios):
        want = by_scipy(about.pair(about.keys(2)[1], 3, about.inputs), ratio * LR, about.alphas)
        np.testing.assert_allclose(error[k, 0, 1], want, rtol=1e-5)


def test_the_teacher_is_orthonormal_and_noise_counts(plateau):
    _, problem = plateau.experiment.pair(plateau.experiment.keys(1)[0], 3, 40)
    directions = problem.teacher.directions
    np.testing.assert_allclose(2 * directions @ directions.T, np.eye(2), atol=1e-14)
    assert problem.noise == 0.1


def test_the_full_atlas_is_of_a_thousand_odes():
    paper = experiments.preset("speeds-atlas", "paper")
    assert len(paper.ratios) * len(paper.sizes) * paper.starts == 1001
    assert paper.ratios[6] == 1.0


@pytest.mark.parametrize("units", [2, 3])
def test_without_specialisation_the_mean_of_the_fields_is_all_that_is_known(units):
    """Half of the variance that is left where it is known, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def g(z):
        return erf(z / 2**0.5)

    known = units * g(nodes[:, None] / units**0.5 + (1 - 1 / units) ** 0.5 * nodes) @ weights
    left = units * weights @ g(nodes) ** 2 - weights @ known**2
    about = experiments.preset("speeds-atlas", of_teacher=units, sizes=(2, 4))
    assert about.unspecialised == pytest.approx(left / 2, abs=1e-7)


def test_a_plateau_ends_where_half_of_that_error_is_reached(atlas):
    length, last = atlas.evidence.results
    assert length.shape == last.shape == (2, 1, 2)
    with np.load(atlas.folder / "atlas.npz") as arrays:
        error, alpha = arrays["error"], arrays["alpha"]
    for at in np.ndindex(length.shape):
        left = alpha[error[at] < 0.0058]
        assert length[at] == (left[0] if left.size else np.inf)
    np.testing.assert_array_equal(last, error[..., -1])


def test_nothing_is_judged_that_was_changed(plateau, atlas):
    for outcome in (plateau, atlas):
        assert {finding.verdict for finding in outcome.evidence.findings} == {Verdict.NOT_JUDGED}
        summary = json.loads((outcome.folder / "summary.json").read_text())
        assert summary["files"] == [*outcome.evidence.figures, *outcome.evidence.files, "summary.json"]


def test_claims_of_the_plateau_are_tests_over_starts_and_streams(plateau):
    about = plateau.experiment
    alphas, one = about.sgd_alphas, np.ones((12, 10))
    scatter = np.exp(0.1 * np.random.default_rng(0).normal(size=(12, 10)))

    def verdicts(both, alone, narrow, wide, status=0):
        failed = np.full(12, status)
        exact = {
            (layers, size): Run(factor * scatter, failed)
            for layers, factors in ((BOTH, both), (ONE, alone))
            for size, factor in zip((2, 3), factors, strict=True)
        }
        sgd = {d: Run(scatter**power, failed) for d, power in zip(about.inputs, (narrow, wide), strict=True)}
        beside = {d: np.ones(len(alphas)) for d in about.inputs}
        return [each.verdict for each in about._findings(exact, sgd, beside)]

    assert verdicts((2 * one, one), (one, 2 * one), 2.0, 1.0) == [HOLDS, HOLDS, HOLDS]
    assert verdicts((one, 2 * one), (2 * one, one), 1.0, 2.0) == [FAILS, FAILS, FAILS]
    assert verdicts((2 * one, one), (one, 2 * one), 2.0, 1.0, status=1)[1:] == [UNDECIDED, UNDECIDED]


def test_claims_of_the_atlas_are_tests_over_starts():
    about = experiments.preset("speeds-atlas")
    factor = 1 + 0.01 * np.arange(12)

    def verdicts(plateau, last):
        """Of what the five ratios have, in all starts and for both numbers of neurons."""
        plateau, last = (
            np.asarray(each, float)[:, None, None] * np.ones((5, 2, 12)) * factor for each in (plateau, last)
        )
        return [each.verdict for each in about._findings(plateau, last)]

    assert verdicts([9, 5, 1, 3, 4], [1, 1, 2, 2, 3]) == [HOLDS, HOLDS]
    assert verdicts([np.inf, 5, 1, 3, np.inf], [3, 2, 1, 1, 1]) == [HOLDS, FAILS]
    assert verdicts([1, 2, 3, 4, 5], [1] * 5)[0] == FAILS
    assert verdicts([np.inf] * 5, [1] * 5)[0] == UNDECIDED


@pytest.mark.usefixtures("annotations_off")
def test_refuses():
    def preset(name, **changes):
        return lambda: experiments.preset(name, **changes)

    reference.refuses(preset("online-plateau", sizes=(4, 2)), "sizes", "(4, 2)")
    reference.refuses(preset("online-plateau", inputs=(1, 50)), "got 1")
    reference.refuses(preset("online-plateau", sgd_end=0.0), "sgd_end")
    reference.refuses(preset("speeds-atlas", ratios=(1.0,)), "ratios")
    reference.refuses(preset("speeds-atlas", sizes=(2,)), "above the teacher's 2")
    reference.refuses(preset("speeds-atlas", of_teacher=1), "of_teacher", "at least 2")
    reference.refuses(preset("speeds-atlas", noise=-1.0), "noise")
