"""Sweeps on a Dask cluster: the bytes of one process, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import textwrap

import jax
import pytest
import reference
from test_store import contents

import tts_jax as tts
from tts_jax.sweeps import cluster

distributed = pytest.importorskip("distributed")
pytest.importorskip("zarr")
pytestmark = pytest.mark.filterwarnings("default")  # of Dask, whose threads and sockets close late

PROBLEM = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]), noise=0.5)


def start(key, neurons):
    return tts.ShallowNetwork.init(key, neurons, tts.SmoothStep(0.05))


def run(store, **options):
    axes = {"seeds": 40, "neurons": [3, 5], "epsilon": [1.0, 0.5, 0.2, 0.1, 0.05]}
    settings = {
        "measure": {"mean": lambda model: model.positions.mean()},
        "init": lambda key, neurons: start(key, neurons),
    }
    return tts.sweep(tts.SGD(1.0, 5e-4), PROBLEM, [0.0, 2.0], store=store, **settings, **axes, **options)


def without_metadata(store):
    return {name: data for name, data in contents(store).items() if name != "zarr.json"}


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(4, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = tmp_path_factory.mktemp("whole") / "run.zarr"
    run(store, progress=False, lanes=64)
    return store


@pytest.mark.timeout(120)
def test_a_worker_is_killed(client, whole, tmp_path, monkeypatch):
    """While it computes: others do its chunks. The store is given by a relative path."""
    monkeypatch.chdir(tmp_path)
    killed, counts = [], []

    def watch(done, total):
        counts.append(done)
        if done and not killed:
            pid = next(pid for pid, busy in client.run(_busy).values() if busy)
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    found = run("run.zarr", client=client, progress=watch)
    assert killed
    assert counts == sorted(counts)
    assert counts[-1] == 400
    assert found.risk.dtype == "float64"
    assert without_metadata(tmp_path / "run.zarr") == without_metadata(whole)


def _busy(dask_worker):
    return os.getpid(), bool(dask_worker.state.executing_count)


@pytest.mark.timeout(120)
def test_an_interrupt_keeps_what_is_done(client, whole, tmp_path):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    store = tmp_path / "run.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(store, client=client, progress=interrupt)
    assert (tts.load(store).status == 0).any()
    assert not client.futures
    run(store, client=client, progress=False)
    assert without_metadata(store) == without_metadata(whole)


def test_the_precision_of_the_caller(client, tmp_path):
    with jax.enable_x64(False):
        narrow = tts.sweep(
            tts.SGD(1.0, 1e-2), tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0])), [0.1],
            seeds=2, neurons=2, store=tmp_path / "a.zarr", client=client, progress=False,
        )  # fmt: skip
    assert narrow.risk.dtype == "float32"
    assert set(client.run(lambda: jax.config.jax_enable_x64).values()) == {False}


def test_refused_before_any_work(client, tmp_path, annotations_off):
    store = tmp_path / "run.zarr"
    reference.refuses(lambda: run(store, client=3), "client must be a dask.distributed.Client, got int")
    reference.refuses(lambda: run(None, client=client), "need a common store")
    reference.refuses(lambda: run(store, client=client, devices=jax.devices()), "devices and client were both given")
    reference.refuses(lambda: run("memory://x/run.zarr", client=client, progress=False), "a worker finds no store")
    assert not store.exists()


CLASS_OF_A_SCRIPT = """
    import sys, cloudpickle, equinox as eqx, jax, jax.numpy as jnp, tts_jax as tts
    from tts_jax.sweeps.work import Work
    class Line(eqx.Module):
        slope: jax.Array
        def __call__(self, x):
            return jnp.sum(self.slope * x)
    sgd, data = tts.SGD(1.0, 0.1, slow=lambda model: model.slope), tts.Dataset([[1.0]], [1.0])
    work = Work(sgd, data, [0.0], 1, lambda key: Line(jnp.ones(1)), {}, None, None, False, 1, "run.zarr")
    sys.stdout.buffer.write(cloudpickle.dumps(work))
"""


def test_a_class_of_the_script_cannot_be_sent():
    """Equinox makes none that cloudpickle has sent by value: this is said."""
    sent = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CLASS_OF_A_SCRIPT)], stdout=subprocess.PIPE, check=True
    )
    reference.refuses(
        lambda: cluster._prepared(sent.stdout, True), "class of networks", "a module that they can import"
    )
