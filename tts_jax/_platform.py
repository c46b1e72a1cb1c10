"""Where JAX computes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax._src.core import trace_state_clean


def platform() -> str:
    """By default: "cpu", "gpu" or "tpu"."""
    config: Any = jax.config  # which does not declare its flags
    device = config.jax_default_device
    return jax.default_backend() if device is None else getattr(device, "platform", device)


def in_64_bit() -> bool:
    """Of this thread: a context of the caller does not reach others."""
    return jnp.result_type(float) == jnp.float64


def alone() -> bool:
    """Whether nothing is traced: outside of `jax.jit`, `jax.vmap` and differentiation the host may look on."""
    return trace_state_clean()
