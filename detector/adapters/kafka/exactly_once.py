"""Delivery exactly once (KIP-98, KIP-447): alerts, dead letters, rows of state and the input's offsets in one transaction.

Who reads with `isolation.level=read_committed` sees all of a transaction or nothing. The coordinator of the group refuses it from a worker
whose partitions are another's by now.

Whose transactions are open. The transactional id follows a static worker's name, which ends what it left open when it starts again. A
dynamic worker has a new one at every start, so its successor does that: every offset carries the id of the worker that committed it, until
that worker releases the partition (`commit_owners`).

Why no zombie commits. Every transaction carries offsets, with the membership as it is when they are sent. After a loss librdkafka joins
again, and has a membership that would be believed, only when the lost partitions are unassigned. That waits for the commit in flight
(`GroupMember.commit_lock`), and a later one finds its partitions gone. In between there is no member id. A membership without one and
without a generation would be accepted, as that of a client that is in no group: such a commit is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from confluent_kafka import KafkaError

from detector.adapters.kafka.client import LogCallback
from detector.adapters.kafka.commit_owners import RELEASED, CommitOwner, end_open_transactions
from detector.adapters.kafka.epochs import OffsetAndEpoch
from detector.adapters.kafka.member import GroupMember
from detector.adapters.kafka.records import OutputTopics
from detector.adapters.kafka.topic_watch import PendingTopics
from detector.adapters.kafka.transactions import ConsumedOffsets, Transactions
from detector.core.readings import Partition
from detector.errors import DetectorError
from detector.ports import CommitBatch


class ExactlyOnce:
    """A `delivery.Delivery` by transactions.

    worker  this worker's name within the group
    """

    consumer_required: ClassVar[Mapping[str, str]] = {
        "enable.auto.offset.store": "false",
        "enable.auto.commit": "false",  # offsets are part of a transaction, and go no other way
        "isolation.level": "read_committed",  # also makes the look-up of committed offsets wait for undecided transactions (KIP-447)
    }
    needs_transactions: ClassVar[bool] = True

    def __init__(
        self,
        properties: Mapping[str, str],
        group: str,
        worker: str,
        topics: OutputTopics,
        on_error: Callable[[KafkaError], None],
        on_log: LogCallback,
    ) -> None:
        self._properties, self._group, self._topics = dict(properties), group, topics
        self._on_log = on_log
        self._transactions = Transactions(properties, f"{group}.{worker}", on_error, on_log)
        self._owners: dict[Partition, CommitOwner] = {}  # other workers whose transactions were ended

    def serve(self) -> None:
        """See `Delivery`."""
        self._transactions.serve()

    def commit(self, member: GroupMember, batch: CommitBatch, topics: PendingTopics) -> None:
        """See `Delivery`."""
        records = self._topics.decisions(batch) + self._topics.state_rows(batch)
        # The coordinator refuses a zombie for its offsets: a transaction without new ones repeats those of its state.
        offsets = {each: member.positions[each].offset for each in batch.state} | dict(batch.offsets)
        self._transactions.commit(records, lambda: _consumed(member, offsets, self._transactions.transactional_id, topics))

    def settle(self, member: GroupMember, partitions: Sequence[Partition]) -> Mapping[Partition, OffsetAndEpoch]:
        """See `Delivery`. All that this worker committed is known to the group."""
        with member.commit_lock:
            self._transactions.ready()  # also settles what became of a commit that nobody knows about
        own_id, known = self._transactions.transactional_id, self._owners
        self._owners |= end_open_transactions(self._properties, self._group, partitions, own_id, known, self._on_log)
        return {}

    def release(self, member: GroupMember, partitions: Sequence[Partition]) -> None:
        """See `Delivery`. Takes this worker's id off the offsets."""
        if not self._transactions.is_ready:
            return  # something went wrong, and may be undecided
        offsets = {each: at.offset for each, at in member.positions.committed(partitions).items()}
        if not offsets:
            return
        try:
            with member.commit_lock:
                topics = member.watch.request(sorted({each.topic for each in offsets}))
                self._transactions.commit([], lambda: _consumed(member, offsets, RELEASED, topics))
        except DetectorError as error:
            self._on_log("info", f"this worker's name stays on {len(offsets)} partitions: {error}")

    def close(self) -> None:
        """See `Delivery`."""
        self._transactions.close()


def _consumed(member: GroupMember, offsets: Mapping[Partition, int], owner: str, topics: PendingTopics) -> ConsumedOffsets:
    """The offsets of a transaction and the membership that is believed with them; asked for as late as can be.

    owner  what the committed offsets carry: a transactional id, or RELEASED

    raises CommitAborted  the partitions are not this worker's any more, their topics were made anew, or its session has ended
    """
    if not offsets:
        return ConsumedOffsets([], None)
    partitions = list(offsets)
    member.positions.check_unchanged(partitions, topics)
    member.positions.check_owned(partitions)
    return ConsumedOffsets(member.positions.to_commit(offsets, owner), member.group_metadata())
