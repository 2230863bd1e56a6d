"""The worker with a scripted log and a simple judge: every step, every error of the log at every place, every way to leave."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from detector.codec.messages import Messages
from detector.codec.readings import Decoded
from detector.config import Service
from detector.core.readings import Partition
from detector.errors import CommitAborted, Fenced, LogUnavailable, StateCorrupted
from detector.ports import LATENCY, PartitionPosition, WorkerState
from detector.service import worker
from detector.service.lifecycle import LEGAL
from detector.service.worker import COMMIT_INTERVAL_S, LAG_INTERVAL_S
from tests.service.builders import P0, P1, Bench, Log, Turn, undisturbed

GAIN = Turn(assigned=(P0, P1))
AT_ONCE, WHEN_ASKED = 0.0, 1.0
executors = pytest.mark.parametrize("late", [AT_ONCE, WHEN_ASKED])


def check_exactly_once(bench: Bench) -> None:
    """All alerts once, state as if nothing had happened, everything observed once."""
    state, alerts = undisturbed(bench.log.stored)
    assert sorted(bench.log.alerts) == alerts
    assert bench.judge.state(tuple(bench.log.stored)) == state
    assert set(bench.seen.offsets.values()) <= {1}
    assert bench.stats.unaccounted == 0


# -- what observers hear ----------------------------------------------------------------------------------------------------


@executors
def test_observers_hear_of_open_alerts_once_after_a_restore_and_only_what_is_true(late: float) -> None:
    """What is judged in the step in which partitions become live is committed, and observed, before."""
    turns = [Turn(assigned=(P0,)), Turn(1), Turn(1, assigned=(P1,)), Turn(1)]
    bench = Bench(Log({P0: ["a"] * 3, P1: ["c"] * 3}, turns), late, interval_s=30.0)
    bench.step(3)
    state, _ = undisturbed({P0: ["a"] * 2})
    assert bench.seen.heard == [{}, [(P0, 0)], [(P0, 1)], state]
    assert bench.log.truth[P0].offset == 2
    bench.step(5, pause_s=1.0)
    assert [heard for heard in bench.seen.heard if isinstance(heard, dict)] == [{}, state]


@executors
def test_observers_hear_again_after_an_aborted_commit(late: float) -> None:
    bench = Bench(Log({P0: ["a", "a alert", "a", "a alert"]}, [Turn(assigned=(P0,)), Turn(2), Turn(2)]), late)
    bench.log.errors["commit"] = [None, CommitAborted("who knows")]
    bench.step(8, pause_s=0.3)
    state, _ = undisturbed({P0: ["a"] * 4})  # what was judged again with the restored state included, since it was committed before
    assert [heard for heard in bench.seen.heard if isinstance(heard, dict)] == [{}, state]
    assert bench.seen.heard[-1] == state


@pytest.mark.parametrize("is_heard", [True, False])
def test_observers_hear_of_lost_partitions_after_all_that_became_true_of_them(is_heard: bool) -> None:
    bench = Bench(Log({P0: ["a"], P1: ["c alert"]}, [GAIN, Turn(), Turn(), Turn(revoked=(P1,), is_heard=is_heard)]), late=1.0)
    bench.step(4)
    assert bench.seen.heard == [{}, [(P0, 0), (P1, 0)], (P1,)]


# -- one step -------------------------------------------------------------------------------------------------------------


def test_what_a_batch_decides_is_committed_at_once_and_counted_once_it_is_true() -> None:
    bench = Bench(Log({P0: ["a alert", "bad", "b two", "a alert"]}, [Turn(assigned=(P0,))]))
    bench.step(2)
    assert bench.log.told == ["poll", "restore", "resume", "poll", "commit"]
    (batch,) = bench.log.committed
    assert [message.value for message in batch.alerts] == [b"0:0", b"0:3"]
    assert [message.value for message in batch.dead_letters] == [b"bad"]
    assert batch.offsets == {P0: 4}
    assert not bench.seen.batches
    bench.step()
    assert bench.seen.batches == [(4, {"poll", "decode", "detect", "encode", "commit", LATENCY})]
    v = bench.stats
    assert (v.messages, v.readings, v.unaccounted, v.commits, v.alerts_opened) == (4, 5, 0, 1, 2)
    assert v.dead_letters == {"MalformedJson": 1}
    assert (v.partitions, v.streams, v.state) == (1, 2, WorkerState.RUNNING)
    bench.step(3)
    assert len(bench.seen.batches) == 1


def test_an_empty_poll_commits_nothing() -> None:
    bench = Bench(Log())
    bench.step(3, pause_s=9.0)
    assert bench.log.told == ["poll"] * 3
    assert bench.stats.state is WorkerState.RUNNING


def test_what_decides_nothing_waits_and_goes_with_the_next_commit() -> None:
    bench = Bench(Log({P0: ["a"] * 9 + ["a alert"]}, [Turn(assigned=(P0,)), *[Turn(1)] * 20]), interval_s=0.0)
    bench.step(4, pause_s=COMMIT_INTERVAL_S / 8)
    assert not bench.log.committed
    bench.step(5, pause_s=COMMIT_INTERVAL_S / 8)
    (batch,) = bench.log.committed
    assert batch.offsets == {P0: 7}
    bench.step(3)
    assert [batch.offsets for batch in bench.log.committed] == [{P0: 7}, {P0: 10}]
    bench.step()
    assert bench.log.alerts == ["0:9"]
    assert len(bench.seen.batches) == 10
    assert (bench.stats.commits, bench.stats.readings) == (2, 10)
    check_exactly_once(bench)


def test_a_commit_of_several_batches_is_timed_once() -> None:
    bench = Bench(Log({P0: ["a", "a", "a alert"]}, [Turn(assigned=(P0,)), *[Turn(1)] * 3]), interval_s=0.0)
    bench.step(5)
    first, *others = [seconds["commit"] for seconds in bench.seen.seconds]
    assert first > 0
    assert others == [0.0, 0.0]


def test_a_poll_waits_no_longer_than_a_commit_may() -> None:
    slow = Service(poll_timeout_ms=5_000)
    bench = Bench(Log({P0: ["a"]}, [Turn(), Turn(assigned=(P0,))]), settings=slow, interval_s=0.0)
    bench.step(4)
    assert bench.log.timeouts_s == [5.0, 5.0, 5.0, COMMIT_INTERVAL_S]


def test_without_an_interval_no_state_is_written() -> None:
    bench = Bench(Log({P0: ["a alert", "b"] * 5}, [Turn(assigned=(P0,)), *[Turn(2)] * 5]), interval_s=0.0)
    bench.step(9, pause_s=0.3)
    bench.worker.drain()
    assert not any(batch.state for batch in bench.log.committed)
    assert bench.log.truth[P0].offset == 10
    assert (bench.stats.rows_unsaved, bench.stats.rows_saved) == (0, 0)


def test_only_partitions_that_occur_have_offsets() -> None:
    """A log may name others in its columns, and one that is still replayed has nothing to commit: its offset would go back."""
    bench = Bench(
        Log({P0: ["a"] * 4, P1: ["b", "b alert", "b", "b"]}, [GAIN, *[Turn(2)] * 4], truth={P1: PartitionPosition(4)}), interval_s=30.0
    )
    checkpoint = Bench(Log({P1: ["b", "b alert", "b", "b"]}, [Turn(assigned=(P1,)), Turn(0)]), interval_s=30.0)
    checkpoint.step(2, pause_s=0.3)
    bench.log.kept[P1] = checkpoint.log.kept[P1]
    bench.step(2, pause_s=0.3)
    assert bench.log.committed[-1].offsets == {P0: 2}
    bench.step(3, pause_s=0.3)
    assert bench.log.truth[P1].offset == 4
    assert bench.stats.messages_replayed == 4
    assert bench.log.alerts == []


def test_readings_without_room_become_dead_letters() -> None:
    bench = Bench(Log({P0: ["a alert", "b two", "bad", "c two"]}, [Turn(assigned=(P0,))]))
    bench.judge.room = 2
    bench.step(3)
    (batch,) = bench.log.committed
    assert [message.value for message in batch.dead_letters] == [b"b two", b"bad", b"c two"]
    assert bench.stats.dead_letters == {"TooManyStreams": 2, "MalformedJson": 1}
    assert (bench.stats.readings, bench.stats.unaccounted) == (6, 0)


def test_a_lost_reading_is_noticed() -> None:
    bench = Bench(Log({P0: ["a alert", "a"]}, [Turn(assigned=(P0,))]))
    bench.judge.loses_a_reading = True
    bench.step(3)
    assert bench.stats.unaccounted == 1


def test_lag_is_asked_for_now_and_then() -> None:
    bench = Bench(Log())
    bench.step()
    assert bench.stats.lag == {P0: 7}
    bench.stats.lag = {}
    bench.step(1, pause_s=LAG_INTERVAL_S / 2)
    assert bench.stats.lag == {}
    bench.step(1, pause_s=LAG_INTERVAL_S / 2)
    assert bench.stats.lag == {P0: 7}


# -- the life cycle -------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """What happens to a worker, and its way through the states."""

    path: str
    turns: list[Turn] = field(default_factory=list)
    errors: dict[str, list[Exception | None]] = field(default_factory=dict)
    stops_in: tuple[str, int] = ("", 0)
    raises: type[Exception] | None = None
    kept: dict[Partition, dict[bytes, bytes]] = field(default_factory=dict)


AWAY = LogUnavailable("away")
NOT_JOINED = Turn(is_joined=False)
LIVES = [
    Story("starting draining stopped", stops_in=("before", 0)),
    Story("starting running draining stopped", stops_in=("poll", 2)),
    Story("starting restoring running draining stopped", [GAIN], stops_in=("poll", 2)),
    Story("starting backing_off running draining stopped", errors={"poll": [AWAY]}, stops_in=("poll", 3)),
    Story("starting backing_off restoring running draining stopped", [GAIN], {"poll": [AWAY]}, ("poll", 3)),
    Story("starting backing_off starting restoring running draining stopped", [NOT_JOINED, GAIN], {"poll": [AWAY]}, ("poll", 4)),
    Story("starting stopped", errors={"poll": [Fenced("other")]}, raises=Fenced),
    Story("starting running restoring running draining stopped", [Turn(), GAIN], stops_in=("poll", 3)),
    Story("starting restoring backing_off restoring running draining stopped", [GAIN], {"restore": [AWAY]}, ("poll", 2)),
    Story("starting restoring backing_off restoring running draining stopped", [GAIN], {"resume": [AWAY]}, ("poll", 2)),
    Story("starting restoring draining stopped", [GAIN], {"restore": [AWAY] * 99}, ("restore", 1)),
    Story("starting restoring draining stopped", [GAIN], {"resume": [AWAY] * 99}, ("resume", 1)),
    Story("starting restoring draining stopped", [GAIN], stops_in=("state", 1), kept={P0: {b"checkpoint": b"?"}}),
    Story("starting restoring stopped", [GAIN], raises=StateCorrupted, kept={P0: {b"checkpoint": b"?"}}),
    Story("starting restoring stopped", [GAIN], {"restore": [Fenced("other")]}, raises=Fenced),
    Story("starting running backing_off running draining stopped", [Turn(), Turn()], {"poll": [None, AWAY]}, ("poll", 4)),
    Story("starting running backing_off draining stopped", errors={"poll": [None, *[AWAY] * 99]}, stops_in=("poll", 3)),
    Story("starting backing_off stopped", errors={"poll": [AWAY, Fenced("other")]}, raises=Fenced),
    Story("starting running stopped", errors={"poll": [None, RuntimeError("bug")]}, raises=RuntimeError),
    Story(
        "starting restoring running restoring running draining stopped",
        [GAIN, Turn(1), Turn(1)],
        {"commit": [CommitAborted("who knows")]},
        ("poll", 6),
    ),
    Story("starting restoring running stopped", [GAIN, Turn(1), Turn(1)], {"commit": [Fenced("other")]}, raises=Fenced),
]


@executors
@pytest.mark.parametrize("story", LIVES, ids=lambda story: story.path.replace(" ", "-"))
def test_a_worker_goes_its_way_through_the_states_and_closes_the_log(story: Story, late: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "UNASSIGNED_READY_S", 0.0)
    log = Log(
        {P0: ["a alert", "a alert"]},
        list(story.turns),
        {name: list(errors) for name, errors in story.errors.items()},
        story.stops_in,
        kept=dict(story.kept),
    )
    bench = Bench(log, late)
    if story.stops_in[0] == "before":
        log.stop.set()
    if story.raises:
        with pytest.raises(story.raises):
            bench.run()
    else:
        bench.run()
    assert " ".join(bench.stats.path) == story.path
    assert log.closed == 1
    bench.worker.close()
    assert log.closed == 1


def test_these_are_all_ways_there_are() -> None:
    gone = {pair for story in LIVES for pair in itertools.pairwise(story.path.split())}
    assert gone == {(before.value, after.value) for before, afters in LEGAL.items() for after in afters}
    assert set(LEGAL) == set(WorkerState)


def test_it_runs_once_it_is_known_what_it_has_to_judge() -> None:
    """Not before its first assignment, however long joining takes, nor at an empty one, which others' partitions may follow."""
    log = Log({P0: ["a"]}, [*[NOT_JOINED] * 9, Turn(), Turn(assigned=(P0,))])
    bench = Bench(log)
    bench.step(10, pause_s=10.0)
    assert bench.stats.path == ["starting"]
    bench.step(2, pause_s=4.0)
    assert bench.stats.path == ["starting", "restoring", "running"]


