"""A bundle among the detectors that are compared: the service's own detector scores, reading after reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from detector.core.detect import Detector, Settings
from detector.core.model import Model, Universal
from detector.core.readings import Partition, ReadingBatch
from detector.lab.evaluate.alarms import SECOND_US, WATCHED_BUDGET
from detector.lab.evaluate.detectors import F4, Scored, Scorer, SeriesDetector

BATCH_READINGS = 8_192
PARTITIONS = (Partition("series", 0),)


def bundled(name: str, model: Model | Universal) -> SeriesDetector:
    """The detector of a bundle. It has learned elsewhere: of a series' training part only its memory, its calibration, and of a
    universal bundle its scaling know, since they are the stream's past. That past is known to be normal, and so the stream's warm-up:
    all of it is learned from, and an alert in it would be false."""
    channels = len(model.channels) if isinstance(model, Model) else None
    return SeriesDetector(name, f"the bundle {model.name}", partial(_fit, model), channels=channels, together=partial(_together, model))


def _fit(model: Model | Universal, train: F4, seed: int) -> Scorer:
    return lambda values: _together(model, [values], [len(train)])[0]


def _together(model: Model | Universal, sequences: Sequence[F4], known: Sequence[int]) -> list[Scored]:
    """Sequences of one width as streams of one detector, side by side, as long as each lasts; what is known of them ends at one time.

    known  so many first readings of each are its warm-up
    """
    width, ahead = sequences[0].shape[1], max(known)
    if isinstance(model, Universal):
        model = model.model(model.fingerprint, tuple(f"channel{k}" for k in range(width)))
    detector = Detector(model, Settings(budget_period_us=WATCHED_BUDGET * SECOND_US))
    watching, waiting = detector.settings, replace(detector.settings, warmup_readings=ahead)
    streams = np.array([detector.names[b"series%d" % number] for number in range(len(sequences))], np.int32)
    begins = ahead - np.array(known)
    ends = begins + [len(sequence) for sequence in sequences]
    value = np.full((len(sequences), ends.max(), width), np.nan, np.float32)
    for row, sequence, begin, end in zip(value, sequences, begins, ends, strict=True):
        row[begin:end] = sequence
    score, instantaneous, expected = np.empty(value.shape[:2], np.float32), np.empty(value.shape[:2], np.float32), np.empty_like(value)
    offset, size = 0, max(1, BATCH_READINGS // len(value))
    for first, last in pairwise([*range(0, ahead, size), *range(ahead, ends.max(), size), int(ends.max())]):
        detector.settings = waiting if first < ahead else watching
        times = np.arange(first, last)[:, None]
        at, of = np.nonzero((begins <= times) & (times < ends))
        at += first
        zero = np.zeros(len(at), np.int32)
        offsets = np.arange(offset, offset + len(at))
        verdicts = detector.detect(ReadingBatch(streams[of], SECOND_US * at, value[of, at], zero, offsets, zero, PARTITIONS))
        score[of, at], instantaneous[of, at], expected[of, at] = verdicts.score, verdicts.alone, verdicts.expected
        offset += len(at)
    return [Scored(score[k, a:b], expected[k, a:b], instantaneous[k, a:b]) for k, (a, b) in enumerate(zip(begins, ends, strict=True))]
