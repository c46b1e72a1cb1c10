"""How the tests run: 64-bit floats, no silent promotion, and every annotation of the package enforced."""

import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
# For the whole session, not in a `with`: submodules that are imported later are checked too.
jaxtyping.install_import_hook("tts_jax", "beartype.beartype")


@pytest.fixture
def annotations_off():
    """What a user meets who runs no type checker: the package's own checks of its input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
