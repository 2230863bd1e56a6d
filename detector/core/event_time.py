"""What event time decides: late and duplicate readings, pauses, forgotten streams. All in log order.

A partition's **watermark** is the latest event time read from it. Its **clock** moves with the watermark, but by one reading
no further than twice the partition's usual longest gap: a pause of the whole partition does not pass on it.
Both follow from the event times in the log alone, not from any stream's memory, and not from how the log was cut into batches: what
they decide is attributed to the reading that moved them. So a memory can be restored row by row, each from an offset of its own.

A reading with the event time of its stream's newest one is a **tie**. Ties are either duplicates, or kept: then they are judged like any
other reading, in log order, zero time after the reading before. A stream's usual interval is the time from one of its times to the next,
whatever ties there are: with zeros in it, a stream whose readings come in bursts would be missed between two of them. How many readings
usually share a time is learned beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.readings import Disposition
from detector.core.states import Column

NEVER = np.iinfo(np.int64).min
LATE, DUPLICATE = int(Disposition.LATE), int(Disposition.DUPLICATE)
PAUSE_GAPS = 2
GAP_MIN_US, GAP_MEMORY = 1_000, 32
"""The usual longest gap doubles as long as gaps are longer, and fades over so many of its own length."""
INTERVAL_RATE, INTERVAL_FACTOR_MAX = 0.05, 10.0
"""The usual interval is an EWMA of this rate; one gap counts as so many intervals at most. The usual number of ties likewise."""
COUNT_MAX = 2_000_000_000

COLUMNS = {
    "event_time_us": Column("i8", fill=NEVER),  # of the newest reading
    "heard_at_us": Column("i8", fill=NEVER),  # the partition's watermark when it came
    "heard_clock_us": Column("i8"),  # the partition's clock then
    "heard": Column("i4"),  # event times in order, since the stream began
    "interval_us": Column("f8"),  # usual time between two of them; 0 until it is known
    "at_newest": Column("i4", fill=1),  # readings that have the newest one's time, so far
    "per_time": Column("f4", fill=1),  # usual number of readings that share a time
}


@dataclass(frozen=True, slots=True)
class Patience:
    """When a stream is missed, and when forgotten.

    silence_intervals  usual intervals by the clock without a reading, after which it is missed; 0: never
    warmup_readings    a stream with fewer, ties counted once, is not missed: its usual interval is not known well
    idle_max_us        time by the watermark without a reading, after which it is forgotten; it is new if it comes back
    """

    silence_intervals: float
    warmup_readings: int
    idle_max_us: int


class Time(NamedTuple):
    """Where a partition stands in time, microseconds; NEVER until a reading has come.

    gap_us   the usual longest gap between two times that moved the watermark
    """

    watermark_us: int = NEVER
    clock_us: int = 0
    gap_us: int = 0


class Clocks:
    """Watermark, clock and usual gap of every partition, i8[slots] each."""

    def __init__(self) -> None:
        self._times = np.empty((len(Time._fields), 0), np.int64)

    def grow(self, slots: int) -> None:
        """Make room for so many partitions."""
        missing = slots - self._times.shape[1]
        if missing > 0:
            self._times = np.hstack((self._times, np.tile(np.array(Time(), np.int64)[:, None], missing)))

    def __getitem__(self, slot: int) -> Time:
        return Time(*self._times[:, slot].tolist())

    def __setitem__(self, slot: int, time: Time) -> None:
        self._times[:, slot] = time

    def advance(self, slots: NDArray[np.int32], event_time_us: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Move with a batch of readings, in log order; watermark and clock after each, i8[N]."""
        watermark_us, clock_us = np.empty_like(event_time_us), np.empty_like(event_time_us)
        _advance(slots, event_time_us, *self._times, watermark_us, clock_us)
        return watermark_us, clock_us


