"""Metrics and health over HTTP: /metrics, /-/healthy, /-/ready.

The standard library's request handler answers, and no WSGI server: wsgiref's closes every connection after one HTTP/1.0 answer and refuses in
HTML, and prometheus_client's application refuses HEAD.
"""

from __future__ import annotations

import errno
import gzip
import logging
import socket
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from typing import Any, Protocol

from detector.errors import ConfigError

logger = logging.getLogger(__name__)

WAITING_MAX = 1_024
"""Connections that wait to be accepted. Beyond that the kernel lets clients try again after 1, 3, 7 and 15 s: with the library's 5 a hundred
scrapes at once took a minute."""
BODY_MAX = 65_536
"""So much of what nobody asked for is read before it is refused: closed over unread bytes, the connection would lose the answer."""


class Pages(Protocol):
    """What is shown; `adapters.prometheus.metrics.Telemetry`."""

    def metrics(self, accept: str) -> tuple[bytes, str]: ...

    def healthy(self) -> tuple[bool, str]: ...

    def ready(self) -> tuple[bool, str]: ...


class HttpServer:
    """Answers on a thread of its own, from the moment it is made.

    host   a name or address of this machine, of IPv4 or IPv6; "::" listens on all addresses of both, where the machine has both
    port   the port it listens on; a free one if 0 was asked for

    raises ConfigError  the address cannot be listened on
    """

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        try:
            self._server = _Server(host, port, _handler(pages))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on http.host {host}, http.port {port}: {error.strerror or error}", fix=_fix_for(error)
            ) from None
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def _fix_for(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "choose another http.port, or 0 for a free one"
    if error.errno == errno.EACCES:
        return "choose an http.port above 1023"
    return "set http.host to 0.0.0.0 (all of this machine's addresses), to :: (those of IPv6 as well), or to one that it has"


class _Server(ThreadingMixIn, TCPServer):
    """A thread per connection. Says what goes wrong in a line of the log, and nothing of clients that hang up."""

    request_queue_size = WAITING_MAX
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        ((self.address_family, _, _, _, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        super().__init__(address, handler)  # type: ignore[arg-type] # of IPv6 it has four parts

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            logger.error("a request could not be answered", extra={"error": repr(error)})


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

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """What the library refuses: requests it cannot read, and methods that are not here."""
            self.close_connection = True
            self.request_version = self.protocol_version  # of what it could not read the library believes that it knows no status
            if code == HTTPStatus.NOT_IMPLEMENTED:
                length = self.headers.get("Content-Length", "")
                self.rfile.read(min(int(length), BODY_MAX) if length.isdecimal() else 0)
                self._answer(405, b"only GET and HEAD\n", {"Allow": "GET, HEAD", "Connection": "close"})
            else:
                self._answer(code, f"{message or HTTPStatus(code).phrase}\n".encode(), {"Connection": "close"})

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
