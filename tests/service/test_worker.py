"""The worker with a scripted log and a simple judge: every step, every error of the log, every way to leave."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded, Reject
from detector.config import Service
from detector.core.alerting import Alert
from detector.core.detect import Verdicts
from detector.core.readings import Disposition, Partition, ReadingBatch
from detector.errors import CommitAborted, Fenced, LogUnavailable, StateCorrupted
from detector.ports import Fetched, Outcome, Restored, WorkerState
from detector.service.worker import LEGAL, Worker

P0, P1 = Partition("sensors", 0), Partition("sensors", 1)
SETTINGS = Service(poll_timeout_ms=1, backoff_ms_max=10, drain_timeout_s=0.2)


def messages(*values: bytes, partition: Partition = P0, first: int = 0) -> Messages:
    count = len(values)
    return Messages(
        key=[b"pump"] * count,
        value=list(values),
        partition=np.zeros(count, np.int32),
        offset=np.arange(first, first + count, dtype=np.int64),
        log_time_us=np.full(count, -1, np.int64),
        partitions=(partition,),
    )


class Decoder:
    """`bad` is a reject, `two` carries two readings, all else one."""

    def decode(self, messages: Messages) -> Decoded:
        at = [position for position, value in enumerate(messages.value) for _ in range({b"bad": 0, b"two": 2}.get(value or b"", 1))]
        n = len(at)
        batch = ReadingBatch(
            stream_id=np.zeros(n, np.int32),
            event_time_us=np.arange(n, dtype=np.int64),
            value=np.zeros((n, 1), np.float32),
            partition=messages.partition[at],
            offset=messages.offset[at],
            item=np.zeros(n, np.int32),
            partitions=messages.partitions,
        )
        rejects = tuple(Reject(p, "MalformedJson", "not JSON") for p, value in enumerate(messages.value) if value == b"bad")
        return Decoded(batch, np.array(at, np.int64), rejects)


@dataclass
class Judge:
    """Opens an alert at every reading; has room for `room` readings per batch."""

    room: int = 1_000
    streams: int = 1
    alerts_open: int = 0
    batches: int = 0
    forgotten: list[tuple[Partition, ...]] = field(default_factory=list)

    def detect(self, batch: ReadingBatch) -> Verdicts:
        self.batches += 1
        n = len(batch)
        disposition = np.zeros(n, np.uint8)
        disposition[self.room :] = Disposition.INVALID
        nan = np.full(n, np.nan)
        alerts = tuple(
            Alert("id", "opened", "score", "evidence", "warning", "pump", 0, 0, 1.0, 0.1, (), batch.partitions[p], int(o), at)
            for at, (p, o) in enumerate(zip(batch.partition, batch.offset, strict=True))
            if at < self.room
        )
        return Verdicts(disposition, nan.astype(np.float32), nan, np.full((n, 1), np.nan, np.float32), {}, alerts)

    def forget(self, partitions: Iterable[Partition]) -> None:
        self.forgotten.append(tuple(partitions))


class Encoder:
    def message(self, alert: Alert) -> Message:
        return Message(alert.stream.encode(), str(alert.offset).encode())


@dataclass
class Log:
    """Plays a script: each poll and each commit takes the next entry, an error is raised. Afterwards all is quiet."""

    polls: list[Fetched | Exception] = field(default_factory=list)
    commits: list[Exception | None] = field(default_factory=list)
    restores: list[Exception | None] = field(default_factory=list)
    committed: list[Outcome] = field(default_factory=list)
    restored: list[tuple[Partition, ...]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    on_poll: Callable[[], None] = lambda: None
    on_commit: Callable[[], None] = lambda: None
    closed: int = 0

    def poll(self, messages_max: int, timeout_s: float) -> Fetched:
        self.told.append("poll")
        self.on_poll()
        entry = self.polls.pop(0) if self.polls else Fetched()
        if isinstance(entry, Exception):
            raise entry
        return entry

    def commit(self, outcome: Outcome) -> None:
        self.told.append("commit")
        self.on_commit()
        entry = self.commits.pop(0) if self.commits else None
        if entry is not None:
            raise entry
        self.committed.append(outcome)

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, Restored]:
        self.told.append("restore")
        entry = self.restores.pop(0) if self.restores else None
        if entry is not None:
            raise entry
        self.restored.append(tuple(partitions))
        return {partition: Restored(0) for partition in partitions}

    def lag(self) -> Mapping[Partition, int]:
        return {P0: 7}

    def close(self) -> None:
        self.closed += 1


@dataclass
class Seen:
    batches: list[tuple[int, set[str]]] = field(default_factory=list)

    def observe(self, decoded: Decoded, verdicts: Verdicts, seconds: Mapping[str, float]) -> None:
        assert all(spent >= 0 for spent in seconds.values())
        self.batches.append((len(verdicts), set(seconds)))


def worker(log: Log, judge: Judge | None = None, *observers: Seen, settings: Service = SETTINGS) -> Worker:
    return Worker(log, Decoder(), judge or Judge(), Encoder(), settings=settings, observers=observers, jitter=random.Random(1))


def test_one_step_is_one_poll_and_one_commit() -> None:
    log, seen = Log(polls=[Fetched(messages(b"a", b"bad", b"two", first=5))]), Seen()
    w = worker(log, None, seen)
    assert w.step() == 3
    assert log.told == ["poll", "commit"]
    (outcome,) = log.committed
    assert [message.value for message in outcome.alerts] == [b"5", b"7", b"7"]
    assert [message.value for message in outcome.dead_letters] == [b"bad"]
    assert outcome.offsets == {P0: 8}
    assert not outcome.state
    assert seen.batches == [(3, {"poll", "decode", "detect", "encode", "commit"})]
    v = w.vitals
    assert (v.messages, v.readings, v.unaccounted, v.commits) == (3, 4, 0, 1)
    assert v.dead_letters == {"MalformedJson": 1}
    assert v.lag == {P0: 7}
    assert v.state is WorkerState.RUNNING


def test_an_empty_poll_commits_nothing() -> None:
    log, seen = Log(), Seen()
    w = worker(log, None, seen)
    assert w.step() == 0
    assert log.told == ["poll"]
    assert not seen.batches
    assert w.vitals.state is WorkerState.RUNNING


def test_offsets_follow_each_partition() -> None:
    both = Messages(
        key=[None] * 3,
        value=[b"a"] * 3,
        partition=np.array([0, 1, 0], np.int32),
        offset=np.array([10, 3, 11]),
        log_time_us=np.full(3, -1),
        partitions=(P0, P1, Partition("unused", 0)),
    )
    log = Log(polls=[Fetched(both)])
    worker(log).step()
    assert log.committed[0].offsets == {P0: 12, P1: 4}


def test_readings_without_room_become_dead_letters() -> None:
    log = Log(polls=[Fetched(messages(b"a", b"two", b"bad", b"two"))])
    w = worker(log, Judge(room=2))
    w.step()
    (outcome,) = log.committed
    assert [message.value for message in outcome.dead_letters] == [b"two", b"bad", b"two"]
    assert len(outcome.alerts) == 2
    assert w.vitals.dead_letters == {"TooManyStreams": 2, "MalformedJson": 1}
    assert (w.vitals.readings, w.vitals.unaccounted) == (6, 0)


def test_gained_are_restored_and_lost_forgotten_before_judging() -> None:
    order: list[str] = []

    class Noting(Judge):
        def detect(self, batch: ReadingBatch) -> Verdicts:
            order.append("detect")
            return super().detect(batch)

        def forget(self, partitions: Iterable[Partition]) -> None:
            order.append("forget")
            super().forget(partitions)

    log, judge = Log(polls=[Fetched(gained=(P0, P1)), Fetched(messages(b"a"), gained=(P1,), lost=(P1,))]), Noting()
    w = worker(log, judge)
    w.step()
    assert log.restored == [(P0, P1)]
    assert w.vitals.partitions == 2
    w.step()
    assert order == ["forget", "detect"]
    assert judge.forgotten == [(P1,)]
    assert log.restored == [(P0, P1), (P1,)]
    assert w.vitals.partitions == 2


def test_it_is_restoring_while_it_restores() -> None:
    log = Log(polls=[Fetched(gained=(P0,))])
    w = worker(log)
    states = []

    def restore(partitions: Sequence[Partition]) -> Mapping[Partition, Restored]:
        states.append(w.vitals.state)
        return {}

    log.restore = restore  # type: ignore[method-assign] # the one call to look into
    w.step()
    assert states == [WorkerState.RESTORING]
    assert w.vitals.state is WorkerState.RUNNING


def test_a_poll_that_fails_is_a_pause() -> None:
    log = Log(polls=[LogUnavailable("gone"), LogUnavailable("gone"), Fetched(messages(b"a"))])
    w = worker(log)
    assert w.step() == 0
    assert w.vitals.state.value == "backing_off"
    assert [w.step(), w.step()] == [0, 1]
    assert w.vitals.state is WorkerState.RUNNING
    assert w.vitals.log_unavailable == 2
    assert w.vitals.backoff_s == 0


def test_a_commit_that_fails_is_repeated_and_nothing_judged_twice() -> None:
    log, judge = Log(polls=[Fetched(messages(b"a"))], commits=[LogUnavailable("gone")] * 3), Judge()
    w = worker(log, judge)
    w.step()
    assert log.told == ["poll", "commit", "commit", "commit", "commit"]
    assert judge.batches == 1
    assert len(log.committed) == 1
    assert (w.vitals.commits, w.vitals.log_unavailable) == (1, 3)


def test_a_restore_that_fails_is_repeated() -> None:
    log = Log(polls=[Fetched(gained=(P0,))], restores=[LogUnavailable("gone")] * 2)
    w = worker(log)
    w.step()
    assert log.told == ["poll", "restore", "restore", "restore"]
    assert w.vitals.state is WorkerState.RUNNING


def test_an_aborted_commit_discards_and_restores() -> None:
    log = Log(polls=[Fetched(gained=(P0, P1)), Fetched(messages(b"a"))], commits=[CommitAborted("who knows")])
    judge, seen = Judge(), Seen()
    w = worker(log, judge, seen)
    w.step()
    w.step()
    assert judge.forgotten == [(P0, P1)]
    assert log.restored == [(P0, P1), (P0, P1)]
    assert not seen.batches
    assert (w.vitals.commits, w.vitals.commits_aborted, w.vitals.readings) == (0, 1, 0)
    assert w.vitals.state is WorkerState.RUNNING


@pytest.mark.parametrize("error", [Fenced("other"), StateCorrupted("bad"), RuntimeError("bug")])
def test_other_errors_end_the_run_and_close_the_log(error: Exception) -> None:
    log = Log(polls=[Fetched(messages(b"a")), error])
    w = worker(log)
    with pytest.raises(type(error)):
        w.run(threading.Event())
    assert log.closed == 1
    assert w.vitals.state is WorkerState.STOPPED
    w.close()
    assert log.closed == 1


def test_a_fenced_commit_ends_the_run() -> None:
    log = Log(polls=[Fetched(messages(b"a"))], commits=[Fenced("other")])
    with pytest.raises(Fenced):
        worker(log).run(threading.Event())
    assert not log.committed
    assert log.closed == 1


def test_told_to_stop_it_commits_the_batch_in_hand() -> None:
    stop = threading.Event()
    log = Log(polls=[Fetched(messages(b"a"))], on_poll=stop.set, commits=[LogUnavailable("gone")])
    w = worker(log)
    w.run(stop)
    assert log.told == ["poll", "commit", "commit"]
    assert len(log.committed) == 1
    assert w.vitals.state is WorkerState.STOPPED


def test_it_does_not_wait_for_an_unavailable_log_for_ever_while_draining() -> None:
    stop = threading.Event()
    log = Log(polls=[Fetched(messages(b"a"))], on_poll=stop.set, commits=[LogUnavailable("gone")] * 10_000)
    with pytest.raises(LogUnavailable, match=r"drain time-out of 0\.2 s: gone") as caught:
        worker(log).run(stop)
    assert "read again" in caught.value.fix
    assert log.closed == 1


def test_a_stop_interrupts_the_pause() -> None:
    stop = threading.Event()
    log = Log(polls=[LogUnavailable("gone")] * 100)
    w = worker(log, settings=Service(backoff_ms_max=600_000, poll_timeout_ms=1))
    runner = threading.Thread(target=w.run, args=(stop,))
    w._attempts = 30  # a pause of minutes, not of a first attempt
    runner.start()
    while w.vitals.backoff_s < 10:
        stop.wait(0.001)
    stop.set()
    runner.join(5)
    assert not runner.is_alive()
    assert w.vitals.state is WorkerState.STOPPED


def test_a_stop_gives_up_restoring() -> None:
    stop = threading.Event()
    log = Log(polls=[Fetched(gained=(P0,))], on_poll=stop.set, restores=[LogUnavailable("gone")] * 10_000)
    worker(log).run(stop)
    assert log.told == ["poll"]
    assert log.closed == 1


def test_an_aborted_commit_while_draining_is_not_restored() -> None:
    stop = threading.Event()
    log = Log(polls=[Fetched(gained=(P0,)), Fetched(messages(b"a"))], on_commit=stop.set, commits=[CommitAborted("who knows")])
    worker(log).run(stop)
    assert log.told == ["poll", "restore", "poll", "commit"]


def test_it_promises_to_move_again_and_a_pause_prolongs_the_promise() -> None:
    w = worker(Log(polls=[LogUnavailable("gone")]), settings=Service(backoff_ms_max=10, poll_timeout_ms=1))
    before = w.vitals.alive_until_s
    w.step()
    assert w.vitals.alive_until_s > before


def test_the_pause_has_full_jitter_and_a_bound() -> None:
    pauses: list[float] = []
    w = worker(Log(polls=[LogUnavailable("gone")] * 50), settings=Service(backoff_ms_max=1_000, poll_timeout_ms=1))
    w._stop = FakeStop(pauses)  # type: ignore[assignment] # sees how long the pauses would be
    for _ in range(50):
        w.step()
    assert max(pauses[:1]) <= 0.1
    assert 0.7 < max(pauses) <= 1.0
    assert min(pauses[5:]) < 0.2


@dataclass
class FakeStop:
    pauses: list[float]

    def is_set(self) -> bool:
        return False

    def wait(self, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        return False


def test_a_lost_reading_is_noticed() -> None:
    class Careless(Judge):
        def detect(self, batch: ReadingBatch) -> Verdicts:
            verdicts = super().detect(batch)
            verdicts.disposition[0] = 99
            return verdicts

    w = worker(Log(polls=[Fetched(messages(b"a", b"b"))]), Careless())
    w.step()
    assert w.vitals.unaccounted == 1


def test_every_state_can_be_left_in_order() -> None:
    assert set(LEGAL) == set(WorkerState)
    for state, after in LEGAL.items():
        assert (WorkerState.STOPPED in after) == (state is not WorkerState.STOPPED)
