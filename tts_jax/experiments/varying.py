"""How small must the ratio be: SGD from many starts for each of several."""

import concurrent.futures
import itertools
import os
import pathlib
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from .. import _checks as checks
from .._workers import workers
from ..activations import SmoothStep
from ..dynamics import SGD
from ..networks import ShallowNetwork
from ..problems import Regression
from ..simulate import simulate
from ..sweeps.grid import sample_key
from ..trajectory import Status
from .base import Evidence, Finding, Report, Table, Verdict, number
from .claims import Repeats
from .staircase import AbstractStaircase

ARMS: dict[str, str | None] = {"exact gradient": None, "box gradient": "box"}
"""The derivative of an activation in SGD: its own, or the box of the published code."""
FACTOR = (0.5, 2.0)
"""Errors of both arms whose ratio lies between are the same picture."""
LANES = 64
"""Starts in one compiled program."""


class VaryingEpsilon(AbstractStaircase):
    """SGD to a fixed slow time for each ratio `epsilon`, from `seeds` starts, with the exact and the box gradient.

    The k-th start is that of the seed `seed + k`. Writes

    - `errors.png`, the final errors as boxes with every run as a dot
    - `errors.nc`, all of them, with their status and the neurons in each piece of the target at the start

    Raises `ValueError` for values that cannot be simulated.
    """

    seeds: int
    """How many starts."""
    epsilons: tuple[float, ...] = (0.01, 0.1, 1.0)
    """The ratios."""
    step_size: float = 1e-5
    """In fast time."""
    slow_time: float = 3.0
    """The end of training, in slow time."""
    neurons: int = 20

    def __check_init__(self):
        for name in ("step_size", "slow_time"):
            checks.positive(name, getattr(self, name))
        for epsilon in self.epsilons:
            checks.positive("epsilons", epsilon)
            self.check_steps(self.slow_time, epsilon, self.step_size)
        checks.count("neurons", self.neurons)
        self.check_seeds("seeds")

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ε": ", ".join(map(number, self.epsilons)),
            "h": number(self.step_size),
            "slow time": number(self.slow_time),
            "steps of SGD": ", ".join(number(self.steps(epsilon)) for epsilon in self.epsilons),
            "repeats": number(self.seeds),
            "neurons": number(self.neurons),
            "η": number(self.eta),
        }

    def steps(self, epsilon: float) -> int:
        return round(self.slow_time / (epsilon * self.step_size))

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        errors, status = self._final_errors(report)
        report("drawing", 0, 0)
        seeds = range(self.seed, self.seed + self.seeds)
        per_piece = np.stack([self.pieces_of(self.start_of(seed, self.neurons)) for seed in seeds])
        two_each = per_piece.min(axis=1) >= 2
        self._draw(errors, two_each, folder)
        self._save(errors, status, per_piece, folder)
        share = f"{two_each.sum()} of {self.seeds} starts hold two neurons in every piece of the target"
        return Evidence(
            figures=("errors.png",),
            findings=self._findings(errors),
            tables=(self._quartiles(errors, status, share),),
            files=("errors.nc",),
            results=errors,
            record={"share_with_two_neurons_in_every_piece": float(two_each.mean())},
        )

    def _final_errors(
        self, report: Report
    ) -> tuple[Float[np.ndarray, "arm epsilon seed"], Int[np.ndarray, "arm epsilon seed"]]:
        """All lanes of both arms, the longest first, on all cores; NaN for a run that failed."""
        shape = (len(ARMS), len(self.epsilons), self.seeds)
        errors, status = np.full(shape, np.nan), np.zeros(shape, int)
        ends = [*range(LANES, self.seeds, LANES), self.seeds]
        jobs = [
            _Job(arm, ratio, slice(first, end), self.steps(epsilon) * (end - first))
            for ratio, epsilon in enumerate(self.epsilons)
            for first, end in zip([0, *ends], ends, strict=False)
            for arm in range(len(ARMS))
        ]
        jobs.sort(key=lambda job: -job.steps)
        done, total = 0, sum(job.steps for job in jobs)
        report("SGD", 0, 0)
        with workers(os.cpu_count() or 1) as pool:
            running = {pool.submit(self._run, job): job for job in jobs}
            for future in concurrent.futures.as_completed(running):
                job = running[future]
                errors[job.arm, job.ratio, job.lanes], status[job.arm, job.ratio, job.lanes] = future.result()
                done += job.steps
                report("SGD", done, total)
        return errors, status

    def _run(self, job: "_Job") -> tuple[Float[Array, " lanes"], Int[Array, " lanes"]]:
        activation = SmoothStep(self.eta, surrogate=list(ARMS.values())[job.arm])
        sgd = SGD(self.epsilons[job.ratio], self.step_size)
        seeds = jnp.arange(self.seed, self.seed + self.seeds, dtype=jnp.uint32)[job.lanes]
        return jax.block_until_ready(
            _train(sgd, activation, self.neurons, self.problem, jnp.array([self.slow_time]), seeds)
        )

    def _draw(self, errors: Float[np.ndarray, "arm epsilon seed"], two_each: np.ndarray, folder: pathlib.Path) -> None:
        from .. import plot
        from ..plot.style import save

        groups = [f"ε = {number(epsilon)}" for epsilon in self.epsilons]
        figure = plot.boxes(
            {arm: dict(zip(groups, of_arm, strict=True)) for arm, of_arm in zip(ARMS, errors, strict=True)},
            label=r"final error $\int_0^1 (f - f^*)^2\,dx$",
            reference=("floor set by η", self.floor),
            filled=("two neurons in every piece", dict.fromkeys(groups, two_each)),
        )
        save(figure, folder / "errors.png")

    def _save(self, errors: np.ndarray, status: np.ndarray, per_piece: np.ndarray, folder: pathlib.Path) -> None:
        import xarray

        names = [member.name.lower() for member in Status]
        xarray.Dataset(
            {
                "error": (("gradient", "epsilon", "seed"), errors, {"long_name": "int_0^1 (f - f*)^2 dx at the end"}),
                "status": (("gradient", "epsilon", "seed"), np.asarray(names)[status]),
                "neurons_per_piece": (("seed", "piece"), per_piece),
            },
            coords={
                "gradient": list(ARMS),
                "epsilon": list(self.epsilons),
                "seed": np.arange(self.seed, self.seed + self.seeds),
            },
        ).to_netcdf(folder / "errors.nc", engine="scipy")

    def _quartiles(self, errors: np.ndarray, status: np.ndarray, title: str) -> Table:
        rows = tuple(
            (
                name,
                number(epsilon),
                number(self.steps(epsilon)),
                *(number(float(quartile)) for quartile in np.nanpercentile(errors[arm, k], [0, 25, 50, 75, 100])),
                number(int(np.sum(status[arm, k] != Status.SUCCESSFUL))),
            )
            for arm, name in enumerate(ARMS)
            for k, epsilon in enumerate(self.epsilons)
        )
        quartiles = ("smallest", "quartile", "median", "quartile", "largest")
        return Table(("", "ε", "steps", *quartiles, "failed"), rows, title)

    def _findings(self, errors: Float[np.ndarray, "arm epsilon seed"]) -> tuple[Finding, ...]:
        order = np.argsort(self.epsilons)
        ratios = [number(self.epsilons[k]) for k in order]
        exact, box = errors[:, order]
        first, last = Repeats(exact[0]), Repeats(exact[-1])
        growth = [Repeats.ratios(larger, smaller) for smaller, larger in itertools.pairwise(exact)]
        surrogate = [Repeats.ratios(*arms) for arms in zip(box, exact, strict=True)]
        bound = f"{number(self.success)}, ten times the floor set by η"
        return (
            Finding(
                "a small ε leads SGD to a global minimum from most starts",
                f"{first.lower(self.success)} of {first.size} errors at ε = {ratios[0]} are below {bound}; median "
                f"{first.said(self.success)}",
                first.below(self.success),
            ),
            Finding(
                "ε = 1 leaves it in a local minimum from most starts",
                f"{last.higher(self.success)} of {last.size} errors at ε = {ratios[-1]} are above {bound}; median "
                f"{last.said(self.success)}",
                last.above(self.success),
            ),
            Finding(
                "the error grows with ε",
                "median of the ratios from the same start "
                + "; ".join(
                    f"{ratio.said(1.0)} from ε = {smaller} to {larger}"
                    for ratio, (smaller, larger) in zip(growth, itertools.pairwise(ratios), strict=True)
                ),
                Verdict.all_of(*(ratio.above(1.0) for ratio in growth)),
            ),
            Finding(
                "the box in place of the derivative, as published, changes the error by less than a factor 2",
                "median of the ratios of box to exact from the same start "
                + "; ".join(
                    f"{ratio.said(*FACTOR)} at ε = {epsilon}" for ratio, epsilon in zip(surrogate, ratios, strict=True)
                ),
                Verdict.all_of(*(ratio.between(*FACTOR) for ratio in surrogate)),
            ),
        )


class _Job(NamedTuple):
    arm: int
    ratio: int
    lanes: slice
    steps: int


@eqx.filter_jit
def _train(
    sgd: SGD,
    activation: SmoothStep,
    neurons: int,
    problem: Regression,
    slow_times: Float[Array, " t"],
    seeds: UInt[Array, " lanes"],
) -> tuple[Float[Array, " lanes"], Int[Array, " lanes"]]:
    def final(seed):
        key = jax.random.key(seed)
        start = ShallowNetwork.init(key, neurons, activation)
        trajectory = simulate(sgd, start, problem, slow_times, key=sample_key(key))
        return trajectory.risk[-1], trajectory.status

    return jax.vmap(final)(seeds)
