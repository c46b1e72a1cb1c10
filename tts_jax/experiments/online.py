"""Online learning of teacher and student: the exact ODE beside SGD, and what more neurons are worth."""

import abc
import pathlib
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from diffrax import Tsit5
from jaxtyping import Array, Float, Key

from .. import _checks as checks
from ..activations import Erf
from ..dynamics import SGD, OnlineSGD
from ..dynamics.overlaps import literature_speeds
from ..networks import PerceptronNetwork
from ..overlaps import Overlaps
from ..problems import GaussianRegression
from ..simulate import simulate
from ..solvers import DenseJacobian, Rodas5P
from ..sweeps import run_each
from .at_once import at_once
from .base import AbstractExperiment, Evidence, Finding, Report, Table, number
from .claims import Repeats

TOLERANCE, MAX_STEPS = 1e-7, 2**20
LONG = 2e4
"""Up to this alpha an explicit solver costs less: stability demands steps in proportion to it."""
BOTH, ONE = "both layers", "first layer alone"


class Run(NamedTuple):
    """In the conventions of the literature."""

    error: Float[Array, "*runs t"]
    """Generalisation error, half of the risk."""
    status: Array


class AbstractOnline(AbstractExperiment):
    """Erf units that learn from a teacher of orthogonal directions, in the conventions of Goldt et al. (2019).

    Rates, noise, errors and `alpha`, samples per input, are theirs: `literature_speeds` converts. The teacher has
    weights 1 and orthonormal overlaps T; the student's directions are Gaussian, with Q and R near 1 and 0, and its
    weights N(0, 1/K), or 1 where they are held.
    """

    of_teacher: int = eqx.field(default=2, kw_only=True)
    """Neurons of the teacher."""
    rate: float = eqx.field(default=0.5, kw_only=True)
    """Of the first layer, lr."""
    noise: float = eqx.field(default=0.1, kw_only=True)
    """Standard deviation of the labels' noise."""
    end: float = eqx.field(default=1e5, kw_only=True)
    """The last alpha."""

    def __check_init__(self):
        checks.count("of_teacher", self.of_teacher)
        for name in ("rate", "end"):
            checks.positive(name, getattr(self, name))
        checks.non_negative("noise", self.noise)

    @property
    @abc.abstractmethod
    def alphas(self) -> Float[np.ndarray, " t"]:
        """At which errors are saved."""

    def keys(self, count: int) -> Key[Array, " n"]:
        """Of the starts."""
        return jax.vmap(partial(jax.random.fold_in, jax.random.key(self.seed)))(jnp.arange(count))

    def pair(
        self, key: Key[Array, ""], neurons: int, inputs: int, held: bool = False
    ) -> tuple[PerceptronNetwork, GaussianRegression]:
        """A start, and what is to be learned."""
        of_student, of_teacher = jax.random.split(key)
        start = PerceptronNetwork.init(of_student, neurons, inputs, Erf())
        weights = jnp.ones(neurons) if held else start.weights
        directions, _ = jnp.linalg.qr(jax.random.normal(of_teacher, (inputs, self.of_teacher), float))
        teacher = PerceptronNetwork(jnp.ones(self.of_teacher), directions.T / 2**0.5, Erf())
        return PerceptronNetwork(weights, start.directions / 2**0.5, Erf()), GaussianRegression(teacher, self.noise)

    def exact(
        self, key: Key[Array, ""], neurons: int, inputs: int, ratio: Float[Array, ""] | float, held: bool = False
    ) -> Run:
        """By the ODE from a start, with the outer rate `ratio` times the inner one."""
        student, problem = self.pair(key, neurons, inputs, held)
        return self.solve(Overlaps.of(student, problem.teacher.directions), self.alphas, ratio, held)

    def solve(
        self,
        start: Overlaps,
        alphas: Float[np.ndarray, " t"],
        ratio: Float[Array, ""] | float = 1.0,
        held: bool = False,
    ) -> Run:
        """From overlaps, which the ODE knows alone: the teacher has as many inputs as neurons."""
        teacher = PerceptronNetwork(jnp.ones(self.of_teacher), jnp.eye(self.of_teacher) / 2**0.5, Erf())
        speeds = literature_speeds(self.rate, None if held else self.rate * ratio, self.of_teacher)
        frozen = _weights if held else None
        solver = Rodas5P(DenseJacobian(), autonomous=True) if alphas[-1] > LONG else Tsit5()
        online = OnlineSGD(
            speeds.epsilon, speeds.step_size, frozen, solver, rtol=TOLERANCE, atol=TOLERANCE, max_steps=MAX_STEPS
        )
        times = jnp.asarray(alphas) * speeds.slow_time
        run = simulate(online, start, GaussianRegression(teacher, self.noise), times)
        return Run(run.risk / 2, run.status)


