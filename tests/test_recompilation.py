"""What does not compile anew: numbers, functions that pick the same leaves, and optimisers with the same settings."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
import reference

import tts_jax as tts

TIMES = jnp.array([0.0, 0.01])


@pytest.fixture
def compilations():
    """The names of what is compiled from here on."""
    counted = []

    def note(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            counted.append(about.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(note)
    yield counted
    jax.monitoring.clear_event_listeners()


@pytest.fixture(scope="module")
def perceptron():
    x = jax.random.normal(jax.random.key(0), (8, 2))
    model = eqx.nn.MLP(2, "scalar", 3, 1, jnp.tanh, key=jax.random.key(1))
    return model, tts.Dataset(x, x[:, 0] * x[:, 1])


def compile_once(run, compilations):
    """20 of them: everything is compiled for the first."""
    run(0)
    compilations.clear()
    results = [run(k) for k in range(1, 20)]
    assert compilations == []
    return results


@pytest.mark.parametrize("dynamics", [tts.GradientFlow, tts.ReducedFlow])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_tolerances(dynamics, name, compilations):
    model, problem = reference.build(reference.small_case())
    settings = {"epsilon": 1e-2} if dynamics is tts.GradientFlow else {}

    def run(k):
        return tts.simulate(dynamics(**settings, **{name: 10 ** (-4.0 - k / 4)}), model, problem, TIMES)

    results = compile_once(run, compilations)
    assert results[-1].stats.steps > results[0].stats.steps


def test_ratios_and_step_sizes(compilations):
    model, problem = reference.build(reference.small_case())

    def run(k):
        dynamics = tts.SGD(0.1 + k / 100, 0.01 / (0.1 + k / 100))
        return tts.simulate(dynamics, model, problem, TIMES, key=jax.random.key(k))

    compile_once(run, compilations)


def test_a_new_function_that_picks_the_same_leaves(perceptron, compilations):
    model, data = perceptron

    def picks():
        return {"slow": lambda m: m.layers[0], "frozen": lambda m: m.layers[0].bias}

    compile_once(lambda k: tts.simulate(tts.GradientFlow(0.1, **picks()), model, data, TIMES), compilations)

    def descend(k):
        return tts.simulate(tts.SGD(0.1, 1e-3, **picks()), model, data, TIMES, key=jax.random.key(k))

    compile_once(descend, compilations)


def test_new_ratios_of_several_groups(perceptron, compilations):
    model, data = perceptron

    def run(k):
        speeds = (0.1 + k / 100, 0.02 + k / 1000), (lambda m: m.layers[1].bias, lambda m: m.layers[0])
        tts.simulate(tts.GradientFlow(*speeds), model, data, TIMES)
        return tts.simulate(tts.SGD(speeds[0], 1e-3, slow=speeds[1]), model, data, TIMES, key=jax.random.key(k))

    compile_once(run, compilations)


def test_another_choice_of_slow_leaves_is_another_run(perceptron):
    model, data = perceptron
    first, last = (
        tts.simulate(tts.GradientFlow(0.1, slow=lambda m, i=i: m.layers[i]), model, data, TIMES) for i in (0, 1)
    )
    assert jnp.abs(first.risk[1] - last.risk[1]) > 1e-6


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.adam(1e-3),
        lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(optax.cosine_decay_schedule(1e-2, 50))),
        lambda: (optax.adam(1e-3), optax.sgd(1e-2, momentum=0.9)),
    ],
    ids=["adam", "chain", "pair"],
)
def test_an_optimiser_made_anew(make, perceptron, compilations):
    model, data = perceptron

    def run(k):
        dynamics = tts.SGD(0.1, 1e-3, slow=lambda m: m.layers[0], optimizer=make())
        return tts.simulate(dynamics, model, data, TIMES, key=jax.random.key(k))

    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies counters by rates
        compile_once(run, compilations)


RATE = 1e-3


def test_optimisers_that_differ_are_told_apart(monkeypatch, perceptron):
    """By a rate, by a number in a function, and by one that it finds among its globals."""
    model, data = perceptron

    def run(optimizer):
        dynamics = tts.SGD(0.1, 1e-3, slow=lambda m: m.layers[0], optimizer=optimizer)
        return float(tts.simulate(dynamics, model, data, TIMES, key=jax.random.key(0)).risk[-1])

    def by_global():
        return optax.sgd(lambda step: RATE)

    risks = [run(optax.sgd(1e-3)), run(optax.sgd(2e-3)), run(optax.sgd(lambda step: 3e-3)), run(by_global())]
    monkeypatch.setitem(globals(), "RATE", 4e-3)
    risks += [run(by_global()), run(optax.sgd(lambda step: 4e-3))]
    assert risks[0] == risks[3]
    assert risks[4] == risks[5]
    assert len(set(risks)) == 4


def test_a_rate_can_be_differentiated(perceptron):
    """One with a tracer in it is equal to itself alone."""
    model, data = perceptron

    def end(rate):
        dynamics = tts.SGD(0.1, 1e-3, slow=lambda m: m.layers[0], optimizer=optax.sgd(rate))
        return tts.simulate(dynamics, model, data, TIMES, key=jax.random.key(0)).risk[-1]

    slope = jax.grad(end)(1e-2)
    by_difference = (end(1e-2 + 1e-5) - end(1e-2 - 1e-5)) / 2e-5
    assert jnp.abs(slope - by_difference) < 1e-6 * jnp.abs(slope)
