"""What event time decides: late and duplicate readings, pauses, evicted streams. All in log order.

A partition's **watermark** is the latest event time read from it. Its **clock** moves with the watermark, but by one reading
no further than twice the partition's usual longest gap: a pause of the whole partition does not pass on it.
Both follow from the event times in the log alone, not from any stream's state, and not from how the log was cut into batches: what
they decide is attributed to the reading that moved them. So state can be restored row by row, each from an offset of its own.

A reading with the event time of its stream's newest one is a **tie**. Ties are either duplicates, or kept: then they are judged like any
other reading, in log order, zero time after the reading before. A stream's usual interval is the time from one of its times to the next,
whatever ties there are: with zeros in it, a stream whose readings come in bursts would time out between two of them. How many readings
usually share a time is learned beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.compiled import compiled
from detector.core.limits import CLIP, COUNT_MAX
from detector.core.readings import NOT_JUDGED, Disposition
from detector.core.stream_state import NEVER

LATE, DUPLICATE = int(Disposition.LATE), int(Disposition.DUPLICATE)
GAP_MIN_US = 1_000
"""A partition's usual longest gap is at least a millisecond: it doubles as long as gaps are longer."""
INTERVALS = 20
"""The usual interval is an EWMA over so many; the usual longest gap fades over so many of its own length. The number of ties likewise."""


class Time(NamedTuple):
    """Where a partition stands in time, microseconds; NEVER until a reading has come.

    gap_us   the usual longest gap between two times that moved the watermark
    """

    watermark_us: int = NEVER
    clock_us: int = 0
    gap_us: int = 0


class Clocks:
    """Watermark, clock and usual gap of every partition: `times` i8[3, slots]."""

    def __init__(self) -> None:
        self.times: NDArray[np.int64] = np.empty((len(Time._fields), 0), np.int64)

    def grow(self, slots: int) -> None:
        """Make room for so many partitions."""
        missing = slots - self.times.shape[1]
        if missing > 0:
            self.times = np.hstack((self.times, np.tile(np.array(Time(), np.int64)[:, None], missing)))

    def __getitem__(self, slot: int) -> Time:
        return Time(*self.times[:, slot].tolist())

    def __setitem__(self, slot: int, time: Time) -> None:
        self.times[:, slot] = time


@compiled
def move_clock(times, slot, event_time_us):  # type: ignore[no-untyped-def]
    """Move a partition's watermark and clock with one reading. times i8[3, slots]: as `Time`."""
    watermark = times[0, slot]
    if watermark == NEVER:
        times[0, slot] = event_time_us
    elif event_time_us > watermark:
        step = min(event_time_us - watermark, 2 * max(times[2, slot], GAP_MIN_US))
        times[0, slot] = event_time_us
        times[1, slot] += step
        times[2, slot] = max(step, times[2, slot] - step // INTERVALS)


@compiled
def timeout_at(s, rules):  # type: ignore[no-untyped-def]
    """The clock beyond which a stream times out; infinite: not at all."""
    if rules.timeout_intervals > 0 and s.interval_us > 0 and s.heard >= rules.warmup_readings:
        return s.heard_clock_us + rules.timeout_intervals * s.interval_us
    return np.inf


@compiled
def put_in_order(s, event_time_us, watermark_us, clock_us, rules):  # type: ignore[no-untyped-def]
    """Classify a reading and advance its stream's time.

    s         head of the stream's record;  rules of type RULES
    returns   LATE, DUPLICATE, or NOT_JUDGED: it is to be judged; whether the stream was evicted before it; the time since the reading
              before, microseconds, 0 for the first one and for a tie
    """
    is_new = s.event_time_us == NEVER
    is_evicted = not is_new and watermark_us - s.heard_at_us > rules.idle_ttl_us
    is_tie = not is_new and not is_evicted and event_time_us == s.event_time_us
    if not is_new and not is_evicted and (event_time_us < s.event_time_us or (is_tie and not rules.keeps_ties)):
        return (DUPLICATE if is_tie else LATE), False, 0
    step = 0
    if is_new or is_evicted:
        s.heard = s.at_newest = 0
        s.interval_us, s.per_time = 0.0, 1.0
    elif not is_tie:
        step = event_time_us - s.event_time_us
        if s.interval_us == 0:
            s.interval_us, s.per_time = step, s.at_newest
        else:
            s.interval_us += (min(step, CLIP * s.interval_us) - s.interval_us) / INTERVALS
            s.per_time += (min(s.at_newest, CLIP * s.per_time) - s.per_time) / INTERVALS
        s.at_newest = 0
    s.event_time_us = event_time_us
    s.heard_at_us, s.heard_clock_us = watermark_us, clock_us
    s.heard = min(s.heard + (0 if is_tie else 1), COUNT_MAX)
    s.at_newest = min(s.at_newest + 1, COUNT_MAX)
    return NOT_JUDGED, is_evicted, step
