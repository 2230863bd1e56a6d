"""The HTTP server and clients that behave badly."""

from __future__ import annotations

import http.client
import logging
import socket
import struct
from collections.abc import Iterator

import pytest

from detector.adapters.http import HttpServer


class Pages:
    """The first look at the metrics fails."""

    broken = True

    def metrics(self, accept: str) -> tuple[bytes, str]:
        if self.broken:
            raise RuntimeError("broken")
        return b"x 1\n", "text/plain"

    def healthy(self) -> tuple[bool, str]:
        return False, "stuck"

    ready = healthy


@pytest.fixture
def server() -> Iterator[tuple[HttpServer, Pages]]:
    pages = Pages()
    server = HttpServer("127.0.0.1", 0, pages)
    yield server, pages
    server.close()


def get(server: HttpServer, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse().status


def test_a_client_that_hangs_up_is_no_news(
    server: tuple[HttpServer, Pages], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", server[0].port)) as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
    assert get(server[0], "/-/healthy") == 503, "the next one is answered"
    assert capfd.readouterr().err == ""
    assert caplog.records == []


def test_what_fails_inside_is_a_line_of_the_log(
    server: tuple[HttpServer, Pages],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # a command that ran before in this process left a handler on its closed stderr
    with caplog.at_level(logging.ERROR), pytest.raises(http.client.RemoteDisconnected):
        get(server[0], "/metrics")
    server[1].broken = False
    assert get(server[0], "/metrics") == 200
    assert [record.getMessage() for record in caplog.records] == ["a request could not be answered"]
    assert capfd.readouterr().err == ""
