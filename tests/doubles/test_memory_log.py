"""The log in memory: faults by seed, and what several workers see of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from detector.codec.messages import Message
from detector.core.readings import Partition
from detector.errors import CommitAborted, Fenced, LogUnavailable
from detector.ports import CommitBatch, PartitionPosition
from tests.contract.kept import kept
from tests.doubles.memory_faults import NO_FAULTS, Faults
from tests.doubles.memory_log import MemoryBroker, MemoryLog

P0, P1 = Partition("readings", 0), Partition("readings", 1)


def filled(partitions: int, each: int, faults: Faults = NO_FAULTS) -> MemoryBroker:
    broker = MemoryBroker(partitions, faults=faults)
    for number in range(each):
        for partition in range(partitions):
            broker.append(partition, b"k", b"%d:%d" % (partition, number))
    return broker


def restore(log: MemoryLog, partitions: Sequence[Partition]) -> None:
    """Go on where the log says, however often it takes."""
    while True:
        try:
            log.resume({partition: at.offset for partition, at in log.restore(partitions).items()})
        except LogUnavailable:
            continue
        return


def joined(broker: MemoryBroker) -> MemoryLog:
    """A worker that reads what it was dealt."""
    log = broker.join()
    restore(log, log.poll(10, 0).assigned)
    return log


def copy_all(broker: MemoryBroker, workers: int, total: int, polls_max: int = 5_000) -> list[tuple[int, ...]]:
    """Workers that write each message to the alerts, restoring as the contract says; the cuts they saw."""
    logs = [broker.join() for _ in range(workers)]
    held: list[set[Partition]] = [set() for _ in logs]
    cuts = []
    for turn in range(polls_max):
        log, mine = logs[turn % workers], held[turn % workers]
        if turn % 17 == 0:
            broker.expire(log)
        try:
            polled = log.poll(7, 0)
        except LogUnavailable:
            continue
        mine.difference_update(polled.revoked)
        mine.update(polled.assigned)
        restore(log, polled.assigned)
        messages = polled.messages
        cuts.append(tuple(messages.offset.tolist()))
        offsets = {messages.partitions[index]: int(offset) + 1 for index, offset in zip(messages.partition, messages.offset, strict=True)}
        batch = CommitBatch(alerts=[Message(key, value) for key, value in zip(messages.key, messages.value, strict=True)], offsets=offsets)
        while True:
            try:
                log.commit(batch)
            except LogUnavailable:
                continue
            except CommitAborted:
                restore(log, sorted(mine))
            break
        if sum(broker.truth.offsets.values()) == total:
            return cuts
    pytest.fail("the workers did not come to the end")


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_every_message_once_and_in_order_whatever_goes_wrong(workers: int, seed: int) -> None:
    faults = Faults(
        seed,
        cut_poll=0.5,
        poll_unavailable=0.1,
        restore_unavailable=0.2,
        resume_unavailable=0.2,
        commit_unavailable=0.1,
        commit_aborted=0.1,
        commit_unacknowledged=0.1,
        commit_outlives=0.5,
        expiry_unheard=0.5,
        rebalance=0.1,
    )
    broker = filled(4, 30, faults)
    copy_all(broker, workers, 120)
    copied = [message.value or b"" for message in broker.truth.alerts]
    for partition in range(4):
        assert [value for value in copied if value.startswith(b"%d:" % partition)] == [b"%d:%d" % (partition, at) for at in range(30)]


def test_the_same_seed_gives_the_same_run() -> None:
    faults = [Faults(seed, cut_poll=0.5, commit_aborted=0.2, expiry_unheard=0.5, rebalance=0.2) for seed in (1, 1, 2)]
    first, again, other = (copy_all(filled(3, 20, each), 2, 60) for each in faults)
    assert first == again != other


@pytest.mark.parametrize(("acknowledged", "alerts"), [(False, 1), (True, 0)])
def test_an_aborted_commit_is_all_or_nothing(acknowledged: bool, alerts: int) -> None:
    faults = Faults(commit_aborted=1.0) if acknowledged else Faults(commit_unacknowledged=1.0)
    broker = filled(1, 3, faults)
    log = joined(broker)
    batch = CommitBatch([Message(None, b"alert")], [Message(None, b"dead")], {P0: {b"row": b"1"}}, {P0: 3})
    with pytest.raises(CommitAborted):
        log.commit(batch)
    truth = broker.truth
    assert [len(truth.alerts), len(truth.dead_letters), len(truth.state), len(truth.offsets)] == [alerts] * 4
    assert log.restore([P0])[P0].offset == 3 * alerts


def test_a_torn_commit_is_half_of_one() -> None:
    """What the tests of the tests rest on."""
    batch = CommitBatch([Message(None, b"alert")], [], {P0: {b"row": b"1"}}, {P0: 3})
    broker = filled(1, 3, Faults(torn_commit=1.0, torn_half="state"))
    with pytest.raises(CommitAborted):
        joined(broker).commit(batch)
    assert (broker.truth.alerts, broker.truth.offsets, broker.truth.state) == ([], {}, {P0: {b"row": b"1"}})
    broker = filled(1, 3, Faults(torn_commit=1.0, torn_half="rest"))
    joined(broker).commit(batch)
    assert (broker.truth.alerts, broker.truth.offsets, broker.truth.state) == (batch.alerts, {P0: 3}, {})


def test_a_tombstone_removes_a_row_and_restored_rows_are_a_copy() -> None:
    broker = filled(1, 1)
    log = joined(broker)
    log.commit(CommitBatch(state={P0: {b"a": b"1", b"b": b"2"}}))
    log.commit(CommitBatch(state={P0: {b"a": None}}))
    rows = kept(log, [P0])[P0]
    assert rows == {b"b": b"2"}
    log.commit(CommitBatch(state={P0: {b"b": b"3"}}))
    assert rows == {b"b": b"2"}


def test_what_is_given_up_can_be_committed_until_it_is_gone() -> None:
    broker = filled(2, 3)
    first = joined(broker)
    assert len(first.poll(10, 0).messages) == 6
    second = broker.join()
    released = []

    def on_revoke(partitions: tuple[Partition, ...]) -> None:
        released.append(partitions)
        assert second.poll(10, 0).assigned == ()
        first.commit(CommitBatch(offsets=dict.fromkeys(partitions, 2)))

    assert first.poll(10, 0, on_revoke).revoked == (P1,)
    assert released == [(P1,)]
    with pytest.raises(CommitAborted):
        first.commit(CommitBatch(offsets={P1: 3}))
    assigned = second.poll(10, 0).assigned
    assert (assigned, second.restore(assigned)[P1].offset) == ((P1,), 2)


def test_an_expired_worker_hears_of_it_and_writes_nothing_more() -> None:
    broker = filled(2, 3)
    first, second = broker.join(), broker.join()
    restore(first, first.poll(10, 0).assigned)
    assert len(first.poll(10, 0).messages) == 3
    broker.expire(first)
    late = CommitBatch(alerts=[Message(None, b"late")], offsets={P0: 3})
    with pytest.raises(CommitAborted):
        first.commit(late)
    polled = first.poll(10, 0, lambda _: pytest.fail("there is nothing to release"))
    assert polled.revoked == polled.assigned == (P0,)
    assert not len(polled.messages)
    with pytest.raises(CommitAborted):  # assigned again, but this was decided before
        first.commit(late)
    assert broker.truth.alerts == []
    assert second.poll(10, 0).assigned == (P1,)


def test_a_commit_on_its_way_outlives_its_session_until_another_restores() -> None:
    broker = filled(1, 5, Faults(commit_outlives=1.0, expiry_unheard=1.0))
    first = joined(broker)
    second = broker.join()
    broker.remove(first)
    assigned = second.poll(10, 0).assigned
    first.commit(CommitBatch(offsets={P0: 2}))
    assert second.restore(assigned)[P0].offset == 2
    with pytest.raises(Fenced):
        first.commit(CommitBatch(offsets={P0: 4}))


def test_a_worker_that_has_not_heard_reads_on() -> None:
    broker = filled(1, 3, Faults(expiry_unheard=1.0))
    log = joined(broker)
    broker.expire(log)
    polled = log.poll(2, 0)
    assert (len(polled.messages), polled.revoked, polled.assigned) == (2, (), ())
    with pytest.raises(CommitAborted):
        log.commit(CommitBatch(offsets={P0: 2}))


def test_nothing_is_read_between_restore_and_resume() -> None:
    log = joined(filled(2, 3))
    assert len(log.poll(2, 0).messages) == 2
    log.restore([P0])
    polled = log.poll(10, 0).messages
    assert polled.partitions == (P1,)
    log.resume({P0: 1})
    assert log.poll(10, 0).messages.offset.tolist() == [1, 2]


def test_retention_takes_what_is_committed_and_what_was_not_read() -> None:
    broker = filled(1, 9)
    log = joined(broker)
    log.commit(CommitBatch(offsets={P0: 4}))
    broker.drop(P0, 3)
    assert log.restore([P0])[P0] == PartitionPosition(4, is_committed=True, first=3, end=9, log_id="log 1")
    log.resume({P0: 4})
    broker.drop(P0, 6)
    polled = log.poll(10, 0)
    assert (len(polled.messages), polled.changed) == (0, (P0,))
    assert log.restore([P0])[P0] == PartitionPosition(4, is_committed=True, first=6, end=9, log_id="log 1")
    log.resume({P0: 6})
    assert log.poll(10, 0).messages.offset.tolist() == [6, 7, 8]


@pytest.mark.parametrize("messages", [3, 30])
def test_a_log_made_anew_is_told_and_what_was_read_of_it_before_is_not_committed(messages: int) -> None:
    broker = filled(1, 9, Faults(change_unheard=1.0))
    log = joined(broker)
    log.poll(10, 0)
    log.commit(CommitBatch(offsets={P0: 9}))
    broker.recreate(P0)
    for number in range(messages):
        broker.append(0, b"k", b"new %d" % number)
    polled = log.poll(100, 0)
    assert (len(polled.messages), polled.changed) == ((0, (P0,)) if messages < 9 else (21, ()))
    with pytest.raises(CommitAborted, match="made anew"):
        log.commit(CommitBatch(offsets={P0: 30}))
    assert log.restore([P0])[P0] == PartitionPosition(0, is_committed=False, end=messages, log_id="log 2")


@pytest.mark.parametrize("more", [0, 2, 20])
def test_a_log_that_lost_its_end_is_told_however_long_it_is_by_now(more: int) -> None:
    broker = filled(1, 9)
    log = joined(broker)
    log.poll(10, 0)
    log.commit(CommitBatch(offsets={P0: 9}))
    broker.truncate(P0, 5)
    for _ in range(more):
        broker.append(0, b"k", b"other")
    assert log.poll(100, 0).changed == (P0,)
    assert log.restore([P0])[P0] == PartitionPosition(9, end=5 + more, log_id="log 1", diverges_at=5)
    log.resume({P0: 5})
    assert len(log.poll(100, 0).messages) == more
    log.commit(CommitBatch(offsets={P0: 5 + more}))
    assert log.restore([P0])[P0].diverges_at is None


def test_a_topic_that_is_gone_is_lost_and_gained_again_when_it_is_back() -> None:
    broker = filled(2, 3)
    log = joined(broker)
    broker.remove_topic(P0)
    polled = log.poll(100, 0)
    assert (polled.revoked, polled.messages.partitions) == ((P0,), (P1,))
    assert log.topics_missing() == ["0"]
    assert set(log.restore([P0, P1])) == {P1}
    assert log.poll(100, 0).revoked == ()
    broker.recreate(P0)
    assert log.poll(100, 0).assigned == (P0,)
    assert log.topics_missing() == []


def test_an_offset_that_was_deleted_is_not_committed() -> None:
    broker = filled(1, 3)
    log = joined(broker)
    log.commit(CommitBatch(offsets={P0: 2}))
    del broker.truth.offsets[P0]
    assert log.restore([P0])[P0] == PartitionPosition(0, is_committed=False, end=3, log_id="log 1")


def test_a_worker_that_is_out_is_fenced_and_its_partitions_go_on() -> None:
    broker = filled(2, 3)
    first, second = joined(broker), broker.join()
    second.poll(10, 0)
    broker.remove(first)
    with pytest.raises(Fenced):
        first.poll(10, 0)
    with pytest.raises(Fenced):
        first.commit(CommitBatch(offsets={P0: 1}))
    assert second.poll(10, 0).assigned == (P0, P1)


def test_without_members_nothing_is_dealt_and_a_new_one_gets_all() -> None:
    broker = filled(2, 1)
    log: MemoryLog = broker.join()
    log.poll(10, 0)
    log.close()
    assert set(broker.join().poll(10, 0).assigned) == set(broker.partitions)
