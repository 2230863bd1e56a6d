"""What a consumer heard of its brokers between two polls, and whether they are back after an outage."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException

from detector.adapters.kafka.admin import ask_cluster
from detector.adapters.kafka.client import discard
from detector.adapters.kafka.errors import RETRY_AFTER_START, UNREACHABLE_FIX, is_fatal, kafka_error, to_detector_error
from detector.errors import DetectorError, LogUnavailable

ASK_S_MAX = 1.0
OUTAGE = {*RETRY_AFTER_START, KafkaError._ALL_BROKERS_DOWN}
"""Errors after which polls are of no use until somebody mends it. A single broken connection is none: librdkafka connects again."""


class BrokerErrors:
    """Keeps the error that the next poll has to raise.

    properties  the user's, for a client that meets an outage's cause anew
    topic       any topic of the consumer's
    is_away     no broker answered when last heard of
    """

    def __init__(self, properties: Mapping[str, str], topic: str) -> None:
        self._properties, self._topic = properties, topic
        self._kept: DetectorError | None = None
        self.is_away = False

    def keep(self, error: KafkaError, what: str) -> bool:
        """Keep what a person or the worker must hear of; False: librdkafka mends it by itself."""
        found = to_detector_error(error, what, is_running=True)
        if isinstance(found, LogUnavailable) and error.code() not in OUTAGE and not is_fatal(error):
            return False
        if self._kept is None or isinstance(self._kept, LogUnavailable):
            self._kept = found
        return True

    def check(self, consumer: Consumer) -> None:
        """raises DetectorError  what was kept; LogUnavailable as well while no broker answers"""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self.is_away = isinstance(kept, LogUnavailable)
            raise kept
        if self.is_away:
            self._ask(consumer)

    def _ask(self, consumer: Consumer) -> None:
        """See whether the brokers are back: librdkafka tells of an outage once, and of its end not at all."""
        try:
            consumer.list_topics(self._topic, timeout=ASK_S_MAX)
        except KafkaException as exception:
            self._ask_why()
            raise LogUnavailable(f"no Kafka broker answers: {kafka_error(exception).str()}", fix=UNREACHABLE_FIX) from None
        self.is_away = False

    def _ask_why(self) -> None:
        """A client that knows of an outage no longer says why it goes on: another one meets the cause anew.

        raises LogUnavailable  unless that one is answered
        """
        try:
            ask_cluster(self._properties, ASK_S_MAX, discard)
        except DetectorError as cause:
            raise LogUnavailable(str(cause), fix=cause.fix) from None
