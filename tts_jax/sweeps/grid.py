"""The runs of a sweep: a product of axes, in chunks that follow from the grid alone."""

import dataclasses
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, Real

from .. import _checks as checks
from .._fingerprint import fingerprint
from ..activations import SmoothStep
from ..dynamics import AbstractDynamics
from ..networks import ShallowNetwork
from ..problems import AbstractProblem, Regression
from .axes import named, seeds_of, values_of

Start = Callable[[Key[Array, ""], int, Real[ArrayLike, ""]], ShallowNetwork]

OF_DYNAMICS = "epsilon", "step_size"
OF_PROBLEM = "target", "noise"
DEFAULTS: dict[str, Any] = {"neurons": 20, "eta": 4e-3}
SIZES = 8, 12, 20, 32, 48, 64
"""Networks are padded to one of these numbers of neurons, or to a multiple of 64, and share its compiled program."""
CHUNK_RUNS = {True: 32, False: 16}
"""Runs in a chunk, where all dynamics run side by side and where not."""
CHUNK_BYTES = 2**26
"""No chunk holds more, unless one run does."""


def uniform_start(key: Key[Array, ""], neurons: int, eta: Real[ArrayLike, ""]) -> ShallowNetwork:
    """`ShallowNetwork.init(key, neurons, SmoothStep(eta))`."""
    return ShallowNetwork.init(key, neurons, SmoothStep(eta))


def sample_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """Of the samples of a run, from the key of its start: apart from the two that `ShallowNetwork.init` derives."""
    return jax.random.fold_in(key, 2)


