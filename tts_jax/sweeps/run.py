"""Grids of runs: every dynamics over seeds, ratios, sizes, widths, step sizes and targets."""

import concurrent.futures
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, ArrayLike, PyTree, Real

from ..dynamics import SGD, AbstractDynamics, ReducedFlow, TwoTimescaleLimit
from ..networks import ShallowNetwork
from ..problems import AbstractProblem
from ..simulate import simulate
from ..trajectory import Trajectory
from .grid import Chunk, Grid, Start, sample_key, uniform_start
from .results import Layout, Memory, Results
from .store import Store, load

if TYPE_CHECKING:
    import xarray

Progress = Callable[[int, int], None]


def sweep(
    dynamics: AbstractDynamics | Sequence[AbstractDynamics] | Mapping[str, AbstractDynamics],
    problem: AbstractProblem,
    slow_times: Sequence[Real[ArrayLike, ""]] | ArrayLike,
    *,
    seeds: int | Sequence[int],
    init: Start = uniform_start,
    store: str | os.PathLike[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: bool | Progress = True,
    weights: bool = False,
    attributes: Mapping[str, str] | None = None,
    **axes: Any,
) -> "xarray.Dataset":
    r"""Runs every combination of the axes and the seeds, and labels the results.

    Axes are lists: `epsilon` and `step_size` (of those dynamics that have them), `neurons`, `eta` (of the start; a
    number, by default 20 and 4e-3, sets it without making a dimension), `target` and `noise` (of the problem). Several
    dynamics, in a list or named in a mapping, make a dimension `dynamics`. An axis that one of them lacks repeats its
    runs.

    The start of seed s is `init(jax.random.key(s), neurons, eta)`, the same for each dynamics, and the samples of SGD
    come from `jax.random.fold_in(jax.random.key(s), 2)`. `seeds=64` is `range(64)`.

    The dataset has the dimensions `dynamics`, the axes in the order given, `seed`, then `slow_time`, `neuron`, `piece`
    or `jump` where a variable needs them; networks of fewer neurons than the largest are filled up with NaN:

    - `risk`, `positions` and, with `weights=True`, `weights` and `bias` at each save time
    - `status` (a `Status`, -1 for a run that is missing), `steps` and `rejected` of each run
    - `neurons_per_piece` of the start, in each piece of the target
    - `converged`: the last risk is below twice the floor $\frac{\eta}{28} \sum_i w_i^2$, the risk that one neuron at
      each jump (of size $w_i$) leaves
    - `hit_time`: the first save time at which the window of a neuron, of width eta, holds the jump; NaN where none
      does. As fine as the save times are.

    The last three exist for a `PiecewiseConstant` target. Attributes give the configuration, versions, device and
    commit.

    Runs are computed in chunks of consecutive seeds that depend on the grid alone; `progress(done, total)` counts
    runs, and `True` reports them on the standard error. With a `store` (a path that ends in `.zarr`) each chunk is
    written as it is finished, and a sweep that finds its own store there computes what is missing or damaged only.
    Different numbers of neurons share a compiled program, padded with neurons at 2 + eta, which neither act nor move.

    Chunks are spread over `devices`, by default all of this process; on one CPU they run in a thread for each core.
    No device hears of another, and their number changes no result, bit for bit.
    Where `jax.distributed.initialize()` has been called, each process computes its share into the common `store` and
    returns what is there when it is done.

    A run that fails shows in its `status`, and changes no other.

    Raises `ValueError`, before any long work, for an axis that cannot be swept, for a store of another configuration
    (with the difference), and for a place that cannot be written to; `OSError` where writing fails later, e.g. on a
    full disk, with all finished chunks kept.
    """
    grid = Grid.of(dynamics, problem, slow_times, seeds, init, axes)
    grid.check()
    first = grid.starts(grid.neurons, next(grid.cells()).eta)
    if not isinstance(first, ShallowNetwork):
        raise ValueError(f"a sweep trains ShallowNetworks, got {type(first).__name__} of init")
    problem.check(jax.tree.map(lambda leaf: leaf[0], first))
    layout = Layout.of(grid, first.positions.shape[-1], weights, dict(attributes or {}))
    if store is None:
        if jax.process_count() > 1:
            raise ValueError("several processes need a common store: pass e.g. store='run.zarr'")
        results: Results = Memory(layout)
    else:
        results = Store.open(pathlib.Path(store), layout, create=jax.process_index() == 0)
    mine = grid.chunks()[jax.process_index() :: jax.process_count()]
    todo = [chunk for chunk in mine if not results.holds(chunk)]
    total = sum(_size(chunk) for chunk in mine)
    report = progress if callable(progress) else (Lines() if progress else _silent)
    _compute(grid, layout, todo, results, devices or jax.local_devices(), Counter(report, total, todo))
    return results.dataset() if store is None else load(store)


def _compute(
    grid: Grid,
    layout: Layout,
    todo: list[Chunk],
    results: Results,
    devices: Sequence[jax.Device],
    counter: "Counter",
) -> None:
    workers = (os.cpu_count() or 1) if len(devices) == 1 and devices[0].platform == "cpu" else 1
    starts = Starts(grid)
    slow_times = jnp.asarray(grid.slow_times)
    meshes = {name: mesh_of(arm, devices) for name, arm in grid.dynamics.items()}
    programs: dict[Any, concurrent.futures.Future] = {}

    def width(chunk: Chunk) -> int:
        mesh = meshes[chunk.cell.arm]
        return 1 if mesh is None else mesh.size

    batches = [same[k : k + width(same[0])] for same in _by_program(todo) for k in range(0, len(same), width(same[0]))]

    def arguments(batch: list[Chunk]) -> PyTree:
        """Those of a full batch: the last chunk is repeated, and its copies are dropped."""
        full = batch + batch[-1:] * (width(batch[0]) - len(batch))
        return jax.tree.map(stack, *(starts.of(chunk, grid.block) for chunk in full))

    def work(batch: list[Chunk]) -> None:
        program = programs[batch[0].cell.program].result()
        mesh = meshes[batch[0].cell.arm]
        outcome = jax.tree.map(np.asarray, program(mesh, arguments(batch), slow_times))
        for k, chunk in enumerate(batch):
            mine = jax.tree.map(lambda leaf, k=k, chunk=chunk: leaf[k, : _size(chunk)], outcome)
            results.write(chunk, layout.variables_of(chunk, starts.of(chunk, _size(chunk))[2], mine))
            counter.add(_size(chunk))

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            if batch[0].cell.program not in programs:
                mesh = meshes[batch[0].cell.arm]
                programs[batch[0].cell.program] = pool.submit(_compiled, mesh, arguments(batch), slow_times)
        try:
            for done in concurrent.futures.as_completed([pool.submit(work, batch) for batch in batches]):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Starts:
    """The arguments of chunks; the starts of a cell are drawn once for all that share them."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.known: dict[tuple[int, float], ShallowNetwork] = {}
        self.lock = threading.Lock()

    def of(self, chunk: Chunk, lanes: int) -> tuple[AbstractDynamics, AbstractProblem, ShallowNetwork, np.ndarray]:
        """Dynamics, problem, padded starts and seeds; the last lane is repeated where there are fewer."""
        cell = chunk.cell
        with self.lock:
            if (cell.neurons, cell.eta) not in self.known:
                drawn = jax.tree.map(np.asarray, self.grid.starts(cell.neurons, cell.eta))
                self.known[cell.neurons, cell.eta] = drawn
        rows = np.minimum(np.arange(chunk.seeds.start, chunk.seeds.start + lanes), chunk.seeds.stop - 1)
        model = jax.tree.map(lambda leaf: leaf[rows], self.known[cell.neurons, cell.eta])
        extra = [(0, 0), (0, cell.size - cell.neurons), (0, 0)]
        model = eqx.tree_at(
            lambda m: (m.weights, m.positions),
            model,
            (np.pad(model.weights, extra), np.pad(model.positions, extra, constant_values=2 + cell.eta)),
        )
        return cell.dynamics, cell.problem, model, np.asarray(self.grid.seeds, np.uint32)[rows]


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

        if jax.default_backend() == "cpu" and not isinstance(dynamics, SGD):
            # Adaptive solves in a batch would all go on until the slowest ends.
            outcome = jax.lax.map(lambda both: lane(*both), (seeds, varying))
        else:
            outcome = jax.vmap(lane)(seeds, varying)
        return jax.tree.map(lambda leaf: leaf[None], outcome)

    if mesh is None:
        return on_device(arrays, slow_times)
    shards = PartitionSpec("chunk")
    spread = jax.shard_map(on_device, mesh=mesh, in_specs=(shards, PartitionSpec()), out_specs=shards, check_vma=False)
    return spread(arrays, slow_times)


def _compiled(*arguments: PyTree) -> Any:
    program: Any = run_chunks
    return program.lower(*arguments).compile()


def mesh_of(dynamics: AbstractDynamics, devices: Sequence[jax.Device]) -> Mesh | None:
    """None for what one device does: Lineax, inside these dynamics, cannot be traced under `jax.shard_map`."""
    if isinstance(dynamics, TwoTimescaleLimit | ReducedFlow):
        return None
    return jax.make_mesh((len(devices),), ("chunk",), (AxisType.Auto,), devices=devices)


def stack(*leaves: Any) -> Any:
    is_array = isinstance(leaves[0], jax.Array | np.ndarray | np.generic)
    return np.stack([np.asarray(leaf) for leaf in leaves]) if is_array else leaves[0]


def _by_program(chunks: list[Chunk]) -> list[list[Chunk]]:
    same: dict[Any, list[Chunk]] = {}
    for chunk in chunks:
        same.setdefault(chunk.cell.program, []).append(chunk)
    return list(same.values())


def _size(chunk: Chunk) -> int:
    return chunk.seeds.stop - chunk.seeds.start


class Counter:
    """Counts finished runs, from several threads."""

    def __init__(self, report: Progress, total: int, todo: list[Chunk]):
        self.report, self.total = report, total
        self.done = total - sum(_size(chunk) for chunk in todo)
        self.lock = threading.Lock()
        report(self.done, total)

    def add(self, runs: int) -> None:
        with self.lock:
            self.done += runs
            self.report(self.done, self.total)


class Lines:
    """A line on the standard error for each tenth of the runs."""

    def __init__(self):
        self.tenth = -1

    def __call__(self, done: int, total: int) -> None:
        if (tenth := 10 * done // total) > self.tenth:
            self.tenth = tenth
            print(f"{done:,} of {total:,} runs", file=sys.stderr, flush=True)


def _silent(done: int, total: int) -> None:
    pass
