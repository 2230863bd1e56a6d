"""What every `Log` must do, whatever is behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from detector.codec.messages import Headers, Message
from detector.core.readings import Partition
from detector.errors import CommitAborted
from detector.ports import CommitBatch, Log, PartitionPosition, PollResult
from tests.contract.kept import kept

PATIENCE_S = 30.0
Join = Callable[[], Log]


class Seen(NamedTuple):
    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def seen(polled: PollResult) -> list[Seen]:
    """The messages as rows."""
    messages = polled.messages
    return [
        Seen(
            messages.partitions[messages.partition[position]],
            int(messages.offset[position]),
            messages.key[position],
            messages.value[position],
            [(name, value) for name, value in messages.headers(position)],
        )
        for position in range(len(messages))
    ]


def tries(log: Log, messages_max: int = 1000) -> Iterator[PollResult]:
    """Polls, until patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield log.poll(messages_max, 0.1)
    pytest.fail(f"waited {PATIENCE_S:g} s in vain")


def gain(log: Log, count: int) -> set[Partition]:
    """Poll until `count` partitions are assigned; they are not restored."""
    assigned: set[Partition] = set()
    if count:
        for polled in tries(log):
            assigned |= set(polled.assigned)
            if len(assigned) >= count:
                break
    return assigned


def go_on(log: Log, partitions: Sequence[Partition]) -> None:
    """Restore, and resume where that says."""
    log.resume({partition: at.offset for partition, at in log.restore(partitions).items()})


def read(log: Log, count: int, messages_max: int = 1000) -> list[Seen]:
    """Poll until `count` messages have come, restoring and resuming what is assigned; then once more: no more may come."""
    rows: list[Seen] = []
    if count:
        for polled in tries(log, messages_max):
            assert len(polled.messages) <= messages_max
            rows += seen(polled)
            go_on(log, polled.assigned)
            if len(rows) >= count:
                break
    rows += seen(log.poll(messages_max, 0.1))
    assert len(rows) == count
    return rows


def placed(restored: Mapping[Partition, PartitionPosition]) -> dict[Partition, PartitionPosition]:
    """Without who committed, and which log it is: not every log can tell."""
    return {partition: replace(at, is_own=False, log_id="") for partition, at in restored.items()}


def fill(world: Any, each: int) -> dict[Partition, list[bytes]]:
    """Append `each` messages to every partition; what each holds."""
    held: dict[Partition, list[bytes]] = {partition: [] for partition in world.partitions}
    for number in range(each):
        for partition in world.partitions:
            value = f"{partition.number}:{number}".encode()
            world.append(partition.number, value)
            held[partition].append(value)
    return held


def test_messages_come_in_order_with_contiguous_offsets(world: Any, join: Join) -> None:
    held = fill(world, 20)
    rows = read(join(), 20 * len(world.partitions), messages_max=7)
    for partition in world.partitions:
        mine = [row for row in rows if row.partition == partition]
        assert [row.value for row in mine] == held[partition]
        assert [row.offset for row in mine] == list(range(20))
        assert {row.key for row in mine} == {world.keys[partition.number]}


def test_nothing_comes_before_resume(world: Any, join: Join) -> None:
    fill(world, 3)
    log = join()
    assigned = gain(log, len(world.partitions))
    assert assigned == set(world.partitions)
    for _ in range(3):
        assert not len(log.poll(100, 0.1).messages)
    first, *rest = sorted(assigned)
    assert placed(log.restore([first]))[first] == PartitionPosition(0, is_committed=not world.many_workers, first=0, end=3)
    assert not len(log.poll(100, 0.1).messages)
    log.resume({first: 1})
    assert [(row.partition, row.offset) for row in read(log, 2)] == [(first, 1), (first, 2)]
    go_on(log, rest)
    assert {row.partition for row in read(log, 3 * len(rest))} == set(rest)


def test_nothing_comes_between_restore_and_resume(world: Any, join: Join) -> None:
    fill(world, 6)
    log = join()
    read(log, 6 * len(world.partitions))
    first, *rest = world.partitions
    log.restore([first])
    for partition in rest:
        world.append(partition.number, b"more")
    assert {row.partition for row in read(log, len(rest))} == set(rest)
    log.resume({first: 5})
    assert [(row.partition, row.offset) for row in read(log, 1)] == [(first, 5)]


