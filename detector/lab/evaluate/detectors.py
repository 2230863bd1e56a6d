"""What a detector is that can be compared: fitted on the training part of a series, it scores readings in order, without a look ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F4 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    """What a detector says of a sequence.

    score          f4[T] larger is stranger; finite. It ranks readings
    expected       f4[T, D] what it expected, engineering units; None where it expects nothing
    instantaneous  f4[T] score of each reading by itself, where what is strange lingers in `score`; None where nothing does
    """

    score: F4
    expected: F4 | None = None
    instantaneous: F4 | None = None

    @property
    def deciding(self) -> F4:
        """What an alarm, or a fixed threshold, decides by: f4[T]."""
        return self.score if self.instantaneous is None else self.instantaneous


Scorer = Callable[[F4], Scored]
"""Scores a whole sequence f4[T, D] (engineering units, NaN where missing) from an empty memory on, causally: the scores of a prefix are the
prefix of the scores."""


@dataclass(frozen=True, slots=True)
class SeriesDetector:
    """A detector of whole series.

    name       one word, as on the command line
    about      what it does, in a line
    fit        (train f4[n, D], seed) -> Scorer; the train part may have constant channels, NaN, and as little as 100 readings
    is_seeded  whether another seed gives another detector
    channels   the width of the only series that it can score; None: any
    """

    name: str
    about: str
    fit: Callable[[F4, int], Scorer]
    is_seeded: bool = False
    channels: int | None = None
