"""What is minimised: a target with an input law and noise, or finite data."""

from .base import AbstractProblem as AbstractProblem
from .dataset import Dataset as Dataset
from .gaussian import GaussianRegression as GaussianRegression
from .norm_dataset import NormDataset as NormDataset
from .regression import Regression as Regression
from .single_index import SingleIndex as SingleIndex
from .structure import SampleGradient as SampleGradient, SampleLaw as SampleLaw, Structure as Structure
