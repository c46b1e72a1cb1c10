"""The experiments by name. The numbers are those of Marion and Berthier (2023), arXiv 2304.09576.

The default seed of a comparison is 0, the first whose start has at least two neurons in every piece of the target, as
the paper's figures have; about 3 starts in 10 do. Another seed is simulated whatever its start is.
"""

import dataclasses
from typing import Any

from .. import _checks as checks
from .base import AbstractExperiment
from .comparison import Comparison
from .finite_data import FiniteData
from .is_diffusion import IsDiffusion
from .learning_order import LearningOrder
from .online import OnlinePlateau
from .orders import Orders
from .regime_atlas import RegimeAtlas
from .settings import changed
from .sketches import Notation, ReducedSketch
from .speeds_atlas import SpeedsAtlas
from .varying import VaryingEpsilon

TWO_TIMESCALE = Comparison(
    name="two-timescale",
    profile="paper",
    shows="Figures 3 and 4",
    description="with slow positions, SGD follows the two-timescale limit to a global minimum",
    epsilon=2e-5,
    step_size=1e-5,
    slow_time=0.035,
    saves=100,
    panels=(0.0, 0.00035, 0.00175, 0.0035, 0.007, 0.035),
    succeeds=True,
)
SAME_STEP = Comparison(
    name="same-step",
    profile="paper",
    shows="Figure 5",
    description="from the same start, with one step size for both layers, SGD misses the global minimum",
    epsilon=1.0,
    step_size=1e-5,
    slow_time=10.0,
    saves=101,
    panels=(0.0, 0.01, 0.1, 1.0, 3.16, 10.0),
    succeeds=False,
    first_save=1e-4,
)
VARYING_EPSILON = VaryingEpsilon(
    name="varying-epsilon",
    profile="paper",
    shows="Figure 7",
    description="the smaller the ratio, the closer SGD comes to a global minimum, over many starts",
    seeds=20,
)
# The seeds of both sketches are the first whose positions lie far enough apart to be told apart in print.
NOTATION = Notation(
    name="notation",
    profile="paper",
    shows="Figure 1",
    description="the symbols: target, network, jumps, positions, width",
    seed=1,
)
REDUCED_SKETCH = ReducedSketch(
    name="reduced-sketch",
    profile="paper",
    shows="Figure 2",
    description="in the limit the two neurons beside a jump move towards it",
    times=(0.0, 0.01, 0.05),
    seed=2,
)
ADDITIVE_2D = FiniteData(
    name="additive-2d",
    profile="paper",
    shows="Figure 6",
    description="in the plane, slow positions line up with the steps of an additive target (Figure 6)",
    dimension=2,
    points=1000,
    repeats=20,
)
ADDITIVE_10D = dataclasses.replace(
    ADDITIVE_2D,
    name="additive-10d",
    shows="the appendix",
    description="the same in ten dimensions (appendix)",
    dimension=10,
    points=10_000,
)
RELU = dataclasses.replace(
    ADDITIVE_2D,
    name="relu",
    shows="the appendix",
    description="ReLU neurons find the kinks of a piecewise linear target (appendix)",
    dimension=1,
    eta=None,
)
REGIME_ATLAS = RegimeAtlas(
    name="regime-atlas",
    profile="paper",
    shows="a map of ours",
    description="from how many starts training reaches a global minimum, over epsilon and the number of neurons",
    epsilons=tuple(float(f"{10 ** (-5 * k / 11):.2g}") for k in range(12)),
    sizes=(5, 8, 12, 16, 20, 30, 40, 60),
    seeds=64,
    slow_times=(0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    hit_epsilons=(0.1, 1e-3, 1e-5),
    sgd_epsilons=(1.0, 0.1, 0.01),
    sgd_sizes=(5, 12, 20, 40),
    sgd_seeds=8,
    sgd_slow_time=3.0,
)
# Beside the published pairs one at which SGD is none, with a step of size 1e-3 for both layers. It ends at slow time 2:
# by 10 the noise has thrown all neurons out of [0, 1], and there is nothing left to tell apart.
IS_IT_A_DIFFUSION = IsDiffusion(
    name="is-it-a-diffusion",
    profile="paper",
    shows="a test of ours",
    description="whether SGD is what its stochastic differential equation says, by SVAG",
    epsilons=(1.0, 1.0, 2e-5),
    step_sizes=(1e-3, 1e-5, 1e-3),
    slow_times=(2.0, 0.5, 5e-4),
    seeds=20,
)
ORDERS = Orders(
    name="orders",
    profile="paper",
    shows="orders of ours",
    description="with which order SGD, the flow, the reduced flow and the limit approach each other",
    epsilons=(1e-6, 3e-7, 1e-7, 3e-8, 1e-8),
    etas=(4e-3, 2e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4),
    step_sizes=(2.4e-4, 1.2e-4, 6e-5, 3e-5, 1.5e-5, 7.5e-6, 3.75e-6),
    seeds=128,
    weak_step_sizes=(0.016, 8e-3, 4e-3, 2e-3),
    weak_paths=160,
)
LEARNING_ORDER = LearningOrder(
    name="learning-order",
    profile="paper",
    shows="high dimension",
    description="with fast weights, a single-index target is learned degree after degree",
    epsilons=(1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-10, 1e-12, 1e-13, 1e-14),
    neurons=200,
    starts=20,
    sgd_epsilon=1e-2,
    sgd_neurons=20,
    sgd_inputs=200,
    sgd_repeats=12,
    step_size=2e-3,
    seed=10,
)
ONLINE_PLATEAU = OnlinePlateau(
    name="online-plateau",
    profile="paper",
    shows="Figures 2 and 3 of Goldt et al. (2019)",
    description="online SGD in high dimension leaves a plateau; when both layers learn, more neurons end lower",
    sizes=(2, 3, 4, 6, 8),
    inputs=(100, 1000, 3000),
    starts=12,
    seeds=16,
    seed=10,
)
SPEEDS_ATLAS = SpeedsAtlas(
    name="speeds-atlas",
    profile="paper",
    shows="a map of ours",
    description="how the ratio of the rates of both layers moves the plateau of online SGD, and the last error",
    ratios=tuple(float(f"{10 ** (k / 4 - 1.5):.2g}") for k in range(11)),
    sizes=(2, 3, 4, 5, 6, 7, 8),
    starts=13,
    seed=10,
)
PRESETS: tuple[AbstractExperiment, ...] = (
    dataclasses.replace(NOTATION, profile="quick"),
    NOTATION,
    dataclasses.replace(REDUCED_SKETCH, profile="quick"),
    REDUCED_SKETCH,
    dataclasses.replace(TWO_TIMESCALE, profile="quick", step_size=1e-3, frame_every=4),
    TWO_TIMESCALE,
    # A step size of 1e-4 is too noisy here: it throws half of the neurons out of [0, 1]. 1e6 steps are quick anyway.
    dataclasses.replace(SAME_STEP, profile="quick", frame_every=4),
    SAME_STEP,
    # At a step size of 1e-4 the noise of SGD multiplies the errors by 2 to 7: fewer starts are the honest shortcut.
    dataclasses.replace(VARYING_EPSILON, profile="quick", seeds=6),
    VARYING_EPSILON,
    dataclasses.replace(ADDITIVE_2D, profile="quick"),
    ADDITIVE_2D,
    dataclasses.replace(ADDITIVE_10D, profile="quick", points=1000, repeats=4),
    ADDITIVE_10D,
    dataclasses.replace(RELU, profile="quick"),
    RELU,
    dataclasses.replace(
        REGIME_ATLAS,
        profile="quick",
        epsilons=(1.0, 0.1, 0.01, 1e-3),
        sizes=(5, 8, 12, 20),
        seeds=16,
        sgd_epsilons=(1.0, 0.1),
        sgd_sizes=(5, 12),
    ),
    REGIME_ATLAS,
    dataclasses.replace(
        IS_IT_A_DIFFUSION,
        profile="quick",
        epsilons=(1.0, 2e-5),
        step_sizes=(1e-3, 1e-3),
        slow_times=(2.0, 4e-5),
        seeds=16,
        substeps=2,
    ),
    IS_IT_A_DIFFUSION,
    dataclasses.replace(
        ORDERS,
        profile="quick",
        epsilons=(1e-6, 1e-7, 1e-8),
        etas=(2e-3, 1e-3, 5e-4),
        step_sizes=(1.2e-4, 3e-5, 7.5e-6),
        seeds=64,
        weak_step_sizes=(0.016, 8e-3, 4e-3),
        weak_paths=32,
    ),
    ORDERS,
    dataclasses.replace(LEARNING_ORDER, profile="quick", starts=8, sgd_neurons=10, sgd_repeats=6, step_size=1e-2),
    LEARNING_ORDER,
    dataclasses.replace(ONLINE_PLATEAU, profile="quick", sizes=(2, 4), inputs=(25, 200), starts=6, end=1e4),
    ONLINE_PLATEAU,
    dataclasses.replace(
        SPEEDS_ATLAS, profile="quick", ratios=(0.032, 0.13, 0.56, 2.4, 10.0), sizes=(2, 4), starts=32, end=1e4
    ),
    SPEEDS_ATLAS,
)

UNCLAIMED = frozenset(
    {
        "description",
        "first_save",
        "frame_every",
        "panels",
        "repeats",
        "saves",
        "seed",
        "seeds",
        "sgd_repeats",
        "sgd_seeds",
        "shows",
        "starts",
        "weak_paths",
    }
)
"""Settings that no claim is about: which repeats are drawn, how many, and what the figures show of them."""


def changes(experiment: AbstractExperiment) -> tuple[str, ...]:
    """The settings that a claim is about and that are not those of the preset; none of an experiment without one."""
    for candidate in PRESETS:
        if (candidate.name, candidate.profile) == (experiment.name, experiment.profile):
            mine, theirs = dataclasses.asdict(experiment), dataclasses.asdict(candidate)
            return tuple(name for name in mine if name not in UNCLAIMED and mine[name] != theirs.get(name))
    return ()


def preset(name: str, profile: str = "quick", **changes: Any) -> AbstractExperiment:
    """An experiment by its `name`, with some of its fields changed.

    **Arguments:**

    - `name`: one of `tts-jax list`
    - `profile`: "quick", or "paper" for the paper's own numbers
    - `changes`: other values of fields of the experiment

    >>> preset("two-timescale", neurons=30).neurons
    30

    Raises `ValueError` for an unknown name, profile or field, and for values that cannot be simulated.
    """
    checks.choice("the name of an experiment", name, sorted({candidate.name for candidate in PRESETS}))
    profiles = {candidate.profile: candidate for candidate in PRESETS if candidate.name == name}
    return changed(profiles[checks.choice("profile", profile, profiles)], changes)
