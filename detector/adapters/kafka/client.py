"""Opens librdkafka's clients, whose errors and log lines tell no secret; what came as columns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.errors import PROPERTY_FIX, kafka_error, to_detector_error
from detector.adapters.kafka.tokens import with_tokens
from detector.codec.messages import Headers, Messages
from detector.config.secrets import redactor, secrets_in
from detector.core.readings import Partition
from detector.errors import ConfigError

LogCallback: TypeAlias = Callable[[str, str], None]
"""Takes the level (debug, info, warning, error) and one line; where librdkafka's own log lines go."""
Client = TypeVar("Client")

SAME_LINE_S = 30.0
LINES_REMEMBERED_MAX = 1_000


def discard(level: str, line: str) -> None:
    """A `LogCallback` that drops everything."""


class LogLines:
    """librdkafka's log lines, handed to a `LogCallback`, without what must stay secret. Has the one method of `logging.Logger` needed.

    The same line comes at most once per 30 s: librdkafka tries a broker that is away 20 times a second, and says so each time.
    """

    def __init__(self, on_log: LogCallback, properties: Mapping[str, str]) -> None:
        self._on_log = on_log
        self._last_s: dict[str, float] = {}
        self._redact = redactor(secrets_in(properties))

    def log(self, level: int, pattern: str, *values: Any) -> None:
        line = pattern % values if values else pattern
        if "will be ignored by this" in line:
            return  # the user's properties serve consumer and producer alike: half of them are always "ignored"
        gist, now = line.partition(" (after ")[0], time.monotonic()
        if now - self._last_s.get(gist, -math.inf) < SAME_LINE_S:
            return
        if len(self._last_s) >= LINES_REMEMBERED_MAX:
            self._last_s.clear()
        self._last_s[gist] = now
        # What librdkafka calls an error is a broken connection, which it mends by itself; true errors are raised.
        self._on_log("warning" if level >= 30 else "info" if level >= 20 else "debug", self._redact(line))


def open_consumer(properties: Mapping[str, str], on_error: Callable[[KafkaError], None], on_log: LogCallback) -> Consumer:
    """A consumer.

    raises ConfigError  where librdkafka does not know a property or its value
    """
    return open_client(Consumer, properties, {}, on_error, on_log)


def open_producer(properties: Mapping[str, str], on_error: Callable[[KafkaError], None], on_log: LogCallback) -> Producer:
    """A producer that reports only the messages it could not deliver.

    raises ConfigError  where librdkafka does not know a property or its value
    """
    return open_client(Producer, properties, {"delivery.report.only.error": True}, on_error, on_log)


def open_client(
    make: Callable[..., Client],
    properties: Mapping[str, str],
    further: Mapping[str, Any],
    on_error: Callable[[KafkaError], None],
    on_log: LogCallback,
) -> Client:
    """A client whose errors and log lines tell no secret.

    raises ConfigError     what librdkafka or confluent_kafka make of a property
    raises LogUnavailable  there are no credentials now to sign a token with (`tokens`)
    """
    redact = redactor(secrets_in(properties))

    def without_secrets(error: KafkaError) -> KafkaError:
        return KafkaError(error.code(), redact(error.str()), error.fatal(), error.retriable(), error.txn_requires_abort())

    taken = with_tokens(properties, on_log)
    try:
        return make({**taken, **further, "error_cb": lambda error: on_error(without_secrets(error))}, logger=LogLines(on_log, properties))
    except KafkaException as exception:
        raise to_detector_error(without_secrets(kafka_error(exception)), "kafka") from None
    except Exception as exception:  # noqa: BLE001 - some properties confluent_kafka takes itself, and raises what it likes
        raise ConfigError(f"kafka: {redact(' '.join(str(exception).split()))}", fix=PROPERTY_FIX) from None


def named(partitions: Sequence[TopicPartition]) -> list[Partition]:
    """Our names for librdkafka's partitions."""
    return [Partition(each.topic, each.partition) for each in partitions]


def offsets_of(partitions: Sequence[TopicPartition]) -> dict[Partition, int]:
    """Their offsets, by our names.

    raises KafkaException  if one of them carries an error
    """
    for each in partitions:
        if each.error is not None:
            raise KafkaException(each.error)
    return {Partition(each.topic, each.partition): each.offset for each in partitions}


def fetch(consumer: Consumer, messages_max: int, timeout_s: float) -> list[KafkaMessage]:
    """What has come; if nothing has, the first message within `timeout_s` and what came with it. Errors are among them.

    librdkafka's `consume` alone would wait for a full batch.

    raises KafkaException  the consumer has failed
    """
    batch = consumer.consume(messages_max, 0)
    if batch:
        return batch
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    return [first, *consumer.consume(messages_max - 1, 0)] if messages_max > 1 else [first]


def to_messages(batch: list[KafkaMessage], topics: Sequence[str], *, with_log_time: bool) -> Messages:
    """What librdkafka brought, without errors among it, as columns.

    topics          the topics that may occur
    with_log_time   also read each message's time, milliseconds in Kafka; costs 0.1 us per message
    """
    count = len(batch)
    number = np.fromiter(map(KafkaMessage.partition, batch), np.int64, count)
    width = int(number.max(initial=0)) + 1
    if len(topics) > 1:
        index: dict[str | None, int] = {topic: position for position, topic in enumerate(topics)}
        number += width * np.fromiter(map(index.__getitem__, map(KafkaMessage.topic, batch)), np.int64, count)
    present = np.flatnonzero(np.bincount(number))
    column = np.zeros(width * len(topics), np.int32)
    column[present] = np.arange(len(present), dtype=np.int32)
    log_time_us = np.full(count, -1, np.int64)
    if with_log_time:
        log_time_ms = np.fromiter((time_ms for _, time_ms in map(KafkaMessage.timestamp, batch)), np.int64, count)
        np.multiply(log_time_ms, 1000, out=log_time_us, where=log_time_ms >= 0)

    def headers(position: int) -> Headers:
        return cast(Headers, batch[position].headers() or ())  # a list of pairs; the stubs allow for what producers take, too

    return Messages(
        key=list(map(KafkaMessage.key, batch)),
        value=list(map(KafkaMessage.value, batch)),
        partition=column[number],
        offset=np.fromiter(map(KafkaMessage.offset, batch), np.int64, count),
        log_time_us=log_time_us,
        partitions=tuple(Partition(topics[code // width], code % width) for code in present.tolist()),
        headers=headers,
    )