def test_every_piece_of_state_that_is_read_is_a_sign_of_lifecycle() -> None:
    """There may be more of them than can be read in a minute."""

    class Large(Log):
        def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
            for piece in super().state(partitions):
                again.stats.alive_until_s = 0.0
                yield piece
                assert again.stats.alive_until_s > 0

    bench = Bench(Log({P0: ["a", "b"]}, [Turn(assigned=(P0,))]))
    bench.step(4, pause_s=1.0)
    again = Bench(Large(bench.log.stored, [Turn(assigned=(P0,))], truth=bench.log.truth, kept=bench.log.kept))
    again.step()
    assert again.log.told.count("state") == len(bench.log.kept[P0]) == 4
    assert again.judge.state() == bench.judge.state()


def test_a_member_that_stays_without_partitions_runs() -> None:
    bench = Bench(Log(turns=[NOT_JOINED]))
    bench.step(1 + 14, pause_s=1.0)
    assert bench.stats.path == ["starting"]
    bench.step(1, pause_s=1.0)
    assert bench.stats.path == ["starting", "running"]


@pytest.mark.parametrize("before", WorkerState)
@pytest.mark.parametrize("after", WorkerState)
def test_no_other_way_is_taken(before: WorkerState, after: WorkerState) -> None:
    bench = Bench(Log())
    bench.stats.state = before
    if after in LEGAL[before] or after is before:
        bench.worker._lifecycle.enter(after)
        assert bench.stats.state is after
    else:
        with pytest.raises(AssertionError):
            bench.worker._lifecycle.enter(after)


