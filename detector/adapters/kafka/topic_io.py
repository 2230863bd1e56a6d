"""Plain reading and writing of one topic, without a group: for the simulator, the demo, training from a topic, tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.client import LogCallback, discard, open_producer
from detector.adapters.kafka.errors import kafka_error, to_detector_error
from detector.adapters.kafka.properties import producer_properties
from detector.adapters.kafka.range_reader import RangeReader
from detector.adapters.kafka.records import ANY_PARTITION
from detector.codec.messages import Headers


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


class TopicReader(RangeReader):
    """Reads all partitions of one topic, from the beginning or from a time.

    properties  librdkafka's, under their own names
    from_us     log time at which to begin, microseconds since the epoch; None: the oldest message held
    to_us       log time before which `batches` ends; None: what was there at the opening

    raises ConfigError, LogUnavailable  as `RangeReader`
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
        super().__init__(properties, topic, on_log=on_log)
        with self.closed_if_it_fails():
            bounds = self.bounds()
            first = {number: low for number, (low, _) in bounds.items()}
            end = {number: high for number, (_, high) in bounds.items()}
            if from_us is not None:
                first |= self.offsets_at(from_us, end)
            if to_us is not None:
                end |= {number: min(end[number], offset) for number, offset in self.offsets_at(to_us, end).items()}
            self.begin(first, end)
