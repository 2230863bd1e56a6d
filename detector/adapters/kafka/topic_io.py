"""Plain reading and writing of one topic, without a group: for the simulator, the demo, training from a topic, tests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType

import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from numpy.typing import NDArray

from detector.adapters.kafka.admin import ask_cluster, servers_of
from detector.adapters.kafka.client import LogCallback, discard, fetch, open_consumer, open_producer, to_messages
from detector.adapters.kafka.errors import NOT_FOR_READERS, kafka_error, to_detector_error
from detector.adapters.kafka.properties import producer_properties, reader_properties
from detector.adapters.kafka.records import ANY_PARTITION
from detector.codec.messages import Headers, Messages
from detector.errors import ConfigError, LogUnavailable

ASK_S_MAX = 10.0
SILENCE_S_MAX = 30.0


class TopicWriter:
    """Writes messages to one topic, many per second; use as a context manager, or call `flush` at the end.

    properties  librdkafka's, under their own names
    """

    def __init__(self, properties: Mapping[str, str], topic: str, *, on_log: LogCallback = discard) -> None:
        self._topic = topic
        self._failed: KafkaError | None = None
        self._producer = open_producer(producer_properties(properties), lambda error: None, on_log)

    def write(
        self,
        key: bytes | None,
        value: bytes | None,
        event_time_us: int | None = None,
        headers: Headers = (),
        partition: int = ANY_PARTITION,
    ) -> None:
        """Queue one message; waits while librdkafka's queue is full.

        event_time_us  becomes Kafka's own time of the message (milliseconds); without it, now
        partition      its number; ANY_PARTITION: the key's hash decides

        raises LogUnavailable, ConfigError  an earlier message could not be delivered
        """
        time_ms = 0 if event_time_us is None else event_time_us // 1000
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, partition, timestamp=time_ms, headers=list(headers) or None, on_delivery=self._on_delivery
                )
                return
            except BufferError:
                self._producer.poll(0.1)
                self._raise_failed()
            except KafkaException as exception:
                raise to_detector_error(kafka_error(exception), f"writing to {self._topic}") from None

    def serve(self) -> None:
        """Let reports of delivery be heard; call it now and then while writing slowly."""
        self._producer.poll(0)
        self._raise_failed()

    def flush(self) -> None:
        """Wait until all is delivered.

        raises LogUnavailable, ConfigError  a message could not be delivered
        """
        self._producer.flush()
        self._raise_failed()

    def _on_delivery(self, error: KafkaError | None, _: KafkaMessage) -> None:
        self._failed = self._failed or error

    def _raise_failed(self) -> None:
        if self._failed is not None:
            error, self._failed = self._failed, None
            raise to_detector_error(error, f"writing to {self._topic}")

    def __enter__(self) -> TopicWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.flush()


class TopicReader:
    """Reads all partitions of one topic, from the beginning or from a time; joins no group and commits nothing.

    What belongs to a transaction is read once that is committed.

    properties  librdkafka's, under their own names
    from_us     log time at which to begin, microseconds since the epoch; None: the oldest message held
    to_us       log time before which `batches` ends; None: what was there at the opening

    raises ConfigError     no such topic; credentials refused; properties that librdkafka does not know
    raises LogUnavailable  the brokers did not answer within 10 s
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        topic: str,
        *,
        from_us: int | None = None,
        to_us: int | None = None,
        on_log: LogCallback = discard,
    ) -> None:
        self._topic = topic
        partitions = ask_cluster(properties, ASK_S_MAX, on_log).partitions.get(topic)
        if partitions is None:
            raise ConfigError(
                f"there is no topic {topic} on {servers_of(properties)}, or it is not visible to this user",
                fix="correct its name, or grant this user READ on it; `detector topics create` makes the topics that the service writes",
            )
        self._partitions = range(partitions)
        self._consumer = open_consumer(reader_properties(properties), lambda error: None, on_log)
        self._closed = False
        try:
            self._begin(from_us, to_us)
        except KafkaException as exception:
            self.close()
            raise to_detector_error(kafka_error(exception), f"reading {topic}") from None
        except BaseException:
            self.close()
            raise

    def _begin(self, from_us: int | None, to_us: int | None) -> None:
        asked = [TopicPartition(self._topic, number) for number in self._partitions]
        bounds = {each.partition: self._consumer.get_watermark_offsets(each, timeout=ASK_S_MAX) for each in asked}
        first = {number: low for number, (low, _) in bounds.items()}
        self._end = {number: high for number, (_, high) in bounds.items()}
        if from_us is not None:
            first.update(self._offsets_at(-(-from_us // 1000)))
        if to_us is not None:
            self._end.update({number: min(self._end[number], offset) for number, offset in self._offsets_at(-(-to_us // 1000)).items()})
        self._open = {number for number in self._partitions if first[number] < self._end[number]}
        self._consumer.assign([TopicPartition(self._topic, number, first[number]) for number in self._partitions])

    def _offsets_at(self, time_ms: int) -> dict[int, int]:
        """Per partition the first offset at or after a log time; the end where there is none."""
        asked = [TopicPartition(self._topic, number, time_ms) for number in self._end]
        found = self._consumer.offsets_for_times(asked, timeout=ASK_S_MAX)
        return {each.partition: each.offset if each.offset >= 0 else self._end[each.partition] for each in found}

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

    def batches(self, messages_max: int = 10_000) -> Iterator[Messages]:
        """All messages up to the end that was set at the opening.

        raises LogUnavailable  nothing came for 30 s
        """
        for messages in self.until_end(messages_max):
            before_end = messages.offset < self._ends(messages)
            if before_end.all():
                yield messages
            elif before_end.any():
                yield messages.take(before_end)

    def until_end(self, messages_max: int = 10_000) -> Iterator[Messages]:
        """What comes until that end is reached in every partition, and what came with it from beyond: `poll` goes on from there.

        raises LogUnavailable  nothing came for 30 s
        """
        heard = time.monotonic()
        while self._open:
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

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
