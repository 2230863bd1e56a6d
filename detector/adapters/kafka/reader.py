"""Reads the messages of partitions that are restored and resumed, and of no others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.assignment import Assignment
from detector.adapters.kafka.client import named, to_messages
from detector.adapters.kafka.epochs import LeaderEpochs
from detector.adapters.kafka.errors import kafka_error, to_detector_error
from detector.adapters.kafka.saved_state import RESTORE_S_MAX, log_ends
from detector.codec.messages import Messages
from detector.core.readings import Partition

SEEK_PAUSE_S = 0.005


class PartitionReader:
    """What may be read of which partition.

    topics         that may occur
    assignment     notified of partitions whose log changed
    epochs         of what was read
    with_log_time  whether messages carry Kafka's own time
    """

    def __init__(self, topics: Sequence[str], assignment: Assignment, epochs: LeaderEpochs, *, with_log_time: bool) -> None:
        self._topics, self._assignment, self._epochs = tuple(topics), assignment, epochs
        self._with_log_time = with_log_time
        self._resumed: dict[Partition, int] = {}  # where each partition that may be read was resumed

    def readable(self, batch: list[KafkaMessage]) -> Messages:
        """The messages as columns, without those of partitions that were revoked or are not resumed yet."""
        if not batch:
            return Messages()
        messages = to_messages(batch, self._topics, with_log_time=self._with_log_time)
        for partition in self._epochs.read(batch, messages) & self._resumed.keys():
            self._assignment.log_changed(partition, is_stopped=False)
            self.stop([partition])
        readable = [partition in self._resumed for partition in messages.partitions]
        if all(readable):
            return messages
        return messages.take(np.array(readable)[messages.partition])

    def stop(self, partitions: Iterable[Partition]) -> None:
        """Read no more of these; what librdkafka still has of them is dropped."""
        for partition in partitions:
            self._resumed.pop(partition, None)
            self._epochs.forget(partition)

    def stop_all(self) -> None:
        """Read nothing any more."""
        self._resumed.clear()

    def pause(self, consumer: Consumer, partitions: Sequence[Partition]) -> None:
        """Read no more of these, and fetch none of their messages.

        raises KafkaException  one is not this consumer's
        """
        self.stop(partitions)
        consumer.pause([TopicPartition(each.topic, each.number) for each in partitions])

    def resume(self, consumer: Consumer, offsets: Mapping[Partition, int]) -> None:
        """Read on from these offsets.

        raises LogUnavailable  resume again
        """
        deadline = time.monotonic() + RESTORE_S_MAX
        again = self._assignment.stopped & offsets.keys()
        try:
            # Before they are assigned again: librdkafka starts those on a thread of its own, and of what else is asked of them meanwhile
            # it drops one or the other as outdated (2.16). They begin at their offsets by themselves.
            consumer.resume([TopicPartition(partition.topic, partition.number) for partition in offsets])
            if again:
                consumer.incremental_unassign([TopicPartition(each.topic, each.number) for each in again])
                consumer.incremental_assign([TopicPartition(each.topic, each.number, offsets[each]) for each in again])
                self._assignment.stopped -= again
            for partition in offsets.keys() - again:
                self._seek(consumer, partition, offsets[partition], deadline)
            log_ends(consumer, list(offsets), OFFSET_END)  # any request wakes the connections, which would notice up to a second later
        except KafkaException as exception:
            raise to_detector_error(kafka_error(exception), f"resuming {len(offsets)} partitions") from None
        self._resumed.update(offsets)

    def _seek(self, consumer: Consumer, partition: Partition, offset: int, deadline: float) -> None:
        while True:
            try:
                consumer.seek(TopicPartition(partition.topic, partition.number, offset))
                return
            except KafkaException as exception:
                # Just assigned: librdkafka is not ready to move the position yet. Or it was fenced: the next poll tells.
                if partition not in named(consumer.assignment()):
                    return
                if kafka_error(exception).code() != KafkaError._STATE:
                    raise
                if time.monotonic() > deadline:
                    self._assignment.stopped.add(partition)  # the next call assigns it again
                    raise
                time.sleep(SEEK_PAUSE_S)

    def lag(self, consumer: Consumer) -> Mapping[Partition, int]:
        """Messages between read position and end, per partition. Ends as of the last fetch; a partition of which none was heard yet is left out."""
        lag = {}
        for partition, resumed in self._resumed.items():
            where = TopicPartition(partition.topic, partition.number)
            _, high = consumer.get_watermark_offsets(where, cached=True)
            position = consumer.position([where])[0].offset
            if high >= 0:
                lag[partition] = max(0, high - (position if position >= 0 else resumed))
        return lag