@njit(cache=True)
def _advance(slots, event_time_us, watermark, clock, gap, watermark_out, clock_out):  # type: ignore[no-untyped-def]
    for i in range(slots.shape[0]):
        s, t = slots[i], event_time_us[i]
        if watermark[s] == NEVER:
            watermark[s] = t
        elif t > watermark[s]:
            step = min(t - watermark[s], PAUSE_GAPS * max(gap[s], GAP_MIN_US))
            watermark[s] = t
            clock[s] += step
            gap[s] = max(step, gap[s] - step // GAP_MEMORY)
        watermark_out[i], clock_out[i] = watermark[s], clock[s]


@dataclass(frozen=True, slots=True)
class Order:
    """Where readings stand in their streams' time.

    disposition      u1[N]  LATE, DUPLICATE, or 0: to be judged
    is_first         b1[N]  the stream's first reading, or its first after it was forgotten
    step_us          i8[N]  time since the stream's reading before; 0 for its first, and for a tie
    interval_us      f8[N]  the stream's usual interval, this reading included; 0 while it is not known
    per_reading_us   f8[N]  usual time per reading: the interval, shared by as many readings as usually have one time
    missed_us        f8[N]  clock beyond which the stream was missed before this reading; infinite: not at all
    expired_us       f8[N]  watermark beyond which the stream was forgotten before this reading; infinite: it was not
    """

    disposition: NDArray[np.uint8]
    is_first: NDArray[np.bool_]
    step_us: NDArray[np.int64]
    interval_us: NDArray[np.float64]
    per_reading_us: NDArray[np.float64]
    missed_us: NDArray[np.float64]
    expired_us: NDArray[np.float64]


def put_in_order(
    rows: NDArray[np.int32],
    event_time_us: NDArray[np.int64],
    watermark_us: NDArray[np.int64],
    clock_us: NDArray[np.int64],
    patience: Patience,
    states: Any,
    *,
    keeps_ties: bool = False,
) -> Order:
    """Classify readings and advance their streams' clocks.

    rows                     i4[N] row of each reading's stream
    watermark_us, clock_us   i8[N] the partition's, this reading included
    keeps_ties               a reading as old as its stream's newest is judged; otherwise it is a duplicate
    """
    n = len(rows)
    order = Order(
        np.zeros(n, np.uint8),
        np.zeros(n, np.bool_),
        np.zeros(n, np.int64),
        np.zeros(n),
        np.zeros(n),
        np.full(n, np.inf),
        np.full(n, np.inf),
    )
    _put_in_order(
        rows, event_time_us, watermark_us, clock_us,
        patience.silence_intervals, patience.warmup_readings, patience.idle_max_us, keeps_ties, *(states[name] for name in COLUMNS),
        order.disposition, order.is_first, order.step_us, order.interval_us, order.per_reading_us, order.missed_us, order.expired_us,
    )  # fmt: skip
    return order


@njit(cache=True)
def _put_in_order(  # type: ignore[no-untyped-def]
    rows, event_time_us, watermark, clock, silence_intervals, warmup_readings, idle_max_us, keeps_ties,
    newest, heard_at, heard_clock, heard, interval, at_newest, per_time,
    disposition, is_first, step, interval_out, per_reading, missed, expired,
):  # fmt: skip
    for i in range(rows.shape[0]):
        r, t = rows[i], event_time_us[i]
        is_new = newest[r] == NEVER
        is_forgotten = not is_new and watermark[i] - heard_at[r] > idle_max_us
        is_tie = not is_new and not is_forgotten and t == newest[r]
        if not is_new and not is_forgotten and (t < newest[r] or (is_tie and not keeps_ties)):
            disposition[i] = DUPLICATE if is_tie else LATE
            continue
        if silence_intervals > 0 and interval[r] > 0 and heard[r] >= warmup_readings:
            missed[i] = heard_clock[r] + silence_intervals * interval[r]
        if is_new or is_forgotten:
            is_first[i] = True
            if is_forgotten:
                expired[i] = heard_at[r] + idle_max_us
            heard[r] = at_newest[r] = 0
            interval[r], per_time[r] = 0.0, 1.0
        elif not is_tie:
            step[i] = t - newest[r]
            if interval[r] == 0:
                interval[r], per_time[r] = step[i], at_newest[r]
            else:
                interval[r] += INTERVAL_RATE * (min(step[i], INTERVAL_FACTOR_MAX * interval[r]) - interval[r])
                per_time[r] += INTERVAL_RATE * (min(at_newest[r], INTERVAL_FACTOR_MAX * per_time[r]) - per_time[r])
            at_newest[r] = 0
        newest[r] = t
        heard_at[r] = watermark[i]
        heard_clock[r] = clock[i]
        heard[r] = min(heard[r] + (0 if is_tie else 1), COUNT_MAX)
        at_newest[r] = min(at_newest[r] + 1, COUNT_MAX)
        interval_out[i] = interval[r]
        per_reading[i] = interval[r] / per_time[r]


class Passing:
    """At which reading of a batch a partition's watermark, or its clock, passed a time.

    slots                    i4[N] of the readings' partitions
    watermark_us, clock_us   i8[N] theirs, each reading included
    """

    def __init__(self, slots: NDArray[np.int32], watermark_us: NDArray[np.int64], clock_us: NDArray[np.int64]) -> None:
        self.beyond = len(slots)  # the position of what did not happen in this batch
        self.slots = slots
        self.watermark_us = watermark_us
        self.clock_us = clock_us
        self._positions: dict[int, NDArray[np.int64]] = {}

    def positions(self, slot: int) -> NDArray[np.int64]:
        """The readings of one partition."""
        if slot not in self._positions:
            self._positions[slot] = np.flatnonzero(self.slots == slot)
        return self._positions[slot]

    def watermark(self, slot: int, time_us: float) -> int:
        """The first reading with a later watermark."""
        return self._first(slot, self.watermark_us, time_us)

    def clock(self, slot: int, time_us: float) -> int:
        """The first reading with a later clock."""
        return self._first(slot, self.clock_us, time_us)

    def _first(self, slot: int, column: NDArray[np.int64], time_us: float) -> int:
        positions = self.positions(slot)
        place = int(np.searchsorted(column[positions], time_us, side="right"))
        return int(positions[place]) if place < len(positions) else self.beyond
