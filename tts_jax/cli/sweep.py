"""The subcommands of sweeps: `sweep`, `show` and `plot`."""

import argparse
import functools
import json
import pathlib
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from .. import _checks as checks
from .._progress import console
from ..dynamics import SGD, AbstractDynamics, GradientFlow, ReducedFlow, SGDDiffusion, TwoTimescaleLimit
from ..problems import Regression
from ..sweeps import load, sweep
from ..sweeps.axes import values_of
from ..sweeps.grid import Cell, Grid, uniform_start
from ..sweeps.kept import Kept
from ..sweeps.keywords import keywords_of
from ..sweeps.results import Layout, endings
from ..targets import PiecewiseConstant
from .console import refuse

PLAN: dict[str, Any] = {
    "dynamics": ["flow"],
    "seeds": 16,
    "epsilon": [1e-3],
    "neurons": [20],
    "eta": [4e-3],
    "step_size": [1e-3],
    "slow_time": 3.0,
    "saves": 10,
    "rtol": 1e-6,
    "noise": 1.0,
    "jumps": [0.2, 0.35, 0.5, 0.65, 0.8],
    "values": [1.0, 5.0, 1.0, 3.0, 1.0, 5.0],
}
"""What a configuration file and the flags may say, and what holds where they do not."""
SECONDS_OF_A_FLOW = 0.05
STEPS_A_SECOND = {SGD: 3e6, SGDDiffusion: 2.5e3}
"""On one core, 20 neurons: for the estimate of `--dry-run` only."""


def add_to(commands: Any) -> None:
    """Adds the subcommands to a parser of arguments."""
    parser = commands.add_parser("sweep", help="run a grid of dynamics, ratios, sizes and seeds into a store")
    parser.set_defaults(command=_sweep)
    parser.add_argument("config", nargs="?", metavar="FILE", help="settings in TOML or YAML, named as the flags are")
    parser.add_argument("--store", metavar="PATH.zarr", help="where to write, chunk by chunk; or a URL")
    parser.add_argument("--resume", metavar="PATH.zarr", help="go on with a sweep: nothing else needs to be said")
    parser.add_argument("--dry-run", action="store_true", help="show the grid, the number of runs and their cost")
    parser.add_argument("--distributed", action="store_true", help="one of several processes (SLURM or Open MPI)")
    for name, default in PLAN.items():
        many = {"nargs": "+"} if isinstance(default, list) else {}
        kind = type(default[0] if isinstance(default, list) else default)
        says = " ".join(map(str, default)) if isinstance(default, list) else default
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default: {says}", **many)
    for name, command, about in (("show", _show, "a table of a store"), ("plot", _plot, "pictures of a store")):
        parser = commands.add_parser(name, help=about)
        parser.set_defaults(command=command)
        parser.add_argument("store", metavar="PATH.zarr")
        if name == "plot":
            parser.add_argument("--out", metavar="DIR", help="where to write (default: beside the store)")


def _sweep(options: argparse.Namespace) -> int:
    try:
        if options.distributed:
            import jax

            jax.distributed.initialize()
        plan = _plan(options)
        store = plan.pop("store", None)
        arguments = _arguments(plan)
        if options.dry_run:
            _describe(plan, arguments)
            return 0
        if store is None:
            raise ValueError("a sweep needs a store: pass e.g. --store run.zarr (or --dry-run)")
        dataset = sweep(**arguments, store=store, attributes={"plan": json.dumps(plan)})
    except (ValueError, ImportError, FileNotFoundError) as error:
        return refuse(error)
    screen = console()
    screen.print(endings(dataset.status), soft_wrap=True)
    screen.print(f"{store}: see `tts-jax show {store}`, `tts-jax plot {store}`", soft_wrap=True)
    return 0


def _plan(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in (*PLAN, "store") if getattr(options, name) is not None}
    if options.resume is not None:
        if given or options.config:
            raise ValueError("--resume goes on with what the store says: leave the other settings out")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of runs that were lost, which `sweep` computes again, and says so
            attributes = _load(options.resume).attrs
        if "plan" not in attributes:
            raise ValueError(f"{options.resume} was not made by `tts-jax sweep`: call tts.sweep again to go on with it")
        return json.loads(attributes["plan"]) | {"store": options.resume}
    return PLAN | _file(options.config) | given


