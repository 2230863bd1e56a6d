"""What happened to alerts in a batch, as compiled code writes it down."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.compiled import allocating, compiled

KINDS = ("score", "timeout", "stuck", "missing")
SCORE, TIMEOUT, STUCK, MISSING = range(4)
REASONS = ("evidence", "timeout", "stuck", "missing", "escalated", "cleared", "reset", "resumed", "unstuck", "evicted")
EVIDENCE, TIMED_OUT, GOT_STUCK, WENT_MISSING, ESCALATED, CLEARED, RESET, RESUMED, UNSTUCK, EVICTED = range(10)
OPENS = (EVIDENCE, TIMED_OUT, GOT_STUCK, WENT_MISSING)
"""These reasons open an alert, ESCALATED updates it, the others close it."""

EVENT = np.dtype(
    [
        ("position", "<i8"),  # of the reading that shows it, in the batch
        ("row", "<i8"),  # of the stream
        ("event_time_us", "<i8"),
        ("offset", "<i8"),  # with item and opened_at_us: the reading that opened the alert
        ("opened_at_us", "<i8"),
        ("item", "<i4"),
        ("detail", "<i4"),  # row of the details; NONE where there are none
        ("kind", "u1"),  # index into KINDS
        ("reason", "u1"),  # index into REASONS
        ("is_critical", "u1"),
        ("score", "<f4"),
        ("tail_probability", "<f8"),
    ],
    align=True,
)
NONE = -1
OBSERVED, EXPECTED, REACH, SHARE, IS_ABOUT = range(5)
"""Of a channel in the details: engineering units; how far from the forecast 99 % of normal readings lie; its share; whether an alert of kind
stuck or missing is about it."""


class EventLog(NamedTuple):
    """Events in `events` EVENT[E] and details f4[E, 5, D]; counts i8[2]: how many of each there are. Both grow."""

    events: NDArray[Any]
    details: NDArray[np.float32]
    counts: NDArray[np.int64]


def empty_log(channels: int) -> EventLog:
    """Room for a first few."""
    return EventLog(np.zeros(16, EVENT), np.zeros((16, 5, channels), np.float32), np.zeros(2, np.int64))


@allocating
def with_room(log, events):  # type: ignore[no-untyped-def]
    """The log with room for so many more events, and as many details."""
    count, capacity = log.counts[0], log.events.shape[0]
    if count + events <= capacity and log.counts[1] + events <= capacity:
        return log
    grown = np.empty(2 * capacity + events, log.events.dtype)
    details = np.zeros((2 * capacity + events, log.details.shape[1], log.details.shape[2]), np.float32)
    for i in range(count):
        grown[i] = log.events[i]
    for i in range(log.counts[1]):
        for j in range(details.shape[1]):
            for k in range(details.shape[2]):
                details[i, j, k] = log.details[i, j, k]
    return EventLog(grown, details, log.counts)


@compiled
def add(log, s, kind, reason, position, row, event_time_us):  # type: ignore[no-untyped-def]
    """Write an event down; there is room. s: head of the stream's record, which says which reading opened the alert. returns  the event."""
    event = log.events[log.counts[0]]
    log.counts[0] += 1
    event.position, event.row, event.event_time_us = position, row, event_time_us
    event.kind, event.reason, event.detail, event.is_critical = kind, reason, NONE, 0
    event.score = event.tail_probability = np.nan
    if kind == SCORE:
        event.offset, event.item, event.opened_at_us, event.is_critical = s.score_offset, s.score_item, s.score_opened_at_us, s.is_critical
    elif kind == TIMEOUT:
        event.offset, event.item, event.opened_at_us = s.timeout_offset, s.timeout_item, s.timeout_opened_at_us
    elif kind == STUCK:
        event.offset, event.item, event.opened_at_us = s.stuck_offset, s.stuck_item, s.stuck_opened_at_us
    else:
        event.offset, event.item, event.opened_at_us = s.missing_offset, s.missing_item, s.missing_opened_at_us
    return event


@compiled
def add_detail(log, event):  # type: ignore[no-untyped-def]
    """Room for the channels of an event; there is some. returns  which of the details it is."""
    event.detail = log.counts[1]
    log.counts[1] += 1
    return event.detail


@compiled
def open_alert(s, kind, offset, item, opened_at_us):  # type: ignore[no-untyped-def]
    """Note which reading opened an alert of kind timeout, stuck or missing."""
    if kind == TIMEOUT:
        s.timeout_open, s.timeout_offset, s.timeout_item, s.timeout_opened_at_us = 1, offset, item, opened_at_us
    elif kind == STUCK:
        s.stuck_open, s.stuck_offset, s.stuck_item, s.stuck_opened_at_us = 1, offset, item, opened_at_us
    else:
        s.missing_open, s.missing_offset, s.missing_item, s.missing_opened_at_us = 1, offset, item, opened_at_us


@compiled
def close_alert(s, kind):  # type: ignore[no-untyped-def]
    """As if none had ever been open: the same as in a record that was freed meanwhile."""
    open_alert(s, kind, 0, 0, 0)
    if kind == TIMEOUT:
        s.timeout_open = 0
    elif kind == STUCK:
        s.stuck_open = 0
    else:
        s.missing_open = 0
