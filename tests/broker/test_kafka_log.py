"""What only a real Kafka can show: brokers that go and come, topics that are missing, members that hang."""

from __future__ import annotations

import time

import pytest

from deploy.kafka.local_kafka import LocalKafka, free_port
from detector.adapters.kafka.delivery import DeliveryName
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.adapters.kafka.topics import create_topics, output_topics
from detector.codec.dead_letters import OMITTED, REASON
from detector.codec.messages import Message
from detector.core.readings import Partition
from detector.errors import CommitAborted, ConfigError, DetectorError, LogUnavailable
from detector.ports import CommitBatch
from tests.broker.members import FAST, MakeTopic, gain, go_on, new_group, poll_on, read, settle, tell, tries, values_of
from tests.contract.kept import kept

pytestmark = pytest.mark.broker

DELIVERIES: list[DeliveryName] = ["exactly_once", "at_least_once"]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_broker_that_goes_and_comes_back(own_kafka: LocalKafka, delivery: DeliveryName) -> None:
    properties = {"bootstrap.servers": own_kafka.bootstrap_servers, **FAST}
    create_topics(properties, output_topics("alerts", "dead", 1) + output_topics("in", "in-dead", 1))
    writer = TopicWriter(properties, "in")
    patience = {**properties, "delivery.timeout.ms": "1500"}
    log = KafkaLog(["in"], "g", "alerts", "dead", patience, delivery=delivery, on_log=tell)
    try:
        assert log.check() == {"in": 1, "alerts": 1, "dead": 1}
        writer.write(b"k", b"before")
        writer.flush()
        assert read(log, 1) == [b"before"]
        log.commit(CommitBatch(alerts=[Message(b"k", b"first")], offsets={Partition("in", 0): 1}))

        if delivery == "exactly_once":
            settle(own_kafka.bootstrap_servers, "g", Partition("in", 0), 1)
        own_kafka.stop()
        with pytest.raises(LogUnavailable):  # not swallowed
            poll_on(log)
        second = CommitBatch(alerts=[Message(b"k", b"second")], offsets={Partition("in", 0): 1})
        with pytest.raises(LogUnavailable, match=r"writing 1 of 1|looking at topic in"):
            log.commit(second)

        own_kafka.start()
        assigned: list[Partition] = []
        for _ in tries(60):
            try:
                go_on(log, assigned)
                assigned = []
                log.commit(second)
                break
            except LogUnavailable as error:  # the coordinator is loading
                tell("again", str(error))
            except CommitAborted as error:  # the session ended meanwhile
                tell("aborted", str(error))
                assigned = gain(log)
        writer.write(b"k", b"after")
        writer.flush()
        come = read(log, 1)
        if b"after" not in come:  # at least once: the group may have lost its memory of the last second, and the first comes again
            come += read(log, 1)
        assert come in ([b"after"], [b"before", b"after"])
    finally:
        log.close()
    found = values_of(properties, "alerts")
    assert found[0] == b"first"
    assert set(found) == {b"first", b"second"}
    if delivery == "exactly_once":
        assert len(found) == 2
        assert come == [b"after"]


def test_everything_that_is_missing_is_named_at_once(kafka: str, make_topic: MakeTopic) -> None:
    log = KafkaLog(["no-such-input"], new_group(), make_topic("alerts"), "no-such-dead-letters", {"bootstrap.servers": kafka})
    try:
        with pytest.raises(ConfigError, match=r"input topic no-such-input and output topic no-such-dead-letters") as caught:
            log.check()
        assert "detector topics create" in caught.value.fix
    finally:
        log.close()


