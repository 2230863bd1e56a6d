"""OAUTHBEARER on a real broker: tokens of an identity provider (OIDC), and those that are signed for Amazon MSK.

What AWS makes of its tokens cannot be seen here: the broker of this test takes no other tokens than its identity provider's. That every kind
of client hands one over is seen from its refusal.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from deploy.kafka.local_kafka import Listener, LocalKafka
from detector.adapters.kafka.client import discard, open_client
from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics
from detector.cli import main
from tests.broker.certificates import Authority
from tests.broker.identity import AUDIENCE, ISSUER, SECRETS, IdentityProvider
from tests.broker.service import Service
from tests.conftest import AWS_SECRET, need_local_kafka

pytestmark = pytest.mark.broker
TOKEN_S = 6.0
"""So short that librdkafka, which looks once per second, may come late to renew one: then the connection is lost, and made anew."""
JAVA = "org.apache.kafka.common.security.oauthbearer."


@dataclass
class Guarded:
    """A broker with a listener that wants tokens, and who gives them."""

    kafka: LocalKafka
    identity: IdentityProvider
    authority: str

    def plain(self) -> dict[str, str]:
        return {"bootstrap.servers": self.kafka.bootstrap_servers}

    def oidc(self, **properties: str) -> dict[str, str]:
        """Properties of a client that asks the identity provider; others are written with _ for '.'."""
        return {
            "bootstrap.servers": self.kafka.servers["TOKENS"],
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": self.identity.url,
            "sasl.oauthbearer.client.id": "detector",
            "sasl.oauthbearer.client.secret": SECRETS["detector"],
            "sasl.oauthbearer.scope": "kafka",
            "https.ca.location": self.authority,
            **{name.replace("_", "."): value for name, value in properties.items()},
        }

    def msk(self) -> dict[str, str]:
        servers = self.kafka.servers["TOKENS"]
        return {"bootstrap.servers": servers, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "AWS_MSK_IAM"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    need_local_kafka()
    folder, authority = tmp_path_factory.mktemp("guarded"), Authority()
    identity = IdentityProvider(folder, authority, TOKEN_S)
    keys = identity.keys.as_uri()
    listener = {
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        "oauthbearer.sasl.jaas.config": f"{JAVA}OAuthBearerLoginModule required;",
        "oauthbearer.sasl.server.callback.handler.class": f"{JAVA}OAuthBearerValidatorCallbackHandler",
        "oauthbearer.connections.max.reauth.ms": "60000",  # a connection ends with its token, unless another is shown
        "sasl.oauthbearer.jwks.endpoint.url": keys,
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.expected.issuer": ISSUER,
    }
    kafka = LocalKafka(
        folder / "kafka",
        listeners={"TOKENS": Listener("SASL_PLAINTEXT", listener)},
        jvm=[f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}"],
    )
    kafka.start()
    create_topics({"bootstrap.servers": kafka.bootstrap_servers}, [Topic("sensors", 1)])
    yield Guarded(kafka, identity, authority.write_to(folder / "authority.pem"))
    kafka.kill()
    identity.close()


def configured(folder: Path, kafka: dict[str, str], **sections: Any) -> str:
    path = folder / "detector.yaml"
    config = {"group": "plant", "model": "plant", "input": {"topics": ["sensors"]}, "kafka": kafka, **sections}
    path.write_text(json.dumps(config))
    return str(path)


def test_the_service_outlives_its_tokens_and_tells_none(
    guarded: Guarded, start: Callable[[list[str]], Service], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, guarded.oidc(debug="security"), log={"level": "debug", "format": "json"})
    for command in ("create", "check"):
        assert main(["topics", command, "--config", config]) == 0
    service = start(["--config", config])
    with TopicWriter(guarded.oidc(), "sensors") as writer:
        writer.write(b"pump", b'{"temperature": 1.0}')
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] == 1)
    issued = len(guarded.identity.issued)
    service.wait_for(lambda: len(guarded.identity.issued) >= issued + 2)  # consumer and producer have new ones
    with TopicWriter(guarded.plain(), "sensors") as writer:
        writer.write(b"pump", b"not JSON")
    service.wait_for(lambda: service.metrics()["detector_dead_letters_total"] == 1)
    assert service.end(signal.SIGTERM) == 0
    said = service.log.read_text() + service.screen + "".join(capfd.readouterr())
    assert "Broker supported SASL mechanisms" in said  # librdkafka was talkative
    assert "Traceback" not in said
    assert [secret for secret in (SECRETS["detector"], *guarded.identity.issued) if secret in said] == []


CLOSED_DOORS: dict[str, tuple[Callable[[Guarded], dict[str, str]], tuple[str, ...]]] = {
    "wrong secret": (
        lambda it: it.oidc(sasl_oauthbearer_client_secret="hunter2-wrong"),
        ("invalid_client", "`kafka: sasl.oauthbearer...`"),
    ),
    "a token for others": (
        lambda it: it.oidc(sasl_oauthbearer_client_id="stranger", sasl_oauthbearer_client_secret=SECRETS["stranger"]),
        ("invalid_token", "its audience, its scope"),
    ),
    "unknown authority": (
        lambda it: {name: value for name, value in it.oidc().items() if name != "https.ca.location"},
        ("OAUTHBEARER token: SSL certificate", "`https.ca.location`"),
    ),
    "nobody gives tokens": (
        lambda it: it.oidc(sasl_oauthbearer_token_endpoint_url="https://127.0.0.1:1/token"),
        ("Failed to connect to 127.0.0.1", "that the token endpoint answers"),
    ),
    "no endpoint": (
        lambda it: {name: value for name, value in it.oidc().items() if "endpoint" not in name},
        ("`sasl.oauthbearer.token.endpoint.url` is mandatory", "under `kafka:`"),
    ),
}


@pytest.mark.parametrize("door", CLOSED_DOORS)
def test_a_token_that_cannot_be_had_or_is_refused_is_told_once(
    door: str, guarded: Guarded, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    properties, facts = CLOSED_DOORS[door]
    code, told = refusal(properties(guarded), tmp_path, capfd)
    assert code == 2
    for fact in facts:
        assert fact in told


def refusal(kafka: dict[str, str], folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and the one error of `detector topics check`."""
    capfd.readouterr()
    code = main(["topics", "check", "--config", configured(folder, kafka)])
    err = capfd.readouterr().err
    assert "hunter2" not in err
    assert "Traceback" not in err
    assert [line.partition(" ")[0] for line in err.splitlines() if not line.startswith("{")] == ["error:", "fix:"], err
    return code, err[err.index("error: ") :]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("make", [Consumer, Producer, AdminClient])
def test_every_client_shows_the_token_that_was_signed_for_amazon(
    make: Callable[..., Any], guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    heard: list[KafkaError] = []
    client = open_client(make, {**guarded.msk(), "group.id": "plant"}, {}, heard.append, discard)
    deadline = time.monotonic() + 20
    while not any("invalid_token" in error.str() for error in heard):
        assert time.monotonic() < deadline, heard
        client.poll(0.1)


@pytest.mark.usefixtures("aws")
def test_amazon_s_token_at_other_brokers_is_refused_in_one_line(
    guarded: Guarded, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    code, told = refusal(guarded.msk(), tmp_path, capfd)
    assert code == 2
    assert "invalid_token" in told
    assert "with AWS_MSK_IAM, that this port is the one for IAM" in told
    assert AWS_SECRET not in told
