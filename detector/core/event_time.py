"""What event time decides: late and duplicate readings, forgotten streams. All in log order.

A partition's **watermark** is the latest event time read from it. Everything here depends on the log alone, never on how
it was cut into batches: what the watermark decides is attributed to the reading that moved it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.readings import Disposition
from detector.core.states import Column

NEVER = np.iinfo(np.int64).min
LATE, DUPLICATE = int(Disposition.LATE), int(Disposition.DUPLICATE)

COLUMNS = {
    "event_time_us": Column("i8", fill=NEVER),  # of the newest reading
    "heard_at_us": Column("i8", fill=NEVER),  # the partition's watermark when that reading came
}


@dataclass(frozen=True, slots=True)
class Order:
    """Where the readings of a batch stand in time.

    disposition   u1[N]  LATE, DUPLICATE, or 0: to be judged
    is_first      b1[N]  the stream's first reading, or its first after it was forgotten
    elapsed_us    i8[N]  since the stream's reading before; -1 for its first
    heard_at_us   i8[N]  watermark when the stream's reading before came, forgotten since or not; NEVER where there was none
    watermark_us  i8[N]  watermark of the partition, this reading included
    """

    disposition: NDArray[np.uint8]
    is_first: NDArray[np.bool_]
    elapsed_us: NDArray[np.int64]
    heard_at_us: NDArray[np.int64]
    watermark_us: NDArray[np.int64]


def put_in_order(
    rows: NDArray[np.int32],
    slots: NDArray[np.int32],
    event_time_us: NDArray[np.int64],
    watermark_us: NDArray[np.int64],
    idle_max_us: int,
    states: Any,
) -> Order:
    """Classify readings and advance the streams' and partitions' clocks.

    rows, slots    i4[N] row of each reading's stream, and slot of its partition
    watermark_us   i8[slots], advanced
    idle_max_us    a stream unheard for longer, by the watermark, is new when it comes back
    """
    n = len(rows)
    order = Order(np.zeros(n, np.uint8), np.zeros(n, np.bool_), np.full(n, -1, np.int64), np.empty(n, np.int64), np.empty(n, np.int64))
    _put_in_order(
        rows, slots, event_time_us, watermark_us, idle_max_us, states["event_time_us"], states["heard_at_us"],
        order.disposition, order.is_first, order.elapsed_us, order.heard_at_us, order.watermark_us,
    )  # fmt: skip
    return order


@njit(cache=True)
def _put_in_order(  # type: ignore[no-untyped-def]
    rows, slots, event_time_us, watermark, idle_max_us, newest, heard_at, disposition, is_first, elapsed, heard_before, watermark_at
):  # fmt: skip
    for i in range(rows.shape[0]):
        r, t = rows[i], event_time_us[i]
        w = watermark[slots[i]] = max(watermark[slots[i]], t)
        watermark_at[i] = w
        heard_before[i] = heard_at[r]
        if newest[r] == NEVER or w - heard_at[r] > idle_max_us:
            is_first[i] = True
        elif t < newest[r]:
            disposition[i] = LATE
            continue
        elif t == newest[r]:
            disposition[i] = DUPLICATE
            continue
        else:
            elapsed[i] = t - newest[r]
        newest[r] = t
        heard_at[r] = w
