"""Reading ranges of one topic's offsets, without a group."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from numpy.typing import NDArray

from detector.adapters.kafka.admin import ask_cluster, servers_of
from detector.adapters.kafka.client import LogCallback, discard, fetch, open_consumer, to_messages
from detector.adapters.kafka.errors import NOT_FOR_READERS, kafka_error, to_detector_error
from detector.adapters.kafka.properties import reader_properties
from detector.codec.messages import Messages
from detector.errors import ConfigError, LogUnavailable

ASK_S_MAX = 10.0
SILENCE_S_MAX = 30.0


class RangeReader:
    """Reads ranges of the partitions of one topic, one after another; joins no group and commits nothing.

    What belongs to a transaction is read once that is committed.

    properties  librdkafka's, under their own names

    raises ConfigError     no such topic; credentials refused; properties that librdkafka does not know
    raises LogUnavailable  the brokers did not answer within 10 s
    """

    def __init__(self, properties: Mapping[str, str], topic: str, *, on_log: LogCallback = discard) -> None:
        self._topic = topic
        there = ask_cluster(properties, ASK_S_MAX, on_log).partitions
        if topic not in there:
            near = difflib.get_close_matches(topic, there, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"there is no topic {topic} on {servers_of(properties)}, or it is not visible to this user",
                fix=f"{hint}correct its name, or grant this user READ on it; `detector topics create` makes the topics that the service writes",
            )
        self.partitions = range(there[topic])
        self._consumer = open_consumer(reader_properties(properties), lambda error: None, on_log)
        self._closed = False
        self._end: dict[int, int] = {}
        self._open: set[int] = set()

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Per partition the offset of the oldest message held, and the one after the newest.

        raises KafkaException  the brokers refuse
        """
        asked = [TopicPartition(self._topic, number) for number in self.partitions]
        return {each.partition: self._consumer.get_watermark_offsets(each, timeout=ASK_S_MAX) for each in asked}

    def offsets_at(self, time_us: int, end: Mapping[int, int]) -> dict[int, int]:
        """Per partition the first offset at or after a log time; its end where there is none.

        raises KafkaException  the brokers refuse
        """
        asked = [TopicPartition(self._topic, number, -(-time_us // 1000)) for number in end]
        found = self._consumer.offsets_for_times(asked, timeout=ASK_S_MAX)
        return {each.partition: each.offset if each.offset >= 0 else end[each.partition] for each in found}

    def begin(self, first: Mapping[int, int], end: Mapping[int, int]) -> None:
        """Read on from the offsets `first`; `batches` ends before those of `end`."""
        self._end = dict(end)
        self._open = {number for number in first if first[number] < self._end[number]}
        self._consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in first.items()])

    @contextmanager
    def closed_if_it_fails(self) -> Iterator[None]:
        """For what asks the brokers: what they refuse is an error of ours.

        raises LogUnavailable, ConfigError
        """
        try:
            yield
        except KafkaException as exception:
            self.close()
            raise to_detector_error(kafka_error(exception), f"reading {self._topic}") from None
        except BaseException:
            self.close()
            raise

    def poll(self, messages_max: int = 10_000, timeout_s: float = 0.1) -> Messages:
        """What has come, waiting at most `timeout_s` for the first message; goes on at the end of the topic for ever.

        raises LogUnavailable, ConfigError  the brokers refuse
        """
        try:
            batch = fetch(self._consumer, messages_max, timeout_s)
        except KafkaException as exception:
            raise to_detector_error(kafka_error(exception), f"reading {self._topic}") from None
        if any(map(KafkaMessage.error, batch)):
            for message in batch:
                if (error := message.error()) is None:
                    continue
                if error.code() == KafkaError._PARTITION_EOF:
                    self._open.discard(message.partition() or 0)
                elif not error.retriable() and error.code() != NOT_FOR_READERS:
                    raise to_detector_error(error, f"reading {self._topic}")
            batch = [message for message in batch if message.error() is None]
        return to_messages(batch, (self._topic,), with_log_time=True) if batch else Messages()

    def batches(self, messages_max: int = 10_000, *, deadline_s: float = math.inf) -> Iterator[Messages]:
        """All messages up to the end that was set; until the deadline, on the clock of time.monotonic().

        raises LogUnavailable  nothing came for 30 s
        """
        for messages in self.until_end(messages_max, deadline_s=deadline_s):
            before_end = messages.offset < self._ends(messages)
            if before_end.all():
                yield messages
            elif before_end.any():
                yield messages.take(before_end)

    def until_end(self, messages_max: int = 10_000, *, deadline_s: float = math.inf) -> Iterator[Messages]:
        """What comes until that end is reached in every partition, and what came with it from beyond: `poll` goes on from there.

        raises LogUnavailable  nothing came for 30 s
        """
        heard = time.monotonic()
        while self._open and time.monotonic() < deadline_s:
            messages = self.poll(messages_max)
            if not len(messages):
                if self._open and time.monotonic() - heard > SILENCE_S_MAX:
                    raise LogUnavailable(f"nothing came from {self._topic} for {SILENCE_S_MAX:g} s", fix="check the brokers, try again")
                continue
            heard = time.monotonic()
            at_end = messages.offset >= self._ends(messages) - 1
            self._open -= {messages.partitions[index].number for index in np.unique(messages.partition[at_end]).tolist()}
            yield messages

    def _ends(self, messages: Messages) -> NDArray[np.int64]:
        """The end of each message's partition, i8[M]."""
        ends: NDArray[np.int64] = np.array([self._end[partition.number] for partition in messages.partitions])[messages.partition]
        return ends

    def close(self) -> None:
        """Free what is held. Idempotent."""
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
