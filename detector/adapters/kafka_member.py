"""A member of a consumer group: which partitions it is given, what it reads of them, and what it hears.

Group membership is dynamic unless `kafka: group.instance.id` is set. Dynamic: a worker that leaves hands its partitions over at
once; one that is killed keeps them until `session.timeout.ms`. Static, for workers with a lasting name of their own (a pod of a
StatefulSet): one that restarts within the session's time keeps its partitions and nobody else notices, but leaving does
not hand them over. The name is not guessed from the host: two workers of one host would fence each other, and a
container's random name would hold its partitions for a whole session after every restart. Fenced by its own past (a session that
ended while a broker was away), it joins again as a new consumer and restores; if the name has another holder by now, it ends
(`kafka_static_membership`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Lock

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka_admin import ask_cluster
from detector.adapters.kafka_client import (
    TOPIC_GONE,
    UNREACHABLE_FIX,
    Say,
    is_fatal,
    is_name_taken,
    kafka_error,
    named,
    open_consumer,
    quiet,
    remedy,
    to_messages,
)
from detector.adapters.kafka_epochs import EpochsRead, Place
from detector.adapters.kafka_presence import Presence
from detector.adapters.kafka_restore import RESTORE_S_MAX, ends
from detector.adapters.kafka_static_membership import StaticMembership
from detector.adapters.kafka_watch import TopicWatch
from detector.codec.messages import Messages
from detector.core.readings import Partition
from detector.errors import DetectorError, LogUnavailable
from detector.ports import Fetched, Release, Restored, keep_nothing

ASK_S_MAX = 1.0
LOG_CHANGED = {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE}
"""What a consumer says that cannot read on where it is: retention has passed it, or the log is shorter, or other messages are in it."""
# Refused credentials are a ConfigError at the start. Later they worked before: whoever changed something may change it back.
UNSETTLED = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL}
# How librdkafka writes down a membership that has no generation, which is one of nobody: group, member and the rest follow.
NO_GENERATION = b"CGMDv2:\xff\xff\xff\xff"


class GroupMember:
    """Nothing is read of a partition before it is restored and resumed.

    topics        input topics
    properties    the user's, for clients beside the consumer
    group_properties   the consumer's; librdkafka's own `auto.offset.reset` must be `error`, or it would jump without a word
    watch         of these topics
    with_log_time whether messages carry Kafka's own time
    give_up       told of partitions that are handed over in order, while they still are this member's

    standing      per partition that is restored and still this member's: what is true for it
    epochs        of what was read
    committing    held while a commit is on its way: a partition that is lost leaves the group only when that has ended
    membership    as of the last poll or callback: what the consumer gives a producer, and the member's id
    is_away       no broker answered when last heard of
    """

    def __init__(
        self,
        topics: Sequence[str],
        properties: Mapping[str, str],
        group_properties: Mapping[str, str],
        watch: TopicWatch,
        *,
        with_log_time: bool,
        give_up: Callable[[Sequence[Partition]], None],
        say: Say,
    ) -> None:
        self._topics, self._properties, self._group_properties = tuple(topics), properties, dict(group_properties)
        self._with_log_time, self._give_up, self._say = with_log_time, give_up, say
        self.presence, self.epochs = Presence(watch, say), EpochsRead()
        self.standing: dict[Partition, Restored] = {}
        self._reading: dict[Partition, int] = {}  # where each partition that may be read was resumed
        self._release: Release = keep_nothing
        self.committing = Lock()
        # confluent_kafka lets one thread at a time into a consumer, and a poll may wait for a commit (`release`): so a commit must not
        # ask the consumer who it is while a poll is under way. An older membership does no harm: the coordinator refuses it.
        self.asking = Lock()
        self.membership: tuple[bytes, str] = (b"", "")
        self._trouble: DetectorError | None = None  # heard in a callback; raised by the next poll
        self._stopping: BaseException | None = None  # raised by `release`, inside a callback that had to go on
        self.is_away = False
        self._is_out = False  # a static member whose session has ended, or that was fenced: `_come_back`
        self.is_closed = False
        is_static = "group.instance.id" in group_properties
        self._static = StaticMembership(group_properties, group_properties["group.id"], say) if is_static else None
        self.consumer = self._join()

    def _join(self) -> Consumer:
        consumer: Consumer = open_consumer(self._group_properties, self.hear, self._say)
        on_lost = self._on_lost if self._static is None or self._static.is_safe else self._on_session_lost
        consumer.subscribe(list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=on_lost)
        return consumer

    def poll(self, messages_max: int, timeout_s: float, release: Release) -> Fetched:
        """See `ports.Log`. A partition in both `lost` and `gained` was lost first."""
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            self.is_away = isinstance(trouble, LogUnavailable)
            raise trouble
        if self.is_away:
            self._ask()
        if self._static is not None and self._is_out:
            self._come_back(self._static)
        self.presence.look()
        if self.presence.anew:
            self._begin_again()
        if self.presence.has_grown:
            self._look_for_partitions()
        changed = self.presence.changed()
        self._stop_reading(changed)
        self._release = release
        try:
            with self.asking:
                self.learn_membership()
                batch = self._consume(messages_max, timeout_s)
                self.learn_membership()
        finally:
            self._release = keep_nothing
        if self._stopping is not None:
            stopping, self._stopping = self._stopping, None
            raise stopping
        if self._is_out:
            self._forget(self.presence.assigned)  # a consumer that was fenced drops them without a word
        messages = self._readable(batch)
        gained, lost = self.presence.tell()
        for partition in lost:  # their topic may be gone
            self.standing.pop(partition, None)
        self._stop_reading(lost)
        is_joined = not self.membership[0].startswith(NO_GENERATION)
        return Fetched(messages, tuple(sorted(gained)), tuple(sorted(lost)), tuple(sorted(changed - lost)), is_joined)

    def learn_membership(self) -> None:
        self.membership = self.consumer.consumer_group_metadata(), self.consumer.memberid() or ""
        if self._static is not None:
            self._static.learn(self.membership[1])

    def _come_back(self, static: StaticMembership) -> None:
        """Join again.

        raises LogUnavailable  another member has this worker's name and may be dead, or nobody tells
        raises Fenced          another worker has it
        """
        static.see_that_it_is_free()
        self._say("info", f"this worker's session has ended, nobody else has its name {static.name}: joining again")
        self._join_again()

    def _begin_again(self) -> None:
        """Be another consumer: one that has read a topic reads nothing of another by its name whose leaders' epochs are lower (librdkafka 2.16)."""
        anew = self.presence.anew
        self._say("info", f"input topic {', '.join(sorted(anew))} was made anew: joining again")
        self._give_up([each for each in self.standing if each.topic not in anew])
        self._is_out = True
        self._join_again()

    def _join_again(self) -> None:
        """As a consumer of which the group knows nothing: all partitions are lost, and gained like any."""
        self._forget(self.presence.assigned)
        with self.committing:
            pass  # a commit on its way ends, or finds its partitions gone, before there is a membership again
        with self.asking:
            self.consumer.close()
            self.consumer = self._join()
            self.learn_membership()
        self.presence.join_again()
        self._is_out = False

    def _ask(self) -> None:
        """See whether the brokers are back: librdkafka tells of an outage once, and of its end not at all."""
        try:
            self.consumer.list_topics(self._topics[0], timeout=ASK_S_MAX)
        except KafkaException as exception:
            self._ask_why()
            raise LogUnavailable(f"no Kafka broker answers: {kafka_error(exception).str()}", fix=UNREACHABLE_FIX) from None
        self.is_away = False

    def _ask_why(self) -> None:
        """A client that knows of an outage no longer says why it goes on: another one meets the cause anew.

        raises LogUnavailable  unless that one is answered
        """
        try:
            ask_cluster(self._properties, ASK_S_MAX, quiet)
        except DetectorError as cause:
            raise LogUnavailable(str(cause), fix=cause.fix) from None

    def _look_for_partitions(self) -> None:
        """Let librdkafka see which partitions there are. Asked for all topics: of the answer for one alone the group takes no notice."""
        with suppress(KafkaException):  # again with the next poll
            self.consumer.list_topics(timeout=ASK_S_MAX)
            self.presence.has_grown = False

    def _consume(self, messages_max: int, timeout_s: float) -> list[KafkaMessage]:
        """What is there; if nothing is, the first that comes and what came with it. `consume` alone would wait for a full batch."""
        try:
            batch = self.consumer.consume(messages_max, 0)
            if not batch:
                first = self.consumer.poll(timeout_s)
                if first is not None:
                    batch = [first, *self.consumer.consume(messages_max - 1, 0)] if messages_max > 1 else [first]
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
        for partition in self.epochs.read(batch, messages) & self._reading.keys():
            self.presence.change(partition, is_stopped=False)
            self._stop_reading([partition])
        readable = [partition in self._reading for partition in messages.partitions]
        if all(readable):
            return messages
        return messages.take(np.array(readable)[messages.partition])

    def _stop_reading(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._reading.pop(partition, None)
            self.epochs.forget(partition)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Read no more of these.

        raises KafkaException  one is not this member's
        """
        self._stop_reading(partitions)
        self.consumer.pause([TopicPartition(each.topic, each.number) for each in partitions])

    def restored(self, standing: Mapping[Partition, Restored], epochs: Mapping[Partition, int]) -> None:
        """This is true for them now; epochs: as committed."""
        for each, at in standing.items():
            self.epochs.restored(each, Place(at.offset, epochs[each]), is_known=at.is_committed and at.diverges_at is None)
            self.presence.restored(each)
        self.standing.update(standing)

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from these offsets.

        raises LogUnavailable  resume again
        """
        deadline = time.monotonic() + RESTORE_S_MAX
        again = self.presence.stopped & offsets.keys()
        try:
            # Before they are assigned again: librdkafka starts those on a thread of its own, and of what else is asked of them meanwhile
            # it drops one or the other as outdated (2.16). They begin at their offsets by themselves.
            self.consumer.resume([TopicPartition(partition.topic, partition.number) for partition in offsets])
            if again:
                self.consumer.incremental_unassign([TopicPartition(each.topic, each.number) for each in again])
                self.consumer.incremental_assign([TopicPartition(each.topic, each.number, offsets[each]) for each in again])
                self.presence.stopped -= again
            for partition in offsets.keys() - again:
                self._seek(partition, offsets[partition], deadline)
            ends(self.consumer, list(offsets), OFFSET_END)  # any request wakes the connections, which would notice up to a second later
        except KafkaException as exception:
            raise remedy(kafka_error(exception), f"resuming {len(offsets)} partitions") from None
        self._reading.update(offsets)

    def _seek(self, partition: Partition, offset: int, deadline: float) -> None:
        while True:
            try:
                self.consumer.seek(TopicPartition(partition.topic, partition.number, offset))
                return
            except KafkaException as exception:
                # Just assigned: librdkafka is not ready to move the position yet. Or it was fenced: the next poll tells.
                if partition not in named(self.consumer.assignment()):
                    return
                if kafka_error(exception).code() != KafkaError._STATE:
                    raise
                if time.monotonic() > deadline:
                    self.presence.stopped.add(partition)  # the next call assigns it again
                    raise
                time.sleep(0.005)

    def lag(self) -> Mapping[Partition, int]:
        """Messages between read position and end, per partition. Ends as of the last fetch; a partition of which none was heard yet is left out."""
        lag = {}
        for partition, resumed in self._reading.items():
            where = TopicPartition(partition.topic, partition.number)
            _, high = self.consumer.get_watermark_offsets(where, cached=True)
            position = self.consumer.position([where])[0].offset
            if high >= 0:
                lag[partition] = max(0, high - (position if position >= 0 else resumed))
        return lag

    def close(self) -> None:
        """Leave the group. Sends the stored offsets."""
        self.is_closed = True
        self._reading.clear()
        self.consumer.close()

    # -- callbacks: they run inside poll() and close() ----------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # An explicit offset spares the look-up of the committed one, which restore() makes anyway; nothing is fetched while paused.
        consumer.incremental_assign([TopicPartition(each.topic, each.partition, 0) for each in partitions])
        consumer.pause(partitions)
        self.presence.assign(named(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        known = tuple(each for each in named(partitions) if each in self.presence.told)
        try:
            if known and not self.is_closed and not self._is_out:  # a consumer that is being closed tells no more who it is
                self.learn_membership()
                self._release(known)
                self._give_up(known)
        except BaseException as stopping:  # noqa: BLE001 - raised by poll(): the group must not wait for us until then
            self._stopping = stopping
        self._on_lost(consumer, partitions)

    def _on_session_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # librdkafka would join again by itself, and take the name from a worker that has it by now.
        self._is_out = True
        with suppress(KafkaException):  # it was fenced meanwhile
            consumer.unsubscribe()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(named(partitions))
        with self.committing:
            consumer.incremental_unassign(partitions)  # sends the stored offsets first, unless the partitions are lost for good

    def _forget(self, partitions: Collection[Partition]) -> None:
        self.presence.take_away(partitions)
        self._stop_reading(partitions)
        for partition in partitions:
            self.standing.pop(partition, None)  # a commit on its way that has not sent its offsets yet sees this

    def _on_message_error(self, message: KafkaMessage, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        topic, number = message.topic() or "", message.partition()
        what = f"reading {topic or ', '.join(self._topics)}"
        if error.code() in LOG_CHANGED and number is not None:
            self._say("warning", f"{what}, partition {number}: {error.str()}")
            self.presence.change(Partition(topic, number))
        elif error.code() in TOPIC_GONE:
            self.presence.hurry()  # it says which, and what to do
        elif not self._note(error, what):
            self._say("warning", f"{what}: {error.str()}")

    def hear(self, error: KafkaError) -> None:
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
