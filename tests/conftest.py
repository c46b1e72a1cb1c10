"""How the tests run: 64-bit floats, nothing promoted in silence, and every annotation of the package enforced."""

import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# For the whole session, not in a `with`: submodules that are imported later are checked too.
jaxtyping.install_import_hook("tts_jax", "beartype.beartype")


def pytest_configure(config):
    """Keep compiled code between runs, among the caches of pytest (`--cache-clear` empties them)."""
    if hasattr(config, "cache"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        # Workers share it without a lock. A half-written entry is found to be broken, and compiled again.
        config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache")


@pytest.fixture
def annotations_off():
    """What a user meets who runs no type checker: the package's own checks of its input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
