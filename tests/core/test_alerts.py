"""Alerts: what they say, and that they say it the same in every replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.core.alerts import alert_id
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.readings import Partition
from detector.core.scaler import Scaling
from detector.core.walk import CRITICAL_BELOW
from tests.core.builders import P0, SECOND_US, Log, alerts_of, log_of, model_of, normal_values, run, settings_of

MODEL = model_of(3)
FAULTY = 1


def story(size: float, fault: range = range(150, 190), readings: int = 400) -> Log:
    """Two streams; the second channel of `pump` is off by `size` standard deviations for a while."""
    healthy, pump = normal_values(readings, 3, 7), normal_values(readings, 3, 8)
    pump[fault, FAULTY] += size * pump[:, FAULTY].std()
    rows: list[Any] = []
    for t in range(readings):
        rows += [("healthy", t, healthy[t]), ("pump", t + 0.5, pump[t])]
    return log_of(rows, 3)


def judged(log: Log, **changes: Any) -> BatchResult:
    limits: Any = {"timeout_intervals": 0.0, "budget_period_us": 10_000 * SECOND_US} | changes
    return run(Detector(MODEL, settings_of(**limits)), log)[0]


def test_ids_never_change() -> None:
    """Consumers recognise an alert by its id, also one written by an older release."""
    assert alert_id("score", "plant1/pump7", P0, 42, 0, 7) == "58467be8-5484-5d38-a0a6-0c21e8277d02"
    assert alert_id("timeout", "plant1/pump7", P0, 42, 0, 7) == "645ae786-7a80-5fd9-9bde-fa0b23476700"
    assert alert_id("stuck", "plant1/pump7", P0, 42, 0, 7) == "ab92a380-badf-5695-a161-e8bea30e9db0"
    assert alert_id("missing", "plant1/pump7", P0, 42, 0, 7) == "90c3744d-d7d1-5cb2-935d-d0cee922ad65"


def test_ids_differ_by_all_that_they_depend_on() -> None:
    one: tuple[Any, ...] = ("score", "a", P0, 1, 0, 7)
    others: list[tuple[Any, ...]] = [
        ("timeout", "a", P0, 1, 0, 7),
        ("stuck", "a", P0, 1, 0, 7),
        ("missing", "a", P0, 1, 0, 7),
        ("score", "b", P0, 1, 0, 7),
        ("score", "a", Partition("readings", 1), 1, 0, 7),
        ("score", "a", Partition("reading", 0), 1, 0, 7),
        ("score", "a", P0, 2, 0, 7),
        ("score", "a", P0, 1, 1, 7),
        ("score", "a", P0, 11, 0, 7),
        ("score", "a", P0, 1, 0, 8),
    ]
    assert len({alert_id(*arguments) for arguments in [one, *others]}) == 1 + len(others)


def test_an_episode_is_opened_and_closed_under_one_id() -> None:
    log = story(12)
    result = judged(log)
    opened, closed = result.alerts
    assert (opened.status, opened.reason, closed.status, closed.reason) == ("opened", "evidence", "closed", "cleared")
    assert opened.id == closed.id == alert_id("score", "pump", P0, opened.offset, 0, opened.opened_at_us)
    assert opened.stream == closed.stream == "pump"
    assert opened.kind == closed.kind == "score"
    assert opened.opened_at_us == closed.opened_at_us == opened.event_time_us == log.event_time_us[opened.position]
    assert closed.event_time_us == log.event_time_us[closed.position]
    assert opened.score == result.score[opened.position]
    assert opened.tail_probability == result.tail_probability[opened.position]
    open_at = [k for k, name in enumerate(log.stream) if name == "pump" and opened.position <= k < closed.position]
    assert result.alert == dict.fromkeys(open_at, opened.id)


def test_its_channels_say_what_was_seen_and_what_was_expected_worst_first() -> None:
    log = story(12)
    result = judged(log)
    opened = result.alerts[0]
    assert opened.channels[0].name == f"channel{FAULTY}"
    assert sorted(channel.name for channel in opened.channels) == list(MODEL.channels)
    assert sum(channel.share for channel in opened.channels) == pytest.approx(1, abs=1e-5)
    assert [channel.share for channel in opened.channels] == sorted((channel.share for channel in opened.channels), reverse=True)
    for channel in opened.channels:
        k = MODEL.channels.index(channel.name)
        assert channel.observed == log.value[opened.position, k]
        assert channel.expected == result.expected[opened.position, k]
        assert channel.low < channel.expected < channel.high


def test_what_is_told_of_its_reading_says_the_same() -> None:
    result = judged(story(6.0))
    opened = next(alert for alert in result.alerts if alert.status == "opened")
    assert result.score[opened.position] > result.threshold[opened.position]
    assert not (result.score[: opened.position] > result.threshold[: opened.position]).any()
    low = result.expected[opened.position] - result.reach[opened.position]
    assert sorted(channel.low for channel in opened.channels) == pytest.approx(sorted(low.tolist()))


def test_the_band_holds_nearly_all_normal_readings() -> None:
    """low and high are where 99 % of the residuals of training would leave a reading."""
    values = normal_values(1_000, 3, 3)
    result = judged(log_of([("a", t, value) for t, value in enumerate(values)], 3))
    assert isinstance(MODEL.scaling, Scaling)
    width = MODEL.score.error_scale * MODEL.scaling.scale
    inside = np.abs(values - result.expected)[50:] <= width
    assert (inside.mean(axis=0) > 0.97).all()


def test_severity_follows_from_the_opening_score() -> None:
    """A fault within the range that training saw, and one far beyond."""
    within = story(4)
    within.value[:, FAULTY] = np.minimum(within.value[:, FAULTY], MODEL.score.high[FAULTY])
    mild, absurd = judged(within, budget_period_us=1_000 * SECOND_US).alerts, judged(story(200), budget_period_us=SECOND_US).alerts
    assert {alert.severity for alert in mild} == {"warning"}
    assert mild[0].tail_probability > CRITICAL_BELOW
    pump = [alert for alert in absurd if alert.stream == "pump"]
    episode = [alert for alert in pump if alert.id == next(alert.id for alert in pump if alert.tail_probability < CRITICAL_BELOW)]
    assert episode[-1].status == "closed"
    assert episode[-1].tail_probability > CRITICAL_BELOW
    assert episode[-1].severity == "critical"  # it stays so when it closes


def test_a_missing_channel_is_nan_in_the_reason() -> None:
    log = story(12)
    log.value[300:, 2] = np.nan
    channel = next(channel for channel in judged(log).alerts[0].channels if channel.name == "channel2")
    assert np.isnan(channel.observed)
    assert np.isfinite(channel.expected)


def test_messages_that_share_an_offset_open_different_alerts() -> None:
    log = story(12)
    twice = replace(log, offset=log.offset // 50 * 50, item=(log.offset % 50).astype(np.int32))
    opened = judged(twice).alerts[0]
    assert opened.id == alert_id("score", "pump", P0, opened.offset, int(twice.item[opened.position]), opened.opened_at_us)


def test_alerts_stand_in_log_order() -> None:
    rng = np.random.default_rng(0)
    values = {f"s{k}": normal_values(200, 3, k) for k in range(6)}
    for value in values.values():
        at = int(rng.integers(80, 150))
        value[at : at + 20] *= 5
    log = log_of([(name, t + k / 10, values[name][t]) for t in range(200) for k, name in enumerate(values)], 3)
    alerts = alerts_of([judged(log)])
    assert len(alerts) > 5
    assert [alert.position for alert in alerts] == sorted(alert.position for alert in alerts)


def test_what_is_still_open_is_what_its_events_say() -> None:
    """Of every kind, at any time."""
    readings, every = 400, 13
    values = {stream: normal_values(readings, 3, seed) for seed, stream in enumerate(("pump", "fan", "saw", "healthy"))}
    values["pump"][150:190, FAULTY] += 12 * values["pump"][:, FAULTY].std()
    values["pump"][260:300, FAULTY] += 3 * values["pump"][:, FAULTY].std()
    values["fan"][200:260, 0] = values["fan"][:200, 0].mean()
    values["healthy"][300:340, 2] = np.nan
    rows = [(stream, t, value[t]) for t in range(readings) for stream, value in values.items() if stream != "saw" or not 200 <= t < 250]
    log = log_of(rows, 3)
    detector, is_open, kinds = Detector(MODEL, settings_of(budget_period_us=2_000 * SECOND_US)), dict[str, Any](), set[str]()
    for start in range(0, len(log), every):
        for alert in alerts_of(run(detector, log.take(range(start, min(start + every, len(log)))))):
            if alert.status == "closed":
                del is_open[alert.id]
            else:
                opening = is_open.get(alert.id, alert)
                is_open[alert.id] = replace(opening, severity=alert.severity)
                kinds.add(alert.kind)
        still = detector.still_open()
        assert {alert.id for alert in still} == is_open.keys()
        assert len(still) == detector.alerts_open
        for alert in still:
            of_its_opening = replace(is_open[alert.id], score=0, tail_probability=0, channels=(), position=0)
            assert replace(alert, score=0, tail_probability=0) == of_its_opening
            assert not alert.channels
    assert kinds == {"score", "timeout", "stuck", "missing"}
