"""SGD of a network of smooth steps as a loop in NumPy and in Numba: what one would write instead of `tts_jax`.

The update, the law of the samples and the precision are those of `tts_jax.SGD` on `tts_jax.Regression` with the exact
gradient; the random numbers come from another generator (splitmix64 in Numba: cheaper than its own). The scalar loop
is the fastest of several: nothing is allocated, both loops over the neurons are vectorised, and seeds run on all
threads.

States are arrays of shape (seeds, ...), changed in place: `weights` and `positions` (seeds, m), `bias` (seeds,).
"""

import numpy as np
from numba import njit, prange

compiled = njit(fastmath=True, error_model="numpy")


@compiled
def _random(counter):
    """The next state of splitmix64, and a uniform number in [0, 1)."""
    counter += np.uint64(0x9E3779B97F4A7C15)
    bits = (counter ^ (counter >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = bits ^ (bits >> np.uint64(31))
    return counter, (bits >> np.uint64(11)) * (1.0 / (1 << 53))


@compiled
def _one_seed(seed, steps, epsilon, h, eta, noise, jumps, values, weights, positions, bias):
    m, number = len(weights), weights.dtype.type
    step, slope = np.empty_like(weights), np.empty_like(weights)
    counter, scale = np.uint64(seed) << np.uint64(40), number(1 / eta)
    fast, slow, b = number(2 * h), number(24 * epsilon * h / eta), bias[0]
    for _ in range(steps):
        counter, draw = _random(counter)
        x = number(draw)
        counter, draw = _random(counter)
        y = values[0] + noise * number(2 * draw - 1)
        for i in range(len(jumps)):
            y += values[i + 1] - values[i] if x >= jumps[i] else number(0)
        output = b
        for j in range(m):
            z = (x - positions[j]) * scale
            w = max(number(0.5) - abs(z), number(0))
            square = w * w
            cube = number(4) * w * square
            step[j] = cube if z <= 0 else number(1) - cube
            slope[j] = square
            output += weights[j] * step[j]
        pull, push = fast * (output - y), slow * (output - y)
        for j in range(m):
            positions[j] += push * weights[j] * slope[j]
            weights[j] -= pull * step[j]
        b -= pull
    bias[0] = b


@njit(parallel=True)
def all_threads(seeds, steps, epsilon, h, eta, noise, jumps, values, weights, positions, bias):
    for k in prange(len(seeds)):
        _one_seed(
            *(seeds[k], steps, epsilon, h, eta, noise, jumps, values),
            *(weights[k], positions[k], bias[k : k + 1]),
        )


@njit
def one_thread(seeds, steps, epsilon, h, eta, noise, jumps, values, weights, positions, bias):
    for k in range(len(seeds)):
        _one_seed(
            *(seeds[k], steps, epsilon, h, eta, noise, jumps, values),
            *(weights[k], positions[k], bias[k : k + 1]),
        )


def numpy_loop(seeds, steps, epsilon, h, eta, noise, jumps, values, weights, positions, bias):
    """All seeds at once in each step: the fewest calls of NumPy."""
    generator, number = np.random.default_rng(int(seeds[0])), weights.dtype.type
    for _ in range(steps):
        x, draw = generator.random((2, len(seeds), 1), weights.dtype)
        y = values[np.searchsorted(jumps, x)] + noise * (2 * draw - 1)
        z = (x - positions) / eta
        w = np.maximum(number(0.5) - np.abs(z), number(0))
        cube = 4 * w**3
        step = np.where(z <= 0, cube, 1 - cube)
        pull = 2 * h * (bias[:, None] + np.sum(weights * step, axis=1, keepdims=True) - y)
        positions += epsilon * pull * weights * (12 * w**2 / eta)
        weights -= pull * step
        bias -= pull[:, 0]
