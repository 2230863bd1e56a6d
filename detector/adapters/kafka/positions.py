"""Where this worker's partitions stand: what is committed of each, and whether it may still be committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from confluent_kafka import TopicPartition

from detector.adapters.kafka.epochs import LeaderEpochs, OffsetAndEpoch
from detector.adapters.kafka.topic_watch import PendingTopics
from detector.core.readings import Partition
from detector.errors import CommitAborted
from detector.ports import PartitionPosition


class Positions:
    """The positions of the partitions that are restored and still this worker's.

    epochs            of what was read
    on_topic_changed  called when a commit finds that a topic was deleted or made anew
    """

    def __init__(self, epochs: LeaderEpochs, on_topic_changed: Callable[[], None]) -> None:
        self._epochs, self._on_topic_changed = epochs, on_topic_changed
        self._positions: dict[Partition, PartitionPosition] = {}

    def __getitem__(self, partition: Partition) -> PartitionPosition:
        return self._positions[partition]

    def partitions(self) -> list[Partition]:
        """The partitions that have a position."""
        return list(self._positions)

    def restored(self, positions: Mapping[Partition, PartitionPosition]) -> None:
        """Partitions stand there from now on."""
        self._positions.update(positions)

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Partitions are not this worker's any more. A commit in flight that has not sent its offsets yet sees this."""
        for partition in partitions:
            self._positions.pop(partition, None)

    def advance(self, offsets: Mapping[Partition, int]) -> None:
        """These offsets are committed."""
        for partition, offset in offsets.items():
            if (position := self._positions.get(partition)) is not None:
                self._positions[partition] = replace(position, offset=offset, is_committed=True)

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, OffsetAndEpoch]:
        """Of `partitions`, those of which an offset is committed, as far as this worker knows."""
        found = {each: self._positions[each] for each in partitions if each in self._positions}
        return {each: OffsetAndEpoch(at.offset, self._epochs[each]) for each, at in found.items() if at.is_committed}

    def to_commit(self, offsets: Mapping[Partition, int], owner: str = "") -> list[TopicPartition]:
        """Offsets as they are committed: each with the epoch of the last leader that anything was read of.

        owner  who commits them (`commit_owners`)
        """
        return [TopicPartition(each.topic, each.number, offset, owner, leader_epoch=self._epochs[each]) for each, offset in offsets.items()]

    def check_owned(self, partitions: Sequence[Partition]) -> None:
        """raises CommitAborted  one of these partitions is another worker's, or was not restored"""
        for partition in partitions:
            if partition not in self._positions:
                raise CommitAborted(f"{partition.topic} {partition.number} is not this worker's any more, or was not restored")

    def check_unchanged(self, partitions: Sequence[Partition], topics: PendingTopics) -> None:
        """See that all that was read of these partitions came from the log that was restored.

        topics  theirs, asked for after the last of what is to be committed was fetched

        raises CommitAborted   the topic of one of them is another one by now, or is gone
        raises LogUnavailable  the brokers do not answer
        """
        found = topics.result()
        for partition in partitions:
            position, topic = self._positions.get(partition), found[partition.topic]
            if position is not None and (position.log_id != topic.id or not topic.partitions):
                self._on_topic_changed()
                raise CommitAborted(f"topic {partition.topic} was deleted, and what was read of it is not committed")
