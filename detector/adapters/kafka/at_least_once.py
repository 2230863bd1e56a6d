"""Delivery at least once: decisions are written and acknowledged before the offsets behind them are stored.

librdkafka sends stored offsets once per `auto.commit.interval.ms`, at a rebalance and at the end. Where state goes along, the offsets are
sent at once and the rows after them: state is never ahead of the offsets. After a crash up to that interval's messages are judged again. An
alert that is written twice has the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from confluent_kafka import KafkaError, KafkaException

from detector.adapters.kafka.client import LogCallback, offsets_of, open_producer
from detector.adapters.kafka.epochs import OffsetAndEpoch
from detector.adapters.kafka.errors import NOT_A_MEMBER, REBALANCING, is_fatal, is_name_taken, kafka_error, to_detector_error
from detector.adapters.kafka.member import GroupMember
from detector.adapters.kafka.properties import producer_properties
from detector.adapters.kafka.records import OutputTopics, Record, Refusal, enqueue, shortened
from detector.adapters.kafka.topic_watch import PendingTopics
from detector.core.readings import Partition
from detector.errors import CommitAborted, LogUnavailable
from detector.ports import CommitBatch


class AtLeastOnce:
    """A `delivery.Delivery` by an idempotent producer with acks=all."""

    consumer_required: ClassVar[Mapping[str, str]] = {
        "enable.auto.offset.store": "false",  # an offset is stored by commit(), after the alerts before it are written
        "enable.auto.commit": "true",  # stored offsets follow once per interval, at a rebalance and at the end
    }
    needs_transactions: ClassVar[bool] = False

    def __init__(
        self,
        properties: Mapping[str, str],
        group: str,
        worker: str,
        topics: OutputTopics,
        on_error: Callable[[KafkaError], None],
        on_log: LogCallback,
    ) -> None:
        self._topics = topics
        self._on_log = on_log
        self._open = partial(open_producer, producer_properties(properties), on_error, on_log)
        self._producer = self._open()

    def serve(self) -> None:
        """See `Delivery`."""
        self._producer.poll(0)

    def commit(self, member: GroupMember, batch: CommitBatch, topics: PendingTopics) -> None:
        """See `Delivery`. Writes decisions, then offsets, then state."""
        decisions, rows = self._topics.decisions(batch), self._topics.state_rows(batch)
        member.positions.check_unchanged([*batch.offsets, *batch.state], topics)
        self._write(decisions)
        offsets = member.positions.to_commit(batch.offsets)
        try:
            member.consumer.store_offsets(offsets=offsets)
            if rows and offsets:
                offsets_of(member.consumer.commit(offsets=offsets, asynchronous=False))
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() in NOT_A_MEMBER | REBALANCING | {KafkaError._STATE} or is_name_taken(error) or is_fatal(error):
                raise CommitAborted(f"the group has moved on: {error.str()}") from None
            raise to_detector_error(error, "committing offsets", is_running=True) from None
        self._write(rows)

    def settle(self, member: GroupMember, partitions: Sequence[Partition]) -> Mapping[Partition, OffsetAndEpoch]:
        """See `Delivery`. Nothing is ever undecided; Kafka hears of a stored offset within the commit interval."""
        return member.positions.committed(partitions)

    def release(self, member: GroupMember, partitions: Sequence[Partition]) -> None:
        """See `Delivery`. There is nothing to tell."""

    def close(self) -> None:
        """See `Delivery`. All that was written is acknowledged."""

    def _write(self, records: Sequence[Record]) -> None:
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
        raise to_detector_error(error, what, is_running=True)

    def _send_alone(self, refusal: Refusal) -> list[Refusal]:
        """Try what was too large again: alone (it may only have shared a batch with others); a dead letter then with its reason only."""
        if not refusal.is_too_large:
            return [refusal]
        failed = self._send([refusal.record])
        if failed and refusal.record.is_dead_letter and failed[0].is_too_large:
            failed = self._send([shortened(refusal.record, self._on_log)])
        return failed

    def _send(self, records: Sequence[Record]) -> list[Refusal]:
        """Write all, wait for all; those that failed."""
        refused: list[Refusal] = []
        for record in records:
            enqueue(self._producer, record, refused)
        self._producer.flush()
        return refused
