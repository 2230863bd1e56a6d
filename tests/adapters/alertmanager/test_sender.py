"""How alerts are sent: what an Alertmanager answers, what a person reads of it, and that nothing waits for it."""

from __future__ import annotations

import json
import logging
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from pydantic import SecretStr

from detector.adapters.alertmanager.client import Client, NotAccepted, Remedy
from detector.adapters.alertmanager.sender import ALERTS_PER_REQUEST_MAX, LAST_ATTEMPT_S, OPEN_INTERVALS, Alertmanagers
from detector.codec.alertmanager import AlertmanagerEncoder
from detector.codec.event_time import event_time_us
from detector.config import Alertmanager
from detector.core.alerts import Alert
from detector.core.readings import Partition
from detector.errors import ConfigError
from detector.ports import WorkerStats
from tests.broker.certificates import Authority

P = Partition("sensors", 0)
SECRET = SecretStr("hunter2-alerts")
ENCODER = AlertmanagerEncoder("plant", "plant.alerts", "m", "f", {})


def alert(stream: str, opened_at_us: int = 1) -> Alert:
    return Alert(stream, "opened", "score", "evidence", "warning", stream, opened_at_us, opened_at_us, 1.0, 0.1, (), P, 0, 0)


class Away:
    """Says what it is told to say; keeps what came. answer: the status for these streams; None: it never answers."""

    def __init__(self, answer: Callable[[list[str]], int | None] = lambda _: 200, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[list[dict[str, Any]]] = []
        self.headers: dict[str, str] = {}
        self.location = ""  # where a redirection leads
        self.closing = Event()
        away = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                postings = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                away.headers = dict(self.headers)
                status = away.answer([posting["labels"]["stream"] for posting in postings])
                if status is None:
                    away.closing.wait()
                    return
                away.requests.append(postings)
                self.send_response(status)
                if away.location:
                    self.send_header("Location", away.location)
                self.end_headers()
                self.wfile.write(b"because\nof this" if status != 200 else b"")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def streams(self) -> list[list[str]]:
        """Of every request that carried some."""
        return [streams for each in self.requests if (streams := [posting["labels"]["stream"] for posting in each])]

    def stop(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Away]]:
    servers: list[Away] = []

    def serve(*arguments: Any, **named: Any) -> Away:
        servers.append(Away(*arguments, **named))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
def tell() -> Iterator[Callable[..., Alertmanagers]]:
    """Begins to tell these."""
    made: list[Alertmanagers] = []

    def tell(*servers: Away, interval_s: float = 60.0) -> Alertmanagers:
        urls = tuple(f"http://{server.address}" for server in servers)
        made.append(Alertmanagers(Alertmanager(url=urls, resend_interval_s=interval_s), ENCODER, WorkerStats(lag={P: 0}), 10))
        return made[-1]

    yield tell
    for alertmanagers in made:
        alertmanagers.close()


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_alertmanager_gets_every_alert_and_one_that_hangs_holds_up_nobody(
    serve: Callable[..., Away], tell: Callable[..., Alertmanagers]
) -> None:
    hangs, one, other = serve(lambda _: None), serve(), serve()
    alertmanagers = tell(hangs, one, other)
    alertmanagers.restored([alert("pump"), alert("fan")])
    until(lambda: one.streams() == other.streams() == [["pump", "fan"]])
    since_s = time.monotonic()
    alertmanagers.close()
    assert time.monotonic() - since_s < LAST_ATTEMPT_S + 1
    assert [(stats.sent, stats.queued) for stats in alertmanagers.stats[1:]] == [(2, 2), (2, 2)]


def test_what_is_no_longer_so_when_its_turn_comes_is_not_sent(serve: Callable[..., Away], tell: Callable[..., Alertmanagers]) -> None:
    """The second request of many alerts waits for the first; meanwhile their partition went to another worker."""
    first, goes_on = Event(), Event()

    def answer(streams: list[str]) -> int:
        if streams:
            first.set()
            goes_on.wait(30)
        return 200

    server = serve(answer)
    alertmanagers = tell(server)
    alertmanagers.restored([alert(f"stream {k}") for k in range(ALERTS_PER_REQUEST_MAX + 1)])
    first.wait(30)
    alertmanagers.forget([P])
    goes_on.set()
    alertmanagers.close()
    assert [len(streams) for streams in server.streams()] == [ALERTS_PER_REQUEST_MAX]


