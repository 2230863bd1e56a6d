"""What event time decides, in log order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.event_time import COLUMNS, NEVER, Order, put_in_order
from detector.core.readings import Disposition
from tests.core.builders import arrays_of

OK, LATE, DUPLICATE = 0, int(Disposition.LATE), int(Disposition.DUPLICATE)


def ordered(readings: list[tuple[int, int, int]], idle_max_us: int = 10**9, cuts: tuple[int, ...] = ()) -> tuple[Order, np.ndarray]:
    """(row, slot, event time) one after the other, possibly cut; and the watermarks at the end."""
    states, watermark_us = arrays_of(COLUMNS, 8), np.full(4, NEVER, np.int64)
    columns = np.array(readings, np.int64).reshape(-1, 3)
    bounds = [0, *cuts, len(readings)]
    parts = []
    for k in range(len(bounds) - 1):
        part = columns[bounds[k] : bounds[k + 1]]
        parts.append(put_in_order(part[:, 0].astype(np.int32), part[:, 1].astype(np.int32), part[:, 2], watermark_us, idle_max_us, states))
    names = ("disposition", "is_first", "elapsed_us", "heard_at_us", "watermark_us")
    return Order(*(np.concatenate([getattr(part, name) for part in parts]) for name in names)), watermark_us


def test_late_and_duplicate_are_measured_by_the_streams_own_newest_reading() -> None:
    order, _ = ordered([(0, 0, 100), (1, 0, 50), (0, 0, 100), (0, 0, 99), (1, 0, 51), (0, 0, 101)])
    assert order.disposition.tolist() == [OK, OK, DUPLICATE, LATE, OK, OK]
    assert order.is_first.tolist() == [True, True, False, False, False, False]
    assert order.elapsed_us.tolist() == [-1, -1, -1, -1, 1, 1]


def test_the_watermark_is_the_partitions_latest_time_and_never_falls() -> None:
    order, watermark_us = ordered([(0, 0, 100), (1, 1, 500), (0, 0, 90), (2, 0, 80), (0, 0, 300), (2, 0, 81)])
    assert order.watermark_us.tolist() == [100, 500, 100, 100, 300, 300]
    assert watermark_us.tolist() == [300, 500, NEVER, NEVER]
    assert order.heard_at_us.tolist() == [NEVER, NEVER, 100, NEVER, 100, 100]


def test_a_stream_unheard_for_long_is_new_when_it_comes_back() -> None:
    """By the watermark: other streams, or its own reading, may have moved it."""
    order, _ = ordered([(0, 0, 0), (1, 0, 0), (0, 0, 100), (1, 0, 101), (0, 0, 250), (1, 0, 5)], idle_max_us=100)
    assert order.is_first.tolist() == [True, True, False, True, True, True]
    assert order.disposition.tolist() == [OK] * 6
    assert order.elapsed_us.tolist() == [-1, -1, 100, -1, -1, -1]


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
    for k, (row, slot, time) in enumerate(log):
        assert order.watermark_us[k] == max(t for _, s, t in log[: k + 1] if s == slot)
        if order.is_first[k]:
            assert row not in newest or order.watermark_us[k] - order.heard_at_us[k] > idle_max_us
        else:
            expected = LATE if time < newest[row] else DUPLICATE if time == newest[row] else OK
            assert order.disposition[k] == expected
            assert order.elapsed_us[k] == (time - newest[row] if expected == OK else -1)
        if order.disposition[k] == OK:
            newest[row] = time
    in_parts, _ = ordered(log, idle_max_us, tuple(sorted(min(cut, len(log)) for cut in cuts)))
    for name in ("disposition", "is_first", "elapsed_us", "heard_at_us", "watermark_us"):
        assert getattr(in_parts, name).tolist() == getattr(order, name).tolist()
