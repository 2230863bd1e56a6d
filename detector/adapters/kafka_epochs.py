"""Whether a partition's log is still the one that was read, told from the leader epochs of its messages.

A broker that lost the end of a log (an unclean shutdown, a follower that was behind and became the leader) writes other messages at
offsets that were read before, and every message bears the epoch of the leader that wrote it. Epochs never fall along a log. So where
the last message that was read has another epoch by now, or is gone, what was lost begins at the first message of a later epoch.

source: KIP-101 and KIP-320. librdkafka compares epochs while it reads on, but not at a start (2.16).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka_client import Say, kafka_error, open_consumer, reader_properties, remedy
from detector.codec.messages import LastRead
from detector.core.readings import Partition
from detector.errors import LogUnavailable
from detector.ports import Restored

MESSAGE_S_MAX = 10.0
POLL_S = 0.1
EVERYTHING = {
    "isolation.level": "read_uncommitted",  # what a transaction wrote has an epoch before it is decided
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": "10",
    "max.partition.fetch.bytes": "16384",  # of what comes one message is looked at
}


def divergences(
    properties: Mapping[str, str], last_read: Mapping[Partition, LastRead], standing: Mapping[Partition, Restored], say: Say
) -> dict[Partition, int]:
    """Per partition whose log is another one by now: the first offset that was not read as it is there.

    last_read   per partition the last message that was read; where its epoch is not known, its offset has to do
    standing    what offsets the logs hold

    raises LogUnavailable  the brokers do not answer
    """
    found = {each: standing[each].first for each, last in last_read.items() if last.epoch < 0 and last.offset >= standing[each].end}
    asked = {each: last for each, last in last_read.items() if last.epoch >= 0 and last.offset >= standing[each].first}
    if not asked:
        return found
    reader = _Reader(properties, say)
    try:
        for partition, last in asked.items():
            end = standing[partition].end
            if last.offset < end:
                message = reader.message_at(partition, last.offset)
                if message is None or _is_the_same(message, last):
                    continue
            found[partition] = reader.first_after(partition, last.epoch, standing[partition].first, min(end, last.offset))
    except KafkaException as exception:
        raise remedy(kafka_error(exception), "comparing leader epochs") from None
    finally:
        reader.close()
    return found


def _is_the_same(message: KafkaMessage, last: LastRead) -> bool:
    """Whether this message, the first at or after the offset that was read last, leaves it possible that the log is the same."""
    epoch = message.leader_epoch()
    if epoch is None:  # an old message format
        return True
    if message.offset() == last.offset:
        return epoch == last.epoch
    return epoch >= last.epoch  # the message itself was compacted away


class _Reader:
    """Reads single messages."""

    def __init__(self, properties: Mapping[str, str], say: Say) -> None:
        self._consumer: Consumer = open_consumer({**reader_properties(properties), **EVERYTHING}, lambda error: None, say)

    def message_at(self, partition: Partition, offset: int) -> KafkaMessage | None:
        """The first message at or after `offset`; None: there is none."""
        self._consumer.assign([TopicPartition(partition.topic, partition.number, offset)])
        deadline = time.monotonic() + MESSAGE_S_MAX
        while time.monotonic() < deadline:
            message = self._consumer.poll(POLL_S)
            if message is None:
                continue
            error = message.error()
            if error is None:
                return message
            if error.code() in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                return None
            if not error.retriable():
                raise KafkaException(error)
        raise LogUnavailable(f"{partition.topic} {partition.number}: no message came for {MESSAGE_S_MAX:g} s", fix="check the brokers")

    def first_after(self, partition: Partition, epoch: int, first: int, end: int) -> int:
        """The first offset in [first, end] from which on all messages are of a later epoch."""
        while first < end:
            middle = (first + end) // 2
            message = self.message_at(partition, middle)
            if message is None or (message.leader_epoch() or 0) > epoch:
                end = middle
            else:
                first = (message.offset() or middle) + 1
        return end

    def close(self) -> None:
        self._consumer.close()