def test_a_pause_while_messages_are_replayed_does_not_end_the_restoring() -> None:
    first = Bench(Log({P0: ["a"] * 6}, [Turn(assigned=(P0,)), Turn(0), Turn(6)]), interval_s=30.0)
    first.step(6, pause_s=0.3)
    log = Log(
        {P0: ["a"] * 6},
        [Turn(assigned=(P0,)), Turn(2), Turn(2), Turn(2)],
        {"poll": [None, None, AWAY]},
        truth=first.log.truth,
        kept=first.log.kept,
    )
    bench = Bench(log)
    bench.step(5)
    assert bench.stats.path == ["starting", "restoring", "backing_off", "restoring", "running"]
    assert bench.stats.messages_replayed == 6


def test_how_long_a_restore_took() -> None:
    bench = Bench(Log({P0: ["a"] * 6}, [Turn(assigned=(P0,))]), interval_s=30.0)
    bench.step(3, pause_s=0.3)
    log = Log(bench.log.stored, [Turn(assigned=(P0,)), Turn(2), Turn(2), Turn(2)], truth=bench.log.truth, kept=bench.log.kept)
    again = Bench(log, interval_s=30.0)
    again.step(4, pause_s=2.0)
    assert again.stats.restored_s == 6.0
    assert again.judge.state() == bench.judge.state()


