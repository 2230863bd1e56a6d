"""A sample of a topic, and what the brokers tell of it: looked at without a group, nothing is committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.adapters.kafka.admin import ask_cluster, described_topics
from detector.adapters.kafka.client import LogCallback, discard
from detector.adapters.kafka.range_reader import ASK_S_MAX, RangeReader
from detector.codec.messages import Messages
from detector.errors import LogUnavailable

PARTS = (("oldest", 0.2), ("middle", 0.2), ("newest", 0.6))
"""Where in a partition the sample is taken, and which share of it."""
SETTINGS = ("cleanup.policy", "message.timestamp.type", "retention.ms", "max.message.bytes", "compression.type")
SMALL_FETCHES = {"queued.min.messages": "1000", "max.partition.fetch.bytes": "262144", "fetch.wait.max.ms": "50"}
"""Of a partition only some hundred messages are wanted."""


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """A partition: offset of its oldest message, the one after its newest, and how many messages of it are in the sample."""

    number: int
    low: int
    high: int
    sampled: int


@dataclass(frozen=True, slots=True)
class TopicSample:
    """Messages of a topic, each once, ordered by partition and offset.

    partitions   what each holds
    settings     of the topic, those of SETTINGS that the brokers tell
    gaps_share   share of the offsets in the ranges looked at that have no message: markers of transactions, what was aborted, and what
                 compaction removed
    is_newest    b1[M] whether a message is one of the newest of its partition, which follow one another
    is_whole     whether the sample is all that the topic holds
    """

    topic: str
    messages: Messages
    partitions: tuple[PartitionRange, ...]
    settings: Mapping[str, str]
    gaps_share: float
    is_newest: NDArray[np.bool_]
    is_whole: bool

    @property
    def held(self) -> int:
        """Messages that the topic holds, estimated."""
        return round(sum(each.high - each.low for each in self.partitions) * (1 - self.gaps_share))


def sample_topic(
    properties: Mapping[str, str],
    topic: str,
    messages_max: int = 5_000,
    timeout_s: float = 10.0,
    *,
    on_progress: Callable[[int], None] = lambda count: None,
    on_log: LogCallback = discard,
) -> TopicSample:
    """Read the oldest, some of the middle and the newest messages of every partition.

    timeout_s    what has come by then is the sample
    on_progress  is told how many messages have come

    raises ConfigError     no such topic; credentials refused; properties that librdkafka does not know
    raises LogUnavailable  the brokers do not answer; the topic holds messages and none came
    """
    deadline = time.monotonic() + timeout_s
    with RangeReader({**SMALL_FETCHES, **properties}, topic, on_log=on_log) as reader:
        with reader.closed_if_it_fails():
            bounds = reader.bounds()
        ranges = _ranges(bounds, max(1, messages_max // len(bounds)))
        read: list[Messages] = []
        count = 0
        for first, end in ranges.values():
            with reader.closed_if_it_fails():
                reader.begin(first, end)
            for messages in reader.batches(deadline_s=deadline):
                read.append(messages)
                count += len(messages)
                on_progress(count)
    joined = _joined(read)
    offsets = sum(high - low for low, high in bounds.values())
    if offsets and not len(joined) and time.monotonic() >= deadline:
        raise LogUnavailable(f"{topic} holds messages, and none came within {timeout_s:g} s", fix="check the brokers, try again")
    settings = {} if ask_cluster(properties, ASK_S_MAX, on_log).is_mock else described_topics(properties, [topic], ASK_S_MAX, on_log)[topic]
    counts = {partition.number: int(count) for partition, count in zip(joined.partitions, np.bincount(joined.partition), strict=False)}
    looked_at = sum(end[number] - first[number] for first, end in ranges.values() for number in first)
    return TopicSample(
        topic,
        joined,
        tuple(PartitionRange(number, low, high, counts.get(number, 0)) for number, (low, high) in sorted(bounds.items())),
        {name: settings[name] for name in SETTINGS if name in settings},
        1 - len(joined) / looked_at if looked_at else 0.0,
        joined.offset >= _newest_from(joined, ranges),
        looked_at == offsets,
    )


Range = tuple[dict[int, int], dict[int, int]]
"""Per partition the first offset, and the one after the last."""


def _ranges(bounds: Mapping[int, tuple[int, int]], quota: int) -> dict[str, Range]:
    """Which offsets to read, by the part of a partition that they are of."""
    found: dict[str, Range] = {part: ({}, {}) for part, _ in PARTS}
    for number, (low, high) in bounds.items():
        if high - low <= quota:
            chosen = {"newest": (low, high)}
        else:
            oldest, middle, newest = (max(1, int(quota * share)) for _, share in PARTS)
            centre = max(low + oldest, (low + high - newest - middle + oldest) // 2)
            chosen = {
                "oldest": (low, low + oldest),
                "middle": (centre, min(centre + middle, high - newest)),
                "newest": (high - newest, high),
            }
        for part, (first, end) in chosen.items():
            if first < end:
                found[part][0][number], found[part][1][number] = first, end
    return {part: each for part, each in found.items() if each[0]}


def _newest_from(messages: Messages, ranges: Mapping[str, Range]) -> NDArray[np.int64]:
    """Of each message's partition, the offset that the newest ones begin at."""
    first, _ = ranges.get("newest", ({}, {}))
    begins = np.array([first.get(partition.number, 0) for partition in messages.partitions], np.int64)
    return begins[messages.partition]


def _joined(batches: list[Messages]) -> Messages:
    """All of them, ordered by partition and offset."""
    if not batches:
        return Messages()
    names = sorted({partition for batch in batches for partition in batch.partitions})
    place = {partition: number for number, partition in enumerate(names)}
    partition = np.concatenate([np.array([place[each] for each in batch.partitions], np.int32)[batch.partition] for batch in batches])
    offset = np.concatenate([batch.offset for batch in batches])
    order = np.lexsort((offset, partition))
    keys = [key for batch in batches for key in batch.key]
    values = [value for batch in batches for value in batch.value]
    return Messages(
        [keys[at] for at in order.tolist()],
        [values[at] for at in order.tolist()],
        partition[order],
        offset[order],
        np.concatenate([batch.log_time_us for batch in batches])[order],
        tuple(names),
    )
