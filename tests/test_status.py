"""How a run ended: nothing that failed is called successful, in silence."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts

KEY = jax.random.key(0)
STEPS = np.array([0.0, 50.0, 100.0])
"""Save times, in steps."""


def paper(noise=1.0, unit=1.0):
    """The problem of the paper and a start, with outputs in other units."""
    target = reference.paper_target()
    target = tts.PiecewiseConstant(target.jumps, unit * target.values)
    model = reference.paper_model(0, eta=0.05, neurons=8)
    return eqx.tree_at(lambda m: m.bias, model, jnp.asarray(unit)), tts.Regression(target, unit * noise)


def descend(h, model, problem):
    return tts.simulate(tts.SGD(0.1, h), model, problem, 0.1 * h * STEPS, key=KEY)


alone = reference.quick_jit(descend)
together = reference.quick_jit(jax.vmap(descend, (0, None, None)))


@pytest.mark.parametrize("unit", [1.0, 1e-12, 1e12])
def test_steps_too_large_diverge_in_any_unit(unit):
    """The risk is a number at every save, but no sense is left in it."""
    large, small = (alone(jnp.asarray(h), *paper(unit=unit)) for h in (0.5, 1e-3))
    assert np.isfinite(large.risk).all()
    assert large.risk[-1] > 1e10 * large.risk[0]
    assert large.status == tts.Status.DIVERGED
    assert small.status == tts.Status.SUCCESSFUL


def test_euler_beyond_its_stability_diverges():
    model, problem = paper()
    flow = tts.GradientFlow(0.1, solver=diffrax.Euler())
    with pytest.warns(UserWarning, match=r"GradientFlow did not end well, Trajectory\(diverged.*take smaller steps"):
        run = tts.simulate(flow, model, problem, np.linspace(0.0, 20.0, 21))
    assert run.status == tts.Status.DIVERGED
    assert np.isfinite(run.risk).all()


def test_bad_starts_do_not():
    """Neither from 1e9 times the values of the target, nor from the best fit, where the noise alone moves."""
    model, problem = paper(noise=1e3)
    far = eqx.tree_at(lambda m: m.bias, model, jnp.asarray(1e9))
    still = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1e-9]), problem.noise)
    for start, of in ((far, problem), (eqx.tree_at(lambda m: m.bias, model, jnp.zeros(())), still)):
        run = alone(jnp.asarray(0.01), start, of)
        assert run.status == tts.Status.SUCCESSFUL
    assert run.risk[-1] > 1e12 * run.risk[0]


def test_where_nothing_has_a_size_only_what_is_not_finite_has_diverged():
    """A target, a start and a noise of zero, moved by samples of the user's."""
    start = reference.paper_model(0, eta=0.05, neurons=8)
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 0.0]))
    samples = np.full(100, 0.3), np.ones(100)
    run = reference.quick(lambda: tts.simulate(tts.SGD(0.1, 0.01), start, problem, 1e-3 * STEPS, samples=samples))
    assert run.risk[0] == 0 < run.risk[-1]
    assert run.status == tts.Status.SUCCESSFUL


def test_runs_side_by_side_are_told_apart():
    model, problem = paper()
    rates = jnp.array([1e-3, 0.5, 1e-3])
    runs = together(rates, model, problem)
    np.testing.assert_array_equal(runs.status, [0, tts.Status.DIVERGED, 0])


def test_the_bound_has_no_gradient():
    """At zero a model may have none."""

    class Root(eqx.Module):
        w: jax.Array

        def __call__(self, x):
            return jnp.sqrt(jnp.sum((self.w * x[0]) ** 2))

    def last(scale):
        data = tts.Dataset(scale * np.ones((2, 1)), np.array([1.0, 2.0]))
        flow = tts.GradientFlow(1.0, slow=lambda m: m.w, solver=diffrax.Euler())
        return tts.simulate(flow, Root(jnp.ones(2)), data, np.linspace(0.0, 0.1, 3)).risk[-1]

    slope = jax.grad(last)(1.0)
    np.testing.assert_allclose(slope, (last(1.0 + 1e-6) - last(1.0 - 1e-6)) / 2e-6, rtol=1e-5)


STARTS = [
    (tts.SGD(0.1, 0.01), "weights"),
    (tts.GradientFlow(0.1), "bias"),
    (tts.GradientFlow(0.1, solver=diffrax.Tsit5()), "positions"),
    (tts.ReducedFlow(), "weights"),
    (tts.TwoTimescaleLimit(), "weights"),
]


@pytest.mark.parametrize(("dynamics", "leaf"), STARTS, ids=lambda value: str(type(value).__name__))
def test_a_start_that_is_not_finite(dynamics, leaf):
    """Refused where it is known, and else failed at once, without a step of the solver."""
    model, problem = paper()

    def spoilt(value):
        return eqx.tree_at(lambda m: getattr(m, leaf), model, jnp.full_like(getattr(model, leaf), value))

    def run(model):
        return tts.simulate(dynamics, model, problem, [0.0, 1.0], key=KEY)

    reference.refuses(lambda: run(spoilt(np.inf)), f"ShallowNetwork.{leaf}, must be finite, got inf")
    failed = reference.quick_jit(run)(spoilt(np.nan))
    assert failed.status == tts.Status.DIVERGED
    if not isinstance(dynamics, tts.SGD | tts.TwoTimescaleLimit):
        assert failed.stats.steps + failed.stats.rejected == 0


def test_a_warning_says_which_run_ended_how():
    model, problem = paper()

    def run():
        tts.simulate(tts.GradientFlow(0.1, max_steps=3), model, problem, [0.0, 1.0])

    with pytest.warns(UserWarning, match=r"GradientFlow did not end well, Trajectory\(max steps.*raise max_steps"):
        run()
    run()  # says nothing anew, which would be an error here
