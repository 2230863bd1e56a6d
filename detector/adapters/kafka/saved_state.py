"""What a worker reads of partitions before it judges them: where they stand, and the state that was kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.client import LogCallback, fetch, offsets_of, open_consumer
from detector.adapters.kafka.epochs import OffsetAndEpoch, ReadUpTo, divergences
from detector.adapters.kafka.errors import NOT_FOR_READERS, kafka_error, to_detector_error
from detector.adapters.kafka.properties import reader_properties
from detector.core.readings import Partition
from detector.errors import ConfigError, LogUnavailable
from detector.ports import PartitionPosition

ASK_S_MAX = 5.0
RESTORE_S_MAX = 10.0
SILENCE_S_MAX = 10.0
PIECE_ROWS_MAX = 2_000  # some 40 MB of the largest rows; librdkafka holds as much again
POLL_S = 0.05
EARLIEST = {"earliest", "smallest", "beginning"}
LATEST = {"latest", "largest", "end"}
STATE_READER = {
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": "10",  # the end of a partition is known when a fetch comes back empty; by default that takes 500 ms
    "max.partition.fetch.bytes": "8388608",  # few partitions, all of each: 1 MiB at a time takes a third longer
}

# -- where partitions stand -------------------------------------------------------------------------------------------


def partition_positions(
    consumer: Consumer,
    properties: Mapping[str, str],
    partitions: Sequence[Partition],
    known: Mapping[Partition, OffsetAndEpoch],
    reset: str,
    on_log: LogCallback,
) -> dict[Partition, tuple[PartitionPosition, int]]:
    """Where partitions stand; and the epoch that is committed beside the offset, -1 if none is.

    known  committed offsets of which the group may not have heard yet; they are newer than those that it tells
    reset  `auto.offset.reset`: where a partition begins of which no offset is committed, or whose log no longer holds it

    raises KafkaException  the brokers did not answer in time
    raises LogUnavailable  likewise
    raises ConfigError     `reset` is needed, and does not say where to begin
    """
    if not partitions:
        return {}
    asked = [TopicPartition(partition.topic, partition.number) for partition in partitions]
    group_offsets = consumer.committed(asked, timeout=RESTORE_S_MAX)
    offsets_of(group_offsets)
    own = {Partition(each.topic, each.partition) for each in group_offsets if each.metadata}
    committed = {**_offsets_and_epochs(group_offsets), **known}
    first, end = log_ends(consumer, partitions, OFFSET_BEGINNING), log_ends(consumer, partitions, OFFSET_END)
    found = {each: _position(each, committed[each].offset, first[each].offset, end[each].offset, reset, on_log) for each in partitions}
    # Where the leader is still the one of the last message that was read, nothing can have been lost.
    read = {
        each: ReadUpTo(at.offset, committed[each].epoch, at.first, at.end)
        for each, at in found.items()
        if at.is_committed and 0 <= committed[each].epoch < end[each].epoch
    }
    diverges_at = divergences(properties, read, on_log) if read else {}
    return {
        each: (replace(at, is_own=at.is_committed and each in own, diverges_at=diverges_at.get(each)), committed[each].epoch)
        for each, at in found.items()
    }


def log_ends(consumer: Consumer, partitions: Sequence[Partition], end: int) -> dict[Partition, OffsetAndEpoch]:
    """Per partition the offset at OFFSET_BEGINNING or OFFSET_END: one request per broker, where watermarks take one per partition.

    raises KafkaException  the brokers did not answer in time
    """
    asked = [TopicPartition(partition.topic, partition.number, end) for partition in partitions]
    found = consumer.offsets_for_times(asked, timeout=RESTORE_S_MAX)
    offsets_of(found)
    return _offsets_and_epochs(found)


def _offsets_and_epochs(found: Sequence[TopicPartition]) -> dict[Partition, OffsetAndEpoch]:
    return {
        Partition(each.topic, each.partition): OffsetAndEpoch(each.offset, -1 if each.leader_epoch is None else each.leader_epoch)
        for each in found
    }


def _position(partition: Partition, committed: int, first: int, end: int, reset: str, on_log: LogCallback) -> PartitionPosition:
    name = f"{partition.topic} {partition.number}"
    is_committed = committed != OFFSET_INVALID
    is_held = is_committed and first <= committed <= end
    if is_committed and not is_held:
        on_log("warning", f"{name}: offset {committed} is committed, but the log holds {first} to {end}; auto.offset.reset is {reset}")
    if not is_held and reset not in EARLIEST | LATEST:
        why = f"offset {committed} is committed, but the log holds {first} to {end}," if is_committed else "no offset is committed"
        raise ConfigError(f"{name}: {why} and auto.offset.reset is {reset!r}", fix="set it to earliest")
    to_end = reset in LATEST
    return PartitionPosition(committed if is_committed else end if to_end else first, is_committed, first, end, resets_to_end=to_end)


# -- the state --------------------------------------------------------------------------------------------------------


def read_state(
    properties: Mapping[str, str], partitions: Sequence[Partition], on_log: LogCallback
) -> Iterator[tuple[Partition, dict[bytes, bytes | None]]]:
    """What these partitions of state topics hold, piece by piece as it was written: of a key that comes again the later value counts.

    raises LogUnavailable  nothing came for 10 s
    raises ConfigError     no such topic, or this user may not read it
    """
    consumer = open_consumer({**reader_properties(properties), **STATE_READER}, lambda error: None, on_log)
    try:
        asked = [TopicPartition(each.topic, each.number, OFFSET_BEGINNING) for each in partitions]
        first = offsets_of(consumer.offsets_for_times(asked, timeout=ASK_S_MAX))  # assign() alone would find them 0.5 s later
        consumer.assign([TopicPartition(each.topic, each.number, offset) for each, offset in first.items()])
        yield from _read_to_the_end(consumer, partitions)
    except KafkaException as exception:
        topics = ", ".join(sorted({each.topic for each in partitions}))
        raise to_detector_error(kafka_error(exception), f"reading state from {topics}") from None
    finally:
        consumer.close()


def _read_to_the_end(consumer: Consumer, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, dict[bytes, bytes | None]]]:
    unread = set(partitions)
    heard = time.monotonic()
    while unread:
        batch = fetch(consumer, PIECE_ROWS_MAX, POLL_S)
        if batch:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_S_MAX:
            raise LogUnavailable(f"no state came for {SILENCE_S_MAX:g} s", fix="check the brokers")
        if any(map(KafkaMessage.error, batch)):
            unread -= {_partition_of(message) for message in batch if _is_end(message)}
            batch = [message for message in batch if message.error() is None]
        pieces: dict[Partition, dict[bytes, bytes | None]] = {}
        for message in batch:
            key = message.key()
            if isinstance(key, bytes):
                pieces.setdefault(_partition_of(message), {})[key] = message.value()
        del batch  # what it holds is not needed twice
        yield from pieces.items()
        heard = time.monotonic()


def _partition_of(message: KafkaMessage) -> Partition:
    return Partition(message.topic() or "", message.partition() or 0)


def _is_end(message: KafkaMessage) -> bool:
    """Whether this tells of the end of a partition.

    raises KafkaException  it tells of an error that does not pass
    """
    error = message.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return error is not None
    if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, NOT_FOR_READERS):
        return False
    raise KafkaException(error)