def test_after_a_commit_restore_continues_at_its_offsets(world: Any, join: Join) -> None:
    held = fill(world, 10)
    log = join()
    read(log, 10 * len(world.partitions))
    log.commit(CommitBatch(offsets=dict.fromkeys(world.partitions, 4)))
    restored = log.restore(world.partitions)
    assert placed(restored) == dict.fromkeys(world.partitions, PartitionPosition(4, is_committed=True, first=0, end=10))
    log.resume({partition: at.offset for partition, at in restored.items()})
    again = read(log, 6 * len(world.partitions))
    for partition in world.partitions:
        assert [row.value for row in again if row.partition == partition] == held[partition][4:]


def test_what_was_not_committed_comes_again(world: Any, join: Join) -> None:
    fill(world, 5)
    log = join()
    first = read(log, 5 * len(world.partitions))
    go_on(log, world.partitions)
    assert sorted(read(log, 5 * len(world.partitions))) == sorted(first)


def test_alerts_and_dead_letters_are_there_after_a_commit_in_order(world: Any, join: Join) -> None:
    fill(world, 1)
    log = join()
    read(log, len(world.partitions))
    alerts = [Message(b"pump7", b'{"alert":%d}' % number, [("ce_id", b"%d" % number)]) for number in range(5)]
    dead = Message(b"pump8", b"no json", [("reason", b"it is not JSON")])
    log.commit(CommitBatch(alerts=alerts[:3], dead_letters=[dead]))
    log.commit(CommitBatch(alerts=alerts[3:]))
    assert [alert.value for alert in world.alerts()] == [alert.value for alert in alerts]
    assert [(dead_letter.key, dead_letter.value, list(dead_letter.headers)) for dead_letter in world.dead_letters()] == [
        (b"pump8", b"no json", [("reason", b"it is not JSON")])
    ]


def test_lag_counts_what_is_left(world: Any, join: Join) -> None:
    fill(world, 6)
    log = join()
    go_on(log, sorted(gain(log, len(world.partitions))))
    read(log, 6 * len(world.partitions))
    assert dict(log.lag()) == dict.fromkeys(world.partitions, 0)


def test_close_twice_is_once(world: Any) -> None:
    log = world.join()
    log.close()
    log.close()


def test_headers_come_along(world: Any, join: Join) -> None:
    if not world.keeps_headers:
        pytest.skip("this log's input has no headers")
    headers = [("unit", b"bar"), ("empty", None), ("unit", b"again")]
    world.append(0, b"with", headers)
    world.append(0, b"without")
    assert [row.headers for row in read(join(), 2)] == [headers, []]


def test_another_worker_continues_where_the_first_committed(world: Any, join: Join) -> None:
    if not world.many_workers:
        pytest.skip("this log has one worker")
    held = fill(world, 8)
    first = join()
    read(first, 24)
    first.commit(CommitBatch(offsets={partition: 5 + partition.number for partition in world.partitions}))
    first.close()
    rows = read(join(), 8 - 5 + 8 - 6 + 8 - 7)
    for partition in world.partitions:
        assert [row.value for row in rows if row.partition == partition] == held[partition][5 + partition.number :]


def test_a_second_worker_takes_partitions_and_the_first_is_told(world: Any, join: Join) -> None:
    if not world.many_workers:
        pytest.skip("this log has one worker")
    fill(world, 4)
    first = join()
    rows = read(first, 12)
    first.commit(CommitBatch(offsets=dict.fromkeys(world.partitions, 4)))

    second = join()
    revoked: set[Partition] = set()
    assigned: set[Partition] = set()
    for polled in tries(first):
        revoked |= set(polled.revoked)
        fetched_second = second.poll(100, 0.05)
        assigned |= set(fetched_second.assigned)
        go_on(second, fetched_second.assigned)
        if revoked and revoked == assigned:
            break
    assert 0 < len(revoked) < 3
    assert {row.partition for row in rows} == set(world.partitions)

    fill(world, 1)  # one more message per partition: each comes once, to its owner, and nothing of the earlier ones comes again
    to_first, to_second = read(first, 3 - len(revoked)), read(second, len(revoked))
    assert {row.partition for row in to_first} == set(world.partitions) - revoked
    assert {row.partition for row in to_second} == revoked
    assert {row.offset for row in to_first + to_second} == {4}


