"""What theory says of the flows of a regime atlas, beside what they do."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import diagnostics, theory
from ..activations import SmoothStep
from ..dynamics import TwoTimescaleLimit
from ..networks import ShallowNetwork
from ..simulate import simulate
from ..sweeps import run_each
from ..sweeps.grid import uniform_start
from .base import Finding, Table, Verdict, number
from .claims import Repeats

if TYPE_CHECKING:
    import xarray

    from .regime_atlas import RegimeAtlas

OUTSIDE = 2.0
"""Where neurons lie that fill up smaller networks: they neither act nor move."""
IN_TIME = 10.0
"""Flows are followed to so many times the latest hit time that is predicted."""
MOST = 0.9
"""A forecast that is right of more runs of a seed than this says what happens."""
GOOD, LIMIT = "two neurons in each piece", "success of the limit"
"""The forecasts."""


class Tally(NamedTuple):
    """Runs by what was forecast and what came."""

    right: int
    """Success was forecast, and came."""
    promised: int
    """It was forecast, and did not come."""
    missed: int
    """It came without a forecast."""
    neither: int

    @classmethod
    def of(cls, forecast: "xarray.DataArray", reached: "xarray.DataArray") -> "Tally":
        return cls(*(int((f & r).sum()) for f in (forecast, ~forecast) for r in (reached, ~reached)))

    @property
    def sensitivity(self) -> float:
        """The share of the successes that was forecast."""
        return _share(self.right, self.missed)

    @property
    def specificity(self) -> float:
        """The share of the others that was not."""
        return _share(self.neither, self.promised)

    @property
    def agreement(self) -> float:
        return _share(self.right + self.neither, self.promised + self.missed)


class Explained:
    """The flows of an atlas, `said` as `predict` gives it, and how far they agree.

    Success of a run is that of the atlas: a last risk below ten times the floor. `forecasts` say of each start whether
    it will succeed, from its positions alone: where every piece of the target holds two neurons, or where the
    two-timescale limit from there succeeds.
    """

    def __init__(self, atlas: "RegimeAtlas", flows: "xarray.Dataset", said: "xarray.Dataset"):
        self.atlas, self.flows, self.said = atlas, flows, said
        self.reached = flows.risk.isel(slow_time=-1) < atlas.success
        self.forecasts = {
            GOOD: (flows.neurons_per_piece.isel(epsilon=0) >= 2).all("piece"),
            LIMIT: said.limit_risk < atlas.success,
        }
        self.smallest = int(np.argmin(atlas.epsilons))
        """The place of the smallest ratio."""

    @property
    def reached_at_smallest(self) -> "xarray.DataArray":
        return self.reached.isel(epsilon=self.smallest)

    @property
    def ends_without_success(self) -> "xarray.DataArray":
        """Risks at the smallest ratio, NaN of runs that succeeded or failed."""
        at = self.flows.isel(epsilon=self.smallest, slow_time=-1)
        return at.risk.where(~self.reached_at_smallest & (at.status == 0))

    def tally(self, forecast: str, epsilon: int) -> Tally:
        return Tally.of(self.forecasts[forecast], self.reached.isel(epsilon=epsilon))

    def agreement_of_seeds(self, forecast: str) -> Float[np.ndarray, " seeds"]:
        """The share of the runs of each seed at the smallest ratio of which the forecast is right."""
        right = self.forecasts[forecast] == self.reached_at_smallest
        return right.mean("neurons").transpose("seed").values

    def missing_a_jump(self, neurons: int) -> float:
        """The least risk without one of the jumps that so many neurons could draw."""
        drawn = min(neurons, len(self.atlas.jumps))
        return theory.smallest_risk(self.atlas.problem, max(1, drawn - 1))

    @property
    def hit_ratios(self) -> Float[np.ndarray, "epsilon starts jumps"]:
        """Measured over predicted hit times, of the starts that have a prediction; 0 where a neuron holds the jump from
        the beginning."""
        known = np.isfinite(self.said.predicted.values)
        starts, jumps = known.any(axis=1), known.any(axis=0)
        return (
            (self.said.measured / self.said.predicted)
            .transpose("hit_epsilon", "seed", "jump")
            .values[:, starts][:, :, jumps]
        )

    def findings(self) -> tuple[Finding, ...]:
        epsilon = number(self.atlas.epsilons[self.smallest])
        agreement = {name: Repeats(self.agreement_of_seeds(name)) for name in self.forecasts}
        gain = Repeats(agreement[LIMIT].values - agreement[GOOD].values)
        overall = {name: self.tally(name, self.smallest).agreement for name in self.forecasts}
        return (
            Finding(
                "at small ε the two-timescale limit from the same start says of more than 9 in 10 whether they succeed",
                f"right of {overall[LIMIT]:.3f} of the runs at ε = {epsilon}; of those of one seed, median "
                f"{agreement[LIMIT].said(MOST)}",
                agreement[LIMIT].above(MOST),
            ),
            Finding(
                "it says more than whether each piece holds two neurons does",
                f"that is right of {overall[GOOD]:.3f}; median of what each seed gains {gain.said(0.0)}",
                gain.above(0.0),
            ),
            self._of_ends(epsilon),
            self._of_hits(),
        )

    def _of_ends(self, epsilon: str) -> Finding:
        """Neurons of finite width may gain about a floor on sharp ones."""
        ends = self.ends_without_success
        least = np.array([self.missing_a_jump(size) for size in self.atlas.sizes])
        over = (ends + self.atlas.floor).transpose("neurons", "seed").values / least[:, None]
        known = over[np.isfinite(over)]
        said = f"of {known.size} runs at ε = {epsilon}" if known.size else f"no such run at ε = {epsilon}"
        if known.size:
            said = f"{int(np.sum(known >= 1))} {said}; the lowest ends at {float(ends.min()):.4g}"
        return Finding(
            "at small ε what does not succeed ends where a jump is missed: up to a floor, not below the least risk "
            "without one",
            said,
            Verdict.of(known.size > 0 and bool((known >= 1).all()), bool((known < 1).any())),
        )

    def _of_hits(self) -> Finding:
        claim = "the smaller ε, the nearer come the flow's hit times to those of the closed form"
        ratios, epsilons = self.hit_ratios, self.atlas.hit_epsilons
        if not ratios.size:
            return Finding(claim, "no start has a closed form", Verdict.UNDECIDED)
        order = np.argsort(epsilons)
        errors = np.apply_along_axis(_error, 2, ratios)
        gain = Repeats.ratios(errors[order[0]], errors[order[-1]])
        medians = ", ".join(f"{np.median(ratios[k][ratios[k] != 0]):.3f} at ε = {number(epsilons[k])}" for k in order)
        return Finding(
            claim,
            f"of {ratios.shape[1]} starts, median of measured over predicted {medians}; the error of a start at the "
            f"smallest ε over that at the largest, median {gain.said(1.0)}",
            gain.below(1.0),
        )

    def tables(self) -> tuple[Table, ...]:
        epsilon = number(self.atlas.epsilons[self.smallest])
        return self._of_forecasts(epsilon), self._of_sizes(epsilon), self._of_hit_times()

    def _of_forecasts(self, epsilon: str) -> Table:
        rows = []
        for name in self.forecasts:
            tally = self.tally(name, self.smallest)
            shares = (f"{share:.3f}" for share in (tally.sensitivity, tally.specificity, tally.agreement))
            rows.append((name, *map(number, tally), *shares))
        heading = (
            *("forecast", "forecast and succeeds", "forecast and does not", "not forecast and succeeds", "neither"),
            *("of the successes forecast", "of the others not", "right"),
        )
        return Table(heading, tuple(rows), f"what theory says of each run, at ε = {epsilon}")

    def _of_sizes(self, epsilon: str) -> Table:
        rows = []
        for size in self.atlas.sizes:
            ends = self.ends_without_success.sel(neurons=size).values
            ends, least = ends[np.isfinite(ends)], self.missing_a_jump(size)
            lowest = number(float(ends.min())) if ends.size else ""
            shares = (
                theory.probability_of_good_start(self.atlas.target, size),
                *(float(self.forecasts[name].sel(neurons=size).mean()) for name in self.forecasts),
                float(self.reached_at_smallest.sel(neurons=size).mean()),
            )
            rows.append((number(size), *(f"{share:.3f}" for share in shares), number(ends.size), lowest, number(least)))
        heading = (
            *("neurons", "two in each piece, exact", "drawn", "success of the limit", "of the flow"),
            *("flows without", "lowest of their ends", "least risk without a jump"),
        )
        return Table(heading, tuple(rows), f"shares of starts, at ε = {epsilon}")

    def _of_hit_times(self) -> Table:
        rows = []
        for epsilon, ratios in zip(self.atlas.hit_epsilons, self.hit_ratios, strict=True):
            later = ratios[ratios != 0]
            arrived = later[np.isfinite(later)]
            quartiles = np.percentile(arrived, [25, 50, 75]).tolist() if arrived.size else [float("nan")] * 3
            rows.append((number(epsilon), f"{arrived.size} of {later.size}", *(f"{q:.3f}" for q in quartiles)))
        heading = "ε", "jumps hit", "quartile", "median", "quartile"
        return Table(heading, tuple(rows), f"measured over predicted hit times, {self.atlas.hit_neurons} neurons")


def _error(ratios: Float[np.ndarray, " jumps"]) -> float:
    """Of the hit times of a start, on a log scale."""
    later = ratios[ratios != 0]
    return float(np.median(np.abs(np.log(later)))) if later.size else np.nan


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else float("nan")


def predict(atlas: "RegimeAtlas") -> "xarray.Dataset":
    """From the starts alone: the risk at which the limit ends; and of the starts with `hit_neurons` neurons that have a
    closed form its hit times, beside those that flows have."""
    import xarray

    risk, status = _of_the_limit(atlas)
    starts = _starts(atlas, atlas.hit_neurons)
    predicted = np.stack([np.asarray(theory.hit_times(_network(u, atlas.eta), atlas.problem)) for u in starts])
    measured = _measured(atlas, starts, predicted)
    about = {"units": "slow time"}
    return xarray.Dataset(
        {
            "limit_risk": (("neurons", "seed"), risk, {"long_name": "last risk of the two-timescale limit"}),
            "limit_status": (("neurons", "seed"), status),
            "predicted": (("seed", "jump"), predicted, about | {"long_name": "hit time of the limit"}),
            "measured": (("hit_epsilon", "seed", "jump"), measured, about | {"long_name": "hit time of the flow"}),
        },
        coords={
            "neurons": list(atlas.sizes),
            "seed": np.arange(atlas.seed, atlas.seed + atlas.seeds),
            "hit_epsilon": list(atlas.hit_epsilons),
        },
    )


def _starts(atlas: "RegimeAtlas", size: int) -> Float[np.ndarray, "seeds m"]:
    seeds = np.arange(atlas.seed, atlas.seed + atlas.seeds, dtype=np.uint32)
    drawn = jax.vmap(lambda seed: uniform_start(jax.random.key(seed), size, atlas.eta).positions[:, 0])(seeds)
    return np.asarray(drawn)


def _network(positions: Float[Array | np.ndarray, " m"], eta: float) -> ShallowNetwork:
    return ShallowNetwork(jnp.zeros((len(positions), 1)), positions[:, None], 0.0, SmoothStep(eta))


def _of_the_limit(atlas: "RegimeAtlas") -> tuple[Float[np.ndarray, "sizes seeds"], np.ndarray]:
    """One program for networks of all sizes."""
    most, problem, end = max(atlas.sizes), atlas.problem, jnp.array(atlas.slow_times[-1:])
    filled = [np.pad(_starts(atlas, size), ((0, 0), (0, most - size)), constant_values=OUTSIDE) for size in atlas.sizes]

    def run(positions):
        ended = simulate(TwoTimescaleLimit(), _network(positions, atlas.eta), problem, end)
        return ended.risk[-1], ended.status

    found = run_each(run, jnp.asarray(np.concatenate(filled)))
    risk, status = (np.asarray(each).reshape(len(atlas.sizes), atlas.seeds) for each in found)
    return risk, status


def _measured(
    atlas: "RegimeAtlas", starts: Float[np.ndarray, "seeds m"], predicted: Float[np.ndarray, "seeds jumps"]
) -> Float[np.ndarray, "epsilons seeds jumps"]:
    """NaN for a start without a prediction."""
    epsilons, problem = np.array(atlas.hit_epsilons), atlas.problem
    measured = np.full((len(epsilons), *predicted.shape), np.nan)
    known = np.isfinite(predicted).any(axis=1)
    if not known.any():
        return measured
    end = IN_TIME * predicted[np.isfinite(predicted)].max()

    def run(positions, epsilon):
        return diagnostics.hit_times(atlas.flow(epsilon), _network(positions, atlas.eta), problem, end)

    count = int(known.sum())
    found = run_each(run, jnp.tile(starts[known], (len(epsilons), 1)), jnp.repeat(epsilons, count))
    measured[:, known] = np.asarray(found).reshape(len(epsilons), count, -1)
    return measured
