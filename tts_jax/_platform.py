"""Where JAX computes."""

from typing import Any

import jax


def platform() -> str:
    """By default: "cpu", "gpu" or "tpu"."""
    config: Any = jax.config  # which does not declare its flags
    device = config.jax_default_device
    return jax.default_backend() if device is None else getattr(device, "platform", device)
