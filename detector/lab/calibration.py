"""Normal readings -> the score whose divisors they are: quantiles, ranges and second moments of what `score` measures.

What is fitted to few readings is fitted to them alone: a score finds its own training part less strange than what comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.alarm import PATIENCE
from detector.core.limits import FLOOR, HIGH, RESOLUTION
from detector.core.scaler import BANDS, TERMS, weight_of
from detector.core.score import Score
from detector.lab.scoring import band_signals, fast_band, measured, moves_of

F4 = NDArray[np.float32]

PEAK_SHARE, PEAK_KEPT = 0.5, np.float32(np.exp(-1 / 400))
"""Share of the decaying peak in the square of the score, where a reading tells one value; and what is left of it after one more reading.
Measured in docs/research.md."""
LEVEL_RATE = 1e-3
"""What a fleet's level follows with. Ten times as fast, a fault is learned before an alert on it opens; a tenth, drifts leave it behind.
Measured in docs/research.md."""
SHRINK = 0.05
"""Part of the mean variance in a second moment before it is inverted: a few hundred readings say little of many dimensions."""


@dataclass(frozen=True, slots=True)
class OwnUnits:
    """What is usual for a stream that measures itself, at each of its readings: bands f4[T, 4 D], weight f4[T, D]."""

    bands: F4
    weight: F4


def calibrate(
    values: Sequence[F4], xs: Sequence[F4], es: Sequence[F4], starts: Sequence[int], own: Sequence[OwnUnits] | None = None
) -> Score:
    """Measure every divisor on normal readings.

    values, xs  per stream f4[T, D]: engineering units and scaled; no weight depends on these bands, so any stream will do
    es          f4[T, D] residuals of the last of these streams
    starts      per stream of `es` its first reading that counts: no weight saw the rest, and the memory is no longer empty. The terms are
                calibrated from PATIENCE on, on readings that weights saw as well: a 99 % quantile needs many
    own         per stream, where every stream measures itself; its scaling then follows its level, and it has a range of its own
    """
    d = xs[0].shape[1]
    level_rate = np.array([LEVEL_RATE if own is None else 0.0], np.float32)
    bands = np.concatenate([band_signals(x, level_rate[0]) for x in xs])
    bands /= 1.0 if own is None else np.concatenate([each.bands for each in own])
    errors = np.concatenate([e[start:] for e, start in zip(es, starts, strict=True)])
    fast = np.concatenate([fast_band(e)[start:] for e, start in zip(es, starts, strict=True)])
    readings = sum(map(len, values))
    weight = weight_of(np.sum([moves_of(value) for value in values], axis=0), readings) if own is None else np.ones(d, np.float32)
    band_scale, error_fast = scale_of(bands) / np.tile(np.sqrt(weight), BANDS), scale_of(fast)
    bands, fast = bands / band_scale, fast / error_fast
    band_white, error_white = whitening_of(bands), whitening_of(fast)
    low, high, count = range_of(values if own is None else [np.empty((0, d), np.float32)])
    score = Score(
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
        middle=np.zeros(TERMS, np.float32),
        width=np.ones(TERMS, np.float32),
        peak_share=np.array([PEAK_SHARE], np.float32),
        peak_kept=np.array([PEAK_KEPT], np.float32),
    )
    streams = zip(values[-len(es) :], xs[-len(es) :], es, strict=True)
    units: Sequence[tuple[Any, Any]] = [(1.0, 1.0)] * len(es) if own is None else [(each.bands, each.weight) for each in own[-len(es) :]]
    terms = [measured(score, *stream, *unit)[min(start, PATIENCE) :] for stream, unit, start in zip(streams, units, starts, strict=True)]
    middle, width = middle_and_width(np.concatenate(terms)[:, :TERMS])
    return replace(score, middle=middle, width=width)


def scale_of(signal: NDArray[Any]) -> F4:
    """99 % quantile of absolute values f[T, D], floored: f4[D]."""
    return floored(np.quantile(np.abs(signal), HIGH, axis=0))


def floored(scale: NDArray[Any]) -> F4:
    """Divisors f[D], none below FLOOR of the median, nor below FLOOR^2, scaled units."""
    safe: F4 = np.maximum(scale, FLOOR * max(float(np.median(scale)), FLOOR)).astype(np.float32)
    return safe


def q99_of(square: NDArray[Any]) -> F4:
    """99 % quantile of a positive value f[T]: f4[1]."""
    return np.array([max(float(np.quantile(square, HIGH)), RESOLUTION)], np.float32)


def middle_and_width(terms: F4) -> tuple[F4, F4]:
    """Of terms f4[T, K] their 50 % quantile, and the distance of the 99 % quantile from it, f4[K] each."""
    middle, high = np.quantile(terms, [0.5, HIGH], axis=0)
    width = np.maximum(high - middle, FLOOR * np.maximum(np.abs(high), FLOOR))
    return middle.astype(np.float32), width.astype(np.float32)


def range_of(values: Sequence[F4]) -> tuple[F4, F4, F4]:
    """Least and largest of each channel f4[D], and of how many readings, f4[1]; inf and -inf where there was none."""
    low = np.min([np.fmin.reduce(value, axis=0, initial=np.inf) for value in values], axis=0)
    high = np.max([np.fmax.reduce(value, axis=0, initial=-np.inf) for value in values], axis=0)
    return low, high, np.array([sum(map(len, values))], np.float32)


def whitening_of(signal: NDArray[Any]) -> F4:
    """Lower triangular W with |W f|^2 = f' C^-1 f, C the shrunk second moment; float64 inside."""
    wide = np.asarray(signal, np.float64)
    moment = wide.T @ wide / len(wide)
    dim = len(moment)
    shrunk = (1 - SHRINK) * moment + SHRINK * max(float(np.trace(moment)) / dim, RESOLUTION) * np.eye(dim)
    white: F4 = np.linalg.inv(np.linalg.cholesky(shrunk)).astype(np.float32)
    return white
