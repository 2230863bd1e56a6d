"""Static members on a real Kafka: fenced by their own past they come back, fenced by another holder of their name they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import pytest

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.kafka import static_membership
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics
from detector.codec.messages import Message
from detector.core.readings import Partition
from detector.errors import CommitAborted, Fenced, LogUnavailable
from detector.ports import CommitBatch
from tests.broker.members import gain, go_on, new_group, read, settle, tell, tries, values_of
from tests.conftest import need_local_kafka

pytestmark = pytest.mark.broker
NAME = {"group.instance.id": "worker-0"}
BRIEF = {**NAME, "session.timeout.ms": "1500"}
NEW_PROTOCOL = {**NAME, "group.protocol": "consumer"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker of this file's own, to be killed, with short sessions in the new protocol."""
    need_local_kafka()
    times = {"session.timeout.ms": "5000", "heartbeat.interval.ms": "1000"}
    settings = {f"group.consumer.{bound}{name}": value for name, value in times.items() for bound in ("", "min.")}
    kafka = LocalKafka(tmp_path_factory.mktemp("static"), settings=settings)
    kafka.start()
    yield kafka
    kafka.stop()


@pytest.fixture
def topics(broker: LocalKafka) -> tuple[str, str, str]:
    """An input of one partition, alerts, dead letters."""
    names = [f"{kind}-{new_group()}" for kind in ("in", "alerts", "dead")]
    create_topics({"bootstrap.servers": broker.bootstrap_servers}, [Topic(name, 1, {}) for name in names])
    return names[0], names[1], names[2]


def send(broker: LocalKafka, topic: str, value: bytes) -> None:
    with TopicWriter({"bootstrap.servers": broker.bootstrap_servers}, topic) as writer:
        writer.write(b"k", value)


def alert(word: bytes, partition: Partition, offset: int) -> CommitBatch:
    return CommitBatch(alerts=[Message(b"k", word)], offsets={partition: offset})


def heard(log: KafkaLog) -> tuple[list[Partition], list[Partition]]:
    """What one poll brings: revoked and assigned partitions. Nothing of a log that cannot be reached, or waits."""
    try:
        polled = log.poll(10, 0.05)
    except LogUnavailable as error:
        tell("waits", str(error))
        return [], []
    return list(polled.revoked), list(polled.assigned)


def poll_to_the_end(log: KafkaLog) -> None:
    """Until it raises."""
    for _ in tries(30):
        heard(log)


def test_it_comes_back_after_an_outage_under_load(broker: LocalKafka, topics: tuple[str, str, str]) -> None:
    """Its session ends while it waits for a commit, and librdkafka greets the broker that is back without a member id."""
    topic, alerts, dead = topics
    here, group, lines = Partition(topic, 0), new_group(), list[str]()

    def listen(level: str, line: str) -> None:
        lines.append(line)
        tell(level, line)

    properties = {"bootstrap.servers": broker.bootstrap_servers, "delivery.timeout.ms": "1500", **NAME}
    with closing(KafkaLog([topic], group, alerts, dead, properties, on_log=listen)) as log:
        send(broker, topic, b"before")
        assert read(log, 1) == [b"before"]
        log.commit(alert(b"first", here, 1))
        settle(broker.bootstrap_servers, group, here, 1)
        send(broker, topic, b"after")

        broker.kill()
        for _ in tries(20):  # as a worker does: it does not poll until it knows what became of its commit
            with suppress(LogUnavailable):
                log.commit(alert(b"second", here, 2))
            if not log._member.consumer.memberid():
                break
        broker.start()
        time.sleep(2.5)  # a heartbeat
        for _ in tries(20):
            try:
                log.commit(alert(b"second", here, 2))
                pytest.fail("committed without a session")
            except LogUnavailable as error:
                tell("again", str(error))
            except CommitAborted:
                break

        revoked: list[Partition] = []
        assigned: list[Partition] = []
        for _ in tries(30):
            came = heard(log)
            revoked += came[0]
            assigned += came[1]
            if assigned:
                break
        assert any("fenced" in line for line in lines), "it was not fenced: this tests nothing"
        assert revoked == assigned == [here]
        assert log.restore(assigned)[here].offset == 1
        log.resume({here: 1})
        assert read(log, 1) == [b"after"]
        log.commit(alert(b"second", here, 2))
    assert values_of({"bootstrap.servers": broker.bootstrap_servers}, alerts) == [b"first", b"second"]


