"""When to send what: event time mapped onto a clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class Pace:
    """Plays readings at `speed` times their own pace (1: as they were measured; None: as fast as possible).

    clock   seconds, such as time.monotonic; the first reading asked for is due at once, all others follow from it
    """

    def __init__(self, speed: float | None, clock: Callable[[], float]) -> None:
        if speed is not None and not speed > 0:
            raise ValueError("speed must be positive, or None for full speed")
        self._speed = speed
        self._clock = clock
        self._first: tuple[int, float] | None = None

    def delay_s(self, event_time_us: int) -> float:
        """How long to wait before a reading of this event time is sent; 0 if it is due or overdue."""
        if self._speed is None:
            return 0.0
        if self._first is None:
            self._first = event_time_us, self._clock()
        first_us, began_s = self._first
        return max(0.0, began_s + (event_time_us - first_us) / 1e6 / self._speed - self._clock())

    def due(self, event_time_us: NDArray[np.int64]) -> int:
        """How many of the next readings, i8[N] in the order of sending, may be sent now.

        A reading that is not due holds back those behind it, older ones too: the order is kept.
        """
        if self._speed is None or len(event_time_us) == 0:
            return len(event_time_us)
        self.delay_s(int(event_time_us[0]))
        assert self._first is not None
        first_us, began_s = self._first
        now_us = first_us + int((self._clock() - began_s) * self._speed * 1e6)
        return int(np.searchsorted(np.maximum.accumulate(event_time_us), now_us, side="right"))
