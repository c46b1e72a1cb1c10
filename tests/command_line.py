"""Calls the command line in this process."""

import contextlib
import io

from tts_jax import cli


def call(*arguments):
    """Exit code, and what was printed to the standard output and the standard error."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = cli.main(arguments)
        except SystemExit as leave:
            code = leave.code
    return code, out.getvalue(), err.getvalue()
