"""What is read off the positions of a sweep on a piecewise constant target."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from ..activations import SmoothStep
from ..networks import ShallowNetwork
from ..problems import AbstractProblem, Regression
from ..targets import PiecewiseConstant
from ..theory import floor

CONVERGED = 2.0
"""A run has converged where its last risk is below so many times the floor."""


def applies(targets: tuple[Any, ...], models: list[PyTree]) -> bool:
    """Whether steps of one dimension learn piecewise constant targets."""
    constant = bool(targets) and all(isinstance(target, PiecewiseConstant) for target in targets)
    return constant and all(
        isinstance(model, ShallowNetwork)
        and model.positions.shape[-1] == 1
        and isinstance(model.activation, SmoothStep)
        for model in models
    )


def arrivals(
    problem: AbstractProblem,
    starts: ShallowNetwork,
    slow_times: Float[np.ndarray, " t"],
    positions: Float[np.ndarray, "runs t m 1"],
    risk: Float[np.ndarray, "runs t"],
) -> dict[str, np.ndarray]:
    """Of runs: their neurons in each piece, when each jump was held first, and whether they converged."""
    assert isinstance(starts.activation, SmoothStep)
    assert isinstance(problem, Regression)
    assert isinstance(problem.target, PiecewiseConstant)
    jumps, eta = np.asarray(problem.target.jumps), np.asarray(starts.activation.eta)
    held = (np.abs(positions - jumps) <= eta[:, None, None, None] / 2).any(axis=2)
    return {
        "neurons_per_piece": piece_counts(np.asarray(starts.positions)[..., 0], jumps),
        "hit_time": np.where(held.any(axis=1), slow_times[held.argmax(axis=1)], np.nan),
        "converged": risk[:, -1] < CONVERGED * float(floor(problem, 1.0)) * eta,
    }


def piece_counts(positions: Float[np.ndarray, "... m"], jumps: Float[np.ndarray, " k"]) -> Int[np.ndarray, "... p"]:
    """How many positions lie in each piece of [0, 1] between two jumps."""
    edges = np.concatenate([[0.0], jumps, [1.0]])
    inside: Bool[np.ndarray, "... m p"] = (positions[..., None] >= edges[:-1]) & (positions[..., None] < edges[1:])
    return inside.sum(-2)
