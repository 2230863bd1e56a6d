"""A bundle among the detectors that are compared: judged by the same walk as in the service, reading after reading."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from detector.core.detect import Detector, Settings
from detector.core.model import Model, Universal
from detector.core.readings import Partition, ReadingBatch
from detector.lab.evaluate.alarms import SECOND_US, WATCHED_BUDGET
from detector.lab.evaluate.method import F4, Judge, Method, Scored

BATCH_READINGS = 8_192
PARTITIONS = (Partition("series", 0),)


def bundled(name: str, model: Model | Universal) -> Method:
    """The detector of a bundle. It has learned elsewhere: of a series' training part only its memory, its calibration, and of a
    universal bundle its scaling know, since they are the stream's past."""
    channels = len(model.channels) if isinstance(model, Model) else None
    return Method(name, f"the bundle {model.name}", partial(_fit, model), channels=channels, together=partial(_judge, model))


def _fit(model: Model | Universal, train: F4, seed: int) -> Judge:
    return lambda values: _judge(model, [values])[0]


def _judge(model: Model | Universal, sequences: Sequence[F4]) -> list[Scored]:
    """Sequences of one width as streams of one detector, side by side, as long as each lasts."""
    width = sequences[0].shape[1]
    if isinstance(model, Universal):
        model = model.model(model.fingerprint, tuple(f"channel{k}" for k in range(width)))
    detector = Detector(model, Settings(budget_period_us=WATCHED_BUDGET * SECOND_US))
    streams = np.array([detector.names[b"series%d" % number] for number in range(len(sequences))], np.int32)
    lengths = np.array([len(sequence) for sequence in sequences])
    value = np.full((len(sequences), lengths.max(), width), np.nan, np.float32)
    for row, sequence in zip(value, sequences, strict=True):
        row[: len(sequence)] = sequence
    score, alone, expected = np.empty(value.shape[:2], np.float32), np.empty(value.shape[:2], np.float32), np.empty_like(value)
    offset = 0
    for times in np.array_split(np.arange(lengths.max()), -(-value.shape[0] * value.shape[1] // BATCH_READINGS)):
        at, of = np.nonzero(times[:, None] < lengths)
        at += times[0]
        zero = np.zeros(len(at), np.int32)
        offsets = np.arange(offset, offset + len(at))
        verdicts = detector.detect(ReadingBatch(streams[of], SECOND_US * at, value[of, at], zero, offsets, zero, PARTITIONS))
        score[of, at], alone[of, at], expected[of, at] = verdicts.score, verdicts.alone, verdicts.expected
        offset += len(at)
    return [Scored(score[k, :n], expected[k, :n], alone[k, :n]) for k, n in enumerate(lengths.tolist())]
