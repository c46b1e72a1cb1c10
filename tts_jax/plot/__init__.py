"""Pictures of trajectories and of their errors.

Every function returns a new `matplotlib.figure.Figure`, or writes one file, and touches no global state of Matplotlib:
save a figure by `figure.savefig("risks.png", dpi=200)`; a notebook shows it after `%matplotlib inline`.

Most take `{label: trajectory}`. A label that names a kind of dynamics (SGD, flow, reduced, limit, diffusion)
gets the colour of that kind, the same in every picture; the colours are those of Okabe and Ito (2008), safe for the
colour-blind. A trajectory that failed says so in the legend.
"""

from .boxes import boxes as boxes
from .sketches import moves as moves, notation as notation
from .trajectories import animation as animation, functions as functions, risks as risks
