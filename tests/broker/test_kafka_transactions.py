"""Exactly once on a real Kafka: transactions, zombies, workers that die inside one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

import pytest
from confluent_kafka import Consumer, TopicPartition

from detector.adapters.kafka.commit_owners import RELEASED, end_transaction
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.transactions import Transactions
from detector.codec.messages import Message
from detector.core.readings import Partition
from detector.errors import CommitAborted, ConfigError, Fenced
from detector.ports import CommitBatch, PartitionPosition
from tests.broker.members import FAST, MakeTopic, gain, go_on, new_group, tries, values_of
from tests.contract.kept import kept

pytestmark = pytest.mark.broker
BRIEF = {"session.timeout.ms": "1000"}


class Plant:
    """One group with its topics; its workers are closed at the end."""

    def __init__(self, bootstrap_servers: str, make_topic: MakeTopic, stack: ExitStack) -> None:
        self.properties = {"bootstrap.servers": bootstrap_servers, **FAST}
        self.topic, self.alerts_topic = make_topic("in", 2), make_topic("alerts", settings={"max.message.bytes": "20000"})
        self.dead_letters_topic = make_topic("dead", settings={"max.message.bytes": "20000"})
        self.state_topic = make_topic("state", 2, {"cleanup.policy": "compact", "max.message.bytes": "20000"})
        self.group = new_group()
        self.partitions = [Partition(self.topic, number) for number in range(2)]
        self._stack = stack

    def join(self, **properties: str) -> KafkaLog:
        """A worker that has been started; properties with `_` for `.`."""
        dotted = {name.replace("_", "."): value for name, value in properties.items()}
        log = KafkaLog(
            [self.topic],
            self.group,
            self.alerts_topic,
            self.dead_letters_topic,
            {**self.properties, **dotted},
            state_topics={self.topic: self.state_topic},
        )
        return self._stack.enter_context(closing(log))

    def live(self, **properties: str) -> KafkaLog:
        """A worker that has all partitions and reads them."""
        log = self.join(**properties)
        go_on(log, gain(log, 2))
        return log

    def alerts(self, isolation_level: str = "read_committed", count: int = 0) -> list[bytes | None]:
        """What is on the alerts' topic, once there are so many: a commit is acknowledged a moment before its marker stands in every partition,
        and until then a reader of what is committed does not see it."""
        for _ in tries(10):
            found = values_of({**self.properties, "isolation.level": isolation_level}, self.alerts_topic)
            if len(found) >= count:
                break
        return found

    def names(self) -> list[str]:
        """What the committed offset of each partition bears."""
        asker = Consumer({"bootstrap.servers": self.properties["bootstrap.servers"], "group.id": self.group})
        asked = [TopicPartition(each.topic, each.number) for each in self.partitions]
        found = [each.metadata or "" for each in asker.committed(asked, timeout=10)]
        asker.close()
        return found

    def batch(self, word: bytes, offset: int) -> CommitBatch:
        return CommitBatch(
            alerts=[Message(b"pump", word)],
            state={each: {b"row": word} for each in self.partitions},
            offsets=dict.fromkeys(self.partitions, offset),
        )


@pytest.fixture
def plant(kafka: str, make_topic: MakeTopic) -> Iterator[Plant]:
    with ExitStack() as stack:
        yield Plant(kafka, make_topic, stack)


def fill(plant: Plant, count: int) -> None:
    with TopicWriter(plant.properties, plant.topic) as writer:
        for number in range(count):
            for key in (b"a", b"d"):  # partitions 0 and 1 of two
                writer.write(key, b"%d" % number)


def stands(log: KafkaLog, restored: Mapping[Partition, PartitionPosition]) -> dict[Partition, tuple[int, bool, Mapping[bytes, bytes]]]:
    """Where partitions stand, and what is kept of them."""
    state = kept(log, list(restored))
    return {partition: (at.offset, at.is_committed, state[partition]) for partition, at in restored.items()}


def test_a_transaction_is_seen_whole_or_not_at_all(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(plant, 2)
    log = plant.live()
    seen = []
    end = Transactions._end

    def look_before_the_end(transactions: Transactions, producer: object) -> None:
        seen.append((plant.alerts(), plant.alerts("read_uncommitted")))
        if len(seen) == 1:
            transactions._abort(producer)  # type: ignore[arg-type]
            raise CommitAborted("for the test")
        end(transactions, producer)  # type: ignore[arg-type]

    monkeypatch.setattr(Transactions, "_end", look_before_the_end)
    with pytest.raises(CommitAborted):
        log.commit(plant.batch(b"aborted", 1))
    assert stands(log, log.restore(plant.partitions)) == dict.fromkeys(plant.partitions, (0, False, {}))
    log.commit(plant.batch(b"kept", 2))
    assert seen == [([], [b"aborted"]), ([], [b"aborted", b"kept"])]
    assert plant.alerts(count=1) == [b"kept"]
    assert stands(log, log.restore(plant.partitions)) == dict.fromkeys(plant.partitions, (2, True, {b"row": b"kept"}))


def test_a_zombie_cannot_commit(plant: Plant) -> None:
    fill(plant, 2)
    zombie = plant.live(session_timeout_ms="1000", heartbeat_interval_ms="60000")  # no heartbeat comes before the session has ended
    successor = plant.live(**{"group_instance_id": "successor"})
    with pytest.raises(CommitAborted):  # it has not polled and knows of nothing
        zombie.commit(plant.batch(b"zombie", 2))
    with pytest.raises(CommitAborted):  # rows alone are refused as well
        zombie.commit(CommitBatch(state={plant.partitions[0]: {b"row": b"zombie"}}))
    successor.commit(plant.batch(b"successor", 1))
    for _ in tries(10):
        if not zombie._member.consumer.memberid():  # now librdkafka knows, and nobody has told the worker
            break
    with pytest.raises(CommitAborted, match="session has ended"):
        zombie.commit(plant.batch(b"zombie", 2))
    for _ in tries(10):
        if zombie.poll(10, 0.05).revoked:
            break
    with pytest.raises(CommitAborted):
        zombie.commit(plant.batch(b"zombie", 2))
    assert plant.alerts(count=1) == [b"successor"]
    assert stands(successor, successor.restore(plant.partitions)) == dict.fromkeys(plant.partitions, (1, True, {b"row": b"successor"}))


@pytest.mark.parametrize("name", ["", "worker-0"], ids=["dynamic", "static"])
def test_a_transaction_that_others_ended_is_aborted_and_the_next_one_works(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The coordinator does it if it took too long, a successor if its worker seemed to be dead: that ends no worker, named or not."""
    fill(plant, 2)
    log, names = plant.live(**({"group_instance_id": name} if name else {})), []
    end = Transactions._end

    def end_after_another(transactions: Transactions, producer: object) -> None:
        names.append(transactions.transactional_id)
        end_transaction(plant.properties, transactions.transactional_id, lambda level, line: None)
        end(transactions, producer)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Transactions, "_end", end_after_another)
        with pytest.raises(CommitAborted):
            log.commit(plant.batch(b"too late", 1))
    go_on(log, plant.partitions)
    log.commit(plant.batch(b"again", 1))
    assert not name or names == [f"{plant.group}.{name}"]
    assert plant.alerts(count=1) == [b"again"]


