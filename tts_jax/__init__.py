"""tts_jax: the dynamics of training when layers learn at different speeds."""

from .activations import Heaviside as Heaviside, SmoothStep as SmoothStep
from .distance import distance as distance
from .dynamics import (
    SGD as SGD,
    GradientFlow as GradientFlow,
    ReducedFlow as ReducedFlow,
    TwoTimescaleLimit as TwoTimescaleLimit,
)
from .networks import ShallowNetwork as ShallowNetwork
from .problems import Dataset as Dataset, Regression as Regression
from .simulate import simulate as simulate
from .store import load as load
from .targets import PiecewiseConstant as PiecewiseConstant
from .trajectory import Stats as Stats, Status as Status, Trajectory as Trajectory
