"""Channels that freeze: they moved, and now repeat one value for far longer than this stream's channel has ever done.

A run is how long a channel has repeated its value, exactly, in event time: the steps between the stream's readings, each of one usual
interval at most, since a gap is no run; none between readings of one time. A missing value neither continues nor ends a run. A channel is
frozen when all of these say so, f being `alerts.frozen_factor`:

    run            > f * longest held: the longest time from one move to the next, which fades over FADE times its own length
    run            > RUN_INTERVALS_MIN usual intervals of the stream
    mobility       >= MOBILITY_WARMUPS warm-ups: every move counts 1, every repeat -1 / REPEATS_PER_MOVE, within 0 .. MOBILITY_MAX.
                   A switch, a set point, a counter, a coarse sensor stay below; so does a new stream
    lowest < value < highest of all that was seen. At an end of its range a channel is at rest (off, dark, empty) or at its stop;
                   whether that is strange is for the score to say

Judge first, learn after: a run teaches when it has ended, as one of normal length, and nothing is learned while an alert of the stream
is open, be it this one or the score's. What was frozen becomes normal when its alert is accepted, or when the channel was frozen
NORMAL_AFTER times: then the last of these runs is its longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.states import Column

RUN_INTERVALS_MIN = 20
"""No shorter run is frozen, however restless the channel: a few repeated values may be the transport's, and slower sampling repeats none."""
REPEATS_PER_MOVE = 8.0
MOBILITY_WARMUPS, MOBILITY_MAX = 3.0, 1_000.0
FADE = 1_000.0
NORMAL_AFTER = 3
ACCEPT_INTERVALS = 2_000


class Frozen(IntEnum):
    """Where a channel's run stands."""

    NO = 0
    YES = 1
    ACCEPTED = 2


class FrozenEvent(IntEnum):
    """What a reading did to its stream's alert."""

    NONE = 0
    OPENED = 1
    MOVED = 2
    ACCEPTED = 3


NO, YES, KNOWN = int(Frozen.NO), int(Frozen.YES), int(Frozen.ACCEPTED)
REASON_OF: dict[int, Literal["frozen", "moved", "accepted"]] = {
    FrozenEvent.OPENED: "frozen",
    FrozenEvent.MOVED: "moved",
    FrozenEvent.ACCEPTED: "accepted",
}
OPENED, MOVED, ACCEPTED = int(FrozenEvent.OPENED), int(FrozenEvent.MOVED), int(FrozenEvent.ACCEPTED)


def columns(channels: int) -> dict[str, Column]:
    """What is remembered per stream; times in microseconds, held: from one move to the next."""
    d = (channels,)
    return {
        "run_us": Column("f4", d),
        "held_max_us": Column("f4", d),
        "mobility": Column("f4", d),
        "lowest": Column("f4", d, np.inf),
        "highest": Column("f4", d, -np.inf),
        "frozen": Column("u1", d),
        "frozen_before": Column("u1", d),  # how often, since that was last made normal
        "is_frozen": Column("u1"),
        "frozen_at_us": Column("i8"),
        "frozen_offset": Column("i8"),
        "frozen_item": Column("i4"),
    }


STATE = tuple(columns(1))[:-2]
ACCEPTING = ("run_us", "held_max_us", "frozen", "frozen_before", "is_frozen")


@dataclass(frozen=True, slots=True)
class Stillness:
    """How long a channel may keep its value.

    factor           times its longest usual run; 0: for ever
    warmup_readings  of a new stream
    accept_after_us  age at which an open alert is accepted; <= 0: ACCEPT_INTERVALS usual intervals
    """

    factor: float
    warmup_readings: int
    accept_after_us: float