DIES_INSIDE = """
    import sys, time
    from detector.adapters.kafka.log import KafkaLog
    from detector.adapters.kafka.transactions import Transactions
    from detector.codec.messages import Message
    from detector.core.readings import Partition
    from detector.ports import CommitBatch

    servers, group, topic, alerts, dead, state, name = sys.argv[1:]
    properties = {"bootstrap.servers": servers, "session.timeout.ms": "1000", "transaction.timeout.ms": "60000"}
    if name:
        properties["group.instance.id"] = name
    log = KafkaLog([topic], group, alerts, dead, properties, state_topics={topic: state})
    assigned = []
    while len(assigned) < 2:
        assigned += log.poll(10, 0.1).assigned
    log.resume({each: at.offset for each, at in log.restore(assigned).items()})
    def batch(word):
        return CommitBatch([Message(b"k", word)], state={each: {b"row": word} for each in assigned}, offsets=dict.fromkeys(assigned, 1))
    log.commit(batch(b"before"))

    def stay_open(*_):
        print("open", flush=True)
        time.sleep(600)

    Transactions._end = stay_open
    log.commit(batch(b"never"))
"""


@pytest.mark.parametrize("name", ["", "worker-0"], ids=["dynamic", "static"])
def test_a_worker_killed_inside_a_transaction_holds_nobody_up(plant: Plant, name: str) -> None:
    fill(plant, 2)
    servers = plant.properties["bootstrap.servers"]
    arguments = [servers, plant.group, plant.topic, plant.alerts_topic, plant.dead_letters_topic, plant.state_topic, name]
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(DIES_INSIDE), *arguments], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        child.kill()
    died = time.monotonic()
    successor = plant.join(**({"group_instance_id": name} if name else {}))
    found = successor.restore(gain(successor, 2))
    live_s = time.monotonic() - died
    assert stands(successor, found) == dict.fromkeys(plant.partitions, (1, True, {b"row": b"before"}))
    assert plant.alerts() == [b"before"]  # readable: nothing undecided is left before the end
    successor.commit(plant.batch(b"after", 2))
    assert plant.alerts(count=2) == [b"before", b"after"]
    print(f"\nlive again {live_s:.2f} s after SIGKILL ({name or 'dynamic, session of 1 s'})")
    assert live_s < 20  # the transaction's own time-out is 60 s


