"""tts_jax: the dynamics of training when layers learn at different speeds."""

from . import diagnostics as diagnostics, experiments as experiments, plot as plot, theory as theory
from .activations import Erf as Erf, Heaviside as Heaviside, ReLU as ReLU, SmoothStep as SmoothStep
from .batch import run_each as run_each
from .distance import distance as distance
from .dynamics import (
    SGD as SGD,
    GradientFlow as GradientFlow,
    ReducedFlow as ReducedFlow,
    TwoTimescaleLimit as TwoTimescaleLimit,
)
from .gaussian import GaussianRegression as GaussianRegression
from .networks import PerceptronNetwork as PerceptronNetwork, ShallowNetwork as ShallowNetwork
from .norm_dataset import NormDataset as NormDataset
from .problems import Dataset as Dataset, Regression as Regression
from .simulate import simulate as simulate
from .smooth import SmoothTarget as SmoothTarget, teacher as teacher
from .store import load as load
from .sweep import sweep as sweep
from .targets import Additive as Additive, PiecewiseConstant as PiecewiseConstant, PiecewiseLinear as PiecewiseLinear
from .trajectory import Stats as Stats, Status as Status, Trajectory as Trajectory
