"""Figures 1 and 2 show what the objects are."""

import jax.numpy as jnp
import numpy as np
import pytest

from tts_jax import experiments, plot
from tts_jax.activations import Heaviside, SmoothStep
from tts_jax.networks import ShallowNetwork
from tts_jax.targets import PiecewiseConstant


def test_dimension_lines_span_what_they_name():
    target = PiecewiseConstant([0.25, 0.6, 0.8], [1.0, 4.0, 2.5, 3.5])
    positions = jnp.array([[0.9], [0.2], [0.6]])
    network = ShallowNetwork(jnp.ones((3, 1)), positions, jnp.asarray(1.0), SmoothStep(0.06))
    (axes,) = plot.notation(network, target).axes
    spans = [(note.xyann, note.xy) for note in axes.texts if note.arrow_patch is not None]
    lengths = [(abs(b[0] - a[0]), abs(b[1] - a[1])) for a, b in spans]
    expected = [(0.0, 1.0), (0.2, 0.0), (0.06, 0.0)]  # the smallest jump, the smallest piece, the width
    np.testing.assert_allclose(lengths, expected, atol=1e-12)
    names = [note.get_text() for note in axes.texts if note.arrow_patch is None]
    assert [name for name in names if name.startswith("$u")] == ["$u_{1}$", "$u_{2}$", "$u_{3}$"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "$v_1$", "$v_2$", "$v_3$", "1"]


def test_notation_refuses_steps():
    network = ShallowNetwork(jnp.ones((3, 1)), jnp.ones((3, 1)), jnp.asarray(1.0), Heaviside())
    with pytest.raises(ValueError, match="SmoothStep"):
        plot.notation(network, PiecewiseConstant([0.5], [0.0, 1.0]))


def test_velocities_of_the_sketch_are_those_of_the_pair(tmp_path):
    """p' = -w^2 q^2 / (p + q)^2 for the neurons at distances p and q from a jump of height w."""
    outcome = experiments.preset("reduced-sketch").run(tmp_path)
    trajectory, velocities = outcome.evidence.results
    for k in (0, 1):
        u, v = np.asarray(trajectory.model.positions[k, :, 0]), np.asarray(velocities[k])
        order = np.argsort(u)
        u, v = u[order], v[order]
        expected = np.zeros_like(u)
        for jump, w in zip((0.3, 0.7), (2.0, -1.0), strict=True):
            right = np.searchsorted(u, jump)
            p, q = jump - u[right - 1], u[right] - jump
            expected[right - 1], expected[right] = w**2 * q**2 / (p + q) ** 2, -(w**2) * p**2 / (p + q) ** 2
        np.testing.assert_allclose(v, expected, rtol=1e-6, atol=1e-9)
    (finding,) = outcome.evidence.findings
    assert finding.judged == "holds"
    assert {path.name for path in tmp_path.iterdir()} == {"reduced.png", "summary.json"}


def test_the_notation_experiment_names_what_it_drew(tmp_path):
    outcome = experiments.preset("notation").run(tmp_path)
    values = dict(outcome.evidence.tables[0].rows)
    assert (values["smallest jump Δf"], values["smallest piece Δv"], values["width η"]) == ("1", "0.2", "0.06")