def test_a_refused_alert_is_found_and_dropped_and_the_others_are_told(
    serve: Callable[..., Away], tell: Callable[..., Alertmanagers], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda streams: 400 if "bad" in streams else 200)
    alertmanagers = tell(server, interval_s=1.0)
    alertmanagers.restored([alert(stream) for stream in ("a", "b", "bad", "c", "d")])
    (stats,) = alertmanagers.stats
    until(lambda: stats.dropped == 1 and stats.sent >= 8)  # again after an interval: the four, without the one
    assert server.streams()[-1] == ["a", "b", "c", "d"]
    assert stats.queued == 4
    (line,) = [record for record in caplog.records if "dropped" in record.message]
    assert (line.__dict__["stream"], line.levelno) == ("bad", logging.WARNING)
    assert "answers 400: because of this" in line.__dict__["reason"]


@pytest.mark.parametrize(
    ("status", "remedy"), [(503, "see that it runs"), (429, "see that it runs"), (401, "check `alertmanager: username`")]
)
def test_what_it_does_not_take_is_said_once_and_told_later(
    status: int, remedy: str, serve: Callable[..., Away], tell: Callable[..., Alertmanagers], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = serve(lambda _: status)
    alertmanagers = tell(server, interval_s=1.0)
    alertmanagers.restored([alert("pump")])
    (stats,) = alertmanagers.stats
    until(lambda: stats.failures >= 3)
    assert (stats.sent, stats.dropped, stats.queued) == (0, 0, 1)
    server.answer = lambda _: 200
    until(lambda: stats.sent >= 1)
    alertmanagers.close()
    assert [record.message for record in caplog.records] == ["Alertmanager does not take alerts", "Alertmanager takes alerts again"]
    assert remedy in caplog.records[0].__dict__["fix"]


def test_times_are_by_the_clock(serve: Callable[..., Away], tell: Callable[..., Alertmanagers]) -> None:
    server = serve()
    alertmanagers = tell(server)
    clock_us = time.time_ns() // 1_000
    tomorrow_us, long_ago_us = clock_us + 86_400_000_000, 1_000_000_000_000_000
    alertmanagers.restored([alert("ahead", tomorrow_us), alert("replayed", long_ago_us)])
    until(server.streams)
    starts, ends = (
        [event_time_us(posting[name], "iso8601") for posting in server.requests[-1]] for name in ("startsAt", "endsAt")
    )  # fmt: skip
    assert starts[1] == long_ago_us
    assert abs(starts[0] - clock_us) < 30e6
    assert all(abs(end - clock_us - OPEN_INTERVALS * 60e6) < 30e6 for end in ends)
    for sender in alertmanagers._senders:
        sender.update([replace(alert("replayed", long_ago_us), status="closed", reason="cleared", event_time_us=long_ago_us + 1)])
    until(lambda: ["replayed"] in server.streams())
    (closed,) = server.requests[-1]
    assert abs(event_time_us(closed["endsAt"], "iso8601") - clock_us) < 30e6


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"username": "pager", "password": SECRET}, "Basic " + b64encode(b"pager:hunter2-alerts").decode()),
        ({"bearer_token": SECRET}, "Bearer hunter2-alerts"),
        ({}, None),
    ],
)
def test_credentials(settings: dict[str, Any], header: str | None, serve: Callable[..., Away]) -> None:
    server = serve()
    Client(f"http://{server.address}/prefix/", Alertmanager(**settings)).post([])
    assert server.headers.get("Authorization") == header


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Path]:
    authority, folder = Authority(), tmp_path_factory.mktemp("tls")
    authority.write_to(folder / "authority.pem")
    Authority().write_to(folder / "other.pem")
    (folder / "nonsense.pem").write_text("nonsense")
    return authority, folder


