"""How training moves: a room, or a file, for each dynamics."""

from .base import AbstractDynamics as AbstractDynamics, Task as Task
from .diffusion import SGDDiffusion as SGDDiffusion
from .flow import GradientFlow as GradientFlow
from .limit import TwoTimescaleLimit as TwoTimescaleLimit
from .overlaps import OnlineSGD as OnlineSGD, OverlapFlow as OverlapFlow
from .reduced import ReducedFlow as ReducedFlow
from .sgd import SGD as SGD
