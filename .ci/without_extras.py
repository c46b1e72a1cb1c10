"""Where no extra is installed every module imports, and what needs one says which, in one line."""

import contextlib
import importlib
import importlib.util
import io
import pathlib
import pkgutil
from collections.abc import Callable

import tts_jax as tts
from tts_jax import cli

EXTRAS = "beartype", "distributed", "fsspec", "mkdocs", "pytest", "yaml", "zarr"


def message(call: Callable[[], object]) -> str:
    try:
        call()
    except ImportError as error:
        return str(error)
    raise AssertionError(f"{call} needs no extra")


def printed(*arguments: str) -> str:
    """By the command line, which refuses them."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(arguments) == 2, arguments
    return said.getvalue().strip()


def main() -> None:
    assert "site-packages" in tts.__file__, tts.__file__
    there = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not there, there
    for module in pkgutil.walk_packages(tts.__path__, "tts_jax."):
        importlib.import_module(module.name)

    store = pathlib.Path("there.zarr")
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    settings = pathlib.Path("settings.yaml")
    settings.write_text("epsilon: [0.1]")
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))

    def sweep(**where: object) -> object:
        return tts.sweep(tts.TwoTimescaleLimit(), problem, [0.0], seeds=1, progress=False, **where)

    refused = {
        "load": (message(lambda: tts.load(store)), "store"),
        "store": (message(lambda: sweep(store="run.zarr")), "store"),
        "atlas": (message(lambda: tts.experiments.preset("regime-atlas").run("atlas")), "store"),
        "sweep": (printed("sweep", "--store", "run.zarr", "--seeds", "1", "--slow-time", "1"), "store"),
        "show": (printed("show", str(store)), "store"),
        "url": (message(lambda: tts.load("s3://mine/run.zarr")), "cluster"),
        "yaml": (printed("sweep", str(settings)), "store"),
        "client": (message(lambda: sweep(store="run.zarr", client=object())), "cluster"),
    }
    for name, (text, extra) in refused.items():
        assert f"pip install 'tts-jax[{extra}]'" in text, (name, text)
        assert len(text.splitlines()) == 1, (name, text)


if __name__ == "__main__":
    main()
