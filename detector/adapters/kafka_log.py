"""Kafka as a `Log`: a member of a consumer group, and a producer for what was decided.

At least once: `commit` writes alerts and dead letters, waits until the brokers have them (acks=all), and only then stores
the offsets, which librdkafka sends once per `auto.commit.interval.ms`, at a rebalance and at the end. After a crash
up to that interval's messages are judged again; an alert that is written twice has the same id.

Group membership is dynamic unless `kafka: group.instance.id` is set. Dynamic: a worker that leaves hands its partitions over at
once; one that is killed keeps them until `session.timeout.ms`. Static, for workers with a lasting name of their own (a pod of a
StatefulSet): one that restarts within the session's time keeps its partitions and nobody else notices, but leaving does
not hand them over. The name is not guessed from the host: two workers of one host would fence each other, and a
container's random name would hold its partitions for a whole session after every restart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka_client import (
    UNREACHABLE_FIX,
    Say,
    consumer_properties,
    is_fatal,
    kafka_error,
    named,
    offsets_of,
    open_consumer,
    quiet,
    remedy,
    to_messages,
)
from detector.adapters.kafka_output import KafkaOutput
from detector.adapters.kafka_topics import check_topics
from detector.codec.messages import Messages
from detector.core.readings import Partition
from detector.errors import ConfigError, DetectorError, LogUnavailable
from detector.ports import Fetched, Outcome, Restored

RESTORE_S_MAX = 10.0
ASK_S_MAX = 1.0
# Refused credentials are a ConfigError at the start. Later they worked before: whoever changed something may change it back.
UNSETTLED = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL}
EARLIEST = {"earliest", "smallest", "beginning"}
LATEST = {"latest", "largest", "end"}


class KafkaLog:
    """A worker's view of its topics. Nothing is read of a partition before it is restored.

    topics         input topics
    group          consumer group
    alerts_topic, dead_letters_topic   where decisions go
    properties     librdkafka's, under their own names; they win over our defaults, never over what delivery depends on
    delivery       exactly_once needs brokers with transactions; at_least_once may write alerts again after a crash
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
        delivery: Literal["exactly_once", "at_least_once"] = "exactly_once",
        state_topics: Mapping[str, str] = MappingProxyType({}),
        with_log_time: bool = True,
        say: Say = quiet,
    ) -> None:
        self._topics = tuple(topics)
        self._writes = (alerts_topic, dead_letters_topic)
        self._properties = dict(properties)
        self._delivery = delivery
        self._state_topics = dict(state_topics)
        self._with_log_time = with_log_time
        self._say = say
        self._gained: dict[Partition, None] = {}
        self._lost: dict[Partition, None] = {}
        self._restored: dict[Partition, int] = {}  # where each partition that may be read was restored to
        self._committed: dict[Partition, int] = {}  # what commit() made true; Kafka hears of it within the commit interval
        self._trouble: DetectorError | None = None  # heard in a callback; raised by the next poll
        self._is_away = False  # no broker answered when last heard of
        self._closed = False
        group_properties = consumer_properties(properties, group)
        self._reset = group_properties["auto.offset.reset"]
        self._consumer: Consumer = open_consumer(group_properties, self._on_error, say)
        self._output = KafkaOutput(alerts_topic, dead_letters_topic, properties, self._on_error, say)
        self._consumer.subscribe(list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def check(self, timeout_s: float = 10.0) -> dict[str, int]:
        """Before the start: brokers that answer, topics that exist; the number of partitions of each topic.

        raises LogUnavailable  no broker answered within `timeout_s`
        raises ConfigError     credentials refused, or topics missing
        """
        return check_topics(self._properties, self._topics, self._writes, timeout_s=timeout_s, say=self._say)

    # -- poll -------------------------------------------------------------------------------------------------------

    def poll(self, messages_max: int, timeout_s: float) -> Fetched:
        """See `ports.Log`. A partition in both `lost` and `gained` was lost first."""
        self._output.serve()
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            self._is_away = isinstance(trouble, LogUnavailable)
            raise trouble
        if self._is_away:
            self._ask()
        messages = self._readable(self._consume(messages_max, timeout_s))
        gained, lost = tuple(self._gained), tuple(self._lost)
        self._gained, self._lost = {}, {}
        return Fetched(messages, gained, lost)

    def _ask(self) -> None:
        """See whether the brokers are back: librdkafka tells of an outage once, and of its end not at all."""
        try:
            self._consumer.list_topics(self._topics[0], timeout=ASK_S_MAX)
        except KafkaException as exception:
            raise LogUnavailable(f"no Kafka broker answers: {kafka_error(exception).str()}", fix=UNREACHABLE_FIX) from None
        self._is_away = False

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
        """The messages as columns, without those of partitions that were lost or are not restored yet."""
        if not batch:
            return Messages()
        messages = to_messages(batch, self._topics, with_log_time=self._with_log_time)
        readable = [partition in self._restored for partition in messages.partitions]
        if all(readable):
            return messages
        keep = np.flatnonzero(np.array(readable)[messages.partition]).tolist()
        return to_messages([batch[position] for position in keep], self._topics, with_log_time=self._with_log_time)

    # -- callbacks: they run inside poll() and close(), and only take notes ------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # An explicit offset spares the look-up of the committed one, which restore() makes anyway; nothing is fetched while paused.
        consumer.incremental_assign([TopicPartition(each.topic, each.partition, 0) for each in partitions])
        consumer.pause(partitions)
        self._gained.update(dict.fromkeys(named(partitions)))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in named(partitions):
            if partition in self._gained:
                del self._gained[partition]  # nobody was told of it
            else:
                self._lost[partition] = None
            self._restored.pop(partition, None)
            self._committed.pop(partition, None)
        consumer.incremental_unassign(partitions)  # sends the stored offsets first, unless the partitions are lost for good

    def _on_message_error(self, message: KafkaMessage, error: KafkaError) -> None:
        if error.code() != KafkaError._PARTITION_EOF:
            what = f"reading {message.topic() or ', '.join(self._topics)}"
            if not self._note(error, what):
                self._say("warning", f"{what}: {error.str()}")

    def _on_error(self, error: KafkaError) -> None:
        self._note(error, "Kafka")  # a broken connection is in librdkafka's own log lines already

    def _note(self, error: KafkaError, what: str) -> bool:
        """Keep what a person or the worker must hear of, for the next poll; the rest librdkafka mends by itself."""
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
        """See `ports.Log`. Writes alerts and dead letters, waits for the brokers, then stores the offsets.

        raises ConfigError  the brokers refuse what is written: no permission, no such topic, an alert too large
        raises ValueError   the outcome carries state, which this delivery keeps nowhere
        """
        if any(outcome.state.values()):
            raise ValueError("KafkaLog keeps no state with at-least-once delivery: an outcome must not carry any")
        self._output.write(outcome.alerts, outcome.dead_letters)
        for partition, offset in outcome.offsets.items():
            if partition not in self._restored:
                continue  # lost meanwhile: who has it now begins at the committed offset and judges these messages again
            try:
                self._consumer.store_offsets(offsets=[TopicPartition(partition.topic, partition.number, offset)])
            except KafkaException as exception:
                raise remedy(kafka_error(exception), f"storing the offset of {partition.topic} {partition.number}") from None
            self._committed[partition] = offset

    # -- restore, lag, close ----------------------------------------------------------------------------------------

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, Restored]:
        """See `ports.Log`. Continues at the committed offset; where there is none, as `auto.offset.reset` says.

        raises LogUnavailable  the brokers did not answer in time; restore again
        raises ConfigError     no offset is committed and `auto.offset.reset` is `error`
        """
        if not partitions:
            return {}
        asked = [TopicPartition(partition.topic, partition.number) for partition in partitions]
        what = f"restoring {len(partitions)} partitions"
        deadline = time.monotonic() + RESTORE_S_MAX
        for partition in partitions:
            self._restored.pop(partition, None)  # nothing is read of it until all is well
        try:
            committed = offsets_of(self._consumer.committed(asked, timeout=RESTORE_S_MAX))
            committed.update({each: self._committed[each] for each in partitions if each in self._committed})
            first, end = self._ends(partitions, OFFSET_BEGINNING), self._ends(partitions, OFFSET_END)
            restored = {each: self._start(each, committed[each], first[each], end[each]) for each in partitions}
            self._consumer.resume(asked)
            for partition, offset in restored.items():
                self._seek(partition, offset, deadline)
            self._ends(partitions, OFFSET_END)  # any request wakes the connections, which would notice up to a second later
        except KafkaException as exception:
            raise remedy(kafka_error(exception), what) from None
        self._restored.update(restored)
        return {partition: Restored(offset) for partition, offset in restored.items()}

    def _ends(self, partitions: Sequence[Partition], end: int) -> dict[Partition, int]:
        """Per partition the offset at OFFSET_BEGINNING or OFFSET_END: one request per broker, where watermarks take one per partition."""
        asked = [TopicPartition(partition.topic, partition.number, end) for partition in partitions]
        return offsets_of(self._consumer.offsets_for_times(asked, timeout=RESTORE_S_MAX))

    def _start(self, partition: Partition, committed: int, first: int, end: int) -> int:
        """The offset to continue at: the committed one if the log, [first, end), still holds it."""
        if first <= committed <= end:
            return committed
        name = f"{partition.topic} {partition.number}"
        if committed != OFFSET_INVALID:
            self._say("warning", f"{name}: offset {committed} is committed, but the log holds {first} to {end}; {self._reset} applies")
        if self._reset in EARLIEST:
            return first
        if self._reset in LATEST:
            return end
        raise ConfigError(f"{name}: no usable offset is committed and auto.offset.reset is {self._reset!r}", fix="set it to earliest")

    def _seek(self, partition: Partition, offset: int, deadline: float) -> None:
        while True:
            try:
                self._consumer.seek(TopicPartition(partition.topic, partition.number, offset))
                return
            except KafkaException as exception:
                # Just assigned: librdkafka is not ready to move the position yet.
                if kafka_error(exception).code() != KafkaError._STATE or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def lag(self) -> Mapping[Partition, int]:
        """See `ports.Log`. Ends as of the last fetch; a partition of which none was heard yet is left out."""
        lag = {}
        for partition, restored in self._restored.items():
            where = TopicPartition(partition.topic, partition.number)
            _, high = self._consumer.get_watermark_offsets(where, cached=True)
            position = self._consumer.position([where])[0].offset
            if high >= 0:
                lag[partition] = max(0, high - (position if position >= 0 else restored))
        return lag

    def close(self) -> None:
        """See `ports.Log`. Sends the stored offsets. A dynamic member hands its partitions over now; a static one when its session ends."""
        if not self._closed:
            self._closed = True
            self._restored.clear()
            self._consumer.close()
