"""The runs of a sweep: a product of axes, in chunks that follow from the grid alone."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key, PyTree, Real

from .. import _checks as checks
from ..activations import SmoothStep
from ..dynamics import AbstractDynamics
from ..networks import ShallowNetwork
from ..problems import AbstractProblem, Regression
from .axes import Axis, code, describe, label, named, seeds_of, values_of
from .keywords import Init, keywords_of, with_settings

DEFAULTS: dict[str, Any] = {"neurons": 20, "eta": 4e-3}
"""Of a start that needs them."""
SIZES = 8, 12, 20, 32, 48, 64
"""Networks are padded to one of these numbers of neurons, or to a multiple of 64, and share its compiled program."""
CHUNK_RUNS, MOST_CHUNK_RUNS, CHUNKS = 32, 256, 64
"""Runs in a chunk: more than the first where there would be more than so many chunks of a cell, as each is a file."""
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
    start: dict[str, Any]
    """What `init` is given beside a key."""
    like: PyTree
    """Shapes and types of the start, with the padding of its program."""
    steps: int | None
    """Of a run, where that is known beforehand."""
    program: tuple[Any, ...]
    """Cells that agree here share a compiled program."""


class Chunk(NamedTuple):
    """Runs that are kept together: one cell, some consecutive seeds."""

    cell: Cell
    seeds: slice
    size: int
    """Of a chunk that the seeds fill."""

    @property
    def runs(self) -> int:
        return self.seeds.stop - self.seeds.start

    @property
    def name(self) -> tuple[Any, ...]:
        """That no other chunk of the sweep has."""
        return self.cell.place, self.seeds.start

    @property
    def where(self) -> tuple[int | slice, ...]:
        """Its place in an array over the grid."""
        return *self.cell.place, self.seeds


class Grid:
    """The product of `dynamics`, the named axes in the order given, and seeds.

    `padded` networks of different size share a compiled program. An axis is a keyword of the dynamics, of the problem
    or of `init`, and acts on all that take it.

    Raises `ValueError` for an axis that is unknown, empty, or acts on nothing, for values that cannot be simulated, and
    for a start that the problem cannot treat.
    """

    def __init__(
        self,
        dynamics: AbstractDynamics | Sequence[AbstractDynamics] | Mapping[str, AbstractDynamics],
        problem: AbstractProblem,
        slow_times: Any,
        seeds: int | Sequence[int],
        init: Any,
        axes: Mapping[str, Any],
        padded: bool = True,
    ):
        if not isinstance(problem, AbstractProblem):
            raise ValueError(f"a sweep needs a problem, got {checks.called(problem)}: pass e.g. Regression(target)")
        self.listed = not isinstance(dynamics, AbstractDynamics)
        """Whether there is a dimension `dynamics`."""
        self.dynamics, self.problem, self.padded = named(dynamics), problem, padded
        self.init = Init(init, DEFAULTS)
        settings = self.init.defaults | {name: values_of(name, values) for name, values in axes.items()}
        for name in axes:
            self._check_axis(name)
        self.init.check(settings)
        self.axes = {name: settings[name] for name in axes if isinstance(settings[name], Axis)}
        self.fixed = {name: value for name, value in settings.items() if not isinstance(value, Axis)}
        self.slow_times: Float[np.ndarray, " t"] = np.asarray(checks.slow_times(slow_times))
        self.seeds = seeds_of(seeds)
        self._firsts: dict[Any, PyTree] = {}
        self.cells = list(self._cells())
        most = max((cell.steps for cell in self.cells if cell.steps is not None), default=0)
        if most >= 2**31:
            raise ValueError(
                f"slow time {self.slow_times[-1]:g} takes up to {most:.1e} steps, more than 2**31: "
                "take a larger step_size"
            )

    def _check_axis(self, name: str) -> None:
        acting = [each for each in (self.problem, *self.dynamics.values()) if name in keywords_of(each)]
        if not acting and not self.init.takes(name):
            of_problem, of_arms = keywords_of(self.problem), [keywords_of(arm) for arm in self.dynamics.values()]
            choices = dict.fromkeys(itertools.chain(*of_arms, self.init.names, of_problem))
            raise ValueError(
                f"there is no axis {name!r} of {', '.join(self.dynamics)}, of init or of a "
                f"{type(self.problem).__name__}: choose of {', '.join(choices)}"
            )
        for module in acting:
            if isinstance(getattr(module, name, None), tuple):
                called = checks.called(module)
                raise ValueError(f"axis {name} sets one value, but {called} has a tuple of them: leave that axis out")

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
    def targets(self) -> tuple[Any, ...]:
        """All targets of the sweep; empty where the problem has none."""
        own = self.axes.get("target", (self.fixed.get("target", getattr(self.problem, "target", None)),))
        return tuple(target for target in own if target is not None)

    def _cells(self) -> Iterator[Cell]:
        arms = list(self.dynamics.items())

        def acting(module: Any, at: Mapping[str, Any]) -> Any:
            return with_settings(module, {name: at[name] for name in keywords_of(module) if name in at})

        for arm, *indices in itertools.product(
            range(len(arms)), *(range(len(values)) for values in self.axes.values())
        ):
            name, dynamics = arms[arm]
            at = self.fixed | {axis: self.axes[axis][i] for axis, i in zip(self.axes, indices, strict=True)}
            dynamics, problem = acting(dynamics, at), acting(self.problem, at)
            start = {name: value for name, value in at.items() if self.init.takes(name)}
            first = self._first(start)
            problem.check(first)
            like = self.pad(eqx.filter_eval_shape(lambda first=first: first), problem)
            leaves, structure = jax.tree.flatten((dynamics, problem, like))
            kinds = ((leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf for leaf in leaves)
            yield Cell(
                place=(*((arm,) if self.listed else ()), *indices),
                arm=name,
                dynamics=dynamics,
                problem=problem,
                start=start,
                like=like,
                steps=dynamics.steps(self.slow_times),
                program=(name, structure, *kinds),
            )

    def _first(self, start: Mapping[str, Any]) -> PyTree:
        """The start of the first seed."""
        key = tuple((name, id(value)) for name, value in start.items())
        if key not in self._firsts:
            with checks.traceable("init", self.init.function):
                self._firsts[key] = self.init.function(jax.random.key(self.seeds[0]), **start)
        return self._firsts[key]

    def first(self, cell: Cell) -> PyTree:
        return self._first(cell.start)

    def pad(self, model: PyTree, problem: AbstractProblem) -> PyTree:
        """With neurons that neither act nor move, as they lie outside the domain of a `Regression`."""
        if not (self.padded and isinstance(model, ShallowNetwork) and isinstance(problem, Regression)):
            return model
        neurons = model.positions.shape[-2]
        size = next((size for size in SIZES if size >= neurons), -(-neurons // 64) * 64)
        widths = [np.max(leaf) for leaf in jax.tree.leaves(model.activation) if isinstance(leaf, np.ndarray)]

        def fill(leaf, value):
            shape = *leaf.shape[:-2], size, leaf.shape[-1]
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return jax.ShapeDtypeStruct(shape, leaf.dtype)
            return np.pad(leaf, [(0, 0)] * (leaf.ndim - 2) + [(0, size - neurons), (0, 0)], constant_values=value)

        outside = fill(model.weights, 0.0), fill(model.positions, 2.0 + max(widths, default=0.0))
        return eqx.tree_at(lambda m: (m.weights, m.positions), model, outside)

    def chunks(self, runs: int) -> list[Chunk]:
        """Of so many runs at most. Those of one compiled program stand together, the largest first, and in it those
        that take most steps."""
        chunks = [
            Chunk(cell, slice(first, min(first + runs, len(self.seeds))), runs)
            for cell in self.cells
            for first in range(0, len(self.seeds), runs)
        ]
        arms, programs = list(self.dynamics), list(dict.fromkeys(cell.program for cell in self.cells))
        place = {program: k for k, program in enumerate(programs)}

        def order(cell):
            size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(cell.like) if hasattr(leaf, "shape"))
            return arms.index(cell.arm), -size, place[cell.program], -(cell.steps or 0)

        keys = {cell.place: order(cell) for cell in self.cells}
        return sorted(chunks, key=lambda chunk: keys[chunk.cell.place])

    def starts(self, cell: Cell, seeds: slice) -> PyTree:
        """One for each seed, along a leading axis: that of seed s is `init(jax.random.key(s), **cell.start)`."""
        keys = jax.vmap(jax.random.key)(np.asarray(self.seeds[seeds], np.uint32))
        drawn = eqx.filter_vmap(lambda key: self.init.function(key, **cell.start))(keys)
        return self.pad(
            jax.tree.map(lambda leaf: np.asarray(leaf) if eqx.is_array(leaf) else leaf, drawn), cell.problem
        )

    def configuration(self) -> dict[str, Any]:
        """What the results depend on, for JSON."""
        return {
            "dynamics": {name: describe(arm) for name, arm in self.dynamics.items()},
            "problem": describe(self.problem),
            "slow_times": self.slow_times.tolist(),
            "seeds": list(self.seeds),
            "axes": {name: [describe(value) for value in values] for name, values in self.axes.items()},
            "fixed": {name: describe(value) for name, value in self.fixed.items()},
            "init": label(self.init.function),
            "dtype": self.slow_times.dtype.name,
        }

    def code(self) -> dict[str, str]:
        """Digests of the functions of the user's that results depend on, for JSON."""
        own = {} if self.init.function is uniform_start else {"init": self.init.function}
        settings = own | {"problem": self.problem} | self.dynamics | self.fixed | self.axes
        return {name: found for name, value in settings.items() if (found := code(value)) is not None}
