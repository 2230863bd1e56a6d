"""What event time decides, in log order."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core import event_time
from detector.core.alarm import Prior
from detector.core.compiled import entry
from detector.core.event_time import Clocks, Time
from detector.core.readings import NOT_JUDGED, Disposition
from detector.core.rules import Settings, rules_of
from detector.core.stream_state import NEVER
from tests.core.builders import Records

PRIOR = Prior(1.0, 1.0)
OK, LATE, DUPLICATE = NOT_JUDGED, int(Disposition.LATE), int(Disposition.DUPLICATE)
SEEN = np.dtype(
    [
        *((name, "i8") for name in ("watermark_us", "clock_us", "disposition", "step_us", "is_first")),
        *((name, "f8") for name in ("interval_us", "per_reading_us", "due_us", "evicted_us")),
    ]
)
"""Of a reading: where its partition stands; what became of it, and of its stream; and when that was to time out before it."""


@entry
def put_in_order(heads, times, rows, slots, event_times_us, rules, seen):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        s, one = heads[rows[i]], seen[i]
        event_time.move_clock(times, slots[i], event_times_us[i])
        one.watermark_us, one.clock_us = times[0, slots[i]], times[1, slots[i]]
        is_new, heard_at_us = s.event_time_us == NEVER, s.heard_at_us
        one.due_us = event_time.timeout_at(s, rules[0])
        one.disposition, is_evicted, one.step_us = event_time.put_in_order(s, event_times_us[i], one.watermark_us, one.clock_us, rules[0])
        one.is_first = is_new or is_evicted
        one.interval_us, one.per_reading_us = s.interval_us, s.interval_us / s.per_time
        one.evicted_us = heard_at_us + rules[0].idle_ttl_us if is_evicted else np.inf


@entry
def move_clock(times, slots, event_times_us, found):  # type: ignore[no-untyped-def]
    for i in range(slots.shape[0]):
        event_time.move_clock(times, slots[i], event_times_us[i])
        found[i] = times[:, slots[i]]


def moved(clocks: Clocks, slots: NDArray[np.int64], event_times_us: NDArray[np.int64]) -> list[list[int]]:
    """Where a reading's partition stands after it: one of `Time` each."""
    found = np.zeros((len(slots), 3), np.int64)
    move_clock(clocks.times, slots, event_times_us, found)
    moments: list[list[int]] = found.tolist()
    return moments


def ordered(
    readings: list[tuple[int, int, int]], idle_ttl_us: int = 10**9, cuts: tuple[int, ...] = (), keeps_ties: bool = False
) -> tuple[Any, Clocks]:
    """(row, slot, event time) one after the other, possibly cut: SEEN[N], and the clocks at the end. A stream times out after 3 intervals."""
    records, clocks = Records(rows=8), Clocks()
    clocks.grow(4)
    rules = rules_of(Settings(warmup_readings=2, timeout_intervals=3.0, idle_ttl_us=idle_ttl_us, keeps_ties=keeps_ties), PRIOR)
    columns, seen, bounds = np.array(readings, np.int64).reshape(-1, 3).T, np.zeros(len(readings), SEEN), [0, *cuts, len(readings)]
    for start, end in itertools.pairwise(bounds):
        put_in_order(records.heads, clocks.times, *(np.ascontiguousarray(column[start:end]) for column in columns), rules, seen[start:end])
    return seen.view(np.recarray), clocks


def test_late_and_duplicate_are_measured_by_the_streams_own_newest_reading() -> None:
    seen, _ = ordered([(0, 0, 100), (1, 0, 50), (0, 0, 100), (0, 0, 99), (1, 0, 51), (0, 0, 101)])
    assert seen.disposition.tolist() == [OK, OK, DUPLICATE, LATE, OK, OK]
    assert seen.is_first.astype(bool).tolist() == [True, True, False, False, False, False]
    assert seen.interval_us.tolist() == [0, 0, 0, 0, 1, 1]


