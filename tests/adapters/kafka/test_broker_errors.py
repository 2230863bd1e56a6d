"""What a consumer heard between two polls: what the next one raises, and when the brokers are back."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from detector.adapters.kafka import broker_errors
from detector.adapters.kafka.broker_errors import BrokerErrors
from detector.errors import ConfigError, DetectorError, LogUnavailable


class Brokers:
    """Brokers that answer or not."""

    is_there = False

    def list_topics(self, topic: str, timeout: float) -> None:
        if not self.is_there:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "nobody"))


def error(code: int) -> KafkaError:
    return KafkaError(code, "why")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> BrokerErrors:
    def ask_cluster(*_: Any) -> None:
        raise ConfigError("the password was changed", fix="change it here")

    monkeypatch.setattr(broker_errors, "ask_cluster", ask_cluster)
    return BrokerErrors({}, "readings")


def test_a_broken_connection_is_librdkafka_s_to_mend(heard: BrokerErrors) -> None:
    assert not heard.keep(error(KafkaError._TRANSPORT), "Kafka")
    heard.check(cast(Consumer, Brokers()))


@pytest.mark.parametrize("code", [KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL])
def test_an_outage_is_raised_until_a_broker_answers_and_says_why(heard: BrokerErrors, code: int) -> None:
    brokers = Brokers()
    assert heard.keep(error(code), "Kafka")
    with pytest.raises(LogUnavailable, match="Kafka: why"):
        heard.check(cast(Consumer, brokers))
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="the password was changed") as caught:
            heard.check(cast(Consumer, brokers))
        assert caught.value.fix == "change it here"
    assert heard.is_away
    brokers.is_there = True
    heard.check(cast(Consumer, brokers))
    assert not heard.is_away


def test_what_a_person_must_mend_is_not_hidden_by_an_outage(heard: BrokerErrors) -> None:
    for code in (KafkaError._ALL_BROKERS_DOWN, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._ALL_BROKERS_DOWN):
        heard.keep(error(code), "reading readings")
    with pytest.raises(DetectorError) as caught:
        heard.check(cast(Consumer, Brokers()))
    assert isinstance(caught.value, ConfigError)
    heard.check(cast(Consumer, Brokers()))  # raised once, and no outage
