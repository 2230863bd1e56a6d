"""Normal readings -> the score whose divisors they are.

Every divisor is a quantile, a range or a second moment of what `scoring` measures. What is fitted to few readings is fitted to them alone:
a score finds its own training part less strange than what comes after (docs/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.core.divisors import middle_and_width, moves_of, q99_of, range_of, scale_of, weight_of, whitening_of
from detector.core.scoring import CALIBRATED, MEASURED_IN_TRAINING, BandScorer, Usual
from detector.core.terms import BANDS, band_signals, fast_band

F4 = NDArray[np.float32]

SETTLED_READINGS = 50
"""Of each stream, from here on all readings calibrate the terms, those that weights saw as well: a 99 % quantile needs many."""
HELD_SHARE, FADING = 0.5, np.float32(np.exp(-1 / 400))
"""Share of the strangest reading before in the square of the score, where a reading tells one value; and what is left of it after one more
reading. Measured in docs/evaluation.md."""
LEVEL_RATE = 1e-3
"""What a fleet's level follows with. Ten times as fast, a fault is learned before an alert on it opens; a tenth, drifts leave it behind.
Measured in docs/evaluation.md."""
SHRINK_BANDS = 0.05
SHRINK_ERRORS = 0.1


def fit_scorer(
    values: Sequence[F4], xs: Sequence[F4], es: Sequence[F4], starts: Sequence[int], usual: Sequence[Usual] | None = None
) -> BandScorer:
    """Measure every divisor on normal readings.

    values, xs  per stream f4[T, D]: engineering units and scaled; no weight depends on these bands, so any stream will do
    es          f4[T, D] residuals of the last of these streams
    starts      per stream of `es` its first reading that counts: no weight saw the rest, and the memory is no longer empty
    usual       per stream, of each of its readings, where every stream has its own; its scaling then follows its level
    """
    d = xs[0].shape[1]
    level_rate = np.array([LEVEL_RATE if usual is None else 0.0], np.float32)
    bands = np.concatenate([band_signals(x, level_rate[0]) for x in xs])
    bands /= 1.0 if usual is None else np.concatenate([np.reshape(each.bands, (-1, BANDS * d)) for each in usual])
    errors = np.concatenate([e[start:] for e, start in zip(es, starts, strict=True)])
    fast = np.concatenate([fast_band(e)[start:] for e, start in zip(es, starts, strict=True)])
    moves = np.sum([moves_of(value) for value in values], axis=0)
    weight = weight_of(moves, sum(map(len, values))) if usual is None else np.ones(d, np.float32)
    band_scale, error_fast = scale_of(bands) / np.tile(np.sqrt(weight), BANDS), scale_of(fast)
    bands, fast = bands / band_scale, fast / error_fast
    band_white, error_white = whitening_of(bands, SHRINK_BANDS), whitening_of(fast, SHRINK_ERRORS)
    low, high, count = range_of(values if usual is None else [np.empty((0, d), np.float32)])
    scorer = BandScorer(
        weight=weight,
        level_rate=level_rate,
        band_scale=band_scale.reshape(BANDS, d),
        band_white=band_white,
        band_q99=q99_of(((bands @ band_white.T) ** 2).mean(axis=1)),
        error_scale=scale_of(np.nan_to_num(errors)),
        error_fast=error_fast,
        error_white=error_white,
        error_q99=q99_of(((fast @ error_white.T) ** 2).mean(axis=1)),
        low=low,
        high=high,
        count=count,
        middle=np.zeros(len(CALIBRATED), np.float32),
        width=np.ones(len(CALIBRATED), np.float32),
        held_share=np.array([HELD_SHARE], np.float32),
        fading=np.array([FADING], np.float32),
    )
    of_streams = [MEASURED_IN_TRAINING] * len(es) if usual is None else usual[-len(es) :]
    return _calibrated(scorer, values[-len(es) :], xs[-len(es) :], es, starts, of_streams)


def _calibrated(
    scorer: BandScorer, values: Sequence[F4], xs: Sequence[F4], es: Sequence[F4], starts: Sequence[int], usual: Sequence[Usual]
) -> BandScorer:
    """The same with `middle` and `width` as these streams have them."""
    measured = []
    for value, x, e, start, of_stream in zip(values, xs, es, starts, usual, strict=True):
        measured.append(scorer.measured_of_one_stream(value, x, e, of_stream)[min(start, SETTLED_READINGS) :])
    middle, width = middle_and_width(np.concatenate(measured)[:, : len(CALIBRATED)])
    return replace(scorer, middle=middle, width=width)