def test_ties_that_are_kept_are_judged_in_log_order_and_take_no_time() -> None:
    readings = [(0, 0, 100), (0, 0, 100), (0, 0, 99), (1, 0, 90), (0, 0, 100), (0, 0, 103), (1, 0, 90), (0, 0, 103), (0, 0, 100)]
    seen, _ = ordered(readings, keeps_ties=True)
    assert seen.disposition.tolist() == [OK, OK, LATE, OK, OK, OK, OK, OK, LATE]
    assert seen.is_first.astype(bool).tolist() == [True, False, False, True, False, False, False, False, False]
    assert seen.step_us.tolist() == [0, 0, 0, 0, 0, 3, 0, 0, 0]


def test_bursts_of_one_time_leave_the_usual_interval_as_it_is() -> None:
    """A stream that is heard every 100 ms, a thousand readings at once, does not time out after three times 0.1 ms; its budget counts readings.
    A thousand readings of the first time tell nothing of how often it is heard."""
    burst, every_us = 1_000, 100_000
    readings = [(0, 0, every_us * k) for k in range(60) for _ in range(burst)]
    seen, _ = ordered(readings, keeps_ties=True)
    assert not seen.disposition.any()
    assert set(seen.interval_us[burst:].tolist()) == {every_us}
    assert set(seen.per_reading_us[burst:].tolist()) == {every_us / burst}
    assert not seen.interval_us[:burst].any()
    assert np.isinf(seen.due_us[: burst + 1]).all()
    assert (seen.due_us[2 * burst :] >= seen.clock_us[2 * burst :] + 2 * every_us).all()

    single, _ = ordered(
        [*((0, 0, every_us * k) for k in range(60)), *((0, 0, every_us * 59),) * 10_000, (0, 0, every_us * 60)], keeps_ties=True
    )
    assert single.interval_us[-1] == every_us
    assert single.per_reading_us[-1] == pytest.approx(every_us / 1.45)  # one burst counts as ten times what is usual at most


def test_the_watermark_is_the_partitions_latest_time_and_never_falls() -> None:
    seen, clocks = ordered([(0, 0, 100), (1, 1, 500), (0, 0, 90), (2, 0, 80), (0, 0, 300), (2, 0, 81)])
    assert seen.watermark_us.tolist() == [100, 500, 100, 100, 300, 300]
    assert [clocks[slot].watermark_us for slot in range(4)] == [300, 500, NEVER, NEVER]


def test_a_stream_unheard_for_long_is_new_when_it_comes_back() -> None:
    """By the watermark: other streams, or its own reading, may have moved it."""
    seen, _ = ordered([(0, 0, 0), (1, 0, 0), (0, 0, 100), (1, 0, 101), (0, 0, 250), (1, 0, 5)], idle_ttl_us=100)
    assert seen.is_first.astype(bool).tolist() == [True, True, False, True, True, True]
    assert seen.disposition.tolist() == [OK] * 6
    assert seen.evicted_us.tolist() == [np.inf, np.inf, np.inf, 100, 200, 201]


def test_late_readings_do_not_count_as_heard() -> None:
    seen, _ = ordered([(0, 0, 50), (1, 0, 100), (0, 0, 40), (1, 0, 160), (0, 0, 161)], idle_ttl_us=100)
    assert seen.disposition.tolist() == [OK, OK, LATE, OK, OK]
    assert seen.is_first.astype(bool).tolist() == [True, True, False, False, True]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-20, 60)), max_size=40),
    st.integers(1, 60),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_time_moves_forward_for_every_stream(
    readings: list[tuple[int, int]], idle_ttl_us: int, cuts: tuple[int, int], keeps_ties: bool
) -> None:
    log = [(row, row % 2, time) for row, time in readings]
    seen, ends = ordered(log, idle_ttl_us, keeps_ties=keeps_ties)
    newest: dict[int, int] = {}
    heard_at: dict[int, int] = {}
    for k, (row, slot, time) in enumerate(log):
        assert seen.watermark_us[k] == max(t for _, s, t in log[: k + 1] if s == slot)
        if seen.is_first[k]:
            assert row not in newest or seen.watermark_us[k] > seen.evicted_us[k] == heard_at[row] + idle_ttl_us
        else:
            expected = LATE if time < newest[row] else DUPLICATE if time == newest[row] and not keeps_ties else OK
            assert seen.disposition[k] == expected
        if seen.disposition[k] == OK:
            newest[row] = time
            heard_at[row] = int(seen.watermark_us[k])
    in_parts, clocks = ordered(log, idle_ttl_us, tuple(sorted(min(cut, len(log)) for cut in cuts)), keeps_ties)
    assert in_parts.tobytes() == seen.tobytes()
    assert [clocks[slot] for slot in range(2)] == [ends[slot] for slot in range(2)]


