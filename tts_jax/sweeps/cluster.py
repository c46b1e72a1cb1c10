"""Chunks of a sweep, computed by the workers of a Dask cluster, which write them into the common store."""

import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax

from .. import _checks as checks
from .._platform import in_64_bit
from . import width
from .compute import Computer
from .grid import Chunk
from .place import Folder, place_of
from .store import Store
from .work import Work

if TYPE_CHECKING:
    import distributed

RETRIES = 2
"""Of a launch that raises an error, as storage may do once. Those of workers that died are not counted: Dask gives up
after `distributed.scheduler.allowed-failures` of them."""

_lock = threading.Lock()


def check(client: Any, store: Any, devices: Any) -> None:
    try:
        import distributed
    except ImportError:
        raise ImportError("a client needs the package distributed: pip install 'tts-jax[cluster]'") from None
    if not isinstance(client, distributed.Client) or client.asynchronous:
        raise ValueError(f"client must be a dask.distributed.Client, got {checks.called(client)}: pass Client(cluster)")
    if devices is not None:
        raise ValueError("devices and client were both given, but workers use their own devices: leave devices out")
    if store is None:
        raise ValueError("the workers of a client need a common store: pass e.g. store='run.zarr'")
    if client.status != "running":
        raise ValueError(f"the client is {client.status}: connect a new one")


def lanes_for(client: "distributed.Client", bytes_of_a_run: int) -> int:
    """As a worker measures it."""
    return client.submit(_lanes, bytes_of_a_run, pure=False).result()


def _lanes(bytes_of_a_run: int) -> int:
    return width.lanes_for(jax.local_devices()[0], bytes_of_a_run)


def compute(
    client: "distributed.Client",
    work: Work,
    todo: Sequence[Chunk],
    count: Callable[[int, int], None],
) -> None:
    """A task is a launch, as a worker cuts them: the names of its chunks go out, how many runs were done and failed
    comes back."""
    import cloudpickle
    import distributed

    if not todo:
        return
    place = place_of("store", work.store, "run.zarr")
    if isinstance(place, Folder):  # workers have working directories of their own
        work = dataclasses.replace(work, store=os.path.abspath(place.path))
    # By a task, not scattered: Dask makes it again where the worker that held it dies.
    pickled = client.submit(bytes, cloudpickle.dumps(work), pure=False)
    prepared, options = (pickled, in_64_bit()), dict[str, Any](pure=False, retries=RETRIES)
    tasks: list[distributed.Future] = []
    try:
        launches = client.submit(_launches, *prepared, [chunk.name for chunk in todo], **options).result()
        tasks = [client.submit(_run, *prepared, names, **options) for names in launches]
        for done in distributed.as_completed(tasks):
            count(*done.result())
    except distributed.KilledWorker as error:
        raise RuntimeError(
            f"workers die of the same runs ({checks.first_line(error)}): give them more memory, or pass fewer lanes"
        ) from error
    finally:
        client.cancel([pickled, *tasks])


def _launches(pickled: bytes, wide: bool, names: Sequence[Any]) -> list[list[Any]]:
    """On a worker: the chunks that its devices compute at once."""
    with jax.enable_x64(wide):
        with _lock:
            computer, _, chunks = _prepared(pickled, wide)
        launches = computer.launches([chunks[name] for name in names])
    return [[chunk.name for chunk in launch.chunks] for launch in launches]


def _run(pickled: bytes, wide: bool, names: Sequence[Any]) -> tuple[int, int]:
    """On a worker: how many runs were done, and how many of them failed."""
    with jax.enable_x64(wide):
        with _lock:
            computer, store, chunks = _prepared(pickled, wide)
        counts: list[tuple[int, int]] = []

        def count(runs: int, failed: int) -> None:
            counts.append((runs, failed))

        computer.compute([chunks[name] for name in names], store, count)
    return sum(runs for runs, _ in counts), sum(failed for _, failed in counts)


@functools.lru_cache(maxsize=2)
def _prepared(pickled: bytes, wide: bool) -> tuple[Computer, Store, dict[Any, Chunk]]:
    """With all compiled programs, from one task to the next."""
    import cloudpickle

    work: Work = cloudpickle.loads(pickled)
    assert work.store is not None
    try:
        layout = work.layout()
    except dataclasses.FrozenInstanceError:  # how a class of Equinox that was sent by value fails
        raise ValueError(
            "workers cannot be sent a class of networks that is defined in the script itself or a notebook: "
            "define it in a module that they can import"
        ) from None
    chunks = {chunk.name: chunk for chunk in layout.chunks()}
    return Computer(layout, jax.local_devices(), work.lanes), Store.join(work.store, layout), chunks
