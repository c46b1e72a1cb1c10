"""What is called, with good arguments and the odd values that each takes."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from odd_values import (
    BITS,
    COUNTS,
    DOWN,
    INTEGERS,
    KEY,
    KEYS,
    LISTS,
    NETWORK,
    NOT_NEGATIVE,
    ONE,
    PATHS,
    POSITIVE,
    PROBLEM,
    ROWS,
    SCALARS,
    TARGET,
    TEXTS,
    TRUTHS,
    TWICE,
    TWO,
    Calls,
    called,
    costly,
    of,
)

import tts_jax as tts

TIMES = [0.0, 0.02]
LIMIT, EXACT = tts.TwoTimescaleLimit(), tts.SGD(0.1, 0.1, None)
RATES = DOWN, TWICE, BITS, ROWS, "an array of shape (1, 1, 1)", "an array with NaN", "a series with a missing value"
ALONE = {"dynamics": of(LIMIT, "a dynamics"), "model": of(NETWORK, "a network"), "problem": of(PROBLEM, "a problem")}


@cache
def run() -> tts.Trajectory:
    return tts.simulate(LIMIT, NETWORK, PROBLEM, TIMES)


@cache
def swept() -> Any:
    return tts.sweep(LIMIT, PROBLEM, TIMES, seeds=2, neurons=[2, 3], eta=0.2, keep="model", progress=False)


def panels(count: int = 1) -> Any:
    figure = plt.figure()
    return figure.add_subplot() if count == 1 else figure.subplots(1, count)


def start(key, neurons, eta):
    return tts.ShallowNetwork.init(key, neurons, tts.SmoothStep(eta))


def preset(name: str, **changes: Any) -> Any:
    return tts.experiments.preset(name, **changes)


VERBS: Calls = {
    "simulate": lambda: (
        tts.simulate,
        {
            **ALONE,
            "slow_times": costly(TIMES, *LISTS, TWICE, BITS),
            "key": of(KEY, "None", *KEYS),
            "samples": of(None, "None"),
            "progress": called(None, "None", *TRUTHS[:2]),
        },
    ),
    "simulate with samples": lambda: (
        partial(tts.simulate, tts.SGD(0.1, 0.1), NETWORK, PROBLEM),
        {
            "slow_times": of(TIMES, BITS),
            "key": of(KEY, "None", *KEYS),
            "samples": of((np.ones((2, 1)), np.ones(2)), "None"),
        },
    ),
    "simulate with a checkpoint": lambda: (
        partial(tts.simulate, EXACT, NETWORK, PROBLEM, TIMES),
        {"checkpoint": of("run.checkpoint", "None", *PATHS)},
    ),
    "Trajectory.at": lambda: (run().at, {"index": of(1, "0", "-1")}),
    "Trajectory.map": lambda: (run().map, {"measure": called(PROBLEM.risk)}),
    "Trajectory.then": lambda: (run().then, {"later": of(tts.simulate(LIMIT, run(), PROBLEM, [0.02, 0.04]))}),
    "distance": lambda: (tts.distance, {"a": of(NETWORK, "a network"), "b": of(NETWORK, "a network")}),
    "distance of trajectories": lambda: (tts.distance, {"a": of(run()), "b": of(run())}),
    "run_each": lambda: (
        partial(tts.run_each, jnp.sum, jnp.ones((2, 2))),
        {"workers": of(1, "None", *COUNTS), "progress": called(False, "None", *TRUTHS[:2])},
    ),
    "sweep": lambda: (
        tts.sweep,
        {
            "dynamics": of(LIMIT, "a dynamics"),
            "problem": of(PROBLEM, "a problem"),
            "slow_times": costly(TIMES, *LISTS, TWICE, BITS),
            "seeds": costly(1, *COUNTS, *INTEGERS),
            "init": called(start),
            "measure": of({"risk here": PROBLEM.risk}, "None", "an empty mapping"),
            "keep": of("model", "None"),
            "lanes": of(8, "None", *COUNTS),
            "devices": of(jax.devices(), "None"),
            "client": of(None, "None"),
            "progress": called(False, "None", *TRUTHS[:2]),
            "weights": of(False, *TRUTHS),
            "attributes": of({"a": "b"}, "None", "an empty mapping", "a mapping"),
            "neurons": costly(2, *COUNTS, *INTEGERS),
            "eta": costly(0.2, *LISTS, DOWN, *POSITIVE),
            "noise": costly(0.5, *LISTS, DOWN, *NOT_NEGATIVE),
            "target": of(TARGET, "a target", "a list of targets"),
        },
    ),
    "sweep of SGD": lambda: (
        partial(tts.sweep, EXACT, PROBLEM, TIMES, seeds=1, neurons=2, progress=False),
        {"epsilon": costly(0.1, *LISTS, DOWN, *POSITIVE), "step_size": costly(0.1, *LISTS, DOWN, *POSITIVE)},
    ),
    "sweep into a store": lambda: (
        partial(tts.sweep, LIMIT, PROBLEM, TIMES, seeds=1, neurons=2, progress=False),
        {"store": of("run.zarr", "None")},
    ),
    "load": lambda: (tts.load, {"path": of("run.nc")}),
    "cache": lambda: (tts.cache, {"path": of("cache", "None", *PATHS)}),
    "theory.probability_of_good_start": lambda: (
        tts.theory.probability_of_good_start,
        {"target": of(TARGET, "a target"), "neurons": of(5, *COUNTS), "at_least": of(1, "0", *COUNTS)},
    ),
    **{
        f"theory.{verb.__name__}": lambda verb=verb: (
            verb,
            {"model": of(NETWORK, "a network"), "problem": of(PROBLEM, "a problem")},
        )
        for verb in (tts.theory.hit_times, tts.theory.obstacle, tts.theory.conserved)
    },
    "theory.floor": lambda: (tts.theory.floor, {"problem": of(PROBLEM, "a problem"), "eta": of(0.1, *POSITIVE)}),
    "theory.smallest_risk": lambda: (
        tts.theory.smallest_risk,
        {"problem": of(PROBLEM, "a problem"), "neurons": of(2, *COUNTS)},
    ),
    "diagnostics.hit_times": lambda: (
        tts.diagnostics.hit_times,
        {
            "flow": of(tts.GradientFlow(0.1)),
            "model": of(NETWORK, "a network"),
            "problem": of(PROBLEM, "a problem"),
            "end": of(0.01, *POSITIVE),
        },
    ),
    "diagnostics.spectrum": lambda: (
        tts.diagnostics.spectrum,
        {
            "model": of(NETWORK, "a network"),
            "problem": of(PROBLEM, "a problem"),
            "epsilon": of(0.1, *POSITIVE),
            "slow": of(None, "None", "a function"),
            "frozen": of(None, "None"),
            "extreme": of(1, "None", *COUNTS),
        },
    ),
    "diagnostics.stiffness": lambda: (tts.diagnostics.stiffness, {"rates": of([1.0, 2.0], *LISTS, *RATES)}),
    "diagnostics.distance_to_slow_manifold": lambda: (
        partial(tts.diagnostics.distance_to_slow_manifold, tts.simulate(EXACT, NETWORK, PROBLEM, TIMES)),
        {"problem": of(PROBLEM, "a problem")},
    ),
    "diagnostics.order": lambda: (
        tts.diagnostics.order,
        {"errors": of([0.5, 0.25], *TWO, DOWN, TWICE), "parameters": of([2.0, 1.0], *TWO, DOWN)},
    ),
    "plot.spectra": lambda: (
        tts.plot.spectra,
        {"rates": of(np.ones((2, 3)), ROWS), "slow_times": of([0.0, 1.0], *TWO, TWICE), "ax": of(panels(), "None")},
    ),
    "plot.risks": lambda: (
        tts.plot.risks,
        {
            "trajectories": of({"limit": run()}),
            "log_time": of(False, *TRUTHS),
            "clock": of("slow"),
            "ax": of(panels(), "None"),
        },
    ),
    "plot.functions": lambda: (
        tts.plot.functions,
        {
            "trajectories": of({"limit": run()}),
            "target": of(TARGET, "a target"),
            "times": of([0.0], *ONE),
            "clock": of("slow"),
            "ax": of(panels(), "None"),
        },
    ),
    "plot.animation": lambda: (
        tts.plot.animation,
        {
            "trajectories": of({"limit": run()}),
            "target": of(TARGET, "a target"),
            "path": of("run.gif"),
            "every": costly(1, *COUNTS),
            "frames_per_second": costly(12, *COUNTS),
            "log_time": of(False, *TRUTHS),
            "clock": of("slow"),
        },
    ),
    "plot.boxes": lambda: (
        tts.plot.boxes,
        {
            "values": of({"one": {"a": [1.0, 2.0]}}),
            "label": of("error", *TEXTS, "empty text"),
            "reference": of(("floor", 0.5), "None"),
            "filled": of(("yes", {"a": np.array([True, False])}), "None"),
            "ax": of(panels(), "None"),
        },
    ),
    "plot.sweep": lambda: (
        tts.plot.sweep,
        {"dataset": of(swept()), "x": of("neurons"), "y": of("risk"), "ax": of(panels(), "None")},
    ),
    "plot.convergence": lambda: (tts.plot.convergence, {"dataset": of(swept()), "ax": of(panels(), "None")}),
    "plot.heat_map": lambda: (
        tts.plot.heat_map,
        {"dataset": of(swept()), "y": of("risk"), "ax": of(panels(), "None")},
    ),
    "plot.statuses": lambda: (
        tts.plot.statuses,
        {"dataset": of(swept()), "x": of("neurons", "None"), "ax": of(panels(), "None")},
    ),
    "sweeps.model": lambda: (
        tts.sweeps.model,
        {
            "dataset": of(swept()),
            "init": of(None, "None"),
            "seed": of(1, "0", "0.0"),
            "neurons": of(2, "an integer", "an int8", "an int64"),
        },
    ),
    "plot.notation": lambda: (
        tts.plot.notation,
        {"network": of(NETWORK, "a network"), "target": of(TARGET, "a target"), "ax": of(panels(), "None")},
    ),
    "plot.moves": lambda: (
        tts.plot.moves,
        {
            "trajectory": of(run()),
            "velocities": of(np.ones((2, 2)), ROWS),
            "target": of(TARGET, "a target"),
            "ax": of(panels(2), "None"),
        },
    ),
    "experiments.preset": lambda: (tts.experiments.preset, {"name": of("notation"), "profile": of("quick")}),
    "experiments.preset same-step": lambda: (
        partial(preset, "same-step"),
        {
            "seed": of(0, "0", "2**31", *COUNTS),
            "eta": of(4e-3, *POSITIVE),
            "noise": of(1.0, *NOT_NEGATIVE),
            "epsilon": of(1.0, *SCALARS),
            "step_size": of(1e-3, *SCALARS),
            "slow_time": of(10.0, *SCALARS),
            "saves": of(10, *COUNTS),
            "panels": of((0.0,), "a list of one", "a tuple", DOWN, TWICE, "a list of three"),
            "succeeds": of(False, *TRUTHS),
            "neurons": of(20, *COUNTS),
            "first_save": of(1e-4, "None", *SCALARS),
            "frame_every": of(4, *COUNTS),
        },
    ),
    "experiments.preset relu": lambda: (
        partial(preset, "relu"),
        {
            "dimension": of(1, *COUNTS),
            "eta": of(None, "None", *POSITIVE),
            "weight_range": of(3.0, *POSITIVE),
            "epsilons": of((1.0, 0.01), "a tuple", DOWN, TWICE),
            "budgets": of((300, 5000)),
        },
    ),
    "experiments.preset regime-atlas": lambda: (
        partial(preset, "regime-atlas"),
        {
            "epsilons": of((1.0, 0.1), "a list of one", "a tuple", DOWN, TWICE, "a list of three"),
            "sizes": of((5, 8)),
            "slow_times": of((0.0, 1.0), "a tuple", TWICE, "a list of three"),
            "sgd_seeds": of(8, *COUNTS),
            "hit_epsilons": of((1.0, 0.1), "a list of one", "a tuple", DOWN, TWICE, "a list of three"),
            "hit_neurons": of(30, *COUNTS),
        },
    ),
    "experiments.preset is-it-a-diffusion": lambda: (
        partial(preset, "is-it-a-diffusion"),
        {
            "epsilons": of((1.0, 2e-5), "a tuple", DOWN, TWICE),
            "step_sizes": of((1e-3, 1e-3), "a tuple", DOWN, TWICE),
            "slow_times": of((2.0, 2.0), "a tuple", DOWN, TWICE),
            "seeds": of(16, *COUNTS),
            "amplifications": of((1, 4)),
            "substeps": of(2, *COUNTS),
            "saves": of(50, *COUNTS),
            "neurons": of(20, *COUNTS),
        },
    ),
    "experiments.preset orders": lambda: (
        partial(preset, "orders"),
        {
            "etas": of((0.1, 0.01, 1e-3), "a list of three"),
            "seeds": of(4, *COUNTS),
            "slow_time": of(0.1, *POSITIVE[:-3]),
            "weak_paths": of(4, *COUNTS),
        },
    ),
    "experiments.preset learning-order": lambda: (
        partial(preset, "learning-order"),
        {
            "epsilons": of((1.0, 0.1, 0.01)),
            "neurons": of(20, *COUNTS),
            "starts": of(8, *COUNTS),
            "sgd_repeats": of(6, *COUNTS),
            "step_size": of(0.01, *POSITIVE),
            "end": of(10.0, *POSITIVE),
            "degrees": of(4),
        },
    ),
    "experiments.preset online-plateau": lambda: (
        partial(preset, "online-plateau"),
        {
            "of_teacher": of(2, *COUNTS),
            "rate": of(0.5, *POSITIVE),
            "noise": of(0.1, *NOT_NEGATIVE),
            "sizes": of((2, 4)),
            "inputs": of((25, 200)),
            "seeds": of(16, *COUNTS),
            "sgd_end": of(100.0, *POSITIVE),
            "saves": of(120, *COUNTS),
        },
    ),
    "experiments.preset speeds-atlas": lambda: (
        partial(preset, "speeds-atlas"),
        {
            "ratios": of((0.1, 1.0), "a tuple", "a list of three"),
            "sizes": of((2, 4)),
            "starts": of(12, *COUNTS),
            "inputs": of(500, *COUNTS),
            "end": of(1e4, *POSITIVE),
        },
    ),
    "experiments.preset notation": lambda: (
        partial(preset, "notation"),
        {
            "jumps": of((0.25, 0.6, 0.8), "a list of three"),
            "values": of((1.0, 4.0, 2.5, 3.5)),
            "shows": of("Figure 1", "empty text", *TEXTS),
        },
    ),
    "experiments.run": lambda: (
        lambda **given: tts.experiments.preset("notation").run(**given).folder,
        {"out": of("out", *PATHS), "report": called(None, "None")},
    ),
    "experiments.figures_of_the_paper": lambda: (tts.experiments.figures_of_the_paper, {"profile": of("quick")}),
    "experiments.every_experiment": lambda: (tts.experiments.every_experiment, {"profile": of("quick")}),
    "experiments.reproduce": lambda: (
        lambda **given: tts.experiments.reproduce(**given).folder,
        {
            "experiments": of([tts.experiments.preset("notation")]),
            "out": of("out", *PATHS),
            "report": called(None, "None"),
        },
    ),
}
