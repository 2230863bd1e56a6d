"""Detectors without a forecast: how far a reading lies from where readings were in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.limits import FLOOR, RESOLUTION
from detector.core.scaler import Scaling
from detector.lab.evaluate.detectors import Scored, Scorer, SeriesDetector
from detector.lab.evaluate.filters import F4, F8, ewma, in_blocks, needing
from detector.lab.evaluate.series import calibration_start
from detector.lab.sequences import filled

CHART_RATE = 0.1
SLOW_RATE = 0.03
VARIANCE_KEPT = 0.95
"""Components of the PCA explain this part of the variance; 0.7 is the other usual choice."""

VARIANCE_MIN = 1e-6
"""Components with less, in squared standard deviations, are rounding: their T2 would be noise."""


def _distance(train: F4, seed: int) -> Scorer:
    """Root mean square, over the channels that are there, of the distance from the training mean in standard deviations."""
    scaling = Scaling.fit(train[: calibration_start(len(train))])

    def score(value: F4) -> Scored:
        x = scaling.scaled(value).astype(np.float64)
        present = np.isfinite(x)
        square = np.where(present, x, 0.0) ** 2
        mean = square.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        return Scored(np.log1p(np.sqrt(mean)).astype(np.float32))

    return score


def _ewma_z(train: F4, seed: int) -> Scorer:
    """EWMA control chart of each channel, the strangest counts.

    Its limits are measured, for readings are not independent, but never narrower than if they were: a channel that hardly varied
    would rule the score.
    Source: Roberts, "Control chart tests based on geometric moving averages", Technometrics 1, 1959.
    """
    scaling = Scaling.fit(train[: calibration_start(len(train))])
    chart = ewma(scaling.scaled(train), CHART_RATE)
    location, scale = chart.mean(axis=0), np.maximum(chart.std(axis=0), np.sqrt(CHART_RATE / (2 - CHART_RATE)))

    def score(value: F4) -> Scored:
        x = scaling.scaled(value)
        z = np.abs(ewma(x, CHART_RATE) - location) / scale
        return Scored(np.where(np.isfinite(x), z, 0.0).max(axis=1).astype(np.float32))

    return score


def _extremes(train: F4, seed: int) -> Scorer:
    """How far beyond all readings so far, in parts of their range; whatever is inside scores 0.

    A flat channel, one that has never varied, has no range: any departure from it counts as one range.
    """
    wide = np.where(np.isfinite(train), train, np.nan).astype(np.float64)
    size = np.abs(np.nan_to_num(wide)).max(axis=0)
    flat_below = RESOLUTION * np.maximum(size, RESOLUTION)
    low, high = (f(np.where(np.isnan(wide), empty, wide), axis=0) for f, empty in ((np.min, np.inf), (np.max, -np.inf)))

    def score(value: F4) -> Scored:
        beyond = _beyond(np.asarray(value, np.float64), low.copy(), high.copy(), flat_below)
        return Scored(np.log1p(beyond).astype(np.float32))

    return score


class _Residuals:
    """Principal components: how strange the place within their plane (Hotelling's T2) and the distance from it (Q, or SPE) are.

    Source: Jackson and Mudholkar, "Control procedures for residuals associated with principal component analysis",
    Technometrics 21, 1979. The limits are quantiles of readings that no component saw, not those of a normal distribution.
    """

    def __init__(self, train: F4) -> None:
        with needing("scikit-learn"):
            from sklearn.decomposition import PCA

        cut = calibration_start(len(train))
        self._scaling = Scaling.fit(train[:cut])
        x = self._scaling.scaled(train)
        with np.errstate(invalid="ignore"):  # readings without any variance: no component will be kept
            fitted = PCA(svd_solver="covariance_eigh").fit(filled(x[:cut]).astype(np.float64))
        variance = np.asarray(fitted.explained_variance_, np.float64)
        kept = int(np.searchsorted(np.cumsum(variance), VARIANCE_KEPT * variance.sum())) + 1
        kept = min(kept, int((variance > VARIANCE_MIN).sum()))
        self._mean = np.asarray(fitted.mean_, np.float64)
        self._axes = np.asarray(fitted.components_[:kept], np.float64)
        self._variance = variance[:kept]
        self._q99 = np.ones(2)
        self._q99 = np.maximum(np.quantile(self._squares(x[cut:]), 0.99, axis=0), FLOOR**2)

    def score(self, value: F4) -> F8:
        """Of readings f4[T, D] in engineering units: f8[T]."""
        ratio = self._squares(self._scaling.scaled(value)) / self._q99
        both: F8 = np.log1p(ratio).sum(axis=1)
        return both

    def _squares(self, x: F4) -> F8:
        """T2 and Q, f8[T, 2]; a missing value is as the last one, and has no part in Q."""
        whole, missing = filled(x).astype(np.float64), np.isnan(x)

        def of_rows(rows: NDArray[np.int64]) -> F8:
            centred = whole[rows] - self._mean
            place = centred @ self._axes.T
            off = np.where(missing[rows], 0.0, centred - place @ self._axes)
            return np.stack(((place**2 / self._variance).sum(axis=1), (off**2).sum(axis=1)), axis=1)

        return in_blocks(len(x), of_rows)


def _pca(rate: float) -> Callable[[F4, int], Scorer]:
    """Principal components, the score smoothed with `rate`; 1 does not smooth."""

    def fit(train: F4, seed: int) -> Scorer:
        residuals = _Residuals(train)
        return lambda value: Scored(ewma(residuals.score(value), rate).astype(np.float32))

    return fit


@njit(cache=True)
def _beyond(value, low, high, flat_below):  # type: ignore[no-untyped-def]
    """value f8[T, D]; low, high f8[D] the range so far, which is widened. The largest of the channels, in ranges: f8[T]."""
    out = np.zeros(value.shape[0])
    for t in range(value.shape[0]):
        for k in range(value.shape[1]):
            now = value[t, k]
            if not np.isfinite(now):
                continue
            if low[k] > high[k]:  # the first value of this channel
                low[k] = high[k] = now
                continue
            beyond = max(now - high[k], low[k] - now)
            if beyond > 0.0:
                span = high[k] - low[k]
                if span > flat_below[k]:
                    out[t] = max(out[t], beyond / span)
                elif beyond > flat_below[k]:
                    out[t] = max(out[t], 1.0)
                low[k] = min(low[k], now)
                high[k] = max(high[k], now)
    return out


BASELINES: tuple[SeriesDetector, ...] = (
    SeriesDetector("distance", "distance from the training mean, all channels together", _distance),
    SeriesDetector("ewma_z", "EWMA control chart of each channel, the strangest counts", _ewma_z),
    SeriesDetector("extremes", "how far beyond the largest and smallest values so far", _extremes),
    SeriesDetector("pca", "Hotelling's T2 and squared residual of principal components", _pca(1.0)),
    SeriesDetector("pca_slow", "the same, smoothed over some thirty readings", _pca(SLOW_RATE)),
)
