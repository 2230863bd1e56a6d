"""A member of a consumer group: which partitions it is assigned, and how it joins, rejoins and leaves.

Group membership is dynamic unless `kafka: group.instance.id` is set. Dynamic: a worker that leaves hands its partitions over at
once; one that is killed keeps them until `session.timeout.ms`. Static, for workers with a lasting name of their own (a pod of a
StatefulSet): one that restarts within the session's time keeps its partitions and nobody else notices, but leaving does
not hand them over. The name is not guessed from the host: two workers of one host would fence each other, and a
container's random name would hold its partitions for a whole session after every restart. Fenced by its own past (a session that
ended while a broker was away), it joins again as a new consumer and restores; if the name has another holder by now, it ends
(`static_membership`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from threading import Lock

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.assignment import Assignment
from detector.adapters.kafka.broker_errors import BrokerErrors
from detector.adapters.kafka.client import LogCallback, fetch, named, open_consumer
from detector.adapters.kafka.epochs import LeaderEpochs, OffsetAndEpoch
from detector.adapters.kafka.errors import TOPIC_GONE, is_name_taken, kafka_error, to_detector_error
from detector.adapters.kafka.positions import Positions
from detector.adapters.kafka.reader import PartitionReader
from detector.adapters.kafka.static_membership import StaticMembership
from detector.adapters.kafka.topic_watch import TopicWatch
from detector.core.readings import Partition
from detector.errors import CommitAborted
from detector.ports import PartitionPosition, PollResult, RevokeCallback, ignore_revoke

ASK_S_MAX = 1.0
LOG_CHANGED = {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE}
"""A consumer's errors when it cannot read on where it is: retention has passed it, or the log is shorter, or other messages are in it."""
# How librdkafka writes down a membership that has no generation, which is one of nobody: group, member and the rest follow.
NO_GENERATION = b"CGMDv2:\xff\xff\xff\xff"


