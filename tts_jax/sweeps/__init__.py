"""Many runs: on all cores, and in labelled grids that can be resumed."""

from .each import run_each as run_each
from .network import model as model
from .run import sweep as sweep
from .store import load as load
