"""Looking at topics of a real Kafka: what is sampled, what is told, and that nothing is left behind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topic_sample import sample_topic
from detector.errors import ConfigError
from detector.inspection.facts import throughput_hz
from tests.broker.members import MakeTopic

pytestmark = pytest.mark.broker
START_US = 1_790_000_000_000_000


def fill(servers: str, topic: str, count: int, partitions: int) -> None:
    """Messages 0, 1, ..., one per second, over the partitions in turn."""
    with TopicWriter({"bootstrap.servers": servers}, topic) as writer:
        for number in range(count):
            writer.write(b"k%d" % (number % 7), b"%d" % number, START_US + number * 1_000_000, partition=number % partitions)


def test_a_large_topic_is_sampled_at_its_ends_and_in_its_middle(kafka: str, make_topic: MakeTopic) -> None:
    topic = make_topic("in", 3)
    fill(kafka, topic, 30_000, 3)
    seen: list[int] = []
    found = sample_topic({"bootstrap.servers": kafka}, topic, 3_000, on_progress=seen.append)
    assert [(each.number, each.low, each.high, each.sampled) for each in found.partitions] == [(k, 0, 10_000, 1_000) for k in range(3)]
    assert seen[-1] == len(found.messages) == 3_000
    assert not found.is_whole
    assert (found.held, found.gaps_share) == (30_000, 0)
    assert found.is_newest.sum() == 1_800
    assert throughput_hz(found.messages.partition[found.is_newest], found.messages.log_time_us[found.is_newest]) == pytest.approx(
        1, rel=0.01
    )
    assert found.settings["cleanup.policy"] == "delete"
    for number in range(3):
        own = found.messages.offset[found.messages.partition == number]
        assert (own[0], own[-1]) == (0, 9_999)
        assert (np.diff(own) > 0).all()
        assert np.flatnonzero(np.diff(own) > 1).tolist() == [199, 399]
        assert 4_000 < own[300] < 6_000
    values = [int(value or b"") for value in found.messages.value]
    assert values == [int(offset) * 3 + int(number) for offset, number in zip(found.messages.offset, found.messages.partition, strict=True)]
    groups = AdminClient({"bootstrap.servers": kafka}).list_consumer_groups().result().valid
    assert "detector-reader" not in {group.group_id for group in groups}


def test_a_small_topic_is_taken_whole_and_an_empty_one_is_none(kafka: str, make_topic: MakeTopic) -> None:
    small, empty = make_topic("small", 2), make_topic("empty", 2)
    fill(kafka, small, 11, 1)
    found = sample_topic({"bootstrap.servers": kafka}, small)
    assert found.is_whole
    assert [each.sampled for each in found.partitions] == [11, 0]
    assert list(found.messages.key[:2]) == [b"k0", b"k1"]
    nothing = sample_topic({"bootstrap.servers": kafka}, empty)
    assert (len(nothing.messages), nothing.held, nothing.is_whole) == (0, 0, True)


def test_of_transactions_only_what_was_committed_and_the_gaps_are_told(kafka: str, make_topic: MakeTopic) -> None:
    topic = make_topic("in")
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions()
    for number, is_good in enumerate(itertools.islice(itertools.cycle([True, False]), 6)):
        producer.begin_transaction()
        for place in range(10):
            producer.produce(topic, b"%d" % (number * 10 + place))
        producer.flush()  # what is aborted is in the topic too
        (producer.commit_transaction if is_good else producer.abort_transaction)()
    found = sample_topic({"bootstrap.servers": kafka}, topic)
    assert [int(value or b"") // 10 for value in found.messages.value] == [0] * 10 + [2] * 10 + [4] * 10
    assert found.gaps_share == pytest.approx(36 / 66)
    assert found.held == 30


def test_a_topic_that_is_not_there_is_named_with_the_nearest(kafka: str, make_topic: MakeTopic) -> None:
    topic = make_topic("sensors")
    with pytest.raises(ConfigError, match="there is no topic") as refused:
        sample_topic({"bootstrap.servers": kafka}, topic[:-1])
    assert topic in refused.value.fix
