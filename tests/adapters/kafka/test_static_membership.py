"""Who may join again under a static member's name, by what the group tells and by the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from detector.adapters.kafka import static_membership
from detector.adapters.kafka.client import discard
from detector.adapters.kafka.static_membership import StaticMembership
from detector.errors import Fenced, LogUnavailable

OWN, OTHER = "worker-0-01234567-89ab-cdef-0123-456789abcdef", "worker-0-fedcba98-7654-3210-fedc-ba9876543210"
NEIGHBOUR = "worker-0-1-01234567-89ab-cdef-0123-456789abcdef"
CLASSIC = {"group.instance.id": "worker-0", "session.timeout.ms": "6000"}


class Group:
    """A group whose members a test sets, and the clock. None: there is none to be seen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, properties: dict[str, str]) -> None:
        self.members: list[str] | None = []
        self.error: KafkaException | None = None
        self.now_s = 1000.0
        monkeypatch.setattr(static_membership, "open_admin", lambda properties, on_log: self)
        monkeypatch.setattr(static_membership, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.membership = StaticMembership(properties, "g", discard)
        self.membership.add_member_id(OWN)

    def list_groups(self, group: str, timeout: float) -> list[Any]:
        if self.error is not None:
            raise self.error
        if self.members is None:
            return []
        members = [SimpleNamespace(id=each, client_host="/10.0.0.7") for each in self.members]
        return [SimpleNamespace(id=group, error=None, members=members)]

    def told(self, after_s: float = 0.0) -> str:
        """What is told so much later: `free`, or why it has to wait."""
        self.now_s += after_s
        try:
            self.membership.check_name_is_free()
        except LogUnavailable as error:
            return str(error)
        return "free"


def test_its_own_past_and_names_that_begin_alike_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, CLASSIC)
    for members in ([], [OWN], [NEIGHBOUR, OWN]):
        group.members = members
        assert group.told() == "free"


def test_another_holder_has_one_session_to_show_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, CLASSIC)
    group.members = [NEIGHBOUR, OTHER]
    assert f"member {OTHER} at 10.0.0.7 has it" in group.told()
    assert "waiting" in group.told(7.0)
    group.members = []
    assert group.told(0.5) == "free"
    group.members = [OTHER]  # soon after: it has a session again
    assert "waiting" in group.told(2.0)
    assert "waiting" in group.told(5.0)
    with pytest.raises(Fenced, match=f"worker-0: member {OTHER} at 10.0.0.7"):
        group.told(4.0)


def test_nobody_who_tells_is_no_reason_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, CLASSIC)
    group.error = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    for _ in range(20):
        assert "who has the name worker-0 is not known" in group.told(1.0)
    group.error, group.members = None, None  # a coordinator that loads the group, or a group that is no more
    assert "do not list the group" in group.told(1.0)
    assert "do not list the group" in group.told(7.5)
    assert group.told(1.0) == "free"
    group.members = [OTHER]
    assert "waiting" in group.told(20.0)  # it was seen just now


def test_the_new_protocol_is_asked_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, {"group.instance.id": "worker-0", "group.protocol": "consumer"})
    group.error = KafkaException(KafkaError(KafkaError._FAIL))  # nobody is asked
    tries = sum(group.told(0.5) == "free" for _ in range(120))
    assert tries == 30
    with pytest.raises(Fenced, match="worker-0"):
        group.told(1.0)
    assert group.told(100.0) == "free"  # another story
