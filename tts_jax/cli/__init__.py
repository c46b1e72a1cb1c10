"""The command line: `tts-jax list`, `tts-jax run two-timescale`, `tts-jax sweep`."""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import equinox._errors
import jax
from typing_extensions import override

from . import run, sweep
from .console import BAD_INPUT

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line in 64-bit, and returns its exit code: 2 for bad input, before any long work.

    Compiled programs are kept in `$XDG_CACHE_HOME/tts_jax` (by default `~/.cache/tts_jax`) from one run to the next,
    or where `JAX_COMPILATION_CACHE_DIR` says.
    """
    jax.config.update("jax_enable_x64", True)
    _keep_compiled_programs()
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("tts-jax: interrupted", file=sys.stderr)
        return INTERRUPTED


def _keep_compiled_programs() -> None:
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(home, "tts_jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if "EQX_ON_ERROR" not in os.environ:
        # By default Diffrax checks its save times in a call back to Python, and JAX caches no program that has one.
        # `checks.slow_times` has made the same check by then. Equinox reads the variable on import, too early for us.
        vars(equinox._errors)["EQX_ON_ERROR"] = "nan"


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"tts-jax: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tts-jax", description="How networks train when their layers learn at different speeds.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run.add_to(commands)
    sweep.add_to(commands)
    return parser
