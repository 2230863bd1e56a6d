"""A bundle among the detectors that are compared: the service's own detector scores, reading after reading."""

from __future__ import annotations

from functools import partial

import numpy as np

from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.model import Model, UniversalModel
from detector.core.readings import Partition, ReadingBatch
from detector.core.rules import Settings
from detector.lab.evaluate.alarms import SECOND_US, WARMUP_READINGS, WATCHED_BUDGET
from detector.lab.evaluate.detectors import F4, Scored, Scorer, SeriesDetector

BATCH_READINGS = 8_192
PARTITIONS = (Partition("series", 0),)


def bundled(name: str, model: Model | UniversalModel) -> SeriesDetector:
    """The detector of a bundle. It has learned elsewhere: of a series' training part only its state, its calibration, and of a universal
    bundle its scaling know, since they are the stream's past. That past is known to be normal, and so the stream's warm-up: all of it is
    learned from, and an alert in it would be false."""
    channels = len(model.channels) if isinstance(model, Model) else None
    return SeriesDetector(name, f"the bundle {model.name}", partial(_fit, model), channels=channels)


def _fit(model: Model | UniversalModel, train: F4, seed: int) -> Scorer:
    return partial(_score, model, max(len(train), WARMUP_READINGS))


def _score(model: Model | UniversalModel, warmup_readings: int, values: F4) -> Scored:
    """One stream, a reading every second."""
    n, width = values.shape
    if isinstance(model, UniversalModel):
        model = model.model(model.fingerprint, tuple(f"channel{k}" for k in range(width)))
    detector = Detector(model, Settings(budget_period_us=WATCHED_BUDGET * SECOND_US, warmup_readings=warmup_readings))
    zero, at = np.full(n, detector.names[b"series"], np.int32), np.arange(n)
    whole = ReadingBatch(zero, SECOND_US * at, np.ascontiguousarray(values, np.float32), zero, at, zero, PARTITIONS)
    parts = [detector.detect(whole.take(slice(start, start + BATCH_READINGS))) for start in range(0, n, BATCH_READINGS)]
    found = BatchResult.joined(parts)
    return Scored(found.score, found.expected, found.instantaneous)