def tls(authority: Authority, folder: Path, host: str, *, expired: bool = False) -> ssl.SSLContext:
    chain, key = authority.issue(host, expired=expired)
    (folder / "server.pem").write_text(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def test_a_private_authority(authority: tuple[Authority, Path], serve: Callable[..., Away]) -> None:
    server = serve(tls=tls(*authority, "127.0.0.1"))
    Client(f"https://{server.address}", Alertmanager(ca_file=str(authority[1] / "authority.pem"))).post([])
    assert server.requests == [[]]


@pytest.mark.parametrize(
    ("host", "expired", "scheme", "ca_file", "says", "fix"),
    [
        ("127.0.0.1", True, "https", "authority.pem", "certificate has expired", "must not have expired"),
        ("127.0.0.1", False, "https", "other.pem", "certificate verify failed", "`alertmanager: ca_file` must hold the authority"),
        ("elsewhere.test", False, "https", "authority.pem", "certificate is not valid for", "made out to the host"),
        ("127.0.0.1", False, "http", "authority.pem", "cannot be reached", "`alertmanager: url`"),
        ("", False, "https", "authority.pem", "cannot be reached", "write http://"),
    ],
)
def test_a_closed_door_is_told(
    host: str, expired: bool, scheme: str, ca_file: str, says: str, fix: str, authority: tuple[Authority, Path], serve: Callable[..., Away]
) -> None:
    server = serve(tls=tls(*authority, host, expired=expired) if host else None)
    client = Client(f"{scheme}://{server.address}", Alertmanager(ca_file=str(authority[1] / ca_file), bearer_token=SECRET))
    with pytest.raises(NotAccepted) as refusal:
        client.post([])
    assert says in str(refusal.value)
    assert fix in refusal.value.fix
    assert "hunter2" not in str(refusal.value) + refusal.value.fix
    assert (refusal.value.remedy, refusal.value.exit_code) == (Remedy.RETRY, 1)


@pytest.mark.parametrize("ca_file", ["nowhere.pem", "nonsense.pem"])
def test_a_ca_file_that_cannot_be_used(ca_file: str, authority: tuple[Authority, Path]) -> None:
    with pytest.raises(ConfigError, match=f"alertmanager.ca_file .*{ca_file} cannot be used: "):
        Client("https://alertmanager.test", Alertmanager(ca_file=str(authority[1] / ca_file)))


@pytest.mark.parametrize(("status", "exit_code"), [(302, 2), (401, 2), (404, 2), (413, 2), (422, 2), (429, 1), (500, 1)])
def test_exit_codes_of_a_check(status: int, exit_code: int, serve: Callable[..., Away]) -> None:
    server = serve(lambda _: status)
    with pytest.raises(NotAccepted, match=f"answers {status}: because of this") as refusal:
        Client(f"http://{server.address}", Alertmanager()).post([])
    assert refusal.value.exit_code == exit_code
    assert refusal.value.fix


def test_a_host_that_cannot_be(serve: Callable[..., Away]) -> None:
    for url in ("http://nobody.invalid:1", f"http://{'x' * 70}.test", "http://127.0.0.1:1"):
        with pytest.raises(NotAccepted, match="cannot be reached"):
            Client(url, Alertmanager()).post([])


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the environment's proxy for http and https."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def proxied(address: str, no_proxy: str = "") -> None:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://us:hunter2-proxy@{address}")
        monkeypatch.setenv("no_proxy", no_proxy)

    return proxied


def test_a_proxy_of_the_environment(proxied: Callable[..., None], serve: Callable[..., Away]) -> None:
    proxy, direct = serve(), serve()
    proxied(proxy.address, no_proxy="127.0.0.1")
    Client("http://alertmanager.invalid:9093", Alertmanager(bearer_token=SECRET)).post([])
    assert (proxy.requests, proxy.headers["Host"]) == ([[]], "alertmanager.invalid:9093")
    assert proxy.headers["Proxy-Authorization"] == "Basic " + b64encode(b"us:hunter2-proxy").decode()
    Client(f"http://{direct.address}", Alertmanager()).post([])
    assert (len(proxy.requests), direct.requests) == (1, [[]])


@pytest.mark.parametrize(("scheme", "says"), [("http", "answers 403"), ("https", "cannot be reached through the proxy 127.0.0.1:")])
def test_a_proxy_that_lets_nobody_pass_is_named(scheme: str, says: str, proxied: Callable[..., None], serve: Callable[..., Away]) -> None:
    proxied(serve(lambda _: 403).address)
    with pytest.raises(NotAccepted, match=says) as refusal:
        Client(f"{scheme}://alertmanager.invalid", Alertmanager()).post([])
    assert "hunter2" not in str(refusal.value)
    if scheme == "https":
        assert "no_proxy" in refusal.value.fix


def test_a_redirection_is_not_followed(serve: Callable[..., Away]) -> None:
    elsewhere = serve()
    server = serve(lambda _: 302)
    server.location = f"http://{elsewhere.address}/api/v2/alerts"
    with pytest.raises(NotAccepted, match="answers 302"):
        Client(f"http://{server.address}", Alertmanager(bearer_token=SECRET)).post([])
    assert elsewhere.requests == []
