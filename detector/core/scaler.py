"""Engineering units <-> units of the normal standard deviation, and what is usual for a stream in those units.

Of a fleet's model all of this is measured in training and the same for all streams (`Scaling`). Of a universal model each stream measures
it for itself, channel by channel, while it is judged (`learn_units`). Cumulative at first, slowly forgetting later:

    rate      = max(1 / n, FORGETTING)                     n: values learned so far, this one included
    d         = v - location, within +-CLIP scale          so that one absurd value teaches little
    location += rate d
    scale     = root of (1 - rate) (scale^2 + rate d^2)
    square   += rate (min(|s|, CLIP size)^2 - square)      size: its root; s: the residual, and each band of the scaled readings

    middle   += step sgn(v - middle)                       of each term v of the score that is calibrated, in units of its width in training:
    high     += step / sqrt(1 - .99) (.99 - [v < high])    50 % and 99 % quantile; at first those of training, 0 and 1
    step      = max(high - middle, WIDTH_MIN) / min(n + TRAINING_READINGS, 1 / FORGETTING)

Judge first, learn after: a reading is scaled by what was learned from those before it. Nothing is learned from an open alert, nor
while the CUSUM is above 0.

A channel that has never moved is not known to be quiet: a switch, a mode, a command that came for the first time would otherwise be
stranger than anything. After m moves, values that differ from the one before,

    limit of scaled values = min(sqrt(n), 1 + sqrt(m), SCALED_MAX);    size = sqrt((m square + 1) / (m + 1))

and the channel counts by `weight_of` m of n. That a value cannot be further than sqrt(n) scales from the mean of n values that it is one of
is Samuelson's inequality.

source of the variance: Finch, "Incremental calculation of weighted mean and variance", 2009; of the quantiles: Robbins and Monro, "A stochastic
approximation method", 1951.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.compiled import compiled, inlined
from detector.core.compiled_model import Described, of_rows
from detector.core.forecast import SCALED_MAX
from detector.core.limits import CLIP, COUNT_MAX, FLOOR, HIGH, RESOLUTION, TRAINING_READINGS
from detector.core.stream_state import Part, keep_wide, part, wide

f4 = np.float32
F4 = NDArray[np.float32]

FORGETTING = 1 / 20_000
"""What was normal is forgotten over so many readings. Over a tenth of them, a tenth of the ranking on public recordings is lost."""
SIZE_MIN = f4(FLOOR**2)
"""Usual residuals and bands are at least so large, scaled units: what follows exactly from its past must not explode at a trifle."""
YOUNG_READINGS = 80
"""So many first readings of a stream teach nothing about its terms, nor its alarm: its scales are not known yet, and every score is high.
After a reset of the baseline the past weighs as much as so many: the new normal is learned soon. At 100 a level of 3 standard deviations
after 110 readings is not seen in any of 60 streams, at 80 in 22."""
HIGH_RATE = f4((1 - HIGH) ** -0.5)
"""Step of the 99 % quantile over the median's: few readings lie beyond it, so that each must move it further."""
WIDTH_MIN = f4(0.3)
"""Of a term, at least, parts of its width in training: no stream is so calm that a trifle would be strange."""
AT_HIGH = f4(np.log(2.0))
"""What a calibrated term is at its high quantile; at its middle it is 0."""
WEIGHT_MIN = f4(FLOOR**2)
"""Least weight of a channel: of a switch that nobody touched."""
TINY = float(np.finfo(np.float32).tiny)
BANDS, TERMS = 4, 4
"""Of a channel; and of the score, those that are counted from a middle."""
SCALE_PARTS = 7 + BANDS
"""count, moves, location (2), deviation (2), residual, bands (4): of each channel."""
COUNT, MOVES, LOCATION, DEVIATION, RESIDUAL, BAND = 0, 1, 2, 4, 6, 7


