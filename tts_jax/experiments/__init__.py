"""The experiments of the paper, and beyond it, as declarative presets.

>>> from tts_jax import experiments
>>> experiments.preset("two-timescale", profile="paper").steps
175000000

`experiments.preset("two-timescale").run(out="out/two-timescale")` simulates one and writes its figures.
"""

from .base import (
    AbstractExperiment as AbstractExperiment,
    Evidence as Evidence,
    Finding as Finding,
    Outcome as Outcome,
    Report as Report,
    Table as Table,
    Verdict as Verdict,
    number as number,
)
from .comparison import Comparison as Comparison, to_dataset as to_dataset
from .convergence import Convergence as Convergence
from .finite_data import FiniteData as FiniteData
from .is_diffusion import IsDiffusion as IsDiffusion
from .learning_order import LearningOrder as LearningOrder
from .online import OnlinePlateau as OnlinePlateau
from .orders import Orders as Orders
from .presets import PRESETS as PRESETS, preset as preset
from .regime_atlas import RegimeAtlas as RegimeAtlas
from .reproduce import (
    Reproduction as Reproduction,
    every_experiment as every_experiment,
    figures_of_the_paper as figures_of_the_paper,
    reproduce as reproduce,
)
from .sketches import Notation as Notation, ReducedSketch as ReducedSketch
from .speeds_atlas import SpeedsAtlas as SpeedsAtlas
from .summary import Summary as Summary
from .varying import VaryingEpsilon as VaryingEpsilon
