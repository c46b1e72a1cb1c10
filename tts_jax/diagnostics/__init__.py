"""What can be read off a run, or asked of it."""

from .arrivals import hit_times as hit_times
from .convergence import Order as Order, order as order
from .manifold import distance_to_slow_manifold as distance_to_slow_manifold
from .speeds import Stiffness as Stiffness, spectrum as spectrum, stiffness as stiffness
