"""Pictures show what they say they show."""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import reference
import xarray
from matplotlib.colors import to_hex
from PIL import Image

from tts_jax import plot
from tts_jax.activations import Heaviside, SmoothStep
from tts_jax.networks import ShallowNetwork
from tts_jax.plot.style import save
from tts_jax.problems import Regression
from tts_jax.targets import PiecewiseConstant
from tts_jax.trajectory import Stats, Status, Trajectory

TARGET = PiecewiseConstant([0.3, 0.6], [1.0, 3.0, 2.0])
TIMES = np.linspace(0.0, 0.02, 5)


def trajectory(activation, *, floor=0.0, steps=False, times=TIMES):
    """Two neurons that run into the two jumps, and reach them half way; the error is made up."""
    progress = jnp.minimum(jnp.linspace(0.0, 2.0, len(times)), 1.0)[:, None, None]
    positions = jnp.array([[[0.2], [0.7]]]) * (1 - progress) + TARGET.jumps[None, :, None] * progress
    weights = jnp.broadcast_to(TARGET.heights[:, None], positions.shape)
    model = ShallowNetwork(weights, positions, jnp.ones(len(times)), activation)
    step = jnp.round(jnp.asarray(times) / 1e-6).astype(int)
    return Trajectory(
        slow_time=jnp.asarray(times),
        fast_time=None,
        step=step if steps else None,
        model=model,
        risk=jnp.maximum(1 - progress[:, 0, 0], floor),
        status=jnp.asarray(Status.SUCCESSFUL),
        stats=Stats("made up", jnp.asarray(7), jnp.asarray(0)),
    )


@pytest.fixture
def pair():
    return {"SGD": trajectory(SmoothStep(1e-2), floor=0.01, steps=True), "limit": trajectory(Heaviside())}


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_risks_are_drawn_on_a_log_axis_with_a_step_axis_on_top(pair):
    figure = plot.risks(pair)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert "slow time" in axes.get_xlabel()
    assert "error" in axes.get_ylabel()
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), pair["SGD"].slow_time)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), pair["SGD"].risk)
    (top,) = axes.child_axes
    figure.draw_without_rendering()
    assert "step" in top.get_xlabel()
    np.testing.assert_allclose(np.asarray(top.get_xlim()) * 1e-6, axes.get_xlim())


def test_a_log_time_axis_starts_at_the_first_positive_save(pair):
    (axes,) = plot.risks(pair, log_time=True).axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (TIMES[1], TIMES[-1])


def test_an_error_of_zero_leaves_the_axis_and_the_legend_says_so(pair):
    figure = plot.risks(pair)
    (axes,) = figure.axes
    triangle = axes.lines[-1]
    assert pair["limit"].risk[2] == 0 < pair["limit"].risk[1]
    assert triangle.get_xdata()[0] == TIMES[2]
    assert axes.get_ylim()[0] < float(min(pair["SGD"].risk))
    assert labels(figure.legends[0]) == ["SGD", "limit", "zero from here on"]


def test_an_error_that_explodes_does_not_stretch_the_axis(pair):
    wild = dataclasses.replace(pair["SGD"], risk=jnp.array([1.0, 10.0, 1e300, jnp.inf, jnp.nan]))
    (axes,) = plot.risks({"SGD": wild, "limit": pair["limit"]}).axes
    assert axes.get_ylim()[1] == 20.0


def test_step_axis_only_where_the_steps_agree(pair):
    other = dataclasses.replace(pair["SGD"], step=2 * pair["SGD"].step)
    (axes,) = plot.risks({"SGD": pair["SGD"], "SGD, half the step size": other}).axes
    assert not axes.child_axes
    (axes,) = plot.risks({"limit": pair["limit"]}).axes
    assert not axes.child_axes


