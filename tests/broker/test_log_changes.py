"""Topics that change under a worker, on a real Kafka: retention that overtakes it, topics made anew, deleted, cut short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from deploy.kafka.local_kafka import LocalKafka
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics, output_topics
from detector.core.readings import Partition
from detector.errors import CommitAborted, ConfigError, LogUnavailable
from detector.ports import CommitBatch, PollResult
from tests.broker.changes import delete_topics, make_anew, retain_from
from tests.broker.members import FAST, MakeTopic, gain, go_on, new_group, read, settle, tell, tries

pytestmark = pytest.mark.broker


class Site:
    """One or more input topics of one partition, and logs that read them."""

    def __init__(self, servers: str, make_topic: MakeTopic, topics: int = 1) -> None:
        self.servers = servers
        self.properties = {"bootstrap.servers": servers, **FAST}
        self.topics = [make_topic("in") for _ in range(topics)]
        self.outputs = make_topic("alerts"), make_topic("dead")
        self.group = new_group()
        self._logs: list[KafkaLog] = []

    def log(self, **properties: str) -> KafkaLog:
        self._logs.append(KafkaLog(self.topics, self.group, *self.outputs, self.properties | properties, on_log=tell))
        return self._logs[-1]

    def write(self, count: int, topic: int = 0, word: str = "m") -> None:
        with TopicWriter(self.properties, self.topics[topic]) as writer:
            for number in range(count):
                writer.write(b"k", f"{word}{number}".encode())
            writer.flush()

    def partition(self, topic: int = 0) -> Partition:
        return Partition(self.topics[topic], 0)

    def close(self) -> None:
        for log in self._logs:
            log.close()


@pytest.fixture
def site(kafka: str, make_topic: MakeTopic) -> Iterator[Site]:
    site = Site(kafka, make_topic)
    yield site
    site.close()


@pytest.fixture
def two_topics(kafka: str, make_topic: MakeTopic) -> Iterator[Site]:
    site = Site(kafka, make_topic, topics=2)
    yield site
    site.close()


def until(log: KafkaLog, what: str, partitions: Sequence[Partition]) -> PollResult:
    """Poll until `assigned`, `revoked` or `changed` names these partitions."""
    for _ in tries(30):
        polled = log.poll(1000, 0.1)
        if getattr(polled, what):
            assert getattr(polled, what) == tuple(partitions)
            return polled
    raise AssertionError


@pytest.mark.parametrize("reset", ["earliest", "latest", "error"])
def test_retention_that_overtakes_a_worker_is_told(site: Site, reset: str) -> None:
    partition = site.partition()
    site.write(10)
    log = site.log(**{"auto.offset.reset": "earliest"})
    read(log, 10)
    log.commit(CommitBatch(offsets={partition: 10}))
    log.close()
    log = site.log(**{"auto.offset.reset": reset})
    go_on(log, gain(log))
    log._member.consumer.pause([TopicPartition(*partition)])  # a worker that hangs
    site.write(30)
    retain_from(site.servers, {(partition.topic, 0): 25})
    log._member.consumer.resume([TopicPartition(*partition)])
    until(log, "changed", [partition])
    assert not len(log.poll(10, 0.2).messages)  # nothing comes before it is restored
    if reset == "error":
        with pytest.raises(ConfigError, match=r"the log holds 25 to 40, and auto.offset.reset is 'error'"):
            log.restore([partition])
        return
    at = log.restore([partition])[partition]
    assert (at.offset, at.first, at.end, at.resets_to_end) == (10, 25, 40, reset == "latest")
    log.resume({partition: at.end if at.resets_to_end else at.first})
    site.write(1, word="last")
    assert read(log, 16 if reset == "earliest" else 1)[-1] == b"last0"


def test_a_topic_made_anew_is_another_log_even_if_it_is_longer(site: Site) -> None:
    partition = site.partition()
    site.write(10)
    log = site.log()
    read(log, 10)
    log.commit(CommitBatch(offsets={partition: 10}))
    before = log.restore([partition])[partition]
    log.resume({partition: 10})
    make_anew(site.servers, Topic(partition.topic, 1))
    site.write(30, word="new")
    # The consumer may read on at its old offset in the new log: what comes of that is not committed.
    with pytest.raises(CommitAborted, match="was deleted"):
        log.commit(CommitBatch(offsets={partition: 12}))
    assert not log.restore([partition])  # by a consumer that knows nothing of the old one
    until(log, "revoked", [partition])
    until(log, "assigned", [partition])
    at = log.restore([partition])[partition]
    assert at.log_id != before.log_id
    assert (at.first, at.end) == (0, 30)
    log.resume({partition: 0})
    assert read(log, 30)[0] == b"new0"
    log.commit(CommitBatch(offsets={partition: 30}))


def test_a_topic_that_is_gone_costs_itself_only(two_topics: Site) -> None:
    site = two_topics
    gone, other = site.partition(0), site.partition(1)
    site.write(5, 0)
    site.write(5, 1)
    log = site.log()
    assert len(read(log, 10)) == 10
    delete_topics(site.servers, gone.topic)
    with pytest.raises(CommitAborted, match="was deleted"):  # not the end of the worker
        log.commit(CommitBatch(offsets={gone: 5, other: 5}))
    until(log, "revoked", [gone])
    assert log.topics_missing() == (site.topics[0],)
    go_on(log, [other])
    assert len(read(log, 5)) == 5
    log.commit(CommitBatch(offsets={other: 5}))
    create_topics(site.properties, [Topic(gone.topic, 1)])
    site.write(3, 0, "new")
    until(log, "revoked", [other])
    until(log, "assigned", sorted([gone, other]))
    assert log.topics_missing() == ()
    go_on(log, [gone, other])
    assert read(log, 3) == [b"new0", b"new1", b"new2"]
    log.commit(CommitBatch(offsets={gone: 3}))


def test_a_log_that_lost_its_end_is_told_where_it_differs(own_kafka: LocalKafka) -> None:
    properties = {"bootstrap.servers": own_kafka.bootstrap_servers, **FAST}
    create_topics(properties, [*output_topics("alerts", "dead", 1), Topic("in", 1, {"segment.bytes": str(2**20)})])
    partition = Partition("in", 0)

    def write(count: int) -> None:
        with TopicWriter(properties | {"batch.num.messages": "10"}, "in") as writer:
            for _ in range(count):
                writer.write(b"k", bytes(10_000))
            writer.flush()

    write(300)
    log = KafkaLog(["in"], "g", "alerts", "dead", properties, on_log=tell)
    try:
        read(log, 300)
        log.commit(CommitBatch(offsets={partition: 300}))
        settle(own_kafka.bootstrap_servers, "g", partition, 300)
        own_kafka.stop()
        cut = own_kafka.lose_last_segment("in", 0)
        own_kafka.start()
        write(300 - cut + 50)  # longer than before: no offset is out of range
        for _ in tries(60):
            try:
                polled = log.poll(1000, 0.1)
            except LogUnavailable:
                continue
            if polled.changed or polled.assigned:  # where the session has ended meanwhile, it is assigned anew
                break
        assert (polled.changed or polled.assigned) == (partition,)
        for _ in tries(30):
            try:
                at = log.restore([partition])[partition]
                break
            except LogUnavailable as error:  # the coordinator is loading
                tell("again", str(error))
        assert (at.end, at.diverges_at) == (350, cut)
        log.resume({partition: cut})
        assert len(read(log, 350 - cut)) == 350 - cut
    finally:
        log.close()


def test_partitions_that_are_added_are_read_within_seconds(site: Site) -> None:
    log = site.log()
    go_on(log, gain(log))
    admin = AdminClient({"bootstrap.servers": site.properties["bootstrap.servers"]})
    for future in admin.create_partitions([NewPartitions(site.topics[0], 2)]).values():
        future.result()
    assert gain(log, seconds=30) == [Partition(site.topics[0], 1)]
