"""Reset of a baseline by hand: a person says that what an open alert is about is the new normal of a stream.

It stands in the log of readings, at a place of its own between them, so that a replay decides the same. An open alert of kind score ends
there as its age would end it, the level that it found becoming the stream's own; so do stuck and missing channels. A timeout is not reset: a
stream that is gone for good is evicted in time.
"""

from __future__ import annotations

from dataclasses import dataclass

from detector.core import alarm, block, events, stopped
from detector.core.compiled import entry
from detector.core.readings import Partition


@dataclass(frozen=True, slots=True)
class BaselineReset:
    """One of them.

    stream     its name, UTF-8
    partition, offset   where it stands in the log
    place      how many readings of the batch come before it
    """

    stream: bytes
    partition: Partition
    offset: int
    place: int


@entry
def reset(heads, floats, row, at_of, model, log):  # type: ignore[no-untyped-def]
    """End what is open for a row, at position 0 of the log, in which there is room. at_of, model: OFFSETS[1], MODEL[1]"""
    s, f, at, m = heads[row], floats[row], at_of[0], model[0]
    if s.stuck_open:
        stopped.reset_runs(f, at.stuck, m.channels)
        events.add(log, s, events.STUCK, events.RESET, 0, row, s.event_time_us)
        events.close_alert(s, events.STUCK)
    if s.missing_open:
        stopped.reset_runs(f, at.missing, m.channels)
        events.add(log, s, events.MISSING, events.RESET, 0, row, s.event_time_us)
        events.close_alert(s, events.MISSING)
    if s.score_open:
        events.add(log, s, events.SCORE, events.RESET, 0, row, s.event_time_us)
        alarm.reset_baseline(s)
        block.reset_baseline(s, f, at, m)