def test_only_partitions_given_up_in_order_bear_no_workers_name(plant: Plant) -> None:
    fill(plant, 2)
    first = plant.live()
    first.commit(plant.batch(b"first", 1))
    assert all(name.startswith(f"{plant.group}.") for name in plant.names())
    second = plant.join()
    assigned: Sequence[Partition] = ()
    for _ in tries(30):
        first.poll(10, 0.05)
        if assigned := second.poll(10, 0.05).assigned:
            break
    (moved,) = assigned
    assert [name == RELEASED for name in plant.names()] == [each == moved for each in plant.partitions]
    go_on(second, assigned)
    second.commit(CommitBatch(offsets={moved: 2}))
    assert RELEASED not in plant.names()
    first.close()
    assert [name == RELEASED for name in plant.names()] == [each != moved for each in plant.partitions]


def test_an_offset_that_a_person_set_is_not_the_services_own(plant: Plant) -> None:
    fill(plant, 2)
    first = plant.live()
    first.commit(plant.batch(b"first", 2))
    assert all(at.is_own for at in first.restore(plant.partitions).values())
    first.close()
    with closing(Consumer({"bootstrap.servers": plant.properties["bootstrap.servers"], "group.id": plant.group})) as person:
        person.commit(offsets=[TopicPartition(each.topic, each.number, 1) for each in plant.partitions], asynchronous=False)
    second = plant.join()
    found = second.restore(gain(second, 2))
    assert {(at.offset, at.is_committed, at.is_own) for at in found.values()} == {(1, True, False)}


def test_what_stops_a_worker_on_revoke_is_raised_and_holds_up_nobody(plant: Plant) -> None:
    fill(plant, 2)
    first = plant.live()
    second = plant.join()

    def on_revoke(partitions: tuple[Partition, ...]) -> None:
        raise Fenced("for the test")

    def poll_both() -> None:
        for _ in tries(30):
            second.poll(10, 0)
            first.poll(10, 0.05, on_revoke)

    with pytest.raises(Fenced, match="for the test"):
        poll_both()
    revoked: list[Partition] = []
    for _ in tries(30):
        revoked += first.poll(10, 0.05).revoked
        if assigned := second.poll(10, 0.05).assigned:
            break
    assert list(assigned) == revoked


def test_a_row_or_an_alert_that_is_too_large_names_topic_and_setting(plant: Plant) -> None:
    fill(plant, 1)
    log = plant.live()
    for batch, topic in (
        (CommitBatch(state={plant.partitions[0]: {b"small": b"1", b"row": bytes(50_000)}}), plant.state_topic),
        (CommitBatch(alerts=[Message(b"pump", bytes(50_000))], offsets={plant.partitions[0]: 1}), plant.alerts_topic),
    ):
        with pytest.raises(ConfigError, match=topic) as caught:
            log.commit(batch)
        assert "max.message.bytes" in caught.value.fix
        assert topic in caught.value.fix
    assert stands(log, log.restore(plant.partitions)) == dict.fromkeys(plant.partitions, (0, False, {}))
    assert plant.alerts() == []


def test_the_new_group_protocol(plant: Plant) -> None:
    fill(plant, 4)
    del plant.properties["session.timeout.ms"], plant.properties["heartbeat.interval.ms"]  # the brokers set them
    first = plant.live(group_protocol="consumer")
    first.commit(plant.batch(b"first", 1))
    second = plant.join(group_protocol="consumer")
    released: list[Partition] = []

    def on_revoke(partitions: tuple[Partition, ...]) -> None:
        released.extend(partitions)
        state = {each: {b"row": b"last"} for each in partitions}
        first.commit(CommitBatch(alerts=[Message(b"k", b"last")], state=state, offsets=dict.fromkeys(partitions, 2)))

    found: dict[Partition, PartitionPosition] = {}
    for _ in tries(60):
        first.poll(10, 0.05, on_revoke)
        found = dict(second.restore(second.poll(10, 0.05).assigned))
        if found:
            break
    assert stands(second, found) == {released[0]: (2, True, {b"row": b"last"})}
    (kept,) = set(plant.partitions) - set(released)
    first.commit(CommitBatch(alerts=[Message(b"k", b"of the first")], offsets={kept: 3}))
    second.commit(CommitBatch(alerts=[Message(b"k", b"of the second")], offsets={released[0]: 3}))
    with pytest.raises(CommitAborted):
        first.commit(CommitBatch(alerts=[Message(b"k", b"never")], offsets={released[0]: 4}))
    assert plant.alerts(count=4) == [b"first", b"last", b"of the first", b"of the second"]
