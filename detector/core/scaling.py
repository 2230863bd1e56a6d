"""Per-channel location and scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.scoring import MEASURED_IN_TRAINING, Usual
from detector.core.states import Column

SCALED_MAX = 20.0
"""Scaled values are clipped here: beyond twenty standard deviations a reading is strange enough, and the memory stays usable."""

CONSTANT_BELOW = 1e-5
"""A channel whose standard deviation is smaller than this part of its mean counts as constant; its scale is 1."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Engineering units <-> units of the normal standard deviation.

    As a part of a model it is the same for all streams and does not learn; `core.running` has the kind that does.

    location, scale  f4[D], or f8[B, D] where every stream has its own; scale > 0
    limit            largest scaled value
    residual         usual size of a residual, scaled units: residuals are scored in units of it
    usual            what else is scored in units of its usual size
    """

    location: NDArray[np.floating[Any]]
    scale: NDArray[np.floating[Any]]
    limit: float | NDArray[np.float32] = SCALED_MAX
    residual: float | NDArray[np.float32] = 1.0
    usual: Usual = MEASURED_IN_TRAINING

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
        """f4[N, D] -> f4[N, D] within +-limit; NaN stays NaN."""
        scaled: NDArray[np.floating[Any]] = (value - self.location) / self.scale
        return np.clip(scaled, -self.limit, self.limit, out=scaled).astype(np.float32, copy=False)

    def unscaled(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """The way back, for people to read."""
        value: NDArray[np.floating[Any]] = scaled * self.scale + self.location
        return value.astype(np.float32, copy=False)

    def residuals(self, x: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of scaled values, f4[N, D], in units of their usual size."""
        e: NDArray[np.float32] = x - expected
        return np.divide(e, self.residual, out=e)

    # -- a model's part ------------------------------------------------------------------------------------------------

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream: nothing."""
        return {}

    def of(self, rows: NDArray[np.integer[Any]], states: Any) -> Scaling:
        """The scaling of these streams now."""
        return self

    def learn(
        self,
        rows: NDArray[np.int32],
        value: NDArray[np.float32],
        moved: NDArray[np.bool_],
        x: NDArray[np.float32],
        e: NDArray[np.float32],
        terms: NDArray[np.float32],
        teaches: NDArray[np.bool_],
        states: Any,
    ) -> None:
        """Nothing: what was measured in training stays."""

    def accept(self, row: int, states: Any) -> None:
        """Nothing, likewise."""
