"""How the tests run: 64-bit floats, nothing promoted in silence, and every annotation of the package enforced."""

import importlib.metadata
import os
import pathlib
import sys

# XLA's older code generator, as long as it has one, and machine code that is not optimised, need a third of the time.
# With `XLA_FLAGS= make test` the tests run what users run.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false" * importlib.metadata.version("jaxlib").startswith(("0.9.", "0.10.")),
)

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
    config.option.loadscopereorder = False  # `-n` keeps the order of `pytest_collection_modifyitems`
    if hasattr(config, "cache"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        # Workers share it without a lock. A half-written entry is found to be broken, and compiled again.
        config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache")


SLOWEST = (
    *("test_reduced", "test_interrupts", "test_side_by_side", "test_derivatives", "test_notebooks", "test_store"),
    *(
        "test_going_on",
        "test_flow",
        "test_additive_flow",
        "test_limit",
        "test_odd_inputs",
        "test_examples",
        "test_sweep",
    ),
)
"""Files that take long, the longest first; with `-n` and `--dist loadfile` they begin first, and small ones fill up."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    order = {f"{name}.py": place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture
def annotations_off():
    """What a user meets who runs no type checker: the package's own checks of its input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def figures_closed():
    """Matplotlib warns of many that are open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Each compiled program takes hundreds of the 65,530 memory mappings that Linux gives to a process: a worker that
    keeps those of all files dies of it, in the middle of a compilation."""
    yield
    mappings = pathlib.Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()
