"""Statistics of batches: readings that are ignored, and readings that are lost."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.codec.messages import Messages
from detector.codec.readings import Decoded
from detector.core import detector as core
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.readings import Disposition, Partition, ReadingBatch
from detector.core.walk import Values, judge_batch
from detector.ports import WorkerStats
from detector.service.batch_statistics import BatchStatistics, TextsForNumbers
from tests.core.builders import log_of, model_of, settings_of

P2 = Partition("sensors", 2)


class Scene:
    """The statistics, and the warnings that they logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        self.stats = WorkerStats()
        self._statistics, self._caplog = BatchStatistics(self.stats, ("temp",)), caplog
        self._offset, self.messages = 0, Messages()

    def batch(self, readings: int, **ignored: int) -> list[Any]:
        """Count a batch whose last readings are ignored; the warnings that it brought."""
        disposition = np.full(readings, Disposition.SCORED, np.uint8)
        at = readings
        for kind, count in ignored.items():
            disposition[at - count : at] = Disposition[kind.upper()]
            at -= count
        zeros, offset = np.zeros(readings, np.int32), self._offset + np.arange(readings)
        self._offset += readings
        batch = ReadingBatch(zeros, zeros.astype(np.int64), np.zeros((readings, 1), np.float32), zeros, offset, zeros, (P2,))
        self._caplog.clear()
        decoded = Decoded(batch, np.arange(readings), ())
        if "empty" in ignored:
            batch.value[disposition == Disposition.EMPTY] = np.nan
        self._statistics.add(self.messages, decoded, replace(BatchResult.blank(readings, 1), disposition=disposition), ())
        return list(self._caplog.records)


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


def test_many_duplicates_are_logged_once_with_one_of_them_and_what_to_do(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    assert [scene.batch(30, duplicate=20) for _ in range(2)] == [[], []]  # 40 of a thousand may be all there is
    (said,) = scene.batch(30, duplicate=20)
    assert said.levelname == "WARNING"
    assert said.getMessage() == "many readings are ignored: their stream has had a reading of the same time"
    assert (said.ignored, said.of_the_last, said.so_far, said.such_as) == (60, 90, 60, "sensors/2 offset 70")
    assert "input.event_time.ties: offset" in said.fix
    assert not any(scene.batch(1_000, duplicate=900) for _ in range(20))
    now_s += 601
    (again,) = scene.batch(1_000, duplicate=900)
    assert again.so_far == 60 + 21 * 900
    assert scene.stats.duplicates == again.so_far
    assert scene.stats.late == 0


def test_late_ones_are_told_apart_from_duplicates(scene: Scene) -> None:
    late, duplicate = scene.batch(1_000, late=51, duplicate=51)
    assert late.getMessage() == "many readings are ignored: they are older than the newest of their stream"
    assert "input.event_time.future_s_max" in late.fix
    assert "ties" in duplicate.fix
    assert (scene.stats.late, scene.stats.duplicates) == (51, 51)


def test_a_few_are_usual_however_the_batches_are_cut(scene: Scene) -> None:
    assert not any(scene.batch(20, duplicate=1, late=1) for _ in range(300))
    assert not scene.batch(10_000, duplicate=500)
    assert not scene.batch(1)
    (said,) = scene.batch(10_000, duplicate=501)
    assert said.of_the_last == 10_001


def test_a_reading_that_the_detector_skips_is_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The compiled pass ends before the last two readings of each batch."""

    def too_short(store: Any, readings: Any, values: Values, *rest: Any) -> Any:
        return judge_batch(store, readings[:-2], Values(*(each[:-2] for each in values)), *rest)

    detector, stats = Detector(model_of(2), settings_of()), WorkerStats()
    statistics = BatchStatistics(stats, detector.model.channels)
    log = log_of([(stream, float(t), 0.0) for t in range(5) for stream in ("a", "b")], 2)

    def add(part: range) -> int:
        batch = log.take(part).batch(detector)
        statistics.add(Messages(), Decoded(batch, np.arange(len(batch)), ()), detector.detect(batch), ())
        return stats.unaccounted

    assert add(range(4)) == 0
    monkeypatch.setattr(core, "judge_batch", too_short)
    assert add(range(4, 10)) == 2
    assert "readings without a disposition" in caplog.text


def test_a_channel_that_never_came_is_told_once_with_the_field_that_is_most_like_it(scene: Scene) -> None:
    scene.messages = Messages(value=[b'{"machine": "a", "other": 1, "Temp": 20.5}'])
    assert not scene.batch(600, empty=600)
    assert scene.stats.channels_present == ()
    (said,) = scene.batch(600, empty=600)
    assert said.getMessage() == "a channel never came: no reading has a value of it"
    assert (said.channel, said.messages_have) == ("temp", ["Temp", "other"])
    assert "input.channels" in said.fix
    assert list(scene.stats.channels_present) == [0.0]
    assert not scene.batch(5_000, empty=5_000)
    assert scene.stats.empty == 6_200


def test_a_channel_that_stops_coming_is_told_and_that_it_comes_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert not scene.batch(1_000, empty=250)
    assert scene.stats.channels_present == (0.75,)
    (stopped,) = scene.batch(1_000, empty=1_000)
    assert stopped.getMessage() == "a channel stopped coming: no reading has a value of it"
    assert not scene.batch(1_000, empty=1_000)
    (back,) = scene.batch(1_000, empty=999)
    assert (back.levelname, back.getMessage()) == ("INFO", "a channel comes again")
    assert scene.stats.channels_present == (0.001,)


def test_texts_for_numbers_are_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    texts = TextsForNumbers(("temp", "hum"))
    texts.add({(0, "unavailable"): 3, (1, "-"): 1})
    texts.add({(0, "unavailable"): 5})
    (said,) = caplog.records
    assert said.getMessage() == "texts that are no numbers are taken as missing values"
    assert said.texts == {"temp 'unavailable'": 3, "hum '-'": 1}  # type: ignore[attr-defined]
