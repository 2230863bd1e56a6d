"""Stands at the broker: writes the input, reads what lies on the topics, asks for the group's offsets."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from tests.chaos.source import PARTITIONS, TOPIC, Sent

QUICK = {"reconnect.backoff.max.ms": "200", "log_level": "0"}
READ_UNCOMMITTED = IsolationLevel.READ_UNCOMMITTED
ANSWER_S_MAX = 5.0
OFFSETS_S_MAX = 15.0  # longer than a transaction that is open stays so: it is ended after its time-out


class Trouble(Exception):
    """The run failed: not a difference between the outputs, but something that never came, or that nobody may do."""


def tells_offsets(servers: str, group: str) -> bool:
    """Whether the broker tells the group's committed offsets, and those that its own log holds.

    It does not while a transaction is undecided that changes them. And a Kafka 4.3.0 that is alone and was killed may load a part of
    its log only, and tell offsets of minutes ago for as long as it lives.
    """
    deadline = time.monotonic() + OFFSETS_S_MAX
    asked = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    while time.monotonic() < deadline:
        asker = Consumer({"bootstrap.servers": servers, "group.id": group, "isolation.level": "read_committed", **QUICK})
        try:
            told = asker.committed(asked, timeout=ANSWER_S_MAX)
            if not any(each.error for each in told):
                held = _offsets_held(asker, group)
                return all(each.offset == held.get(each.partition, each.offset) for each in told)
        except KafkaException:  # the coordinator is being loaded, or waits
            time.sleep(0.1)
        finally:
            asker.close()
    return False


def _offsets_held(reader: Consumer, group: str) -> dict[int, int]:
    """The newest committed offset of each input partition in the topic that the broker itself keeps them in."""
    topic = "__consumer_offsets"
    numbers = list(reader.list_topics(topic, timeout=ANSWER_S_MAX).topics[topic].partitions)
    ends = {number: reader.get_watermark_offsets(TopicPartition(topic, number), timeout=ANSWER_S_MAX)[1] for number in numbers}
    reader.assign([TopicPartition(topic, number, 0) for number in numbers if ends[number]])
    held: dict[int, int] = {}
    unread = {number for number in numbers if ends[number]}
    deadline = time.monotonic() + ANSWER_S_MAX
    while unread and time.monotonic() < deadline:
        for message in reader.consume(10_000, 0.2):
            if message.error() is not None or (number := _input_in(message, group)) is None:
                continue
            if (value := message.value()) is None:  # with its topic
                held.pop(number, None)
            else:
                held[number] = struct.unpack_from(">q", value, 2)[0]
        unread = {
            each.partition
            for each in reader.position([TopicPartition(topic, number) for number in unread])
            if each.offset < ends[each.partition]
        }
    if unread:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return held


def _input_in(message: KafkaMessage, group: str) -> int | None:
    """The number of the input's partition, if this message of the broker's is of an offset of the group's for it."""
    key = message.key()
    start = struct.pack(">hh", 1, len(group)) + group.encode() + struct.pack(">h", len(TOPIC)) + TOPIC.encode()
    if not isinstance(key, bytes) or key[:2] > b"\0\1" or key[2 : len(start)] != start[2:]:
        return None
    return int(struct.unpack_from(">i", key, len(start))[0])


def ends(admin: AdminClient, places: Iterable[tuple[str, int]], level: IsolationLevel) -> dict[tuple[str, int], int]:
    """Where partitions end: their last message, or with READ_COMMITTED the first of which it is not decided whether it counts.

    raises KafkaException  the broker does not tell
    """
    asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]
    found = admin.list_offsets(asked, isolation_level=level, request_timeout=ANSWER_S_MAX)
    return {(where.topic, where.partition): future.result().offset for where, future in found.items()}


class Writer:
    """Writes messages to the partitions that they name, nothing twice.

    Kafka's own time of a message is the present: a broker that was killed forgets producers whose newest message is a day old,
    and would take again what it had taken.
    """

    def __init__(self, servers: str) -> None:
        ours = {"enable.idempotence": "true", "linger.ms": "2", "message.timeout.ms": "60000"}
        self._producer = Producer({"bootstrap.servers": servers, **ours, **QUICK})
        self._trouble = ""

    def write(self, sent: Sequence[Sent]) -> None:
        """Queue messages."""
        for message in sent:
            self._producer.produce(
                TOPIC,
                message.value,
                message.key,
                message.partition,
                on_delivery=self._arrived,
                headers=list(message.headers) or None,
            )
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all have arrived.

        raises Trouble  one did not
        """
        if self._producer.flush(60) or self._trouble:
            raise Trouble(f"the input could not be written: {self._trouble or 'not within 60 s'}")

    def _arrived(self, error: KafkaError | None, _: KafkaMessage) -> None:
        if error is not None:
            self._trouble = error.str()


class Reader:
    """Reads topics from their beginnings, committed messages only.

    topics  each of PARTITIONS partitions
    group   whose offsets can be asked for; it is not joined

    read_to  per topic and number of the partition: the next offset to read
    """

    def __init__(self, servers: str, topics: Sequence[str], group: str = "witness") -> None:
        common: dict[str, str | int | float | bool] = {"bootstrap.servers": servers, **QUICK}
        reads: dict[str, str | int | float | bool] = {
            "group.id": group,
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
        }
        self._common = common
        self._admin = AdminClient(common)
        self._reads = {**common, **reads}
        self._places = [(topic, number) for topic in topics for number in range(PARTITIONS)]
        self.read_to = dict.fromkeys(self._places, 0)
        self._consumer = self._open()

    def _open(self) -> Consumer:
        consumer = Consumer(self._reads)
        consumer.assign([TopicPartition(topic, number, offset) for (topic, number), offset in self.read_to.items()])
        return consumer

    def begin_anew(self, places: Mapping[tuple[str, int], int]) -> None:
        """Read on from these offsets: the logs there are others by now, and a client that has read the former ones knows too much."""
        self.read_to.update(places)
        self._consumer.close()
        self._consumer, self._admin = self._open(), AdminClient(self._common)

    def committed(self) -> list[int]:
        """The group's offset of each input partition; -1 where it has none, or the broker does not answer now."""
        try:
            asked = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
            return [max(-1, found.offset) for found in self._consumer.committed(asked, timeout=ANSWER_S_MAX)]
        except KafkaException:
            return [-1] * PARTITIONS

    def read(self, deadline: float) -> list[KafkaMessage]:
        """All that was written since the last call and up to now, once it is decided what of it is committed.

        raises Trouble  it was not decided by `deadline`: a transaction stays open
        """
        found = []
        ends = self._ends(deadline)
        while behind := [place for place in self._places if self.read_to[place] < ends[place]]:
            if time.monotonic() > deadline:
                raise Trouble(f"a transaction stays open: {', '.join(f'{topic}/{number}' for topic, number in behind)}")
            for message in self._consumer.consume(1_000, 0.05):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self.read_to[message.topic() or "", message.partition() or 0] = message.offset() or 0
        return found

    def _ends(self, deadline: float) -> dict[tuple[str, int], int]:
        """Where each partition ends, undecided messages included."""
        while True:
            try:
                return ends(self._admin, self._places, READ_UNCOMMITTED)
            except KafkaException as exception:
                if time.monotonic() > deadline:
                    raise Trouble(f"the broker does not tell where its topics end: {exception}") from None
                # After a restart of the broker a client may go on believing in the former leaders; a new one has nothing to believe in.
                self._admin = AdminClient(self._common)

    def close(self) -> None:
        """Free what is held."""
        self._consumer.close()
