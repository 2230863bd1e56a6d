"""Whether a partition's log is still the one that was read, found from the leader epochs of its messages.

A broker that lost the end of a log (an unclean shutdown, a follower that was behind and became the leader) writes other messages at
offsets that were read before. Every message carries the epoch of the leader that wrote it. Epochs never fall along a log, and who writes
after such a loss has a later epoch than any message that was read before it. So the epoch stands beside every committed offset: where
the last message before that offset has a later one by now, or is gone, the log differs from the first message of a later epoch on.

source: KIP-101 and KIP-320. librdkafka compares epochs while it reads on, but not at a start (2.16).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.client import LogCallback, open_consumer
from detector.adapters.kafka.errors import kafka_error, to_detector_error
from detector.adapters.kafka.properties import reader_properties
from detector.codec.messages import Messages
from detector.core.readings import Partition
from detector.errors import LogUnavailable

MESSAGE_S_MAX = 10.0
POLL_S = 0.1
EVERYTHING = {
    "isolation.level": "read_uncommitted",  # what a transaction wrote has an epoch before it is decided
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": "10",
    "max.partition.fetch.bytes": "16384",  # of what comes one message is looked at
}


class OffsetAndEpoch(NamedTuple):
    """An offset, and the epoch of a leader no earlier than that of the message before it; -1: not known."""

    offset: int
    epoch: int = -1


class ReadUpTo(NamedTuple):
    """How far a partition was read, and what its log holds now.

    offset       of the next message to read
    epoch        of a leader at that time, no earlier than that of the last message before it
    first, end   the log holds the offsets [first, end)
    """

    offset: int
    epoch: int
    first: int
    end: int


class LeaderEpochs:
    """Per partition the epoch of the last leader that anything was read of.

    What was committed before a restore is read again to bring the state up to date; it must be what was read then.
    """

    def __init__(self) -> None:
        self._epochs: dict[Partition, int] = {}
        self._known: dict[Partition, OffsetAndEpoch] = {}  # what was committed when it was restored, until it is read up to there

    def __getitem__(self, partition: Partition) -> int:
        """-1 where none is known."""
        return self._epochs.get(partition, -1)

    def restored(self, partition: Partition, committed: OffsetAndEpoch, *, is_known: bool) -> None:
        """Reading begins anew. is_known: messages before the committed offset were read, as far as the log still has them."""
        self._epochs[partition] = committed.epoch
        self._known.pop(partition, None)
        if is_known and committed.epoch >= 0:
            self._known[partition] = committed

    def forget(self, partition: Partition) -> None:
        """It is read no more."""
        self._known.pop(partition, None)

    def read(self, batch: Sequence[KafkaMessage], messages: Messages) -> set[Partition]:
        """Note a batch that was read; `messages` are the same as columns.

        returns  partitions that brought other messages before their committed offset than were read there at first
        """
        epochs = leader_epochs(batch, messages)
        differing = set()
        for partition, next_offset in messages.next_offsets().items() if self._known else ():
            committed = self._known.get(partition)
            if committed is None:
                continue
            if epochs.get(partition, -1) > committed.epoch and holds_others(batch, partition, committed):
                differing.add(partition)
            elif next_offset >= committed.offset:
                del self._known[partition]
        self._epochs.update((partition, epoch) for partition, epoch in epochs.items() if partition not in differing)
        return differing


def leader_epochs(batch: Sequence[KafkaMessage], messages: Messages) -> dict[Partition, int]:
    """Per partition the epoch of its last message in a batch; `messages` are the same as columns. Old message formats have none."""
    last = np.zeros(len(messages.partitions), np.int64)
    last[messages.partition] = np.arange(len(batch))  # of equal places the last one counts
    found = [(partition, batch[at].leader_epoch()) for partition, at in zip(messages.partitions, last.tolist(), strict=True)]
    return {partition: epoch for partition, epoch in found if epoch is not None}


def holds_others(batch: Sequence[KafkaMessage], partition: Partition, committed: OffsetAndEpoch) -> bool:
    """Whether one of a partition's messages before its committed offset is of a later leader than any that was read before it."""
    return any(
        (message.offset() or 0) < committed.offset and (message.leader_epoch() or 0) > committed.epoch
        for message in batch
        if (message.topic(), message.partition()) == partition
    )


def divergences(properties: Mapping[str, str], read: Mapping[Partition, ReadUpTo], on_log: LogCallback) -> dict[Partition, int]:
    """Per partition whose log differs by now from what was read of it: the first offset that does.

    raises LogUnavailable  the brokers do not answer
    """
    found = {}
    reader = _Reader(properties, on_log)
    try:
        for partition, at in read.items():
            if at.first < at.offset <= at.end:
                message = reader.message_at(partition, at.offset - 1)
                if message is None or message.offset() != at.offset - 1 or (message.leader_epoch() or 0) <= at.epoch:
                    continue  # the message is the same, or was compacted away
            if at.offset > at.first:
                found[partition] = reader.first_after(partition, at.epoch, at.first, min(at.end, at.offset))
    except KafkaException as exception:
        raise to_detector_error(kafka_error(exception), "comparing leader epochs") from None
    finally:
        reader.close()
    return found


class _Reader:
    """Reads single messages."""

    def __init__(self, properties: Mapping[str, str], on_log: LogCallback) -> None:
        self._consumer: Consumer = open_consumer({**reader_properties(properties), **EVERYTHING}, lambda error: None, on_log)

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
