"""Narrow readings, one channel each, joined to whole ones.

Values of one stream with the same event time are one reading. It is whole when every channel has come, or when a value
with a later time shows that no more will. It then takes the place of the message that completed it; the others are PARTIAL.
A value that comes again, or late, after its reading was whole begins another, which is found to be duplicate or late in its turn.

Where ties are kept, readings with one time are told apart by their channels: the second value of a channel shows that no more will come of
the reading that is held, and begins the next, with the same time. Where they are not, it is a duplicate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.event_time import NEVER
from detector.core.readings import Disposition
from detector.core.states import Column

LATE, DUPLICATE, PARTIAL = int(Disposition.LATE), int(Disposition.DUPLICATE), int(Disposition.PARTIAL)


COLUMNS = ("part_time_us", "part_value", "part_has")


def columns(channels: int) -> dict[str, Column]:
    """What is held per stream: the reading that is not whole yet."""
    return {
        "part_time_us": Column("i8", fill=NEVER),
        "part_value": Column("f4", (channels,), np.nan),
        "part_has": Column("u1", (channels,)),
    }


def join(
    rows: NDArray[np.int32],
    event_time_us: NDArray[np.int64],
    channel: NDArray[np.int32],
    value: NDArray[np.float32],
    states: Any,
    *,
    keeps_ties: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
    """Join the values of a batch, in log order.

    rows, channel  i4[N] row of the stream, and which channel each value belongs to
    value          f4[N, D]
    keeps_ties     a channel's second value of one time begins another reading; otherwise it is a duplicate
    returns        disposition u1[N] (0 where a message completed a reading), and for those event time i8[N] and value f4[N, D]
    """
    disposition = np.full(len(rows), PARTIAL, np.uint8)
    whole_time, whole = event_time_us.copy(), np.full_like(value, np.nan)
    _join(
        rows,
        event_time_us,
        channel,
        value,
        keeps_ties,
        states["part_time_us"],
        states["part_value"],
        states["part_has"],
        disposition,
        whole_time,
        whole,
    )
    return disposition, whole_time, whole


@njit(cache=True)
def _join(  # type: ignore[no-untyped-def]
    rows, event_time_us, channel, value, keeps_ties, part_time, part_value, part_has, disposition, whole_time, whole
):  # fmt: skip
    d = value.shape[1]
    for i in range(rows.shape[0]):
        r, t, k = rows[i], event_time_us[i], channel[i]
        if t < part_time[r]:
            disposition[i] = LATE
            continue
        is_tie = t == part_time[r] and part_has[r, k] == 1
        if is_tie and not keeps_ties:
            disposition[i] = DUPLICATE
            continue
        if part_time[r] != NEVER and (is_tie or t > part_time[r]):  # no more will come of the reading that is held
            disposition[i] = 0
            whole_time[i] = part_time[r]
            whole[i] = part_value[r]
            part_value[r] = np.nan
            part_has[r] = 0
        part_time[r] = t
        part_value[r, k] = value[i, k]
        part_has[r, k] = 1
        if part_has[r].sum() == d and disposition[i] == PARTIAL:
            disposition[i] = 0
            whole[i] = part_value[r]
            part_time[r] = NEVER
            part_value[r] = np.nan
            part_has[r] = 0