def test_of_two_workers_of_one_name_exactly_one_goes_on(broker: LocalKafka, topics: tuple[str, str, str]) -> None:
    topic, alerts, dead = topics
    here, group = Partition(topic, 0), new_group()
    properties = {"bootstrap.servers": broker.bootstrap_servers, **BRIEF}
    with closing(KafkaLog([topic], group, alerts, dead, properties)) as first:
        go_on(first, gain(first))
        with closing(KafkaLog([topic], group, alerts, dead, properties)) as second:
            assigned = gain(second)
            time.sleep(1.0)  # a heartbeat: librdkafka takes the partition from the first, and says so at the next poll
            go_on(first, [here])  # as after a commit that was refused
            revoked: list[Partition] = []
            for _ in tries(10):
                revoked += heard(first)[0]
                if revoked:
                    break
            assert revoked == assigned == [here]
            with pytest.raises(Fenced, match=r"same group\.instance\.id, worker-0: member worker-0-.* at 127\.0\.0\.1 has it") as caught:
                poll_to_the_end(first)
            assert "of its own" in caught.value.fix
            with pytest.raises(CommitAborted):
                first.commit(alert(b"never", here, 1))
            send(broker, topic, b"only")
            go_on(second, assigned)
            assert read(second, 1) == [b"only"]
            second.commit(alert(b"told", here, 1))
    assert values_of({"bootstrap.servers": broker.bootstrap_servers}, alerts) == [b"told"]


OLD = """
    import json, sys
    from detector.adapters.kafka.log import KafkaLog
    from detector.errors import Fenced, LogUnavailable

    servers, group, topic, alerts, dead, properties = sys.argv[1:]
    log = KafkaLog([topic], group, alerts, dead, {"bootstrap.servers": servers, **json.loads(properties)})
    while True:
        try:
            if assigned := log.poll(10, 0.05).assigned:
                log.resume({each: at.offset for each, at in log.restore(assigned).items()})
                print("has it", flush=True)
        except LogUnavailable as error:
            print(error, file=sys.stderr, flush=True)
        except Fenced as error:
            print(f"ends: {error}", flush=True)
            sys.exit(error.exit_code)
"""


@contextmanager
def old_holder(broker: LocalKafka, group: str, topics: Sequence[str], properties: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, which has the only partition."""
    arguments = [broker.bootstrap_servers, group, *topics, json.dumps(properties)]
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(OLD), *arguments], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "has it\n"
            yield child
        finally:
            child.kill()


def test_an_old_holder_that_wakes_up_ends(broker: LocalKafka, topics: tuple[str, str, str]) -> None:
    """It hung for longer than its session, and a new process has its name: it must not take the name back."""
    topic, alerts, dead = topics
    here, group = Partition(topic, 0), new_group()
    properties = {"bootstrap.servers": broker.bootstrap_servers, **BRIEF}
    with old_holder(broker, group, topics, BRIEF) as old:
        old.send_signal(signal.SIGSTOP)
        with closing(KafkaLog([topic], group, alerts, dead, properties, on_log=tell)) as new:
            go_on(new, gain(new))
            time.sleep(2.0)
            old.send_signal(signal.SIGCONT)
            for _ in tries(20):
                assert not new.poll(10, 0.05).revoked
                if old.poll() is not None:
                    break
            assert old.stdout is not None
            assert "ends: another worker runs under the same group.instance.id, worker-0" in old.stdout.read()
            assert old.returncode == 1
            send(broker, topic, b"only")
            assert read(new, 1) == [b"only"]
            new.commit(alert(b"told", here, 1))
    assert values_of({"bootstrap.servers": broker.bootstrap_servers}, alerts) == [b"told"]


def test_the_new_protocol_keeps_a_name_for_its_holder(
    broker: LocalKafka, topics: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second worker of one name ends; the successor of a dead one waits for its session, and has the partition."""
    topic, alerts, dead = topics
    group, properties = new_group(), {"bootstrap.servers": broker.bootstrap_servers, **NEW_PROTOCOL}
    with old_holder(broker, group, topics, NEW_PROTOCOL) as old:
        with monkeypatch.context() as patch:
            patch.setattr(static_membership, "NEW_PROTOCOL_SESSION_S", 3.0)
            second = KafkaLog([topic], group, alerts, dead, properties)
        with closing(second), pytest.raises(Fenced, match="worker-0"):
            poll_to_the_end(second)
        old.kill()
        with closing(KafkaLog([topic], group, alerts, dead, properties, on_log=tell)) as successor:
            assert gain(successor) == [Partition(topic, 0)]
