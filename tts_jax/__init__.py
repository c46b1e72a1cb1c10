"""The dynamics of training when layers learn at different speeds.

`simulate(dynamics, model, problem, slow_times)` moves a model on a problem and gives a `Trajectory`.
"""

import importlib
import importlib.metadata
from types import ModuleType
from typing import TYPE_CHECKING

from ._cache import cache as cache
from .activations import Erf as Erf, Heaviside as Heaviside, ReLU as ReLU, SmoothStep as SmoothStep
from .distance import distance as distance
from .dynamics import (
    SGD as SGD,
    GradientFlow as GradientFlow,
    OnlineSGD as OnlineSGD,
    OverlapFlow as OverlapFlow,
    ReducedFlow as ReducedFlow,
    SGDDiffusion as SGDDiffusion,
    TwoTimescaleLimit as TwoTimescaleLimit,
)
from .hermite import Hermite as Hermite
from .networks import (
    PerceptronNetwork as PerceptronNetwork,
    ShallowNetwork as ShallowNetwork,
    SphereNetwork as SphereNetwork,
)
from .overlaps import Overlaps as Overlaps
from .problems import (
    Dataset as Dataset,
    GaussianRegression as GaussianRegression,
    NormDataset as NormDataset,
    Regression as Regression,
    SingleIndex as SingleIndex,
)
from .simulate import simulate as simulate
from .sweeps import load as load, run_each as run_each, sweep as sweep
from .targets import (
    Additive as Additive,
    PiecewiseConstant as PiecewiseConstant,
    PiecewiseLinear as PiecewiseLinear,
    SmoothTarget as SmoothTarget,
    teacher as teacher,
)
from .trajectory import Stats as Stats, Status as Status, Trajectory as Trajectory

if TYPE_CHECKING:
    from . import (
        diagnostics as diagnostics,
        dynamics as dynamics,
        experiments as experiments,
        plot as plot,
        problems as problems,
        solvers as solvers,
        sweeps as sweeps,
        theory as theory,
    )

MODULES = "diagnostics", "dynamics", "experiments", "plot", "problems", "solvers", "sweeps", "theory"
"""Imported when they are first asked for: `plot` brings Matplotlib with it."""

NOUNS = (
    "SGD",
    "Additive",
    "Dataset",
    "Erf",
    "GaussianRegression",
    "GradientFlow",
    "Heaviside",
    "Hermite",
    "NormDataset",
    "OnlineSGD",
    "OverlapFlow",
    "Overlaps",
    "PerceptronNetwork",
    "PiecewiseConstant",
    "PiecewiseLinear",
    "ReLU",
    "ReducedFlow",
    "Regression",
    "SGDDiffusion",
    "ShallowNetwork",
    "SingleIndex",
    "SmoothStep",
    "SmoothTarget",
    "SphereNetwork",
    "Stats",
    "Status",
    "Trajectory",
    "TwoTimescaleLimit",
    "cache",
    "distance",
    "load",
    "run_each",
    "simulate",
    "sweep",
    "teacher",
)
__version__ = importlib.metadata.version("tts-jax")
__all__ = [*NOUNS, *MODULES, "__version__"]


def __getattr__(name: str) -> ModuleType:
    if name in MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
