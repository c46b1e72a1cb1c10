"""Chunks that are computed at once, one on each device."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from ..dynamics import AbstractDynamics
from ..simulate import simulate
from ..trajectory import Trajectory
from .grid import Chunk, sample_key
from .starts import Starts


class Launch(NamedTuple):
    """Chunks of one compiled program, at most one for each device of the mesh."""

    chunks: Sequence[Chunk]
    mesh: Mesh | None
    """None for one device."""

    @property
    def program(self) -> tuple[Any, ...]:
        return self.chunks[0].cell.program

    def arguments(self, starts: Starts) -> tuple[Mesh | None, PyTree]:
        """The first of `run_chunks`. The last chunk is repeated where there are more devices, and its copies are
        dropped."""
        missing = _width(self.mesh) - len(self.chunks)
        full = [*self.chunks, *[self.chunks[-1]] * missing]
        return self.mesh, jax.tree.map(stack, *(starts.of(chunk, starts.grid.chunk_size) for chunk in full))

    def compile(self, starts: Starts, slow_times: Array) -> Any:
        program: Any = run_chunks
        return program.lower(*self.arguments(starts), slow_times).compile()


def launches_of(chunks: Sequence[Chunk], meshes: Mapping[str, Mesh | None]) -> list[Launch]:
    """Those of one program stand together; `meshes` has one for each dynamics."""
    alike: dict[Any, list[Chunk]] = {}
    for chunk in chunks:
        alike.setdefault(chunk.cell.program, []).append(chunk)
    launches = []
    for those in alike.values():
        mesh = meshes[those[0].cell.arm]
        launches += [Launch(those[k : k + _width(mesh)], mesh) for k in range(0, len(those), _width(mesh))]
    return launches


def mesh_of(dynamics: AbstractDynamics, devices: Sequence[jax.Device]) -> Mesh | None:
    if not dynamics.shards:
        return None
    return jax.make_mesh((len(devices),), ("chunk",), (AxisType.Auto,), devices=devices)


def _width(mesh: Mesh | None) -> int:
    return 1 if mesh is None else mesh.size


def stack(*leaves: Any) -> Any:
    is_array = isinstance(leaves[0], jax.Array | np.ndarray | np.generic)
    return np.stack([np.asarray(leaf) for leaf in leaves]) if is_array else leaves[0]


@eqx.filter_jit
def run_chunks(mesh: Mesh | None, chunks: PyTree, slow_times: Array) -> Trajectory:
    """Chunks along a leading axis, one on each device of the mesh; no device waits for, or hears of, another."""
    arrays, static = eqx.partition(chunks, eqx.is_array)

    def on_device(arrays, slow_times):
        dynamics, problem, starts, seeds = eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), static)
        varying, shared = eqx.partition(starts, eqx.is_array)

        def lane(seed, start):
            key = sample_key(jax.random.key(seed))
            trajectory = simulate(dynamics, eqx.combine(start, shared), problem, slow_times, key=key)
            return eqx.filter(trajectory, eqx.is_array)

        if jax.default_backend() == "cpu" and not dynamics.side_by_side:
            outcome = jax.lax.map(lambda both: lane(*both), (seeds, varying))
        else:
            outcome = jax.vmap(lane)(seeds, varying)
        return jax.tree.map(lambda leaf: leaf[None], outcome)

    if mesh is None:
        return on_device(arrays, slow_times)
    shards = PartitionSpec("chunk")
    spread = jax.shard_map(on_device, mesh=mesh, in_specs=(shards, PartitionSpec()), out_specs=shards, check_vma=False)
    return spread(arrays, slow_times)
