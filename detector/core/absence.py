"""Streams that stay away: they time out first, which is an alert, and are evicted in the end. Decided by event time: a replay decides the same.

A stream times out once its partition's clock has passed its deadline: the clock at which it was last heard, plus so many of its usual
intervals. The alert belongs to the reading of another stream that moved the clock; the stream's own next reading closes it. Measured by
the partition's clock, a sensor whose own clock lags does not time out, nor does anybody when the whole partition pauses; and a partition
with a single stream has nothing to measure by (its lag and delay are metrics). A stream that stays away beyond `idle_ttl_us` is evicted:
its row is free for others, and what was open for it is closed.
"""

from __future__ import annotations

import numpy as np

from detector.core import events
from detector.core.arithmetic import copy
from detector.core.compiled import allocating, compiled
from detector.core.event_time import timeout_at
from detector.core.readings import Disposition
from detector.core.stream_state import NEVER

SCORED, WARMUP = int(Disposition.SCORED), int(Disposition.WARMUP)
EVENTS_OF_ROW = 5
"""More no row can bring at the end of a batch: a timeout, and an end of each kind."""


@compiled
def first_beyond_clock(readings, slot, clock_us, end):  # type: ignore[no-untyped-def]
    """The first position before `end` at which a partition's clock was beyond a limit; `end` if there is none."""
    if clock_us != np.inf:
        for i in range(end):
            if readings[i].slot == slot and readings[i].clock_us > clock_us:
                return i
    return end


@compiled
def first_beyond_watermark(readings, slot, watermark_us, end):  # type: ignore[no-untyped-def]
    """Likewise of its watermark."""
    if watermark_us != np.inf:
        for i in range(end):
            if readings[i].slot == slot and readings[i].watermark_us > watermark_us:
                return i
    return end


@compiled
def end_absence(row, slot, due_us, evicted_us, back, heads, readings, log):  # type: ignore[no-untyped-def]
    """One absence of a stream: it timed out, then was evicted or is back.

    due_us, evicted_us   the clock and the watermark beyond which it did and was; infinite: it was not
    back                 position of the reading that ends it; N if none does
    """
    s, n = heads[row], readings.shape[0]
    timed_out = first_beyond_clock(readings, slot, due_us, back)
    gone = first_beyond_watermark(readings, slot, evicted_us, min(back + 1, n))
    is_gone = evicted_us != np.inf and gone < min(back + 1, n)
    end = gone if is_gone else back
    if s.timeout_open == 0 and timed_out < end:
        at_us = readings[timed_out].watermark_us
        events.open_alert(s, events.TIMEOUT, readings[timed_out].offset, readings[timed_out].item, at_us)
        events.add(log, s, events.TIMEOUT, events.TIMED_OUT, timed_out, row, at_us)
    if s.timeout_open == 1 and end < n:
        at_us = readings[end].watermark_us if is_gone else readings[end].event_time_us
        events.add(log, s, events.TIMEOUT, events.EVICTED if is_gone else events.RESUMED, end, row, at_us)
        events.close_alert(s, events.TIMEOUT)


@compiled
def _end_evicted(row, position, heads, readings, log):  # type: ignore[no-untyped-def]
    """The alerts of an evicted stream end with the reading that shows it."""
    s, at_us = heads[row], readings[position].watermark_us
    if s.score_open:
        events.add(log, s, events.SCORE, events.EVICTED, position, row, at_us)
    if s.stuck_open:
        events.add(log, s, events.STUCK, events.EVICTED, position, row, at_us)
    if s.missing_open:
        events.add(log, s, events.MISSING, events.EVICTED, position, row, at_us)


@compiled
def begin_anew(i, heads, floats, readings, at, m, new, log):  # type: ignore[no-untyped-def]
    """The stream of reading i comes for the first time, or back after it was evicted: it starts from nothing, but its times are of now."""
    row = readings[i].row
    s = heads[row]
    if readings[i].evicted_us != np.inf:
        gone = first_beyond_watermark(readings, readings[i].slot, readings[i].evicted_us, i + 1)
        _end_evicted(row, gone, heads, readings, log)
    times = (s.event_time_us, s.heard_at_us, s.heard_clock_us, s.interval_us, s.per_time, s.heard, s.at_newest)
    timeout = (s.timeout_open, s.timeout_offset, s.timeout_item, s.timeout_opened_at_us)
    _renew(s, floats[row], at, m, new)
    s.event_time_us, s.heard_at_us, s.heard_clock_us, s.interval_us, s.per_time, s.heard, s.at_newest = times
    s.timeout_open, s.timeout_offset, s.timeout_item, s.timeout_opened_at_us = timeout