def _file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        if path.endswith(".toml"):
            settings = tomllib.loads(text)
        else:
            import yaml

            settings = yaml.safe_load(text)
            top = yaml.compose(text)
            names = [key.value for key, _ in top.value] if isinstance(top, yaml.MappingNode) else []
            if len(set(names)) < len(names):
                raise ValueError("a setting is there twice")
    except ImportError:
        raise ImportError("a YAML file needs the package pyyaml: pip install 'tts-jax[store]', or write TOML") from None
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}: give settings in TOML or YAML, or flags") from None
    except Exception as error:  # of either parser
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(settings, Mapping):
        raise ValueError(f"{path} must name settings, got {type(settings).__name__}: write e.g. epsilon = [1e-3]")
    settings = {str(name).replace("-", "_"): value for name, value in settings.items()}
    if unknown := sorted(settings.keys() - {*PLAN, "store"}):
        raise ValueError(f"{path} has unknown settings {', '.join(unknown)}: choose of store, {', '.join(PLAN)}")
    return {name: _setting(name, value) for name, value in settings.items()}


def _setting(name: str, value: Any) -> Any:
    """As the flag of that name would have it: YAML takes 1e-3 for text."""
    default = PLAN.get(name, "run.zarr")
    kind = type(default[0] if isinstance(default, list) else default)
    fits = {float: float | int | str, int: int, str: str}[kind]
    if isinstance(value, list) and not isinstance(default, list) and name != "seeds":
        raise ValueError(f"{name} must be one value, got {value}: write e.g. {name} = {default}")

    def one(item: Any) -> Any:
        try:
            if not isinstance(item, bool) and isinstance(item, fits):
                return kind(item)
        except (ValueError, OverflowError):
            pass
        raise ValueError(f"{name} must be {kind.__name__}, got {checks.shown(item)}: write e.g. {name} = {default}")

    return [one(item) for item in value] if isinstance(value, list) else one(value)


