"""Grids of runs: every dynamics over seeds, ratios, sizes, widths, step sizes and targets."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
from jaxtyping import ArrayLike, PyTree, Real

from .. import _checks as checks
from .._progress import Counter, Progress, check as checking_progress, watching
from ..dynamics import AbstractDynamics
from ..problems import AbstractProblem
from ..trajectory import Status
from . import cluster
from .compute import Computer
from .grid import uniform_start
from .network import remember
from .results import Layout, Memory, Results, endings
from .store import Store, warn_of_lost
from .width import lanes_for
from .work import Work

if TYPE_CHECKING:
    import distributed
    import xarray


def sweep(
    dynamics: AbstractDynamics | Sequence[AbstractDynamics] | Mapping[str, AbstractDynamics],
    problem: AbstractProblem,
    slow_times: Sequence[Real[ArrayLike, ""]] | ArrayLike,
    *,
    seeds: int | Sequence[int],
    init: Callable[..., PyTree] = uniform_start,
    measure: Mapping[str, Callable[[PyTree], ArrayLike]] | None = None,
    keep: str | None = None,
    store: str | os.PathLike[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    client: "distributed.Client | None" = None,
    lanes: int | None = None,
    progress: bool | Progress = True,
    weights: bool = False,
    attributes: Mapping[str, str] | None = None,
    **axes: Any,
) -> "xarray.Dataset":
    r"""Runs every combination of the axes and the seeds, and labels the results.

    **Arguments:**

    - `dynamics`: one, or several in a list or named in a mapping, which make a dimension `dynamics`
    - `problem`: what is minimised
    - `slow_times`: the save times of every run, as of `simulate`
    - `seeds`: a list of them, or a number: `seeds=64` is `range(64)`
    - `init`: the start of seed s is `init(jax.random.key(s), **settings)`, any Equinox model, the same for each
      dynamics. The default is `ShallowNetwork.init(key, neurons, SmoothStep(eta))`, with 20 neurons and eta 4e-3 unless
      they are given
    - `measure`: `measure={"test loss": test.risk}` keeps `test.risk(model)` at each save
    - `keep`: `keep="model"` keeps each leaf that trains, for `tts_jax.sweeps.model`
    - `store`: a path that ends in `.zarr`, or a URL; without one the data set stays in memory
    - `devices`: those that compute, by default all of this process
    - `client`: of Dask, whose workers compute
    - `lanes`: how many runs are computed beside each other on each device
    - `progress`: True reports runs done, failures, throughput and the time left on the standard error; a function
      `progress(done, total)` counts runs
    - `weights`: whether to keep `weights` and `bias` of a `ShallowNetwork` too
    - `attributes`: texts of yours that the dataset is to carry
    - `axes`: keywords of the dynamics (`epsilon`, `step_size`, `batch_size`, ...), of the problem (`target`, `noise`,
      ...) and of `init`: a list or a tuple makes a dimension, one value sets it. Each acts on all that take it; an axis
      that one of several dynamics lacks repeats its runs. Numbers and truths are coordinates as they are; of other
      values (functions, modules, None beside numbers) the coordinate is a text that describes them

    The samples of SGD of seed s come from `jax.random.fold_in(jax.random.key(s), 2)`.

    The dataset has the dimensions `dynamics`, the axes in the order given, `seed`, then `slow_time` and those of a
    variable; what is smaller than the largest is filled up with NaN:

    - `risk` at each save time, a squared error without a factor 1/2, and without label noise; the mean loss where a
      `Dataset` has one of its own
    - what `measure` names, a number or an array; of a run that is missing integers are 0, truths False
    - `positions` of a `ShallowNetwork` and, with `weights=True`, `weights` and `bias`
    - with `keep="model"`, each leaf that trains, as `model.layers[0].weight`: see `tts_jax.sweeps.model`
    - `status` (a `Status`, -1 for a run that is missing), `steps` and `rejected` of each run
    - `neurons_per_piece` of the start, in each piece of the target
    - `converged`: the last risk is below twice the floor $\frac{\eta}{28} \sum_i w_i^2$, the risk that one neuron at
      each jump (of size $w_i$) leaves
    - `hit_time`: the first save time at which the window of a neuron, of width eta, holds the jump; NaN where none
      does. As fine as the save times are.

    The last three exist where `SmoothStep` neurons learn a `PiecewiseConstant` target. Attributes give the
    configuration, versions, device, commit and lanes.

    `lanes` runs are computed beside each other on each device, of all seeds and of all axes that share a compiled
    program: by default 64 on a CPU, and elsewhere as many as fill the device, measured in a second, and its memory
    holds; no fewer than a chunk (below). Networks of different numbers of neurons share a program, padded with neurons
    beyond 2, which neither act nor move, unless `measure` or `keep` look at them. Lanes and `devices` (by default all
    of this process; on one CPU there is a thread for each core) change no result: bit for bit of SGD, of flows to the
    rounding of another program, which their tolerance covers.

    Runs are kept in chunks of 32 consecutive seeds, and up to 256 where there are thousands, as the grid alone has it.
    With a `store` each chunk is written as it is finished, and a sweep that finds its own store there computes what is
    missing or damaged only. A store of other settings, or of functions (`init`, `measure`, ...) that have changed
    since, is refused, and so is one that another sweep writes into. A store may be a URL that fsspec reaches
    (`s3://mine/run.zarr`), where nothing refuses a second sweep. Where `jax.distributed.initialize()` has been called,
    each process computes its share into the common `store` and returns what is there when it is done.

    With a `client` of Dask (`dask.distributed.Client`) its workers compute, each a launch at a time on its own devices,
    and write into the common `store`, in the precision of this process. What a worker that dies was computing is done
    by others, and an error is tried again twice. Ctrl-C cancels what has not begun.

    A run that fails shows in its `status`, and changes no other; a warning counts those that did. Ctrl-C ends the sweep
    at once, with all finished chunks in the store; what is being computed is lost.

    >>> import equinox as eqx, jax, tts_jax as tts
    >>> data = tts.Dataset([[0.0], [0.5], [1.0]], [0.0, 1.0, 0.0])
    >>> def init(key, width):
    ...     return eqx.nn.MLP(1, "scalar", width, 1, key=key)
    >>> flow = tts.GradientFlow(0.1, slow=lambda model: model.layers[0])
    >>> runs = tts.sweep(flow, data, [0.0, 0.1], seeds=2, init=init, width=[2, 3], progress=False)
    >>> dict(runs.risk.sizes)
    {'width': 2, 'seed': 2, 'slow_time': 2}

    Raises `ValueError`, before any long work, for an axis that nothing takes, for values that are refused by what takes
    them, for a store of another configuration (with the difference), for a `client` without a store or with `devices`,
    and for a place that cannot be written to; `ImportError` where a `store` or a `client` needs a package that is not
    installed; `OSError` where writing fails later, e.g. on a full disk, with all finished chunks kept.
    """
    checking_progress(progress)
    checks.truth("weights", weights)
    if attributes is not None:
        checks.instance("attributes", attributes, Mapping, '{"author": "me"}')
    if keep is not None:
        checks.choice("keep", keep, ["model"])
    if lanes is not None:
        checks.count("lanes", lanes)
    if devices is not None and not (
        isinstance(devices, Sequence) and devices and all(isinstance(device, jax.Device) for device in devices)
    ):
        raise ValueError(f"devices must be a list of devices, got {checks.called(devices)}: pass e.g. jax.devices()")
    if client is not None:
        cluster.check(client, store, devices)
    work = Work(dynamics, problem, slow_times, seeds, init, axes, measure, keep, weights)
    layout = work.layout(attributes)
    if layout.kept.model:
        remember(layout)
    if store is None and jax.process_count() > 1:
        raise ValueError("several processes need a common store: pass e.g. store='run.zarr'")
    devices = devices or jax.local_devices()
    if lanes is None:
        size = layout.bytes_of_a_run
        lanes = lanes_for(devices[0], size) if client is None else cluster.lanes_for(client, size)
    layout.attributes["lanes"] = str(max(lanes, layout.chunk_size))
    results: Results = Memory(layout) if store is None else Store.open(store, layout, create=jax.process_index() == 0)
    work = dataclasses.replace(work, lanes=lanes, store=None if store is None else str(store))
    try:
        dataset = _completed(results, work, layout, progress, devices, client)
    finally:
        results.close()
    if (dataset.status > Status.SUCCESSFUL).any():
        warnings.warn(f"not every run ended well ({endings(dataset.status)}): see status in the dataset", stacklevel=2)
    return dataset


def _completed(
    results: Results, work: Work, layout: Layout, progress: bool | Progress, devices: Sequence[jax.Device], client: Any
) -> "xarray.Dataset":
    """With what was missing computed."""
    mine = layout.chunks()[jax.process_index() :: jax.process_count()]
    todo = results.missing(mine)
    if isinstance(results, Store) and results.lost:
        warn_of_lost(results.place, results.lost, "they are computed again")
    total = sum(chunk.runs for chunk in mine)
    with watching(progress, "runs") as look:
        counter = Counter(look, total, total - sum(chunk.runs for chunk in todo))
        if client is None:
            Computer(layout, devices, work.lanes).compute(todo, results, counter.add)
        else:
            cluster.compute(client, work, todo, counter.add)
            results.tidy()
    return results.dataset()