def test_functions_has_one_panel_for_each_time(pair):
    figure = plot.functions(pair, TARGET, [0.0, 0.0051, 0.01, 0.02])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"slow time τ = {time}" for time in ("0", "0.005", "0.01", "0.02")]
    assert labels(figure.legends[0]) == ["target", "SGD", "limit", "positions"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("input x", "output f(x)")


def test_functions_on_each_clock(pair, tmp_path):
    """Times are of that clock, too; the animation marks them."""
    one = {"SGD": dataclasses.replace(pair["SGD"], fast_time=pair["SGD"].slow_time / 0.01)}
    steps = np.asarray(one["SGD"].step)
    fast = plot.functions(one, TARGET, [0.0, 1.0], clock="fast")
    assert [axes.get_title() for axes in fast.axes] == ["fast time t = 0", "fast time t = 1"]
    step = plot.functions(one, TARGET, [0.9 * steps[-1]], clock="step")
    assert step.axes[0].get_title() == f"step {steps[-1]:,}"
    plot.animation(one, TARGET, tmp_path / "steps.gif", clock="step")
    reference.refuses(lambda: plot.functions(pair, TARGET, [0.0], clock="step"), "'limit' has no clock 'step'")
    slower = dataclasses.replace(one["SGD"], fast_time=one["SGD"].fast_time * 2)
    reference.refuses(
        lambda: plot.functions(one | {"slower": slower}, TARGET, [0.0], clock="fast"), "share", "clock='slow'"
    )


def test_functions_draws_target_networks_and_positions(pair):
    panel = plot.functions(pair, TARGET, [0.0]).axes[0]
    (target,) = panel.patches
    np.testing.assert_array_equal(target.get_data().values, TARGET.values)
    np.testing.assert_array_equal(target.get_data().edges, [0.0, 0.3, 0.6, 1.0])
    for name, line, positions in zip(pair, panel.lines, panel.collections, strict=True):
        start = pair[name].at(0)
        x, y = line.get_data()
        np.testing.assert_allclose(y, jax.vmap(start)(jnp.asarray(x)), atol=1e-12)
        at = [segment[0, 0] for segment in positions.get_segments()]
        np.testing.assert_array_equal(at, start.positions[:, 0])


def test_a_step_is_drawn_upright(pair):
    line = plot.functions({"limit": pair["limit"]}, TARGET, [0.02]).axes[0].lines[0]
    x, y = line.get_data()
    np.testing.assert_array_equal(y, TARGET(jnp.asarray(x)))
    assert np.max(np.abs(np.diff(y)) / np.maximum(np.diff(x), 1e-300)) > 1e12


def test_animation_has_one_frame_for_each_save_asked_for(pair, tmp_path):
    plot.animation(pair, TARGET, tmp_path / "all.gif")
    plot.animation(pair, TARGET, tmp_path / "some.gif", every=3, log_time=True)
    with Image.open(tmp_path / "all.gif") as every_save, Image.open(tmp_path / "some.gif") as some:
        assert every_save.n_frames == 5
        assert some.n_frames == 3  # saves 0 and 3, and the last


def test_colours_belong_to_kinds_and_are_distinct(pair):
    styles = plot.style.styles(
        ["gradient flow", "SGD, h = 1e-5", "SGD, h = 1e-3", "two-timescale limit", "mine", "reduced flow"]
    )
    colours = [to_hex(style["color"]) for style in styles]
    assert colours[:2] == ["#0072b2", "#d55e00"]
    assert len(set(colours)) == len(colours)


def test_a_failed_trajectory_is_named_and_does_not_stop_the_picture(pair, tmp_path):
    failed = jax.tree.map(
        lambda leaf: leaf.at[2:].set(jnp.nan), (pair["SGD"].model.weights, pair["SGD"].model.positions)
    )
    model = ShallowNetwork(*failed, pair["SGD"].model.bias, SmoothStep(1e-2))
    risk = pair["SGD"].risk.at[2:].set(jnp.nan)
    broken = {"SGD": dataclasses.replace(pair["SGD"], model=model, risk=risk, status=jnp.asarray(Status.DIVERGED))}
    for figure in (plot.risks(broken), plot.functions(broken, TARGET, TIMES)):
        figure.savefig(tmp_path / "figure.png")
        assert "SGD (diverged)" in labels(figure.legends[0])
    plot.animation(broken, TARGET, tmp_path / "animation.gif")


def test_pictures_leave_no_global_state(pair):
    before = dict(matplotlib.rcParams)
    plot.risks(pair)
    assert dict(matplotlib.rcParams) == before


def stacked(pair):
    return {"SGD": jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), pair["SGD"])}


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda pair: plot.risks({}), "no trajectory"),
        (lambda pair: plot.functions({}, TARGET, [0.0]), "no trajectory"),
        (lambda pair: plot.risks(list(pair.values())), 'by their names, got list: pass e.g. {"flow": flow'),
        (lambda pair: plot.risks(pair["SGD"]), "by their names, got Trajectory"),
        (lambda pair: plot.risks({"SGD": pair}), "'SGD' must be one Trajectory, as simulate gives it, got dict"),
        (lambda pair: plot.risks(stacked(pair)), "'SGD' must be one Trajectory.*got 2 runs: pass one of them"),
        (lambda pair: plot.functions(pair, TARGET, []), "one panel for each time"),
        (lambda pair: plot.functions(pair, TARGET, 0.0), "one panel for each time, got 0.0"),
        (
            lambda pair: plot.functions(pair | {"limit": trajectory(Heaviside(), times=TIMES / 2)}, TARGET, [0.0]),
            "share their save times",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(pair, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(pair)


def test_boxes_show_every_run():
    values = {"exact": {"a": [1.0, 2.0, 4.0], "b": [0.1, np.nan, 3.0]}, "box": {"a": [1.0, 1.5, 2.0], "b": [1.0] * 3}}
    full = {"a": np.array([True, False, True]), "b": np.array([True, True, False])}
    figure = plot.boxes(values, label="error", reference=("floor", 0.05), filled=("good start", full))
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b"]
    dots = [np.asarray(drawn.get_offsets())[:, 1].tolist() for drawn in axes.collections]
    assert dots == [[1.0, 2.0, 4.0], [0.1, 3.0], [1.0, 1.5, 2.0], [1.0] * 3]
    hollow = [(np.asarray(drawn.get_facecolors())[:, :3] == 1).all(axis=1).tolist() for drawn in axes.collections]
    assert hollow == [[False, True, False], [False, True], [False, True, False], [False, False, True]]
    assert [note.get_text() for note in axes.texts] == ["1 not shown"]
    assert labels(figure.legends[0]) == ["exact", "box", "floor", "good start"]


def test_boxes_refuse_series_of_different_groups():
    with pytest.raises(ValueError, match="same groups in every series"):
        plot.boxes({"exact": {"a": [1.0]}, "box": {"b": [1.0]}}, label="error")
    with pytest.raises(ValueError, match="same groups"):
        plot.boxes({}, label="error")


def test_the_risk_of_another_model_is_no_integral_over_the_interval(pair):
    other = dataclasses.replace(pair["SGD"], model=(jnp.zeros(len(TIMES)),))
    (axes,) = plot.risks({"ratio 0.1": other}).axes
    assert axes.get_ylabel() == "risk"


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    "draw",
    [
        lambda pair: plot.functions(pair, Regression(TARGET), [0.0]),
        lambda pair: plot.animation(pair, Regression(TARGET), "never.gif"),
        lambda pair: plot.notation(pair["SGD"].at(0), Regression(TARGET)),
        lambda pair: plot.moves(pair["limit"], np.zeros((5, 2)), Regression(TARGET)),
    ],
)
def test_a_problem_in_place_of_its_target_is_refused(pair, draw):
    reference.refuses(lambda: draw(pair), "PiecewiseConstant target", "got Regression", "problem.target")


def test_a_script_shows_a_figure_and_batches_close_theirs(pair, tmp_path):
    """What `plt.show()` would show; a notebook shows what its cell returns, and that alone."""
    figure = plot.risks(pair)
    assert plt.gcf() is figure
    save(figure, tmp_path / "risks.png")
    plot.animation(pair, TARGET, tmp_path / "animation.gif")
    assert plt.get_fignums() == []


def test_a_notebook_shows_a_figure_once(pair, monkeypatch):
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    assert plot.risks(pair).axes
    assert plt.get_fignums() == []


DRAWN = {
    "risks": (1, lambda pair, ax: plot.risks(pair, ax=ax)),
    "functions": (2, lambda pair, ax: plot.functions(pair, TARGET, [0.0, 0.02], ax=ax)),
    "boxes": (1, lambda pair, ax: plot.boxes({"a": {"b": [1.0, 2.0]}}, label="error", ax=ax)),
    "notation": (1, lambda pair, ax: plot.notation(pair["SGD"].at(0), TARGET, ax=ax)),
    "moves": (len(TIMES), lambda pair, ax: plot.moves(pair["limit"], np.ones((len(TIMES), 2)), TARGET, ax=ax)),
}


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("name", DRAWN)
def test_axes_that_are_given_are_drawn_into(pair, name):
    count, draw = DRAWN[name]
    figure, panels = plt.subplots(1, count + 1, squeeze=False)
    given = panels[0, :count]
    assert draw(pair, given[0] if count == 1 else given) is figure
    assert plt.get_fignums() == [figure.number]
    assert all(axes.has_data() for axes in given)
    assert not panels[0, -1].has_data()
    assert given[0].get_legend()
    assert not figure.legends
    wanted = "one Axes" if count == 1 else f"{count} Axes"
    reference.refuses(lambda: draw(pair, panels[0]), f"ax must be {wanted} of Matplotlib", f"got {count + 1} of Axes")


@pytest.mark.usefixtures("annotations_off")
def test_what_is_no_axes_is_refused(pair):
    reference.refuses(lambda: plot.risks(pair, ax=3), "ax must be one Axes of Matplotlib, got 1 of int")


def test_risks_on_each_clock(pair):
    """A label says which; a trajectory without that clock is named."""
    one = {"SGD": dataclasses.replace(pair["SGD"], fast_time=pair["SGD"].slow_time / 0.01)}
    for clock, of, label in (("fast", one["SGD"].fast_time, "fast time t"), ("step", one["SGD"].step, "step p")):
        (axes,) = plot.risks(one, clock=clock).axes
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), of)
        assert label in axes.get_xlabel()
        assert axes.get_xlim() == (0, float(of[-1]))
        assert not axes.child_axes
    reference.refuses(lambda: plot.risks(pair, clock="fast"), "'SGD' has no clock 'fast' (made up)", "pass 'slow'")
    reference.refuses(lambda: plot.risks(one | {"limit": pair["limit"]}, clock="step"), "'limit'", "no clock 'step'")
    reference.refuses(lambda: plot.risks(pair, clock="tau"), "clock must be one of 'slow', 'fast', 'step', got 'tau'")


