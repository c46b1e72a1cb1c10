"""Grids of runs: every dynamics over seeds, ratios, sizes, widths, step sizes and targets."""

import concurrent.futures
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Real

from .. import _checks as checks
from .._progress import Counter, Progress, check as checking_progress, watching
from .._workers import workers
from ..dynamics import AbstractDynamics
from ..networks import ShallowNetwork
from ..problems import AbstractProblem
from ..trajectory import Status
from .grid import Chunk, Grid, Start, uniform_start
from .launch import Launch, launches_of, mesh_of
from .results import Layout, Memory, Results, endings
from .starts import Starts
from .store import Store, warn_of_lost

if TYPE_CHECKING:
    import xarray


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
    runs, and `True` reports them on the standard error, with the time left. With a `store` (a path that ends in
    `.zarr`) each chunk is written as it is finished, and a sweep that finds its own store there computes what is
    missing or damaged only. It is refused while another one writes there. Different numbers of neurons share a
    compiled program, padded with neurons at 2 + eta, which neither act nor move.

    Chunks are spread over `devices`, by default all of this process; on one CPU they run in a thread for each core.
    No device hears of another, and their number changes no result, bit for bit.
    Where `jax.distributed.initialize()` has been called, each process computes its share into the common `store` and
    returns what is there when it is done.

    A run that fails shows in its `status`, and changes no other; a warning counts those that did. Ctrl-C ends the sweep
    at once, with all finished chunks in the store; what is being computed is lost.

    Raises `ValueError`, before any long work, for an axis that cannot be swept, for a store of another configuration
    (with the difference), and for a place that cannot be written to; `OSError` where writing fails later, e.g. on a
    full disk, with all finished chunks kept.
    """
    checking_progress(progress)
    checks.truth("weights", weights)
    if attributes is not None:
        checks.instance("attributes", attributes, Mapping, '{"author": "me"}')
    grid = Grid.of(dynamics, problem, slow_times, seeds, init, axes)
    if devices is not None and not (
        isinstance(devices, Sequence) and devices and all(isinstance(device, jax.Device) for device in devices)
    ):
        raise ValueError(f"devices must be a list of devices, got {checks.called(devices)}: pass e.g. jax.devices()")
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
        results = Store.open(checks.path("store", store, "run.zarr"), layout, create=jax.process_index() == 0)
    try:
        dataset = _completed(results, layout, progress, devices or jax.local_devices())
    finally:
        results.close()
    if (dataset.status > Status.SUCCESSFUL).any():
        warnings.warn(f"not every run ended well ({endings(dataset.status)}): see status in the dataset", stacklevel=2)
    return dataset


def _completed(
    results: Results, layout: Layout, progress: bool | Progress, devices: Sequence[jax.Device]
) -> "xarray.Dataset":
    """With what was missing computed."""
    grid = layout.grid
    mine = grid.chunks()[jax.process_index() :: jax.process_count()]
    todo = [chunk for chunk in mine if not results.holds(chunk)]
    if isinstance(results, Store) and results.lost:
        warn_of_lost(results.path, results.lost, "they are computed again")
    total = sum(chunk.runs for chunk in mine)
    with watching(progress, "runs") as look:
        counter = Counter(look, total, total - sum(chunk.runs for chunk in todo))
        _compute(todo, layout, results, devices, counter)
    return results.dataset()


def _compute(
    todo: list[Chunk], layout: Layout, results: Results, devices: Sequence[jax.Device], counter: Counter
) -> None:
    """Programs are compiled by threads of their own, while those that are ready run."""
    grid = layout.grid
    threads = (os.cpu_count() or 1) if len(devices) == 1 and devices[0].platform == "cpu" else 1
    starts = Starts(grid)
    slow_times = jnp.asarray(grid.slow_times)
    launches = launches_of(todo, {name: mesh_of(arm, devices) for name, arm in grid.dynamics.items()})

    def run(launch: Launch) -> None:
        program = programs[launch.program].result()
        outcome = jax.tree.map(np.asarray, program(*launch.arguments(starts), slow_times))
        for k, chunk in enumerate(launch.chunks):
            mine = jax.tree.map(lambda leaf, k=k, chunk=chunk: leaf[k, : chunk.runs], outcome)
            results.write(chunk, layout.variables_of(chunk, starts.of(chunk, chunk.runs)[2], mine))
            counter.add(chunk.runs)

    with workers(threads) as runners, workers(threads) as compilers:
        one_of_each = {launch.program: launch for launch in launches}
        programs = {name: compilers.submit(launch.compile, starts, slow_times) for name, launch in one_of_each.items()}
        for done in concurrent.futures.as_completed([runners.submit(run, launch) for launch in launches]):
            done.result()
