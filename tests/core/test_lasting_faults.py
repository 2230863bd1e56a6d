"""A fault does not become the new normal by lasting, a new set point does when its baseline is reset, and a second fault is seen within the first.

One stream, a reading every five minutes, with cycles of some hours.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.alerts import Alert
from detector.core.detector import Detector
from tests.core.builders import SECOND_US, log_of, model_of, normal_values, run, settings_of

MODEL = model_of(3)
INTERVAL_S = 300
DAY = 24 * 3_600 // INTERVAL_S
"""Readings."""
DAY_US = 24 * 3_600 * SECOND_US
BUDGET = {"budget_period_us": 7 * DAY_US, "warmup_readings": 100, "idle_ttl_us": 90 * DAY_US}
LEARNED = ("quantile", "excess", "mean", "variance")


def played(value: NDArray[np.float32], reset_after_days: float) -> tuple[Detector, list[Alert], NDArray[np.float32]]:
    """Detector, alerts and scores after all readings."""
    detector = Detector(MODEL, settings_of(**BUDGET, reset_baseline_after_us=reset_after_days * DAY_US))
    (result,) = run(detector, log_of([("pump", INTERVAL_S * t, reading) for t, reading in enumerate(value)], 3))
    return detector, list(result.alerts), result.score


def faulty(days: float, start: int, end: int, size: float) -> NDArray[np.float32]:
    """A level fault of so many standard deviations."""
    value = normal_values(round(days * DAY), 3, 5)
    value[start:end, 1] += np.float32(size * value[:, 1].std())
    return value


def test_a_fault_that_lasts_a_week_stays_one_open_alert_and_is_not_learned() -> None:
    start, end = 2 * DAY, 9 * DAY
    value = faulty(9, start, end, 6)
    before, _, _ = played(value[:start], reset_after_days=14)
    after, alerts, _ = played(value, reset_after_days=14)
    assert [alert.reason for alert in alerts] == ["evidence"]
    for name in LEARNED:
        assert after.store.heads[name][0] == pytest.approx(before.store.heads[name][0], abs=0.02)
    whole, alerts, _ = played(np.concatenate((value, normal_values(DAY, 3, 5))), reset_after_days=14)
    assert [alert.reason for alert in alerts] == ["evidence", "cleared"]
    assert not whole.store.heads["score_open"][0]


def test_a_new_set_point_becomes_the_baseline_in_time_and_is_normal_from_then_on() -> None:
    value = faulty(6, DAY, 6 * DAY, 6)
    detector, alerts, _ = played(value, reset_after_days=2)
    assert [alert.reason for alert in alerts] == ["evidence", "reset"]
    assert alerts[1].event_time_us - alerts[0].event_time_us == 2 * DAY_US
    assert not detector.store.heads["score_open"][0]


def test_a_second_fault_during_the_first_is_seen() -> None:
    first, second = 2 * DAY, 3 * DAY
    value = faulty(4, first, 4 * DAY, 5)
    _, alone, score = played(value, reset_after_days=14)
    assert [alert.status for alert in alone] == ["opened"]
    value[second : second + 60, 2] += np.float32(20 * value[:, 2].std())
    _, alerts, worse = played(value, reset_after_days=14)
    assert worse[second] > score[second]
    opened, updated = alerts
    assert (opened.status, updated.status, updated.reason) == ("opened", "updated", "escalated")
    assert updated.id == opened.id
    assert second <= updated.offset < second + 30
    assert updated.channels[0].name == "channel2"
