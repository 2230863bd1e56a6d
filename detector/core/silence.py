"""Streams that stop: an alert of its own kind, decided by event time, so that a replay decides the same.

A stream is silent once its partition's watermark has passed its deadline: the watermark at which it was last heard, plus
so many of its usual intervals. The alert belongs to the reading of another stream that moved the watermark; the stream's
own next reading closes it. Measured by the watermark, not by the stream's clock, a sensor whose clock lags is not silent;
and a partition with a single stream has nothing to measure by (its lag and delay are metrics).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.event_time import NEVER, Order
from detector.core.states import Column, StreamStates

COLUMNS = {
    "is_silent": Column("u1"),
    "silent_offset": Column("i8"),  # of the reading that moved the watermark past the deadline
    "silent_item": Column("i4"),
    "silent_at_us": Column("i8"),
}


@dataclass(frozen=True, slots=True)
class Silent:
    """A stream fell silent, or was heard again. position: of the reading that shows it."""

    row: int
    position: int
    is_over: bool


class Silence:
    """Finds silent streams. Partitions whose watermark has not passed any deadline are not scanned."""

    def __init__(self, intervals: float, warmup_readings: int) -> None:
        """intervals: usual intervals without a reading that make an alert; 0: never."""
        self._intervals = intervals
        self._warmup_readings = warmup_readings
        self._earliest: dict[int, float] = {}  # slot -> no deadline of its rows is earlier

    def deadline_us(self, states: StreamStates, rows: NDArray[Any], heard_at_us: NDArray[np.int64]) -> NDArray[np.float64]:
        """f8[B] watermark after which each row is silent; infinite while its usual interval is not known."""
        usual = states["interval_us"][rows] * self._intervals
        known = (usual > 0) & (states["seen"][rows] >= self._warmup_readings) & (heard_at_us != NEVER)
        return np.where(known, heard_at_us + usual, np.inf)

    def find(
        self,
        states: StreamStates,
        rows: NDArray[np.int32],
        slots: NDArray[np.int32],
        order: Order,
        deadline_us: NDArray[np.float64],
    ) -> list[Silent]:
        """What began and ended in a batch, in the order of its readings; marks the rows.

        rows, slots   i4[N] of the batch
        deadline_us   f8[N] of each judged reading's stream, as it was before the reading; infinite for the others
        """
        if self._intervals == 0:
            return []
        found: list[Silent] = []
        heard = np.isfinite(deadline_us) | order.is_first
        overdue = np.flatnonzero(heard & ((order.watermark_us > deadline_us) | (states["is_silent"][rows] == 1)))
        for slot in np.unique(slots).tolist():
            positions = np.flatnonzero(slots == slot)
            watermarks = order.watermark_us[positions]
            for position in overdue[slots[overdue] == slot].tolist():
                row = int(rows[position])
                if not states["is_silent"][row]:
                    if order.watermark_us[position] <= deadline_us[position]:
                        continue  # an earlier reading of this batch has ended its silence
                    passed = int(positions[np.searchsorted(watermarks, deadline_us[position], side="right")])
                    if passed == position:
                        continue  # it was heard before anyone could miss it
                    found.append(Silent(row, passed, is_over=False))
                states["is_silent"][row] = 0
                found.append(Silent(row, position, is_over=True))
            found += self._missing(states, slot, positions, watermarks, rows)
        return sorted(found, key=lambda silent: (silent.position, silent.row, silent.is_over))

    def forget(self, slots: NDArray[np.int32]) -> None:
        """Partitions that left: their deadlines left with their rows."""
        for slot in slots.tolist():
            self._earliest.pop(slot, None)

    def _missing(
        self, states: StreamStates, slot: int, positions: NDArray[np.int64], watermarks: NDArray[np.int64], touched: NDArray[np.int32]
    ) -> list[Silent]:
        """Rows that the end of the batch finds silent."""
        now = int(watermarks[-1])
        touched = touched[positions]
        heard = self.deadline_us(states, touched, states["heard_at_us"][touched])
        earliest = min(self._earliest.get(slot, np.inf), float(heard.min(initial=np.inf)))
        if now > earliest:
            rows = states.rows_in(slot)
            rows = rows[states["is_silent"][rows] == 0]
            deadline = self.deadline_us(states, rows, states["heard_at_us"][rows])
            is_late = deadline < now
            earliest = float(deadline[~is_late].min(initial=np.inf))
            rows, deadline = rows[is_late], deadline[is_late]
        else:
            rows, deadline = np.empty(0, np.int64), np.empty(0)
        self._earliest[slot] = earliest
        states["is_silent"][rows] = 1
        passed = positions[np.searchsorted(watermarks, deadline, side="right")]
        return [Silent(row, position, is_over=False) for row, position in zip(rows.tolist(), passed.tolist(), strict=True)]
