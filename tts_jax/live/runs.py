"""What the page asks for, and what the library computes for it: three trajectories from one start.

A new shape would be compiled anew. So a network is filled up to one of two widths by neurons right of [0, 1], which are
zero there and have no gradient, and a target to a fixed number of jumps by jumps of height zero: neither changes what
is computed.
"""

import base64
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from .. import _checks as checks
from .._program import program
from .._workers import workers
from ..experiments import preset
from ..experiments.comparison import Comparison
from ..networks import ShallowNetwork
from ..problems import Regression
from ..simulate import simulate
from ..sweeps.arrivals import CONVERGED
from ..sweeps.grid import sample_key
from ..targets import PiecewiseConstant
from ..theory import smallest_risk
from ..trajectory import Status, Trajectory, over_time

Tell = Callable[[Mapping[str, Any]], None]
"""Called with each message to the page; its `kind` says what it is about."""

RUNS = "limit", "flow", "SGD"
WIDTHS = 20, 60
"""Neurons of a compiled program."""
MOST_JUMPS = 8
MOST_MOVES = 40_000_000
"""Of single neurons by SGD, each of which it moves in every step: half a second to a second."""
COARSEST = 1e-2
"""Of the step sizes of SGD that are taken where none is asked for."""
SAVES = 240
"""After the start: eight seconds of 30 a second."""
FIRST = 1e-2
"""The fast time of the first of them, or a thousandth of the slow time where that is earlier."""
POINTS = 401
"""At which functions are evaluated, equidistant on [0, 1]."""
APART = 2e-3
"""Between two jumps, and between a jump and 0 or 1, at least."""
RANGES = {
    "epsilon": (1e-6, 1.0),
    "neurons": (1, WIDTHS[-1]),
    "seed": (0, 2**32 - 1),
    "noise": (0.0, 10.0),
    "slow_time": (1e-3, 10.0),
    "step_size": (1e-6, 1.0),
    "jumps": (0.0, 1.0),
    "values": (-100.0, 100.0),
}
"""What the page may ask for, by the names of the library."""
WHOLE = "neurons", "seed"
ROWS = "jumps", "values"


def asked(query: str) -> Comparison:
    """What the query of an address says, as in `epsilon=1e-4&jumps=0.3,0.6&values=0,1,0`; else as in the paper.

    Raises `ValueError` for what cannot be simulated, or takes too long to wait for.
    """
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    for name in names:
        checks.choice("a setting", name, RANGES)
        if names.count(name) > 1:
            raise ValueError(f"{name} must be given once, got it {names.count(name)} times")
    settings = {name: _read(name, text) for name, text in pairs}
    base = preset("two-timescale", "paper")
    epsilon, slow_time, neurons = (
        settings.get(name, getattr(base, name)) for name in ("epsilon", "slow_time", "neurons")
    )
    changes = {
        "saves": SAVES,
        "first_save": min(FIRST * epsilon, slow_time / 1000),
        "step_size": automatic_step(epsilon, slow_time, most_steps(neurons)),
    } | settings
    comparison = preset("two-timescale", "paper", **changes)
    assert isinstance(comparison, Comparison)
    if len(set(comparison.values)) == 1:
        raise ValueError(f"values must not be all the same, got {comparison.values[0]:g}: there is no jump to find")
    if len(comparison.jumps) > MOST_JUMPS:
        raise ValueError(f"jumps must be {MOST_JUMPS} at most here, got {len(comparison.jumps)}: leave some out")
    if (np.diff([0.0, *comparison.jumps, 1.0]) < APART).any():
        raise ValueError(
            f"jumps must be {APART:g} apart, and as far from 0 and 1, got {checks.one_line(np.array(comparison.jumps))}"
        )
    if "step_size" in settings and comparison.steps > (most := most_steps(comparison.neurons)):
        raise ValueError(
            f"step_size must take {most:,} steps at most here, got {comparison.steps:,} to slow time "
            f"{comparison.slow_time:g}: choose a larger one, or leave it out"
        )
    return comparison


def _read(name: str, text: str) -> Any:
    row, kind = name in ROWS, int if name in WHOLE else float
    wanted = "numbers with commas between" if row else "a whole number" if kind is int else "a number"
    try:
        numbers = tuple(kind(item) for item in (text.split(",") if row else [text]))
    except ValueError:
        raise ValueError(f"{name} must be {wanted}, got {checks.shown(text)}") from None
    low, high = RANGES[name]
    for number in numbers:
        if not low <= number <= high:
            raise ValueError(f"{name} must be from {low:g} to {high:g} here, got {number:g}")
    return numbers if row else numbers[0]


def automatic_step(epsilon: float, slow_time: float, most: int) -> float:
    """The smallest of 1, 2 and 5 times a power of ten, from 1e-5 to `COARSEST`, that takes at most so many steps."""
    sizes = [float(f"{digit}e{power}") for power in (-5, -4, -3) for digit in (1, 2, 5)]
    return next((size for size in sizes if slow_time <= most * epsilon * size * (1 + 1e-9)), COARSEST)