def judge(
    rows: NDArray[np.int32],
    value: NDArray[np.float32],
    moved: NDArray[np.bool_],
    event_time_us: NDArray[np.int64],
    step_us: NDArray[np.int64],
    interval_us: NDArray[np.float64],
    teaches: NDArray[np.bool_],
    stillness: Stillness,
    states: Any,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Judge the runs of one step, then learn from those that ended; no stream occurs twice in it.

    value        f4[B, D] engineering units, NaN where missing
    moved        b1[B, D] whether a value is not the one before
    step_us      i8[B] since the stream's reading before; 0 for its first, and for one with the same time
    interval_us  f8[B] usual time between two times of the stream; 0 while it is not known
    teaches      b1[B] whether the score has nothing against it
    returns      FrozenEvent u1[B], and b1[B, D] the channels that it is about: frozen now, or until this reading
    """
    event, about = np.zeros(len(rows), np.uint8), np.zeros(value.shape, np.bool_)
    mobility_min = min(MOBILITY_WARMUPS * max(stillness.warmup_readings, 1), MOBILITY_MAX)
    rule = (stillness.factor, mobility_min, stillness.accept_after_us)
    columns = [states[name] for name in STATE]
    _judge(rows, value, moved, event_time_us, step_us, interval_us, teaches, rule, *columns, event, about)
    return event, about


def accept(row: int, states: Any) -> None:
    """The runs of a row's frozen channels become normal now, by a person's word."""
    _accept(row, *(states[name] for name in ACCEPTING))


@njit(cache=True)
def _accept(r, run, held_max, frozen, frozen_before, is_frozen):  # type: ignore[no-untyped-def]
    """End an alert, its channels' runs being usual from now on."""
    is_frozen[r] = 0
    for k in range(frozen.shape[1]):
        if frozen[r, k] == YES:
            frozen[r, k] = KNOWN
            frozen_before[r, k] = 0
            held_max[r, k] = max(held_max[r, k], run[r, k])


@njit(cache=True)
def _judge(  # type: ignore[no-untyped-def]
    rows, value, moved, event_time_us, step_us, interval_us, teaches, rule,
    run, held_max, mobility, lowest, highest, frozen, frozen_before, is_frozen, frozen_at_us,
    event_out, about_out,
):  # fmt: skip
    factor, mobility_min, accept_after_us = rule
    for i in range(rows.shape[0]):
        r, interval = rows[i], interval_us[i]
        step = min(np.float64(step_us[i]), interval)
        was_open, is_any = is_frozen[r] == 1, False
        for k in range(value.shape[1]):
            v = value[i, k]
            about_out[i, k] = frozen[r, k] == YES
            if np.isnan(v):
                pass
            elif moved[i, k]:
                if frozen[r, k] == YES:
                    frozen_before[r, k] += 1
                    if frozen_before[r, k] == NORMAL_AFTER:
                        frozen_before[r, k] = 0
                        held_max[r, k] = max(held_max[r, k], run[r, k])
                elif teaches[i] and not was_open and interval > 0:
                    held = run[r, k] + step
                    earned = 1.0 - run[r, k] / interval / REPEATS_PER_MOVE
                    mobility[r, k] = min(max(mobility[r, k] + earned, 0.0), MOBILITY_MAX)
                    held_max[r, k] = max(held, held_max[r, k] - held / FADE)
                    lowest[r, k], highest[r, k] = min(lowest[r, k], v), max(highest[r, k], v)
                frozen[r, k] = NO
                run[r, k] = 0.0
            else:
                run[r, k] += step
                if (
                    frozen[r, k] == NO
                    and 0.0 < factor * held_max[r, k] < run[r, k]
                    and run[r, k] > RUN_INTERVALS_MIN * interval
                    and mobility[r, k] >= mobility_min
                    and lowest[r, k] < v < highest[r, k]
                ):
                    frozen[r, k] = YES
                    about_out[i, k] = True
            is_any = is_any or frozen[r, k] == YES
        if is_any and not was_open:
            event_out[i] = OPENED
            is_frozen[r] = 1
            frozen_at_us[r] = event_time_us[i]
        elif was_open and not is_any:
            event_out[i] = MOVED
            is_frozen[r] = 0
        elif was_open and event_time_us[i] - frozen_at_us[r] >= (accept_after_us if accept_after_us > 0 else ACCEPT_INTERVALS * interval):
            event_out[i] = ACCEPTED
            _accept(r, run, held_max, frozen, frozen_before, is_frozen)
