"""Networks out of the dataset of a sweep."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .. import _checks as checks
from ..networks import trainable
from .axes import label
from .grid import Grid, uniform_start
from .kept import MODEL, named_leaves
from .keywords import Init
from .results import check_sweep

if TYPE_CHECKING:
    import xarray

_known: dict[tuple[str, ...], Any] = {}
"""By what a dataset says of them: the functions that sweeps of this process began from, and the values of axes."""


def remember(grid: Grid) -> None:
    function = grid.init.function
    _known[(label(function),)] = function
    for name, values in grid.axes.items():
        _known.update({(label(function), name, label(value)): value for value in values})
    _known.update({(label(function), name, label(value)): value for name, value in grid.fixed.items()})


def model(dataset: "xarray.Dataset", *, init: Callable[..., PyTree] | None = None, **at: Any) -> PyTree:
    """One network of a sweep that was run with `keep="model"`.

    **Arguments:**

    - `dataset`: what `tts_jax.sweep` or `tts_jax.load` returned
    - `init`: the function of that name that the sweep was given. In the process that ran the sweep it is known, as is
      the default start everywhere
    - `at`: names the run, and the save: a value for each dimension of more than one entry, as in `seed=3, epsilon=0.1`.
      Without a `slow_time` it is the last save. Another process than that of the sweep gives those settings of `init`
      too that are no numbers, as they were (`activation=jnp.tanh`)

    >>> import jax, tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))
    >>> sgd = tts.SGD(0.1, 0.01)
    >>> runs = tts.sweep(sgd, problem, [0.0, 0.1], seeds=2, neurons=[3, 5], keep="model", progress=False)
    >>> tts.sweeps.model(runs, seed=1, neurons=3).positions.shape
    (3, 1)

    Raises `ValueError` for a dataset without networks, a run that is missing or not there, a dimension that is not
    named, and another `init` than that of the sweep.
    """
    check_sweep(dataset)
    if not any(str(name).startswith(MODEL) for name in dataset) or "configuration" not in dataset.attrs:
        raise ValueError("the dataset holds no networks: run the sweep with keep='model'")
    run = _selected(dataset, at)
    if run.status < 0:
        raise ValueError(f"the run at {at} is missing: resume the sweep")
    configuration = json.loads(dataset.attrs["configuration"])
    began = configuration["init"]
    init = _known.get((began,), uniform_start if began == label(uniform_start) else None) if init is None else init
    if init is None:
        raise ValueError(f"the sweep began from init={began} in another process: pass that function, init=...")
    takes = Init(init, {}).takes
    if label(init) != began:
        raise ValueError(f"the sweep began from init={began}, got {label(init)}: pass that function")
    described = configuration["fixed"] | {name: run[name].item() for name in configuration["axes"]}
    settings = {name: _value(began, name, value, at) for name, value in described.items() if takes(name)}
    start = init(jax.random.key(int(run.seed)), **settings)
    moving, fixed = eqx.partition(start, trainable(start))
    leaves = [
        jnp.asarray(run[name].values[tuple(map(slice, leaf.shape))], leaf.dtype)
        for name, leaf in named_leaves(start).items()
    ]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(moving), leaves), fixed)


def _selected(dataset: "xarray.Dataset", at: dict[str, Any]) -> "xarray.Dataset":
    run = dataset if "slow_time" in at else dataset.isel(slow_time=-1)
    for name, value in at.items():
        if name not in run.dims and name in json.loads(dataset.attrs["configuration"])["fixed"]:
            continue
        if name not in run.dims:
            raise ValueError(f"the dataset has no dimension {name}: choose of {', '.join(map(str, run.status.dims))}")
        there = run[name].values
        is_number = there.dtype != object
        near = (
            np.isclose(there, checks.scalar(name, value), rtol=1e-9, atol=0.0) if is_number else there == label(value)
        )
        if not near.any():
            raise ValueError(
                f"{name} = {checks.shown(value)} is not in the dataset, which has {checks.one_line(there)}"
            )
        run = run.isel({name: int(np.argmax(near))})
    for name in run.status.dims:
        if run.sizes[name] > 1:
            raise ValueError(f"which {name}? got none: pass {name}=..., e.g. {name}={run[name].values[0]!r}")
    return run.isel(dict.fromkeys(run.status.dims, 0))


def _value(began: str, name: str, described: Any, at: dict[str, Any]) -> Any:
    """That `init` was given: what the caller or this process knows it by, or a number, a text or a truth."""
    there = label(described)
    if name in at and label(at[name]) == there:
        return at[name]
    return _known.get((began, name, there), described)
