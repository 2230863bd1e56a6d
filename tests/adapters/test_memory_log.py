"""The log in memory: faults by seed, and what several workers see of them."""

from __future__ import annotations

import pytest

from detector.adapters.memory_log import Faults, MemoryBroker, MemoryLog
from detector.codec.messages import Message
from detector.core.readings import Partition
from detector.errors import CommitAborted, Fenced, LogUnavailable
from detector.ports import Outcome

NO_FAULTS = Faults()


def filled(partitions: int, each: int, faults: Faults = NO_FAULTS) -> MemoryBroker:
    broker = MemoryBroker(partitions, faults=faults)
    for number in range(each):
        for partition in range(partitions):
            broker.append(partition, b"k", b"%d:%d" % (partition, number))
    return broker


def copy_all(broker: MemoryBroker, workers: int, total: int, polls_max: int = 5_000) -> list[tuple[int, ...]]:
    """Workers that write each message to the alerts, restoring as the contract says; the cuts they saw."""
    logs = [broker.join() for _ in range(workers)]
    held: list[set[Partition]] = [set() for _ in logs]
    cuts = []
    for turn in range(polls_max):
        log, mine = logs[turn % workers], held[turn % workers]
        try:
            fetched = log.poll(7, 0)
        except LogUnavailable:
            continue
        mine.difference_update(fetched.lost)
        mine.update(fetched.gained)
        log.restore(fetched.gained)
        messages = fetched.messages
        cuts.append(tuple(messages.offset.tolist()))
        offsets = {messages.partitions[index]: int(offset) + 1 for index, offset in zip(messages.partition, messages.offset, strict=True)}
        outcome = Outcome(alerts=[Message(key, value) for key, value in zip(messages.key, messages.value, strict=True)], offsets=offsets)
        while True:
            try:
                log.commit(outcome)
            except LogUnavailable:
                continue
            except CommitAborted:
                log.restore(sorted(mine))
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
        commit_unavailable=0.1,
        commit_aborted=0.1,
        commit_unacknowledged=0.1,
        rebalance=0.1,
    )
    broker = filled(4, 30, faults)
    copy_all(broker, workers, 120)
    copied = [message.value or b"" for message in broker.truth.alerts]
    for partition in range(4):
        assert [value for value in copied if value.startswith(b"%d:" % partition)] == [b"%d:%d" % (partition, at) for at in range(30)]


def test_the_same_seed_gives_the_same_run() -> None:
    faults = [Faults(seed, cut_poll=0.5, commit_aborted=0.2, rebalance=0.2) for seed in (1, 1, 2)]
    first, again, other = (copy_all(filled(3, 20, each), 2, 60) for each in faults)
    assert first == again != other


@pytest.mark.parametrize(("acknowledged", "alerts"), [(False, 1), (True, 0)])
def test_an_aborted_commit_is_all_or_nothing(acknowledged: bool, alerts: int) -> None:
    faults = Faults(commit_aborted=1.0) if acknowledged else Faults(commit_unacknowledged=1.0)
    broker = filled(1, 3, faults)
    log = broker.join()
    (partition,) = log.poll(10, 0).gained
    log.restore([partition])
    outcome = Outcome([Message(None, b"alert")], [Message(None, b"dead")], {partition: {b"row": b"1"}}, {partition: 3})
    with pytest.raises(CommitAborted):
        log.commit(outcome)
    truth = broker.truth
    assert [len(truth.alerts), len(truth.dead_letters), len(truth.state), len(truth.offsets)] == [alerts] * 4
    assert log.restore([partition])[partition].offset == 3 * alerts


def test_a_tombstone_removes_a_row_and_restored_rows_are_a_copy() -> None:
    broker = filled(1, 1)
    log = broker.join()
    (partition,) = log.poll(10, 0).gained
    log.commit(Outcome(state={partition: {b"a": b"1", b"b": b"2"}}))
    log.commit(Outcome(state={partition: {b"a": None}}))
    rows = log.restore([partition])[partition].state
    assert rows == {b"b": b"2"}
    log.commit(Outcome(state={partition: {b"b": b"3"}}))
    assert rows == {b"b": b"2"}


def test_an_expired_worker_hears_of_it_and_writes_nothing_more() -> None:
    broker = filled(2, 3)
    first, second = broker.join(), broker.join()
    first.restore(first.poll(10, 0).gained)
    assert len(first.poll(10, 0).messages) == 3
    broker.expire(first)
    mine = Partition("readings", 0)
    with pytest.raises(CommitAborted):
        first.commit(Outcome(alerts=[Message(None, b"late")], offsets={mine: 3}))
    fetched = first.poll(10, 0)
    assert fetched.lost == fetched.gained == (mine,)
    assert not len(fetched.messages)
    assert broker.truth.alerts == []
    assert second.poll(10, 0).gained == (Partition("readings", 1),)


def test_a_worker_that_is_out_is_fenced_and_its_partitions_go_on() -> None:
    broker = filled(2, 3)
    first, second = broker.join(), broker.join()
    first.poll(10, 0)
    second.poll(10, 0)
    broker.remove(first)
    with pytest.raises(Fenced):
        first.poll(10, 0)
    assert second.poll(10, 0).gained == (Partition("readings", 0),)


def test_without_members_nothing_is_dealt_and_a_new_one_gets_all() -> None:
    broker = filled(2, 1)
    log: MemoryLog = broker.join()
    log.poll(10, 0)
    log.close()
    assert set(broker.join().poll(10, 0).gained) == set(broker.partitions)
