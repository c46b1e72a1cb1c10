"""What the command line says about bad input."""

import sys

BAD_INPUT = 2


def refuse(error: Exception) -> int:
    """Says in one line what is wrong with the input, and gives the exit code."""
    print(one_line(f"tts-jax: {error}"), file=sys.stderr)
    return BAD_INPUT


def one_line(text: str) -> str:
    """What a user typed may hold breaks of lines."""
    return " ".join(text.splitlines())
