"""What is asked for after a refusal, where one broker cannot show it: copies."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from detector.adapters.kafka.topic_settings import costs, instead_of, state_topic
from detector.errors import ConfigError

TOPIC = state_topic("plant.sensors.state", 4)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError.POLICY_VIOLATION, "Topic replication factor must be 3"),
        (KafkaError.INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0."),
    ],
)
def test_brokers_that_want_to_be_told_get_three_copies_once(code: int, words: str) -> None:
    less = instead_of(TOPIC, KafkaError(code, words))
    assert (less.replication, less.settings) == (3, TOPIC.settings)
    assert costs(TOPIC, less) == ["3 copies, since the brokers refuse to choose"]
    if code == KafkaError.INVALID_REPLICATION_FACTOR:
        with pytest.raises(ConfigError, match=words):
            instead_of(less, KafkaError(code, words))


def test_a_refusal_that_is_about_something_else_gives_nothing_up() -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        instead_of(TOPIC, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "segment.bytes: not allowed"))


def test_asking_for_less_comes_to_an_end_at_what_cannot_be_given_up() -> None:
    refusal, asked = KafkaError(KafkaError.POLICY_VIOLATION, "no"), [TOPIC]
    for _ in range(7):  # five settings, two of which have a bound that is tried first
        asked.append(instead_of(asked[-1], refusal))
    assert asked[-1].settings == {"cleanup.policy": "compact"}
    assert len(costs(TOPIC, asked[-1])) == 5
    with pytest.raises(ConfigError, match="no") as caught:
        instead_of(asked[-1], refusal)
    assert "cleanup.policy compact" in caught.value.fix
