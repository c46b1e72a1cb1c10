"""Where runs begin."""

import threading
from collections import OrderedDict
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .grid import Chunk, Grid

MOST_BYTES = 2**27
"""Of starts that are remembered."""


class Starts:
    """The starts of chunks, which those of other dynamics and problems share."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.known: OrderedDict[Any, PyTree] = OrderedDict()
        self.bytes = 0
        self.lock = threading.Lock()

    def of(self, chunk: Chunk) -> PyTree:
        """Along a leading axis, padded as the program wants them."""
        key = *((name, id(value)) for name, value in chunk.cell.start.items()), chunk.seeds.start
        with self.lock:
            if key not in self.known:
                self.known[key] = self.grid.starts(chunk.cell, chunk.seeds)
                self.bytes += _bytes(self.known[key])
            self.known.move_to_end(key)
            while self.bytes > MOST_BYTES and len(self.known) > 1:
                self.bytes -= _bytes(self.known.popitem(last=False)[1])
            return self.known[key]


def _bytes(tree: PyTree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if isinstance(leaf, np.ndarray))
