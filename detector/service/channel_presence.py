"""Whether each channel comes at all: of a misspelt one, no reading has a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, ReadingBatch

WINDOW_READINGS = 1_000
"""The share of readings with a value is that of so many readings, or of one larger batch."""
WHOLE = (Disposition.SCORED, Disposition.WARMUP, Disposition.EMPTY)
NEVER_CAME, STOPPED, CAME_BACK = "never came", "stopped coming", "comes again"


@dataclass(frozen=True, slots=True)
class Change:
    """A channel that NEVER_CAME, STOPPED or CAME_BACK."""

    channel: str
    what: str


class ChannelPresence:
    """Counts, in windows of readings, how many have a value of each channel.

    shares   per channel, of the last whole window; () before there is one
    """

    def __init__(self, channels: Sequence[str]) -> None:
        self._channels = channels
        self._present = np.zeros(len(channels), np.int64)
        self._readings = 0
        self._is_there: list[bool | None] = [None] * len(channels)  # None: not known yet
        self.shares: tuple[float, ...] = ()

    def add(self, batch: ReadingBatch, result: BatchResult) -> list[Change]:
        """Add one batch. returns  what a whole window shows to be otherwise than before; what never came is told once"""
        self._readings += int(np.isin(result.disposition, WHOLE).sum())
        self._present += np.count_nonzero(~np.isnan(batch.value), axis=0)
        if self._readings < WINDOW_READINGS:
            return []
        # Of values that are late or come twice there are more than of whole readings.
        self.shares = tuple(np.minimum(self._present / self._readings, 1.0).tolist())
        changes = []
        for number, (name, share) in enumerate(zip(self._channels, self.shares, strict=True)):
            before, now = self._is_there[number], share > 0
            if before != now and (before is not None or not now):
                changes.append(Change(name, CAME_BACK if now else NEVER_CAME if before is None else STOPPED))
            self._is_there[number] = now
        self._present[:], self._readings = 0, 0
        return changes
