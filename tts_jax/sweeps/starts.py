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
AT_ONCE, BYTES_AT_ONCE = 1024, 2**24
"""Runs whose starts are drawn together, at most, and their size."""


class Starts:
    """The starts of chunks, which those of other dynamics and problems share."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.known: OrderedDict[Any, PyTree] = OrderedDict()
        self.bytes = 0
        self.lock = threading.Lock()

    def of(self, chunk: Chunk) -> PyTree:
        """Along a leading axis, padded as the program wants them."""
        of_a_run = max(1, _bytes(self.grid.first(chunk.cell)))
        block = max(1, min(AT_ONCE, BYTES_AT_ONCE // of_a_run) // chunk.size) * chunk.size
        first = chunk.seeds.start // block * block
        key = *((name, id(value)) for name, value in chunk.cell.start.items()), first
        with self.lock:
            if key not in self.known:
                self.known[key] = self.grid.starts(chunk.cell, slice(first, first + block))
                self.bytes += _bytes(self.known[key])
            self.known.move_to_end(key)
            while self.bytes > MOST_BYTES and len(self.known) > 1:
                self.bytes -= _bytes(self.known.popitem(last=False)[1])
            drawn = self.known[key]
        mine = slice(chunk.seeds.start - first, chunk.seeds.stop - first)
        return jax.tree.map(lambda leaf: leaf[mine] if isinstance(leaf, np.ndarray) else leaf, drawn)


def _bytes(tree: PyTree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if isinstance(leaf, np.ndarray | jax.Array))