@dataclass(frozen=True, slots=True)
class Scaling:
    """Location and scale of each channel, f4[D], scale > 0: measured in training."""

    location: F4
    scale: F4

    @staticmethod
    def fit(value: F4) -> Scaling:
        """Mean and standard deviation of each channel; NaN is skipped, a channel without any value gets 0 and 1.

        value  f4[T, D]
        """
        wide = np.asarray(value, np.float64)
        present = np.isfinite(wide)
        count = np.maximum(present.sum(axis=0), 1)
        location = np.where(present, wide, 0.0).sum(axis=0) / count
        variance = np.where(present, (wide - location) ** 2, 0.0).sum(axis=0) / count
        scale = np.sqrt(variance)
        constant = scale <= RESOLUTION * np.maximum(np.abs(location), RESOLUTION)
        return Scaling(location.astype(np.float32), np.where(constant, 1.0, scale).astype(np.float32))

    def scaled(self, value: F4) -> F4:
        """f4[N, D] -> f4[N, D] within +-SCALED_MAX; NaN stays NaN."""
        scaled: F4 = (value - self.location) / self.scale
        return np.clip(scaled, -SCALED_MAX, SCALED_MAX, out=scaled)

    def unscaled(self, x: F4) -> F4:
        """f4[N, D] scaled -> engineering units."""
        value: F4 = x * self.scale + self.location
        return value


def describe(scaling: Scaling | None, weight: F4) -> Described:
    """Of a fleet's model all rows of a block have the units of training; otherwise each reading fills in its stream's own. weight f4[D]

    location, scale   f8[ROWS, D]
    limit             f4[ROWS, D] largest scaled value
    residual_size     f4[ROWS, D] usual size of a residual, scaled units
    band_size         f4[ROWS, 4 D] usual size of the bands, over the root of the weight
    weight            f4[ROWS, D] of the channels, 0..1
    own_middle, own_width   f4[ROWS, 4] of the terms, in units of those of training
    """
    d = len(weight)
    location, scale = (scaling.location, scaling.scale) if scaling else (0, 1)
    units = {
        "limit": of_rows(d, SCALED_MAX), "residual_size": of_rows(d, 1), "band_size": of_rows(BANDS * d, 1), "weight": of_rows(d, weight),
        "own_middle": of_rows(TERMS, 0), "own_width": of_rows(TERMS, 1),
    }  # fmt: skip
    wide_units = {"location": of_rows(d, location, np.float64), "scale": of_rows(d, scale, np.float64)}
    return Described({"is_online": scaling is None}, {}, units, wide_units)


def online_parts(channels: int) -> list[Part]:
    """What is remembered of a stream that measures itself. Locations and deviations in 48 bits: at 1e9 a 32-bit mean could not move by less
    than 64. Deviations and not variances: the square of 1e20 is no 32-bit float."""
    return [("scale", (SCALE_PARTS, channels), 0), ("term_middle", (TERMS,), 0), ("term_high", (TERMS,), 1)]


def weight_of(moves: NDArray[Any], readings: float | NDArray[Any]) -> F4:
    """What a channel tells next to one that changes with every reading, 0..1, from how often its value changed: in full if every other time.
    Nobody can foresee a command or a switch, so an error of what was forecast of it, however large, is no news."""
    share: F4 = np.divide(moves, np.maximum(readings, 1), dtype=np.float32)
    weight: F4 = np.clip(2 * share, WEIGHT_MIN, f4(1))
    return weight


@inlined
def _size(square, known):  # type: ignore[no-untyped-def]
    """Usual size of a signal from its mean square, of which so much is known."""
    return np.sqrt(max(known * square + (f4(1) - known), SIZE_MIN * SIZE_MIN))


@compiled
def measure_units(f, at, m, r, room, doubles):  # type: ignore[no-untyped-def]
    """The units of a stream that measures itself, into row r of the block's. f: floats of the stream's record"""
    d = m.channels
    for k in range(d):
        count, moves = f[at.scale + COUNT * d + k], f[at.scale + MOVES * d + k]
        known = moves / (moves + f4(1))  # a size of one, scaled units, weighs as much as a move
        location = wide(f, at.scale + LOCATION * d + k, d)
        deviation = wide(f, at.scale + DEVIATION * d + k, d)
        weight = min(max(f4(2) * moves / max(count, f4(1)), WEIGHT_MIN), f4(1))
        doubles[m.location + r * d + k] = location
        doubles[m.scale + r * d + k] = max(deviation, max(RESOLUTION * abs(location), TINY))
        room[m.limit + r * d + k] = min(min(np.sqrt(count), f4(1) + np.sqrt(moves)), SCALED_MAX)
        room[m.residual_size + r * d + k] = _size(f[at.scale + RESIDUAL * d + k], known)
        room[m.weight + r * d + k] = weight
        root = np.sqrt(weight)
        for j in range(BANDS):
            room[m.band_size + (r * BANDS + j) * d + k] = _size(f[at.scale + (BAND + j) * d + k], known) / root
    for j in range(TERMS):
        room[m.own_middle + r * TERMS + j] = f[at.term_middle + j]
        room[m.own_width + r * TERMS + j] = max(f[at.term_high + j] - f[at.term_middle + j], WIDTH_MIN)


