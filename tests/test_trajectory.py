"""What a run gives: its models one by one and all at once, and how it shows itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def problem():
    return reference.build(reference.small_case())[1]


@pytest.fixture(scope="module")
def run(problem):
    model, _ = reference.build(reference.small_case())
    return reference.quick(lambda: tts.simulate(tts.SGD(0.1, 0.01), model, problem, [0.0, 0.05, 0.1], key=KEY))


def test_map_is_the_measure_of_each_saved_model(run, problem):
    models = [run.at(k) for k in range(3)]
    np.testing.assert_allclose(run.map(problem.risk), run.risk, rtol=1e-14)
    np.testing.assert_allclose(run.map(lambda model: model(0.3)), [model(0.3) for model in models], rtol=1e-14)
    x = jnp.linspace(0, 1, 7)
    bias, values = run.map(lambda model: (model.bias, jax.vmap(model)(x)))
    np.testing.assert_array_equal(bias, run.model.bias)
    assert values.shape == (3, 7)
    np.testing.assert_allclose(values[1], jax.vmap(models[1])(x), rtol=1e-14)


def test_map_under_jit_and_vmap(run):
    def measure(run):
        return run.map(lambda model: model(0.3))

    np.testing.assert_allclose(eqx.filter_jit(measure)(run), measure(run), rtol=1e-14)
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1] if leaf.ndim else leaf]), run)
    np.testing.assert_allclose(jax.vmap(measure)(two), [measure(run), measure(run)[::-1]], rtol=1e-14)


def test_map_of_a_model_with_functions_in_it():
    model, data = eqx.nn.MLP(1, "scalar", 3, 1, key=KEY), tts.Dataset(np.zeros((4, 1)), np.ones(4))
    dynamics = tts.SGD(0.5, 0.1, None, slow=lambda m: m.layers[0])
    run = reference.quick(lambda: tts.simulate(dynamics, model, data, [0.0, 1.0]))
    np.testing.assert_allclose(run.map(data.risk), run.risk, rtol=1e-14)


@pytest.mark.usefixtures("annotations_off")
def test_a_stacked_network_cannot_be_called(run):
    reference.refuses(
        lambda: run.model(0.3), "time axis", "(3, 4, 1)", "trajectory.at(index)", "trajectory.map(measure)"
    )
    stacked = tts.PerceptronNetwork(jnp.ones((5, 2)), jnp.ones((5, 2, 3)), tts.ReLU())
    reference.refuses(lambda: stacked(jnp.ones(3)), "time axis", "(5, 2, 3)", "trajectory.map(measure)")


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("index", [3, 99, -4, 0.5, [0, 1], "last"])
def test_an_index_out_of_range_is_refused(run, index):
    with pytest.raises(IndexError, match="-3 to 2 for 3 saves, got"):
        run.at(index)


@pytest.mark.usefixtures("annotations_off")
def test_many_runs_are_no_trajectory_over_time(run):
    """Their first axis counts runs: an index would pick one of these."""
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), run)
    reference.refuses(lambda: many.at(0), "(2, 3)", "jax.vmap(lambda run: run.at(index))")
    reference.refuses(lambda: many.map(lambda model: model(0.3)), "(2, 3)", "run.map(measure)")
    reference.refuses(many.to_xarray, "(2, 3)", "take one of them")
    last = jax.vmap(lambda run: run.at(-1))(many)
    np.testing.assert_array_equal(last.weights, jnp.stack(2 * [run.at(-1).weights]))


@pytest.mark.usefixtures("annotations_off")
def test_map_needs_a_function(run):
    reference.refuses(lambda: run.map(0.3), "measure must be a function, got 0.3")


@pytest.mark.parametrize("index", [2, -3, np.int64(1), jnp.array(2)])
def test_an_index_in_range(run, index):
    np.testing.assert_array_equal(run.at(index).weights, run.model.weights[index])


def test_repr_says_how_it_ended_when_and_with_which_risk(run):
    first, last = (f"{float(run.risk[k]):.4g}" for k in (0, -1))
    end = "slow time 0 to 0.1, 3 saves"
    assert repr(run) == f"Trajectory(successful, {end}, risk {first} to {last}; SGD, 100 steps)"


def test_repr_of_a_run_that_failed_says_how_far_it_came(run):
    status = jnp.array(tts.Status.MAX_STEPS)
    failed = eqx.tree_at(lambda r: (r.status, r.risk), run, (status, jnp.array([2.0, 1.0, jnp.nan])))
    assert "max steps, slow time 0 to 0.05 of 0.1, 3 saves, risk 2 to 1;" in repr(failed)
    never = eqx.tree_at(lambda r: (r.status, r.risk), run, (status, jnp.full(3, jnp.nan)))
    assert "slow time 0 to 0 of 0.1, 3 saves, risk nan to nan;" in repr(never)


def test_repr_of_many_runs_counts_how_they_ended(run):
    many = jax.tree.map(lambda leaf: jnp.stack(3 * [leaf]), run)
    many = eqx.tree_at(lambda r: r.status, many, jnp.array([0, 3, 0]))
    assert repr(many) == "Trajectory(3 runs: 2 successful, 1 diverged)"


def test_repr_of_a_traced_run(run):
    said = []
    jax.jit(lambda run: said.append(repr(run)))(run)
    assert said[0].startswith("Trajectory(")
    assert "slow_time=f64[3]" in said[0]
