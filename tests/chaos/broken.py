"""Workers that are broken on purpose, to see that the comparison notices.

state first       state in a transaction of its own, before alerts and offsets
offsets first     offsets in a transaction of their own, before alerts and state
row offset late   every saved row claims to stand for one offset more than it does
row offset early  ... for one less

ids unseen        whether a topic is another one by now is not looked at
silent reset      librdkafka goes on at the first message that is left, by itself

Those that tear a commit apart die between its halves, as soon as the rest of it would matter: it holds an alert, and for "state first"
the state of the alert's stream is in the half that was written.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from confluent_kafka import Consumer

from detector.adapters.kafka import exactly_once
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.member import GroupMember
from detector.adapters.kafka.topic_watch import PendingTopics, TopicInfo
from detector.codec.state_serde import RowCodec, key_of
from detector.ports import CommitBatch

Commit = Callable[[KafkaLog, CommitBatch], None]


def break_on_purpose(kind: str) -> None:
    """Break this process."""
    KINDS[kind]()


def _state_first() -> None:
    def matters(whole: CommitBatch) -> bool:
        saved = {key for rows in whole.state.values() for key in rows}
        return any(key_of(alert.key or b"") in saved for alert in whole.alerts)

    consumed = exactly_once._consumed
    # Without an owner, as if a person had set them: or its successor would find out by itself, and wait.
    exactly_once._consumed = lambda member, offsets, owner, topics: consumed(member, offsets, "", topics)
    _tear_commits(lambda whole: (CommitBatch(state=whole.state), replace(whole, state={})), matters)


def _offsets_first() -> None:
    _tear_commits(lambda whole: (CommitBatch(offsets=whole.offsets), replace(whole, offsets={})), lambda whole: bool(whole.alerts))


def _tear_commits(halves: Callable[[CommitBatch], tuple[CommitBatch, CommitBatch]], matters: Callable[[CommitBatch], bool]) -> None:
    commit: Commit = KafkaLog.commit

    def torn(log: KafkaLog, batch: CommitBatch) -> None:
        first, second = halves(batch)
        commit(log, first)
        if matters(batch):
            os.kill(os.getpid(), signal.SIGKILL)
        commit(log, second)

    KafkaLog.commit = torn  # type: ignore[assignment, method-assign]


def _row_offsets(shift: int) -> Callable[[], None]:
    def patch() -> None:
        encode = RowCodec.encode

        def shifted(codec: RowCodec, store: Any, rows: Any, incarnation: bytes, offset: int) -> list[bytes]:
            return encode(codec, store, rows, incarnation, offset + shift)

        RowCodec.encode = shifted  # type: ignore[assignment, method-assign]

    return patch


def _ids_unseen() -> None:
    result = PendingTopics.result

    def patched(topics: PendingTopics) -> dict[str, TopicInfo]:
        return {topic: replace(info, id="") for topic, info in result(topics).items()}

    PendingTopics.result = patched  # type: ignore[assignment, method-assign]


def _silent_reset() -> None:
    join = GroupMember._join

    def patched(member: GroupMember) -> Consumer:
        member._group_properties["auto.offset.reset"] = "earliest"
        return join(member)

    GroupMember._join = patched  # type: ignore[assignment, method-assign]


ONCE: dict[str, Callable[[], None]] = {
    "state first": _state_first,
    "offsets first": _offsets_first,
    "row offset late": _row_offsets(1),
    "row offset early": _row_offsets(-1),
}
"""Not exactly once."""
BLIND: dict[str, Callable[[], None]] = {"ids unseen": _ids_unseen, "silent reset": _silent_reset}
"""Not aware of what a log can do."""
KINDS = ONCE | BLIND
