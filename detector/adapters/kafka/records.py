"""What a commit writes: records, the topics that they go to, and how one is handed to a producer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.client import LogCallback
from detector.adapters.kafka.errors import kafka_error
from detector.codec.dead_letters import OMITTED, reason_only
from detector.codec.messages import Message
from detector.ports import CommitBatch

ANY_PARTITION = -1


class Record(NamedTuple):
    """A message and where it goes.

    partition       its number; ANY_PARTITION: the key's hash decides
    is_dead_letter  where it is too large, its reason alone will do
    """

    topic: str
    message: Message
    partition: int = ANY_PARTITION
    is_dead_letter: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of key, value and headers."""
        message = self.message
        headers = sum(len(name) + len(value or b"") for name, value in message.headers)
        return len(message.key or b"") + len(message.value or b"") + headers


class Refusal(NamedTuple):
    """A record that was not taken, and why."""

    record: Record
    error: KafkaError

    @property
    def is_too_large(self) -> bool:
        """Whether the brokers, or librdkafka for its `message.max.bytes`, found the record too large."""
        return self.error.code() == KafkaError.MSG_SIZE_TOO_LARGE


class OutputTopics(NamedTuple):
    """Where a commit's records go.

    state  per input topic its state topic; a topic without one keeps no state
    """

    alerts: str
    dead_letters: str
    state: Mapping[str, str]

    def decisions(self, batch: CommitBatch) -> list[Record]:
        """The alerts, then the dead letters."""
        alerts = [Record(self.alerts, each) for each in batch.alerts]
        return alerts + [Record(self.dead_letters, each, is_dead_letter=True) for each in batch.dead_letters]

    def state_rows(self, batch: CommitBatch) -> list[Record]:
        """The rows of the state topics, each in the partition that has its input's number.

        raises ValueError  state of a topic whose state is kept nowhere
        """
        rows: list[Record] = []
        for partition, values in batch.state.items():
            if not values:
                continue
            topic = self.state.get(partition.topic)
            if topic is None:
                raise ValueError(f"no state topic is set for {partition.topic}: a commit must not carry state of it")
            rows += [Record(topic, Message(key, value), partition.number) for key, value in values.items()]
        return rows


def enqueue(producer: Producer, record: Record, refused: list[Refusal]) -> None:
    """Hand a record to librdkafka. If it is not delivered, now or later, it is added to `refused`."""

    def delivered(error: KafkaError | None, _: KafkaMessage) -> None:
        if error is not None:
            refused.append(Refusal(record, error))

    message = record.message
    while True:
        try:
            producer.produce(
                record.topic, message.value, message.key, record.partition, headers=list(message.headers), on_delivery=delivered
            )
            return
        except BufferError:  # librdkafka's queue is full: let some be delivered, or time out
            producer.poll(0.1)
        except KafkaException as exception:
            refused.append(Refusal(record, kafka_error(exception)))
            return


def shortened(record: Record, on_log: LogCallback) -> Record:
    """A dead letter's reason, which says where the original is: one huge message must not stop the worker."""
    short = reason_only(record.message)
    left_out = (dict(short.headers)[OMITTED] or b"").decode()
    on_log("warning", f"a dead letter is too large for {record.topic}: written without {left_out}")
    return record._replace(message=short, is_dead_letter=False)
