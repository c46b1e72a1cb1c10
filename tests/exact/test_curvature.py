"""Gradients of second directional derivatives of the risk, against differences of derivatives of `local.gradient`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from tts_jax.exact import curvature, local

M, LANES, PAIRS = 5, 2, 3


def positions(where):
    rng = np.random.default_rng(5)
    return {
        "apart": np.linspace(0.1, 0.9, M)[:, None] + rng.uniform(0, 0.01, (M, LANES)),
        "near": np.sort(rng.uniform(0.4, 0.5, (M, LANES)), axis=0),
        "changed places": rng.uniform(0.4, 0.5, (M, LANES)),
        "at edges": np.array([[0.02, -0.02], [0.01, 0.03], [0.5, -0.2], [0.99, 1.02], [1.03, 0.98]]),
    }[where]


@jax.jit
def second(inputs, w, x):
    """The sum over pairs of directions."""
    a, u, bias, *others = inputs

    def along(a, u, bias, w_bias, w_a, w_u):
        g = local.gradient(a, u, bias, *others, local.bandwidth(u, others[0]))
        return jnp.sum(local.plateaus(w_a, w_bias) * g.d_c, axis=0) + jnp.sum(w_u * g.d_u, axis=0)

    def one(w_bias, w_a, w_u, x_bias, x_a, x_u):
        moved = jax.jvp(lambda a, u, bias: along(a, u, bias, w_bias, w_a, w_u), (a, u, bias), (x_a, x_u, x_bias))
        return moved[1]

    return jnp.sum(jax.vmap(one, (0, 1, 1, 0, 1, 1))(*w, *x), axis=0)


@reference.quick_jit
def slopes(inputs, w, x):
    a, u, bias, eta, *target = inputs
    found = curvature.slopes(a, u, bias, eta, *target, local.bandwidth(u, eta), w, x)
    return found.a, found.u, found.bias, found.eta, found.jumps, found.values


@pytest.mark.parametrize("where", ["apart", "near", "changed places", "at edges"])
def test_against_differences(where):
    rng = np.random.default_rng(1)
    u = positions(where)
    jumps = np.array([0.33, 0.47])[:, None] + rng.uniform(0, 0.01, (2, LANES))
    a, bias, values = (rng.normal(size=shape) for shape in ((M, LANES), LANES, (3, LANES)))
    inputs = tuple(map(jnp.asarray, (a, u, bias, np.array([0.12, 0.1]), jumps, values)))
    w, x = (
        curvature.Directions(*(jnp.asarray(rng.normal(size=s)) for s in ((PAIRS, LANES), *2 * [(M, PAIRS, LANES)])))
        for _ in range(2)
    )
    got = slopes(inputs, w, x)
    step = 1e-5
    for k, leaf in enumerate(inputs):
        change = rng.normal(size=leaf.shape) * step

        def moved(size, k=k, change=change):
            return second(tuple(y + size * change if i == k else y for i, y in enumerate(inputs)), w, x)

        want = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / 12
        along = np.sum((got[k] * change).reshape(-1, LANES), axis=0)
        scale = np.max(np.abs(got[k])) * step
        np.testing.assert_allclose(along, want, rtol=1e-6, atol=1e-6 * scale, err_msg=f"{where}, input {k}")
