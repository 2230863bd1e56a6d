"""The single walk: from a batch of readings to verdicts and alerts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.alerting import Alert


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of each reading of a batch, as columns, in the batch's order.

    disposition       u1[N]     Disposition
    score             f4[N]     >= 0; NaN where the reading was not judged
    tail_probability  f8[N]     0..1, how often a normal reading of this stream scores as high; NaN where not judged
    expected          f4[N, D]  what the model expected, engineering units; NaN where not judged
    alert             position -> id of the alert that is open after this reading; absent where none is
    alerts            what opened and closed, in log order
    """

    disposition: NDArray[np.uint8]
    score: NDArray[np.float32]
    tail_probability: NDArray[np.float64]
    expected: NDArray[np.float32]
    alert: dict[int, str]
    alerts: tuple[Alert, ...]

    def __len__(self) -> int:
        return len(self.disposition)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user decides about judging; `config.Alerts` and `config.Streams` say why.

    budget_period_us   event time per acceptable false alert of one stream
    warmup_readings    readings of a new stream that cannot alert
    accept_after_us    age at which an open alert's level is accepted; None: 2,000 readings
    silence_intervals  usual intervals without a reading that make an alert; 0: never
    idle_max_us        event time after which an unseen stream is forgotten
    streams_max        streams per partition
    """

    budget_period_us: float = 7 * 86_400e6
    warmup_readings: int = 100
    accept_after_us: float | None = None
    silence_intervals: float = 60.0
    idle_max_us: int = 30 * 86_400_000_000
    streams_max: int = 1_000_000
