"""What the detector tells of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from detector.core.alerting import Alert
from detector.core.readings import NOT_JUDGED


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A stream whose row was freed. changed_in: as `StreamStates` knew it."""

    slot: int
    name: bytes
    changed_in: int


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of each reading of a batch, as columns, in the batch's order.

    disposition       u1[N]     Disposition; NOT_JUDGED in a blank one
    score             f4[N]     >= 0, with what lingers of the readings before; NaN where the reading was not judged
    tail_probability  f8[N]     0..1, how often a normal reading of this stream scores as high, each alone; NaN where not judged
    expected          f4[N, D]  what the model expected, engineering units; NaN where not judged
    alert             position -> id of the alert that is open after this reading; absent where none is
    alerts            what opened and closed, in log order
    changed           i8[R]     rows whose memory the batch changed, repeatedly; some are free meanwhile
    forgotten         streams whose rows the batch freed
    alone             f4[N]     the score of each reading by itself, which the alarm decides by; NaN where the reading was not judged
    threshold         f4[N]     score beyond which the reading opens an alert, or makes an open one worse; NaN where no score could
    reach             f4[N, D]  how far from `expected` 99 % of normal readings lie at most, engineering units; NaN where not judged
    """

    disposition: NDArray[np.uint8]
    score: NDArray[np.float32]
    tail_probability: NDArray[np.float64]
    expected: NDArray[np.float32]
    alert: dict[int, str]
    alerts: tuple[Alert, ...]
    changed: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    forgotten: tuple[Forgotten, ...] = ()
    alone: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    threshold: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    reach: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.disposition)

    @staticmethod
    def blank(readings: int, channels: int) -> Verdicts:
        """Of so many readings, before anything is known of them."""
        return Verdicts(
            disposition=np.full(readings, NOT_JUDGED, np.uint8),
            score=np.full(readings, np.nan, np.float32),
            tail_probability=np.full(readings, np.nan, np.float64),
            expected=np.full((readings, channels), np.nan, np.float32),
            alert={},
            alerts=(),
            alone=np.full(readings, np.nan, np.float32),
            threshold=np.full(readings, np.nan, np.float32),
            reach=np.full((readings, channels), np.nan, np.float32),
        )

    @staticmethod
    def joined(each: Sequence[Verdicts]) -> Verdicts:
        """Verdicts on batches that follow one another, as those on one."""
        starts = np.cumsum([0, *map(len, each)]).tolist()
        return Verdicts(
            disposition=np.concatenate([one.disposition for one in each]),
            score=np.concatenate([one.score for one in each]),
            tail_probability=np.concatenate([one.tail_probability for one in each]),
            expected=np.concatenate([one.expected for one in each]),
            alert={start + at: alert for start, one in zip(starts, each, strict=False) for at, alert in one.alert.items()},
            alerts=tuple(replace(a, position=start + a.position) for start, one in zip(starts, each, strict=False) for a in one.alerts),
            changed=np.concatenate([one.changed for one in each]),
            forgotten=tuple(gone for one in each for gone in one.forgotten),
            alone=np.concatenate([one.alone for one in each]),
            threshold=np.concatenate([one.threshold for one in each]),
            reach=np.concatenate([one.reach for one in each]),
        )
