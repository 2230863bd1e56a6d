"""Channels that stop: **stuck** ones moved, and now repeat one value; **missing** ones came, and now do not.

One rule for both, by event time. A channel shows that it lives when its value moves (stuck), or when it has a value (missing). A run is the
time since it last did: the steps between the stream's readings, each of one usual interval at most, since a gap between readings is no run;
none between readings of one time. For stuck channels a missing value neither continues nor ends a run. A channel has stopped when all of
these hold, f being `alerts.stuck_run_factor`:

    run       > f * longest: the longest time between two signs of life, which fades over FADE times its own length
    run       > INTERVALS usual intervals of the stream: a few repeated or lost values may be the transport's
    liveness >= OFTEN warm-ups: every sign of life counts 1, every reading of a run -1 / QUIET_PER_SIGN, within
                0 .. FADE. A switch, a set point, a counter, a channel that comes now and then stay below; so does a new stream
    lowest < value < highest of all that was seen, where it is stuck. At an end of its range a channel is at rest (off, dark, empty) or at
                its stop; whether that is strange is for the score to say

Judge first, learn after: a run teaches when it has ended, as one of normal length, and nothing is learned while the stream has an open
alert of the kind, or one of the score. A stopped channel becomes normal when the baseline is reset, or when it has stopped OFTEN
times: then the last of these runs is its longest.
"""

from __future__ import annotations

import numpy as np

from detector.core.alarm import life_us
from detector.core.compiled import compiled
from detector.core.event_time import INTERVALS
from detector.core.stream_state import Part

f4 = np.float32

QUIET_PER_SIGN = f4(8)
"""A channel that shows no sign of life in more readings than so many of one that does is not lively: it comes, or moves, now and then."""
OFTEN = 3
"""Warm-ups full of signs of life that a channel is known to live by; and how often it must have stopped for that to be normal."""
FADE = f4(1_000)
"""What was seen counts less over so many times its length: the longest run, and the signs of life."""

RUN_PARTS = 5
RUN, LONGEST, LIVENESS, STOPPED, BEFORE = range(RUN_PARTS)
"""Of each channel: microseconds since its last sign of life; the longest such time; liveness; NO, YES or KNOWN; how often it had stopped."""
NO, YES, KNOWN = f4(0), f4(1), f4(2)
OPENED, ENDED, RESET = 1, 2, 3
"""What a reading does to an alert of the kind."""


def parts(channels: int) -> list[Part]:
    """What is remembered of a stream."""
    between = np.repeat(np.array([[np.inf], [-np.inf]], np.float32), channels, axis=1)
    return [("between", (2, channels), between), ("stuck", (RUN_PARTS, channels), 0), ("missing", (RUN_PARTS, channels), 0)]


@compiled
def judge(f, runs, between, value, moved, when, may_learn, was_open, rules, about):  # type: ignore[no-untyped-def]
    """Judge the runs of one reading, then learn from those that ended.

    f          floats of the stream's record, in which the runs of the kind begin at `runs`
    between    where its range of moving values begins, for stuck channels; -1: missing channels are looked for
    value      [D] engineering units, NaN where missing;  moved [D] > 0 where a value is not the one before
    when       time since the stream's reading before, its usual interval (0: not known), and the age of the open alert, microseconds
    may_learn  whether the score has nothing against it
    about      b1[D] the channels that an event is about: stopped now, or until this reading
    returns    OPENED, ENDED, RESET, or 0
    """
    d, by_value, (step_us, interval_us, age_us), is_any = value.shape[0], between >= 0, when, False
    step = f4(min(np.float64(step_us), interval_us))
    liveness_min = min(f4(OFTEN * max(rules.warmup_readings, 1)), FADE)
    for k in range(d):
        run, stopped, is_there = runs + RUN * d + k, runs + STOPPED * d + k, not np.isnan(value[k])
        about[k] = f[stopped] == YES
        if by_value and not is_there:
            pass
        elif moved[k] > 0 if by_value else is_there:
            _end_run(f, runs + k, d, step, interval_us, may_learn and not was_open)
            if by_value and may_learn and not was_open and interval_us > 0 and not about[k]:
                f[between + k], f[between + d + k] = min(f[between + k], value[k]), max(f[between + d + k], value[k])
        else:
            f[run] += step
            limit = f4(rules.stuck_run_factor) * f[runs + LONGEST * d + k]
            if (
                f[stopped] == NO
                and f4(0) < limit < f[run]
                and f[run] > INTERVALS * interval_us
                and f[runs + LIVENESS * d + k] >= liveness_min
                and (not by_value or f[between + k] < value[k] < f[between + d + k])
            ):
                f[stopped] = YES
                about[k] = True
        is_any = is_any or f[stopped] == YES
    if is_any and not was_open:
        return OPENED
    if was_open and not is_any:
        return ENDED
    if was_open and age_us >= life_us(interval_us, rules):
        reset_runs(f, runs, d)
        return RESET
    return 0


@compiled
def _end_run(f, channel, d, step, interval_us, may_learn):  # type: ignore[no-untyped-def]
    """A channel shows that it lives; its run was one of normal length, unless it had stopped."""
    run, longest, liveness = channel + RUN * d, channel + LONGEST * d, channel + LIVENESS * d
    stopped, before = channel + STOPPED * d, channel + BEFORE * d
    if f[stopped] == YES:
        f[before] += f4(1)
        if f[before] == OFTEN:
            f[before] = 0
            f[longest] = max(f[longest], f[run])
    elif may_learn and interval_us > 0:
        ended, earned = f[run] + step, f4(1) - f[run] / f4(interval_us) / QUIET_PER_SIGN
        f[liveness] = min(max(f[liveness] + earned, f4(0)), FADE)
        f[longest] = max(ended, f[longest] - ended / FADE)
    f[stopped] = NO
    f[run] = 0


@compiled
def reset_runs(f, runs, d):  # type: ignore[no-untyped-def]
    """The runs of stopped channels are usual from now on."""
    for k in range(d):
        if f[runs + STOPPED * d + k] == YES:
            f[runs + STOPPED * d + k] = KNOWN
            f[runs + BEFORE * d + k] = 0
            f[runs + LONGEST * d + k] = max(f[runs + LONGEST * d + k], f[runs + RUN * d + k])
