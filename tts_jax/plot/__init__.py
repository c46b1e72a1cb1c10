"""Pictures of trajectories and of their errors.

Every function returns a `matplotlib.figure.Figure`, or writes one file: `plt.show()` shows the figures of a script, a
notebook after `%matplotlib inline` what a cell returns, and `figure.savefig("risks.png", dpi=200)` saves one. In a long
loop call `plt.close(figure)`. `ax=` draws into axes of yours. No setting of Matplotlib is changed.

Most take `{label: trajectory}`. A label that names a kind of dynamics (SGD, flow, reduced, limit, diffusion)
gets the colour of that kind, the same in every picture; the colours are those of Okabe and Ito (2008), safe for the
colour-blind. A trajectory that failed says so in the legend.
"""

from .boxes import boxes as boxes
from .sketches import moves as moves, notation as notation
from .spectra import spectra as spectra
from .sweeps import (
    convergence as convergence,
    heat_map as heat_map,
    statuses as statuses,
    sweep as sweep,
)
from .trajectories import animation as animation, functions as functions, risks as risks
