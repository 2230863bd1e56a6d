"""The NAB score: early detections inside windows are rewarded, false ones cost, the more the farther they lie from a window.

Source: Lavin and Ahmad, Evaluating Real-time Anomaly Detection Algorithms, ICMLA 2015; weights and details as in numenta/NAB 1.1.
A detection counts where the score reaches a threshold that is one for the whole corpus: given, or the best one in hindsight, per
profile, as on the published board. 100 is perfect, 0 is a detector that never says anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]

PROBATION_SHARE, PROBATION_MAX = 0.15, 750
FAR = 3.0
"""So many window widths after a window, a false detection costs in full."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a true, a false and a missed detection weigh."""

    name: str
    true_positive: float
    false_positive: float
    false_negative: float


PROFILES = (
    Profile("standard", 1.0, 0.11, 1.0),
    Profile("low FP", 1.0, 0.22, 1.0),
    Profile("low FN", 1.0, 0.11, 2.0),
)


@dataclass(frozen=True, slots=True)
class Rated:
    """The readings of one series that count, in order.

    score   f8[T]
    window  i8[T] which window of the series a reading lies in, -1: none
    worth   f8[T] of a detection there, before weights: 0..1 inside a window, -1..0 outside
    """

    score: F8
    window: NDArray[np.int64]
    worth: F8


def probation(readings: int) -> int:
    """How many readings at the start of a series do not count."""
    return min(int(PROBATION_SHARE * readings), PROBATION_MAX)


def rate(score: NDArray[np.floating], windows: Sequence[tuple[int, int]]) -> Rated:
    """Rate what lies after probation.

    score    [T] of the whole series
    windows  [start, end) of what should be detected, in order, none within probation
    """
    place = np.arange(len(score))
    window = np.full(len(score), -1, np.int64)
    worth = np.full(len(score), -1.0)
    for number, (start, end) in enumerate(windows):
        after = place[end:]
        worth[after] = _sigmoid((after - (end - 1)) / max(end - start - 1, 1))
        inside = place[start:end]
        window[inside] = number
        worth[inside] = _sigmoid(-(end - inside) / (end - start)) / _sigmoid(np.array(-1.0))
    first = probation(len(score))
    return Rated(np.asarray(score[first:], np.float64), window[first:], worth[first:])


def _sigmoid(position: F8) -> F8:
    """From 1 at the start of a window (-1) through 0 at its end to -1 far behind it. position: in window widths."""
    return np.where(position > FAR, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, FAR))) - 1.0)


def nab_score(corpus: Sequence[Rated], profile: Profile, threshold: float | None = None) -> tuple[float, float]:
    """The score of a corpus, and the threshold that it was had with.

    threshold  None: the best one in hindsight
    """
    count = sum(int(each.window.max(initial=-1)) + 1 for each in corpus)
    first = np.cumsum([0] + [int(each.window.max(initial=-1)) + 1 for each in corpus])
    score = np.concatenate([each.score for each in corpus])
    worth = np.concatenate([each.worth for each in corpus])
    window = np.concatenate([np.where(each.window >= 0, each.window + at, -1) for each, at in zip(corpus, first, strict=False)])
    descending = np.argsort(-score, kind="stable")
    gained = _gains(worth[descending], window[descending], profile, count)
    values = score[descending]
    # A threshold takes all readings with that score: only the last of equal ones is a place to stop.
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    totals = np.concatenate(([0.0], np.cumsum(gained)[ends])) - profile.false_negative * count
    if threshold is None:
        best = int(np.argmax(totals))
        threshold = float("inf") if best == 0 else float(values[ends[best - 1]])
    else:
        best = int(np.searchsorted(-values[ends], -threshold, side="right"))
    lowest, highest = -profile.false_negative * count, profile.true_positive * count
    return 100.0 * (float(totals[best]) - lowest) / (highest - lowest), threshold


def _gains(worth: F8, window: NDArray[np.int64], profile: Profile, count: int) -> F8:
    """f8[T] what each reading adds when the threshold sinks to its score, strangest first: of a window only its best counts."""
    gained = worth * profile.false_positive
    best = np.full(count, -np.inf)
    for place in np.flatnonzero(window >= 0).tolist():
        number, value = window[place], worth[place] * profile.true_positive
        before = -profile.false_negative if best[number] == -np.inf else best[number]
        best[number] = max(best[number], value)
        gained[place] = best[number] - before
    return gained