# -- the log is away ------------------------------------------------------------------------------------------------------


def test_a_poll_that_fails_is_a_pause() -> None:
    bench = Bench(Log({P0: ["a alert"]}, [Turn(assigned=(P0,))], {"poll": [None, AWAY, AWAY]}))
    bench.step(2)
    assert bench.stats.state.value == "backing_off"
    bench.step(3)
    assert bench.stats.state is WorkerState.RUNNING
    assert (bench.stats.log_unavailable, bench.stats.backoff_s) == (2, 0)
    check_exactly_once(bench)


@executors
def test_a_commit_that_fails_is_repeated_as_it_was_and_nothing_is_judged_twice(late: float) -> None:
    """It is found out at the next step, when the next batch is already judged; that one goes with the commit after it."""
    log = Log({P0: ["a alert", "a", "a alert"]}, [Turn(assigned=(P0,)), *[Turn(1)] * 3], {"commit": [AWAY] * 3})
    bench = Bench(log, late, interval_s=0.0)
    bench.step(4)
    bench.worker.drain()
    assert [batch.offsets for batch in log.committed] == [{P0: 1}, {P0: 3}]
    assert len(bench.judge.judged) == 3
    assert (bench.stats.commits, bench.stats.log_unavailable) == (2, 3)
    check_exactly_once(bench)


@pytest.mark.parametrize("name", ["restore", "resume"])
def test_a_restore_that_fails_is_repeated(name: str) -> None:
    bench = Bench(Log({P0: ["a alert"]}, [Turn(assigned=(P0,))], {name: [AWAY, AWAY]}))
    bench.step(3)
    assert bench.log.told.count(name) == 3
    assert bench.stats.log_unavailable == 2
    check_exactly_once(bench)


def test_the_pause_has_full_jitter_and_a_bound() -> None:
    pauses: list[float] = []

    class NotTold:
        def is_set(self) -> bool:
            return False

        def wait(self, pause_s: float) -> None:
            pauses.append(pause_s)

    bench = Bench(Log(errors={"poll": [AWAY] * 50}), settings=Service(backoff_ms_max=1_000, poll_timeout_ms=1))
    stop: Any = NotTold()
    bench.worker._lifecycle.stop = stop
    bench.worker._lifecycle._backoff._jitter = random.Random(1)
    bench.step(50)
    assert pauses[0] <= 0.1
    assert 0.7 < max(pauses) <= 1.0
    assert min(pauses[5:]) < 0.2


