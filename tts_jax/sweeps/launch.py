"""Runs that are computed at once: as lanes beside each other, on each device its own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from ..dynamics import AbstractDynamics
from ..simulate import simulate
from .grid import Cell, Chunk, sample_key
from .kept import Kept
from .results import Layout
from .starts import Starts

Place: TypeAlias = Mesh | jax.Device | None
"""Where a launch runs: spread over the devices of a mesh, on one device, or on the only one."""


class Program:
    """Cells that share a compiled program: leaves of dynamics and problem that they agree on are there once."""

    def __init__(self, cells: Sequence[Cell], kept: Kept, slow_times: np.ndarray):
        self.kept, self.slow_times = kept, jnp.asarray(slow_times)
        settings = [(cell.dynamics, cell.problem) for cell in cells]
        self.varies = jax.tree.map(_differ, *settings)
        self.shared = eqx.partition(settings[0], self.varies)[1]

    def arguments(self, launch: "Launch", starts: Starts) -> tuple[Any, ...]:
        """Of `run_lanes`. The last run of a chunk, and the last chunk, fill up what is missing."""
        missing = launch.width - len(launch.chunks)
        lanes = [self._lanes(chunk, starts) for chunk in launch.chunks]
        stacked = jax.tree.map(_joined, *lanes, *[lanes[-1]] * missing)
        arguments = self.shared, stacked, self.slow_times
        if isinstance(launch.place, jax.Device):
            arrays, static = eqx.partition(arguments, lambda leaf: isinstance(leaf, np.ndarray | Array))
            arguments = eqx.combine(jax.device_put(arrays, launch.place), static)
        return self.kept, launch.place if isinstance(launch.place, Mesh) else None, *arguments

    def _lanes(self, chunk: Chunk, starts: Starts) -> PyTree:
        rows = np.minimum(np.arange(chunk.size), chunk.runs - 1)
        own = eqx.partition((chunk.cell.dynamics, chunk.cell.problem), self.varies)[0]
        own = jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), (chunk.size, *leaf.shape)), own)
        start = jax.tree.map(lambda leaf: leaf[rows] if isinstance(leaf, np.ndarray) else leaf, starts.of(chunk))
        seeds = np.asarray(starts.grid.seeds[chunk.seeds], np.uint32)
        return own, start, seeds[rows]

    def compile(self, launch: "Launch", starts: Starts) -> Any:
        program: Any = run_lanes
        return program.lower(*self.arguments(launch, starts)).compile()


class Launch(NamedTuple):
    chunks: Sequence[Chunk]
    width: int
    """Chunks for which there are lanes."""
    place: Place

    @property
    def program(self) -> Any:
        return self.chunks[0].cell.program

    @property
    def compiled_as(self) -> tuple[Any, ...]:
        return self.program, self.width, self.place


def launches_of(
    todo: Sequence[Chunk], layout: Layout, places: Mapping[str, Sequence[Place]], lanes: int, at_least: int
) -> list[Launch]:
    """Those of one program stand together, and none mixes runs of different numbers of steps.

    `places` has those of each dynamics. How wide a launch is follows from the grid, not from what is to be done: as
    many lanes as are wanted, but so few that there are `at_least` so many launches where there are as many chunks.
    """
    chunks, missing = layout.chunks(), {chunk.name for chunk in todo}
    launches = []
    for those in _alike(chunks).values():
        mine = places[those[0].cell.arm]
        devices = mine[0].size if isinstance(mine[0], Mesh) else 1
        width = devices * max(1, min(lanes // layout.chunk_size, len(those) // at_least))
        those = [chunk for chunk in those if chunk.name in missing]
        cuts = range(0, len(those), width)
        launches += [Launch(those[k : k + width], width, mine[i % len(mine)]) for i, k in enumerate(cuts)]
    return launches


def _alike(chunks: Sequence[Chunk]) -> dict[Any, list[Chunk]]:
    alike: dict[Any, list[Chunk]] = {}
    for chunk in chunks:
        alike.setdefault((chunk.cell.program, chunk.cell.steps), []).append(chunk)
    return alike


def places_of(dynamics: AbstractDynamics, devices: Sequence[jax.Device]) -> list[Place]:
    if len(devices) == 1:
        return [None if devices[0] == jax.local_devices()[0] else devices[0]]
    if not dynamics.shards:
        return list(devices)
    return [jax.make_mesh((len(devices),), ("lane",), (AxisType.Auto,), devices=devices)]


def _differ(*leaves: Any) -> bool:
    first = leaves[0]
    return eqx.is_array(first) and any(leaf is not first and not np.array_equal(leaf, first) for leaf in leaves[1:])


def _joined(*leaves: Any) -> Any:
    return np.concatenate(leaves) if isinstance(leaves[0], np.ndarray) else leaves[0]


@eqx.filter_jit
def run_lanes(kept: Kept, mesh: Mesh | None, shared: PyTree, lanes: PyTree, slow_times: Array) -> dict[str, Array]:
    """What is kept of each run along a leading axis; no device waits for, or hears of, another."""
    arrays, static = eqx.partition(lanes, eqx.is_array)
    common, static_common = eqx.partition((shared, slow_times), eqx.is_array)

    def on_device(arrays, common):
        shared, slow_times = eqx.combine(common, static_common)

        def parts_of(arrays):
            settings, start, seed = eqx.combine(arrays, static)
            return *eqx.combine(settings, shared), start, seed

        def lane(arrays):
            dynamics, problem, start, seed = parts_of(arrays)
            run = simulate(dynamics, start, problem, slow_times, key=sample_key(jax.random.key(seed)))
            return kept.of(run)

        dynamics, problem, start, _ = parts_of(jax.tree.map(lambda leaf: leaf[0], arrays))
        if jax.default_backend() == "cpu" and not dynamics.side_by_side(start, problem):
            return jax.lax.map(lane, arrays)
        return jax.vmap(lane)(arrays)

    if mesh is None:
        return on_device(arrays, common)
    shards = PartitionSpec("lane")
    spread = jax.shard_map(on_device, mesh=mesh, in_specs=(shards, PartitionSpec()), out_specs=shards, check_vma=False)
    return spread(arrays, common)
