"""How the ratio of the two rates moves the plateau of online learning, and its end."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .. import _checks as checks
from ..sweeps import run_each
from .base import Evidence, Finding, Report, Table, Verdict, number
from .claims import Repeats
from .online import AbstractOnline


class SpeedsAtlas(AbstractOnline):
    """The length of the plateau and the last error of online learning, for each ratio of the rates, lr2 / lr, and each
    number of neurons: the exact ODE from `starts` starts.

    The plateau ends at the first alpha at which the error is below half of `unspecialised`. Writes

    - `atlas.png`, medians over the starts
    - `atlas.npz`, all errors, plateaus and statuses

    Raises `ValueError` for values that cannot be simulated.
    """

    ratios: tuple[float, ...]
    """lr2 / lr, increasing."""
    sizes: tuple[int, ...]
    """Numbers of neurons of the student."""
    starts: int
    inputs: int = 500
    """That a start is drawn in."""
    saves: int = 200

    def __check_init__(self):
        for value in self.ratios:
            checks.positive("ratios", value)
        if len(self.ratios) < 2 or (np.diff(self.ratios) <= 0).any():
            raise ValueError(f"ratios must be at least two, and increase, got {self.ratios}: pass e.g. (0.1, 1.0)")
        for size in self.sizes:
            checks.count("sizes", size)
        if max(self.sizes) <= self.of_teacher:
            raise ValueError(f"one of sizes must be above the teacher's {self.of_teacher}, got {self.sizes}")
        for name in ("starts", "saves"):
            checks.count(name, getattr(self, name))
        checks.count("inputs", self.inputs, at_least=self.of_teacher)
        checks.count("of_teacher", self.of_teacher, at_least=2)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "lr2 / lr": f"{len(self.ratios)} from {number(self.ratios[0])} to {number(self.ratios[-1])}",
            "neurons": ", ".join(map(number, self.sizes)),
            "of the teacher": number(self.of_teacher),
            "starts": number(self.starts),
            "lr": number(self.rate),
            "noise": number(self.noise),
            "alpha": number(self.end),
        }

    @property
    def unspecialised(self) -> float:
        r"""The smallest error of a student whose neurons see the mean of the M fields of the teacher alone, so that
        none is nearer to one than to another: $M/6 - \frac{M^2}{\pi} \arcsin \frac{1}{2M}$.

        That is half of the variance that the teacher keeps where this mean is known."""
        m = self.of_teacher
        return float(m / 6 - m**2 / np.pi * np.arcsin(1 / (2 * m)))

    @property
    def alphas(self) -> Float[np.ndarray, " t"]:
        return np.concatenate([[0.0], np.geomspace(1.0, self.end, self.saves)])

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        keys, ratios = self.keys(self.starts), jnp.asarray(self.ratios)
        pairs = jnp.repeat(ratios, self.starts), jnp.tile(keys, len(ratios))
        runs = []
        for size in self.sizes:
            solve = partial(self.exact, neurons=size, inputs=self.inputs)
            found = run_each(
                lambda ratio, key, solve=solve: solve(key, ratio=ratio),
                *pairs,
                progress=partial(report, f"ODE, {size} neurons"),
            )
            runs.append(
                jax.tree.map(lambda leaf: np.asarray(leaf).reshape(len(ratios), self.starts, *leaf.shape[1:]), found)
            )
        report("drawing", 0, 0)
        error, status = (np.stack(leaves, axis=1) for leaves in zip(*runs, strict=True))
        last = np.where(status == 0, error[..., -1], np.nan)
        plateau = self._plateau(error)
        self._draw(plateau, last, folder / "atlas.png")
        np.savez(folder / "atlas.npz", alpha=self.alphas, error=error, status=status, plateau=plateau)
        return Evidence(
            figures=("atlas.png",),
            findings=self._findings(plateau, last),
            tables=(
                self._table("median length of the plateau", plateau),
                self._table(f"median error, half of the risk, at alpha = {number(self.end)}", last),
            ),
            files=("atlas.npz",),
            results=(plateau, last),
            record={"runs": status.size, "failed": int(np.sum(status != 0))},
        )

    def _plateau(self, error: Float[np.ndarray, "ratios sizes starts t"]) -> Float[np.ndarray, "ratios sizes starts"]:
        """Infinite where it does not end."""
        below = error < self.unspecialised / 2
        return np.where(below.any(axis=-1), self.alphas[below.argmax(axis=-1)], np.inf)

    def _findings(self, plateau: np.ndarray, last: np.ndarray) -> tuple[Finding, ...]:
        slow, middle, fast = plateau[0], plateau[len(self.ratios) // 2], plateau[-1]
        sooner = [Repeats(np.exp(np.mean(_log_ratio(middle, other), axis=0))) for other in (slow, fast)]
        more = np.array(self.sizes) > self.of_teacher
        higher = Repeats(np.exp(np.mean(_log_ratio(last[-1, more], last[0, more]), axis=0)))
        at = [f"lr2 / lr = {number(self.ratios[k])}" for k in (0, len(self.ratios) // 2, -1)]
        return (
            Finding(
                "a ratio of the rates between the extremes leaves the plateau soonest",
                f"its length at {at[1]} over that at {at[0]}, mean over the numbers of neurons: median "
                f"{sooner[0].said(1.0)}; over that at {at[2]}: {sooner[1].said(1.0)}",
                Verdict.all_of(*(each.below(1.0) for each in sooner)),
            ),
            Finding(
                "with more neurons than the teacher's, a faster outer layer has a higher last error",
                f"that at {at[2]} over that at {at[0]}, mean over the numbers of neurons: median {higher.said(1.0)}",
                higher.above(1.0),
            ),
        )

    def _table(self, title: str, values: np.ndarray) -> Table:
        rows = tuple(
            (number(ratio), *(number(float(value)) for value in row))
            for ratio, row in zip(self.ratios, np.median(values, axis=-1), strict=True)
        )
        return Table(("lr2 / lr", *(f"{size} neurons" for size in self.sizes)), rows, title)

    def _draw(self, plateau: np.ndarray, last: np.ndarray, file: pathlib.Path) -> None:
        from ..plot.style import save
        from .online_figures import atlas

        maps = {
            "end of the plateau, alpha": np.median(plateau, axis=-1),
            f"error at alpha = {number(self.end)}, in 1e-4": np.median(last, axis=-1),
        }
        save(atlas(maps, self), file)


def _log_ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """NaN where both are infinite."""
    with np.errstate(invalid="ignore"):
        return np.log(one) - np.log(other)