def test_state_is_kept_row_by_row(world: Any, join: Join) -> None:
    if not world.keeps_state:
        pytest.skip("this log keeps no state")
    fill(world, 3)
    log = join()
    read(log, 9)
    p, q, _ = world.partitions
    log.commit(CommitBatch(state={p: {b"a": b"1", b"b": b"1", b"c": b"1"}, q: {b"a": b"other"}}, offsets={p: 1, q: 1}))
    log.commit(CommitBatch(state={p: {b"b": None, b"c": b"2", b"d": None}}, offsets={p: 2}))
    log.commit(CommitBatch(state={p: {b"": b"checkpoint"}}))  # rows alone: offsets stay
    log.commit(CommitBatch(offsets={p: 3}))
    restored = log.restore(world.partitions)
    state = {p: {b"a": b"1", b"c": b"2", b"": b"checkpoint"}, q: {b"a": b"other"}, world.partitions[2]: {}}
    assert kept(log, world.partitions) == state
    assert [restored[each].offset for each in (p, q)] == [3, 1]

    log.close()  # another worker finds the same
    second = join()
    assert dict(second.restore(sorted(gain(second, 3)))) == restored
    assert kept(second, world.partitions) == state


def test_partitions_about_to_be_given_up_are_committed_on_revoke(world: Any, join: Join) -> None:
    if not world.many_workers:
        pytest.skip("this log has one worker")
    fill(world, 4)
    first = join()
    read(first, 12)
    released: list[Partition] = []

    def on_revoke(partitions: tuple[Partition, ...]) -> None:
        released.extend(partitions)
        state = {partition: {b"row": b"%d" % partition.number} for partition in partitions}
        first.commit(CommitBatch(alerts=[Message(b"k", b"last words")], state=state, offsets=dict.fromkeys(partitions, 3)))

    second = join()
    revoked: list[Partition] = []
    found: dict[Partition, PartitionPosition] = {}
    deadline = time.monotonic() + PATIENCE_S
    while not found and time.monotonic() < deadline:
        revoked += first.poll(100, 0.05, on_revoke).revoked
        found = dict(second.restore(second.poll(100, 0.05).assigned))
    assert sorted(released) == sorted(revoked) == sorted(found)
    assert placed(found) == {each: PartitionPosition(3, first=0, end=4) for each in revoked}
    assert kept(second, revoked) == {each: {b"row": b"%d" % each.number} for each in revoked}
    assert [alert.value for alert in world.alerts()] == [b"last words"]
    with pytest.raises(CommitAborted):
        first.commit(CommitBatch(offsets=dict.fromkeys(revoked, 4)))


def test_what_is_not_restored_cannot_be_committed(world: Any, join: Join) -> None:
    if not world.many_workers:
        pytest.skip("this log has one worker")
    fill(world, 1)
    log = join()
    assigned = gain(log, 3)
    with pytest.raises(CommitAborted):
        log.commit(CommitBatch(alerts=[Message(None, b"alert")], offsets=dict.fromkeys(assigned, 1)))
    assert world.alerts() == []


def test_a_commit_of_lost_partitions_is_refused_whole(world: Any, join: Join) -> None:
    if not world.refuses_late:
        pytest.skip("this log's sessions do not end at will")
    fill(world, 2)
    first = join()
    read(first, 6)
    world.broker.expire(first)
    with pytest.raises(CommitAborted):
        first.commit(CommitBatch(alerts=[Message(None, b"alert")], offsets=dict.fromkeys(world.partitions, 2)))
    assert world.alerts() == []
    polled = first.poll(100, 0)
    assert set(polled.revoked) == set(world.partitions) == set(polled.assigned)
    assert not len(polled.messages)
    assert {at.offset for at in first.restore(polled.assigned).values()} == {0}