def test_no_broker_is_one_clear_message_in_bounded_time() -> None:
    address = f"127.0.0.1:{free_port()}"
    log = KafkaLog(["in"], "g", "alerts", "dead", {"bootstrap.servers": address})
    try:
        start = time.monotonic()
        with pytest.raises(LogUnavailable, match=f"no Kafka broker answered at {address} within 1 s: .*refused") as caught:
            log.check(timeout_s=1.0)
        assert "bootstrap.servers" in caught.value.fix
        assert time.monotonic() - start < 5
    finally:
        log.close()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("no.such.property", "1", "no.such.property"),
        ("security.protocol", "carrier pigeon", "security.protocol"),
        ("enable.auto.offset.store", "true", "enable.auto.offset.store cannot be 'true'"),
        ("enable.auto.commit", "true", "enable.auto.commit cannot be 'true'"),
        ("isolation.level", "read_uncommitted", "isolation.level cannot be 'read_uncommitted'"),
        ("transactional.id", "mine", "transactional.id is made from"),
        ("transaction.timeout.ms", "1", "transaction.timeout.ms"),
        ("enable.idempotence", "false", "enable.idempotence cannot be 'false'"),
        ("partition.assignment.strategy", "range", "partition.assignment.strategy cannot be 'range'"),
        ("group.id", "another", "group.id 'another' is not the configured group"),
        ("delivery.report.only.error", "yes", "delivery.report.only.error"),
    ],
)
def test_properties_that_cannot_be(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KafkaLog(["in"], "g", "alerts", "dead", {"bootstrap.servers": "127.0.0.1:1", name: value})


def test_wrong_credentials_are_told_at_once_and_kept_secret(kafka: str) -> None:
    lines: list[str] = []
    properties = {
        "bootstrap.servers": kafka,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "detector",
        "sasl.password": "correct-horse-battery",
        "debug": "conf,security",
    }
    log = KafkaLog(["in"], "g", "alerts", "dead", properties, on_log=lambda level, line: lines.append(line))
    try:
        with pytest.raises(DetectorError) as caught:  # a broker without SASL: it hangs up, or says so
            log.check(timeout_s=2.0)
        assert "correct-horse-battery" not in "".join([str(caught.value), caught.value.fix, *lines])
    finally:
        log.close()


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_dead_letter_that_is_too_large_goes_with_its_reason_only(kafka: str, make_topic: MakeTopic, delivery: DeliveryName) -> None:
    topic, alerts = make_topic("in"), make_topic("alerts", settings={"max.message.bytes": "20000"})
    dead = make_topic("dead", settings={"max.message.bytes": "20000"})
    lines: list[str] = []
    properties = {"bootstrap.servers": kafka}
    log = KafkaLog([topic], new_group(), alerts, dead, properties, delivery=delivery, on_log=lambda level, line: lines.append(line))
    reason = [(name, b"7") for name in REASON]
    small = Message(b"small", b"no json", reason)
    large = Message(b"large", bytes(50_000), reason)
    unwieldy = Message(bytes(50_000), None, [("trace", bytes(50_000)), *reason])
    try:
        log.commit(CommitBatch(dead_letters=[small, large, unwieldy], alerts=[Message(b"pump", bytes(9_000))] * 5))
        with pytest.raises(ConfigError, match=f"the first to {alerts}"):
            log.commit(CommitBatch(alerts=[Message(b"pump", bytes(50_000))]))
    finally:
        log.close()
    with TopicReader(properties, dead) as reader:
        rows = [
            (messages.key[at], messages.value[at], list(messages.headers(at)))
            for messages in reader.batches()
            for at in range(len(messages))
        ]
    assert rows == [
        (b"small", b"no json", reason),
        (b"large", None, [*reason, (OMITTED, b"value (50000 bytes)")]),
        (None, None, [*reason, (OMITTED, b"key (50000 bytes), headers (1)")]),
    ]
    assert values_of(properties, alerts) == [bytes(9_000)] * 5  # too large together, not alone
    assert f"a dead letter is too large for {dead}: written without value (50000 bytes)" in lines


def test_an_offset_beyond_the_log_is_said(kafka: str, make_topic: MakeTopic) -> None:
    topic, alerts, dead = make_topic("in"), make_topic("alerts"), make_topic("dead")
    properties, group = {"bootstrap.servers": kafka, **FAST}, new_group()
    with TopicWriter(properties, topic) as writer:
        writer.write(b"k", b"only")
    lines: list[str] = []
    log = KafkaLog([topic], group, alerts, dead, properties, on_log=lambda level, line: lines.append(line))
    try:
        assert read(log, 1) == [b"only"]
        log.commit(CommitBatch(offsets={Partition(topic, 0): 99}))
        at = log.restore([Partition(topic, 0)])[Partition(topic, 0)]
    finally:
        log.close()
    assert (at.offset, at.first, at.end) == (99, 0, 1)
    assert any("offset 99 is committed, but the log holds 0 to 1" in line for line in lines)


def test_a_new_group_with_latest_begins_at_the_end(kafka: str, make_topic: MakeTopic) -> None:
    topic, alerts, dead = make_topic("in"), make_topic("alerts"), make_topic("dead")
    properties = {"bootstrap.servers": kafka, "auto.offset.reset": "latest"}
    with TopicWriter(properties, topic) as writer:
        writer.write(b"k", b"old")
    log = KafkaLog([topic], new_group(), alerts, dead, properties)
    try:
        for _ in tries(30):
            if assigned := log.poll(10, 0.1).assigned:
                break
        at = log.restore(assigned)[Partition(topic, 0)]
        assert (at.offset, at.is_committed, at.first, at.end, at.resets_to_end) == (1, False, 0, 1, True)
        log.resume({Partition(topic, 0): 1})
        with TopicWriter(properties, topic) as writer:
            writer.write(b"k", b"new")
        assert read(log, 1) == [b"new"]
    finally:
        log.close()


def test_partitions_whose_state_topic_was_not_lengthened_with_its_input_are_waited_for(kafka: str, make_topic: MakeTopic) -> None:
    """The others of the topic are judged meanwhile."""
    topic, alerts, dead, state = make_topic("in", 2), make_topic("alerts"), make_topic("dead"), make_topic("state", 1)
    properties = {"bootstrap.servers": kafka, **FAST, "topic.metadata.refresh.interval.ms": "500"}
    lines: list[str] = []
    short, whole = Partition(topic, 1), Partition(topic, 0)
    log = KafkaLog([topic], new_group(), alerts, dead, properties, state_topics={topic: state}, on_log=lambda _, line: lines.append(line))
    try:
        assert gain(log, 1) == [whole]
        go_on(log, [whole])
        log.commit(CommitBatch(state={whole: {b"row": b"0"}}, offsets={whole: 0}))
        said = (
            f"state topic {state} has 1 partitions, its input {topic} has 2: its partitions from 1 on are not judged until that is mended"
        )
        assert any(said in line and "`detector topics create`" in line for line in lines)
        assert log.topics_missing() == (topic,)
        assert list(log.restore([short])) == []
        create_topics(properties, [], state={topic: state})
        assert gain(log, 1) == [short]
        go_on(log, [short])
        log.commit(CommitBatch(state={short: {b"row": b"1"}}, offsets={short: 0}))
        assert kept(log, [short])[short] == {b"row": b"1"}
    finally:
        log.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_is_told_from_one_that_has_not_joined_yet_though_neither_has_partitions(
    kafka: str, make_topic: MakeTopic, protocol: str
) -> None:
    topic, alerts, dead = make_topic("in", 1), make_topic("alerts"), make_topic("dead")
    times = {} if protocol == "consumer" else FAST
    properties, group = {"bootstrap.servers": kafka, "group.protocol": protocol, **times}, new_group()
    logs: list[KafkaLog] = []
    assigned: list[int] = []
    try:
        for number in range(2):
            log = KafkaLog([topic], group, alerts, dead, properties)
            logs.append(log)
            if protocol == "classic" and number == 1:
                assert not log.poll(10, 0).is_joined  # the first member must poll before the second one can join
            assigned.append(0)
            for _ in tries(30):
                polled = [each.poll(10, 0.02) for each in logs]
                assigned = [count + len(each.assigned) for count, each in zip(assigned, polled, strict=True)]
                if polled[-1].is_joined and sum(assigned) == 1:
                    break
        assert assigned == [1, 0]
    finally:
        for log in logs:
            log.close()


def test_several_topics_are_one_log(kafka: str, make_topic: MakeTopic) -> None:
    topics, alerts, dead = [make_topic("a", 2), make_topic("b", 3)], make_topic("alerts"), make_topic("dead")
    properties = {"bootstrap.servers": kafka}
    expected = {}
    for topic in topics:
        with TopicWriter(properties, topic) as writer:
            for number in range(50):
                writer.write(b"%d" % number, b"%s %d" % (topic.encode(), number), event_time_us=1_700_000_000_123_456)
                expected[b"%s %d" % (topic.encode(), number)] = topic
    log = KafkaLog(topics, new_group(), alerts, dead, properties)
    found = {}
    try:
        for _ in tries(30):
            polled = log.poll(1000, 0.1)
            go_on(log, polled.assigned)
            messages = polled.messages
            assert set(messages.log_time_us.tolist()) <= {1_700_000_000_123_000}
            found.update({messages.value[at]: messages.partitions[messages.partition[at]].topic for at in range(len(messages))})
            if len(found) == 100:
                break
    finally:
        log.close()
    assert found == expected


def test_reading_between_two_times(kafka: str, make_topic: MakeTopic) -> None:
    topic, properties = make_topic("in", 2), {"bootstrap.servers": kafka}
    with TopicWriter(properties, topic) as writer:
        for number in range(100):
            writer.write(b"%d" % number, b"%d" % number, event_time_us=1_700_000_000_000_000 + number * 1_000_000)
    with TopicReader(properties, topic, from_us=1_700_000_020_000_000, to_us=1_700_000_070_000_000) as reader:
        values = [value for messages in reader.batches() for value in messages.value]
    assert sorted(int(value or 0) for value in values) == list(range(20, 70))
    with TopicReader(properties, topic, from_us=1_800_000_000_000_000) as reader:
        assert list(reader.batches()) == []
    with pytest.raises(ConfigError, match="no-such-topic"):
        TopicReader(properties, "no-such-topic")
