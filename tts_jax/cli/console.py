"""What the command line says about bad input."""

import sys

BAD_INPUT = 2


def refuse(error: Exception) -> int:
    """Says in one line what is wrong with the input, and gives the exit code."""
    print(f"tts-jax: {error}", file=sys.stderr)
    return BAD_INPUT