class Cell(NamedTuple):
    """One point of the grid, for all seeds."""

    place: tuple[int, ...]
    arm: str
    dynamics: AbstractDynamics
    problem: AbstractProblem
    neurons: int
    eta: float

    @property
    def target(self) -> Any:
        """None where the problem has none."""
        return getattr(self.problem, "target", None)

    @property
    def size(self) -> int:
        """The padded number of neurons. Outside the domain of a `Regression` a neuron neither acts nor moves."""
        if not isinstance(self.problem, Regression):
            return self.neurons
        return next((size for size in SIZES if size >= self.neurons), -(-self.neurons // 64) * 64)

    @property
    def program(self) -> tuple[Any, ...]:
        """Cells that agree here share a compiled program."""
        return self.arm, self.size, *(np.shape(leaf) for leaf in jax.tree.leaves(self.problem))


class Chunk(NamedTuple):
    """Runs that are computed and written together: one cell, some consecutive seeds."""

    cell: Cell
    seeds: slice

    @property
    def runs(self) -> int:
        return self.seeds.stop - self.seeds.start

    @property
    def where(self) -> tuple[int | slice, ...]:
        """Its place in an array over the grid."""
        return *self.cell.place, self.seeds


class Grid(eqx.Module):
    """The product of `dynamics`, the named axes in the order given, and seeds.

    Raises `ValueError` for an axis that is unknown, empty, or acts on none of the dynamics, and for values that cannot
    be simulated.
    """

    dynamics: dict[str, AbstractDynamics]
    listed: bool
    """Whether there is a dimension `dynamics`."""
    problem: AbstractProblem
    slow_times: Float[np.ndarray, " t"]
    seeds: tuple[int, ...]
    axes: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any]
    init: Start

    @classmethod
    def of(
        cls,
        dynamics: AbstractDynamics | Sequence[AbstractDynamics] | Mapping[str, AbstractDynamics],
        problem: AbstractProblem,
        slow_times: Any,
        seeds: int | Sequence[int],
        init: Start,
        axes: Mapping[str, Any],
    ) -> "Grid":
        if not isinstance(problem, AbstractProblem):
            raise ValueError(f"a sweep needs a problem, got {checks.called(problem)}: pass e.g. Regression(target)")
        listed = not isinstance(dynamics, AbstractDynamics)
        arms = named(dynamics if listed else [dynamics])
        known = (*OF_DYNAMICS, *DEFAULTS, *OF_PROBLEM)
        fields = {field.name for field in dataclasses.fields(problem)}
        for name in axes:
            if name not in known:
                raise ValueError(f"there is no axis {name!r}: choose of {', '.join(known)}")
            if name in OF_DYNAMICS and not any(name in arm.settings for arm in arms.values()):
                raise ValueError(f"no dynamics of the sweep has {name} ({', '.join(arms)}): leave that axis out")
            many = [arm for arm, of in arms.items() if isinstance(getattr(of, name, None), tuple)]
            if name in OF_DYNAMICS and many:
                raise ValueError(f"axis {name} sets one number, but {many[0]} has a tuple of them: leave that axis out")
            if name in OF_PROBLEM and name not in fields:
                raise ValueError(f"a {type(problem).__name__} has no {name}: leave that axis out")
        settings = DEFAULTS | {name: values_of(name, values) for name, values in axes.items()}
        return cls(
            dynamics=arms,
            listed=listed,
            problem=problem,
            slow_times=np.asarray(checks.slow_times(slow_times)),
            seeds=seeds_of(seeds),
            axes={name: settings[name] for name in axes if isinstance(settings[name], tuple)},
            fixed={name: value for name, value in settings.items() if not isinstance(value, tuple)},
            init=checks.function("init", init, "lambda key, neurons, eta: ShallowNetwork.init(...)"),
        )

    @property
    def dims(self) -> tuple[str, ...]:
        return *(("dynamics",) if self.listed else ()), *self.axes, "seed"

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = [len(values) for values in self.axes.values()]
        return *((len(self.dynamics),) if self.listed else ()), *sizes, len(self.seeds)

    @property
    def runs(self) -> int:
        return math.prod(self.shape)

    @property
    def neurons(self) -> int:
        """The largest number."""
        return max(self.axes.get("neurons", (self.fixed.get("neurons", 0),)))

    @property
    def targets(self) -> tuple[Any, ...]:
        """All targets of the sweep; empty where the problem has none."""
        own = self.axes.get("target", (self.fixed.get("target", getattr(self.problem, "target", None)),))
        return tuple(target for target in own if target is not None)

    def cells(self) -> Iterator[Cell]:
        arms = list(self.dynamics.items())
        fields = {field.name for field in dataclasses.fields(self.problem)}
        for arm, *indices in itertools.product(
            range(len(arms)), *(range(len(values)) for values in self.axes.values())
        ):
            name, dynamics = arms[arm]
            at = self.fixed | {axis: self.axes[axis][i] for axis, i in zip(self.axes, indices, strict=True)}
            yield Cell(
                place=(*((arm,) if self.listed else ()), *indices),
                arm=name,
                dynamics=_with(dynamics, at, dynamics.settings.intersection(OF_DYNAMICS)),
                problem=_with(self.problem, at, fields.intersection(OF_PROBLEM)),
                neurons=at["neurons"],
                eta=at["eta"],
            )

    @property
    def chunk_size(self) -> int:
        """Runs in a chunk, so that its results fit into `CHUNK_BYTES`."""
        wanted = CHUNK_RUNS[all(arm.side_by_side for arm in self.dynamics.values())]
        one_run = 8 * len(self.slow_times) * (2 * self.neurons + 2)
        return max(1, min(wanted, CHUNK_BYTES // one_run, len(self.seeds)))

    def chunks(self) -> list[Chunk]:
        """Those of one compiled program stand together, the most expensive first."""
        chunks = [
            Chunk(cell, slice(first, min(first + self.chunk_size, len(self.seeds))))
            for cell in self.cells()
            for first in range(0, len(self.seeds), self.chunk_size)
        ]
        sizes = {name: k for k, name in enumerate(self.dynamics)}
        return sorted(chunks, key=lambda chunk: (sizes[chunk.cell.arm], -chunk.cell.size, str(chunk.cell.program)))

    def steps(self) -> list[int | None]:
        """Of a run of each cell, where that is known beforehand."""
        return [cell.dynamics.steps(self.slow_times) for cell in self.cells()]

    def check(self) -> None:
        """Everything that can be said before anything is compiled."""
        most = max(filter(None, self.steps()), default=0)
        if most >= 2**31:
            raise ValueError(
                f"slow time {self.slow_times[-1]:g} takes up to {most:.1e} steps, more than 2**31: "
                "take a larger step_size"
            )

    def starts(self, neurons: int, eta: float) -> ShallowNetwork:
        """One for each seed, along a leading axis: that of seed s is `init(jax.random.key(s), neurons, eta)`."""
        keys = jax.vmap(jax.random.key)(np.asarray(self.seeds, np.uint32))
        return eqx.filter_vmap(lambda key: self.init(key, neurons, eta))(keys)

    def configuration(self) -> dict[str, Any]:
        """What the results depend on, for JSON."""
        return {
            "dynamics": {name: describe(arm) for name, arm in self.dynamics.items()},
            "problem": describe(self.problem),
            "slow_times": self.slow_times.tolist(),
            "seeds": list(self.seeds),
            "axes": {name: [describe(value) for value in values] for name, values in self.axes.items()},
            "fixed": {name: describe(value) for name, value in self.fixed.items()},
            "init": describe(self.init),
            "dtype": self.slow_times.dtype.name,
            "chunk": self.chunk_size,
        }


def describe(value: Any) -> Any:
    """The value in terms of JSON; modules and functions by name."""
    if isinstance(value, eqx.Module):
        fields = {name: describe(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    name = getattr(value, "__qualname__", type(value).__qualname__)
    # A function within another, such as the parts of an optimiser, is what it was made from.
    return f"{name} {fingerprint(value)[:12]}" if "<" in name else name


def _with(module: Any, settings: Mapping[str, Any], names: Set[str]) -> Any:
    """The module with those of its fields of these `names` that an axis sets."""
    for name in names & settings.keys():
        value = settings[name] if name == "target" else checks.as_float(settings[name])
        module = eqx.tree_at(operator.attrgetter(name), module, value)
    return module


def piece_counts(positions: Float[np.ndarray, "... m"], jumps: Float[np.ndarray, " k"]) -> Int[np.ndarray, "... p"]:
    """How many positions lie in each piece of [0, 1] between two jumps."""
    edges = np.concatenate([[0.0], jumps, [1.0]])
    inside = (positions[..., None] >= edges[:-1]) & (positions[..., None] < edges[1:])
    return inside.sum(-2)
