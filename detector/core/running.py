"""Location and scale that each stream measures for itself, channel by channel, while it is judged.

Cumulative at first, slowly forgetting later, in a constant number of operations:

    rate      = max(1 / n, RATE_MIN)                       n: values learned so far, this one included
    d         = v - location, within +-CLIP scale          so that one absurd value teaches little
    location += rate d
    variance  = (1 - rate) (variance + rate d^2)           scale: its root
    square   += rate (min(|s|, CLIP size)^2 - square)      size: its root; s: the residual, and each band of the scaled readings

    middle   += step sgn(v - middle)                       of each term v of the score that training calibrated, in units of its width there:
    high     += 10 step (.99 - [v < high])                 50 % and 99 % quantile; at first those of training, 0 and 1
    step      = max(high - middle, WIDTH_MIN) / min(n + 1000, 20000)

Judge first, learn after: a reading is scaled by what was learned from those before it. Nothing is learned from an open alert, nor
while evidence for one is gathered.

A channel that has never moved is not known to be quiet: a switch, a mode, a command that came for the first time would otherwise be
stranger than anything. After m moves, values that differ from the one before,

    limit of scaled values = min(sqrt(n), 3 + sqrt(m), SCALED_MAX);    size = sqrt((m square + .1) / (m + .1))

and the channel counts by `divisors.weight_of` m of n.

source of the variance: Finch, "Incremental calculation of weighted mean and variance", 2009; of the quantiles: Robbins and Monro, "A stochastic
approximation method", 1951.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.divisors import weight_of
from detector.core.scaling import SCALED_MAX, Scaling
from detector.core.scoring import CALIBRATED, Usual
from detector.core.states import Column
from detector.core.terms import BANDS

F4 = NDArray[np.float32]

RATE_MIN = 1 / 20_000
"""What was normal is forgotten over so many readings. Over a tenth of them, a tenth of the ranking on public recordings is lost."""
CLIP = 10.0
"""A value further away than so many scales teaches as if it were there: a channel that spikes in every hundredth reading keeps its scale."""
RESOLUTION = 2.0**-22
"""Scale of a channel, as a part of its location, below which differences are rounding: values are 32-bit floats."""
SIZE_MIN = 0.004
"""Usual residuals and bands are at least so large, scaled units: what follows exactly from its past must not explode at a trifle."""
COUNT_ACCEPTED = 100
"""After an accepted alert the past weighs as much as so many readings: the new normal is learned soon."""
COUNT_MAX = 1_000_000
LIMIT_MIN = 3.0
"""A channel's first move is as far as so many scales, however long it had kept its value."""
MOVES_PRIOR = np.float32(0.1)
"""A size of one, in scaled units, weighs as much as so many moves."""
COLD_READINGS = 80
"""The first readings of a stream teach nothing about its terms, nor its alarm: its scales are not known yet, and every score is high."""
TERMS_PRIOR, TERMS_MAX = 1_000, round(1 / RATE_MIN)
"""So many readings count what training measured of the terms; and so many readings all that is known, at most."""
HIGH_RATE, HIGH_QUANTILE = np.float32(10), np.float32(0.99)
WIDTH_MIN = np.float32(0.3)
"""Of a term, at least, parts of its width in training: no stream is so calm that a trifle would be strange."""
AT_HIGH = np.float32(np.log(2.0))
"""What a calibrated term is at its high quantile; at its middle it is 0."""
PARTS = ("count", "moves", "location", "variance", "residual", "bands")


