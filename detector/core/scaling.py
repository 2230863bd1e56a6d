"""Per-channel location and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCALED_MAX = 20.0
"""Scaled values are clipped here: beyond twenty standard deviations a reading is strange enough, and the memory stays usable."""

CONSTANT_BELOW = 1e-5
"""A channel whose standard deviation is smaller than this part of its mean counts as constant; its scale is 1."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Engineering units <-> units of the training's standard deviation.

    location, scale  f4[D]; scale > 0
    """

    location: NDArray[np.float32]
    scale: NDArray[np.float32]

    @staticmethod
    def fit(value: NDArray[np.float32]) -> Scaling:
        """Mean and standard deviation of each channel; NaN is skipped, a channel without any value gets 0 and 1.

        value  f4[T, D]
        """
        wide = np.asarray(value, np.float64)
        present = np.isfinite(wide)
        count = np.maximum(present.sum(axis=0), 1)
        location = np.where(present, wide, 0.0).sum(axis=0) / count
        variance = np.where(present, (wide - location) ** 2, 0.0).sum(axis=0) / count
        scale = np.sqrt(variance)
        constant = scale <= CONSTANT_BELOW * np.maximum(np.abs(location), CONSTANT_BELOW)
        return Scaling(location.astype(np.float32), np.where(constant, 1.0, scale).astype(np.float32))

    def scaled(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """f4[N, D] -> f4[N, D] within +-SCALED_MAX; NaN stays NaN."""
        scaled: NDArray[np.float32] = (value - self.location) / self.scale
        return np.clip(scaled, -SCALED_MAX, SCALED_MAX, out=scaled)

    def unscaled(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """The way back, for people to read."""
        return scaled * self.scale + self.location
