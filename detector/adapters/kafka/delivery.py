"""What a way of delivery is: how decisions, state and offsets get to the brokers.

There are two, chosen by `delivery:` in the configuration: `exactly_once.ExactlyOnce` and `at_least_once.AtLeastOnce`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol, TypeAlias

from detector.adapters.kafka.epochs import OffsetAndEpoch
from detector.adapters.kafka.member import GroupMember
from detector.adapters.kafka.topic_watch import PendingTopics
from detector.core.readings import Partition
from detector.ports import CommitBatch

DeliveryName: TypeAlias = Literal["exactly_once", "at_least_once"]


class Delivery(Protocol):
    """A way of delivery.

    consumer_required   properties of the group's consumer that it depends on
    needs_transactions  whether the brokers must be able to do transactions
    """

    consumer_required: ClassVar[Mapping[str, str]]
    needs_transactions: ClassVar[bool]

    def serve(self) -> None:
        """Let log lines and errors of the producer be heard that came meanwhile. Never blocks."""

    def commit(self, member: GroupMember, batch: CommitBatch, topics: PendingTopics) -> None:
        """Write a batch and commit its offsets. Called with the member's `commit_lock`.

        topics  the input topics of the batch, asked for after the last of its messages was fetched

        raises LogUnavailable, CommitAborted  as `ports.Log.commit`
        raises ConfigError  the brokers refuse it: no permission, no such topic, an alert or a row of state too large
        raises ValueError   state of a topic that has no state topic
        """

    def settle(self, member: GroupMember, partitions: Sequence[Partition]) -> Mapping[Partition, OffsetAndEpoch]:
        """Before partitions are restored: wait until nothing is undecided that this worker or a dead one wrote.

        returns  committed offsets that the group may not have heard of yet; they are newer than those that it tells

        raises LogUnavailable  it is not decided yet
        raises ConfigError     brokers that cannot do transactions, or a user who may not
        """

    def release(self, member: GroupMember, partitions: Sequence[Partition]) -> None:
        """Before partitions are given up in order: tell their next owner that nothing is left open."""

    def close(self) -> None:
        """Free what is held. Idempotent."""
