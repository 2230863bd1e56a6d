"""Channels that stop: **stuck** ones moved, and now repeat one value; **missing** ones came, and now do not.

One rule for both, by event time. A channel shows that it lives when its value moves (stuck), or when it has a value (missing). A run is the
time since it last did: the steps between the stream's readings, each of one usual interval at most, since a gap between readings is no run;
none between readings of one time. For stuck channels a missing value neither continues nor ends a run. A channel has stopped when all of
these hold, f being `alerts.stuck_run_factor`:

    run       > f * longest: the longest time between two signs of life, which fades over FADE times its own length
    run       > RUN_INTERVALS_MIN usual intervals of the stream
    liveness >= LIVENESS_WARMUPS warm-ups: every sign of life counts 1, every reading of a run -1 / QUIET_PER_SIGN, within
                0 .. LIVENESS_MAX. A switch, a set point, a counter, a channel that comes now and then stay below; so does a new stream
    lowest < value < highest of all that was seen, where it is stuck. At an end of its range a channel is at rest (off, dark, empty) or at
                its stop; whether that is strange is for the score to say

Judge first, learn after: a run teaches when it has ended, as one of normal length, and nothing is learned while the stream has an open
alert of the kind, or one of the score. A stopped channel becomes normal when its alert is accepted, or when it has stopped NORMAL_AFTER
times: then the last of these runs is its longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.states import Column

Kind = Literal["stuck", "missing"]
KINDS: tuple[Kind, ...] = ("stuck", "missing")

RUN_INTERVALS_MIN = 20
"""No shorter run is an alert, however lively the channel: a few repeated or lost values may be the transport's."""
QUIET_PER_SIGN = 8.0
LIVENESS_WARMUPS, LIVENESS_MAX = 3.0, 1_000.0
FADE = 1_000.0
NORMAL_AFTER = 3
ACCEPT_INTERVALS = 2_000


class Stopped(IntEnum):
    """Where a channel's run stands."""

    NO = 0
    YES = 1
    ACCEPTED = 2


class StoppedEvent(IntEnum):
    """What a reading did to its stream's alert of a kind."""

    NONE = 0
    OPENED = 1
    RESUMED = 2
    ACCEPTED = 3


NO, YES, KNOWN = int(Stopped.NO), int(Stopped.YES), int(Stopped.ACCEPTED)
OPENED, RESUMED, ACCEPTED = int(StoppedEvent.OPENED), int(StoppedEvent.RESUMED), int(StoppedEvent.ACCEPTED)
REASON_OF: dict[Kind, dict[int, Literal["stuck", "missing", "unstuck", "resumed", "reset"]]] = {
    "stuck": {OPENED: "stuck", RESUMED: "unstuck", ACCEPTED: "reset"},
    "missing": {OPENED: "missing", RESUMED: "resumed", ACCEPTED: "reset"},
}


def columns(channels: int) -> dict[str, Column]:
    """What is remembered per stream; times in microseconds, `longest`: between two signs of life."""
    d = (channels,)
    found = {"lowest": Column("f4", d, np.inf), "highest": Column("f4", d, -np.inf)}
    for kind in KINDS:
        found |= {
            f"{kind}_run_us": Column("f4", d),
            f"{kind}_longest_us": Column("f4", d),
            f"{kind}_liveness": Column("f4", d),
            kind: Column("u1", d),
            f"{kind}_before": Column("u1", d),  # how often, since that was last made normal
            f"is_{kind}": Column("u1"),
            f"{kind}_at_us": Column("i8"),
            f"{kind}_offset": Column("i8"),
            f"{kind}_item": Column("i4"),
        }
    return found


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a channel may show no sign of life.

    factor           times its longest usual run; 0: for ever
    warmup_readings  of a new stream
    accept_after_us  age at which an open alert is accepted; <= 0: ACCEPT_INTERVALS usual intervals
    """

    factor: float
    warmup_readings: int
    accept_after_us: float


def judge(
    kind: Kind,
    rows: NDArray[np.int32],
    value: NDArray[np.float32],
    moved: NDArray[np.bool_],
    event_time_us: NDArray[np.int64],
    step_us: NDArray[np.int64],
    interval_us: NDArray[np.float64],
    teaches: NDArray[np.bool_],
    limits: Limits,
    states: Any,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Judge the runs of one step, then learn from those that ended; no stream occurs twice in it.

    value        f4[B, D] engineering units, NaN where missing
    moved        b1[B, D] whether a value is not the one before
    step_us      i8[B] since the stream's reading before; 0 for its first, and for one with the same time
    interval_us  f8[B] usual time between two times of the stream; 0 while it is not known
    teaches      b1[B] whether the score has nothing against it
    returns      StoppedEvent u1[B], and b1[B, D] the channels that it is about: stopped now, or until this reading
    """
    event, about = np.zeros(len(rows), np.uint8), np.zeros(value.shape, np.bool_)
    liveness_min = min(LIVENESS_WARMUPS * max(limits.warmup_readings, 1), LIVENESS_MAX)
    rule = (kind == "stuck", limits.factor, liveness_min, limits.accept_after_us)
    _judge(
        rows, value, moved, event_time_us, step_us, interval_us, teaches, rule, states["lowest"], states["highest"], *_runs(kind, states),
        states[f"{kind}_liveness"], states[f"{kind}_at_us"], event, about,
    )  # fmt: skip
    return event, about


