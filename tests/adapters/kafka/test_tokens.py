"""Tokens for Amazon MSK with IAM, as far as it goes without AWS: the real signer makes tokens from made-up credentials; and what stands in its way."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from detector.adapters.kafka.client import discard, open_producer
from detector.adapters.kafka.tokens import Tokens, region_of, with_tokens
from detector.errors import ConfigError, LogUnavailable
from tests.conftest import AWS_SECRET

MSK = {"bootstrap.servers": "b-1.plant.a1b2c3.c4.kafka.eu-central-1.amazonaws.com:9098", "sasl.mechanism": "AWS_MSK_IAM"}


@pytest.mark.usefixtures("aws")
def test_it_becomes_a_token_that_librdkafka_can_send() -> None:
    taken = with_tokens({**MSK, "client.id": "me"}, discard)
    tokens = taken.pop("oauth_cb")
    assert taken == {
        "bootstrap.servers": MSK["bootstrap.servers"],
        "client.id": "me",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
    }
    for _ in range(2):  # the one that was made at once, and one that is made when it is asked for
        token, ends_s, _ = tokens(None)
        assert 800 < ends_s - time.time() <= 900
        signed = urlparse(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
        assert signed.hostname == "kafka.eu-central-1.amazonaws.com"
        asked = {name: value for name, (value,) in parse_qs(signed.query).items()}
        assert asked["Action"] == "kafka-cluster:Connect"
        assert asked["X-Amz-Credential"].startswith("AKIDEXAMPLE/")
        assert "/eu-central-1/kafka-cluster/" in asked["X-Amz-Credential"]
        assert len(asked["X-Amz-Signature"]) == 64


def test_other_mechanisms_stay_as_they_are() -> None:
    properties = {"sasl.mechanism": "SCRAM-SHA-512", "security.protocol": "SASL_SSL"}
    assert with_tokens(properties, discard) == properties


@pytest.mark.parametrize(
    ("host", "variables", "region"),
    [
        ("b-2.plant.a1b2c3.c4.kafka.us-east-1.amazonaws.com:9098", {"AWS_REGION": "eu-west-1"}, "us-east-1"),
        ("boot-a1b2.c3.kafka-serverless.us-west-2.amazonaws.com:9098", {}, "us-west-2"),
        ("kafka.example:9098", {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-1"),
        ("kafka.example:9098", {"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
    ],
)
def test_the_region_is_the_cluster_s(host: str, variables: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert region_of({"bootstrap.servers": host}) == region


def test_what_the_person_has_to_mend_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="needs the cluster's AWS region") as caught:
        with_tokens({**MSK, "bootstrap.servers": "kafka.example:9098"}, discard)
    assert "AWS_REGION" in caught.value.fix
    with pytest.raises(ConfigError, match=r"security\.protocol is ssl") as caught:
        with_tokens({**MSK, "security.protocol": "ssl"}, discard)
    assert "SASL_SSL" in caught.value.fix
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    with pytest.raises(ConfigError, match="needs the extra `aws`") as caught:
        open_producer(MSK, lambda error: None, discard)
    assert caught.value.fix == "`pip install 'detector[aws]'`"


@pytest.mark.usefixtures("aws")
def test_without_credentials_no_client_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    begun_s = time.monotonic()
    with pytest.raises(LogUnavailable, match="there are no AWS credentials") as caught:
        open_producer(MSK, lambda error: None, discard)
    assert time.monotonic() - begun_s < 5  # librdkafka would wait for ten
    assert "aws sts get-caller-identity" in caught.value.fix
    monkeypatch.setenv("AWS_PROFILE", "plant")
    with pytest.raises(LogUnavailable, match=r"The config profile \(plant\) could not be found"):
        open_producer(MSK, lambda error: None, discard)


def test_a_token_that_cannot_be_renewed_is_told_and_tried_again(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, str]] = []
    tokens = Tokens("eu-central-1", lambda level, line: said.append((level, line)))
    tokens(None)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(LogUnavailable):
        tokens(None)
    ((level, line),) = said
    assert level == "warning"
    assert "Partial credentials" in line or "no AWS credentials" in line
    assert AWS_SECRET not in line
    (aws / "credentials").write_text(f"[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {AWS_SECRET}\n")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert tokens(None)[0]
