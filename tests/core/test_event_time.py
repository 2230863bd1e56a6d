"""What event time decides, in log order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.event_time import COLUMNS, NEVER, Clocks, Order, Passing, Patience, put_in_order
from detector.core.readings import Disposition
from tests.core.builders import arrays_of

OK, LATE, DUPLICATE = 0, int(Disposition.LATE), int(Disposition.DUPLICATE)


FIELDS = ("disposition", "is_first", "interval_us", "watermark_us", "clock_us", "missed_us", "expired_us")


def ordered(readings: list[tuple[int, int, int]], idle_max_us: int = 10**9, cuts: tuple[int, ...] = ()) -> tuple[Order, Clocks]:
    """(row, slot, event time) one after the other, possibly cut; and the clocks at the end. Missed after 3 intervals."""
    states, clocks, patience = arrays_of(COLUMNS, 8), Clocks(), Patience(3.0, 2, idle_max_us)
    clocks.grow(4)
    columns = np.array(readings, np.int64).reshape(-1, 3)
    bounds = [0, *cuts, len(readings)]
    parts = []
    for k in range(len(bounds) - 1):
        part = columns[bounds[k] : bounds[k + 1]]
        parts.append(put_in_order(part[:, 0].astype(np.int32), part[:, 1].astype(np.int32), part[:, 2], clocks, patience, states))
    return Order(*(np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS)), clocks


def test_late_and_duplicate_are_measured_by_the_streams_own_newest_reading() -> None:
    order, _ = ordered([(0, 0, 100), (1, 0, 50), (0, 0, 100), (0, 0, 99), (1, 0, 51), (0, 0, 101)])
    assert order.disposition.tolist() == [OK, OK, DUPLICATE, LATE, OK, OK]
    assert order.is_first.tolist() == [True, True, False, False, False, False]
    assert order.interval_us.tolist() == [0, 0, 0, 0, 1, 1]


def test_the_watermark_is_the_partitions_latest_time_and_never_falls() -> None:
    order, clocks = ordered([(0, 0, 100), (1, 1, 500), (0, 0, 90), (2, 0, 80), (0, 0, 300), (2, 0, 81)])
    assert order.watermark_us.tolist() == [100, 500, 100, 100, 300, 300]
    assert clocks.watermark_us.tolist() == [300, 500, NEVER, NEVER]


def test_a_stream_unheard_for_long_is_new_when_it_comes_back() -> None:
    """By the watermark: other streams, or its own reading, may have moved it."""
    order, _ = ordered([(0, 0, 0), (1, 0, 0), (0, 0, 100), (1, 0, 101), (0, 0, 250), (1, 0, 5)], idle_max_us=100)
    assert order.is_first.tolist() == [True, True, False, True, True, True]
    assert order.disposition.tolist() == [OK] * 6
    assert order.expired_us.tolist() == [np.inf, np.inf, np.inf, 100, 200, 201]


def test_late_readings_do_not_count_as_heard() -> None:
    order, _ = ordered([(0, 0, 50), (1, 0, 100), (0, 0, 40), (1, 0, 160), (0, 0, 161)], idle_max_us=100)
    assert order.disposition.tolist() == [OK, OK, LATE, OK, OK]
    assert order.is_first.tolist() == [True, True, False, False, True]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-20, 60)), max_size=40),
    st.integers(1, 60),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
@settings(max_examples=200, deadline=None)
def test_time_moves_forward_for_every_stream(readings: list[tuple[int, int]], idle_max_us: int, cuts: tuple[int, int]) -> None:
    log = [(row, row % 2, time) for row, time in readings]
    order, _ = ordered(log, idle_max_us)
    newest: dict[int, int] = {}
    heard_at: dict[int, int] = {}
    for k, (row, slot, time) in enumerate(log):
        assert order.watermark_us[k] == max(t for _, s, t in log[: k + 1] if s == slot)
        if order.is_first[k]:
            assert row not in newest or order.watermark_us[k] > order.expired_us[k] == heard_at[row] + idle_max_us
        else:
            expected = LATE if time < newest[row] else DUPLICATE if time == newest[row] else OK
            assert order.disposition[k] == expected
        if order.disposition[k] == OK:
            newest[row] = time
            heard_at[row] = int(order.watermark_us[k])
    in_parts, _ = ordered(log, idle_max_us, tuple(sorted(min(cut, len(log)) for cut in cuts)))
    for name in FIELDS:
        assert getattr(in_parts, name).tolist() == getattr(order, name).tolist()


def test_the_usual_interval_is_learned_and_hardly_moved_by_one_gap() -> None:
    regular = [(0, 0, 2_000 * k) for k in range(50)]
    gap = 98_000 + 10**9
    order, _ = ordered([*regular, (0, 0, gap), *((0, 0, gap + 3_000 * k) for k in range(1, 300))], idle_max_us=10**12)
    assert order.interval_us[0] == 0
    assert order.interval_us[1:50].tolist() == [2_000] * 49
    assert order.interval_us[50] == 2_000 * 1.45
    assert order.interval_us[-1] == pytest.approx(3_000, rel=1e-3)


def test_a_pause_of_the_whole_partition_does_not_pass_on_its_clock() -> None:
    readings = [(row, 0, 10 * k + row) for k in range(5) for row in range(2)]
    resumed = [(row, 0, time + 1_000) for row, _, time in readings]
    order, clocks = ordered([*readings, *resumed])
    before, after = order.clock_us[len(readings) - 1], order.clock_us[len(readings)]
    assert after - before == 20  # two intervals of the stream that came back first
    assert clocks.clock_us[0] == order.clock_us[-1] < clocks.watermark_us[0] - 900
    assert (order.clock_us <= order.missed_us).all()


def test_a_deadline_is_as_many_intervals_after_the_stream_was_heard() -> None:
    """The second stream stops at 41; the clock passes its deadline with the first one's reading at 80."""
    readings = [(row, 0, 10 * k + row) for k in range(5) for row in range(2)] + [(0, 0, 10 * k) for k in range(5, 12)] + [(1, 0, 115)]
    order, _ = ordered(readings)
    heard_clock = order.clock_us[9]
    assert order.missed_us[-1] == heard_clock + 30
    passing = Passing(np.zeros(len(readings), np.int32), order)
    assert readings[passing.clock(0, float(order.missed_us[-1]))] == (0, 0, 80)
    assert passing.watermark(0, 115.0) == passing.beyond == len(readings)