def test_it_promises_to_move_again_and_a_pause_prolongs_the_promise() -> None:
    bench = Bench(Log(errors={"poll": [AWAY]}))
    before = bench.stats.alive_until_s
    bench.step()
    assert bench.stats.alive_until_s > before


# -- a commit that nobody knows the end of --------------------------------------------------------------------------------


@executors
@pytest.mark.parametrize("is_true", [False, True])
@pytest.mark.parametrize("number", range(5))
def test_an_aborted_commit_discards_and_restores_and_nothing_is_lost_or_repeated(late: float, is_true: bool, number: int) -> None:
    """Wherever it happens, and whether or not it succeeded in the end."""

    class Unsure(Log):
        def commit(self, batch: Any) -> None:
            if is_true and self.told.count("commit") == number:
                super().commit(batch)
                raise CommitAborted("who knows")
            super().commit(batch)

    stored = {P0: ["a alert", "a", "b alert", "a", "b", "a alert"] * 3, P1: ["c alert", "a", "c"] * 4}
    errors: dict[str, list[Exception | None]] = {} if is_true else {"commit": [None] * number + [CommitAborted("who knows")]}
    bench = Bench(Unsure(stored, [GAIN, *[Turn(2)] * 20], errors), late, interval_s=0.5)
    bench.step(30, pause_s=0.2)
    bench.worker.drain()
    assert bench.stats.commits_aborted == 1
    assert bench.log.restored == [(P0, P1), (P0, P1)]
    assert bench.log.truth[P0].offset == 18
    assert bench.log.truth[P1].offset == 12
    check_exactly_once(bench)


@executors
def test_what_was_not_committed_is_not_observed(late: float) -> None:
    log = Log({P0: ["a alert"] * 2}, [Turn(assigned=(P0,)), Turn(1), Turn(1), Turn(0)], {"commit": [CommitAborted("who knows")]})
    bench = Bench(log, late)
    bench.step(4)
    assert not bench.seen.batches
    assert (bench.stats.commits, bench.stats.commits_aborted, bench.stats.readings) == (0, 1, 0)
    bench.step(2)
    bench.worker.drain()
    assert len(bench.seen.batches) == 1
    check_exactly_once(bench)


@executors
@pytest.mark.parametrize("error", [Fenced("other"), StateCorrupted("bad"), RuntimeError("bug")])
def test_other_errors_of_a_commit_end_the_run(error: Exception, late: float) -> None:
    log = Log({P0: ["a alert", "a alert"]}, [Turn(assigned=(P0,)), Turn(1), Turn(1)], {"commit": [error]})
    with pytest.raises(type(error)):
        Bench(log, late).run()
    assert not log.committed
    assert log.closed == 1


# -- partitions come and go -----------------------------------------------------------------------------------------------

STORED = {P0: ["a", "a alert", "a", "b", "a alert", "b"] * 2, P1: ["c", "a", "c alert", "a"] * 3}


@executors
@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize("at", range(1, 6))
def test_partitions_go_and_come_back(late: float, is_heard: bool, at: int) -> None:
    turns = [GAIN, *[Turn(2)] * at, Turn(2, revoked=(P1,), is_heard=is_heard), *[Turn(2)] * 2, Turn(2, assigned=(P1,)), *[Turn(2)] * 9]
    bench = Bench(Log(STORED, turns), late, interval_s=0.5)
    bench.step(len(turns) + 3, pause_s=0.1)
    bench.worker.drain()
    assert bench.log.truth[P0].offset == bench.log.truth[P1].offset == 12
    check_exactly_once(bench)


def test_what_is_lost_with_a_last_word_is_saved_first() -> None:
    bench = Bench(Log(STORED, [GAIN, Turn(3), Turn(0, revoked=(P1,))]), interval_s=30.0)
    bench.step(3)
    assert {(partition, stream) for partition, stream in bench.judge.state()} == {(P0, "a")}
    assert bench.log.restored == [(P0, P1)]
    assert bench.log.truth[P1].offset == 3
    assert {b"stream/c", b"stream/a", b"checkpoint"} <= bench.log.kept[P1].keys()
    assert b"stream/a" not in bench.log.kept.get(P0, {})
    other = Bench(Log(STORED, [Turn(assigned=(P1,)), Turn(0)], truth=bench.log.truth, kept=bench.log.kept))
    other.step(2)
    assert other.stats.messages_replayed == 0
    assert other.log.resumed == [{P1: 3}]


def test_what_was_judged_but_not_committed_goes_with_partitions_lost_unheard() -> None:
    """And the others' with it, which is judged again."""
    bench = Bench(
        Log({P0: ["a", "a", "a"], P1: ["c"] * 3}, [GAIN, Turn(1), Turn(1, revoked=(P1,), is_heard=False), Turn(0)]), interval_s=0.0
    )
    bench.step(3)
    assert bench.log.restored == [(P0, P1), (P0,)]
    assert not bench.log.committed
    assert bench.judge.state() == {}
    bench.step(2, pause_s=0.3)
    bench.worker.drain()
    assert bench.log.truth.keys() == {P0}
    assert bench.judge.judged.count((P0, 0)) == 2
    assert (P0, 1) in bench.judge.judged
    assert bench.judge.judged.count((P1, 0)) == 1


