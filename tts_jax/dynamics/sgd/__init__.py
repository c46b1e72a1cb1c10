"""Stochastic gradient descent: stream, step, many lanes, a GPU's kernel, checkpoint."""

from .sgd import SGD as SGD
