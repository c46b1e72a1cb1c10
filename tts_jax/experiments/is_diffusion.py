"""Is SGD a diffusion? SVAG from SGD to its stochastic differential equation, and that equation itself."""

import concurrent.futures
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
from ..dynamics import SGD, AbstractDynamics, SGDDiffusion
from ..networks import ShallowNetwork
from ..problems import Regression
from ..simulate import simulate
from ..sweeps.grid import sample_key
from ..trajectory import Status
from .base import Evidence, Finding, Report, Table, Verdict, number
from .claims import Repeats
from .staircase import AbstractStaircase

ALIKE = (0.95, 1.05)
"""Errors whose ratio lies between are the same: to 5 %."""


class Case(NamedTuple):
    epsilon: float
    step_size: float
    slow_time: float
    """The end of training."""

    @property
    def label(self) -> str:
        return f"ε = {number(self.epsilon)}, h = {number(self.step_size)}".replace("e-0", "e-")


class IsDiffusion(AbstractStaircase):
    """SGD, SVAG with some l, and `SGDDiffusion` from the same `seeds` starts, each with its own stream,
    at some pairs of `epsilon` and `step_size`. SGD is as well described by the diffusion as it agrees with SVAG, whose
    limit that is (Li, Malladi and Arora, 2021). Their errors are averaged over the second half of training. Writes

    - `diffusion.png`: for each pair the errors against time, and their ratios to those of the diffusion
    - `errors.nc`, all errors, with the status of each run

    Raises `ValueError` for values that cannot be simulated.
    """

    epsilons: tuple[float, ...]
    step_sizes: tuple[float, ...]
    """One for each of `epsilons`."""
    slow_times: tuple[float, ...]
    """The end of training in slow time, for each of them."""
    seeds: int
    """How many starts."""
    amplifications: tuple[int, ...] = (1, 2, 4, 8, 16)
    """The l of SVAG: 1, which is SGD, and larger ones."""
    substeps: int = 4
    """Of the solver of the diffusion, for each step of SGD."""
    saves: int = 50
    neurons: int = 20

    def __check_init__(self):
        sizes = [len(values) for values in (self.epsilons, self.step_sizes, self.slow_times)]
        if len(set(sizes)) > 1 or not sizes[0]:
            raise ValueError(f"epsilons, step_sizes and slow_times must be as many, got {sizes}: give each pair an end")
        if self.amplifications[:1] != (1,) or list(self.amplifications) != sorted({*self.amplifications}):
            raise ValueError(f"amplifications must increase from 1, got {self.amplifications}: pass e.g. (1, 4, 16)")
        for case in self.cases:
            for name, value in zip(("epsilons", "step_sizes", "slow_times"), case, strict=True):
                checks.positive(name, value)
            self.check_steps(case.slow_time, case.epsilon, case.step_size / self.amplifications[-1])
        checks.power_of_2("substeps", self.substeps)
        checks.count("saves", self.saves)
        checks.count("neurons", self.neurons)
        self.check_seeds("seeds")

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(map(Case, self.epsilons, self.step_sizes, self.slow_times))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ε": ", ".join(map(number, self.epsilons)),
            "h": ", ".join(map(number, self.step_sizes)),
            "slow time": ", ".join(map(number, self.slow_times)),
            "steps of SGD": ", ".join(number(self.steps(case)) for case in self.cases),
            "starts": number(self.seeds),
            "steps of the solver for one of SGD": number(self.substeps),
            "neurons": number(self.neurons),
            "η": number(self.eta),
        }

    @property
    def arms(self) -> tuple[str, ...]:
        """What is compared, by name."""
        return *("SGD" if size == 1 else f"SVAG, l = {size}" for size in self.amplifications), "diffusion"

    def steps(self, case: Case) -> int:
        return round(case.slow_time / (case.epsilon * case.step_size))

    def times(self, case: Case) -> Float[np.ndarray, " t"]:
        """In slow time, after the start."""
        return case.slow_time * np.arange(1, self.saves + 1) / self.saves

    def dynamics(self, case: Case) -> tuple[AbstractDynamics, ...]:
        """Of each arm."""
        svag = (SGD(case.epsilon, case.step_size, svag=size) for size in self.amplifications)
        return *svag, SGDDiffusion(case.epsilon, case.step_size, substeps=self.substeps)

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        from ..plot.style import save
        from .is_diffusion_figure import comparison

        errors, status = self._errors(report)
        report("drawing", 0, 0)
        ratios = self.ratios(errors)
        save(comparison(self, errors, ratios), folder / "diffusion.png")
        self._save(errors, status, folder)
        return Evidence(
            figures=("diffusion.png",),
            findings=self._findings(ratios),
            tables=(self._table(errors, status, ratios),),
            files=("errors.nc",),
            results=errors,
        )

    def _errors(self, report: Report) -> tuple[Float[np.ndarray, "case arm seed t"], Int[np.ndarray, "case arm seed"]]:
        """On all cores, those that take longest first; NaN for a run that failed."""
        shape = (len(self.cases), len(self.arms), self.seeds)
        errors, status = np.full((*shape, self.saves), np.nan), np.zeros(shape, int)
        jobs = []
        for k, case in enumerate(self.cases):
            *svag, diffusion = self.dynamics(case)
            jobs += [(k, len(svag), slice(seed, seed + 1), diffusion) for seed in range(self.seeds)]
            jobs += [(k, arm, slice(0, self.seeds), dynamics) for arm, dynamics in enumerate(svag)]
        done, total = 0, len(self.cases) * len(self.arms) * self.seeds
        report("runs", 0, 0)
        with workers(os.cpu_count() or 1) as pool:
            running = {pool.submit(self._run, *job): job for job in jobs}
            for future in concurrent.futures.as_completed(running):
                k, arm, lanes, _ = running[future]
                errors[k, arm, lanes], status[k, arm, lanes] = future.result()
                done += len(range(self.seeds)[lanes])
                report("runs", done, total)
        errors[status != Status.SUCCESSFUL] = np.nan
        return errors, status

    def _run(
        self, case: int, arm: int, lanes: slice, dynamics: AbstractDynamics
    ) -> tuple[Float[Array, "lanes t"], Int[Array, " lanes"]]:
        """Each arm with a stream of its own."""
        seeds = jnp.arange(self.seed, self.seed + self.seeds, dtype=jnp.uint32)[lanes]
        times = jnp.asarray(self.times(self.cases[case]))
        arguments = dynamics, SmoothStep(self.eta), self.neurons, self.problem, times, seeds, jnp.asarray(arm)
        return jax.block_until_ready(_train(*arguments))

    def ratios(self, errors: Float[np.ndarray, "case arm seed t"]) -> list[list[Repeats]]:
        """For each case and each amplification: of its error to that of the diffusion from the same start."""
        return [[Repeats.ratios(svag, diffusion) for svag in case] for *case, diffusion in self.averages(errors)]

    def averages(self, errors: Float[np.ndarray, "case arm seed t"]) -> Float[np.ndarray, "case arm seed"]:
        """Over the second half of training."""
        return errors[..., self.saves // 2 :].mean(axis=-1)

    def _findings(self, ratios: list[list[Repeats]]) -> tuple[Finding, ...]:
        said = "median of the ratios from the same start"
        of_sgd = tuple(
            Finding(
                f"at {case.label} SGD is a diffusion: its error is that of its diffusion, to 5 %",
                f"{said} {ratio.said(*ALIKE)}",
                ratio.between(*ALIKE),
            )
            for case, (ratio, *_) in zip(self.cases, ratios, strict=True)
        )
        last = [of_case[-1] for of_case in ratios]
        of_svag = Finding(
            f"everywhere SVAG with l = {self.amplifications[-1]} has the error of the diffusion, to 5 %",
            f"{said} "
            + "; ".join(f"{r.said(*ALIKE)} at {case.label}" for r, case in zip(last, self.cases, strict=True)),
            Verdict.all_of(*(ratio.between(*ALIKE) for ratio in last)),
        )
        return *of_sgd, of_svag

    def _table(
        self,
        errors: Float[np.ndarray, "case arm seed t"],
        status: Int[np.ndarray, "case arm seed"],
        ratios: list[list[Repeats]],
    ) -> Table:
        rows, averages = [], self.averages(errors)
        for k, case in enumerate(self.cases):
            for arm, name in enumerate(self.arms):
                quartiles = map(number, np.nanpercentile(averages[k, arm], [25, 50, 75]).tolist())
                ratio = "" if arm == len(self.amplifications) else number(ratios[k][arm].median)
                failed = number(int(np.sum(status[k, arm] != Status.SUCCESSFUL)))
                rows.append((case.label, name, *quartiles, ratio, failed))
        heading = "", "", "quartile", "median error", "quartile", "median ratio to the diffusion", "failed"
        return Table(heading, tuple(rows))

    def _save(self, errors: np.ndarray, status: np.ndarray, folder: pathlib.Path) -> None:
        import xarray

        names = [member.name.lower() for member in Status]
        per_case = {"epsilon": self.epsilons, "step_size": self.step_sizes}
        xarray.Dataset(
            {
                "error": (("case", "arm", "seed", "save"), errors, {"long_name": "int_0^1 (f - f*)^2 dx"}),
                "status": (("case", "arm", "seed"), np.asarray(names)[status]),
                "slow_time": (("case", "save"), np.stack([self.times(case) for case in self.cases])),
                **{name: ("case", list(values)) for name, values in per_case.items()},
            },
            coords={"arm": list(self.arms), "seed": np.arange(self.seed, self.seed + self.seeds)},
        ).to_netcdf(folder / "errors.nc", engine="scipy")


@eqx.filter_jit
def _train(
    dynamics: AbstractDynamics,
    activation: SmoothStep,
    neurons: int,
    problem: Regression,
    slow_times: Float[Array, " t"],
    seeds: UInt[Array, " lanes"],
    stream: Int[Array, ""],
) -> tuple[Float[Array, "lanes t"], Int[Array, " lanes"]]:
    def one(seed):
        key = jax.random.key(seed)
        start = ShallowNetwork.init(key, neurons, activation)
        own = jax.random.fold_in(sample_key(key), stream)
        trajectory = simulate(dynamics, start, problem, slow_times, key=own)
        return trajectory.risk, trajectory.status

    return jax.vmap(one)(seeds)
