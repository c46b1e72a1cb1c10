"""Stores at URLs: the files of a folder, byte for byte, and as safe, but for the lock."""

import numpy as np
import pytest
import reference
from test_damage import VARIABLES, run

import tts_jax as tts

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("zarr")


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    yield f"memory:/{tmp_path}/run.zarr" if request.param == "memory" else f"file://{tmp_path}/url/run.zarr"
    fsspec.filesystem("memory").store.clear()


def files(url):
    system, path = fsspec.url_to_fs(url)
    return {name.removeprefix(path): system.cat_file(name) for name in system.find(path)}


def chunk_of(url, variable):
    return next(name for name in files(url) if name.startswith(f"/{variable}/c/1/"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    store = tmp_path_factory.mktemp("stores") / "run.zarr"
    run(store)
    return store


def test_a_url_holds_what_a_folder_does(url, folder):
    assert run(url).drop_attrs().equals(tts.load(folder).drop_attrs())
    there = {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert there.keys() == files(url).keys()
    assert all(there[name] == data for name, data in files(url).items() if name != "/zarr.json")
    assert tts.load(url).equals(run(url))


@pytest.mark.parametrize("variable", ["risk", "status"])
def test_what_is_lost_is_computed_again(url, variable, recwarn):
    run(url)
    sound = files(url)
    system, path = fsspec.url_to_fs(url)
    system.rm_file(path + chunk_of(url, variable))
    np.testing.assert_array_equal(tts.load(url).status, [[0, 0, 0], [-1, -1, -1]])
    run(url)
    assert files(url) == sound
    assert len(recwarn) == (2 if variable == "risk" else 0)


def test_what_is_damaged_is_computed_again(url):
    run(url)
    sound = files(url)
    system, path = fsspec.url_to_fs(url)
    victim = path + chunk_of(url, "positions")
    system.pipe_file(victim, system.cat_file(victim)[:-1] + b"\0\1")
    reference.refuses(lambda: tts.load(url), f"{url} is damaged")
    with pytest.warns(UserWarning, match=r"lost a part of 3 runs.*computed again"):
        run(url)
    assert files(url) == sound


def test_a_store_that_was_not_made_to_its_end_is_made_again(url):
    run(url)
    sound = files(url)
    system, path = fsspec.url_to_fs(url)
    for name in ["/zarr.json", *(name for name in sound if "/c/" in name and name.split("/")[1] in VARIABLES)]:
        system.rm_file(path + name)
    with pytest.raises(FileNotFoundError, match="no store"):
        tts.load(url)
    run(url)
    assert {**files(url), "/zarr.json": b""} == {**sound, "/zarr.json": b""}


def test_urls_of_another_kind(tmp_path):
    reference.refuses(lambda: run("nowhere://run.zarr"), "nowhere://run.zarr cannot be opened")
    reference.refuses(lambda: run("memory://run.txt"), "ends in .zarr")
    with pytest.raises(FileNotFoundError, match="there is no store memory://x/none"):
        tts.load("memory://x/none.zarr")
    (tmp_path / "file").touch()
    reference.refuses(lambda: run(f"file://{tmp_path}/file/run.zarr"), "cannot make the store")