def accept(kind: Kind, row: int, states: Any) -> None:
    """The runs of a row's stopped channels become normal now, by a person's word."""
    _accept(row, *_runs(kind, states))


def _runs(kind: Kind, states: Any) -> tuple[NDArray[Any], ...]:
    return tuple(states[name] for name in (f"{kind}_run_us", f"{kind}_longest_us", kind, f"{kind}_before", f"is_{kind}"))


@njit(cache=True)
def _accept(r, run, longest, stopped, before, is_stopped):  # type: ignore[no-untyped-def]
    """End an alert, its channels' runs being usual from now on."""
    is_stopped[r] = 0
    for k in range(stopped.shape[1]):
        if stopped[r, k] == YES:
            stopped[r, k] = KNOWN
            before[r, k] = 0
            longest[r, k] = max(longest[r, k], run[r, k])


@njit(cache=True)
def _judge(  # type: ignore[no-untyped-def]
    rows, value, moved, event_time_us, step_us, interval_us, teaches, rule, lowest, highest,
    run, longest, stopped, before, is_stopped, liveness, opened_at_us,
    event_out, about_out,
):  # fmt: skip
    by_value, factor, liveness_min, accept_after_us = rule
    for i in range(rows.shape[0]):
        r, interval = rows[i], interval_us[i]
        step = min(np.float64(step_us[i]), interval)
        was_open, is_any = is_stopped[r] == 1, False
        for k in range(value.shape[1]):
            v = value[i, k]
            is_there = not np.isnan(v)
            about_out[i, k] = stopped[r, k] == YES
            if by_value and not is_there:
                pass
            elif moved[i, k] if by_value else is_there:
                if stopped[r, k] == YES:
                    before[r, k] += 1
                    if before[r, k] == NORMAL_AFTER:
                        before[r, k] = 0
                        longest[r, k] = max(longest[r, k], run[r, k])
                elif teaches[i] and not was_open and interval > 0:
                    ended = run[r, k] + step
                    earned = 1.0 - run[r, k] / interval / QUIET_PER_SIGN
                    liveness[r, k] = min(max(liveness[r, k] + earned, 0.0), LIVENESS_MAX)
                    longest[r, k] = max(ended, longest[r, k] - ended / FADE)
                    if by_value:
                        lowest[r, k], highest[r, k] = min(lowest[r, k], v), max(highest[r, k], v)
                stopped[r, k] = NO
                run[r, k] = 0.0
            else:
                run[r, k] += step
                if (
                    stopped[r, k] == NO
                    and 0.0 < factor * longest[r, k] < run[r, k]
                    and run[r, k] > RUN_INTERVALS_MIN * interval
                    and liveness[r, k] >= liveness_min
                    and (not by_value or lowest[r, k] < v < highest[r, k])
                ):
                    stopped[r, k] = YES
                    about_out[i, k] = True
            is_any = is_any or stopped[r, k] == YES
        if is_any and not was_open:
            event_out[i] = OPENED
            is_stopped[r] = 1
            opened_at_us[r] = event_time_us[i]
        elif was_open and not is_any:
            event_out[i] = RESUMED
            is_stopped[r] = 0
        elif was_open and event_time_us[i] - opened_at_us[r] >= (accept_after_us if accept_after_us > 0 else ACCEPT_INTERVALS * interval):
            event_out[i] = ACCEPTED
            _accept(r, run, longest, stopped, before, is_stopped)
