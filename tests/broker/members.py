"""Workers of a group as the tests drive them: polling, going on, what topics hold."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicReader
from detector.core.readings import Partition
from detector.errors import LogUnavailable

FAST = {"heartbeat.interval.ms": "200", "session.timeout.ms": "6000"}
MakeTopic = Callable[..., str]


def tell(level: str, line: str) -> None:
    """Print, so that a test that fails shows it."""
    print(f"{time.monotonic():.3f} {level} {line}")


def tries(seconds: float) -> Iterator[None]:
    """Until patience ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
    pytest.fail(f"waited {seconds:g} s in vain")


def go_on(log: KafkaLog, partitions: Sequence[Partition]) -> None:
    """Restore, and resume where that says."""
    log.resume({partition: at.offset for partition, at in log.restore(partitions).items()})


def gain(log: KafkaLog, count: int = 1, seconds: float = 30.0) -> list[Partition]:
    """Poll until `count` partitions are assigned; they are not restored. A log that cannot be reached is asked again."""
    assigned: list[Partition] = []
    for _ in tries(seconds):
        with suppress(LogUnavailable):
            assigned += log.poll(10, 0.05).assigned
        if len(assigned) >= count:
            break
    return assigned


def read(log: KafkaLog, count: int, seconds: float = 30.0) -> list[bytes | None]:
    """Poll until `count` messages have come, restoring what is assigned; a log that cannot be reached is asked again."""
    values: list[bytes | None] = []
    assigned: list[Partition] = []
    for _ in tries(seconds):
        try:
            polled = log.poll(1000, 0.1)
            assigned = [each for each in assigned if each not in polled.revoked] + list(polled.assigned)
            values += polled.messages.value
            go_on(log, assigned)
            assigned = []
        except LogUnavailable:
            continue
        if len(values) >= count:
            break
    return values


def poll_on(*logs: KafkaLog) -> None:
    """Poll until something is raised."""
    for _ in tries(30):
        for log in logs:
            log.poll(10, 0.05)


def settle(servers: str, group: str, partition: Partition, offset: int) -> None:
    """Wait until a committed offset can be read: the transaction that bore it has ended everywhere.

    A lone Kafka that is stopped before may forget to end it (see `tests/chaos/markers.py`), and never tells offsets again.
    """
    asked = TopicPartition(partition.topic, partition.number)
    for _ in tries(30):
        asker = Consumer({"bootstrap.servers": servers, "group.id": group, "isolation.level": "read_committed"})
        try:
            if asker.committed([asked], timeout=5)[0].offset == offset:
                break
        except KafkaException as exception:
            tell("again", str(exception))
        finally:
            asker.close()


def values_of(properties: dict[str, str], topic: str) -> list[bytes | None]:
    """What a topic holds, read_committed unless `properties` say otherwise."""
    with TopicReader(properties, topic) as reader:
        return [value for messages in reader.batches() for value in messages.value]


def new_group() -> str:
    return f"group-{uuid.uuid4().hex[:12]}"
