"""What may be said of a sweep: its dynamics, axes and seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _checks as checks
from ..dynamics import AbstractDynamics
from ..targets import AbstractTarget, Additive


def named(dynamics: Any) -> dict[str, AbstractDynamics]:
    if isinstance(dynamics, Mapping):
        arms = dict(dynamics)
    else:
        dynamics = list(dynamics) if isinstance(dynamics, Sequence) else [dynamics]
        names = [type(arm).__name__ for arm in dynamics]
        arms = {
            name if names.count(name) == 1 else f"{name} {names[:k].count(name) + 1}": arm
            for k, (name, arm) in enumerate(zip(names, dynamics, strict=True))
        }
    if not arms or not all(isinstance(arm, AbstractDynamics) for arm in arms.values()):
        got = ", ".join(map(checks.called, arms.values())) or "none"
        raise ValueError(
            f"a sweep needs at least one dynamics, got {got}: pass e.g. [GradientFlow(1e-3), SGD(1e-3, 1e-3)]"
        )
    return arms


def values_of(name: str, values: Any) -> Any:
    """A tuple where it is an axis, one value where it is not."""
    if name == "target":
        targets = tuple(values) if isinstance(values, Sequence) else (values,)
        if not targets or not all(isinstance(target, AbstractTarget | Additive) for target in targets):
            got = ", ".join(map(checks.called, targets)) or "none"
            raise ValueError(f"axis target must be a target or a list of them, got {got}: pass e.g. PiecewiseConstant")
        return targets if isinstance(values, Sequence) else values
    array = np.asarray(checks.real(name, values))
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"axis {name} must be a number or a non-empty list, got shape {array.shape}")
    if len(set(array.ravel().tolist())) != array.size:
        raise ValueError(f"axis {name} holds a value twice, got {checks.one_line(array)}: leave out repetitions")
    for value in array.ravel().tolist():
        if name == "neurons":
            checks.count(name, value)
        else:
            (checks.non_negative if name == "noise" else checks.positive)(name, value)
    return tuple(array.tolist()) if array.ndim else array.item()


def seeds_of(seeds: Any) -> tuple[int, ...]:
    many = isinstance(seeds, Sequence | np.ndarray) and not isinstance(seeds, str | bytes)
    listed = checks.vector("seeds", seeds).tolist() if many else range(checks.count("seeds", seeds))
    chosen = tuple(checks.count("seeds", seed, at_least=0, below=2**32) for seed in listed)
    if not chosen or len(set(chosen)) != len(chosen) or max(chosen) >= 2**32:
        raise ValueError(f"seeds must be different integers below 2**32, at least one, got {checks.one_line(chosen)}")
    return chosen
