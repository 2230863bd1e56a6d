"""Location and scale that each stream measures for itself, channel by channel, while it is judged.

Cumulative at first, slowly forgetting later, in a constant number of operations:

    rate  = max(1 / n, RATE_MIN)                         n: values learned so far, this one included
    d     = v - location, within +-CLIP scale            so that one absurd value teaches little
    location += rate d
    variance  = (1 - rate) (variance + rate d^2)         scale: its root
    residual += rate (min(|e|, CLIP residual) - residual)

Judge first, learn after: a reading is scaled by what was learned from those before it, and nothing is learned from an open
alert. A channel that has been constant so far has no scale; the first value that differs is then the limit away.

source of the variance: West, "Updating mean and variance estimates: an improved method", CACM 22, 1979; Finch,
"Incremental calculation of weighted mean and variance", 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.scaling import SCALED_MAX, Scaling
from detector.core.states import Column
from detector.core.threshold import ACCEPTED

RATE_MIN = 1 / 2_000
"""What was normal is forgotten over so many readings."""
CLIP = 5.0
"""A value further away than so many scales teaches as if it were there: a channel that spikes in every 25th reading keeps its scale."""
RESOLUTION = 2.0**-22
"""Scale of a channel, as a part of its location, below which differences are rounding: values are 32-bit floats."""
RESIDUAL_MIN = 0.003
"""Usual residuals are at least so large, scaled units: what follows exactly from its past must not explode at the first trifle."""
COUNT_ACCEPTED = 100
"""After an accepted alert the past weighs as much as so many readings: the new normal is learned soon."""
COUNT_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class RunningScaling:
    """Location, scale and usual residual of D channels, as columns of each stream's row.

    channels  D
    """

    channels: int

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream. Locations in 64 bits: at 1e9 a 32-bit mean could not move by less than 64."""
        shape = (self.channels,)
        return {
            "scale_count": Column("i4", shape),
            "scale_location": Column("f8", shape),
            "scale_variance": Column("f8", shape),
            "scale_residual": Column("f8", shape),
        }

    def of(self, rows: NDArray[np.int32], states: Any) -> Scaling:
        """The scaling of these streams now, each part [B, D].

        A value cannot be further than sqrt(n) scales from the mean of n values that it is one of (Samuelson's inequality):
        what is further is cut there, so that the first readings, whose scale is hardly known, do not fill the memory.
        """
        count, location = states["scale_count"][rows], states["scale_location"][rows]
        scale = np.maximum(np.sqrt(states["scale_variance"][rows]), np.maximum(RESOLUTION * np.abs(location), np.finfo(np.float32).tiny))
        limit = np.minimum(np.sqrt(count), SCALED_MAX).astype(np.float32)
        return Scaling(location, scale, limit, np.maximum(states["scale_residual"][rows], RESIDUAL_MIN).astype(np.float32))

    def learn(
        self, rows: NDArray[np.int32], value: NDArray[np.float32], e: NDArray[np.float32], event: NDArray[np.uint8], states: Any
    ) -> None:
        """Learn from readings that have been judged, but not from those of an alert.

        rows   i4[B] no stream twice, or one stream's sequence in order
        value  f4[B, D] engineering units;  e  f4[B, D] residuals, scaled units; NaN teaches nothing
        event  u1[B] what each reading did to its stream's alert
        """
        _learn(rows, value, e, event, states["is_open"], *(states[name] for name in self.columns()))


@njit(cache=True)
def _learn(rows, value, e, event, is_open, count, location, variance, residual):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        r = rows[i]
        if event[i] == ACCEPTED:
            for k in range(value.shape[1]):
                count[r, k] = min(count[r, k], COUNT_ACCEPTED)
        if event[i] != 0 or is_open[r] == 1:
            continue
        for k in range(value.shape[1]):
            if np.isnan(value[i, k]):
                continue
            count[r, k] = min(count[r, k] + 1, COUNT_MAX)
            rate = max(1.0 / count[r, k], RATE_MIN)
            scale = np.sqrt(variance[r, k])
            d = np.float64(value[i, k]) - location[r, k]
            if scale > RESOLUTION * abs(location[r, k]):
                d = min(max(d, -CLIP * scale), CLIP * scale)
            location[r, k] += rate * d
            variance[r, k] = (1.0 - rate) * (variance[r, k] + rate * d * d)
            size = abs(np.float64(e[i, k]))
            if residual[r, k] > RESIDUAL_MIN:
                size = min(size, CLIP * residual[r, k])
            residual[r, k] += rate * (size - residual[r, k])
