"""Metrics and health over HTTP: /metrics, /-/healthy, /-/ready."""

from __future__ import annotations

import gzip
import logging
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Protocol

from detector.errors import ConfigError

log_line = logging.getLogger(__name__)


class Pages(Protocol):
    """What is shown; `adapters.telemetry.Telemetry`."""

    def metrics(self, accept: str) -> tuple[bytes, str]: ...

    def healthy(self) -> tuple[bool, str]: ...

    def ready(self) -> tuple[bool, str]: ...


class HttpServer:
    """Answers on a thread of its own, from the moment it is made.

    port   the port it listens on; a free one if 0 was asked for

    raises ConfigError  the address cannot be listened on
    """

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        try:
            self._server = _Server((host, port), _handler(pages))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on http.host {host}, http.port {port}: {error.strerror or error}",
                fix="choose another http.port, or 0 for a free one",
            ) from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Says what goes wrong in a line of the log, and nothing of clients that hang up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            log_line.error("a request could not be answered", extra={"error": repr(error)})


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    """A request handler that answers for `pages`."""

    class Handler(BaseHTTPRequestHandler):
        server_version = "detector"
        sys_version = ""
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == "/metrics":
                self._metrics()
            elif path == "/-/healthy":
                self._health(*pages.healthy())
            elif path == "/-/ready":
                self._health(*pages.ready())
            elif path == "/":
                self._answer(200, b"/metrics\n/-/healthy\n/-/ready\n")
            else:
                self._answer(404, b"not here: /metrics, /-/healthy, /-/ready\n")

        do_HEAD = do_GET  # noqa: N815 - the name that the standard library looks for

        def _metrics(self) -> None:
            body, content_type = pages.metrics(self.headers.get("Accept", ""))
            zipped = "gzip" in self.headers.get("Accept-Encoding", "")
            encoding = {"Content-Encoding": "gzip"} if zipped else {}
            self._answer(200, gzip.compress(body, 1) if zipped else body, {"Content-Type": content_type, **encoding})

        def _health(self, good: bool, reason: str) -> None:
            self._answer(200 if good else 503, f"{reason}\n".encode())

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are no news."""

    return Handler
