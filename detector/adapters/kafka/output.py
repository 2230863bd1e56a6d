"""What a commit writes, and the producer that writes it at least once. `transactions` has the one that does so exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.client import (
    LogCallback,
    is_fatal,
    kafka_error,
    open_producer,
    producer_properties,
    to_detector_error_while_running,
)
from detector.codec.dead_letters import OMITTED, reason_only
from detector.codec.messages import Message
from detector.core.readings import Partition
from detector.errors import LogUnavailable

ANY_PARTITION = -1


class Record(NamedTuple):
    """A message and where it goes.

    partition   its number; ANY_PARTITION: the key's hash decides
    is_dead_letter   a dead letter; where it is too large, its reason alone will do
    """

    topic: str
    message: Message
    partition: int = ANY_PARTITION
    is_dead_letter: bool = False


class Refusal(NamedTuple):
    """A record that was not taken, and why."""

    record: Record
    error: KafkaError


def decided(alerts_topic: str, alerts: Sequence[Message], dead_letters_topic: str, letters: Sequence[Message]) -> list[Record]:
    """Alerts, then dead letters."""
    return [Record(alerts_topic, each) for each in alerts] + [Record(dead_letters_topic, each, is_dead_letter=True) for each in letters]


def state_rows(state_topics: Mapping[str, str], state: Mapping[Partition, Mapping[bytes, bytes | None]]) -> list[Record]:
    """State as rows of the state topics, each in the partition that has its input's number.

    raises ValueError  state of a topic whose state is kept nowhere
    """
    rows: list[Record] = []
    for partition, values in state.items():
        if not values:
            continue
        topic = state_topics.get(partition.topic)
        if topic is None:
            raise ValueError(f"no state topic is set for {partition.topic}: an outcome must not carry state of it")
        rows += [Record(topic, Message(key, value), partition.number) for key, value in values.items()]
    return rows


def queue(producer: Producer, record: Record, refused: list[Refusal]) -> None:
    """Hand a record to librdkafka; if it comes to nothing, now or later, it is added to `refused`."""

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


def is_too_large(refusal: Refusal) -> bool:
    """Whether the brokers, or librdkafka for its `message.max.bytes`, found the record too large."""
    return refusal.error.code() == KafkaError.MSG_SIZE_TOO_LARGE


def shortened(record: Record, on_log: LogCallback) -> Record:
    """A dead letter's reason, which says where the original is: one huge message must not stop the worker."""
    short = reason_only(record.message)
    left_out = (dict(short.headers)[OMITTED] or b"").decode()
    on_log("warning", f"a dead letter is too large for {record.topic}: written without {left_out}")
    return record._replace(message=short, is_dead_letter=False)


class KafkaOutput:
    """Writes by an idempotent producer with acks=all."""

    def __init__(self, properties: Mapping[str, str], on_error: Callable[[KafkaError], None], on_log: LogCallback) -> None:
        self._on_log = on_log
        self._open = partial(open_producer, producer_properties(properties), on_error, on_log)
        self._producer = self._open()

    def serve(self) -> None:
        """Let log lines and errors that came meanwhile be heard. Never blocks."""
        self._producer.poll(0)

    def write(self, records: Sequence[Record]) -> None:
        """Write and wait until all is acknowledged; `delivery.timeout.ms` bounds the wait.

        A dead letter that the brokers find too large is written with its reason only.

        raises LogUnavailable  the brokers did not take all; some may be written
        raises ConfigError     the brokers refuse it: no permission, no such topic, an alert or a row of state too large
        """
        if not records:
            return
        failed = [refused for refusal in self._send(records) for refused in self._send_alone(refusal)]
        if not failed:
            return
        error = failed[0].error
        what = f"writing {len(failed)} of {len(records)} messages, the first to {failed[0].record.topic}"
        if is_fatal(error):  # this producer will never write again; another may
            self._producer = self._open()
            raise LogUnavailable(f"{what}: {error.str()}", fix="nothing: another producer takes over")
        raise to_detector_error_while_running(error, what)

    def _send_alone(self, refusal: Refusal) -> list[Refusal]:
        """Try what was too large again: alone (it may only have shared a batch with others); a dead letter then with its reason only."""
        if not is_too_large(refusal):
            return [refusal]
        failed = self._send([refusal.record])
        if failed and refusal.record.is_dead_letter and is_too_large(failed[0]):
            failed = self._send([shortened(refusal.record, self._on_log)])
        return failed

    def _send(self, records: Sequence[Record]) -> list[Refusal]:
        """Write all, wait for all; those that failed."""
        refused: list[Refusal] = []
        for record in records:
            queue(self._producer, record, refused)
        self._producer.flush()
        return refused