def _arguments(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Of `tts.sweep`. A list of one value makes no dimension."""
    kinds: dict[str, AbstractDynamics] = {
        "flow": GradientFlow(1.0, rtol=plan["rtol"], atol=plan["rtol"]),
        "sgd": SGD(1.0, 1.0),
        "diffusion": SGDDiffusion(1.0, 1.0),
        "limit": TwoTimescaleLimit(),
        "reduced": ReducedFlow(rtol=plan["rtol"], atol=plan["rtol"]),
    }
    names = plan["dynamics"] if isinstance(plan["dynamics"], list) else [plan["dynamics"]]
    if not names:
        raise ValueError(f"a sweep needs at least one dynamics, got none: choose of {', '.join(kinds)}")
    for name in names:
        if name.lower() not in kinds:
            raise ValueError(f"there is no dynamics {name!r}: choose of {', '.join(kinds)}")
    chosen = {name.lower(): kinds[name.lower()] for name in names}
    axes: dict[str, Any] = {"noise": plan["noise"]}
    for name in ("epsilon", "neurons", "eta", "step_size"):
        acts = name in ("neurons", "eta") or any(name in keywords_of(arm) for arm in chosen.values())
        values = plan[name] if isinstance(plan[name], list) else [plan[name]]
        values_of(name, values)  # also where it does not act
        if acts:
            axes[name] = values[0] if len(values) == 1 else values
    return {
        "dynamics": chosen if len(chosen) > 1 else next(iter(chosen.values())),
        "problem": Regression(PiecewiseConstant(plan["jumps"], plan["values"]), plan["noise"]),
        "slow_times": np.linspace(
            0.0, checks.positive("slow_time", plan["slow_time"]), checks.count("saves", plan["saves"]) + 1
        ),
        "seeds": plan["seeds"],
        **axes,
    }


def _describe(plan: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    axes = {name: arguments[name] for name in ("noise", "epsilon", "neurons", "eta", "step_size") if name in arguments}
    of_a_sweep = {name: arguments[name] for name in ("dynamics", "problem", "slow_times", "seeds")}
    grid = Grid(**of_a_sweep, init=uniform_start, axes=axes)
    layout = Layout(grid, Kept(None, False, False), {})
    table = Table("setting", "values", box=box.SIMPLE)
    for name, value in plan.items():
        table.add_row(name, " ".join(map(str, value)) if isinstance(value, list) else str(value))
    steps = sum(cell.steps or 0 for cell in grid.cells) * len(grid.seeds)
    seconds = sum(map(_seconds, grid.cells)) * len(grid.seeds)
    shape = " x ".join(f"{size} {dim}" for dim, size in zip(grid.dims, grid.shape, strict=True))
    screen = console()
    screen.print(table)
    screen.print(f"{grid.runs:,} runs ({shape}) in {len(layout.chunks()):,} chunks; {steps:,} steps of SGD")
    screen.print(f"expected: about {seconds:,.0f} s of one core, and some seconds to compile each size")


def _seconds(cell: Cell) -> float:
    """Of a run."""
    return SECONDS_OF_A_FLOW if cell.steps is None else cell.steps / STEPS_A_SECOND[type(cell.dynamics)]


def _show(options: argparse.Namespace) -> int:
    try:
        dataset = _load(options.store)
    except (ValueError, ImportError, OSError) as error:
        return refuse(error)
    screen = console()
    dims = [dim for dim in dataset.status.dims if dim != "seed"]
    shares, measured = ["converged"] if "converged" in dataset else [], _measured(dataset)
    medians = "median error", *(f"median {name}" for name in measured)
    table = Table(*dims, "runs", "failed", *shares, *medians, "mean steps", "max / mean", box=box.SIMPLE)
    for cell in _cells(dataset, dims):
        known = cell.status.values >= 0
        failed = int((cell.status.values > 0).sum())
        good, steps = cell.isel(slow_time=-1, seed=cell.status.values == 0), cell.steps.values[known]
        share = [f"{cell[name].values[known].mean():.3f}" if known.any() else "-" for name in shares]
        numbers = ["-"] * (len(medians) + 2)
        if np.isfinite(good.risk).any():
            numbers = [f"{np.nanmedian(good[name]):.4g}" for name in ("risk", *measured)]
            numbers += [f"{steps.mean():,.0f}", f"{steps.max() / max(steps.mean(), 1e-9):.2f}"]
        labels = [str(cell[dim].item()) for dim in dims]
        table.add_row(*labels, str(int(known.sum())), str(failed), *share, *numbers)
    screen.print(table)
    screen.print(endings(dataset.status), soft_wrap=True)
    return 0


def _plot(options: argparse.Namespace) -> int:
    from .. import plot
    from ..plot.style import save

    try:
        dataset = _load(options.store)
        store = pathlib.Path(options.store.split("/")[-1] if "://" in options.store else options.store)
        default = store.with_name(f"{store.stem}-figures")
        folder = checks.writable_folder(default if options.out is None else options.out)
        pictures: dict[str, Any] = {"risks.png": plot.sweep, "statuses.png": plot.statuses}
        if "converged" in dataset:
            pictures["convergence.png"] = plot.convergence
        for name in _measured(dataset):
            pictures[f"{name}.png"] = functools.partial(plot.sweep, y=name)
        for name, picture in pictures.items():
            save(picture(dataset), folder / name)
            console().print(str(folder / name), soft_wrap=True)
    except (ValueError, ImportError, OSError) as error:
        return refuse(error)
    return 0


def _load(path: str) -> Any:
    dataset = load(path)
    if "status" not in dataset or "seed" not in dataset.dims:
        raise ValueError(f"{path} is not the store of a sweep")
    return dataset


def _measured(dataset: Any) -> list[str]:
    """What was measured as one number a save."""
    names = json.loads(dataset.attrs["configuration"]).get("measure", {})
    return [name for name in names if dataset[name].dims == dataset.risk.dims]


def _cells(dataset: Any, dims: list[str]) -> Iterator[Any]:
    for place in np.ndindex(*(dataset.sizes[dim] for dim in dims)):
        yield dataset.isel(dict(zip(dims, place, strict=True)))
