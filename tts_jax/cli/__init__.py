"""The command line: `tts-jax list`, `tts-jax run two-timescale`, `tts-jax sweep`, `tts-jax serve`."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import jax
from typing_extensions import override

from .._cache import cache
from . import run, serve, sweep
from .console import BAD_INPUT, one_line

FAILED = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line in 64-bit, and returns its exit code: 2 for bad input, before any long work.

    Compiled programs are kept in `$XDG_CACHE_HOME/tts_jax` (by default `~/.cache/tts_jax`) from one run to the next,
    or where `JAX_COMPILATION_CACHE_DIR` says.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of a terminal, or a pipe, that has no Greek letters
    os.environ["MPLBACKEND"] = "Agg"  # opens no window
    jax.config.update("jax_enable_x64", True)
    cache()
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_in_one_line
            return options.command(options)
    except OSError as error:
        print(f"tts-jax: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("tts-jax: interrupted", file=sys.stderr)
        return INTERRUPTED


def _show_in_one_line(message: Warning | str, *where: Any, **options: Any) -> None:
    print(f"tts-jax: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{one_line(f'tts-jax: {message}')} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tts-jax", description="How networks train when their layers learn at different speeds.")
    parser.add_argument("--version", action="version", version=f"tts-jax {version('tts-jax')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run.add_to(commands)
    sweep.add_to(commands)
    serve.add_to(commands)
    return parser