def test_partitions_lost_unheard_while_nothing_waits_disturb_no_other() -> None:
    bench = Bench(Log({P0: ["a alert"], P1: ["c alert"]}, [GAIN, Turn(), Turn(), Turn(revoked=(P1,), is_heard=False)]))
    bench.step(5)
    assert bench.log.restored == [(P0, P1)]
    assert bench.judge.state().keys() == {(P0, "a")}
    assert bench.stats.partitions == 1


@executors
def test_an_abort_found_while_letting_go_restores_what_is_left(late: float) -> None:
    """What the same poll fetched of the other partitions is ahead of what was restored, and is read again."""
    turns = [GAIN, Turn(2), Turn(2), Turn(2, revoked=(P1,)), Turn(2, assigned=(P1,))]
    log = Log({P0: ["a", "a alert"] * 4, P1: ["c", "c alert"] * 4}, turns)
    bench = Bench(log, late)
    bench.step(3)
    log.errors["commit"] = [CommitAborted("who knows")]
    bench.step(12, pause_s=0.3)
    bench.worker.drain()
    assert bench.stats.commits_aborted == 1
    assert log.restored[:2] == [(P0, P1), (P0,)]
    check_exactly_once(bench)


@executors
def test_the_log_may_be_away_while_letting_go(late: float) -> None:
    log = Log(STORED, [GAIN, *[Turn(2)] * 3, Turn(2, revoked=(P1,)), Turn(2, assigned=(P1,))], {"commit": [AWAY, AWAY, None, AWAY, AWAY]})
    bench = Bench(log, late)
    bench.step(16, pause_s=0.1)
    bench.worker.drain()
    check_exactly_once(bench)


@pytest.mark.parametrize("revoked", [P0, P1])
def test_no_offset_is_committed_before_its_partition_has_a_checkpoint(revoked: Partition) -> None:
    """Also where the first commit of all is that of a partition that goes: a crash after it would be a cold start of the other."""

    class Marked(Log):
        def commit(self, batch: Any) -> None:
            super().commit(batch)
            assert all(b"checkpoint" in self.kept[partition] for partition in batch.offsets)

    log = Marked({P0: ["a"] * 4, P1: ["b"] * 4}, [GAIN, Turn(2), Turn(2, revoked=(revoked,)), Turn(2)])
    bench = Bench(log)
    bench.step(4)
    assert log.told.count("commit") == 1
    assert len(log.committed[0].offsets) == 2
    bench.worker.drain()


def test_a_fence_found_while_letting_go_ends_the_run() -> None:
    log = Log({P0: ["a alert"]}, [Turn(assigned=(P0,)), Turn(), Turn(revoked=(P0,))], {"commit": [Fenced("other")]})
    with pytest.raises(Fenced):
        Bench(log, WHEN_ASKED).run()
    assert log.closed == 1


def test_letting_go_of_what_was_never_restored() -> None:
    log = Log({P0: ["a"]}, [Turn(assigned=(P0,)), Turn()], {"poll": [None, AWAY]})
    bench = Bench(log)
    bench.step(2)
    bench.worker._on_revoke((P0, P1))
    assert log.truth.keys() == {P0}


# -- what is replayed is not told of --------------------------------------------------------------------------------------


def test_nothing_is_told_of_a_replayed_message() -> None:
    stored = {P0: ["a alert", "bad", "b alert", "a two", "b alert"]}
    first = Bench(Log(stored, [Turn(assigned=(P0,)), Turn(0), Turn(4)]), interval_s=1_000.0)
    first.step(2, pause_s=0.3)  # the checkpoint
    first.step()
    assert first.log.truth[P0].offset == 4
    log = Log(stored, [Turn(assigned=(P0,)), Turn(3), Turn(2)], truth=dict(first.log.truth), kept=dict(first.log.kept))
    bench = Bench(log, interval_s=1_000.0)
    bench.step(2)
    assert bench.stats.state.value == "restoring"
    assert not log.committed
    bench.step(2)
    assert bench.stats.state is WorkerState.RUNNING
    (batch,) = log.committed
    assert (log.alerts, batch.dead_letters, batch.offsets) == (["0:4"], [], {P0: 5})
    v = bench.stats
    assert (v.messages_replayed, v.messages, v.readings, v.alerts_opened, v.dead_letters) == (4, 1, 1, 1, {})
    assert bench.seen.offsets == {(P0, 4): 1}
    assert bench.judge.state() == undisturbed(stored)[0]


