"""Which partitions are reported to a worker, from what the group and the brokers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from detector.adapters.kafka.assignment import Assignment
from detector.adapters.kafka.topic_watch import PendingTopics, TopicInfo, TopicWatch
from detector.core.readings import Partition
from detector.errors import LogUnavailable

A0, A1, B0 = Partition("a", 0), Partition("a", 1), Partition("b", 0)
THERE = {"a": TopicInfo("A", 2), "a.state": TopicInfo("S", 2), "b": TopicInfo("B", 1), "b.state": TopicInfo("T", 1)}


class Watch(TopicWatch):
    """Brokers that answer at once, or not at all."""

    def __init__(self) -> None:
        self.topics = ("a", "b")
        self._state_topics = {"a": "a.state", "b": "b.state"}
        self.found: Mapping[str, TopicInfo] = THERE
        self.is_away = False

    def request(self, topics: Sequence[str] | None = None) -> PendingTopics:
        return Answered(self)


class Answered(PendingTopics):
    def __init__(self, watch: Watch) -> None:
        super().__init__({})
        self._watch = watch

    def result(self) -> dict[str, TopicInfo]:
        if self._watch.is_away:
            raise LogUnavailable("no broker")
        return dict(self._watch.found)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def assignment(watch: Watch) -> Assignment:
    return Assignment(watch, lambda level, line: None)


def begun(assignment: Assignment) -> None:
    assignment.assign([A0, A1, B0])
    assignment.check_topics()
    assert assignment.take_moves() == ({A0, A1, B0}, set())
    for partition in (A0, A1, B0):
        assignment.restored(partition)


def check_again(assignment: Assignment) -> None:
    assignment.check_soon()
    assignment.check_topics()


def test_what_just_came_waits_until_its_topic_was_seen(assignment: Assignment, watch: Watch) -> None:
    assignment.assign([A0])
    assert assignment.take_moves() == (set(), set())
    watch.is_away = True
    with pytest.raises(LogUnavailable):
        assignment.check_topics()
    watch.is_away = False
    assignment.check_topics()
    assert assignment.take_moves() == ({A0}, set())
    assert assignment.take_moves() == (set(), set())


def test_what_is_taken_away_and_comes_back_between_two_polls_is_revoked_and_assigned(assignment: Assignment) -> None:
    begun(assignment)
    assignment.revoke([A0, B0])
    assignment.assign([A0])
    assignment.check_topics()
    assert assignment.take_moves() == ({A0}, {A0, B0})
    assignment.assign([B0])
    assignment.revoke([B0])  # before anything was reported
    assert assignment.take_moves() == (set(), set())


def test_a_topic_that_is_gone_is_revoked_and_assigned_when_it_is_back(assignment: Assignment, watch: Watch) -> None:
    begun(assignment)
    assert not assignment.has_grown
    watch.found = {**THERE, "a": TopicInfo("", 0)}
    check_again(assignment)
    assert assignment.take_moves() == (set(), {A0, A1})
    assert list(assignment.missing) == ["a"]
    watch.found = {**THERE, "a": TopicInfo("C", 2)}
    check_again(assignment)
    assert assignment.take_moves() == (set(), set())
    assert assignment.recreated == {"a"}
    assert assignment.has_grown
    watch.found = {**THERE, "a": TopicInfo("", 0)}
    assignment.rejoined()
    check_again(assignment)
    watch.found = THERE  # the same as before, since only its state topic was missing
    check_again(assignment)
    assert assignment.take_moves() == ({A0, A1}, set())
    assert assignment.stopped == {A0, A1}  # librdkafka has stopped to read them


def test_partitions_that_have_no_state_partition_wait_alone(assignment: Assignment, watch: Watch) -> None:
    watch.found = {**THERE, "a.state": TopicInfo("S", 1)}
    assignment.assign([A0, A1, B0])
    assignment.check_topics()
    assert assignment.take_moves() == ({A0, B0}, set())
    watch.found = THERE
    check_again(assignment)
    assert assignment.take_moves() == ({A1}, set())


def test_a_topic_made_anew_waits_for_another_consumer(assignment: Assignment, watch: Watch) -> None:
    begun(assignment)
    watch.found = {**THERE, "a": TopicInfo("C", 2)}
    check_again(assignment)
    assert assignment.recreated == {"a"}
    assignment.revoke([A0, A1, B0])  # as the consumer is closed
    assignment.rejoined()
    assert assignment.take_moves() == (set(), {A0, A1, B0})
    assignment.assign([A0, A1, B0])
    assignment.check_topics()
    assert assignment.take_moves() == ({A0, A1, B0}, set())
    assert not assignment.recreated
    assert not assignment.stopped


def test_what_changed_and_was_taken_away_is_only_revoked(assignment: Assignment) -> None:
    begun(assignment)
    assignment.log_changed(A0)
    assignment.revoke([A0])
    assert assignment.take_changed() == set()
    assert assignment.take_moves() == (set(), {A0})
    assert not assignment.stopped
