"""A clock for replays: when a reading is due, by its event time and the speed of the replay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class ReplayClock:
    """Plays readings at `speed` times their own pace (1: as they were measured; None: as fast as possible).

    clock     seconds, such as time.monotonic; the first reading asked for is due at once, all others follow from it
    present   seconds since the epoch, such as time.time; if given, no reading is due before the time that it bears
    """

    def __init__(self, speed: float | None, clock: Callable[[], float], present: Callable[[], float] | None = None) -> None:
        if speed is not None and not speed > 0:
            raise ValueError("speed must be positive, or None for full speed")
        self._speed = speed
        self._clock = clock
        self._present = present
        self._first: tuple[int, float] | None = None

    def delay_s(self, event_time_us: int) -> float:
        """How long to wait before a reading of this event time is sent; 0 if it is due or overdue."""
        delay_s = 0.0
        if self._speed is not None:
            if self._first is None:
                self._first = event_time_us, self._clock()
            first_us, began_s = self._first
            delay_s = began_s + (event_time_us - first_us) / 1e6 / self._speed - self._clock()
        if self._present is not None:
            delay_s = max(delay_s, event_time_us / 1e6 - self._present())
        return max(0.0, delay_s)

    def due(self, event_time_us: NDArray[np.int64]) -> int:
        """How many of the next readings, i8[N] in the order of sending, may be sent now.

        A reading that is not due holds back those behind it, older ones too: the order is kept.
        """
        if len(event_time_us) == 0:
            return 0
        self.delay_s(int(event_time_us[0]))
        now_us = np.inf
        if self._first is not None and self._speed is not None:
            first_us, began_s = self._first
            now_us = first_us + int((self._clock() - began_s) * self._speed * 1e6)
        if self._present is not None:
            now_us = min(now_us, self._present() * 1e6)
        return int(np.searchsorted(np.maximum.accumulate(event_time_us), now_us, side="right"))
