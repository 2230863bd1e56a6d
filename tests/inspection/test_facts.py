"""What readings are like in time and by stream."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detector.inspection.facts import facts_of, period, throughput_hz

MINUTE = 60_000_000
START = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z


def facts(stream: list[int], minutes: list[float]):  # type: ignore[no-untyped-def]
    times = np.array([START + int(minute * MINUTE) for minute in minutes], np.int64)
    return facts_of(["a", "b", "c"], np.array(stream, np.int32), times)


def test_streams_and_their_sizes() -> None:
    found = facts([0, 1, 0, 1, 0, 2], [0, 0, 1, 1, 2, 2])
    assert (found.readings, found.streams, found.least, found.median, found.most) == (6, 3, 1, 2, 3)
    assert found.largest == (("a", 3), ("b", 2), ("c", 1))
    assert (found.first_us, found.last_us) == (START, START + 2 * MINUTE)
    assert found.interval_us == MINUTE
    assert found.rate_hz == 3 / 60


def test_gaps_ties_and_late_ones_are_counted_by_stream() -> None:
    found = facts([0] * 8, [0, 1, 2, 2, 1, 3, 4, 40])
    assert (found.ties, found.late, found.gaps) == (1, 1, 1)
    assert found.longest_gap_us == 36 * MINUTE
    apart = facts([0, 1] * 3, [0, 5, 1, 4, 2, 3])
    assert (apart.ties, apart.late) == (0, 2)  # b goes back, a does not


def test_one_reading_has_no_interval() -> None:
    found = facts([0], [0])
    assert math.isnan(found.interval_us)
    assert (found.rate_hz, found.gaps, found.longest_gap_us) == (0, 0, 0)


@pytest.mark.parametrize(
    ("microseconds", "resolution"),
    [(0, "days"), (3_600_000_000, "hours"), (MINUTE, "minutes"), (1_000_000, "seconds"), (5_000, "milliseconds"), (7, "microseconds")],
)
def test_resolution(microseconds: int, resolution: str) -> None:
    times = np.array([START, START + microseconds], np.int64)
    assert facts_of(["a"], np.zeros(2, np.int32), times).resolution == resolution


@pytest.mark.parametrize(
    ("microseconds", "words"),
    [
        (5, "5 us"),
        (1_500, "1.5 ms"),
        (2e6, "2 s"),
        (90e6, "1.5 min"),
        (36e8, "1 h"),
        (86_400e6 * 400, "400 d"),
        (86_400e6 * 365.25 * 3, "3 years"),
    ],
)
def test_periods_in_words(microseconds: float, words: str) -> None:
    assert period(microseconds) == words


def test_throughput_is_that_of_all_partitions_whatever_order_and_backlog() -> None:
    seconds = np.arange(1_000)
    times = np.concatenate((START + 1_000_000 * seconds, START + 100_000 * seconds)).astype(np.int64)
    times[5] = START + 10**12  # one absurd time does not count
    partition = np.repeat(np.arange(2, dtype=np.int32), 1_000)
    assert throughput_hz(partition, times) == pytest.approx(11, rel=0.02)
    assert math.isnan(throughput_hz(partition, np.zeros(2_000, np.int64)))
