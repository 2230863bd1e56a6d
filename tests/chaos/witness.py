"""Stands at the broker: writes the input, reads what was committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from detector.codec.messages import Headers
from tests.chaos.oracle import Difference, Ledger, as_written
from tests.chaos.source import PARTITIONS, TOPIC, Sent

QUICK = {"reconnect.backoff.max.ms": "200", "log_level": "0"}
ANSWER_S_MAX = 5.0


class Trouble(Exception):
    """The run failed: not a difference between the outputs, but something that never came, or that nobody may do."""


def wait_until(what: Callable[[], bool], goal: str, deadline: float) -> None:
    """Ask until it is so.

    raises Trouble  it was not by `deadline`, on the clock of time.monotonic()
    """
    while not what():
        if time.monotonic() > deadline:
            raise Trouble(f"waited in vain: {goal}")
        time.sleep(0.02)


class Writer:
    """Writes to given partitions, nothing twice, and sees to it that each message lies where the oracle believes it."""

    def __init__(self, servers: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": servers, "enable.idempotence": "true", "linger.ms": "2", "message.timeout.ms": "60000", **QUICK}
        )
        self._next = [0] * PARTITIONS
        self._trouble = ""

    def write(self, sent: Sequence[Sent]) -> None:
        """Queue messages.

        raises Trouble  an earlier one did not arrive, or not where it should
        """
        for message in sent:
            self._producer.produce(
                TOPIC,
                message.value,
                message.key,
                message.partition,
                on_delivery=self._arrived,
                timestamp=message.time_ms,
                headers=list(message.headers) or None,
            )
        self._producer.poll(0)
        if self._trouble:
            raise Trouble(self._trouble)

    def flush(self) -> None:
        """Wait until all have arrived.

        raises Trouble  one did not
        """
        if self._producer.flush(60) or self._trouble:
            raise Trouble(self._trouble or "the input could not be written within 60 s")

    def _arrived(self, error: KafkaError | None, message: KafkaMessage) -> None:
        partition = message.partition() or 0
        if error is not None:
            self._trouble = f"the input could not be written: {error.str()}"
        elif message.offset() != self._next[partition]:
            self._trouble = f"input {partition}: offset {message.offset()} where {self._next[partition]} was due"
        self._next[partition] += 1


class Witness:
    """Reads the outputs as their users do, committed messages only, and the group's offsets.

    ledgers  what must be on each topic
    """

    def __init__(self, servers: str, group: str, ledgers: Mapping[str, Ledger]) -> None:
        self._ledgers = ledgers
        common: dict[str, str | int | float | bool] = {"bootstrap.servers": servers, **QUICK}
        self._admin = AdminClient(common)
        reads = {"group.id": group, "enable.auto.commit": "false", "isolation.level": "read_committed", "enable.partition.eof": "true"}
        self._consumer = Consumer({**common, **reads})  # joins no group: it is only asked for the group's offsets
        self._outputs = [TopicPartition(topic, number, 0) for topic in ledgers for number in range(PARTITIONS)]
        self._consumer.assign(self._outputs)
        self._read_to: dict[tuple[str, int], int] = {}

    def committed(self) -> list[int]:
        """The group's offset of each input partition; -1 where it has none, or the broker does not answer now."""
        try:
            asked = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
            return [max(-1, found.offset) for found in self._consumer.committed(asked, timeout=ANSWER_S_MAX)]
        except KafkaException:
            return [-1] * PARTITIONS

    def read(self, into: Difference, deadline: float) -> None:
        """Take in all that has been written to the outputs up to now, once it is decided what of it is committed.

        raises Trouble  it was not decided by `deadline`: a transaction stays open
        """
        ends = self._ends(deadline)
        behind = {where for where, end in ends.items() if self._read_to.get(where, 0) < end}
        while behind:
            if time.monotonic() > deadline:
                raise Trouble(f"undecided, a transaction stays open: {', '.join(f'{topic}/{number}' for topic, number in sorted(behind))}")
            for message in self._consumer.consume(1_000, 0.05):
                self._take(message, into)
            behind = {where for where in behind if self._read_to.get(where, 0) < ends[where]}

    def _take(self, message: KafkaMessage, into: Difference) -> None:
        topic, number = message.topic() or "", message.partition() or 0
        error = message.error()
        if error is None:
            headers = cast(Headers, message.headers() or ())  # a list of pairs; the stubs allow for what producers take, too
            self._ledgers[topic].find(as_written(message.key(), message.value(), headers), number, into)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._read_to[topic, number] = message.offset() or 0

    def _ends(self, deadline: float) -> dict[tuple[str, int], int]:
        """Where each output partition ends, undecided messages included."""
        while True:
            asked = {TopicPartition(each.topic, each.partition): OffsetSpec.latest() for each in self._outputs}  # type: ignore[no-untyped-call]
            found = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ANSWER_S_MAX)
            try:
                return {(each.topic, each.partition): future.result().offset for each, future in found.items()}
            except KafkaException:
                if time.monotonic() > deadline:
                    raise Trouble("the broker does not tell where the outputs end") from None

    def close(self) -> None:
        """Free what is held."""
        self._consumer.close()