def sweep_dataset():
    """Two dynamics, two ratios, three sizes, four seeds: the error of each run is known, and one run of SGD failed."""
    shape = 2, 2, 3, 4
    risk = np.broadcast_to(np.arange(1.0, 5.0), shape) * np.array([1.0, 0.1])[:, None, None, None]
    status = np.zeros(shape, int)
    status[0, 0, 0, 3], risk = 3, np.stack([np.ones(shape), risk], axis=-1)
    risk[0, 0, 0, 3] = 1e20
    dims = "dynamics", "epsilon", "neurons", "seed"
    return xarray.Dataset(
        {
            "risk": ((*dims, "slow_time"), risk),
            "status": (dims, status),
            "converged": (dims, risk[..., 1] < 2.5),
            "hit_time": ((*dims, "jump"), np.ones((*shape, 2))),
        },
        coords={
            "dynamics": ["SGD", "flow"],
            "epsilon": [0.1, 0.01],
            "neurons": [4, 6, 8],
            "seed": range(4),
            "slow_time": [0.0, 1.0],
        },
    )


def test_a_sweep_against_slow_time_and_against_an_axis():
    """Medians over those that ended well, and how many did not."""
    figure = plot.sweep(sweep_dataset())
    assert [axes.get_title() for axes in figure.axes] == ["SGD", "flow"]
    assert labels(figure.legends[0]) == ["epsilon = 0.1 (1 of 24 failed)", "epsilon = 0.01"]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), [1.0, 2.5])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, 2.0])  # of 11
    sgd, flow = plot.sweep(sweep_dataset(), x="epsilon", y="risk").axes
    np.testing.assert_array_equal(sgd.lines[0].get_data(), [[0.1, 0.01], [2.0, 2.5]])
    np.testing.assert_allclose(flow.lines[2].get_data(), [[0.1, 0.01], [0.25, 0.25]])
    assert (sgd.get_xscale(), sgd.get_yscale(), sgd.get_xlabel()) == ("log", "log", "ε")
    share = plot.sweep(sweep_dataset(), x="neurons", y="converged").axes[0]
    np.testing.assert_array_equal(share.lines[0].get_data(), [[4, 6, 8], [0.5, 0.5, 0.5]])


