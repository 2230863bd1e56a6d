"""The HTTP server and clients that behave badly."""

from __future__ import annotations

import http.client
import logging
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from detector.adapters.http_server import HttpServer
from detector.errors import ConfigError


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


def ask(server: HttpServer, request: bytes, host: str = "127.0.0.1") -> bytes:
    """The whole answer, until the server closes."""
    with socket.create_connection((host, server.port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65_536), b""))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "SHRUG"])
def test_other_methods_are_told_which_there_are(server: tuple[HttpServer, Pages], method: str) -> None:
    body = b"x" * 5_000
    request = f"{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    head, _, told = ask(server[0], request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in head + b"\r\n"
    assert b"\r\nContent-Type: text/plain" in head
    assert told == b"only GET and HEAD\n"


@pytest.mark.parametrize(
    ("request_line", "status"), [(b"GET / HTTP/9.9", b"505"), (b"GET /a b c", b"400"), (b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"414")]
)
def test_what_is_no_request_is_refused_in_plain_text(server: tuple[HttpServer, Pages], request_line: bytes, status: bytes) -> None:
    answer = ask(server[0], request_line + b"\r\n\r\n")
    assert answer.split()[1] == status
    assert b"text/plain" in answer
    assert b"<" not in answer


@pytest.mark.parametrize(("host", "reached_at"), [("::", ["::1", "127.0.0.1"]), ("::1", ["::1"]), ("localhost", ["localhost"])])
def test_it_listens_on_addresses_of_both_kinds(host: str, reached_at: list[str]) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    server = HttpServer(host, 0, Pages())
    try:
        for each in reached_at:
            assert b"stuck" in ask(server, b"GET /-/healthy HTTP/1.0\r\n\r\n", each)
    finally:
        server.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "fix"),
    [("127.0.0.1", "http.port"), ("192.0.2.1", "http.host"), ("2001:db8::1", "http.host"), ("no.such.host.invalid", "http.host")],
)
def test_an_address_that_cannot_be_listened_on_is_told_with_what_to_change(server: tuple[HttpServer, Pages], host: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on http.host {host}, http.port {server[0].port}") as caught:
        HttpServer(host, server[0].port, Pages())
    assert {"http.port", "http.host"} & set(caught.value.fix.replace(",", " ").split()) == {fix}


def test_many_scrapes_at_once_are_answered_beside_clients_that_never_finish(server: tuple[HttpServer, Pages]) -> None:
    """None is told to come again: that would be in a second, then in three, in seven."""
    server[1].broken = False
    with ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server[0].port), timeout=10))
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
        with ThreadPoolExecutor(100) as pool:
            begun = time.monotonic()
            assert set(pool.map(lambda _: get(server[0], "/metrics"), range(300))) == {200}
    assert time.monotonic() - begun < 5


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
