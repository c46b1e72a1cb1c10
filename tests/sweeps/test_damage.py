"""What is lost of a store is missing, said to be so, and computed again; what is foreign or damaged is refused."""

import errno
import shutil

import numpy as np
import pytest
import reference
from command_line import call

import tts_jax as tts
from tts_jax.dynamics.sgd.checkpoint import Checkpoint
from tts_jax.sweeps.store import Store

PROBLEM = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]), noise=0.5)
VARIABLES = "risk", "positions", "steps", "rejected", "neurons_per_piece", "hit_time", "converged", "status"


def run(store):
    axes = {"seeds": 3, "neurons": 2, "epsilon": [1.0, 0.5]}
    return tts.sweep(tts.SGD(1.0, 1e-2), PROBLEM, [0.0, 0.05], store=store, progress=False, **axes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = tmp_path_factory.mktemp("stores") / "run.zarr"
    run(store)
    return store


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run.zarr")


def chunk(store, variable):
    return next(path for path in store.glob(f"{variable}/c/1/**/*") if path.is_file())


@pytest.mark.parametrize("variable", VARIABLES[:-1])
def test_a_lost_chunk_is_missing_and_computed_again(store, variable):
    sound = tts.load(store)
    assert set(VARIABLES) == set(sound.data_vars)
    chunk(store, variable).unlink()
    with pytest.warns(UserWarning, match=r"run\.zarr has lost a part of 3 runs.*resume"):
        broken = tts.load(store)
    np.testing.assert_array_equal(broken.status, [[0, 0, 0], [-1, -1, -1]])
    with pytest.warns(UserWarning, match=r"lost a part of 3 runs.*computed again"):
        again = run(store)
    assert again.equals(sound)


def test_the_command_line_says_so(store):
    chunk(store, "risk").unlink()
    code, out, err = call("show", str(store))
    assert code == 0
    assert "6 runs: 3 successful, 3 missing" in out
    assert err.splitlines() == [
        f"tts-jax: {store} has lost a part of 3 runs, which count as missing: "
        "resume the sweep, which computes them again"
    ]


def test_what_was_never_computed_is_no_loss(store):
    for variable in VARIABLES:
        chunk(store, variable).unlink()
    np.testing.assert_array_equal(tts.load(store).status, [[0, 0, 0], [-1, -1, -1]])


def test_a_chunk_without_its_last_file_may_still_be_written(store):
    sound = tts.load(store)
    chunk(store, VARIABLES[-1]).unlink()
    np.testing.assert_array_equal(tts.load(store).status, [[0, 0, 0], [-1, -1, -1]])
    assert run(store).equals(sound)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"zarr_format": 3, "node_type": "group", "attributes": {}}', "\0\1"])
def test_metadata_of_another_kind_are_refused(store, text):
    before = chunk(store, "risk").read_bytes()
    (store / "zarr.json").write_text(text)
    reference.refuses(lambda: run(store), f"{store} is damaged")
    reference.refuses(lambda: tts.load(store), f"{store}")
    assert chunk(store, "risk").read_bytes() == before


@pytest.mark.parametrize("text", [None, "", "[]", "{"])
def test_metadata_of_one_array_are_refused(store, text):
    file = store / "risk" / "zarr.json"
    file.unlink() if text is None else file.write_text(text)
    reference.refuses(lambda: tts.load(store), f"{store} is damaged")
    reference.refuses(lambda: run(store), f"{store} is damaged")
    assert chunk(store, "risk").exists()


def test_a_file_in_place_of_a_store(tmp_path):
    file = tmp_path / "run.zarr"
    file.write_text("mine")
    reference.refuses(lambda: run(file), "is not the store of a sweep")
    reference.refuses(lambda: tts.load(file), "got")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("data", [b"", b"CDF", b"no netCDF", b"CDF\x01" + b"\xff" * 40], ids=len)
