"""Answers the browser of this machine, and nobody else."""

import contextlib
import http.server
import importlib.resources
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Any

from typing_extensions import override

from .. import _checks as checks
from .._workers import workers
from ..experiments.comparison import Comparison
from .runs import Tell, asked, compute, compute_one, width_of

HOME = "127.0.0.1"
GONE = ConnectionError, TimeoutError
"""What telling raises where nobody listens any more."""
FIRST = ("limit", ""), ("flow", ""), ("SGD", ""), ("flow", "epsilon=1&slow_time=10")
"""Runs that are computed before anybody asks. In the last one neurons come close together: that is another program."""
FILES = {
    "/": "text/html",
    "/icon.svg": "image/svg+xml",
    "/page.css": "text/css",
    **dict.fromkeys(("/page.js", "/setting.js", "/draw.js", "/drag.js"), "text/javascript"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@contextlib.contextmanager
def listening(port: int) -> Iterator["Server"]:
    """A server on a port of this machine alone, 0 for any that is free, which compiles what the first answer needs.

    Raises `ValueError` where nobody can listen there.
    """
    checks.count("port", port, at_least=0, below=2**16)
    with workers(1) as pool:
        try:
            server = Server(port, pool)
        except OSError as error:
            raise ValueError(f"cannot listen on port {port} ({error.strerror}): pass 0 for any that is free") from None
        with server:
            server.warm_up(*FIRST)
            yield server


class Server(http.server.ThreadingHTTPServer):
    """Requests are read side by side, and computed one after the other."""

    def __init__(self, port: int, pool: Executor):
        self.pool = pool
        self.compiled: set[int] = set()
        """Widths."""
        super().__init__((HOME, port), Handler)

    @override
    def server_bind(self) -> None:
        """Without asking the network what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOME, self.server_address[1]

    @property
    def address(self) -> str:
        return f"http://{HOME}:{self.server_port}/"

    def warm_up(self, *runs: tuple[str, str]) -> None:
        """One after the other; what a page asks for meanwhile comes between."""
        if runs:
            (name, query), *later = runs
            done = self.pool.submit(compute_one, asked(query), name, lambda message: None)
            done.add_done_callback(lambda _: self.warm_up(*later))

    def answer(self, comparison: Comparison, tell: Tell) -> None:
        """Waits for its turn."""
        if (width := width_of(comparison.neurons)) not in self.compiled:
            tell({"kind": "compiling", "width": width})
        self.pool.submit(self._compute, comparison, tell).result()

    def _compute(self, comparison: Comparison, tell: Tell) -> None:
        compute(comparison, tell)
        self.compiled.add(width_of(comparison.neurons))


class Handler(http.server.BaseHTTPRequestHandler):
    """Of one request. A page of another name, or of another site, is refused: none may compute here, or read."""

    server: Server
    server_version, sys_version = "tts-jax", ""
    disable_nagle_algorithm = True
    timeout = 60

    @override
    def handle(self) -> None:
        with contextlib.suppress(*GONE):
            super().handle()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HOME}:{port}", f"localhost:{port}"):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"open {self.server.address}")
        elif path == "/run":
            if self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
                self._run(query)
            else:
                self._refuse(HTTPStatus.FORBIDDEN, "only the page itself may ask")
        elif path in FILES:
            content = importlib.resources.files(__package__).joinpath(path[1:] or "page.html").read_bytes()
            self._send(HTTPStatus.OK, f"{FILES[path]}; charset=utf-8", content)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is only {self.server.address}")

    def _run(self, query: str) -> None:
        """A message a line. A browser that has gone away ends the run: telling it fails."""
        try:
            comparison = asked(query)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, checks.one_line(error))
            return

        one_at_a_time = threading.Lock()

        def tell(message: Mapping[str, Any]) -> None:
            with one_at_a_time:
                self.wfile.write(json.dumps(message).encode() + b"\n")

        self._begin(HTTPStatus.OK, "application/x-ndjson")
        try:
            self.server.answer(comparison, tell)
        except GONE:
            raise
        except Exception as error:
            tell({"kind": "error", "error": checks.first_line(error)})
            raise

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, "application/json", json.dumps({"error": why}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self._begin(status, kind)
        self.wfile.write(content)

    def _begin(self, status: HTTPStatus, kind: str) -> None:
        """What follows ends with the connection."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
