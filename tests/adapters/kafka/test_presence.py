"""Which partitions a worker is told of, from what the group and the brokers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from detector.adapters.kafka.presence import Presence
from detector.adapters.kafka.topic_watch import TopicView, TopicWatch
from detector.core.readings import Partition
from detector.errors import LogUnavailable

A0, A1, B0 = Partition("a", 0), Partition("a", 1), Partition("b", 0)
THERE = {"a": TopicView("A", 2), "a.state": TopicView("S", 2), "b": TopicView("B", 1), "b.state": TopicView("T", 1)}


class Watch(TopicWatch):
    """Brokers that answer at once, or not at all."""

    def __init__(self) -> None:
        self.topics = ("a", "b")
        self._state_topics = {"a": "a.state", "b": "b.state"}
        self.shown: Mapping[str, TopicView] = THERE
        self.is_away = False

    def ask(self, topics: Sequence[str] | None = None) -> dict[str, None]:
        return {}

    def answer(self, question: object) -> dict[str, TopicView]:
        if self.is_away:
            raise LogUnavailable("no broker")
        return dict(self.shown)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def presence(watch: Watch) -> Presence:
    return Presence(watch, lambda level, line: None)


def begun(presence: Presence) -> None:
    presence.assign([A0, A1, B0])
    presence.look()
    assert presence.tell() == ({A0, A1, B0}, set())
    for partition in (A0, A1, B0):
        presence.restored(partition)


def look_again(presence: Presence) -> None:
    presence.hurry()
    presence.look()


def test_what_just_came_waits_until_its_topic_was_seen(presence: Presence, watch: Watch) -> None:
    presence.assign([A0])
    assert presence.tell() == (set(), set())
    watch.is_away = True
    with pytest.raises(LogUnavailable):
        presence.look()
    watch.is_away = False
    presence.look()
    assert presence.tell() == ({A0}, set())
    assert presence.tell() == (set(), set())


def test_what_is_taken_away_and_comes_back_between_two_polls_is_lost_and_gained(presence: Presence) -> None:
    begun(presence)
    presence.take_away([A0, B0])
    presence.assign([A0])
    presence.look()
    assert presence.tell() == ({A0}, {A0, B0})
    presence.assign([B0])
    presence.take_away([B0])  # before anybody was told
    assert presence.tell() == (set(), set())


def test_a_topic_that_is_gone_is_lost_and_gained_when_it_is_back(presence: Presence, watch: Watch) -> None:
    begun(presence)
    assert not presence.has_grown
    watch.shown = {**THERE, "a": TopicView("", 0)}
    look_again(presence)
    assert presence.tell() == (set(), {A0, A1})
    assert list(presence.missing) == ["a"]
    watch.shown = {**THERE, "a": TopicView("C", 2)}
    look_again(presence)
    assert presence.tell() == (set(), set())
    assert presence.anew == {"a"}
    assert presence.has_grown
    watch.shown = {**THERE, "a": TopicView("", 0)}
    presence.join_again()
    look_again(presence)
    watch.shown = THERE  # the same as before, since only its state topic was missing
    look_again(presence)
    assert presence.tell() == ({A0, A1}, set())
    assert presence.stopped == {A0, A1}  # librdkafka has stopped to read them


def test_partitions_that_have_no_state_partition_wait_alone(presence: Presence, watch: Watch) -> None:
    watch.shown = {**THERE, "a.state": TopicView("S", 1)}
    presence.assign([A0, A1, B0])
    presence.look()
    assert presence.tell() == ({A0, B0}, set())
    watch.shown = THERE
    look_again(presence)
    assert presence.tell() == ({A1}, set())


def test_a_topic_made_anew_waits_for_another_consumer(presence: Presence, watch: Watch) -> None:
    begun(presence)
    watch.shown = {**THERE, "a": TopicView("C", 2)}
    look_again(presence)
    assert presence.anew == {"a"}
    presence.take_away([A0, A1, B0])  # as the consumer is closed
    presence.join_again()
    assert presence.tell() == (set(), {A0, A1, B0})
    presence.assign([A0, A1, B0])
    presence.look()
    assert presence.tell() == ({A0, A1, B0}, set())
    assert not presence.anew
    assert not presence.stopped


def test_what_changed_and_was_taken_away_is_only_lost(presence: Presence) -> None:
    begun(presence)
    presence.change(A0)
    presence.take_away([A0])
    assert presence.changed() == set()
    assert presence.tell() == (set(), {A0})
    assert not presence.stopped
