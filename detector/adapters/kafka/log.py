"""Kafka as a `Log`: a member of a consumer group, and a producer for what was decided.

Exactly once (KIP-98, KIP-447): `commit` puts alerts, dead letters, rows of state and the input's offsets into one transaction. Who
reads with `isolation.level=read_committed` sees all of it or nothing, and the coordinator of the group refuses it from a
worker whose partitions are another's by now.

At least once: `commit` writes alerts and dead letters, waits until the brokers have them (acks=all), and only then stores
the offsets, which librdkafka sends once per `auto.commit.interval.ms`, at a rebalance and at the end. Where state goes along, the
offsets are sent at once and the rows after them: state is never ahead. After a crash up to that interval's messages are
judged again; an alert that is written twice has the same id.

Whose transactions are open. The transactional id follows a static worker's name, which ends what it left open when it starts again; a
dynamic one's successor does so: every offset bears the id of the worker that committed it, until that worker gives the partition up in
order. Who takes over a partition that bears a name ends what its bearer has left open.

Why no zombie commits. Every transaction carries offsets, with the membership as it is when they are sent. After a loss librdkafka
joins again, and has a membership that would be believed, only when the lost partitions are unassigned; that waits for
the commit on its way (`_committing`), and a later one finds its partitions gone. In between there is no member id. A membership
without one and without a generation would be accepted, as that of a client that is in no group: such a commit is refused here.

Whose messages they are. A topic may be deleted, and made anew under its name, while it is read; `topic_watch` asks for the ids of topics
every two seconds, and with every commit. What is committed was fetched before that question: if the id is still that of the
restore, all of it came from the log that was restored. A topic that has another id is read by another consumer. A log that lost its end,
or of which retention took what was to be read next, stops the consumer with an error (`auto.offset.reset` is `error` for librdkafka,
whatever the configuration says: `restore` follows that).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from detector.adapters.kafka.client import (
    Delivery,
    LogCallback,
    consumer_properties,
    discard,
    is_fatal,
    is_name_taken,
    kafka_error,
    offsets_of,
    to_detector_error_while_running,
)
from detector.adapters.kafka.epochs import Place
from detector.adapters.kafka.member import GroupMember
from detector.adapters.kafka.output import KafkaOutput, Record, decided, state_rows
from detector.adapters.kafka.restore import RELEASED, CommitOwner, end_open_transactions, positions, read_state
from detector.adapters.kafka.topic_watch import Question, TopicWatch
from detector.adapters.kafka.topics import check_topics
from detector.adapters.kafka.transactions import AGAIN, SESSION_LOST, Position, Transactions
from detector.core.readings import Partition
from detector.errors import CommitAborted, DetectorError
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
    on_log            takes log lines

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
        delivery: Delivery = "exactly_once",
        state_topics: Mapping[str, str] = MappingProxyType({}),
        with_log_time: bool = True,
        on_log: LogCallback = discard,
    ) -> None:
        self._topics = tuple(topics)
        self._group = group
        self._alerts_topic, self._dead_letters_topic = alerts_topic, dead_letters_topic
        self._state_topics = dict(state_topics)
        self._properties = dict(properties)
        self._with_log_time = with_log_time
        self._on_log = on_log
        self._owners: dict[Partition, CommitOwner] = {}  # names of other workers that were dealt with
        group_properties = consumer_properties(properties, group, delivery)
        self._reset = group_properties["auto.offset.reset"]
        group_properties["auto.offset.reset"] = "error"  # `restore` follows the configuration's
        self._output: KafkaOutput | Transactions
        if delivery == "exactly_once":
            transactional_id = f"{group}.{group_properties.get('group.instance.id', uuid.uuid4())}"
            self._output = Transactions(properties, transactional_id, self._hear, on_log)
        else:
            self._output = KafkaOutput(properties, self._hear, on_log)
        self._watch = TopicWatch(properties, topics, state_topics, on_log)
        self._member = GroupMember(
            topics, properties, group_properties, self._watch, with_log_time=with_log_time, give_up=self._hand_over, on_log=on_log
        )

    def _hear(self, error: KafkaError) -> None:
        self._member.hear(error)

    def check(self, timeout_s: float = 10.0, missing: Literal["wait", "fail"] = "fail") -> dict[str, int]:
        """Before the start: brokers that answer, topics as they should be; the number of partitions of each.

        missing  whether an input topic that is missing is waited for, if another one is there

        raises LogUnavailable  no broker answered within `timeout_s`
        raises ConfigError     credentials refused, topics missing or wrong, brokers that are a mock
        """
        return check_topics(
            self._properties,
            self._topics,
            (self._alerts_topic, self._dead_letters_topic),
            state=self._state_topics,
            exactly_once=isinstance(self._output, Transactions),
            missing=missing,
            timeout_s=timeout_s,
            on_log=self._on_log,
        )

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback = ignore_revoke) -> PollResult:
        """See `ports.Log`. A partition in both `lost` and `gained` was lost first."""
        committing = self._member.committing
        if committing.acquire(blocking=False):  # a commit on its way hears what there is to hear
            self._output.serve()
            committing.release()
        return self._member.poll(messages_max, timeout_s, on_revoke)

    def topics_missing(self) -> Sequence[str]:
        """See `ports.Log`."""
        return tuple(sorted(self._member.presence.missing))

    def _hand_over(self, partitions: Sequence[Partition]) -> None:
        """Take this worker's name off partitions that it gives up in order."""
        output = self._output
        if not isinstance(output, Transactions) or not output.is_ready:
            return  # not ready: something went wrong, and may be undecided
        offsets = self._committed_before(partitions)
        if not offsets:
            return
        try:
            with self._member.committing:
                output.commit([], self._position(RELEASED, offsets, self._watch.ask(sorted({each.topic for each in offsets}))))
        except DetectorError as error:
            self._on_log("info", f"this worker's name stays on {len(offsets)} partitions: {error}")

    def _committed_before(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The offsets of `partitions` that this worker, or one before it, is known to have committed."""
        return {each: at.offset for each in partitions if (at := self._member.standing.get(each)) is not None and at.is_committed}

    # -- commit -----------------------------------------------------------------------------------------------------

    def commit(self, batch: CommitBatch) -> None:
        """See `ports.Log`.

        raises ConfigError  the brokers refuse what is written: no permission, no such topic, an alert or a row of state too large
        raises ValueError   state of a topic that has no state topic
        """
        rows = state_rows(self._state_topics, batch.state)
        messages = decided(self._alerts_topic, batch.alerts, self._dead_letters_topic, batch.dead_letters)
        with self._member.committing:
            partitions = [*batch.offsets, *batch.state]
            self._see_that_they_are_ours(partitions)
            question = self._watch.ask(sorted({each.topic for each in partitions})) if partitions else {}
            if isinstance(self._output, Transactions):
                # The coordinator refuses a zombie for its offsets: a transaction without new ones repeats those of its state.
                offsets = {each: self._member.standing[each].offset for each in batch.state} | dict(batch.offsets)
                position = self._position(self._output.transactional_id, offsets, question)
                self._output.commit(messages + rows, position)
            else:
                self._see_that_they_are_the_same(partitions, question)
                self._commit_in_order(self._output, messages, batch.offsets, rows)
            for partition, offset in batch.offsets.items():
                if (standing := self._member.standing.get(partition)) is not None:
                    self._member.standing[partition] = replace(standing, offset=offset, is_committed=True)

    def _see_that_they_are_ours(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            if partition not in self._member.standing:
                raise CommitAborted(f"{partition.topic} {partition.number} is not this worker's any more, or was not restored")

    def _see_that_they_are_the_same(self, partitions: Sequence[Partition], question: Question) -> None:
        """question: asked after the last of what is to be committed was fetched

        raises CommitAborted  the topic of one of these partitions is another one by now, or is gone
        """
        shown = self._watch.answer(question)
        for partition in partitions:
            at, there = self._member.standing.get(partition), shown[partition.topic]
            if at is not None and (at.log_id != there.id or not there.partitions):
                self._member.presence.hurry()
                raise CommitAborted(f"topic {partition.topic} was deleted, and what was read of it is not committed")

    def _position(self, name: str, offsets: Mapping[Partition, int], question: Question) -> Callable[[], Position]:
        """What `Transactions.commit` asks for last. name: what the offsets bear; question: see `_see_that_they_are_the_same`."""

        def position() -> Position:
            if not offsets:
                return Position([], None)
            self._see_that_they_are_the_same(list(offsets), question)
            self._see_that_they_are_ours(list(offsets))
            if self._member.asking.acquire(blocking=False):
                try:
                    self._member.learn_membership()
                finally:
                    self._member.asking.release()
            membership, member_id = self._member.membership
            if not member_id:
                raise CommitAborted("this worker's session has ended")
            return Position([self._place(each, offset, name) for each, offset in offsets.items()], membership)

        return position

    def _place(self, partition: Partition, offset: int, name: str = "") -> TopicPartition:
        """An offset to be committed; what it bears says who did, and which leader was the last that anything was read of."""
        return TopicPartition(partition.topic, partition.number, offset, name, leader_epoch=self._member.epochs[partition])

    def _commit_in_order(
        self, output: KafkaOutput, messages: Sequence[Record], offsets: Mapping[Partition, int], rows: Sequence[Record]
    ) -> None:
        """At least once: messages, offsets, state."""
        output.write(messages)
        positions = [self._place(each, offset) for each, offset in offsets.items()]
        try:
            self._member.consumer.store_offsets(offsets=positions)
            if rows and positions:
                offsets_of(self._member.consumer.commit(offsets=positions, asynchronous=False))
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() in SESSION_LOST | AGAIN or error.code() == KafkaError._STATE or is_name_taken(error) or is_fatal(error):
                raise CommitAborted(f"the group has moved on: {error.str()}") from None
            raise to_detector_error_while_running(error, "committing offsets") from None
        output.write(rows)

    # -- restore, resume, lag, close ----------------------------------------------------------------------------------

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, PartitionPosition]:
        """See `ports.Log`. Where no offset is committed, `auto.offset.reset` says where a new group begins.

        raises LogUnavailable  the brokers did not answer in time, or a transaction of a worker that died is still undecided
        raises ConfigError     no offset is committed and `auto.offset.reset` is `error`; brokers that cannot do transactions
        """
        if not partitions:
            return {}
        question = self._watch.ask(sorted({each.topic for each in partitions}))
        known: dict[Partition, Place] = {}
        if isinstance(self._output, KafkaOutput):  # Kafka hears of a stored offset within the commit interval
            known = {each: Place(offset, self._member.epochs[each]) for each, offset in self._committed_before(partitions).items()}
        try:
            self._member.pause(partitions)
            if isinstance(self._output, Transactions):
                with self._member.committing:
                    self._output.ready()  # also settles what became of a commit that nobody knows about
                own_id, seen = self._output.transactional_id, self._owners
                self._owners |= end_open_transactions(self._properties, self._group, partitions, own_id, seen, self._on_log)
            shown = self._watch.answer(question)
            self._member.presence.note({each.topic for each in partitions}, shown)
            partitions = [each for each in partitions if self._member.presence.is_present(each)]
            found = positions(self._member.consumer, self._properties, partitions, known, self._reset, self._on_log) if partitions else {}
        except KafkaException as exception:
            raise to_detector_error_while_running(kafka_error(exception), f"restoring {len(partitions)} partitions") from None
        standing = {each: replace(at, log_id=shown[each.topic].id) for each, (at, _) in found.items()}
        self._member.restored(standing, {each: epoch for each, (_, epoch) in found.items()})
        return standing

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """See `ports.Log`.

        raises LogUnavailable  nothing came for 10 s
        raises ConfigError     no such topic, or this user may not read it
        """
        kept = {Partition(self._state_topics[each.topic], each.number): each for each in partitions if each.topic in self._state_topics}
        if kept:
            for place, records in read_state(self._properties, list(kept), self._on_log):
                yield kept[place], records

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """See `ports.Log`."""
        if offsets:
            self._member.resume(offsets)

    def lag(self) -> Mapping[Partition, int]:
        """See `ports.Log`. A partition of whose end nothing was heard yet is left out."""
        return self._member.lag()

    def close(self) -> None:
        """See `ports.Log`. Sends the stored offsets. A dynamic member hands its partitions over now; a static one when its session ends."""
        member = self._member
        if member.is_closed:
            return
        if not member.is_away:
            member.learn_membership()
            self._hand_over(list(member.standing))
        member.close()
        if isinstance(self._output, Transactions):
            self._output.close()
