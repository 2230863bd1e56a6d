"""Clients that cannot be opened: whatever the constructor raises is one line that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from detector.adapters.kafka.admin import open_admin
from detector.adapters.kafka.client import discard, open_consumer, open_producer
from detector.errors import ConfigError

OPENERS: dict[str, Callable[[dict[str, str]], object]] = {
    "consumer": lambda properties: open_consumer(properties, lambda error: None, discard),
    "producer": lambda properties: open_producer(properties, lambda error: None, discard),
    "admin": lambda properties: open_admin(properties, discard),
}
WITH_WEB_IDENTITY = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.metadata.authentication.type": "aws_iam",
    "sasl.oauthbearer.config": "region=eu-central-1",
}


@pytest.mark.parametrize("client", OPENERS)
@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"bootstrap.server": "kafka:9092"}, "bootstrap.server"),  # KafkaException
        ({"stats_cb": "report"}, "stats_cb"),  # TypeError
        ({"throttle_cb": "wait"}, "throttle_cb"),  # ValueError
        ({"default.topic.config": "acks"}, "keys"),  # AttributeError
        (WITH_WEB_IDENTITY, "sasl.oauthbearer."),  # ImportError where boto3 is missing; else the audience is
    ],
)
def test_a_bad_property_is_one_line_with_a_remedy(client: str, properties: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match="kafka: ") as caught:
        OPENERS[client]({"bootstrap.servers": "127.0.0.1:1", "group.id": "plant", **properties})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "under `kafka:`" in caught.value.fix
