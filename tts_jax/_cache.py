"""Compiled programs on disk."""

import os
import pathlib

import equinox._errors
import jax

from . import _checks as checks


def cache(path: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Keep compiled programs in a folder, so that the next process finds them: a first solve then takes a second.

    Call it before the first run. The folder is `path`, or where `JAX_COMPILATION_CACHE_DIR` says, or
    `$XDG_CACHE_HOME/tts_jax` (by default `~/.cache/tts_jax`); it is returned. JAX keeps all of this process there,
    those of other libraries too. The command line calls it by itself.

    Raises `ValueError` for what is no path.

    It changes settings of this process: `jax_compilation_cache_dir`, `jax_persistent_cache_min_compile_time_secs`, and
    Equinox's answer to a failed check inside a compiled program, which becomes NaN in place of an exception unless
    `EQX_ON_ERROR` is set.
    """
    if path is None:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        path = jax.config.values["jax_compilation_cache_dir"] or pathlib.Path(home, "tts_jax")
    folder = checks.path("path", path, "~/.cache/tts_jax")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if "EQX_ON_ERROR" not in os.environ:
        # By default Diffrax checks its save times in a call back to Python, and JAX caches no program that has one;
        # `simulate` has made the same check by then. Equinox reads the variable on import, which is over by now, and
        # offers no other way.
        vars(equinox._errors)["EQX_ON_ERROR"] = "nan"
    return folder
