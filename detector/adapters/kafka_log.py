"""Kafka as a `Log`: a member of a consumer group, and a producer for what was decided.

Exactly once (KIP-98, KIP-447): `commit` puts alerts, dead letters, rows of state and the input's offsets into one transaction. Who
reads with `isolation.level=read_committed` sees all of it or nothing, and the coordinator of the group refuses it from a
worker whose partitions are another's by now.

At least once: `commit` writes alerts and dead letters, waits until the brokers have them (acks=all), and only then stores
the offsets, which librdkafka sends once per `auto.commit.interval.ms`, at a rebalance and at the end. Where state goes along, the
offsets are sent at once and the rows after them: state is never ahead. After a crash up to that interval's messages are
judged again; an alert that is written twice has the same id.

Group membership is dynamic unless `kafka: group.instance.id` is set. Dynamic: a worker that leaves hands its partitions over at
once; one that is killed keeps them until `session.timeout.ms`. Static, for workers with a lasting name of their own (a pod of a
StatefulSet): one that restarts within the session's time keeps its partitions and nobody else notices, but leaving does
not hand them over. The name is not guessed from the host: two workers of one host would fence each other, and a
container's random name would hold its partitions for a whole session after every restart. Fenced by its own past (a session that
ended while a broker was away), it joins again as a new consumer and restores; if the name has another holder by now, it ends
(`kafka_static_membership`). The transactional id follows the name: a static
worker that restarts ends what it left open, a dynamic one's successor does so: every offset bears the id of the worker that committed it,
until that worker gives the partition up in order. Who takes over a partition that bears a name ends what its bearer has left open.

Why no zombie commits. Every transaction carries offsets, with the membership as it is when they are sent. After a loss librdkafka
joins again, and has a membership that would be believed, only when the lost partitions are unassigned; that waits for
the commit on its way (`_committing`), and a later one finds its partitions gone. In between there is no member id. A membership
without one and without a generation would be accepted, as that of a client that is in no group: such a commit is refused here.

Whose messages they are. A topic may be deleted, and made anew under its name, while it is read; `kafka_watch` asks for the ids of topics
once per `WATCH_INTERVAL_S`, and with every commit. What is committed was fetched before that question: if the id is still that of the
restore, all of it came from the log that was restored. A topic that has another id is read by another consumer. A log that lost its end, or of which retention took what was to be read next, stops
the consumer with an error (`auto.offset.reset` is `error` for librdkafka, whatever the configuration says: `restore` follows that).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from types import MappingProxyType
from typing import Literal

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka_admin import ask_cluster
from detector.adapters.kafka_client import (
    TOPIC_GONE,
    UNREACHABLE_FIX,
    Delivery,
    Say,
    consumer_properties,
    is_fatal,
    is_name_taken,
    kafka_error,
    named,
    offsets_of,
    open_consumer,
    quiet,
    remedy,
    remedy_while_running,
    to_messages,
)
from detector.adapters.kafka_epochs import Place, holds_others, leader_epochs
from detector.adapters.kafka_output import KafkaOutput, Record, decided, state_rows
from detector.adapters.kafka_restore import GIVEN_UP, RESTORE_S_MAX, Bearing, end_open_transactions, ends, positions, read_state
from detector.adapters.kafka_static_membership import StaticMembership
from detector.adapters.kafka_topics import check_topics
from detector.adapters.kafka_transactions import AGAIN, SESSION_LOST, Position, Transactions
from detector.adapters.kafka_watch import Question, TopicView, TopicWatch, is_answered
from detector.codec.messages import Messages
from detector.core.readings import Partition
from detector.errors import CommitAborted, DetectorError, LogUnavailable
from detector.ports import Fetched, Outcome, Release, Restored, keep_nothing

ASK_S_MAX = 1.0
WATCH_INTERVAL_S = 2.0
LOG_CHANGED = {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE}
"""What a consumer says that cannot read on where it is: retention has passed it, or the log is shorter, or other messages are in it."""
# Refused credentials are a ConfigError at the start. Later they worked before: whoever changed something may change it back.
UNSETTLED = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL}
# How librdkafka writes down a membership that has no generation, which is one of nobody: group, member and the rest follow.
NO_GENERATION = b"CGMDv2:\xff\xff\xff\xff"


class KafkaLog:
    """A worker's view of its topics. Nothing is read of a partition before it is restored and resumed.

    topics         input topics
    group          consumer group
    alerts_topic, dead_letters_topic   where decisions go
    properties     librdkafka's, under their own names; they win over our defaults, never over what delivery depends on
    delivery       exactly_once needs brokers with transactions (Kafka 2.5); at_least_once may write alerts again after a crash
    state_topics   per input topic, its state topic: compacted, with as many partitions; empty: no state is kept
    with_log_time  whether messages carry Kafka's own time
    say            takes log lines

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
        say: Say = quiet,
    ) -> None:
        self._topics = tuple(topics)
        self._group = group
        self._alerts_topic, self._letters_topic = alerts_topic, dead_letters_topic
        self._state_topics = dict(state_topics)
        self._properties = dict(properties)
        self._with_log_time = with_log_time
        self._say = say
        self._assigned: set[Partition] = set()  # the group's word
        self._told: set[Partition] = set()  # what the worker knows of: those whose topic is there
        self._lost: set[Partition] = set()  # of these, taken away since the last poll
        self._changed: set[Partition] = set()  # of these, to be restored
        self._stopped: set[Partition] = set()  # librdkafka fetches them no more: they have to be assigned again
        self._missing: dict[str, tuple[str, str]] = {}  # topics of which nothing can be judged: why, and what to do
        self._has_come_back = False  # one of these topics, and librdkafka may not know
        self._ids: dict[str, str] = {}  # of the topics, as this consumer knows them
        self._anew: set[str] = set()  # topics that have another by now
        self._question: Question | None = None
        self._seen: set[Partition] = set()  # assigned partitions whose topics were looked at since
        self._watch_due_s = 0.0
        self._standing: dict[Partition, Restored] = {}  # restored and still ours: what is true for it
        self._reading: dict[Partition, int] = {}  # where each partition that may be read was resumed
        self._known: dict[Partition, Place] = {}  # what was committed when it was restored, until it is read up to there
        self._epochs: dict[Partition, int] = {}  # of the leaders that wrote what was read last; -1: not known
        self._bearings: dict[Partition, Bearing] = {}  # names of other workers that were dealt with
        self._release: Release = keep_nothing
        self._committing = Lock()
        # confluent_kafka lets one thread at a time into a consumer, and a poll may wait for a commit (`release`): so a commit must not
        # ask the consumer who it is while a poll is under way. An older membership does no harm: the coordinator refuses it.
        self._asking = Lock()
        self._membership: tuple[bytes, str] = (b"", "")  # as of the last poll or callback
        self._trouble: DetectorError | None = None  # heard in a callback; raised by the next poll
        self._stopping: BaseException | None = None  # raised by `release`, inside a callback that had to go on
        self._is_away = False  # no broker answered when last heard of
        self._is_out = False  # a static member whose session has ended, or that was fenced: `_come_back`
        self._closed = False
        group_properties = consumer_properties(properties, group, delivery)
        self._reset = group_properties["auto.offset.reset"]
        name = group_properties.get("group.instance.id", "")
        self._static = StaticMembership(group_properties, group, say) if name else None
        group_properties["auto.offset.reset"] = "error"  # else it would jump without a word
        self._output: KafkaOutput | Transactions
        if delivery == "exactly_once":
            transactional_id = f"{group}.{name or uuid.uuid4()}"
            self._output = Transactions(properties, transactional_id, self._on_error, say)
        else:
            self._output = KafkaOutput(properties, self._on_error, say)
        self._group_properties = group_properties
        self._consumer = self._join()
        self._watch = TopicWatch(properties, topics, state_topics, say)

    def _join(self) -> Consumer:
        consumer: Consumer = open_consumer(self._group_properties, self._on_error, self._say)
        on_lost = self._on_lost if self._static is None or self._static.is_safe else self._on_session_lost
        consumer.subscribe(list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=on_lost)
        return consumer

    def check(self, timeout_s: float = 10.0, missing: Literal["wait", "fail"] = "fail") -> dict[str, int]:
        """Before the start: brokers that answer, topics as they should be; the number of partitions of each.

        missing  whether an input topic that is missing is waited for, if another one is there

        raises LogUnavailable  no broker answered within `timeout_s`
        raises ConfigError     credentials refused, topics missing or wrong, brokers that are a mock
        """
        return check_topics(
            self._properties,
            self._topics,
            (self._alerts_topic, self._letters_topic),
            state=self._state_topics,
            exactly_once=isinstance(self._output, Transactions),
            missing=missing,
            timeout_s=timeout_s,
            say=self._say,
        )

    # -- poll -------------------------------------------------------------------------------------------------------

    def poll(self, messages_max: int, timeout_s: float, release: Release = keep_nothing) -> Fetched:
        """See `ports.Log`. A partition in both `lost` and `gained` was lost first."""
        if self._committing.acquire(blocking=False):  # a commit on its way hears what there is to hear
            self._output.serve()
            self._committing.release()
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            self._is_away = isinstance(trouble, LogUnavailable)
            raise trouble
        if self._is_away:
            self._ask()
        if self._static is not None and self._is_out:
            self._come_back(self._static)
        self._look_at_topics()
        if self._anew:
            self._begin_again()
        changed = self._changed & self._told
        self._changed = set()
        for partition in changed:
            self._reading.pop(partition, None)
        self._release = release
        try:
            with self._asking:
                self._learn_membership()
                batch = self._consume(messages_max, timeout_s)
                self._learn_membership()
        finally:
            self._release = keep_nothing
        if self._stopping is not None:
            stopping, self._stopping = self._stopping, None
            raise stopping
        if self._is_out:
            self._forget(list(self._assigned))  # a consumer that was fenced drops them without a word
        return self._told_of(self._readable(batch), changed)

    def _told_of(self, messages: Messages, changed: set[Partition]) -> Fetched:
        """What the worker is to hear. Partitions that just came wait until it is known that their topics are there."""
        present = {each for each in self._assigned if each.topic not in self._missing}
        lost = self._lost | (self._told - present)
        gained = present - (self._told - lost) if self._is_seen() else set[Partition]()
        self._told = (self._told - lost) | gained
        self._lost = set()
        is_joined = not self._membership[0].startswith(NO_GENERATION)
        return Fetched(messages, tuple(sorted(gained)), tuple(sorted(lost)), tuple(sorted(changed - lost)), is_joined)

    # -- topics come and go -------------------------------------------------------------------------------------------

    def _is_seen(self) -> bool:
        """Whether the topics of all assigned partitions were looked at since these were assigned."""
        return self._seen >= self._assigned

    def _look_at_topics(self) -> None:
        """Once in a while, and when partitions came: see which topics are there, and whether they are still the same.

        raises LogUnavailable  partitions came, and the brokers do not answer
        """
        is_urgent = not self._is_seen()
        if self._question is None and (is_urgent or time.monotonic() >= self._watch_due_s):
            self._question = self._watch.ask()
        if self._question is None or not (is_urgent or is_answered(self._question)):
            return
        question, self._question = self._question, None
        self._watch_due_s = time.monotonic() + WATCH_INTERVAL_S
        assigned = set(self._assigned)
        shown = self._watch.answer(question)
        self._seen = assigned
        for topic in self._topics:
            self._note_topic(topic, shown)
        if self._has_come_back:
            self._have_it_joined()

    def _have_it_joined(self) -> None:
        """Let librdkafka see the topics that are there: of one that was missing when it joined it hears in five minutes, else."""
        try:
            self._consumer.list_topics(timeout=ASK_S_MAX)  # of all, or the group does not look at the answer
        except KafkaException:
            return  # with the next look
        self._has_come_back = False

    def _note_topic(self, topic: str, shown: Mapping[str, TopicView]) -> None:
        why, fix = self._watch.unready(topic, shown)
        if why:
            if topic not in self._missing:
                self._say("warning", f"{why}: nothing of it is judged until that is mended; {fix}")
            self._missing[topic] = why, fix
            gone = {each for each in self._assigned if each.topic == topic}
            self._stopped |= gone
            for partition in gone:
                self._reading.pop(partition, None)
                self._standing.pop(partition, None)
            return
        if self._missing.pop(topic, None):
            self._has_come_back = True
            self._say("info", f"input topic {topic} can be judged")
        if self._ids.setdefault(topic, shown[topic].id) != shown[topic].id:
            self._anew.add(topic)
            self._ids[topic] = shown[topic].id

    def _begin_again(self) -> None:
        """Be another consumer: one that has read a topic reads nothing of another by its name whose leaders' epochs are lower (librdkafka 2.16)."""
        self._say("info", f"input topic {', '.join(sorted(self._anew))} was made anew: joining again")
        self._hand_over([each for each in self._standing if each.topic not in self._anew])
        self._is_out = True
        self._join_again()
        self._anew.clear()

    def topics_missing(self) -> Sequence[str]:
        """See `ports.Log`."""
        return tuple(self._missing)

    def _learn_membership(self) -> None:
        self._membership = self._consumer.consumer_group_metadata(), self._consumer.memberid() or ""
        if self._static is not None:
            self._static.learn(self._membership[1])

    def _come_back(self, static: StaticMembership) -> None:
        """Join again.

        raises LogUnavailable  another member has this worker's name and may be dead, or nobody tells
        raises Fenced          another worker has it
        """
        static.see_that_it_is_free()
        self._say("info", f"this worker's session has ended, nobody else has its name {static.name}: joining again")
        self._join_again()

    def _join_again(self) -> None:
        """As a consumer of which the group knows nothing: all partitions are lost, and gained like any."""
        self._forget(list(self._assigned))
        with self._committing:
            pass  # a commit on its way ends, or finds its partitions gone, before there is a membership again
        with self._asking:
            self._consumer.close()
            self._consumer = self._join()
            self._learn_membership()
        self._is_out = False

    def _ask(self) -> None:
        """See whether the brokers are back: librdkafka tells of an outage once, and of its end not at all."""
        try:
            self._consumer.list_topics(self._topics[0], timeout=ASK_S_MAX)
        except KafkaException as exception:
            self._ask_why()
            raise LogUnavailable(f"no Kafka broker answers: {kafka_error(exception).str()}", fix=UNREACHABLE_FIX) from None
        self._is_away = False

    def _ask_why(self) -> None:
        """A client that knows of an outage no longer says why it goes on: another one meets the cause anew.

        raises LogUnavailable  unless that one is answered
        """
        try:
            ask_cluster(self._properties, ASK_S_MAX, quiet)
        except DetectorError as cause:
            raise LogUnavailable(str(cause), fix=cause.fix) from None

    def _consume(self, messages_max: int, timeout_s: float) -> list[KafkaMessage]:
        """What is there; if nothing is, the first that comes and what came with it. `consume` alone would wait for a full batch."""
        try:
            batch = self._consumer.consume(messages_max, 0)
            if not batch:
                first = self._consumer.poll(timeout_s)
                if first is not None:
                    batch = [first, *self._consumer.consume(messages_max - 1, 0)] if messages_max > 1 else [first]
        except KafkaException as exception:
            raise remedy(kafka_error(exception), f"reading {', '.join(self._topics)}") from None
        if any(map(KafkaMessage.error, batch)):
            for message in batch:
                if (error := message.error()) is not None:
                    self._on_message_error(message, error)
            batch = [message for message in batch if message.error() is None]
        return batch

    def _readable(self, batch: list[KafkaMessage]) -> Messages:
        """The messages as columns, without those of partitions that were lost or are not resumed yet."""
        if not batch:
            return Messages()
        messages = to_messages(batch, self._topics, with_log_time=self._with_log_time)
        epochs = leader_epochs(batch, messages)
        if self._known:
            self._compare_known(batch, messages, epochs)
        self._epochs.update(epochs)
        readable = [partition in self._reading for partition in messages.partitions]
        if all(readable):
            return messages
        keep = np.flatnonzero(np.array(readable)[messages.partition]).tolist()
        return to_messages([batch[position] for position in keep], self._topics, with_log_time=self._with_log_time)

    def _compare_known(self, batch: list[KafkaMessage], messages: Messages, epochs: Mapping[Partition, int]) -> None:
        """Messages before the committed offset, which bring memories up to date, must be those that were read then."""
        for partition, next_offset in messages.next_offsets().items():
            place = self._known.get(partition)
            if place is None:
                continue
            if epochs.get(partition, -1) > place.epoch and holds_others(batch, partition, place):
                self._changed.add(partition)
                self._reading.pop(partition, None)
            elif next_offset >= place.offset:
                del self._known[partition]

    # -- callbacks: they run inside poll() and close() ----------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # An explicit offset spares the look-up of the committed one, which restore() makes anyway; nothing is fetched while paused.
        consumer.incremental_assign([TopicPartition(each.topic, each.partition, 0) for each in partitions])
        consumer.pause(partitions)
        self._assigned.update(named(partitions))
        self._seen -= {*named(partitions)}

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        known = tuple(each for each in named(partitions) if each in self._told)
        try:
            if known and not self._closed and not self._is_out:  # a consumer that is being closed tells no more who it is
                self._learn_membership()
                self._release(known)
                self._hand_over(known)
        except BaseException as stopping:  # noqa: BLE001 - raised by poll(): the group must not wait for us until then
            self._stopping = stopping
        self._on_lost(consumer, partitions)

    def _hand_over(self, partitions: Sequence[Partition]) -> None:
        """Take this worker's name off partitions that it gives up in order."""
        output = self._output
        if not isinstance(output, Transactions) or not output.is_ready:
            return  # not ready: something went wrong, and may be undecided
        offsets = self._committed_before(partitions)
        if not offsets:
            return
        try:
            with self._committing:
                output.commit([], self._position(GIVEN_UP, offsets, self._watch.ask(sorted({each.topic for each in offsets}))))
        except DetectorError as error:
            self._say("info", f"this worker's name stays on {len(offsets)} partitions: {error}")

    def _committed_before(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The offsets of `partitions` that this worker, or one before it, is known to have committed."""
        return {each: at.offset for each in partitions if (at := self._standing.get(each)) is not None and at.is_committed}

    def _on_session_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # librdkafka would join again by itself, and take the name from a worker that has it by now.
        self._is_out = True
        with suppress(KafkaException):  # it was fenced meanwhile
            consumer.unsubscribe()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(named(partitions))
        with self._committing:
            consumer.incremental_unassign(partitions)  # sends the stored offsets first, unless the partitions are lost for good

    def _forget(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self._assigned.discard(partition)
            self._stopped.discard(partition)
            if partition in self._told:
                self._lost.add(partition)
            self._reading.pop(partition, None)
            self._known.pop(partition, None)
            self._standing.pop(partition, None)  # a commit on its way that has not sent its offsets yet sees this

    def _on_message_error(self, message: KafkaMessage, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        topic, number = message.topic() or "", message.partition()
        what = f"reading {topic or ', '.join(self._topics)}"
        if error.code() in LOG_CHANGED and number is not None:
            self._say("warning", f"{what}, partition {number}: {error.str()}")
            self._changed.add(Partition(topic, number))
            self._stopped.add(Partition(topic, number))
        elif error.code() in TOPIC_GONE:
            self._watch_due_s = 0.0  # the watch says which, and what to do
        elif not self._note(error, what):
            self._say("warning", f"{what}: {error.str()}")

    def _on_error(self, error: KafkaError) -> None:
        self._note(error, "Kafka")  # a broken connection is in librdkafka's own log lines already

    def _note(self, error: KafkaError, what: str) -> bool:
        """Keep what a person or the worker must hear of, for the next poll; the rest librdkafka mends by itself."""
        if self._static is not None and is_name_taken(error):
            self._is_out = True
            return True
        found = remedy(error, what)
        if error.code() in UNSETTLED:
            found = LogUnavailable(str(found), fix=found.fix)
        elif isinstance(found, LogUnavailable) and not is_fatal(error):
            return False
        if self._trouble is None or isinstance(self._trouble, LogUnavailable):
            self._trouble = found
        return True

    # -- commit -----------------------------------------------------------------------------------------------------

    def commit(self, outcome: Outcome) -> None:
        """See `ports.Log`.

        raises ConfigError  the brokers refuse what is written: no permission, no such topic, an alert or a row of state too large
        raises ValueError   state of a topic that has no state topic
        """
        rows = state_rows(self._state_topics, outcome.state)
        messages = decided(self._alerts_topic, outcome.alerts, self._letters_topic, outcome.dead_letters)
        with self._committing:
            partitions = [*outcome.offsets, *outcome.state]
            self._see_that_they_are_ours(partitions)
            question = self._watch.ask(sorted({each.topic for each in partitions})) if partitions else {}
            if isinstance(self._output, Transactions):
                # The coordinator refuses a zombie for its offsets: a transaction without new ones repeats those of its state.
                offsets = {each: self._standing[each].offset for each in outcome.state} | dict(outcome.offsets)
                position = self._position(self._output.transactional_id, offsets, question)
                self._output.commit(messages + rows, position)
            else:
                self._see_that_they_are_the_same(partitions, question)
                self._commit_in_order(self._output, messages, outcome.offsets, rows)
            for partition, offset in outcome.offsets.items():
                if (standing := self._standing.get(partition)) is not None:
                    self._standing[partition] = replace(standing, offset=offset, is_committed=True)

    def _see_that_they_are_ours(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            if partition not in self._standing:
                raise CommitAborted(f"{partition.topic} {partition.number} is not this worker's any more, or was not restored")

    def _see_that_they_are_the_same(self, partitions: Sequence[Partition], question: Question) -> None:
        """question: asked after the last of what is to be committed was fetched

        raises CommitAborted  the topic of one of these partitions is another one by now, or is gone
        """
        shown = self._watch.answer(question)
        for partition in partitions:
            if (at := self._standing.get(partition)) is not None and (
                at.log_id != shown[partition.topic].id or not shown[partition.topic].partitions
            ):
                self._watch_due_s = 0.0
                raise CommitAborted(f"topic {partition.topic} was deleted, and what was read of it is not committed")

    def _position(self, name: str, offsets: Mapping[Partition, int], question: Question) -> Callable[[], Position]:
        """What `Transactions.commit` asks for last. name: what the offsets bear; question: see `_see_that_they_are_the_same`."""

        def position() -> Position:
            if not offsets:
                return Position([], None)
            self._see_that_they_are_the_same(list(offsets), question)
            self._see_that_they_are_ours(list(offsets))
            if self._asking.acquire(blocking=False):
                try:
                    self._learn_membership()
                finally:
                    self._asking.release()
            membership, member_id = self._membership
            if not member_id:
                raise CommitAborted("this worker's session has ended")
            return Position([self._place(each, offset, name) for each, offset in offsets.items()], membership)

        return position

    def _place(self, partition: Partition, offset: int, name: str = "") -> TopicPartition:
        """An offset to be committed; what it bears says who did, and which leader was the last that anything was read of."""
        return TopicPartition(partition.topic, partition.number, offset, name, leader_epoch=self._epochs.get(partition, -1))

    def _commit_in_order(
        self, output: KafkaOutput, messages: Sequence[Record], offsets: Mapping[Partition, int], rows: Sequence[Record]
    ) -> None:
        """At least once: messages, offsets, state."""
        output.write(messages)
        positions = [self._place(each, offset) for each, offset in offsets.items()]
        try:
            self._consumer.store_offsets(offsets=positions)
            if rows and positions:
                offsets_of(self._consumer.commit(offsets=positions, asynchronous=False))
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() in SESSION_LOST | AGAIN or error.code() == KafkaError._STATE or is_name_taken(error) or is_fatal(error):
                raise CommitAborted(f"the group has moved on: {error.str()}") from None
            raise remedy_while_running(error, "committing offsets") from None
        output.write(rows)

    # -- restore, resume, lag, close ----------------------------------------------------------------------------------

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, Restored]:
        """See `ports.Log`. Where no offset is committed, `auto.offset.reset` says where a new group begins.

        raises LogUnavailable  the brokers did not answer in time, or a transaction of a worker that died is still undecided
        raises ConfigError     no offset is committed and `auto.offset.reset` is `error`; brokers that cannot do transactions
        """
        if not partitions:
            return {}
        asked = [TopicPartition(partition.topic, partition.number) for partition in partitions]
        question = self._watch.ask(sorted({each.topic for each in partitions}))
        known: dict[Partition, Place] = {}
        if isinstance(self._output, KafkaOutput):  # Kafka hears of a stored offset within the commit interval
            known = {each: Place(offset, self._epochs[each]) for each, offset in self._committed_before(partitions).items()}
        for partition in partitions:
            self._reading.pop(partition, None)
            self._known.pop(partition, None)
        try:
            self._consumer.pause(asked)
            if isinstance(self._output, Transactions):
                with self._committing:
                    self._output.ready()  # also settles what became of a commit that nobody knows about
                own_id, seen = self._output.transactional_id, self._bearings
                self._bearings |= end_open_transactions(self._properties, self._group, partitions, own_id, seen, self._say)
            shown = self._watch.answer(question)
            for topic in {each.topic for each in partitions}:
                self._note_topic(topic, shown)
            partitions = [each for each in partitions if each.topic not in self._missing and each.topic not in self._anew]
            found = positions(self._consumer, self._properties, partitions, known, self._reset, self._say) if partitions else {}
        except KafkaException as exception:
            raise remedy_while_running(kafka_error(exception), f"restoring {len(partitions)} partitions") from None
        self._epochs.update((each, epoch) for each, (_, epoch) in found.items())
        places = {each: Place(at.offset, epoch) for each, (at, epoch) in found.items() if at.is_committed and epoch >= 0}
        self._known.update({each: place for each, place in places.items() if found[each][0].diverges_at is None})
        standing = {each: replace(at, log_id=shown[each.topic].id) for each, (at, _) in found.items()}
        self._standing.update(standing)
        self._changed.difference_update(standing)
        return standing

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """See `ports.Log`.

        raises LogUnavailable  nothing came for 10 s
        raises ConfigError     no such topic, or this user may not read it
        """
        kept = {Partition(self._state_topics[each.topic], each.number): each for each in partitions if each.topic in self._state_topics}
        if kept:
            for place, records in read_state(self._properties, list(kept), self._say):
                yield kept[place], records

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """See `ports.Log`."""
        if not offsets:
            return
        deadline = time.monotonic() + RESTORE_S_MAX
        again = {each: offset for each, offset in offsets.items() if each in self._stopped}
        try:
            # Before they are assigned again: librdkafka starts those on a thread of its own, and of what else is asked of them meanwhile
            # it drops one or the other as outdated (2.16). They begin at their offsets by themselves.
            self._consumer.resume([TopicPartition(partition.topic, partition.number) for partition in offsets])
            if again:
                self._consumer.incremental_unassign([TopicPartition(each.topic, each.number) for each in again])
                self._consumer.incremental_assign([TopicPartition(each.topic, each.number, offset) for each, offset in again.items()])
                self._stopped -= again.keys()
            for partition in offsets.keys() - again.keys():
                self._seek(partition, offsets[partition], deadline)
            ends(self._consumer, list(offsets), OFFSET_END)  # any request wakes the connections, which would notice up to a second later
        except KafkaException as exception:
            raise remedy(kafka_error(exception), f"resuming {len(offsets)} partitions") from None
        self._reading.update(offsets)

    def _seek(self, partition: Partition, offset: int, deadline: float) -> None:
        while True:
            try:
                self._consumer.seek(TopicPartition(partition.topic, partition.number, offset))
                return
            except KafkaException as exception:
                # Just assigned: librdkafka is not ready to move the position yet. Or it was fenced: the next poll tells.
                if partition not in named(self._consumer.assignment()):
                    return
                if kafka_error(exception).code() != KafkaError._STATE:
                    raise
                if time.monotonic() > deadline:
                    self._stopped.add(partition)  # the next call assigns it again
                    raise
                time.sleep(0.005)

    def lag(self) -> Mapping[Partition, int]:
        """See `ports.Log`. Ends as of the last fetch; a partition of which none was heard yet is left out."""
        lag = {}
        for partition, resumed in self._reading.items():
            where = TopicPartition(partition.topic, partition.number)
            _, high = self._consumer.get_watermark_offsets(where, cached=True)
            position = self._consumer.position([where])[0].offset
            if high >= 0:
                lag[partition] = max(0, high - (position if position >= 0 else resumed))
        return lag

    def close(self) -> None:
        """See `ports.Log`. Sends the stored offsets. A dynamic member hands its partitions over now; a static one when its session ends."""
        if not self._closed:
            if not self._is_away:
                self._learn_membership()
                self._hand_over(list(self._standing))
            self._closed = True
            self._reading.clear()
            self._consumer.close()
            if isinstance(self._output, Transactions):
                self._output.close()
