"""How many runs a device computes at once."""

import functools
import time

import jax
import jax.numpy as jnp

ON_CPU = 64
"""Beyond it a run costs no less, of flows and of SGD."""
CANDIDATES = tuple(2**k for k in range(8, 15))
ROWS, STEPS, GAIN = 64, 256, 0.9
"""Of the loop that is measured; a wider one must cost less than this share of the time a lane."""
SHARE_OF_MEMORY, COPIES = 0.5, 8
"""That results may take, and how often they are held while runs are computed."""


def lanes_for(device: jax.Device, bytes_of_a_run: int) -> int:
    """Runs at a time: on a CPU a few, as its cache holds; elsewhere as many as fill it, and as its memory holds."""
    if device.platform == "cpu":
        return ON_CPU
    limit = (device.memory_stats() or {}).get("bytes_limit")
    fits = CANDIDATES[-1] if limit is None else int(SHARE_OF_MEMORY * limit / (COPIES * bytes_of_a_run))
    return max(1, min(filling(device), fits))


@functools.cache
def filling(device: jax.Device) -> int:
    """The number of lanes from which an elementwise loop costs no less a lane, measured in a second or two."""
    best = CANDIDATES[0]
    before = _seconds(device, best) / best
    for lanes in CANDIDATES[1:]:
        now = _seconds(device, lanes) / lanes
        if now > GAIN * before:
            break
        best, before = lanes, now
    return best


def _seconds(device: jax.Device, lanes: int) -> float:
    x = jax.device_put(jnp.linspace(0.0, 1.0, ROWS * lanes).reshape(ROWS, lanes), device)
    jax.block_until_ready(_loop(x))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(_loop(x))
        times.append(time.perf_counter() - begin)
    return min(times)


@jax.jit
def _loop(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, STEPS, lambda _, x: x + 1e-3 * (jnp.roll(x, 1, axis=0) - x * x), x)
