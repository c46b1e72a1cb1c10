"""What every problem promises: samples, risk, gradient and closed forms say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from problem_table import PROBLEMS

SAMPLES = 200_000


@pytest.mark.parametrize("name", PROBLEMS)
def test_samples_gradient_and_closed_forms_are_those_of_the_risk(name):
    problem, model, noise = PROBLEMS[name]()
    structure = problem.structure(model)

    @reference.quick_jit
    def measured(model, key):
        x, y = problem.sample(key, SAMPLES)
        losses = jax.vmap(lambda x, y: problem.loss(model, x[None], y[None]))(x, y)
        equations = None if structure.normal_equations is None else problem.normal_equations(model)
        hessian = None if structure.hessian is None else structure.hessian(problem, model)
        law = None if structure.sample_law is None else structure.sample_law(problem, model)
        return losses, problem.risk(model), problem.gradient(model), equations, hessian, law

    losses, risk, gradient, equations, hessian, law = measured(model, jax.random.key(2))
    assert abs(np.mean(losses) - (risk + noise)) < 4 * np.std(losses) / np.sqrt(SAMPLES)

    def by_autodiff(outer, inner):
        return reference.gradient_by_autodiff(problem, model.with_vectors(outer, inner)).vectors

    @reference.quick_jit
    def derivatives(vectors, directions):
        return jax.jvp(by_autodiff, vectors, directions)

    if law is not None:
        each = jax.vmap(lambda x, y: jax.vmap(lambda y: problem.loss(model, x[None], y[None]))(y))(law.x, law.y)
        sums = np.sum(law.weights), np.sum(law.weights * each)
        np.testing.assert_allclose(sums, [1.0, risk + noise], rtol=1e-10)
    rng = np.random.default_rng(0)
    directions = tuple(jnp.asarray(rng.normal(size=vector.shape)) for vector in model.vectors)
    first, along = derivatives(model.vectors, directions)
    reference.close(gradient.vectors, first, 1e-12)
    a, _ = model.vectors
    if equations is not None:
        gram, cross, square = equations
        assert a @ gram @ a - 2 * cross @ a + square == pytest.approx(float(risk), abs=1e-12)
        np.testing.assert_allclose(gradient.vectors[0], 2 * (gram @ a - cross), atol=1e-12)
    if hessian is not None:
        d_a, d_u = directions
        want = hessian.d_aa @ d_a + hessian.d_au @ d_u, hessian.d_au.T @ d_a + hessian.d_uu @ d_u
        reference.close(along, want, 1e-9)
