"""A bundle among the detectors that are compared: judged by the same walk as in the service, reading after reading."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from detector.core.detect import Detector, Settings
from detector.core.model import Model, Universal
from detector.core.readings import Partition, ReadingBatch
from detector.lab.evaluate.alarms import SECOND_US, WATCHED_BUDGET
from detector.lab.evaluate.method import F4, Judge, Method, Scored

BATCH_READINGS = 4_096
PARTITIONS = (Partition("series", 0),)


def bundled(name: str, model: Model | Universal) -> Method:
    """The detector of a bundle. It has learned elsewhere: of a series' training part only its memory, its calibration, and of a
    universal bundle its scaling know, since they are the stream's past."""
    return Method(
        name, f"the bundle {model.name}", partial(_fit, model), channels=len(model.channels) if isinstance(model, Model) else None
    )


def _fit(model: Model | Universal, train: F4, seed: int) -> Judge:
    if isinstance(model, Universal):
        model = model.model(model.fingerprint, tuple(f"channel{k}" for k in range(train.shape[1])))
    return partial(_judge, model)


def _judge(model: Model, values: F4) -> Scored:
    """The service's walk scores each reading alone, so that the alarm can be played at any budget; what lingers is added to that."""
    each_alone = replace(model, scorer=replace(model.scorer, lingers=np.zeros(1, np.float32)))
    detector = Detector(each_alone, Settings(budget_period_us=WATCHED_BUDGET * SECOND_US))
    alone, expected = np.empty(len(values), np.float32), np.empty_like(values)
    for start in range(0, len(values), BATCH_READINGS):
        at = np.arange(start, min(start + BATCH_READINGS, len(values)))
        stream = np.full(len(at), detector.names[b"series"], np.int32)
        zero = np.zeros(len(at), np.int32)
        verdicts = detector.detect(ReadingBatch(stream, SECOND_US * at, values[at], zero, at, zero, PARTITIONS))
        alone[at], expected[at] = verdicts.score, verdicts.expected
    return Scored(model.scorer.lingering_of_one_stream(alone), expected, alone)
