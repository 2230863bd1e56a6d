"""The logs under contract, each as a small world: a place to append to, workers to join, outputs to look at."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import pytest

from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.adapters.recordings.file_log import FileLog
from detector.codec.messages import Headers, Message
from detector.core.readings import Partition
from detector.ports import Log
from tests.doubles.memory_log import MemoryBroker

KEYS = (b"f", b"a", b"b")  # Kafka's clients place them in partitions 0, 1 and 2 of three (murmur2)


class World(Protocol):
    """One log, seen from outside.

    partitions     that workers may get
    keys           the key of all messages of each partition
    many_workers   several workers can share it, and a later one sees what an earlier one committed
    keeps_headers  an input message has headers
    keeps_state    a commit may carry state
    refuses_late   `expire` ends a worker's session unheard; what it commits then is refused
    """

    partitions: tuple[Partition, ...]
    keys: tuple[bytes, ...]
    many_workers: bool
    keeps_headers: bool
    keeps_state: bool
    refuses_late: bool

    def append(self, partition: int, value: bytes, headers: Headers = ()) -> None: ...
    def join(self) -> Log: ...
    def alerts(self) -> list[Message]: ...
    def dead_letters(self) -> list[Message]: ...


class MemoryWorld:
    keys: tuple[bytes, ...] = KEYS
    many_workers = keeps_headers = keeps_state = refuses_late = True

    def __init__(self) -> None:
        self.broker = MemoryBroker(3)
        self.partitions = self.broker.partitions

    def append(self, partition: int, value: bytes, headers: Headers = ()) -> None:
        self.broker.append(partition, KEYS[partition], value, headers=headers)

    def join(self) -> Log:
        return self.broker.join()

    def alerts(self) -> list[Message]:
        return self.broker.truth.alerts

    def dead_letters(self) -> list[Message]:
        return self.broker.truth.dead_letters


class FileWorld:
    keys: tuple[bytes, ...] = (b"plant",)
    many_workers = keeps_headers = keeps_state = refuses_late = False

    def __init__(self, folder: Path) -> None:
        self._input, self._alerts, self._dead_letters = (folder / name for name in ("plant.jsonl", "alerts.jsonl", "dead.jsonl"))
        self._input.touch()
        self.partitions: tuple[Partition, ...] = (Partition("plant.jsonl", 0),)

    def append(self, partition: int, value: bytes, headers: Headers = ()) -> None:
        with self._input.open("ab") as file:
            file.write(value + b"\n")

    def join(self) -> Log:
        lines = self._input.read_bytes().splitlines()
        return FileLog.of_lines(lines, self._input.name, alerts=self._alerts, dead_letters=self._dead_letters)

    def alerts(self) -> list[Message]:
        return [Message(None, line) for line in self._alerts.read_bytes().splitlines()]

    def dead_letters(self) -> list[Message]:
        found = [json.loads(line) for line in self._dead_letters.read_bytes().splitlines()]
        return [
            Message(each["key"].encode(), each["value"].encode(), [(name, value.encode()) for name, value in each["headers"].items()])
            for each in found
        ]


class KafkaWorld:
    keys: tuple[bytes, ...] = KEYS
    many_workers = keeps_headers = keeps_state = True
    refuses_late = False  # it does, but a session takes a second to end: tests/broker/test_kafka_transactions.py

    def __init__(self, bootstrap_servers: str, make_topic: Callable[..., str], delivery: Literal["exactly_once", "at_least_once"]) -> None:
        self._delivery = delivery
        self.properties = {
            "bootstrap.servers": bootstrap_servers,
            "heartbeat.interval.ms": "200",  # a rebalance is noticed with a heartbeat
            "session.timeout.ms": "6000",
            "auto.commit.interval.ms": "60000",  # longer than any test: offsets must follow at a rebalance and at the end
        }
        self.topic, self._alerts, self._dead_letters = make_topic("readings", 3), make_topic("alerts"), make_topic("dead-letters")
        self._state = make_topic("state", 3, {"cleanup.policy": "compact"})
        self.group = f"contract-{uuid.uuid4().hex[:12]}"
        self.partitions = tuple(Partition(self.topic, number) for number in range(3))
        self._writer = TopicWriter(self.properties, self.topic)

    def append(self, partition: int, value: bytes, headers: Headers = ()) -> None:
        self._writer.write(KEYS[partition], value, headers=headers)
        self._writer.flush()

    def join(self) -> KafkaLog:
        return KafkaLog(
            [self.topic],
            self.group,
            self._alerts,
            self._dead_letters,
            self.properties,
            delivery=self._delivery,
            state_topics={self.topic: self._state},
        )

    def alerts(self) -> list[Message]:
        return self._read(self._alerts)

    def dead_letters(self) -> list[Message]:
        return self._read(self._dead_letters)

    def _read(self, topic: str) -> list[Message]:
        with TopicReader(self.properties, topic) as reader:
            return [
                Message(messages.key[position], messages.value[position], messages.headers(position))
                for messages in reader.batches()
                for position in range(len(messages))
            ]


KAFKA = [pytest.param(f"kafka {delivery}", marks=pytest.mark.broker) for delivery in ("exactly_once", "at_least_once")]


@pytest.fixture(params=["memory", "file", *KAFKA])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "memory":
        return MemoryWorld()
    if request.param == "file":
        return FileWorld(tmp_path)
    delivery = request.param.removeprefix("kafka ")
    return KafkaWorld(request.getfixturevalue("kafka"), request.getfixturevalue("make_topic"), delivery)


@pytest.fixture
def join(world: World) -> Iterator[Callable[[], Log]]:
    """Workers that are closed at the end."""
    logs: list[Log] = []

    def joined() -> Log:
        logs.append(world.join())
        return logs[-1]

    yield joined
    for log in logs:
        log.close()