@compiled
def _renew(s, f, at, m, new):  # type: ignore[no-untyped-def]
    """Make a record as a new stream's, but for the reading that is not whole yet."""
    partial_us, kept = s.partial_time_us, (at.partial, at.has_partial + m.channels)
    copy(new[: kept[0]], f[: kept[0]])
    copy(new[kept[1] :], f[kept[1] :])
    s.partial_time_us = partial_us


@allocating
def look_for_absent(store, readings, at, m, new, rules, log):  # type: ignore[no-untyped-def]
    """What the end of a batch finds. A partition is scanned only when its time has passed the earliest deadline of its rows.

    returns  the log, and the rows of evicted streams, i8[E]: as new but for a reading that is not whole yet
    """
    slots = store.due.shape[1]
    last, evicted = np.full(slots, -1, np.int64), np.empty(0, np.int64)
    _note_deadlines(store, readings, rules, last)
    for slot in range(slots):
        if last[slot] < 0:
            continue
        clock_us, watermark_us = readings[last[slot]].clock_us, readings[last[slot]].watermark_us
        if clock_us <= store.due[0, slot] and watermark_us <= store.due[1, slot]:
            continue
        away = _away(slot, clock_us, watermark_us, store, rules)
        log = events.with_room(log, EVENTS_OF_ROW * away.shape[0])
        for row in away:
            s = store.heads[row]
            due_us = timeout_at(s, rules) if s.timeout_open == 0 else np.inf
            evicted_us = np.float64(s.heard_at_us) + rules.idle_ttl_us
            end_absence(row, slot, due_us, evicted_us, readings.shape[0], store.heads, readings, log)
            gone = first_beyond_watermark(readings, slot, evicted_us, readings.shape[0])
            if gone < readings.shape[0]:
                _end_evicted(row, gone, store.heads, readings, log)
                _renew(s, store.floats[row], at, m, new)
                more = np.empty(evicted.shape[0] + 1, np.int64)
                copy(evicted, more[:-1])
                more[-1] = row
                evicted = more
    return log, evicted


@compiled
def _note_deadlines(store, readings, rules, last):  # type: ignore[no-untyped-def]
    """The deadlines of the streams that were heard; and each partition's last reading, by slot, i8[slots]."""
    for i in range(readings.shape[0]):
        reading = readings[i]
        last[reading.slot] = i
        if reading.disposition == SCORED or reading.disposition == WARMUP:
            store.due[0, reading.slot] = min(store.due[0, reading.slot], timeout_at(store.heads[reading.row], rules))


@allocating
def _away(slot, clock_us, watermark_us, store, rules):  # type: ignore[no-untyped-def]
    """The rows of a partition that have timed out or are to be evicted, i8[A]; the deadlines of the others are noted."""
    earliest_us, oldest_us, count = np.inf, np.float64(watermark_us) + rules.idle_ttl_us, 0
    away = np.empty(store.slot_of_row.shape[0], np.int64)
    for row in range(store.slot_of_row.shape[0]):
        s = store.heads[row]
        if store.slot_of_row[row] == slot and s.event_time_us != NEVER:
            due_us = timeout_at(s, rules) if s.timeout_open == 0 else np.inf
            evicted_us = np.float64(s.heard_at_us) + rules.idle_ttl_us
            if due_us >= clock_us:
                earliest_us = min(earliest_us, due_us)
            if evicted_us >= watermark_us:
                oldest_us = min(oldest_us, evicted_us)
            if due_us < clock_us or evicted_us < watermark_us:
                away[count] = row
                count += 1
    store.due[0, slot], store.due[1, slot] = earliest_us, oldest_us
    return away[:count]