def test_files_that_are_no_netcdf(tmp_path, data):
    file = tmp_path / "run.nc"
    file.write_bytes(data)
    reference.refuses(lambda: tts.load(file), f"{file} is damaged, or no netCDF file")


def test_a_cut_netcdf_file(tmp_path, made):
    file = tmp_path / "run.nc"
    tts.load(made)[["steps"]].drop_attrs().to_netcdf(file, engine="scipy")
    file.write_bytes(file.read_bytes()[:-30])
    reference.refuses(lambda: tts.load(file), f"{file} is damaged, or no netCDF file")


@pytest.mark.parametrize("data", [None, b"", b"PK\x03\x04", b"\x93NUMPY", b"text"], ids=str)
def test_checkpoints_of_another_kind(tmp_path, data):
    path = tmp_path / "run.ckpt"
    if data is None:
        np.save(path.with_suffix(".npy"), np.ones(3))
        path = path.with_suffix(".npy")
    else:
        path.write_bytes(data)
    reference.refuses(lambda: Checkpoint(path, "mine").read(np.ones(3)), f"{path} is no checkpoint of SGD")


def test_checkpoints_cut_or_flipped(tmp_path):
    path = tmp_path / "run.ckpt"
    file = Checkpoint(path, "mine")
    file.write(np.arange(300.0))
    data = path.read_bytes()
    flipped = data.replace(np.arange(300.0).tobytes()[80:], np.arange(300.0)[::-1].tobytes()[80:])
    for damaged in (data[: len(data) // 2], data[:-3], flipped):
        path.write_bytes(damaged)
        reference.refuses(lambda: file.read(np.ones(300)), "is no checkpoint of SGD")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    file = Checkpoint(tmp_path / "run.ckpt", "mine")
    file.write(np.arange(3.0))

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    reference.refuses(lambda: file.write(np.ones(3)), "No space left on device")
    np.testing.assert_array_equal(file.read(np.ones(3)), np.arange(3.0))


def test_a_full_disk_keeps_what_a_store_holds(store, monkeypatch):
    sound = tts.load(store)
    for variable in VARIABLES:
        chunk(store, variable).unlink()

    def full(self, key, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.Array.__setitem__", full)
        with pytest.raises(OSError, match=r"No space left on device.*make room and resume") as raised:
            run(store)
    assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(tts.load(store).status, [[0, 0, 0], [-1, -1, -1]])
    assert run(store).equals(sound)


def test_two_sweeps_into_one_store(store):
    """The second is refused, until the first has ended; what it writes is left alone."""
    first = Store.open(store, _layout(), create=True)
    half = store / "risk" / "c" / "x.partial"
    half.touch()
    reference.refuses(lambda: run(store), "another sweep is writing into", str(store))
    assert half.exists()
    assert tts.load(store).sizes["seed"] == 3
    first.close()
    run(store)
    assert not half.exists()


def _layout():
    from tts_jax.sweeps.grid import Grid, uniform_start
    from tts_jax.sweeps.kept import Kept
    from tts_jax.sweeps.results import Layout

    axes = {"neurons": 2, "epsilon": [1.0, 0.5]}
    grid = Grid(tts.SGD(1.0, 1e-2), PROBLEM, [0.0, 0.05], 3, uniform_start, axes)
    return Layout(grid, Kept(None, False, False), {})


@pytest.mark.parametrize(
    ("name", "data"), [("a.toml", b"\xff\xfe"), ("b.toml", b"seeds = "), ("c.yaml", b"a: [1"), ("d.yaml", b"3")]
)
def test_configurations_of_another_kind(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    code, _, err = call("sweep", str(path), "--dry-run")
    assert (code, len(err.splitlines())) == (2, 1)
    assert str(path) in err


def test_a_configuration_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        code, _, err = call("sweep", str(path), "--dry-run")
        assert (code, len(err.splitlines())) == (2, 1)
        assert str(path) in err