def _weights(model):
    return model.weights


class OnlinePlateau(AbstractOnline):
    """The error of online learning over time, with both layers and with the first alone, as Goldt et al. (2019) have it
    in their Figures 2 and 3: the exact ODE, and SGD in a finite number of inputs.

    SGD of `seeds` streams of samples begins where the ODE does, with as many neurons as the teacher has, and ends at
    `sgd_end`. The ODE of each number of neurons goes on from `starts` starts. Writes

    - `plateau.png`, the errors over time, and the last ones over the number of neurons
    - `plateau.npz`, all errors

    Raises `ValueError` for values that cannot be simulated.
    """

    sizes: tuple[int, ...]
    """Numbers of neurons of the student, increasing."""
    inputs: tuple[int, ...]
    """Of SGD, increasing; the ODE begins as in the last."""
    starts: int
    seeds: int
    sgd_end: float = 100.0
    saves: int = 120

    def __check_init__(self):
        for name in ("sizes", "inputs"):
            values = getattr(self, name)
            for value in values:
                checks.count(name, value)
            if len(values) < 2 or (np.diff(values) <= 0).any():
                raise ValueError(f"{name} must be at least two, and increase, got {values}: pass e.g. (2, 4)")
        if self.inputs[0] < self.of_teacher:
            raise ValueError(
                f"{self.of_teacher} directions that are orthogonal need as many inputs, got {self.inputs[0]}: pass more"
            )
        for name in ("starts", "seeds", "saves"):
            checks.count(name, getattr(self, name))
        checks.positive("sgd_end", self.sgd_end)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "neurons": ", ".join(map(number, self.sizes)),
            "of the teacher": number(self.of_teacher),
            "lr": number(self.rate),
            "noise": number(self.noise),
            "alpha": number(self.end),
            "starts": number(self.starts),
            "of SGD": f"{self.seeds} streams in {', '.join(map(number, self.inputs))} inputs to {number(self.sgd_end)}",
        }

    @property
    def alphas(self) -> Float[np.ndarray, " t"]:
        return np.concatenate([[0.0], np.geomspace(0.1, self.end, self.saves)])

    @property
    def sgd_alphas(self) -> Float[np.ndarray, " t"]:
        return np.geomspace(1.0, self.sgd_end, 10)

    def measure(self, folder: pathlib.Path, report: Report) -> Evidence:
        exact, beside = self._exact(report)
        sgd = self._sgd(report)
        report("drawing", 0, 0)
        self._draw(exact, sgd, folder / "plateau.png")
        np.savez(
            folder / "plateau.npz",
            alpha=self.alphas,
            sgd_alpha=self.sgd_alphas,
            layers=[layers for layers, _ in exact],
            neurons=[size for _, size in exact],
            error=np.stack([run.error for run in exact.values()]),
            inputs=self.inputs,
            sgd_error=np.stack([run.error for run in sgd.values()]),
        )
        return Evidence(
            figures=("plateau.png",),
            findings=self._findings(exact, sgd, beside),
            tables=(self._table(exact),),
            files=("plateau.npz",),
            results=(exact, sgd),
        )

    def _exact(self, report: Report) -> tuple[dict[tuple[str, int], Run], dict[int, np.ndarray]]:
        """Of both layers, and the first alone, with each number of neurons; and the errors beside SGD."""
        arms = [(layers, size) for layers in (BOTH, ONE) for size in self.sizes]
        longest = sorted(arms, key=lambda arm: -arm[1])
        jobs = {arm: partial(self._from_all_starts, *arm) for arm in longest} | {None: self._beside_sgd}
        found = at_once(jobs, partial(report, "ODE"))
        beside = dict(zip(self.inputs, found[None].error, strict=True))
        return {arm: found[arm] for arm in arms}, beside

    def _from_all_starts(self, layers: str, size: int) -> Run:
        solve = partial(self.exact, neurons=size, inputs=self.inputs[-1], ratio=1.0, held=layers == ONE)
        return run_each(solve, self.keys(self.starts), workers=1)

    def _beside_sgd(self) -> Run:
        """From its start in each number of inputs."""
        pairs = map(self._pair_of_sgd, self.inputs)
        starts = [Overlaps.of(student, problem.teacher.directions) for student, problem in pairs]
        together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        return run_each(partial(self.solve, alphas=self.sgd_alphas), together, workers=1)

    def _pair_of_sgd(self, inputs: int) -> tuple[PerceptronNetwork, GaussianRegression]:
        return eqx.filter_jit(self.pair)(self.keys(1)[0], self.of_teacher, inputs)

    def _sgd(self, report: Report) -> dict[int, Run]:
        """With both layers and as many neurons as the teacher, for each number of inputs."""
        draws = jax.random.split(jax.random.key(self.seed + 1), self.seeds)
        found = {}
        for d in self.inputs:
            student, problem = self._pair_of_sgd(d)
            speeds = literature_speeds(self.rate, self.rate, d)
            sgd, times = SGD(speeds.epsilon, speeds.step_size), jnp.asarray(self.sgd_alphas) * speeds.slow_time

            def descend(draw, sgd=sgd, student=student, problem=problem, times=times):
                run = simulate(sgd, student, problem, times, key=draw)
                return Run(run.risk / 2, run.status)

            runs = run_each(descend, draws, progress=partial(report, f"SGD in {d} inputs"))
            found[d] = jax.tree.map(np.asarray, runs)
        return found

    def _findings(
        self, exact: dict[tuple[str, int], Run], sgd: dict[int, Run], beside: dict[int, np.ndarray]
    ) -> tuple[Finding, ...]:
        few, many = self.sizes[0], self.sizes[-1]
        last = {arm: np.where(run.status == 0, run.error[:, -1], np.nan) for arm, run in exact.items()}
        gain, loss = (Repeats.ratios(last[layers, many], last[layers, few]) for layers in (BOTH, ONE))
        narrow, wide = self.inputs[0], self.inputs[-1]
        off = {d: np.sqrt(np.mean(np.log(run.error / beside[d]) ** 2, axis=1)) for d, run in sgd.items()}
        closer, root = Repeats.ratios(off[wide], off[narrow]), (narrow / wide) ** 0.5
        return (
            Finding(
                "SGD comes closer to the ODE the more inputs there are",
                f"mean deviation of the logarithm of the error {number(float(off[narrow].mean()))} in {narrow} inputs, "
                f"{number(float(off[wide].mean()))} in {wide}; median of the ratios {closer.said(1.0)}, and "
                f"{number(root)} were it the inverse root",
                closer.below(1.0),
            ),
            Finding(
                "when both layers learn, more neurons than the teacher's end lower",
                f"last error with {many} neurons over that with {few}: median {gain.said(1.0)}",
                gain.below(1.0),
            ),
            Finding(
                "when the first layer learns alone, they end higher",
                f"last error with {many} neurons over that with {few}: median {loss.said(1.0)}",
                loss.above(1.0),
            ),
        )

    def _table(self, exact: dict[tuple[str, int], Run]) -> Table:
        rows = tuple(
            (
                layers,
                number(size),
                *(number(float(value)) for value in np.percentile(run.error[:, -1], [0, 50, 100])),
                number(int(np.sum(run.status != 0))),
            )
            for (layers, size), run in exact.items()
        )
        title = f"last error, half of the risk, at alpha = {number(self.end)}"
        return Table(("", "neurons", "smallest", "median", "largest", "failed"), rows, title)

    def _draw(self, exact: dict[tuple[str, int], Run], sgd: dict[int, Run], file: pathlib.Path) -> None:
        from ..plot.style import save
        from .online_figures import plateau

        curves = {arm: np.asarray(run.error) for arm, run in exact.items()}
        save(plateau(self.alphas, curves, self.sgd_alphas, np.asarray(sgd[self.inputs[-1]].error), self), file)
