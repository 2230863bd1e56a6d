from __future__ import annotations

import numpy as np
import pytest

from detector.core.threshold import PATIENCE
from detector.lab.evaluate.alarms import Episode, Points, against_labels, episodes, evidence, points, published, total
from detector.lab.evaluate.series import Series


def series(faults: list[tuple[int, int]], readings: int = 2_000, ignored: tuple[int, int] | None = None) -> Series:
    label = np.zeros(readings, bool)
    for start, end in faults:
        label[start:end] = True
    left_out = None
    if ignored is not None:
        left_out = np.zeros(readings, bool)
        left_out[slice(*ignored)] = True
    nothing = np.zeros((0, 1), np.float32)
    return Series("A", "a", nothing, np.zeros((readings, 1), np.float32), label, left_out)


def test_alerts_against_labels() -> None:
    alerts = [Episode(50, 60), Episode(510, 620), Episode(690, 695), Episode(1_040, 1_050), Episode(1_500, 2_000)]
    alarmed = against_labels(alerts, series([(500, 600), (1_000, 1_020), (1_800, 1_900)]), 1_000)
    assert alarmed.events == 3
    assert alarmed.found == 2  # inside, and within 50 readings after
    assert alarmed.delays == (10, 40)
    assert alarmed.false == 2  # the first and the last: 690 is soon after a fault
    assert alarmed.overlapped == 2  # the last overlaps a fault that it did not find
    assert (alarmed.hits, alarmed.misses) == (2, 3)
    assert alarmed.budgeted == (2_000 - (200 + 120 + 200)) / 1_000


def test_what_is_ignored_is_neither_right_nor_wrong() -> None:
    alarmed = against_labels([Episode(30, 40)], series([], ignored=(0, 100)), 100)
    assert (alarmed.false, alarmed.budgeted) == (0, 19.0)


def test_a_long_excess_is_one_episode_and_the_warm_up_is_mute() -> None:
    generator = np.random.default_rng(0)
    calibration = generator.exponential(1, 500).astype(np.float32)
    calibration[300] = 20
    score = generator.exponential(1, 1_000).astype(np.float32)
    assert episodes(calibration, score, 10_000) == []
    score[400:450] += 30
    (alert,) = episodes(calibration, score, 10_000)
    assert 400 <= alert.start < 405
    assert 450 + PATIENCE - 1 <= alert.end < 490
    score[-20:] += 30
    assert episodes(calibration, score, 10_000)[-1].end == 1_000


def test_it_says_when_an_alert_opens_and_when_that_gets_worse() -> None:
    """A fault, and within it a second one: one episode, of which the alarm speaks twice."""
    generator = np.random.default_rng(0)
    calibration, score = (generator.exponential(1, readings).astype(np.float32) for readings in (500, 1_000))
    score[400:700] += 30
    score[550:700] += 60
    (alert,) = episodes(calibration, score, 10_000)
    opened, got_worse = np.flatnonzero(published(calibration, score, 10_000))
    assert opened == alert.start
    assert 550 <= got_worse < 560


def test_an_alert_never_sees_what_comes_after() -> None:
    generator = np.random.default_rng(1)
    calibration, score = (generator.exponential(1, readings).astype(np.float32) for readings in (300, 2_000))
    score[500:560] += 20
    score[1_500:1_600] += 20
    before = [each for each in episodes(calibration, score, 1_000) if each.end <= 1_000]
    assert before == episodes(calibration, score[:1_000], 1_000)
    assert before


def test_evidence_passes_what_it_must_where_an_alert_opens() -> None:
    generator = np.random.default_rng(2)
    calibration, score = (generator.exponential(1, readings).astype(np.float32) for readings in (300, 800))
    score[500:560] += 20
    gathered, needed = evidence(calibration, score, 1_000)
    (alert,) = episodes(calibration, score, 1_000)
    assert gathered[alert.start] > needed[alert.start]
    assert (gathered[: alert.start] <= needed[: alert.start]).all()
    assert gathered[alert.end] == 0.0  # closed, and begun anew
    assert needed[alert.end + 1] > needed[alert.start]  # dearer now


def test_points() -> None:
    label = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    counted = points(np.array([1, 0, 0, 1, 0, 0, 0], bool), label)
    assert counted == Points(1, 1, 3, 4)
    assert (counted.f1, counted.false_alarm_rate) == (2 / 5, 1 / 4)
    assert counted.missed_alarm_rate == pytest.approx(2 / 3)
    assert total([counted, counted]) == Points(2, 2, 6, 8)
    assert total([]).f1 == 0.0