def test_what_the_log_no_longer_holds_is_counted() -> None:
    log = Log({P0: ["a"] * 9}, [Turn(assigned=(P0,))], truth={P0: PartitionPosition(2, first=5)})
    bench = Bench(log)
    bench.step(2)
    assert bench.stats.messages_missed == {}  # nothing is committed yet: another worker may have to bring it back again
    bench.worker.drain()
    assert bench.stats.messages_missed == {"retention": 3}
    assert log.resumed == [{P0: 5}]


def test_what_was_missed_is_counted_once_however_often_it_is_brought_back() -> None:
    log = Log(
        {P0: ["a"] * 9},
        [Turn(assigned=(P0,))],
        errors={"commit": [CommitAborted("by a test"), None]},
        truth={P0: PartitionPosition(2, first=5, log_id="B", diverges_at=1)},
    )
    bench = Bench(log)
    bench.step(2)
    bench.worker.drain()
    bench.step(2)
    bench.worker.drain()
    assert len(log.restored) == 2
    assert bench.stats.messages_missed == {"retention": 4}
    assert bench.stats.log_changes == {"truncated": 1}


# -- schemas that are away ------------------------------------------------------------------------------------------------


@executors
def test_a_batch_whose_schemas_are_away_is_waited_for_and_judged_once(late: float) -> None:
    log = Log({P0: ["a alert", "b", "a"]}, [Turn(assigned=(P0,)), Turn(3)], stops_in=("poll", 4))
    bench = Bench(log, late)
    decode, left = bench.worker.decoder.decode, [3]

    def away(messages: Messages) -> Decoded:
        if left[0]:
            left[0] -= 1
            raise LogUnavailable("the registry is away", fix="start it")
        return decode(messages)

    bench.worker.decoder = SimpleNamespace(decode=away)
    bench.run()
    assert bench.stats.log_unavailable == 3
    assert log.alerts == ["0:0"]
    assert len(bench.judge.judged) == len(set(bench.judge.judged)) == 3
    assert log.truth[P0].offset == 3


@executors
def test_told_to_stop_while_schemas_are_away_it_leaves_and_the_next_start_reads_on(late: float) -> None:
    log = Log({P0: ["a", "b alert", "c alert"]}, [Turn(assigned=(P0,)), Turn(2), Turn(1)], stops_in=("poll", 9))
    bench = Bench(log, late)
    decode = bench.worker.decoder.decode

    def away(messages: Messages) -> Decoded:
        if messages.offset[-1] == 2:
            log.stop.set()
            raise LogUnavailable("the registry is away")
        return decode(messages)

    bench.worker.decoder = SimpleNamespace(decode=away)
    bench.run()
    assert bench.stats.state is WorkerState.STOPPED
    assert log.alerts == ["0:1"]
    assert log.truth[P0].offset == 2


# -- leaving --------------------------------------------------------------------------------------------------------------


@executors
def test_on_a_stop_it_commits_what_was_judged_and_saves_its_state(late: float) -> None:
    log = Log(STORED, [GAIN, Turn(3)], {"commit": [AWAY]}, ("poll", 2))
    bench = Bench(log, late, interval_s=1_000.0)
    bench.run()
    assert bench.stats.state is WorkerState.STOPPED
    assert log.alerts == ["0:1", "1:2"]
    assert log.truth[P0].offset == log.truth[P1].offset == 3
    assert bench.stats.rows_saved == sum(len(batch.state[each]) for batch in log.committed for each in batch.state)
    assert bench.stats.state_bytes > 0
    assert bench.seen.offsets.total() == 6
    again = Bench(Log(STORED, [GAIN], truth=log.truth, kept=log.kept))
    again.step()
    assert again.log.resumed == [{P0: 3, P1: 3}]
    assert again.judge.state() == bench.judge.state()


@executors
def test_it_does_not_wait_for_an_unavailable_log_for_ever_while_draining(late: float) -> None:
    log = Log({P0: ["a alert"]}, [Turn(assigned=(P0,))], {"commit": [AWAY] * 1_000_000}, ("poll", 2))
    with pytest.raises(LogUnavailable, match=r"drain time-out of 0\.05 s: away") as caught:
        Bench(log, late).run()
    assert "read again" in caught.value.fix
    assert log.closed == 1


@executors
def test_an_aborted_commit_while_draining_is_not_restored(late: float) -> None:
    log = Log({P0: ["a alert"] * 4}, [Turn(assigned=(P0,)), Turn(2)], {"commit": [CommitAborted("who knows")]}, ("commit", 1))
    Bench(log, late).run()
    assert log.told.count("restore") == 1
    assert not log.committed


