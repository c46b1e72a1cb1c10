"""The subcommand of the live page: `serve`."""

import argparse
from typing import Any

from ..live import listening
from .console import refuse

PORT = 8765


def add_to(commands: Any) -> None:
    """Adds the subcommand to a parser of arguments."""
    parser = commands.add_parser("serve", help="a page in your browser: choose a setting, watch flow, SGD and limit")
    parser.set_defaults(command=_serve)
    parser.add_argument(
        "--port", type=int, default=PORT, metavar="N", help=f"of this machine; 0 takes any that is free ({PORT})"
    )


def _serve(options: argparse.Namespace) -> int:
    try:
        with listening(options.port) as server:
            print(f"{server.address} is for browsers of this machine; Ctrl-C ends it", flush=True)
            server.serve_forever()
    except ValueError as error:
        return refuse(error)
    return 0
