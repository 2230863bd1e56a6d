"""What the user decides about judging, and how compiled code reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.alarm import Prior


@dataclass(frozen=True, slots=True)
class Settings:
    """`config.Alerts` and `config.Streams` say why.

    budget_period_us   event time per acceptable false alert of one stream
    warmup_readings    readings of a new stream that cannot alert
    reset_baseline_after_us   age at which an open alert's level becomes the baseline; None: 2,000 readings or a day (`alarm.life_us`)
    timeout_intervals  usual intervals by the partition's clock without a reading, after which a stream times out; 0: never
    stuck_run_factor   times its longest usual run that a channel may keep its value, or be missing; 0: for ever
    idle_ttl_us        event time by the watermark after which an unseen stream is evicted; it is new if it comes back
    max_per_partition  streams
    keeps_ties         a reading as old as its stream's newest is judged, in the order of the log; otherwise it is a duplicate
    """

    budget_period_us: float = 7 * 86_400e6
    warmup_readings: int = 100
    reset_baseline_after_us: float | None = None
    timeout_intervals: float = 60.0
    stuck_run_factor: float = 5.0
    idle_ttl_us: int = 30 * 86_400_000_000
    max_per_partition: int = 1_000_000
    keeps_ties: bool = False


RULES = np.dtype(
    [
        ("budget_period_us", "<f8"),
        ("reset_after_us", "<f8"),  # 0: by readings
        ("timeout_intervals", "<f8"),
        ("stuck_run_factor", "<f8"),
        ("quantile", "<f8"),  # of the bundle's prior
        ("excess", "<f8"),
        ("warmup_readings", "<i8"),
        ("cold_readings", "<i8"),
        ("idle_ttl_us", "<i8"),
        ("keeps_ties", "u1"),
    ],
    align=True,
)


def rules_of(settings: Settings, prior: Prior) -> NDArray[Any]:
    """RULES[1]."""
    rules = np.zeros(1, RULES)
    for name in ("budget_period_us", "timeout_intervals", "stuck_run_factor", "warmup_readings", "idle_ttl_us", "keeps_ties"):
        rules[name] = getattr(settings, name)
    rules["reset_after_us"] = settings.reset_baseline_after_us or 0.0
    for name in ("quantile", "excess", "cold_readings"):
        rules[name] = getattr(prior, name)
    return rules