def test_a_sweep_into_given_axes():
    figure, panels = plt.subplots(1, 2)
    assert plot.sweep(sweep_dataset(), ax=panels) is figure
    assert [axes.get_title() for axes in panels] == ["SGD", "flow"]
    assert labels(panels[0].get_legend()) == ["epsilon = 0.1 (1 of 24 failed)", "epsilon = 0.01"]
    reference.refuses(lambda: plot.sweep(sweep_dataset(), ax=panels[0]), "ax must be 2 Axes", "got 1 of Axes")


def test_a_map_holds_medians_and_a_curve_where_there_is_one_axis():
    sgd, flow, _ = plot.heat_map(sweep_dataset()).axes
    np.testing.assert_array_equal(sgd.images[0].get_array(), [[2.0, 2.5, 2.5], [2.5, 2.5, 2.5]])
    np.testing.assert_allclose(flow.images[0].get_array(), np.full((2, 3), 0.25))
    assert (sgd.get_xlabel(), sgd.get_ylabel()) == ("neurons", "ε")
    assert [tick.get_text() for tick in sgd.get_yticklabels()] == ["0.1", "0.01"]
    shares = plot.convergence(sweep_dataset()).axes[0].images[0]
    np.testing.assert_array_equal(shares.get_array(), np.full((2, 3), 0.5))
    assert shares.get_clim() == (0.0, 1.0)
    curve = plot.heat_map(sweep_dataset().isel(epsilon=0)).axes[0]
    np.testing.assert_array_equal(curve.lines[0].get_data(), [[4, 6, 8], [2.0, 2.5, 2.5]])


