"""What is made, and its methods, with good arguments and the odd values that each takes."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from odd_values import (
    BITS,
    COUNTS,
    DOWN,
    EMPTY,
    FUNCTIONS,
    KEY,
    KEYS,
    LISTS,
    NETWORK,
    NOT_NEGATIVE,
    NUMBERS,
    ONE,
    POSITIVE,
    PROBLEM,
    ROWS,
    SCALARS,
    STEP,
    TARGET,
    TRUTHS,
    TWICE,
    TWO,
    Calls,
    costly,
    of,
)

import tts_jax as tts
from tts_jax.dynamics.overlaps import literature_speeds

POINTS = np.linspace(0, 1, 4)
HERMITE = tts.Hermite([0.5, 1.0])
SPHERE = tts.SphereNetwork([1.0], [[1.0, 2.0]], HERMITE)
TEACHER = tts.PerceptronNetwork([1.0], [[1.0, 2.0]], tts.Erf())


def data() -> tts.Dataset:
    return tts.Dataset(POINTS[:, None], POINTS)


def norm_data() -> tts.NormDataset:
    return tts.NormDataset(POINTS[:, None], POINTS)


def on_problems() -> Calls:
    """The methods of each problem."""
    problems = {
        "Regression": (lambda: PROBLEM, NETWORK, ("a network",)),
        "Dataset": (data, NETWORK, ("a function", "an activation", "a target", "a network")),
        "NormDataset": (norm_data, NETWORK, ("a function", "an activation", "a target", "a network")),
        "GaussianRegression": (lambda: tts.GaussianRegression(TEACHER), TEACHER, ()),
        "SingleIndex": (lambda: tts.SingleIndex([1.0, 2.0], HERMITE), SPHERE, ()),
    }
    found = {}
    for name, (problem, model, takes) in problems.items():
        for method in ("risk", "gradient"):
            found[f"{name}.{method}"] = lambda problem=problem, model=model, takes=takes, method=method: (
                getattr(problem(), method),
                {"model": of(model, *takes)},
            )
        found[f"{name}.sample"] = lambda problem=problem: (
            problem().sample,
            {"key": of(KEY, *KEYS), "n": of(2, *COUNTS)},
        )
    return found


NOUNS: Calls = {
    "PiecewiseConstant": lambda: (
        tts.PiecewiseConstant,
        {
            "jumps": of([0.5], *ONE, "1e-320", "a float16", "a float32", *SCALARS[-2:]),
            "values": of([0.0, 1.0], *TWO, DOWN, TWICE, BITS),
        },
    ),
    "PiecewiseConstant(x)": lambda: (
        TARGET,
        {
            "x": of(
                0.4,
                *NUMBERS,
                *LISTS,
                DOWN,
                TWICE,
                BITS,
                *EMPTY,
                ROWS,
                "an array of shape (0, 3)",
                "an array of shape (1, 1, 1)",
                "an empty table of pandas",
            )
        },
    ),
    "PiecewiseLinear": lambda: (
        tts.PiecewiseLinear,
        {
            "knots": of([0.5], *ONE, *NUMBERS),
            "slopes": of([1.0], *ONE, *NUMBERS),
            "intercept": of(0.5, *NUMBERS),
        },
    ),
    "Additive": lambda: (tts.Additive, {"components": of([TARGET], "a target", "a list of targets")}),
    "Additive(x)": lambda: (tts.Additive([TARGET, TARGET]), {"x": of([0.4, 0.5], *TWO, DOWN, TWICE, BITS, ROWS)}),
    "SmoothTarget": lambda: (
        tts.SmoothTarget,
        {
            "function": costly(jnp.cos, "a function", "an activation", "a network"),
            "kinks": of([0.5], *LISTS, DOWN, TWICE, BITS, *NUMBERS, *EMPTY),
            "tolerance": of(1e-3, *POSITIVE),
        },
    ),
    "teacher": lambda: (tts.teacher, {"network": of(NETWORK, "a network")}),
    "SmoothStep": lambda: (tts.SmoothStep, {"eta": of(0.1, *POSITIVE), "surrogate": of("box", "None")}),
    "ShallowNetwork": lambda: (
        tts.ShallowNetwork,
        {
            "weights": of([[1.0]]),
            "positions": of([[0.5]]),
            "bias": of(0.0, "None", *NUMBERS, "NaN", "a NaN of NumPy", "infinity", "minus infinity"),
            "activation": of(STEP, *FUNCTIONS),
        },
    ),
    "ShallowNetwork(x)": lambda: (NETWORK, {"x": of(0.3, *ONE, *NUMBERS)}),
    "ShallowNetwork.init": lambda: (
        tts.ShallowNetwork.init,
        {
            "key": of(KEY, *KEYS),
            "neurons": of(3, *COUNTS),
            "activation": of(STEP, *FUNCTIONS),
            "dimension": of(2, *COUNTS),
            "weight_range": of(1.0, *NUMBERS),
            "bias": of(False, *TRUTHS),
        },
    ),
    "PerceptronNetwork": lambda: (
        tts.PerceptronNetwork,
        {"weights": of([1.0], *ONE), "directions": of([[1.0]]), "activation": of(tts.ReLU(), *FUNCTIONS)},
    ),
    "PerceptronNetwork(x)": lambda: (TEACHER, {"x": of([0.3, 0.4], *TWO, DOWN, TWICE, BITS)}),
    "PerceptronNetwork.init": lambda: (
        tts.PerceptronNetwork.init,
        {
            "key": of(KEY, *KEYS),
            "neurons": of(3, *COUNTS),
            "inputs": of(2, *COUNTS),
            "activation": of(tts.ReLU(), *FUNCTIONS),
        },
    ),
    "Hermite": lambda: (tts.Hermite, {"coefficients": of([0.5, 1.0], *NUMBERS, *LISTS, DOWN, TWICE, BITS)}),
    "SphereNetwork": lambda: (
        tts.SphereNetwork,
        {"weights": of([1.0], *ONE), "directions": of([[1.0]]), "activation": of(HERMITE, *FUNCTIONS)},
    ),
    "SphereNetwork(x)": lambda: (SPHERE, {"x": of([0.3, 0.4], *TWO, DOWN, TWICE, BITS)}),
    "SphereNetwork.init": lambda: (
        tts.SphereNetwork.init,
        {
            "key": of(KEY, *KEYS),
            "neurons": of(3, *COUNTS),
            "inputs": of(2, *COUNTS),
            "activation": of(HERMITE, *FUNCTIONS),
        },
    ),
    "Overlaps": lambda: (
        tts.Overlaps,
        {
            "weights": of([1.0], *ONE),
            "student": of([[1.0]], "None"),
            "teacher": of([[0.5]]),
            "activation": of(HERMITE, *FUNCTIONS),
        },
    ),
    "Overlaps.init": lambda: (
        tts.Overlaps.init,
        {"key": of(KEY, *KEYS), "neurons": of(3, *COUNTS), "activation": of(HERMITE, *FUNCTIONS)},
    ),
    "SingleIndex": lambda: (
        tts.SingleIndex,
        {
            "direction": of([1.0, 2.0], *POSITIVE, "-1", "-0.5", *LISTS, DOWN, TWICE),
            "target": of(HERMITE),
            "noise": of(0.5, *NOT_NEGATIVE),
        },
    ),
    "Regression": lambda: (
        tts.Regression,
        {
            "target": of(TARGET, "a target"),
            "noise": of(0.5, *NOT_NEGATIVE),
            "noise_law": of(jax.random.normal, "None", *FUNCTIONS),
        },
    ),
    "GaussianRegression": lambda: (
        tts.GaussianRegression,
        {"teacher": of(TEACHER), "noise": of(0.5, *NOT_NEGATIVE)},
    ),
    "Dataset": lambda: (
        tts.Dataset,
        {"x": of(POINTS[:, None]), "y": of(POINTS), "loss": of(optax.squared_error, "None", *FUNCTIONS)},
    ),
    "NormDataset": lambda: (tts.NormDataset, {"x": of(POINTS[:, None]), "y": of(POINTS)}),
    **on_problems(),
    "Dataset.normal_equations": lambda: (data().normal_equations, {"model": of(NETWORK, "a network")}),
    "GradientFlow": lambda: (
        tts.GradientFlow,
        {
            "epsilon": of(0.1, *POSITIVE),
            "slow": of(lambda m: m.positions, "None", *FUNCTIONS[:2]),
            "solver": of(diffrax.Tsit5(), "None"),
            "rtol": of(1e-3, "None", *POSITIVE),
            "atol": of(1e-3, "None", *POSITIVE),
            "max_steps": of(100, *COUNTS),
            "adjoint": of(diffrax.ForwardMode(), "None"),
            "frozen": of(lambda m: m.bias, "None", *FUNCTIONS[:2]),
        },
    ),
    "OnlineSGD": lambda: (
        tts.OnlineSGD,
        {
            "epsilon": of(0.1, *POSITIVE),
            "step_size": of(0.1, *POSITIVE),
            "frozen": of(lambda m: m.weights, "None", *FUNCTIONS[:2]),
            "solver": of(diffrax.Tsit5(), "None"),
            "rtol": of(1e-3, "None", *POSITIVE),
            "atol": of(1e-3, "None", *POSITIVE),
            "max_steps": of(100, *COUNTS),
            "adjoint": of(diffrax.ForwardMode(), "None"),
        },
    ),
    "literature_speeds": lambda: (
        literature_speeds,
        {"lr": of(0.1, *POSITIVE), "lr2": of(0.1, "None", *POSITIVE), "inputs": of(100, *POSITIVE)},
    ),
    "SGD": lambda: (
        tts.SGD,
        {
            "epsilon": of(0.1, *POSITIVE),
            "step_size": of(0.1, *POSITIVE),
            "batch_size": of(2, "None", *COUNTS),
            "slow": of(lambda m: m.positions, "None", *FUNCTIONS[:2]),
            "optimizer": of(optax.sgd(0.1), "None"),
            "adjoint": of(diffrax.ForwardMode(), "None"),
            "reshuffle": of(True, *TRUTHS),
            "frozen": of(lambda m: m.bias, "None", *FUNCTIONS[:2]),
            "svag": of(1),
        },
    ),
    "SGDDiffusion": lambda: (
        tts.SGDDiffusion,
        {
            "epsilon": of(0.1, *POSITIVE),
            "step_size": of(0.1, *POSITIVE),
            "batch_size": of(2, *COUNTS),
            "slow": of(lambda m: m.positions, "None", *FUNCTIONS[:2]),
            "substeps": of(2, *COUNTS),
            "adjoint": of(diffrax.ForwardMode(), "None"),
            "frozen": of(lambda m: m.bias, "None", *FUNCTIONS[:2]),
        },
    ),
    "TwoTimescaleLimit": lambda: (tts.TwoTimescaleLimit, {"max_events": of(10, *COUNTS)}),
    "OverlapFlow": lambda: (
        tts.OverlapFlow,
        {
            "epsilon": of(0.1, *POSITIVE),
            "rtol": of(1e-3, "None", *POSITIVE),
            "atol": of(1e-3, "None", *POSITIVE),
            "max_steps": of(100, *COUNTS),
            "adjoint": of(diffrax.ForwardMode(), "None"),
        },
    ),
    "ReducedFlow": lambda: (
        tts.ReducedFlow,
        {
            "ridge": of(0.1, *NOT_NEGATIVE),
            "rtol": of(1e-3, "None", *POSITIVE),
            "atol": of(1e-3, "None", *POSITIVE),
            "max_steps": of(100, *COUNTS),
            "adjoint": of(diffrax.ForwardMode(), "None"),
        },
    ),
}