def test_partitions_let_go_while_draining_with_the_log_away() -> None:
    """The rebalance is not held up, and nothing is committed that the state is ahead of."""
    log = Log(STORED, [GAIN, Turn(2), Turn(2, revoked=(P1,))], {"commit": [AWAY] * 1_000_000}, ("poll", 3))
    bench = Bench(log, WHEN_ASKED)
    bench.run()
    assert bench.stats.state is WorkerState.STOPPED
    assert not log.committed


@pytest.mark.parametrize("name", ["restore", "resume"])
def test_a_stop_gives_up_restoring(name: str) -> None:
    log = Log({P0: ["a alert"]}, [Turn(assigned=(P0,))], {name: [AWAY] * 1_000_000}, (name, 3))
    Bench(log).run()
    assert log.told.count(name) == 3
    assert log.closed == 1
    assert log.truth.keys() <= {P0}


def test_a_stop_gives_up_starting_over() -> None:
    """To stop between an abort and the restore that it calls for: nothing is judged with state that is gone."""
    log = Log(STORED, [GAIN, Turn(2), Turn(2, revoked=(P1,))], {"commit": [CommitAborted("x")], "restore": [None, AWAY]}, ("restore", 2))
    bench = Bench(log, WHEN_ASKED)
    bench.run()
    assert bench.stats.state is WorkerState.STOPPED
    assert bench.judge.state() == {}
    assert not log.committed


# -- with a thread --------------------------------------------------------------------------------------------------------


class Gate(Log):
    """A log whose commits wait in the thread that makes them."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.may_end = threading.Event()
        self.has_begun = threading.Event()
        self.thread = ""

    def commit(self, batch: Any) -> None:
        self.thread = threading.current_thread().name
        self.has_begun.set()
        assert self.may_end.wait(30)
        super().commit(batch)

    def close(self) -> None:
        assert self.may_end.is_set(), "closed beneath a commit"
        super().close()


def threaded(log: Log, **named: Any) -> tuple[Bench, ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(1, "commit")
    return Bench(log, executor=executor, **named), executor


def test_the_next_batch_is_judged_beside_the_commit() -> None:
    log = Gate({P0: ["a alert", "a", "a", "a alert"]}, [Turn(assigned=(P0,)), *[Turn(1)] * 3])
    bench, executor = threaded(log, interval_s=0.0)
    with executor:
        bench.step(2)
        assert log.has_begun.wait(30)
        bench.step(2)
        assert len(bench.judge.judged) == 3
        assert not log.committed
        log.may_end.set()
        bench.step()
        bench.worker.drain()
    assert log.thread.startswith("commit")
    assert [batch.offsets for batch in log.committed] == [{P0: 1}, {P0: 4}]
    check_exactly_once(bench)


def test_what_goes_with_a_commit_stays_as_it_was_when_it_began() -> None:
    log = Gate({P0: ["a", "a alert", "a"]}, [Turn(assigned=(P0,)), Turn(1), Turn(1), Turn(1)])
    bench, executor = threaded(log, interval_s=0.01)
    with executor:
        bench.step(1)
        bench.step(2, pause_s=0.05)
        assert log.has_begun.wait(30)
        bench.step(1, pause_s=0.05)
        log.may_end.set()
        bench.worker.drain()
    assert len(log.committed) >= 2
    state: dict[bytes, bytes] = {}
    for batch in log.committed:
        state |= {key: value for key, value in batch.state[P0].items() if value is not None}
        stored = {P0: log.stored[P0][: batch.offsets[P0]]}
        again = Bench(Log(stored, [Turn(assigned=(P0,))], truth={P0: PartitionPosition(len(stored[P0]))}, kept={P0: state}))
        again.step(2)
        assert again.judge.state() == undisturbed(stored)[0]


def test_the_log_is_not_closed_beneath_a_commit() -> None:
    log = Gate({P0: ["a alert"]}, [Turn(assigned=(P0,)), Turn()], {"poll": [None, None, RuntimeError("bug")]})
    bench, executor = threaded(log)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            bench.run()
        except RuntimeError as error:
            raised.append(error)

    with executor:
        runner = threading.Thread(target=run)
        runner.start()
        assert log.has_begun.wait(30)
        log.may_end.set()
        runner.join(30)
    assert raised
    assert len(log.committed) == 1
    assert log.closed == 1


def test_a_stop_interrupts_the_pause() -> None:
    log = Log(errors={"poll": [AWAY] * 1_000_000})
    bench = Bench(log, settings=Service(backoff_ms_max=600_000, poll_timeout_ms=1))
    bench.worker._lifecycle._backoff.attempts = 30  # a pause of minutes, not of a first attempt
    bench.worker._lifecycle._backoff._jitter = random.Random(1)
    runner = threading.Thread(target=bench.run)
    runner.start()
    while bench.stats.backoff_s < 10:
        assert runner.is_alive()
        log.stop.wait(0.001)
    log.stop.set()
    runner.join(30)
    assert not runner.is_alive()
    assert bench.stats.state is WorkerState.STOPPED
