"""Log lines: JSON or console, one formatter for all, no secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from detector.cli import logs
from detector.config.secrets import redactor, secrets_in


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "auto")  # standard error is no terminal here
    logging.getLogger("detector.service.worker").info("partitions revoked", extra={"partitions": ["sensors/0"]})
    logs.log_client_line("warning", "%s is no pattern: 100 %")
    logging.getLogger("numba").info("chatter")
    logging.getLogger("detector").debug("too fine")
    captured = capsys.readouterr()
    first, second = map(json.loads, captured.err.splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "event": "partitions revoked", "level": "info", "logger": "detector.service.worker", "partitions": ["sensors/0"]
    }  # fmt: skip
    assert (second["event"], second["level"], second["logger"]) == ("%s is no pattern: 100 %", "warning", "librdkafka")
    assert not captured.out


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("detector").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: bad" in json.loads(line)["exception"]


def test_console(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "console")
    logging.getLogger("detector").warning("log unavailable", extra={"attempt": 1})
    told = capsys.readouterr().err
    assert "log unavailable" in told
    assert "attempt=1" in told


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_are_hidden_wherever_they_stand(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", format, {"hunter2", "hunter2-longer", 'quo"ted', "ab"})
    logs.log_client_line("error", 'SASL failed for user:hunter2-longer, quo"ted')
    logging.getLogger("other").error("about %s", "hunter2", extra={"password": "hunter2"})
    told = capsys.readouterr().err
    assert "hunter2" not in told
    assert "longer" not in told
    assert "ted" not in told
    assert "about" in told  # two characters are no secret: they would be everywhere


KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_key_is_hidden_whole_and_line_by_line(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", format, secrets_in({"ssl.key.pem": KEY, "ssl.key.location": "/etc/key.pem"}))
    logs.log_client_line("error", f"cannot read {KEY}")
    logs.log_client_line("error", f"cannot read {KEY.splitlines()[1]} of /etc/key.pem")
    logging.getLogger("other").error("failed", extra={"key": KEY, "settings": {"key": KEY}})
    told = capsys.readouterr().err
    assert [line for line in KEY.splitlines() if line in told] == []
    assert "/etc/key.pem" in told  # where it lies is no secret


@pytest.mark.parametrize("name", ["sasl.password", "ssl.key.password", "ssl.keystore.password", "sasl.jaas.config", "ssl.key.pem",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "sasl.oauthbearer.assertion.private.key.passphrase"])  # fmt: skip
def test_what_is_secret(name: str) -> None:
    assert secrets_in({name: "correct-horse", "client.id": "detector"}) == {"correct-horse"}


def test_the_rest_of_a_token_configuration_is_hidden() -> None:
    hide = redactor(secrets_in({"sasl.oauthbearer.config": "principal=admin correct-horse"}))
    assert "horse" not in hide("Unrecognized sasl.oauthbearer.config beginning at: correct-horse")


def test_where_tokens_come_from_is_no_secret_but_a_password_in_it_is() -> None:
    name = "sasl.oauthbearer.token.endpoint.url"
    assert secrets_in({name: "https://identity.example/token"}) == frozenset()
    assert secrets_in({name: "https://me:correct-horse@identity.example/token"}) == {"correct-horse"}


def test_signers_keep_their_signatures_to_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    for name in ("botocore.auth", "boto3.resources"):
        logging.getLogger(name).debug("Signature: correct-horse")
    assert capsys.readouterr().err == ""
