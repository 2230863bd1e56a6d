"""What every `Log` must do, whatever is behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from detector.codec.messages import Headers, Message
from detector.core.readings import Partition
from detector.errors import CommitAborted
from detector.ports import Fetched, Log, Outcome

PATIENCE_S = 30.0
Join = Callable[[], Log]


class Seen(NamedTuple):
    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def seen(fetched: Fetched) -> list[Seen]:
    """The messages as rows."""
    messages = fetched.messages
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


def tries(log: Log, messages_max: int = 1000) -> Iterator[Fetched]:
    """Polls, until patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield log.poll(messages_max, 0.1)
    pytest.fail(f"waited {PATIENCE_S:g} s in vain")


def gain(log: Log, count: int) -> set[Partition]:
    """Poll until `count` partitions are gained; they are not restored."""
    gained: set[Partition] = set()
    if count:
        for fetched in tries(log):
            gained |= set(fetched.gained)
            if len(gained) >= count:
                break
    return gained


def read(log: Log, count: int, messages_max: int = 1000) -> list[Seen]:
    """Poll until `count` messages have come, restoring what is gained; then once more: no more may come."""
    rows: list[Seen] = []
    if count:
        for fetched in tries(log, messages_max):
            assert len(fetched.messages) <= messages_max
            rows += seen(fetched)
            log.restore(fetched.gained)
            if len(rows) >= count:
                break
    rows += seen(log.poll(messages_max, 0.1))
    assert len(rows) == count
    return rows


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


def test_nothing_comes_before_restore(world: Any, join: Join) -> None:
    fill(world, 3)
    log = join()
    gained = gain(log, len(world.partitions))
    assert gained == set(world.partitions)
    for _ in range(3):
        assert not len(log.poll(100, 0.1).messages)
    first, *rest = sorted(gained)
    assert log.restore([first])[first].offset == 0
    assert {row.partition for row in read(log, 3)} == {first}
    log.restore(rest)
    assert {row.partition for row in read(log, 3 * len(rest))} == set(rest)


def test_after_a_commit_restore_continues_at_its_offsets(world: Any, join: Join) -> None:
    held = fill(world, 10)
    log = join()
    read(log, 10 * len(world.partitions))
    log.commit(Outcome(offsets=dict.fromkeys(world.partitions, 4)))
    restored = log.restore(world.partitions)
    assert {partition: at.offset for partition, at in restored.items()} == dict.fromkeys(world.partitions, 4)
    again = read(log, 6 * len(world.partitions))
    for partition in world.partitions:
        assert [row.value for row in again if row.partition == partition] == held[partition][4:]


def test_what_was_not_committed_comes_again(world: Any, join: Join) -> None:
    fill(world, 5)
    log = join()
    first = read(log, 5 * len(world.partitions))
    log.restore(world.partitions)
    assert sorted(read(log, 5 * len(world.partitions))) == sorted(first)


def test_alerts_and_dead_letters_are_there_after_a_commit_in_order(world: Any, join: Join) -> None:
    fill(world, 1)
    log = join()
    read(log, len(world.partitions))
    alerts = [Message(b"pump7", b'{"alert":%d}' % number, [("ce_id", b"%d" % number)]) for number in range(5)]
    dead = Message(b"pump8", b"no json", [("reason", b"it is not JSON")])
    log.commit(Outcome(alerts=alerts[:3], dead_letters=[dead]))
    log.commit(Outcome(alerts=alerts[3:]))
    assert [alert.value for alert in world.alerts()] == [alert.value for alert in alerts]
    assert [(letter.key, letter.value, list(letter.headers)) for letter in world.dead_letters()] == [
        (b"pump8", b"no json", [("reason", b"it is not JSON")])
    ]


def test_lag_counts_what_is_left(world: Any, join: Join) -> None:
    fill(world, 6)
    log = join()
    log.restore(sorted(gain(log, len(world.partitions))))
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
    first.commit(Outcome(offsets={partition: 5 + partition.number for partition in world.partitions}))
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
    first.commit(Outcome(offsets=dict.fromkeys(world.partitions, 4)))

    second = join()
    lost: set[Partition] = set()
    gained: set[Partition] = set()
    for fetched in tries(first):
        lost |= set(fetched.lost)
        fetched_second = second.poll(100, 0.05)
        gained |= set(fetched_second.gained)
        second.restore(fetched_second.gained)
        if lost and lost == gained:
            break
    assert 0 < len(lost) < 3
    assert {row.partition for row in rows} == set(world.partitions)

    fill(world, 1)  # one more message per partition: each comes once, to its owner, and nothing of the earlier ones comes again
    to_first, to_second = read(first, 3 - len(lost)), read(second, len(lost))
    assert {row.partition for row in to_first} == set(world.partitions) - lost
    assert {row.partition for row in to_second} == lost
    assert {row.offset for row in to_first + to_second} == {4}


def test_state_is_saved_with_the_commit_or_refused(world: Any, join: Join) -> None:
    fill(world, 1)
    log = join()
    read(log, len(world.partitions))
    partition = world.partitions[0]
    outcome = Outcome(alerts=[Message(b"k", b"alert")], state={partition: {b"pump7": b"row", b"gone": None}}, offsets={partition: 1})
    if world.transactional:
        log.commit(outcome)
        assert log.restore([partition])[partition].state == {b"pump7": b"row"}
    elif world.many_workers:
        with pytest.raises(ValueError, match="state"):
            log.commit(outcome)
        assert world.alerts() == []


def test_a_transaction_of_lost_partitions_is_refused_whole(world: Any, join: Join) -> None:
    if not world.transactional:
        pytest.skip("this log has no transactions")
    fill(world, 2)
    first = join()
    read(first, 6)
    world.broker.expire(first)
    with pytest.raises(CommitAborted):
        first.commit(Outcome(alerts=[Message(None, b"alert")], offsets=dict.fromkeys(world.partitions, 2)))
    assert world.alerts() == []
    fetched = first.poll(100, 0)
    assert set(fetched.lost) == set(world.partitions) == set(fetched.gained)
    assert not len(fetched.messages)
    assert {at.offset for at in first.restore(fetched.gained).values()} == {0}
