"""Ridge regression in closed form, from sums: however many readings there are, they are taken along part by part.

u f8[F + 1]  features, and a constant 1        y f8[D]  what is to be expected of u
W = (G + r tr(G) / (F + 1) I)^-1 C             G = sum of u u', C = sum of u y'; r is chosen per channel on readings that were held out
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]

STRENGTHS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridges to choose from, parts of the mean square of what is read. A series without noise wants the smallest."""
ERROR_MIN = 1e-3
"""Standard deviations of a channel: smaller errors are all equally good."""


class Moments:
    """The sums that a ridge regression of D channels on F features and a constant needs.

    gram    f8[F + 1, F + 1]      cross  f8[F + 1, D]      square  f8[D] sum of what is expected, squared
    """

    def __init__(self, features: int, channels: int) -> None:
        self.gram, self.cross = np.zeros((features + 1, features + 1)), np.zeros((features + 1, channels))
        self.square, self.count = np.zeros(channels), 0

    def add(self, features: NDArray[np.floating], target: NDArray[np.floating]) -> Moments:
        """Take rows along: features [N, F], target [N, D], without NaN."""
        u = np.concatenate((features, np.ones((len(features), 1))), axis=1, dtype=np.float64)
        y = np.asarray(target, np.float64)
        self.gram += u.T @ u
        self.cross += u.T @ y
        self.square += (y**2).sum(axis=0)
        self.count += len(u)
        return self

    def readout(self, strength: float) -> F8:
        """Weights f8[F + 1, D], the constant last."""
        ridge = strength * max(float(np.trace(self.gram)), 1e-9) / len(self.gram)
        return np.asarray(np.linalg.solve(self.gram + ridge * np.eye(len(self.gram)), self.cross), np.float64)

    def error(self, weight: F8) -> F8:
        """Mean squared error of these weights per channel, f8[D]."""
        total = self.square - 2 * (weight * self.cross).sum(axis=0) + (weight * (self.gram @ weight)).sum(axis=0)
        return np.asarray(total / max(self.count, 1), np.float64)


def readout(fit: Moments, held_out: Moments) -> F8:
    """Weights f8[F + 1, D] of `fit`, each channel with the ridge that errs least on what was held out."""
    tried = [fit.readout(strength) for strength in STRENGTHS]
    best = np.argmin([held_out.error(weight) for weight in tried], axis=0)
    chosen: F8 = np.stack(tried)[best, :, np.arange(len(best))].T
    return chosen


def horizon_weights(error: F8) -> F8:
    """f8[K, D] of K horizons' forecasts in what is expected, which sum to 1, by their squared errors f8[K, D]: one over it, the best
    weights of forecasts that err independently."""
    precision = 1 / np.maximum(error, ERROR_MIN**2)
    weight: F8 = precision / precision.sum(axis=0)
    return weight
