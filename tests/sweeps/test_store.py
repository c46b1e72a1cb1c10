"""The store of a sweep, under everything that can happen to a process and a disk."""

import hashlib
import os
import pathlib
import random
import subprocess
import sys
import textwrap
import time

import pytest

import tts_jax as tts

pytest.importorskip("zarr")

SCRIPT = """
    import os, resource, sys, jax
    jax.config.update("jax_enable_x64", True)
    import tts_jax as tts
    if len(sys.argv) > 2:
        jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[3]))
    problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]), noise=0.5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]), -1))
    axes = {"seeds": 40, "neurons": [3, 5], "epsilon": [1.0, 0.5, 0.2, 0.1, 0.05]}
    tts.sweep(tts.SGD(1.0, 1e-2), problem, [0.0, 0.05, 0.1], **axes,
              store=sys.argv[1], progress=lambda done, total: print(done, flush=True))
"""
RUNS = 40 * 2 * 5


def process(store, *arguments, flags="", limit=-1):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(store), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
            "JAX_COMPILATION_CACHE_DIR": str(store.parent / "jax"),
            "LARGEST_FILE": str(limit),
        },
    )


def finish(running):
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    return [int(line) for line in out.split()]


def contents(store):
    return {
        str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in pathlib.Path(store).rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "whole.zarr"
    counts = finish(process(store))
    assert counts[0] == 0
    assert counts[-1] == RUNS
    return store


def test_the_store_holds_what_memory_does(whole):
    problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]), noise=0.5)
    axes = {"seeds": 40, "neurons": [3, 5], "epsilon": [1.0, 0.5, 0.2, 0.1, 0.05]}
    memory = tts.sweep(tts.SGD(1.0, 1e-2), problem, [0.0, 0.05, 0.1], progress=False, **axes)
    loaded = tts.load(whole)
    assert memory.drop_attrs().equals(loaded.drop_attrs())
    assert memory.attrs["configuration"] == loaded.attrs["configuration"]


def test_killed_at_random_moments(whole):
    """Ten kills, each while chunks are written; what is there can be read at any time."""
    store, chance = whole.with_name("killed.zarr"), random.Random(0)
    kills = before = 0
    while kills < 10 and before < RUNS:
        running = process(store)
        first = int(running.stdout.readline())
        assert first >= before
        running.stdout.readline()
        time.sleep(chance.uniform(0, 0.02))
        running.kill()
        running.communicate()
        kills += 1
        before = int((tts.load(store).status >= 0).sum()) - 32 * 2
    counts = finish(process(store))
    assert counts[0] > 0
    assert contents(store) == contents(whole)


@pytest.mark.parametrize("damage", ["cut", "flipped", "removed", "leftover"])
def test_a_damaged_chunk_is_found_and_computed_again(whole, damage):
    sound = contents(whole)
    victim = whole / "positions/c/1/2/0/0/0"
    data = bytearray(victim.read_bytes())
    if damage == "cut":
        victim.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif damage == "removed":
        victim.unlink()
    else:
        victim.with_suffix(".abc.partial").write_bytes(data)
    if damage in ("cut", "flipped"):
        with pytest.raises(ValueError, match="damaged"):
            tts.load(whole)
    counts = finish(process(whole))
    assert counts[0] == (RUNS if damage == "leftover" else RUNS - 32)
    assert contents(whole) == sound


def test_another_configuration_is_refused_with_the_difference(whole):
    problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]), noise=0.25)
    axes = {"seeds": 40, "neurons": [3, 5], "epsilon": [1.0, 0.5, 0.2, 0.1, 0.05]}
    with pytest.raises(ValueError, match=r"problem\.noise: 0\.5 there, 0\.25 here$"):
        tts.sweep(tts.SGD(1.0, 1e-2), problem, [0.0, 0.05, 0.1], store=whole, **axes)


def test_a_full_disk_is_reported_and_loses_nothing(whole):
    """No file may be longer than 300 bytes once the store is made: the positions do not fit."""
    store = whole.with_name("full.zarr")
    running = process(store)
    running.stdout.readline()
    running.stdout.readline()
    running.kill()
    running.communicate()
    kept = int((tts.load(store).status >= 0).sum())
    full = process(store, limit=300)
    _, err = full.communicate(timeout=300)
    assert full.returncode != 0
    assert "finished runs are kept, make room and resume" in err.splitlines()[-1]
    assert int((tts.load(store).status >= 0).sum()) >= kept
    finish(process(store))
    assert contents(store) == contents(whole)


def test_an_unwritable_place_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]))
    for place in (tmp_path / "file" / "run.zarr", tmp_path / "file.zarr" / "x.txt"):
        with pytest.raises(ValueError, match=r"cannot write|ends in"):
            tts.sweep(tts.SGD(1.0, 1e-2), problem, [0.1], seeds=2, store=place, progress=False)


def test_two_processes_of_two_devices_write_what_one_does(whole):
    store = whole.with_name("two.zarr")
    port = f"localhost:{random.randint(20000, 60000)}"
    both = [process(store, port, k, flags="--xla_force_host_platform_device_count=2") for k in range(2)]
    counts = [finish(running) for running in both]
    assert sum(count[-1] for count in counts) == RUNS
    assert min(count[-1] for count in counts) > 0
    assert tts.load(store).drop_attrs().equals(tts.load(whole).drop_attrs())


def test_load_refuses_what_is_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match="no store"):
        tts.load(tmp_path / "none.zarr")
    with pytest.raises(ValueError, match="got"):
        tts.load(tmp_path)


def test_without_zarr_a_store_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "zarr", None)
    problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]))
    with pytest.raises(ImportError, match=r"pip install 'tts-jax\[store\]'"):
        tts.sweep(tts.SGD(1.0, 1e-2), problem, [0.1], seeds=2, store=tmp_path / "a.zarr", progress=False)