def most_steps(neurons: int) -> int:
    """Of SGD, that a reader waits for."""
    return MOST_MOVES // width_of(neurons)


def width_of(neurons: int) -> int:
    """Of the compiled programs."""
    return next(width for width in WIDTHS if width >= neurons)


def compute(comparison: Comparison, tell: Tell) -> None:
    """Tells the setting, then each trajectory when it is there, and the progress on the way to it.

    The runs are computed side by side, as their programs are compiled.
    """
    begin = time.perf_counter()
    with_sgd = comparison.steps <= most_steps(comparison.neurons)
    tell(
        {
            "kind": "setting",
            "jumps": comparison.jumps,
            "values": comparison.values,
            "epsilon": comparison.epsilon,
            "step_size": comparison.step_size,
            "times": packed(comparison.slow_times),
            "points": POINTS,
            "neurons": comparison.neurons,
            "level": _level(comparison),
            "start": _start_in_words(comparison.neurons_per_piece),
            "step": _step_in_words(comparison, with_sgd),
        }
    )
    names = RUNS if with_sgd else RUNS[:2]
    with workers(len(names)) as pool:
        for run in [pool.submit(compute_one, comparison, name, tell) for name in names]:
            run.result()
    tell({"kind": "done", "seconds": time.perf_counter() - begin})


def compute_one(comparison: Comparison, name: str, tell: Tell) -> None:
    def progress(done: int, total: int) -> None:
        tell({"kind": "progress", "run": name, "done": done / total})

    progress(0, 1)
    begin = time.perf_counter()
    model, problem = _filled_up(comparison)
    key = sample_key(jax.random.key(comparison.seed))
    run = simulate(comparison.dynamics[name], model, problem, comparison.slow_times, key=key, progress=progress)
    found = {
        "risk": packed(run.risk),
        "positions": packed(run.model.positions[:, : comparison.neurons, 0]),
        "functions": packed(_functions(run.model, np.linspace(0.0, 1.0, POINTS))),
        "words": _end_in_words(run, _level(comparison)),
        "method": run.stats.method,
        "steps": int(run.stats.steps),
    }
    tell({"kind": "run", "run": name, "seconds": time.perf_counter() - begin} | found)


def packed(numbers: Float[Array, "..."] | Float[np.ndarray, "..."]) -> str:
    """As 32-bit floats, the least significant byte first, in base 64."""
    with np.errstate(over="ignore"):
        return base64.b64encode(np.asarray(numbers).astype("<f4").tobytes()).decode()


def _level(comparison: Comparison) -> float:
    """An error below is that of a global minimum, up to the width of the neurons."""
    return smallest_risk(comparison.problem, comparison.neurons) + CONVERGED * comparison.floor


def _filled_up(comparison: Comparison) -> tuple[ShallowNetwork, Regression]:
    """By NumPy, which compiles nothing."""
    start = comparison.start
    width, neurons = width_of(comparison.neurons), comparison.neurons
    positions = np.append(np.asarray(start.positions[:, 0]), 2.0 + np.arange(width - neurons))
    model = ShallowNetwork(np.zeros((width, 1)), positions[:, None], start.bias, start.activation)
    last, spare = comparison.jumps[-1], MOST_JUMPS - len(comparison.jumps)
    jumps = np.append(comparison.jumps, 1 - (1 - last) * 1e-6 * np.arange(spare, 0, -1))
    values = np.append(comparison.values, np.full(spare, comparison.values[-1]))
    return model, Regression(PiecewiseConstant(jumps, values), comparison.noise)


@program
def _functions(model: ShallowNetwork, x: Float[np.ndarray, " n"] | Float[Array, " n"]) -> Float[Array, "t n"]:
    return over_time(lambda network: jax.vmap(network)(x), model)


def _end_in_words(run: Trajectory, level: float) -> str:
    status = Status(int(run.status))
    if status != Status.SUCCESSFUL:
        return f"failed: {status.label}"
    if run.risk[-1] < level:
        return "ends at a global minimum, up to the width η of its neurons"
    stays = "stuck, or still on its way" if run.step is None else "stuck, still on its way, or shaken by noise"
    return f"does not end at a global minimum: {stays}"


def _start_in_words(counts: tuple[int, ...]) -> str:
    held = f"The start has {', '.join(map(str, counts))} neurons in the pieces of the target. "
    if all(count >= 2 for count in counts[1:-1]):
        return held + "Every inner piece has two or more: the limit will come to a global minimum."
    return held + "An inner piece has fewer than two: nothing is promised."


def _step_in_words(comparison: Comparison, with_sgd: bool) -> str:
    steps = f"{comparison.steps:,} steps of size h\u00a0=\u00a0{comparison.step_size:g}"
    if not with_sgd:
        return f"SGD is left out: it would take {steps}. Choose a larger ε, or an earlier end."
    return f"SGD takes {steps}."
