"""Streams that stop: missed first, which is an alert, and forgotten in the end. Decided by event time: a replay decides the same.

A stream is missed once its partition's clock has passed its deadline: the clock at which it was last heard, plus so many of
its usual intervals. The alert belongs to the reading of another stream that moved the clock; the stream's own next reading
closes it. Measured by the partition's clock, a sensor whose own clock lags is not missed, nor is anybody when the whole partition
pauses; and a partition with a single stream has nothing to measure by (its lag and delay are metrics). A stream that stays away
beyond `idle_max_us` is forgotten: its row is free for others, and what was open for it is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.core.event_time import NEVER, Order, Passing, Patience
from detector.core.states import Column, StreamStates

COLUMNS = {
    "is_silent": Column("u1"),
    "silent_offset": Column("i8"),  # of the reading that moved the clock past the deadline
    "silent_item": Column("i4"),
    "silent_at_us": Column("i8"),
}


@dataclass(frozen=True, slots=True)
class Silent:
    """A stream was missed, was heard again, or was forgotten while it was missed. position: of the reading that shows it."""

    row: int
    position: int
    reason: Literal["timeout", "resumed", "evicted"]


@dataclass(frozen=True, slots=True)
class Expired:
    """A stream that stayed away for too long: its row can be freed. position: of the reading that shows it."""

    row: int
    position: int


class Silence:
    """Finds streams that stay away. A partition is scanned only when its time has passed the earliest deadline of its rows.

    A partition that it does not know yet, or that was forgotten, is scanned at once: its rows may have been loaded.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._missed_us: dict[int, float] = {}  # slot -> no row is missed before this clock
        self._expired_us: dict[int, float] = {}  # slot -> no row is forgotten before this watermark

    def forget(self, slots: NDArray[np.int32]) -> None:
        """Partitions that left: their deadlines left with their rows."""
        for slot in slots.tolist():
            self._missed_us.pop(slot, None)
            self._expired_us.pop(slot, None)

    def find(
        self, states: StreamStates, rows: NDArray[np.int32], placed: NDArray[np.int64], order: Order, passing: Passing
    ) -> tuple[list[Silent], list[Expired]]:
        """What a batch shows, in the order of its readings; marks the rows that are missed.

        rows, placed   i4[W], i8[W] the whole readings: row of the stream, position in the batch; `order` is theirs
        passing        over all readings of the batch
        """
        slots = passing.slots
        is_back = (order.disposition == 0) & (
            (passing.clock_us[placed] > order.missed_us) | np.isfinite(order.expired_us) | (states["is_silent"][rows] == 1)
        )
        silent: list[Silent] = []
        for place in np.flatnonzero(is_back).tolist():
            due, position = (float(order.missed_us[place]), float(order.expired_us[place])), int(placed[place])
            silent += self._absence(states, int(rows[place]), int(slots[position]), *due, position, passing)
        expired: list[Expired] = []
        for slot in np.unique(slots).tolist():
            last = passing.positions(slot)[-1]
            touched = rows[slots[placed] == slot]
            away, missed_us, expired_us = self._away(states, slot, touched, int(passing.clock_us[last]), int(passing.watermark_us[last]))
            for k, row in enumerate(away.tolist()):
                silent += self._absence(states, row, slot, float(missed_us[k]), float(expired_us[k]), passing.beyond, passing)
                gone = passing.watermark(slot, float(expired_us[k]))
                if gone < passing.beyond:
                    expired.append(Expired(row, gone))
        return sorted(silent, key=lambda each: (each.position, each.row)), expired

    @staticmethod
    def _absence(
        states: StreamStates, row: int, slot: int, missed_us: float, expired_us: float, back: int, passing: Passing
    ) -> Iterator[Silent]:
        """One absence: missed, then forgotten or back. back: position of the reading that ends it, if one does."""
        missed, gone = passing.clock(slot, missed_us), passing.watermark(slot, expired_us)
        if not states["is_silent"][row] and missed < min(gone, back):
            states["is_silent"][row] = 1
            yield Silent(row, missed, "timeout")
        if states["is_silent"][row] and min(gone, back) < passing.beyond:
            states["is_silent"][row] = 0
            yield Silent(row, min(gone, back), "evicted" if gone < passing.beyond else "resumed")

    def _away(
        self, states: StreamStates, slot: int, touched: NDArray[np.int32], clock_us: int, watermark_us: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Rows that the end of a batch finds missed or forgotten, with the clock and the watermark that decide it."""
        heard_us, _ = self._deadlines(states, touched)
        self._missed_us[slot] = min(self._missed_us.get(slot, np.inf), float(heard_us.min(initial=np.inf)))
        if clock_us <= self._missed_us[slot] and watermark_us <= self._expired_us.get(slot, NEVER):
            return np.empty(0, np.int64), np.empty(0), np.empty(0)
        rows = states.rows_in(slot)
        missed_us, expired_us = self._deadlines(states, rows)
        self._missed_us[slot] = float(missed_us[missed_us >= clock_us].min(initial=np.inf))
        self._expired_us[slot] = float(expired_us[expired_us >= watermark_us].min(initial=watermark_us + self._patience.idle_max_us))
        is_away = (missed_us < clock_us) | (expired_us < watermark_us)
        return rows[is_away], missed_us[is_away], expired_us[is_away]

    def _deadlines(self, states: StreamStates, rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """f8[B] each: the clock beyond which a row is missed (infinite if it is already), the watermark beyond which it is forgotten."""
        patience, interval_us = self._patience, states["interval_us"][rows]
        can_be_missed = (interval_us > 0) & (states["heard"][rows] >= patience.warmup_readings) & (states["is_silent"][rows] == 0)
        missed_us = states["heard_clock_us"][rows] + patience.silence_intervals * interval_us
        heard_at_us = states["heard_at_us"][rows].astype(np.float64)
        expired_us = np.where(states["heard_at_us"][rows] == NEVER, np.inf, heard_at_us + patience.idle_max_us)
        return np.where(can_be_missed & (patience.silence_intervals > 0), missed_us, np.inf), expired_us