@dataclass(frozen=True, slots=True)
class RunningScaling:
    """Location, scale, and what is usual for D channels, and for the terms of their score, as columns of each stream's row."""

    channels: int

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream. Locations in 64 bits: at 1e9 a 32-bit mean could not move by less than 64."""
        shape = (self.channels,)
        return {
            "scale_count": Column("i4", shape),
            "scale_moves": Column("i4", shape),
            "scale_location": Column("f8", shape),
            "scale_variance": Column("f8", shape),
            "scale_residual": Column("f4", shape),
            "scale_bands": Column("f4", (BANDS, *shape)),
            "scale_terms_count": Column("i4"),
            "scale_middle": Column("f4", (len(CALIBRATED),)),
            "scale_high": Column("f4", (len(CALIBRATED),), 1.0),
        }

    def of(self, rows: NDArray[np.int32], states: Any) -> Scaling:
        """The scaling of these streams now, each part [B, ..., D].

        A value cannot be further than sqrt(n) scales from the mean of n values that it is one of (Samuelson's inequality):
        what is further is cut there, so that the first readings, whose scale is hardly known, do not fill the memory.
        """
        count, moves, location, variance, residual, bands = (states[f"scale_{name}"][rows] for name in PARTS)
        known = (moves / (moves + MOVES_PRIOR)).astype(np.float32)
        scale = np.maximum(np.sqrt(variance), np.maximum(RESOLUTION * np.abs(location), np.finfo(np.float32).tiny))
        limit = np.minimum(np.minimum(np.sqrt(count), LIMIT_MIN + np.sqrt(moves)), SCALED_MAX).astype(np.float32)
        weight = weight_of(moves, count)
        middle = states["scale_middle"][rows]
        width = np.maximum(states["scale_high"][rows] - middle, WIDTH_MIN)
        usual = Usual(_size(bands, known[:, None], weight[:, None]), weight, middle, width)
        return Scaling(location, scale, limit, _size(residual, known), usual)

    def learn(
        self,
        rows: NDArray[np.int32],
        value: F4,
        moved: NDArray[np.bool_],
        x: F4,
        e: F4,
        terms: F4,
        teaches: NDArray[np.bool_],
        states: Any,
    ) -> None:
        """Learn from readings that have been judged.

        rows     i4[B] no stream twice
        value    f4[B, D] engineering units;  x, e  f4[B, D] the same and its residuals, scaled units; NaN teaches nothing
        moved    b1[B, D] whether a value is not the one before
        terms    f4[B, 5] of their scores
        teaches  bool[B] not those of an alert, nor of which evidence for one is gathered
        states   also the score's EWMAs, which have seen these readings
        """
        _learn(rows, value, moved, x, e, teaches, states["bands"], *(states[name] for name in STATE))
        _learn_terms(rows, terms, teaches, *(states[name] for name in TERMS_STATE))

    def accept(self, row: int, states: Any) -> None:
        """This stream's alert was accepted: what was learned before weighs as much as COUNT_ACCEPTED readings."""
        count, moves = states["scale_count"][row], states["scale_moves"][row]
        kept = np.minimum(count, COUNT_ACCEPTED)
        moves[:] = np.ceil(moves * (kept / np.maximum(count, 1)))  # as often as before
        count[:] = kept
        states["scale_terms_count"][row] = min(states["scale_terms_count"][row], COUNT_ACCEPTED)


TERMS_STATE = ("scale_terms_count", "scale_middle", "scale_high")
STATE = tuple(name for name in RunningScaling(1).columns() if name not in TERMS_STATE)


def _size(square: F4, known: F4, weight: F4 | float = 1.0) -> F4:
    """Usual size of a signal from its mean square, of which so much is known; over the root of its weight."""
    size: F4 = np.sqrt(np.maximum(known * square + (1 - known), np.float32(SIZE_MIN**2)) / weight)
    return size


@njit(cache=True)
def _clipped_square(signal, square):  # type: ignore[no-untyped-def]
    """What a signal teaches about its mean square; as long as that is not known, everything."""
    own = np.float64(signal) * np.float64(signal)
    return min(own, CLIP * CLIP * square) if square > SIZE_MIN * SIZE_MIN else own


@njit(cache=True)
def _learn(  # type: ignore[no-untyped-def]
    rows, value, moved, x, e, teaches, means, count, moves, location, variance, residual, bands
):
    for i in range(rows.shape[0]):
        if not teaches[i]:
            continue
        r = rows[i]
        for k in range(value.shape[1]):
            if np.isnan(value[i, k]):
                continue
            if moved[i, k] and count[r, k] > 0:  # the first value has no other before it
                moves[r, k] = min(moves[r, k] + 1, COUNT_MAX)
            count[r, k] = min(count[r, k] + 1, COUNT_MAX)
            rate = max(1.0 / count[r, k], RATE_MIN)
            scale = np.sqrt(variance[r, k])
            d = np.float64(value[i, k]) - location[r, k]
            if scale > RESOLUTION * abs(location[r, k]):
                d = min(max(d, -CLIP * scale), CLIP * scale)
            location[r, k] += rate * d
            variance[r, k] = (1.0 - rate) * (variance[r, k] + rate * d * d)
            residual[r, k] += rate * (_clipped_square(e[i, k], residual[r, k]) - residual[r, k])
            upper = x[i, k]
            for j in range(bands.shape[1]):
                lower = means[r, j, k] if j < means.shape[1] else 0.0
                bands[r, j, k] += rate * (_clipped_square(upper - lower, bands[r, j, k]) - bands[r, j, k])
                upper = lower


@njit(cache=True)
def _learn_terms(rows, terms, teaches, count, middle, high):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        if not teaches[i]:
            continue
        r = rows[i]
        count[r] = min(count[r] + 1, COUNT_MAX)
        if count[r] <= COLD_READINGS:
            continue
        for j in range(middle.shape[1]):
            step = max(high[r, j] - middle[r, j], WIDTH_MIN) / np.float32(min(count[r] + TERMS_PRIOR, TERMS_MAX))
            middle[r, j] += step if terms[i, j] > 0 else -step
            high[r, j] += HIGH_RATE * step * (HIGH_QUANTILE - np.float32(terms[i, j] < AT_HIGH))
