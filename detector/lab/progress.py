"""How far a training is, for a person who waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Played: TypeAlias = Callable[[int], None]
"""Takes the number of readings that have just been played through the network."""


def unheard(readings: int) -> None:
    """A `Played` that reports nothing."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """A pass over all readings that is done: losses are errors relative to persistence (1: no better)."""

    number: int
    train_loss: float
    held_out_loss: float
    seconds_left: float
    is_best: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one stage of a training: `played` of its `total` readings have gone through the network, as often as they have to."""

    stage: str
    played: int
    total: int


class Reporter:
    """Reports how far a training is, to those who are given; None: to nobody."""

    def __init__(self, on_epoch: Callable[[Epoch], None] | None = None, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._on_epoch, self._on_progress = on_epoch, on_progress
        self._stage, self._played, self._total = "", 0, 0

    def begin(self, stage: str, readings: int) -> None:
        """A stage in which about so many readings are played."""
        self._stage, self._played, self._total = stage, 0, readings
        self.played(0)

    def played(self, readings: int) -> None:
        """So many more, as `Played`."""
        self._played = min(self._played + readings, self._total)
        if self._on_progress is not None:
            self._on_progress(Progress(self._stage, self._played, self._total))

    def epoch(self, epoch: Epoch) -> None:
        """One more is done."""
        if self._on_epoch is not None:
            self._on_epoch(epoch)


SILENT = Reporter()
