"""Kafka as a `Log`: a member of a consumer group, and a way of delivery for what was decided.

Whose messages they are. A topic may be deleted, and made anew under its name, while it is read. `topic_watch` asks for the ids of topics
every two seconds, and with every commit. What is committed was fetched before that question: if the id is still that of the restore, all of
it came from the log that was restored. A topic that has another id is read by another consumer. A log that lost its end, or of which
retention took what was to be read next, stops the consumer with an error (`auto.offset.reset` is `error` for librdkafka, whatever the
configuration says: `restore` follows that).

`exactly_once` and `at_least_once` say what a commit does; why no zombie commits is in the former.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from confluent_kafka import KafkaError, KafkaException

from detector.adapters.kafka.at_least_once import AtLeastOnce
from detector.adapters.kafka.client import LogCallback, discard
from detector.adapters.kafka.delivery import Delivery, DeliveryName
from detector.adapters.kafka.errors import kafka_error, to_detector_error
from detector.adapters.kafka.exactly_once import ExactlyOnce
from detector.adapters.kafka.member import GroupMember
from detector.adapters.kafka.properties import consumer_properties
from detector.adapters.kafka.records import OutputTopics
from detector.adapters.kafka.saved_state import partition_positions, read_state
from detector.adapters.kafka.topic_watch import TopicWatch
from detector.adapters.kafka.topics import check_topics
from detector.core.readings import Partition
from detector.ports import CommitBatch, PartitionPosition, PollResult, RevokeCallback, ignore_revoke


class KafkaLog:
    """A worker's view of its topics. Nothing is read of a partition before it is restored and resumed.

    topics         input topics
    group          consumer group
    alerts_topic, dead_letters_topic   where decisions go
    properties     librdkafka's, under their own names; they win over our defaults, never over what delivery depends on
    delivery       exactly_once needs brokers with transactions (Kafka 2.5); at_least_once may write alerts again after a crash
    state_topics   per input topic, its state topic: compacted, with as many partitions; empty: no state is kept
    with_log_time  whether messages carry Kafka's own time
    on_log         takes log lines

    raises ConfigError  properties that librdkafka does not know or that contradict the delivery guarantee
    """

    def __init__(
        self,
        topics: Sequence[str],
        group: str,
        alerts_topic: str,
        dead_letters_topic: str,
        properties: Mapping[str, str],
        *,
        delivery: DeliveryName = "exactly_once",
        state_topics: Mapping[str, str] = MappingProxyType({}),
        with_log_time: bool = True,
        on_log: LogCallback = discard,
    ) -> None:
        self._topics = tuple(topics)
        self._outputs = OutputTopics(alerts_topic, dead_letters_topic, dict(state_topics))
        self._properties = dict(properties)
        self._on_log = on_log
        way = ExactlyOnce if delivery == "exactly_once" else AtLeastOnce
        group_properties = consumer_properties(properties, group, way.consumer_required)
        self._reset = group_properties["auto.offset.reset"]
        group_properties["auto.offset.reset"] = "error"  # `restore` follows the configuration's
        worker = group_properties.get("group.instance.id", str(uuid.uuid4()))
        self._delivery: Delivery = way(properties, group, worker, self._outputs, self._on_producer_error, on_log)
        self._watch = TopicWatch(properties, topics, state_topics, on_log)
        self._member = GroupMember(
            topics, properties, group_properties, self._watch, with_log_time=with_log_time, on_release=self._release, on_log=on_log
        )

    def _on_producer_error(self, error: KafkaError) -> None:
        self._member.on_error(error)

    def _release(self, partitions: Sequence[Partition]) -> None:
        self._delivery.release(self._member, partitions)

    def check(self, timeout_s: float = 10.0, missing: Literal["wait", "fail"] = "fail") -> dict[str, int]:
        """Before the start: brokers that answer, topics as they should be; the number of partitions of each.

        missing  whether an input topic that is missing is waited for, if another one is there

        raises LogUnavailable  no broker answered within `timeout_s`
        raises ConfigError     credentials refused, topics missing or wrong, brokers that are a mock
        """
        return check_topics(
            self._properties,
            self._topics,
            (self._outputs.alerts, self._outputs.dead_letters),
            state=self._outputs.state,
            exactly_once=self._delivery.needs_transactions,
            missing=missing,
            timeout_s=timeout_s,
            on_log=self._on_log,
        )

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback = ignore_revoke) -> PollResult:
        """See `ports.Log`. A partition in both `revoked` and `assigned` was revoked first."""
        commit_lock = self._member.commit_lock
        if commit_lock.acquire(blocking=False):  # a commit in flight hears what there is to hear
            self._delivery.serve()
            commit_lock.release()
        return self._member.poll(messages_max, timeout_s, on_revoke)

    def topics_missing(self) -> Sequence[str]:
        """See `ports.Log`."""
        return tuple(sorted(self._member.assignment.missing))

    def commit(self, batch: CommitBatch) -> None:
        """See `ports.Log`.

        raises ConfigError  the brokers refuse what is written: no permission, no such topic, an alert or a row of state too large
        raises ValueError   state of a topic that has no state topic
        """
        partitions = [*batch.offsets, *batch.state]
        with self._member.commit_lock:
            self._member.positions.check_owned(partitions)
            self._delivery.commit(self._member, batch, self._watch.request(_topics_of(partitions)))
            self._member.positions.advance(batch.offsets)

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, PartitionPosition]:
        """See `ports.Log`. Where no offset is committed, `auto.offset.reset` says where a new group begins.

        raises LogUnavailable  the brokers did not answer in time, or a transaction of a worker that died is still undecided
        raises ConfigError     no offset is committed and `auto.offset.reset` is `error`; brokers that cannot do transactions
        """
        if not partitions:
            return {}
        member, topics = self._member, self._watch.request(_topics_of(partitions))
        try:
            member.reader.pause(member.consumer, partitions)
            known = self._delivery.settle(member, partitions)
            found = topics.result()
            member.assignment.update({each.topic for each in partitions}, found)
            partitions = [each for each in partitions if member.assignment.can_be_judged(each)]
            standing = partition_positions(member.consumer, self._properties, partitions, known, self._reset, self._on_log)
        except KafkaException as exception:
            what = f"restoring {len(partitions)} partitions"
            raise to_detector_error(kafka_error(exception), what, is_running=True) from None
        positions = {each: replace(at, log_id=found[each.topic].id) for each, (at, _) in standing.items()}
        member.restored(positions, {each: epoch for each, (_, epoch) in standing.items()})
        return positions

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """See `ports.Log`.

        raises LogUnavailable  nothing came for 10 s
        raises ConfigError     no such topic, or this user may not read it
        """
        topics = self._outputs.state
        kept = {Partition(topics[each.topic], each.number): each for each in partitions if each.topic in topics}
        if kept:
            for partition, records in read_state(self._properties, list(kept), self._on_log):
                yield kept[partition], records

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """See `ports.Log`."""
        if offsets:
            self._member.reader.resume(self._member.consumer, offsets)

    def lag(self) -> Mapping[Partition, int]:
        """See `ports.Log`. A partition of whose end nothing was heard yet is left out."""
        return self._member.reader.lag(self._member.consumer)

    def close(self) -> None:
        """See `ports.Log`. Sends the stored offsets. A dynamic member hands its partitions over now; a static one when its session ends."""
        member = self._member
        if member.is_closed:
            return
        if not member.errors.is_away:
            member.update_membership()
            self._release(member.positions.partitions())
        member.close()
        self._delivery.close()


def _topics_of(partitions: Sequence[Partition]) -> list[str]:
    return sorted({each.topic for each in partitions})