def test_shares_of_statuses_are_of_the_runs_that_there_are():
    data = sweep_dataset()
    data.status[1, 1] = -1
    axes = plot.statuses(data, "epsilon").axes[0]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}
    assert list(heights) == ["successful", "diverged"]
    np.testing.assert_allclose(list(heights.values()), [[23 / 24, 1.0], [1 / 24, 0.0]], rtol=1e-12)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.1", "0.01"]
    by_dynamics = [bar.get_height() for bar in plot.statuses(data).axes[0].containers[1]]
    np.testing.assert_allclose(by_dynamics, [1 / 24, 0.0], rtol=1e-12)


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda data: plot.sweep(data, x="eta"), "x must be one of 'slow_time', 'epsilon', 'neurons', got 'eta'"),
        (lambda data: plot.sweep(data, x="dynamics"), "got 'dynamics'"),
        (lambda data: plot.sweep(data, y="loss"), "y against 'slow_time' must be one of 'risk', got 'loss'"),
        (lambda data: plot.sweep(data, y="converged"), "got 'converged'"),
        (lambda data: plot.sweep(data, x="epsilon", y="hit_time"), "one of 'risk', 'status', 'converged'"),
        (lambda data: plot.sweep(data.risk), "that of a sweep, got DataArray"),
        (lambda data: plot.sweep("run.zarr"), "that of a sweep, got str"),
        (lambda data: plot.convergence(3), "that of a sweep, got int"),
        (lambda data: plot.heat_map(data, "loss"), "y must be one of 'risk', 'status', 'converged'"),
        (lambda data: plot.statuses(data, "eta"), "x must be one of 'dynamics', 'epsilon', 'neurons', got 'eta'"),
        (lambda data: plot.statuses("run.zarr"), "that of a sweep, got str"),
    ],
)
def test_a_sweep_that_cannot_be_drawn_is_refused(draw, said):
    reference.refuses(lambda: draw(sweep_dataset()), said)


def test_spectra_show_both_signs_and_count_what_is_left_out():
    rates = np.array([-0.5, 1e-20, 1e-3, 4.0])
    (axes,) = plot.spectra(rates).axes
    decays, grows = (np.asarray(dots.get_offsets()) for dots in axes.collections)
    assert decays.tolist() == [[3.0, 1e-3], [1.0, 4.0]]
    assert grows.tolist() == [[2.0, 0.5]]
    figure = plot.spectra(np.stack([rates, 2 * rates]), [0.0, 0.1])
    assert labels(figure.legends[0])[-1] == "1 zero, or nearly, not shown"
    decays, _ = (np.asarray(dots.get_offsets()) for dots in figure.axes[0].collections)
    assert decays.tolist() == [[0.0, 1e-3], [0.0, 4.0], [0.1, 2e-3], [0.1, 8.0]]