@compiled
def scale(m, r, room, doubles):  # type: ignore[no-untyped-def]
    """value -> x, scaled, of row r of the block; NaN stays NaN."""
    for k in range(r * m.channels, (r + 1) * m.channels):
        value, limit = room[m.value + k], room[m.limit + k]
        scaled = f4((np.float64(value) - doubles[m.location + k]) / doubles[m.scale + k])
        room[m.x + k] = scaled if np.isnan(value) else min(max(scaled, -limit), limit)


@inlined
def _clipped_square(signal, square):  # type: ignore[no-untyped-def]
    """What a signal teaches about its mean square; as long as that is not known, everything."""
    own = signal * signal
    return min(own, f4(CLIP * CLIP) * square) if square > SIZE_MIN * SIZE_MIN else own


@compiled
def learn_units(s, f, at, m, r, room):  # type: ignore[no-untyped-def]
    """Learn from a reading that has been judged, row r of the block; a missing value teaches nothing. s, f: the stream's record"""
    d, terms = m.channels, part(room, m.term + r * m.terms, TERMS)
    value, x, off = part(room, m.value + r * d, d), part(room, m.x + r * d, d), part(room, m.off + r * d, d)
    for k in range(d):
        if np.isnan(value[k]):
            continue
        place = at.scale + k
        if room[m.moved + r * d + k] > f4(0) and f[place + COUNT * d] > 0:
            f[place + MOVES * d] = min(f[place + MOVES * d] + f4(1), f4(COUNT_MAX))
        count = min(f[place + COUNT * d] + f4(1), f4(COUNT_MAX))
        f[place + COUNT * d] = count
        rate = max(1.0 / count, FORGETTING)
        location, deviation = wide(f, place + LOCATION * d, d), wide(f, place + DEVIATION * d, d)
        away = np.float64(value[k]) - location
        if deviation > RESOLUTION * abs(location):
            away = min(max(away, -CLIP * deviation), CLIP * deviation)
        keep_wide(f, place + LOCATION * d, d, location + rate * away)
        keep_wide(f, place + DEVIATION * d, d, np.sqrt((1.0 - rate) * (deviation * deviation + rate * away * away)))
        slow = f4(rate)
        square = f[place + RESIDUAL * d]
        f[place + RESIDUAL * d] = square + slow * (_clipped_square(off[k], square) - square)
        upper = x[k]
        for j in range(BANDS):
            lower = f[at.ewma + j * d + k] if j < BANDS - 1 else f4(0)
            square = f[place + (BAND + j) * d]
            f[place + (BAND + j) * d] = square + slow * (_clipped_square(upper - lower, square) - square)
            upper = lower
    s.scale_readings = min(s.scale_readings + 1, COUNT_MAX)
    if s.scale_readings > YOUNG_READINGS:
        for j in range(TERMS):
            middle, high = f[at.term_middle + j], f[at.term_high + j]
            step = max(high - middle, WIDTH_MIN) / f4(min(s.scale_readings + TRAINING_READINGS, round(1 / FORGETTING)))
            f[at.term_middle + j] = middle + (step if terms[j] > 0 else -step)
            f[at.term_high + j] = high + HIGH_RATE * step * (f4(HIGH) - (f4(1) if terms[j] < AT_HIGH else f4(0)))


@compiled
def reset_units(s, f, at, d):  # type: ignore[no-untyped-def]
    """The baseline was reset: what was learned before weighs as much as YOUNG_READINGS readings."""
    for k in range(d):
        count, moves = f[at.scale + COUNT * d + k], f[at.scale + MOVES * d + k]
        kept = min(count, f4(YOUNG_READINGS))
        f[at.scale + MOVES * d + k] = np.ceil(moves * (kept / max(count, f4(1))))  # as often as before
        f[at.scale + COUNT * d + k] = kept
    s.scale_readings = min(s.scale_readings, YOUNG_READINGS)
