"""Where the runs of a chunk begin."""

import threading

import equinox as eqx
import jax
import numpy as np

from ..dynamics import AbstractDynamics
from ..networks import ShallowNetwork
from ..problems import AbstractProblem
from .grid import Chunk, Grid


class Starts:
    """The arguments of chunks; the starts of a cell are drawn once for all that share them."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.known: dict[tuple[int, float], ShallowNetwork] = {}
        self.lock = threading.Lock()

    def of(self, chunk: Chunk, lanes: int) -> tuple[AbstractDynamics, AbstractProblem, ShallowNetwork, np.ndarray]:
        """Dynamics, problem, padded starts and seeds; the last lane is repeated where there are fewer."""
        cell = chunk.cell
        with self.lock:
            if (cell.neurons, cell.eta) not in self.known:
                drawn = jax.tree.map(np.asarray, self.grid.starts(cell.neurons, cell.eta))
                self.known[cell.neurons, cell.eta] = drawn
        rows = np.minimum(np.arange(chunk.seeds.start, chunk.seeds.start + lanes), chunk.seeds.stop - 1)
        model = jax.tree.map(lambda leaf: leaf[rows], self.known[cell.neurons, cell.eta])
        extra = [(0, 0), (0, cell.size - cell.neurons), (0, 0)]
        model = eqx.tree_at(
            lambda m: (m.weights, m.positions),
            model,
            (np.pad(model.weights, extra), np.pad(model.positions, extra, constant_values=2 + cell.eta)),
        )
        return cell.dynamics, cell.problem, model, np.asarray(self.grid.seeds, np.uint32)[rows]
