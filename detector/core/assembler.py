"""Readings that come in parts, one channel or some channels each, assembled to whole ones.

Values of one stream with the same event time are one reading. It is whole when every channel has come, or when a value
with a later time shows that no more will. It then takes the place of the message that completed it; the others are PARTIAL.
A value that comes again, or late, after its reading was whole begins another, which is found to be duplicate or late in its turn.

Where ties are kept, readings with one time are told apart by their channels: the second value of a channel shows that no more will come of
the reading that is held, and begins the next, with the same time. Where they are not, the part that it is in is a duplicate.
"""

from __future__ import annotations

import numpy as np

from detector.core.compiled import compiled
from detector.core.readings import NOT_JUDGED, Disposition
from detector.core.stream_state import NEVER

LATE, DUPLICATE, PARTIAL, EMPTY = int(Disposition.LATE), int(Disposition.DUPLICATE), int(Disposition.PARTIAL), int(Disposition.EMPTY)


@compiled
def assemble(s, floats, at, channel, event_time_us, value, keeps_ties):  # type: ignore[no-untyped-def]
    """Take one part.

    s, floats  of the stream's record
    channel    which one the part has; SOME: those that have a value
    value      f4[D] the part as decoded, NaN for channels that it has not; overwritten with the whole reading, where it completes it
    returns    LATE, DUPLICATE, PARTIAL, EMPTY: the whole reading has no value, or NOT_JUDGED where a reading is whole; and its event time
    """
    if event_time_us < s.partial_time_us:
        return LATE, event_time_us
    is_tie = False
    if event_time_us == s.partial_time_us:
        for k in range(value.shape[0]):
            is_tie = is_tie or (floats[at.has_partial + k] == 1 and _has(channel, k, value))
    if is_tie and not keeps_ties:
        return DUPLICATE, event_time_us
    if s.partial_time_us != NEVER and (is_tie or event_time_us > s.partial_time_us):  # no more will come of what is held
        whole_us, s.partial_time_us = s.partial_time_us, event_time_us
        for k in range(value.shape[0]):
            held, has = floats[at.partial + k], _has(channel, k, value)
            floats[at.partial + k], floats[at.has_partial + k] = value[k], has
            value[k] = held
        return _unless_empty(value), whole_us
    s.partial_time_us = event_time_us
    is_whole = True
    for k in range(value.shape[0]):
        if _has(channel, k, value):
            floats[at.partial + k], floats[at.has_partial + k] = value[k], 1
        is_whole = is_whole and floats[at.has_partial + k] == 1
    if not is_whole:
        return PARTIAL, event_time_us
    s.partial_time_us = NEVER
    for k in range(value.shape[0]):
        value[k], floats[at.partial + k], floats[at.has_partial + k] = floats[at.partial + k], np.nan, 0
    return _unless_empty(value), event_time_us


@compiled
def _has(channel, k, value):  # type: ignore[no-untyped-def]
    """Whether a part has channel k. One that carries a single channel has it with or without a value."""
    return channel == k or (channel < 0 and not np.isnan(value[k]))


@compiled
def _unless_empty(value):  # type: ignore[no-untyped-def]
    for k in range(value.shape[0]):
        if not np.isnan(value[k]):
            return NOT_JUDGED
    return EMPTY
