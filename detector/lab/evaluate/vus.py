"""VUS-PR: how well a score ranks what is wrong above what is right, with tolerance at the edges of the labels.

The volume under the surface of precision over recall, whose third axis is the width of a soft border around every labelled range.
Source: Paparrizos et al., Volume Under the Surface, PVLDB 15(11), 2022; protocol and window of TSB-AD (Liu and Paparrizos 2024).
Equal to `RangeAUC_volume_opt` of the authors' package `vus` 0.0.6, in one pass over the sorted scores per border width instead of
one over the series per width and threshold.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detector.lab.evaluate.series import runs

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

THRESHOLDS = 250
WINDOW_DEFAULT = 125
WINDOW_MIN, WINDOW_MAX = 6, 303
"""A period outside of these is not believed."""
LAGS, READINGS_MAX = 400, 20_000


def window_of(values: NDArray[np.floating]) -> int:
    """TSB-AD's border width: the lag of the highest peak of the autocorrelation of values [T], else 125."""
    x = np.asarray(values[:READINGS_MAX], np.float64)
    x = np.where(np.isfinite(x), x, 0.0) - np.nanmean(x)
    size = 1 << (2 * len(x) - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), size)[3 : min(LAGS + 1, len(x))]
    peaks = np.flatnonzero((correlation[1:-1] > correlation[:-2]) & (correlation[1:-1] > correlation[2:])) + 1
    if not len(peaks):
        return WINDOW_DEFAULT
    lag = int(peaks[np.argmax(correlation[peaks])]) + 3
    return lag if WINDOW_MIN <= lag <= WINDOW_MAX else WINDOW_DEFAULT


def vus_pr(score: NDArray[np.floating], label: NDArray[np.bool_], window: int) -> float:
    """VUS-PR, 0..1; NaN where nothing or everything is labelled.

    score   [T] larger is stranger
    label   bool[T]
    window  widest border, readings; half of it lies on either side
    """
    ranges = runs(label)
    if not ranges or label.all():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    descending = score[order]
    thresholds = descending[np.linspace(0, len(score) - 1, THRESHOLDS).astype(int)]
    predicted = np.searchsorted(-descending, -thresholds, side="right")  # how many score at least as much
    areas = [_area(score, label, ranges, width, order, thresholds, predicted) for width in range(window + 1)]
    return float(np.mean(areas))


def _area(
    score: NDArray[np.floating],
    label: NDArray[np.bool_],
    ranges: list[tuple[int, int]],
    width: int,
    order: NDArray[np.int64],
    thresholds: NDArray[np.floating],
    predicted: NDArray[np.int64],
) -> float:
    """Area under precision over recall for one border width."""
    soft = np.where(label, 0.0, _borders(label, ranges, width))
    positives = float(label.sum())
    soft_found = np.concatenate(([0.0], np.cumsum(soft[order])))[predicted]
    found = np.concatenate(([0.0], np.cumsum(label[order])))[predicted] + soft_found
    # The weight of what there is to find: all labels, and of the borders what was predicted.
    recall = np.minimum(found / ((2 * positives + soft_found) / 2), 1.0)
    highest = np.sort([score[start:end].max() for start, end in _joined(ranges, width, len(label))])
    touched = 1.0 - np.searchsorted(highest, thresholds, side="left") / len(highest)
    rate = np.concatenate(([0.0], recall * touched))
    return float(np.dot(np.diff(rate), found / predicted))


def _borders(label: NDArray[np.bool_], ranges: list[tuple[int, int]], width: int) -> F8:
    """f8[T] the labels with a border of width // 2 on either side, falling as a square root; where borders meet they add, up to 1."""
    soft = label.astype(np.float64)
    for start, end in ranges:
        after = np.arange(end, min(end + width // 2, len(label)))
        soft[after] += np.sqrt(1 - (after - (end - 1)) / width) if width else 0.0
        before = np.arange(max(start - width // 2, 0), start)
        soft[before] += np.sqrt(1 - (start - before) / width) if width else 0.0
    return np.minimum(soft, 1.0)


def _joined(ranges: list[tuple[int, int]], width: int, length: int) -> list[tuple[int, int]]:
    """Ranges with their borders, joined where these touch; as `vus` joins them."""
    half, joined, begin = width // 2, [], max(ranges[0][0] - width // 2, 0)
    for (_, end), (start, _) in pairwise(ranges):
        if end - 1 + half < start - half:
            joined.append((begin, end + half))
            begin = start - half
    joined.append((begin, min(ranges[-1][1] + half, length)))
    return joined
