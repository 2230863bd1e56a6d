"""Long-format readings, one channel each, assembled to whole ones.

Values of one stream with the same event time are one reading. It is whole when every channel has come, or when a value
with a later time shows that no more will. It then takes the place of the message that completed it; the others are PARTIAL.
A value that comes again, or late, after its reading was whole begins another, which is found to be duplicate or late in its turn.

Where ties are kept, readings with one time are told apart by their channels: the second value of a channel shows that no more will come of
the reading that is held, and begins the next, with the same time. Where they are not, it is a duplicate.
"""

from __future__ import annotations

import numpy as np

from detector.core.compiled import compiled
from detector.core.readings import NOT_JUDGED, Disposition
from detector.core.stream_state import NEVER

LATE, DUPLICATE, PARTIAL = int(Disposition.LATE), int(Disposition.DUPLICATE), int(Disposition.PARTIAL)


@compiled
def assemble(s, floats, at, channel, event_time_us, value, keeps_ties):  # type: ignore[no-untyped-def]
    """Take one value.

    s, floats  of the stream's record;  channel: which one the value belongs to
    value      f4[D] the reading as decoded; overwritten with the whole one, where the value completes it
    returns    LATE, DUPLICATE, PARTIAL, or NOT_JUDGED where a reading is whole; and its event time
    """
    d = value.shape[0]
    if event_time_us < s.partial_time_us:
        return LATE, event_time_us
    is_tie = event_time_us == s.partial_time_us and floats[at.has_partial + channel] == 1
    if is_tie and not keeps_ties:
        return DUPLICATE, event_time_us
    own, disposition, whole_us = value[channel], PARTIAL, event_time_us
    if s.partial_time_us != NEVER and (is_tie or event_time_us > s.partial_time_us):  # no more will come of what is held
        disposition, whole_us = NOT_JUDGED, s.partial_time_us
        _hand_over(floats, at, value)
    s.partial_time_us = event_time_us
    floats[at.partial + channel] = own
    floats[at.has_partial + channel] = 1
    if disposition == PARTIAL:
        is_whole = True
        for k in range(d):
            is_whole = is_whole and floats[at.has_partial + k] == 1
        if is_whole:
            disposition = NOT_JUDGED
            _hand_over(floats, at, value)
            s.partial_time_us = NEVER
    return disposition, whole_us


@compiled
def _hand_over(floats, at, value):  # type: ignore[no-untyped-def]
    """Write what is held to `value`, and hold nothing."""
    for k in range(value.shape[0]):
        value[k] = floats[at.partial + k]
        floats[at.partial + k] = np.nan
        floats[at.has_partial + k] = 0
