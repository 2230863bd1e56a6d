"""Long-format readings assembled to whole ones."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.core import assembler, event_time
from detector.core.alarm import Prior
from detector.core.compiled import entry
from detector.core.event_time import Clocks
from detector.core.readings import NOT_JUDGED, SOME, Disposition
from detector.core.rules import Settings, rules_of
from detector.core.stream_state import Part
from tests.core.builders import Records

WHOLE, LATE, DUPLICATE, PARTIAL = NOT_JUDGED, int(Disposition.LATE), int(Disposition.DUPLICATE), int(Disposition.PARTIAL)
EMPTY = int(Disposition.EMPTY)
nan = float("nan")
D = 3
Value = tuple[int, int, int, float]
"""(row, event time, channel, value)"""


@entry
def assemble(heads, floats, at, rows, channels, times_us, values, keeps_ties, dispositions):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        row = rows[i]
        dispositions[i], times_us[i] = assembler.assemble(heads[row], floats[row], at[0], channels[i], times_us[i], values[i], keeps_ties)


@entry
def put_in_order(heads, times, rows, times_us, rules, dispositions):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        event_time.move_clock(times, 0, times_us[i])
        found = event_time.put_in_order(heads[rows[i]], times_us[i], times[0, 0], times[1, 0], rules[0])
        dispositions[i] = found[0]


def fed(story: list[Value], channels: int = D, keeps_ties: bool = False) -> list[tuple[int, int, list[float]]]:
    """Per value: disposition; and event time and values of the reading that it made whole."""
    parts: list[Part] = [("partial", (channels,), np.nan), ("has_partial", (channels,), 0)]
    records, values, dispositions = (
        Records(parts, rows=2),
        np.full((len(story), channels), np.nan, np.float32),
        np.zeros(len(story), np.uint8),
    )
    for i, (_, _, channel, number) in enumerate(story):
        values[i, channel] = number
    rows, times_us, of_channels = (np.array([one[k] for one in story], np.int64) for k in range(3))
    assemble(records.heads, records.floats, records.layout.offsets, rows, of_channels, times_us, values, keeps_ties, dispositions)
    return list(zip(dispositions.tolist(), times_us.tolist(), values.tolist(), strict=True))


def joined(story: list[tuple[int, tuple[float, float, float]]], keeps_ties: bool = False) -> list[tuple[int, int, list[float]]]:
    """As `fed`, with parts of some channels: event time, and values with NaN for those that the part has not."""
    parts: list[Part] = [("partial", (D,), np.nan), ("has_partial", (D,), 0)]
    records, values = Records(parts, rows=1), np.array([value for _, value in story], np.float32)
    count = len(story)
    times_us, dispositions = np.array([time for time, _ in story], np.int64), np.zeros(count, np.uint8)
    rows, channels = np.zeros(count, np.int64), np.full(count, SOME, np.int64)
    assemble(records.heads, records.floats, records.layout.offsets, rows, channels, times_us, values, keeps_ties, dispositions)
    return list(zip(dispositions.tolist(), times_us.tolist(), values.tolist(), strict=True))


def placed_in_time(readings: list[tuple[int, int]], keeps_ties: bool) -> list[int]:
    """What becomes of whole readings, (row, event time), where event time decides next."""
    clocks, dispositions = Clocks(), np.zeros(len(readings), np.uint8)
    clocks.grow(1)
    rows, times_us = (np.array([reading[k] for reading in readings], np.int64) for k in range(2))
    rules = rules_of(Settings(timeout_intervals=0.0, idle_ttl_us=10**9, keeps_ties=keeps_ties), Prior(1.0, 1.0))
    put_in_order(Records(rows=2).heads, clocks.times, rows, times_us, rules, dispositions)
    found: list[int] = dispositions.tolist()
    return found


def wholes(told: list[tuple[int, int, list[float]]]) -> str:
    return repr([(time, values) for disposition, time, values in told if disposition == WHOLE])


def test_the_last_channel_completes_a_reading() -> None:
    told = fed([(0, 10, 2, 1.0), (0, 10, 0, 2.0), (0, 10, 1, 3.0)])
    assert [one[0] for one in told] == [PARTIAL, PARTIAL, WHOLE]
    assert told[2][1:] == (10, [2.0, 3.0, 1.0])


def test_a_later_time_completes_what_lacks_channels() -> None:
    told = fed([(0, 10, 2, 1.0), (0, 11, 0, 2.0), (0, 11, 1, 3.0), (0, 13, 1, 4.0)])
    assert [one[0] for one in told] == [PARTIAL, WHOLE, PARTIAL, WHOLE]
    assert wholes(told) == "[(10, [nan, nan, 1.0]), (11, [2.0, 3.0, nan])]"


def test_what_comes_after_a_later_one_is_late_and_what_comes_twice_a_duplicate() -> None:
    told = fed([(0, 10, 0, 1.0), (0, 11, 0, 2.0), (0, 10, 1, 9.0), (0, 9, 1, 9.0), (0, 11, 0, 9.0), (0, 11, 1, 3.0), (0, 11, 2, 4.0)])
    assert [one[0] for one in told] == [PARTIAL, WHOLE, LATE, LATE, DUPLICATE, PARTIAL, WHOLE]
    assert told[-1][2] == [2.0, 3.0, 4.0]


def test_a_value_that_comes_again_after_its_reading_was_whole_begins_another() -> None:
    """Its time tells in the end: `put_in_order` finds it to be a duplicate, or late."""
    again = fed([(0, 10, 0, 1.0), (0, 10, 1, 1.0), (0, 10, 2, 1.0), (0, 10, 1, 5.0), (0, 9, 1, 5.0), (0, 11, 0, 2.0)])
    assert [one[0] for one in again] == [PARTIAL, PARTIAL, WHOLE, PARTIAL, LATE, WHOLE]
    assert wholes(again) == "[(10, [1.0, 1.0, 1.0]), (10, [nan, 5.0, nan])]"


def test_where_ties_are_kept_a_second_value_of_a_channel_begins_the_next_reading_of_that_time() -> None:
    first, second, third = (0, 10, 0, 1.0), (0, 10, 0, 2.0), (0, 10, 0, 5.0)
    told = fed([first, second, (0, 10, 1, 3.0), (0, 10, 2, 4.0), third, (0, 9, 1, 9.0), (0, 10, 2, 6.0), (0, 11, 0, 7.0)], keeps_ties=True)
    assert [one[0] for one in told] == [PARTIAL, WHOLE, PARTIAL, WHOLE, PARTIAL, LATE, PARTIAL, WHOLE]
    assert wholes(told) == "[(10, [1.0, nan, nan]), (10, [2.0, 3.0, 4.0]), (10, [5.0, nan, 6.0])]"
    in_turns = fed([(0, 10, k % D, float(k)) for k in range(3 * D)], keeps_ties=True)
    assert wholes(in_turns) == "[(10, [0.0, 1.0, 2.0]), (10, [3.0, 4.0, 5.0]), (10, [6.0, 7.0, 8.0])]"


def test_nothing_of_one_reading_remains_in_the_next() -> None:
    told = fed([*((0, 10, channel, 1.0) for channel in range(D)), (0, 11, 1, 2.0), (0, 12, 1, 3.0)])
    assert wholes(told) == "[(10, [1.0, 1.0, 1.0]), (11, [nan, 2.0, nan])]"


def test_streams_are_apart() -> None:
    told = fed([(0, 10, 0, 1.0), (1, 10, 0, 5.0), (0, 10, 1, 1.0), (1, 12, 0, 6.0), (0, 10, 2, 1.0)])
    assert [one[0] for one in told] == [PARTIAL, PARTIAL, PARTIAL, WHOLE, WHOLE]
    assert wholes(told) == "[(10, [5.0, nan, nan]), (10, [1.0, 1.0, 1.0])]"


def test_with_one_channel_every_value_is_whole() -> None:
    told = fed([(0, 10, 0, 1.0), (0, 12, 0, 2.0), (0, 12, 0, 2.0), (0, 11, 0, 2.0)], channels=1)
    assert [one[0] for one in told] == [WHOLE] * 4  # what is late or a duplicate is found by its time, like any whole reading


def test_a_value_that_is_missing_is_a_value_that_came() -> None:
    told = fed([(0, 10, 0, 1.0), (0, 10, 1, float("nan")), (0, 10, 1, 7.0), (0, 10, 2, 3.0)])
    assert [one[0] for one in told] == [PARTIAL, PARTIAL, DUPLICATE, WHOLE]
    assert np.isnan(told[-1][2][1])


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, D - 1)), max_size=40),
    st.booleans(),
)
@example([(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 0), (0, 1, 0)], False)  # the first value comes again after its reading was whole
@settings(max_examples=200, deadline=None)
def test_each_value_stands_in_one_reading_at_most(story: list[tuple[int, int, int]], keeps_ties: bool) -> None:
    parts: list[Value] = [(row, time, channel, float(number)) for number, (row, time, channel) in enumerate(story)]
    told = fed(parts, keeps_ties=keeps_ties)
    used: list[float] = []
    last_time: dict[int, int] = {}
    made = [(row, time) for (row, _, _, _), (disposition, time, _) in zip(parts, told, strict=True) if disposition == WHOLE]
    found = iter(placed_in_time(made, keeps_ties))
    for (row, _, _, _), (disposition, time, values) in zip(parts, told, strict=True):
        assert disposition in (WHOLE, LATE, DUPLICATE, PARTIAL)
        if disposition != WHOLE:
            continue
        if next(found) == WHOLE:
            assert time > last_time.get(row, -1) - keeps_ties  # readings of a stream that are judged come out in order
            last_time[row] = time
        else:
            assert time <= last_time[row] - keeps_ties
        for channel, value in enumerate(values):
            if not np.isnan(value):
                used.append(value)
                origin = parts[int(value)]
                assert origin[:3] == (row, time, channel)
                assert told[int(value)][0] not in (LATE, DUPLICATE)
    assert len(used) == len(set(used))


def test_parts_of_several_channels_are_joined() -> None:
    told = joined([(10, (1, 2, nan)), (10, (nan, nan, 3)), (20, (4, nan, nan)), (30, (5, nan, 6)), (30, (nan, 7, nan))])
    assert [disposition for disposition, *_ in told] == [PARTIAL, WHOLE, PARTIAL, WHOLE, WHOLE]
    assert wholes(told) == repr([(10, [1.0, 2.0, 3.0]), (20, [4.0, nan, nan]), (30, [5.0, 7.0, 6.0])])


def test_a_part_with_a_channel_that_came_already_is_a_duplicate_or_begins_the_next() -> None:
    story: list[tuple[int, tuple[float, float, float]]] = [(10, (1, 2, nan)), (10, (nan, 5, 3)), (20, (4, 5, 6))]
    told = joined(story)
    assert [disposition for disposition, *_ in told] == [PARTIAL, DUPLICATE, WHOLE]
    assert wholes(told) == repr([(10, [1.0, 2.0, nan])])
    told = joined(story, keeps_ties=True)
    assert [disposition for disposition, *_ in told] == [PARTIAL, WHOLE, WHOLE]
    assert wholes(told) == repr([(10, [1.0, 2.0, nan]), (10, [nan, 5.0, 3.0])])


def test_a_whole_reading_without_any_value_is_empty() -> None:
    told = fed([(0, 10, 0, nan), (0, 10, 1, nan), (0, 10, 2, nan), (0, 20, 0, nan), (0, 30, 1, 1.0)])
    assert [disposition for disposition, *_ in told] == [PARTIAL, PARTIAL, EMPTY, PARTIAL, EMPTY]
