"""What readings are like in time and by stream: intervals, resolution, gaps, ties, and what the service would not judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GAP_INTERVALS = 10
"""A step of more than so many of the usual interval is a gap."""
LARGEST = 3
RESOLUTIONS_US = {
    "days": 86_400_000_000,
    "hours": 3_600_000_000,
    "minutes": 60_000_000,
    "seconds": 1_000_000,
    "milliseconds": 1_000,
    "microseconds": 1,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What readings are like.

    readings, streams       how many
    least, median, most     readings of a stream
    largest                 the streams with the most readings, and how many
    first_us, last_us       event times
    interval_us             usual time between readings of a stream; NaN where no stream has two
    resolution              of event time: the coarsest of RESOLUTIONS_US that all times are whole multiples of
    gaps                    steps of more than GAP_INTERVALS of the usual interval
    longest_gap_us          the longest step of a stream
    ties                    readings with the stream and event time of the one before
    late                    readings whose event time is before the newest of their stream, in the order given
    rate_hz                 readings per second, if every stream goes on at its usual interval
    """

    readings: int
    streams: int
    least: int
    median: float
    most: int
    largest: tuple[tuple[str, int], ...]
    first_us: int
    last_us: int
    interval_us: float
    resolution: str
    gaps: int
    longest_gap_us: int
    ties: int
    late: int
    rate_hz: float


def facts_of(names: Sequence[str], stream: NDArray[np.int32], event_time_us: NDArray[np.int64]) -> Facts:
    """Facts about T readings, one at least.

    names   of the streams
    stream  i4[T] index into them;  event_time_us  i8[T]; both in the order in which they come
    """
    order = np.argsort(stream, kind="stable")
    times, of_stream = event_time_us[order], stream[order]
    starts = np.flatnonzero(np.r_[True, np.diff(of_stream) != 0])
    late, ties = _late_and_ties(times, starts)
    counts = np.diff(np.r_[starts, len(times)])
    by_time = np.lexsort((times, of_stream))
    steps = np.diff(times[by_time])[np.diff(of_stream) == 0]
    onward = steps[steps > 0]
    interval = float(np.median(onward)) if len(onward) else float("nan")
    largest = np.argsort(-counts, kind="stable")[:LARGEST]
    return Facts(
        readings=len(times),
        streams=len(starts),
        least=int(counts.min()),
        median=float(np.median(counts)),
        most=int(counts.max()),
        largest=tuple((names[of_stream[starts[place]]], int(counts[place])) for place in largest.tolist()),
        first_us=int(times.min()),
        last_us=int(times.max()),
        interval_us=interval,
        resolution=next(name for name, unit in RESOLUTIONS_US.items() if not (times % unit).any()),
        gaps=int((onward > GAP_INTERVALS * interval).sum()) if len(onward) else 0,
        longest_gap_us=int(onward.max()) if len(onward) else 0,
        ties=ties,
        late=late,
        rate_hz=len(starts) * 1e6 / interval if len(onward) else 0.0,
    )


def throughput_hz(partition: NDArray[np.int32], time_us: NDArray[np.int64]) -> float:
    """Readings per second of contiguous ranges of partitions, all together; the middle 90 % of each count. NaN where times do not tell."""
    found = 0.0
    for number in np.unique(partition).tolist():
        times = time_us[partition == number]
        span_us = float(np.subtract(*np.percentile(times, (95, 5))))
        found += 0.9 * len(times) * 1e6 / span_us if span_us > 0 else 0.0
    return found or float("nan")


def _late_and_ties(times_us: NDArray[np.int64], starts: NDArray[np.intp]) -> tuple[int, int]:
    """How many readings are before the newest of their stream so far, and how many are at it. times_us: stream after stream"""
    late = ties = 0
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(times_us)], strict=True):
        own = times_us[start:end]
        newest = np.maximum.accumulate(own)
        late += int((own[1:] < newest[:-1]).sum())
        ties += int((own[1:] == newest[:-1]).sum())
    return late, ties


def period(microseconds: float) -> str:
    """A time span in words of a person.

    >>> period(60_000_000), period(250_000), period(5_400_000_000)
    ('1 min', '250 ms', '1.5 h')
    """
    for unit, size in (("years", 2 * 365.25 * 86_400e6), ("d", 86_400e6), ("h", 3_600e6), ("min", 60e6), ("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            count = microseconds / (size / 2 if unit == "years" else size)
            return f"{count:.3g} {unit}" if count < 1_000 else f"{count:,.0f} {unit}"
    return f"{microseconds:.0f} us"
