"""How training moves: one file per dynamics."""

from .base import AbstractDynamics as AbstractDynamics
from .flow import GradientFlow as GradientFlow
from .limit import TwoTimescaleLimit as TwoTimescaleLimit
from .reduced import ReducedFlow as ReducedFlow
from .sgd import SGD as SGD
