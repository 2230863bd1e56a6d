"""How calm alerts are: the measures, and what they say of streams with a plain rhythm of the day."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.adapters.bundle import load_bundle
from detector.core.alerts import Alert, ChannelReason
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.readings import Disposition, Partition, ReadingBatch, StreamNames
from detector.core.rules import Settings
from detector.lab.calm import CalmTally
from tests.core.builders import log_of, run

HOUR_US = 3_600_000_000
P0 = Partition("sensors", 0)
WEEK_S = 7 * 86_400


def batch_of(names: StreamNames, stream: str, hours: list[int]) -> ReadingBatch:
    count = len(hours)
    zeros = np.zeros(count, np.int32)
    times = np.array(hours, np.int64) * HOUR_US
    return ReadingBatch(
        np.full(count, names[stream.encode()], np.int32), times, np.zeros((count, 1), np.float32), zeros, np.arange(count), zeros, (P0,)
    )


def alert(status: Any, kind: Any, hour: int, opened: int, observed: float = 5.0, stream: str = "a") -> Alert:
    channels = (ChannelReason("temp", observed, 1.0, 0.0, 2.0, 1.0),) if kind == "score" else ()
    identity = f"{stream}{opened}"
    return Alert(identity, status, kind, "evidence", "warning", stream, opened * HOUR_US, hour * HOUR_US, 9.0, 1e-6, channels, P0, 0, 0)


def result_of(count: int, inside: dict[int, str], *alerts: Alert) -> BatchResult:
    """inside: position -> id of the alert that is open after the reading"""
    disposition = np.full(count, Disposition.SCORED, np.uint8)
    return replace(BatchResult.blank(count, 1), disposition=disposition, alert=inside, alerts=alerts)


def test_lengths_shares_and_the_budget() -> None:
    names, tally = StreamNames(), CalmTally()
    tally.add(
        batch_of(names, "a", [0, 1, 2, 3]), result_of(4, {1: "a1", 2: "a1"}, alert("opened", "score", 1, 1), alert("closed", "score", 3, 1))
    )
    tally.add(batch_of(names, "b", [0, 168]), result_of(2, {}, alert("opened", "timeout", 5, 5, stream="b")))
    tally.add(batch_of(names, "a", [4, 168]), result_of(2, {1: "a100"}, alert("opened", "score", 100, 100, observed=1.5)))
    calm = tally.calm
    assert (calm.readings, calm.inside, calm.inside_share) == (8, 3, 3 / 8)
    assert calm.opened == {"score": 2, "timeout": 1}
    assert sorted(calm.lengths_s) == [2 * 3_600, 68 * 3_600]
    assert (calm.still_open, calm.longest_s, calm.median_s) == (1, 68 * 3_600, 35 * 3_600)
    assert calm.stream_s == 2 * WEEK_S
    assert calm.over_budget(WEEK_S) == 1
    assert (calm.named, calm.outside, calm.outside_share) == (2, 1, 0.5)


def test_an_open_alert_ends_with_its_own_stream() -> None:
    names, tally = StreamNames(), CalmTally()
    tally.add(batch_of(names, "a", [0, 10]), result_of(2, {1: "a4"}, alert("opened", "score", 4, 4)))
    tally.add(batch_of(names, "b", [0, 500]), result_of(2, {}))
    assert tally.calm.longest_s == 6 * 3_600


def test_nothing_is_calm() -> None:
    calm = CalmTally().calm
    assert (calm.inside_share, calm.longest_s, calm.median_s) == (0, 0, 0)
    assert np.isnan(calm.over_budget(WEEK_S))
    assert np.isnan(calm.outside_share)


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_machines_with_a_daily_rhythm_are_not_in_alert_on_their_first_days(noise: float) -> None:
    """A reading every five minutes, no fault. Where an alert teaches nothing in these days, all eight machines are in alert."""
    draw, rows = np.random.default_rng(3), 5 * 288
    phase = 2 * np.pi * np.arange(rows) / 288
    story = []
    for machine in range(8):
        value = np.stack((20 + 5 * np.sin(phase), 50 + 10 * np.sin(phase - 1)), axis=1) + draw.normal(0, noise, (rows, 2)) * [1, 2]
        story += [(f"m{machine}", t * 300, value[t]) for t in range(rows)]
    log = log_of(sorted(story, key=lambda row: row[1]), 2)
    detector = Detector(load_bundle("universal", ["a", "b"]), Settings())
    results = run(detector, log, range(2_000, len(log), 2_000))
    assert sum(len(result.alert) for result in results) < 0.01 * len(log)
    assert sum(alert.status == "opened" for result in results for alert in result.alerts) <= 1


@pytest.mark.parametrize("kind", ["missing", "stuck"])
def test_a_channel_that_died_is_told_once_and_not_blamed_for_what_comes_later(kind: str) -> None:
    """A reading a minute; gas dies at 900, the temperature jumps at 3,000."""
    draw, rows = np.random.default_rng(5), 3_300
    value = np.stack((20 + draw.normal(0, 0.4, rows), 100 + draw.normal(0, 8, rows)), axis=1)
    value[900:, 1] = np.nan if kind == "missing" else 100.0
    value[3_000:3_100, 0] += 6
    log = log_of([("m", t * 60, value[t]) for t in range(rows)], 2)
    results = run(Detector(load_bundle("universal", ["temperature", "gas"]), Settings()), log, range(1_000, rows, 1_000))
    opened = [alert for result in results for alert in result.alerts if alert.status == "opened"]
    assert [alert.kind for alert in opened] == [kind, "score"]
    assert [channel.name for channel in opened[0].channels] == ["gas"]
    first = opened[1].channels[0]
    assert first.name == "temperature"
    assert not first.low <= first.observed <= first.high
    assert 3_000 <= opened[1].offset < 3_010


def test_a_counter_among_the_channels_does_not_hold_an_alert_open() -> None:
    draw, rows = np.random.default_rng(6), 1_500
    value = np.stack((24 + draw.normal(0, 0.5, rows), np.cumsum(draw.integers(0, 3, rows))), axis=1)
    value[1_200:, 0] += 8
    log = log_of([("m", t * 300, value[t]) for t in range(rows)], 2)
    tally, at = CalmTally(), 0
    detector = Detector(load_bundle("universal", ["temperature", "count"]), Settings())
    for result in run(detector, log, range(500, rows, 500)):
        tally.add(log.take(range(at, at + len(result))).batch(detector), result)
        at += len(result)
    assert tally.calm.longest_s <= 86_400
    assert tally.calm.still_open == 0


def test_channels_outside_their_band_come_first() -> None:
    draw, rows = np.random.default_rng(9), 1_200
    value = draw.normal(0, 1, (rows, 4)) + np.array([10, 20, 30, 40])
    value[1_000:, 2] += 9
    log = log_of([("m", t * 60, value[t]) for t in range(rows)], 4)
    results = run(Detector(load_bundle("universal", ["a", "b", "c", "d"]), Settings()), log)
    told = [alert for result in results for alert in result.alerts if alert.kind == "score" and alert.offset >= 1_000]
    assert told[0].channels[0].name == "c"
    for alert in told:
        is_inside = [channel.low <= channel.observed <= channel.high for channel in alert.channels]
        assert is_inside == sorted(is_inside)
        shares = [channel.share for channel, inside in zip(alert.channels, is_inside, strict=True) if inside]
        assert shares == sorted(shares, reverse=True)
