"""A registry that is away, locked or talks nonsense: each is an outage that says what to do, and heals by itself."""

from __future__ import annotations

import base64
import json
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from detector.adapters.kafka import schema_registry
from detector.adapters.kafka.schema_registry import SchemaRegistry
from detector.cli import main
from detector.errors import ConfigError, LogUnavailable
from tests.broker.certificates import Authority

GOOD = (200, b'{"schema": "\\"double\\""}')


@dataclass
class Server:
    """Answers every request with what `answer` holds; an answer of no bytes never comes."""

    answer: tuple[int, bytes] = GOOD
    tls: ssl.SSLContext | None = None
    paths: list[str] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)

    def __enter__(self) -> Server:
        server, self._over = self, Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.paths.append(self.path)
                server.authorization.append(self.headers["Authorization"])
                status, body = server.answer
                if not body:
                    server._over.wait(10)
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that refuses its certificate is no news
        if self.tls:
            self._http.socket = self.tls.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._http.server_port}"
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


GARBAGE = "leads to the registry itself"
OUTAGES: dict[str, tuple[tuple[int, bytes], str, str]] = {
    "a web page": ((200, b"<html>Welcome</html>"), "does not answer as a schema registry does", GARBAGE),
    "other JSON": ((200, b'{"hello": "world"}'), "does not answer as a schema registry does", GARBAGE),
    "a list": ((200, b"[1, 2]"), "does not answer as a schema registry does", GARBAGE),
    "a schema that is no text": ((200, b'{"schema": {"type": "double"}}'), "does not answer as a schema registry does", GARBAGE),
    "not UTF-8": ((200, b"\xff\xfe\x00"), "does not answer as a schema registry does", GARBAGE),
    "a proxy's page for what is not there": ((404, b"<html>Not found</html>"), "does not answer as a schema registry does", GARBAGE),
    "a path that is not the registry's": ((404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'), "HTTP 404", "`schema_registry: url`"),
    "a login's page": ((302, b"<html>Sign in</html>"), "does not answer as a schema registry does", GARBAGE),
    "an error of its own": ((500, b'{"error_code": 50001, "message": "store"}'), "store", "check that the registry runs"),
    "a proxy's error": ((503, b"<html>upstream</html>"), "upstream", "check that the registry runs"),
    "too many questions": ((429, b""" {"error_code": 429, "message": "slow down"}"""), "slow down", "check that the registry runs"),
    "a wrong password": ((401, b'{"error_code": 40101, "message": "Unauthorized"}'), "Unauthorized", "`schema_registry: basic.auth.user.info`"),
    "no right": ((403, b"forbidden"), "forbidden", "this user may read schemas"),
    "no answer": ((200, b""), "timed out", "check that the registry runs"),
}  # fmt: skip


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_says_what_to_do_and_heals(outage: str, server: Server) -> None:
    answer, said, fix = OUTAGES[outage]
    registry = SchemaRegistry({"url": server.url, "timeout": "0.3"})
    server.answer = answer
    with pytest.raises(LogUnavailable) as error:
        registry.fetch([7])
    assert server.url in str(error.value)
    assert said in str(error.value)
    assert fix in error.value.fix
    server.answer = GOOD
    schema = registry.fetch([7])[7]
    assert schema is not None
    assert (schema.type, schema.text) == ("AVRO", '"double"')
    registry.close()


def test_a_certificate_that_has_expired_is_told(tmp_path: Path) -> None:
    authority = Authority()
    ca = authority.write_to(tmp_path / "ca.pem")

    def tls(host: str, *, expired: bool = False) -> ssl.SSLContext:
        chain, key = authority.issue(host, expired=expired)
        (tmp_path / "server.pem").write_text(chain + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        return context

    for context, properties, said in (
        (tls("127.0.0.1", expired=True), {"ssl.ca.location": ca}, "certificate has expired"),
        (tls("registry.test"), {"ssl.ca.location": ca}, "127.0.0.1"),
        (tls("127.0.0.1"), {}, "unable to get local issuer certificate"),
    ):
        with Server(tls=context) as server, pytest.raises(LogUnavailable) as error:
            SchemaRegistry({"url": server.url, **properties}).fetch([7])
        assert said in str(error.value)
        assert "`schema_registry: ssl.ca.location`" in error.value.fix
        assert "must not have expired" in error.value.fix
    with Server(tls=tls("127.0.0.1")) as server:
        assert SchemaRegistry({"url": server.url, "ssl.ca.location": ca}).fetch([7])[7] is not None
        assert SchemaRegistry({"url": server.url, "ssl.ca.location": "false"}).fetch([7])[7] is not None


def test_a_server_that_is_not_there_is_told_at_once(server: Server) -> None:
    registry = SchemaRegistry({"url": "http://127.0.0.1:1"})
    begin = time.monotonic()
    with pytest.raises(LogUnavailable, match="Connection refused"):
        registry.fetch([7])
    assert time.monotonic() - begin < 1


def test_passwords_stay_secret(server: Server) -> None:
    url = server.url.replace("://", "://me:correct-horse@")
    for properties in ({"url": url}, {"url": server.url, "basic.auth.user.info": "me:correct-horse"}):
        registry = SchemaRegistry(properties)
        server.answer = (401, b'{"error_code": 40101, "message": "correct-horse is not the password"}')
        with pytest.raises(LogUnavailable) as error:
            registry.fetch([7])
        assert "horse" not in str(error.value)
        assert server.authorization[-1] == "Basic " + base64.b64encode(b"me:correct-horse").decode()


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({}, "url"),
        ({"url": "registry:8081"}, "Invalid url"),
        ({"url": "http://r", "ssl.ca": "x"}, "Unrecognized properties: ssl.ca"),
        ({"url": "http://r", "timeout": "soon"}, "timeout must be a number"),
        ({"url": "http://r", "ssl.ca.location": "/nowhere.pem"}, "No such file"),
        ({"url": "http://r", "ssl.key.location": "/nowhere.pem"}, "ssl.certificate.location required"),
        ({"url": "http://r", "basic.auth.user.info": "correct-horse"}, "basic.auth.user.info must be in the form"),
    ],
)
def test_a_wrong_property_is_named(properties: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        SchemaRegistry(properties)
    assert said in str(error.value)
    assert str(error.value).startswith("schema_registry: ")
    assert "horse" not in str(error.value)


def test_many_ids_are_asked_for_in_several_calls_each_of_them_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that asks for ten thousand schemas, because what it reads is not framed at all, must show that it is alive in between."""
    monkeypatch.setattr(schema_registry, "ASK_S_MAX", 0.05)
    monkeypatch.setattr(schema_registry, "UNKNOWN_S", 0.0)
    server.answer = (404, b'{"error_code": 40403, "message": "Schema not found"}')
    registry = SchemaRegistry({"url": server.url})
    pauses = 0
    while True:
        try:
            answers = registry.fetch(range(200))
            break
        except LogUnavailable:
            pauses += 1
    assert pauses > 0
    assert list(answers.values()) == [None] * 200
    assert len(server.paths) == 200
    registry.fetch([7])  # unknown for a while only
    assert len(server.paths) == 201


@pytest.mark.parametrize("missing", ["cachetools", "fastavro", "google.protobuf"])
def test_without_the_extra_a_person_is_told_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], small_bundle: Path
) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("confluent_kafka.schema_registry", "detector.adapters.kafka.schema_registry"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    config = tmp_path / "detector.yaml"
    config.write_text(
        json.dumps(
            {
                "model": str(small_bundle),
                "input": {"topics": ["sensors"], "format": "avro"},
                "schema_registry": {"url": "http://127.0.0.1:1"},
                "kafka": {"bootstrap.servers": "127.0.0.1:1"},
            }
        )
    )
    assert main(["run", "--config", str(config)]) == 2
    told = capfd.readouterr().err
    assert "packages that are not installed" in told
    assert "fix: pip install 'detector[schema]'" in told
    assert "Traceback" not in told
