"""The experiments of the paper, as declarative presets.

>>> from tts_jax import experiments
>>> experiments.preset("two-timescale", profile="paper").steps
175000000

`experiments.run(experiments.preset("two-timescale"), out="out/two-timescale")` simulates one and writes its figures.
"""

from .comparison import Comparison as Comparison
from .presets import PRESETS as PRESETS, preset as preset
from .run import Outcome as Outcome, Report as Report, run as run, to_dataset as to_dataset
from .summary import Summary as Summary