def test_the_usual_interval_is_learned_and_hardly_moved_by_one_gap() -> None:
    regular = [(0, 0, 2_000 * k) for k in range(50)]
    gap = 98_000 + 10**9
    seen, _ = ordered([*regular, (0, 0, gap), *((0, 0, gap + 3_000 * k) for k in range(1, 300))], idle_ttl_us=10**12)
    assert seen.interval_us[0] == 0
    assert seen.interval_us[1:50].tolist() == [2_000] * 49
    assert seen.interval_us[50] == 2_000 * 1.45
    assert seen.interval_us[-1] == pytest.approx(3_000, rel=1e-3)


def test_a_pause_of_the_whole_partition_does_not_pass_on_its_clock() -> None:
    readings = [(row, 0, 10_000 * k + 1_000 * row) for k in range(50) for row in range(2)]
    resumed = [(row, 0, time + 2 * 10**6) for row, _, time in readings]
    seen, clocks = ordered([*readings, *resumed])
    before, after = seen.clock_us[len(readings) - 1], seen.clock_us[len(readings)]
    assert 16_000 < after - before <= 18_000  # twice the usual longest gap
    assert clocks[0].clock_us == seen.clock_us[-1] < clocks[0].watermark_us - 900_000
    assert (seen.clock_us <= seen.due_us).all()


def test_the_clock_follows_bursts_and_learns_a_slower_pace() -> None:
    """Three readings at once, then a long gap: the gap is usual. A pace ten times slower is usual after a few readings."""
    bursts = [(row, 0, 60_000_000 * k + 1_000 * row) for k in range(100) for row in range(3)]
    slower = [(0, 0, 60_000_000 * 99 + 600_000_000 * k) for k in range(1, 20)]
    seen, _ = ordered([*bursts, *slower], idle_ttl_us=10**12)
    at, end = 3 * 50, 3 * 99
    assert seen.clock_us[end] - seen.clock_us[at] == seen.watermark_us[end] - seen.watermark_us[at]
    assert seen.clock_us[-1] - seen.clock_us[-10] == seen.watermark_us[-1] - seen.watermark_us[-10]


def test_the_clock_depends_on_event_times_alone() -> None:
    """So a restored partition can be given its time, and its rows one by one."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(10_000, 300)).astype(np.int64) - rng.integers(0, 30_000, 300)
    slots = np.zeros(300, np.int64)
    whole, resumed, before = Clocks(), Clocks(), Clocks()
    for clocks in (whole, resumed, before):
        clocks.grow(1)
    expected = moved(whole, slots, times)
    moved(before, slots[:130], times[:130])
    resumed[0] = before[0]
    assert moved(resumed, slots[130:], times[130:]) == expected[130:]
    assert resumed[0] == whole[0] != Time()


def test_a_deadline_is_as_many_intervals_after_the_stream_was_heard() -> None:
    """The second stream stops at 41 ms; the clock passes its deadline with the first one's reading at 80 ms."""
    ms = 1_000
    readings = [(row, 0, 10 * ms * k + ms * row) for k in range(5) for row in range(2)] + [(0, 0, 10 * ms * k) for k in range(5, 12)]
    readings.append((1, 0, 115 * ms))
    seen, _ = ordered(readings)
    assert seen.due_us[-1] == seen.clock_us[9] + 30 * ms
    assert readings[int(np.argmax(seen.clock_us > seen.due_us[-1]))] == (0, 0, 80 * ms)
