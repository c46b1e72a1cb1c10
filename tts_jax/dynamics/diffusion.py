"""SGD as a diffusion."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree, Real
from typing_extensions import override

from .. import _checks as checks
from ..problems import AbstractProblem, SampleLaw, Structure
from ..trajectory import Stats, Status, Trajectory, is_finite, risk_and_status
from .base import AbstractDynamics, Epsilon, Groups, Pick, Task, checked_speeds, ratios_of, two_timescale
from .integration import AbstractGivenSteps
from .sgd import stretches
from .sgd.clock import Clock, count
from .sgd.descent import AbstractSteps, Adjoint, checked_adjoint, repeat


class SGDDiffusion(AbstractDynamics):
    r"""The stochastic differential equation that models SGD, in fast time t, in the sense of Itô.

    $$d\theta = -M\,\nabla R(\theta)\,dt + \sqrt{h/B}\; M\,\Sigma(\theta)^{1/2}\,dW, \qquad
      M = \operatorname{diag}(1, \epsilon)$$

    with $\Sigma$ the covariance of the gradient of the loss of one sample, h = `step_size` and B = `batch_size`. Its
    weak error as a model of `SGD(epsilon, step_size, batch_size)` is O(h): means and covariances differ by that much
    at a fixed time. It knows of a gradient nothing but its mean and its covariance.

    No root of a matrix is taken. For a `Regression` of one input both are sums over the nodes $x_q$ and weights $w_q$
    of a rule that is exact at the present positions, with two labels $y_q = f^*(x_q) \pm \text{noise}/\sqrt3$ for each
    (their variance is that of the label noise, and nothing else of it matters); for a `Dataset`, whose rows SGD draws
    with replacement, over its rows, under any loss and for any model. With $g_q$ the gradient at one of them,

    $$\Sigma^{1/2}\,dW = \sum_q \sqrt{w_q}\,\Big(g_q - \sum_k w_k g_k\Big)\,dW_q ,$$

    which is the gradient of a randomly weighted loss: a step costs two passes over nodes or rows.

    **Arguments:**

    - `epsilon`, `step_size`, `batch_size`: those of the SGD that is modelled
    - `slow`, `frozen`: which leaves are slow, and which do not move, as of `SGD`
    - `substeps`: steps of the solver for each step of SGD, a power of 2
    - `adjoint`: how derivatives are taken: `diffrax.RecursiveCheckpointAdjoint()` (the default, for reverse mode) or
      `diffrax.ForwardMode()`

    `diffrax.Euler` (Euler and Maruyama; weak order 1, the highest that Diffrax has for the Itô sense and noise of this
    kind) takes `substeps` steps for each step of SGD. Its weak error is O(h / `substeps`), a fraction of what SGD
    itself differs by; it is stable where `step_size / substeps` times the largest eigenvalue of $M \nabla^2 R$ is below
    2, so wherever the mean of SGD is. The motion within step p is drawn from `jax.random.fold_in(key, p)` by halving
    (Lévy's construction): it depends on the key and the step number alone, and more `substeps` follow the same path
    more closely.

    Clocks, save times and `checkpoint` are as of `SGD`: step p has fast time $t = hp$ and slow time
    $\tau = \epsilon h p$, a save time is rounded to the nearest step, and a run that goes on with the same key does so
    bit for bit. `stats.steps` counts the steps of the solver.

    Derivatives are those of the computed steps at a given path. Where two kinks of the network and the target meet, a
    weight $w_q$ vanishes and its root has no derivative: derivatives of a single path are large there. In 32-bit an
    update of less than 1e-7 of a position near 1 is lost: use 64-bit for a small `epsilon * step_size`.

    >>> import jax, tts_jax as tts
    >>> problem = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]), noise=0.1)
    >>> model = tts.ShallowNetwork.init(jax.random.key(0), 3, tts.SmoothStep(0.2))
    >>> run = tts.simulate(tts.SGDDiffusion(0.1, 0.01), model, problem, [0.0, 0.01, 0.02], key=jax.random.key(1))
    >>> run.step.tolist()
    [0, 10, 20]

    Raises `ValueError` for an `epsilon` or `step_size` that is not positive or does not fit `slow`, for `substeps` that
    are no power of 2, and in `simulate` where there is no `key`, for `samples`, and for a problem whose covariance is
    not known: one of several inputs, or with a `noise_law`, a `NormDataset` or a `GaussianRegression`.

    Source: Li, Tai and E (2017), arXiv 1511.06251.
    """

    shards = True
    resumable = True
    stochastic = True

    epsilon: Epsilon
    step_size: Float[Array, ""]
    batch_size: int = eqx.field(static=True)
    slow: Pick | tuple[Pick, ...] | None = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    adjoint: Adjoint
    frozen: Pick | None = eqx.field(static=True)

    def __init__(
        self,
        epsilon: Real[ArrayLike, ""] | tuple[Real[ArrayLike, ""], ...],
        step_size: Real[ArrayLike, ""],
        batch_size: int = 1,
        slow: Pick | tuple[Pick, ...] | None = None,
        substeps: int = 4,
        adjoint: diffrax.AbstractAdjoint | None = None,
        frozen: Pick | None = None,
    ):
        self.epsilon, self.slow = checked_speeds(epsilon, slow)
        self.step_size = checks.as_float(checks.positive("step_size", step_size))
        self.batch_size = checks.count("batch_size", batch_size)
        self.substeps = checks.power_of_2("substeps", substeps)
        self.frozen = checks.picks_leaves("frozen", frozen)
        self.adjoint = checked_adjoint("SGDDiffusion", adjoint)

    @override
    def steps(self, slow_times: Float[np.ndarray, " t"]) -> int:
        return count(self.epsilon, self.step_size, slow_times)

    @override
    def side_by_side(self, model: PyTree, problem: AbstractProblem) -> bool:
        return True

    @override
    def run(self, task: Task) -> Trajectory:
        if task.samples is not None:
            raise ValueError("SGDDiffusion follows a Brownian path, got samples=(x, y): leave them out, or use SGD")
        assert task.key is not None, "`simulate` has refused that"
        groups = Groups.of(task.model, self.slow, self.frozen)
        structure = groups.knows(task.problem.structure(task.model))
        if structure.sample_law is None:
            raise ValueError(
                "SGDDiffusion needs the covariance of the gradient of a sample, which is not known, got "
                f"{type(task.problem).__name__}: {structure.unknown_law}"
            )
        clock = Clock.of(self.epsilon, self.step_size, task)
        descent = Diffusion(
            epsilons=ratios_of(self.epsilon),
            step_size=self.step_size,
            batch_size=self.batch_size,
            substeps=self.substeps,
            adjoint=self.adjoint,
            problem=task.problem,
            structure=structure,
            key=task.key,
            fixed=groups.fixed,
            labels=groups.labels,
        )
        saved, end = stretches.run(descent, State(groups.moving), clock.first, clock.steps, task)
        stacked = groups.over_time(saved)
        status = jnp.where(is_finite(end.params), Status.SUCCESSFUL, Status.DIVERGED)
        risk, status = risk_and_status(task.problem, task.model, stacked, status)
        return Trajectory(
            slow_time=task.slow_times,
            fast_time=clock.fast_time,
            step=clock.steps,
            model=stacked,
            risk=risk,
            status=status,
            stats=Stats(
                "Euler-Maruyama",
                steps=self.substeps * (clock.steps[-1] - clock.first),
                rejected=jnp.zeros_like(clock.first),
            ),
        )


class State(eqx.Module):
    params: PyTree


class Diffusion(AbstractSteps):
    """The equation in units of steps of SGD, in which drift and noise both have the step size as a factor."""

    epsilons: tuple[Float[Array, ""], ...]
    step_size: Float[Array, ""]
    batch_size: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    adjoint: Adjoint
    problem: AbstractProblem
    structure: Structure
    key: Key[Array, ""]
    fixed: PyTree
    labels: PyTree[int]

    @property
    @override
    def length(self) -> int:
        return 1

    @override
    def samples(self, params: PyTree) -> int:
        return self.substeps * jax.eval_shape(self.law, params).weights.size

    @override
    def advance(self, state: State, first: Int[Array, ""], last: Int[Array, ""]) -> State:
        def goes_on(carry):
            p, state = carry
            return (p < last) & is_finite(state.params)

        def one(carry):
            p, state = carry
            return p + 1, State(self.step(p, state.params))

        return repeat(self.adjoint, goes_on, one, (first, state))[1]

    def step(self, p: Int[Array, ""], params: PyTree) -> PyTree:
        """From step p of SGD to the next."""
        shape = jax.eval_shape(self.law, params).weights.shape
        motions = increments(jax.random.fold_in(self.key, p), self.substeps, shape)

        def motion(t0, t1):
            return motions[jnp.round(self.substeps * t0).astype(int)]

        # In the narrowest type of them: a wider time would widen a leaf.
        start = jnp.zeros((), min((leaf.dtype for leaf in jax.tree.leaves(params)), key=lambda dtype: dtype.itemsize))
        end = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(self.drift), diffrax.ControlTerm(self.noise, motion)),
            diffrax.Euler(),
            t0=start,
            t1=jnp.ones_like(start),
            dt0=None,
            y0=params,
            stepsize_controller=_Substeps(self.substeps),
            max_steps=self.substeps,
            adjoint=self.adjoint,
            throw=False,
        ).ys
        return jax.tree.map(lambda leaf: leaf[-1], end)

    def law(self, params: PyTree) -> SampleLaw:
        assert self.structure.sample_law is not None
        return self.structure.sample_law(self.problem, eqx.combine(params, self.fixed))

    def drift(self, t: Any, params: PyTree, args: Any) -> PyTree:
        law = self.law(params)
        return self.descent(params, law, law.weights)

    def noise(self, t: Any, params: PyTree, args: Any) -> lx.AbstractLinearOperator:
        """Of a Brownian motion for each sample of the law."""
        law = self.law(params)
        positive = law.weights > 0
        roots = jnp.where(positive, jnp.sqrt(jnp.where(positive, law.weights, 1.0)), 0.0)

        def of(motions):
            about_their_mean = roots * motions - law.weights * jnp.sum(roots * motions)
            return self.descent(params, law, about_their_mean / self.batch_size**0.5)

        return lx.FunctionLinearOperator(of, jax.eval_shape(lambda: roots))

    def descent(self, params: PyTree, law: SampleLaw, coefficients: Float[Array, "n k"]) -> PyTree:
        """A step of SGD by the gradient of the loss of all samples with these coefficients."""
        optimizer = two_timescale(optax.sgd(self.step_size), self.epsilons, self.labels)
        gradient = self.gradient(params, law, coefficients)
        updates, _ = optimizer.update(gradient, optimizer.init(params))
        return jax.tree.map(lambda update, leaf: update.astype(leaf.dtype), updates, params)

    def gradient(self, params: PyTree, law: SampleLaw, coefficients: Float[Array, "n k"]) -> PyTree:
        if self.structure.sample_gradient is not None:
            weighted = self.structure.sample_gradient.weighted
            return weighted(params, self.fixed.activation, law.x, law.y, coefficients)

        def total(params):
            model = eqx.combine(params, self.fixed)

            def of_labels(x, labels):
                return jax.vmap(lambda y: self.problem.loss(model, x[None], y[None]))(labels)

            losses = jax.vmap(of_labels)(law.x, law.y)
            return jnp.sum(coefficients.astype(losses.dtype) * losses)

        return jax.grad(total)(params)


def increments(key: Key[Array, ""], count: int, shape: tuple[int, ...]) -> Float[Array, "count ..."]:
    """Of Brownian motions over each `count`-th of the time from 0 to 1; a larger power of 2 refines the same path, and
    more rows, which lie along the first axis of `shape`, begin with the same.

    Diffrax has them by `VirtualBrownianTree`, which may be asked at any time, and for that draws each of them from
    anew: some ten times as many numbers, which would take most of the time of a step.
    """
    found = jax.random.normal(key, (*shape, 1), float)
    for level in range(count.bit_length() - 1):
        bridges = jax.random.normal(jax.random.fold_in(key, level), found.shape, float) / 2 ** (1 + level / 2)
        found = jnp.stack([found / 2 + bridges, found / 2 - bridges], axis=-1).reshape(*shape, -1)
    return jnp.moveaxis(found, -1, 0)


class _Substeps(AbstractGivenSteps):
    """So many equal steps from 0 to 1."""

    count: int = eqx.field(static=True)

    @override
    def after(self, t: ArrayLike) -> Array:
        return jnp.asarray((jnp.round(self.count * t) + 1) / self.count)