class GroupMember:
    """Nothing is read of a partition before it is restored and resumed.

    topics        input topics
    properties    the user's, for clients beside the consumer
    group_properties   the consumer's; librdkafka's own `auto.offset.reset` must be `error`, or it would jump without a word
    watch         of these topics
    with_log_time whether messages carry Kafka's own time
    on_release    called with partitions that are given up in order, while they still are this member's

    assignment    which partitions it is to have
    positions     where those stand that are restored
    commit_lock   held while a commit is in flight: a partition that is revoked leaves the group only when that has ended
    errors        what it heard of the brokers
    """

    def __init__(
        self,
        topics: Sequence[str],
        properties: Mapping[str, str],
        group_properties: Mapping[str, str],
        watch: TopicWatch,
        *,
        with_log_time: bool,
        on_release: Callable[[Sequence[Partition]], None],
        on_log: LogCallback,
    ) -> None:
        self._topics, self._group_properties = tuple(topics), dict(group_properties)
        self._on_release, self._on_log = on_release, on_log
        self.watch = watch
        self.errors = BrokerErrors(properties, self._topics[0])
        self.assignment, self._epochs = Assignment(watch, on_log), LeaderEpochs()
        self.positions = Positions(self._epochs, self.assignment.check_soon)
        self.reader = PartitionReader(topics, self.assignment, self._epochs, with_log_time=with_log_time)
        self._on_worker_revoke: RevokeCallback = ignore_revoke
        self.commit_lock = Lock()
        # confluent_kafka lets one thread at a time into a consumer, and a poll may wait for a commit (`_on_revoke`): so a commit must not
        # ask the consumer who it is while a poll is under way. An older membership does no harm: the coordinator refuses it.
        self._consumer_lock = Lock()
        self._metadata, self._member_id = b"", ""  # of the membership, as of the last poll or callback
        self._stopping: BaseException | None = None  # raised by the worker's callback, inside librdkafka's, which had to go on
        self._must_rejoin = False  # a static member whose session has ended, or that was fenced
        self.is_closed = False
        is_static = "group.instance.id" in group_properties
        self._static = StaticMembership(group_properties, group_properties["group.id"], on_log) if is_static else None
        self.consumer = self._join()

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback) -> PollResult:
        """See `ports.Log`. A partition in both `revoked` and `assigned` was revoked first."""
        self.errors.check(self.consumer)
        if self._static is not None and self._must_rejoin:
            self._rejoin_if_free(self._static)
        self.assignment.check_topics()
        if self.assignment.recreated:
            self._rejoin_for_recreated_topics()
        if self.assignment.has_grown:
            self._discover_partitions()
        changed = self.assignment.take_changed()
        self.reader.stop(changed)
        batch = self._fetch(messages_max, timeout_s, on_revoke)
        if self._must_rejoin:
            self._forget(self.assignment.assigned)  # a consumer that was fenced drops them without a word
        messages = self.reader.readable(batch)
        assigned, revoked = self.assignment.take_moves()
        self.positions.drop(revoked)  # their topic may be gone
        self.reader.stop(revoked)
        is_joined = not self._metadata.startswith(NO_GENERATION)
        return PollResult(messages, tuple(sorted(assigned)), tuple(sorted(revoked)), tuple(sorted(changed - revoked)), is_joined)

    def _fetch(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback) -> list[KafkaMessage]:
        """What has come. librdkafka's callbacks run meanwhile."""
        self._on_worker_revoke = on_revoke
        try:
            with self._consumer_lock:
                self.update_membership()
                try:
                    batch = fetch(self.consumer, messages_max, timeout_s)
                except KafkaException as exception:
                    raise to_detector_error(kafka_error(exception), f"reading {', '.join(self._topics)}") from None
                if any(map(KafkaMessage.error, batch)):
                    for message in batch:
                        if (error := message.error()) is not None:
                            self._on_message_error(message, error)
                    batch = [message for message in batch if message.error() is None]
                self.update_membership()
        finally:
            self._on_worker_revoke = ignore_revoke
        if self._stopping is not None:
            stopping, self._stopping = self._stopping, None
            raise stopping
        return batch

    # -- membership -------------------------------------------------------------------------------------------------------

    def update_membership(self) -> None:
        """Ask the consumer who it is."""
        self._metadata, self._member_id = self.consumer.consumer_group_metadata(), self.consumer.memberid() or ""
        if self._static is not None:
            self._static.add_member_id(self._member_id)

    def group_metadata(self) -> bytes:
        """The membership as a producer commits offsets with it; as of the last poll while a poll is under way.

        raises CommitAborted  there is none: the session has ended
        """
        if self._consumer_lock.acquire(blocking=False):
            try:
                self.update_membership()
            finally:
                self._consumer_lock.release()
        metadata, member_id = self._metadata, self._member_id
        if not member_id:
            raise CommitAborted("this worker's session has ended")
        return metadata

    def _join(self) -> Consumer:
        consumer: Consumer = open_consumer(self._group_properties, self.on_error, self._on_log)
        on_lost = self._on_lost if self._static is None or self._static.keeps_name else self._on_session_lost
        consumer.subscribe(list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=on_lost)
        return consumer

    def _rejoin_if_free(self, static: StaticMembership) -> None:
        """Join again under this worker's name.

        raises LogUnavailable  another member has the name and may be dead, or nobody tells
        raises Fenced          another worker has it
        """
        static.check_name_is_free()
        self._on_log("info", f"this worker's session has ended, nobody else has its name {static.name}: joining again")
        self._rejoin()

    def _rejoin_for_recreated_topics(self) -> None:
        """Read with another consumer: one that has read a topic reads nothing of another by its name whose leaders' epochs are lower (librdkafka 2.16)."""
        recreated = self.assignment.recreated
        self._on_log("info", f"input topic {', '.join(sorted(recreated))} was made anew: joining again")
        self._on_release([each for each in self.positions.partitions() if each.topic not in recreated])
        self._must_rejoin = True
        self._rejoin()

    def _rejoin(self) -> None:
        """Join as a consumer of which the group knows nothing: all partitions are lost, and assigned like any."""
        self._forget(self.assignment.assigned)
        with self.commit_lock:
            pass  # a commit in flight ends, or finds its partitions gone, before there is a membership again
        with self._consumer_lock:
            self.consumer.close()
            self.consumer = self._join()
            self.update_membership()
        self.assignment.rejoined()
        self._must_rejoin = False

    def _discover_partitions(self) -> None:
        """Let librdkafka see which partitions there are. Asked for all topics: of the answer for one alone the group takes no notice."""
        with suppress(KafkaException):  # again with the next poll
            self.consumer.list_topics(timeout=ASK_S_MAX)
            self.assignment.has_grown = False

    def restored(self, positions: Mapping[Partition, PartitionPosition], epochs: Mapping[Partition, int]) -> None:
        """These partitions stand there now. epochs: as committed."""
        for each, at in positions.items():
            is_known = at.is_committed and at.diverges_at is None
            self._epochs.restored(each, OffsetAndEpoch(at.offset, epochs[each]), is_known=is_known)
            self.assignment.restored(each)
        self.positions.restored(positions)

    def close(self) -> None:
        """Leave the group. Sends the stored offsets."""
        self.is_closed = True
        self.reader.stop_all()
        self.consumer.close()

    # -- librdkafka's callbacks: they run inside poll() and close() -------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # An explicit offset spares the look-up of the committed one, which restore() makes anyway; nothing is fetched while paused.
        consumer.incremental_assign([TopicPartition(each.topic, each.partition, 0) for each in partitions])
        consumer.pause(partitions)
        self.assignment.assign(named(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        known = tuple(each for each in named(partitions) if each in self.assignment.reported)
        try:
            if known and not self.is_closed and not self._must_rejoin:  # a consumer that is being closed tells no more who it is
                self.update_membership()
                self._on_worker_revoke(known)
                self._on_release(known)
        except BaseException as stopping:  # noqa: BLE001 - raised by poll(): the group must not wait for us until then
            self._stopping = stopping
        self._on_lost(consumer, partitions)

    def _on_session_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # librdkafka would join again by itself, and take the name from a worker that has it by now.
        self._must_rejoin = True
        with suppress(KafkaException):  # it was fenced meanwhile
            consumer.unsubscribe()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(named(partitions))
        with self.commit_lock:
            consumer.incremental_unassign(partitions)  # sends the stored offsets first, unless the partitions are lost for good

    def _forget(self, partitions: Collection[Partition]) -> None:
        self.assignment.revoke(partitions)
        self.reader.stop(partitions)
        self.positions.drop(partitions)

    def on_error(self, error: KafkaError) -> None:
        """A client of this worker's heard of an error. A broken connection is in librdkafka's own log lines already."""
        self._keep(error, "Kafka")

    def _on_message_error(self, message: KafkaMessage, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        topic, number = message.topic() or "", message.partition()
        what = f"reading {topic or ', '.join(self._topics)}"
        if error.code() in LOG_CHANGED and number is not None:
            self._on_log("warning", f"{what}, partition {number}: {error.str()}")
            self.assignment.log_changed(Partition(topic, number))
        elif error.code() in TOPIC_GONE:
            self.assignment.check_soon()  # it says which, and what to do
        elif not self._keep(error, what):
            self._on_log("warning", f"{what}: {error.str()}")

    def _keep(self, error: KafkaError, what: str) -> bool:
        """See `BrokerErrors.keep`."""
        if self._static is not None and is_name_taken(error):
            self._must_rejoin = True
            return True
        return self.errors.keep(error, what)
