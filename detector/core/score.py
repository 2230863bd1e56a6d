"""Readings and residuals -> one score per reading; larger is stranger.

No single smoothing suits spikes, drifts, broken correlations and faults of time alike. Five values are measured:

    joint band distance   log1p(|W F|^2 / q99)   F: the four time-scale bands of all channels, each by sqrt(w), whitened together
    fast residuals        EWMA.3 of the mean of the three largest log1p(w |e| / q99), e: the forecast's residuals
    whitened residuals    EWMA.1 of log1p(|W_e E|^2 / q99), E: the fast band of the residuals
    slow residuals        EWMA.03 of the mean over channels, weighted by w, of |e| / q99
    out of range          largest log1p(beyond / margin) over channels; beyond: distance from the range, as a share of it

    bands of a signal v with M_a its EWMA of rate a:  v - M.3,  M.3 - M.1,  M.1 - M.03,  M.03 - level
    w = min(1, twice the share of readings in which the channel's value changes);  effective channels = max(1, sum of w)
    margin = .007 sqrt(effective channels) (1 + 500 / n)     n: readings that the range is of, in training and of the stream

A channel counts by what it tells: nobody can foresee a command or a switch, and of 55 channels of which 50 are such, one reading tells as
much as of five sensors. The range takes a value in at once, so that it counts once, and at most doubles by it, so that one absurd value
does not hide all that follow.

The level is 0 at first, the mean of training, and follows the readings as an EWMA of rate .001: a plant that drifts away from where it was
trained stays as well watched as it was. While an alert is open it stands still, so that a lasting fault does not become normal.

Added as they are, the terms drown each other: the bands' own scatter on normal readings hides a small but lasting rise of the residuals.
So the first four say how far they are beyond what is normal for them, and a soft maximum is taken:

    term    = log1p(max(0, (v - middle) / width))     middle, middle + width: 50 % and 99 % quantile of v on normal readings
    instantaneous score = sqrt(2 bands^2 + fast^2 + whitened^2 + slow^2 + 2 range^2)
    score   = sqrt(instantaneous^2 + .5 peak^2 / effective channels)     peak: largest instantaneous score before, fading by 1/400 per reading

The decaying peak ranks the readings after a strange one above those of a calm hour, as most of them belong to what it began; the less a
single reading tells, the more. The alarm decides by the instantaneous score, and has a memory of its own.

Every divisor is a quantile measured in training (`lab/calibration.py`), so that terms and channels are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from detector.core.arithmetic import log1p, panels_of, triangular_product, whole_lanes
from detector.core.compiled import compiled, inlined
from detector.core.compiled_model import Described, of_rows
from detector.core.limits import COUNT_MAX, RESOLUTION, TRAINING_READINGS
from detector.core.scaler import BANDS, TERMS
from detector.core.stream_state import Part, part

f4 = np.float32
F4 = NDArray[np.float32]

TERM_NAMES = ("bands", "fast", "whitened", "slow", "range")
"""The five, in the order in which they are told; the first four are calibrated, the last is 0 on normal readings."""
RATES = (f4(0.3), f4(0.1), f4(0.03))
"""Of the EWMAs between the bands, and of the fast, whitened and slow residuals."""
RANGE_MARGIN = 0.007
"""Unit of what is beyond a channel's range, as a share of it, of one channel and many readings; twice that after TRAINING_READINGS."""
MARGINS_MAX = 1e15
"""Farther out of range is all the same to a channel's share: squares stay finite in 32 bits."""
MEASURED = 3
"""What a reading measures beside its whitened signals: mean of the three largest residuals, mean residual, out of range."""


@dataclass(frozen=True)
class Score:
    """The score's divisors, measured in training.

    weight       f4[D]        of each channel, w; 1 where every stream has its own
    level_rate   f4[1]        at which the level follows; 0 where the scaling follows it
    band_scale   f4[4, D]     99 % quantile of each band's absolute values, over sqrt(w)
    band_white   f4[4 D, 4 D] lower triangular
    band_q99     f4[1]        of the whitened square
    error_scale  f4[D]        99 % quantile of absolute residuals
    error_fast   f4[D]        the same of their fast band
    error_white  f4[D, D]     lower triangular
    error_q99    f4[1]
    low, high    f4[D]        range of each channel's values, engineering units; inf and -inf where every stream has its own
    count        f4[1]        readings that it is of
    middle       f4[4]        50 % quantile of each of the first four terms before it is calibrated
    width        f4[4]        distance of the 99 % quantile from it
    peak_share   f4[1]        of the peak in the score, where a reading tells one value
    peak_kept    f4[1]        what is left of it after one more reading
    """

    weight: F4
    level_rate: F4
    band_scale: F4
    band_white: F4
    band_q99: F4
    error_scale: F4
    error_fast: F4
    error_white: F4
    error_q99: F4
    low: F4
    high: F4
    count: F4
    middle: F4
    width: F4
    peak_share: F4
    peak_kept: F4

    def arrays(self) -> dict[str, F4]:
        """What a bundle stores."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def channels(self) -> int:
        """D."""
        return len(self.error_scale)

    @property
    def parts(self) -> list[Part]:
        """What is remembered of a stream."""
        d = (self.channels,)
        followed: list[Part] = [("ewma", (BANDS - 1, *d), np.nan), ("level", d, 0), ("residual_ewma", d, 0), ("value_last", d, np.nan)]
        return [*followed, ("low", d, self.low), ("high", d, self.high)]

    def tiled(self, channels: int) -> Score:
        """What was fitted on one channel, for so many that know nothing of each other."""
        assert self.channels == 1
        identity = np.eye(channels, dtype=np.float32)
        per_channel = ("weight", "band_scale", "error_scale", "error_fast", "low", "high")
        of_each: dict[str, F4] = {name: np.repeat(getattr(self, name), channels, axis=-1) for name in per_channel}
        of_each |= {name: np.kron(getattr(self, name), identity) for name in ("band_white", "error_white")}
        return replace(self, **of_each)

    def describe(self) -> Described:
        """What the compiled code reads; and a block's room: bands and fast residuals, both again whitened; how far each value is out of range;
        what each reading measures, and its terms."""
        d = self.channels
        wide, narrow = map(whole_lanes, (BANDS * d, d))
        one = {name: getattr(self, name)[0] for name in ("level_rate", "band_q99", "error_q99", "peak_share", "peak_kept")}
        numbers = one | {"range_count": self.count[0], "terms": TERMS + 1, "white_band_count": wide, "white_fast_count": narrow}
        weights = {name: getattr(self, name) for name in ("band_scale", "error_scale", "error_fast", "middle", "width")}
        weights |= {"band_white": panels_of(self.band_white.T), "error_white": panels_of(self.error_white.T), "no_bias": np.zeros(wide)}
        room = {"bands": of_rows(BANDS * d), "fast": of_rows(d), "white_bands": of_rows(wide), "white_fast": of_rows(narrow)}
        room |= {"moved": of_rows(d), "measured": of_rows(MEASURED), "term": of_rows(TERMS + 1)}
        return Described(numbers, weights, room, {"outside": of_rows(d, 0, np.float64)})


@inlined
def _is_flat(low, high):  # type: ignore[no-untyped-def]
    """Whether a range says nothing yet: there is none, or the value was always the same."""
    return not high - low > RESOLUTION * max(abs(low), abs(high))


@inlined
def beyond(value, low, high):  # type: ignore[no-untyped-def]
    """How far a value lies outside of its channel's range, as a share of the range."""
    return 0.0 if _is_flat(low, high) else max(value - high, low - value, 0.0) / (high - low)


@inlined
def widened(value, low, high):  # type: ignore[no-untyped-def]
    """The range of a channel after a value, [low, high]."""
    if _is_flat(low, high):
        return min(low, value), max(high, value)
    span = high - low
    return min(low, max(value, low - span)), max(high, min(value, high + span))


@inlined
def effective_channels(weight):  # type: ignore[no-untyped-def]
    """What the channels of a reading tell together, f4 >= 1, by their weights f4[D]."""
    total = f4(0)
    for k in range(weight.shape[0]):
        total += weight[k]
    return max(total, f4(1))


@inlined
def range_margin(weight, m, readings):  # type: ignore[no-untyped-def]
    """What a value must exceed its range by to count: more where many values, or few readings, make extremes usual."""
    known = max(np.float64(m.range_count) + readings, 1.0)
    return RANGE_MARGIN * np.sqrt(np.float64(effective_channels(weight))) * (1.0 + TRAINING_READINGS / known)


@compiled
def follow(s, f, at, m, r, weights, room, doubles):  # type: ignore[no-untyped-def]
    """Advance what is followed of a stream, and write what its reading, row r of the block, measures. s, f: the stream's record"""
    d = m.channels
    value, x, e = part(room, m.value + r * d, d), part(room, m.x + r * d, d), part(room, m.residual + r * d, d)
    bands, band_size, weight = m.bands + r * BANDS * d, m.band_size + r * BANDS * d, part(room, m.weight + r * d, d)
    top0 = top1 = top2 = total = present = f4(0)
    furthest = 0.0
    for k in range(d):
        ewma, seen, fast, outside, moved = at.ewma + k, x[k], f4(0), 0.0, f4(0)
        if np.isnan(x[k]):
            seen = f[ewma]
        else:
            if not f[at.low + k] <= value[k] <= f[at.high + k]:
                low, high, own = np.float64(f[at.low + k]), np.float64(f[at.high + k]), np.float64(value[k])
                outside = beyond(own, low, high)
                furthest = max(furthest, outside)
                f[at.low + k], f[at.high + k] = widened(own, low, high)
            moved = f4(0) if value[k] == f[at.value_last + k] else f4(1)
            f[at.value_last + k] = value[k]
            for j in range(BANDS - 1):
                before = f[ewma + j * d]
                f[ewma + j * d] = x[k] if np.isnan(before) else before + RATES[j] * (x[k] - before)
            mean = f[at.residual_ewma + k] + RATES[0] * (e[k] - f[at.residual_ewma + k])
            f[at.residual_ewma + k] = mean
            fast = (e[k] - mean) / weights[m.error_fast + k]
            size = weight[k] * abs(e[k]) / weights[m.error_scale + k]
            total += size
            present += weight[k]
            top0, top1, top2 = _top3(size, top0, top1, top2)
        room[m.fast + r * d + k], room[m.moved + r * d + k], doubles[m.outside + r * d + k] = fast, moved, outside
        upper = seen
        for j in range(BANDS):
            lower = f[ewma + j * d] if j < BANDS - 1 else f[at.level + k]
            band = (upper - lower) / (weights[m.band_scale + j * d + k] * room[band_size + j * d + k])
            room[bands + j * d + k] = f4(0) if np.isnan(band) else band  # NaN: a channel that has never been seen
            upper = lower
        if s.score_open == 0 and not np.isnan(x[k]):
            f[at.level + k] += m.level_rate * (x[k] - f[at.level + k])
    measured = m.measured + r * MEASURED
    room[measured] = (log1p(top0) + log1p(top1) + log1p(top2)) / f4(min(d, 3))
    room[measured + 1] = total / present if present > 0 else f4(np.nan)
    room[measured + 2] = log1p(f4(furthest / range_margin(weight, m, s.range_readings)))
    s.range_readings = min(s.range_readings + 1, COUNT_MAX)


@inlined
def _top3(size, top0, top1, top2):  # type: ignore[no-untyped-def]
    """The three largest with one more; without a branch that nobody can foresee."""
    second = min(top0, size)
    return max(top0, size), max(top1, second), max(top2, min(top1, second))


@compiled
def whiten(rows, m, weights, room):  # type: ignore[no-untyped-def]
    """Whiten the bands and the fast residuals of a block."""
    d = m.channels
    bands, white_bands = (room, m.bands, BANDS * d), (room, m.white_bands, m.white_band_count)
    triangular_product(bands, weights, m.band_white, m.white_band_count, BANDS * d, m.no_bias, rows, white_bands)
    fast, white_fast = (room, m.fast, d), (room, m.white_fast, m.white_fast_count)
    triangular_product(fast, weights, m.error_white, m.white_fast_count, d, m.no_bias, rows, white_fast)


@inlined
def _mean_square(values):  # type: ignore[no-untyped-def]
    total = f4(0)
    for k in range(values.shape[0]):
        total += values[k] * values[k]
    return total / f4(values.shape[0])


@compiled
def measure(s, m, r, room):  # type: ignore[no-untyped-def]
    """The five terms of a reading, row r of the block, before they are calibrated."""
    d, measured, term = m.channels, m.measured + r * MEASURED, m.term + r * m.terms
    s.fast += RATES[0] * (room[measured] - s.fast)
    whitened = _mean_square(part(room, m.white_fast + r * m.white_fast_count, d))
    s.whitened += RATES[1] * (log1p(whitened / m.error_q99) - s.whitened)
    if not np.isnan(room[measured + 1]):
        s.slow += RATES[2] * (room[measured + 1] - s.slow)
    room[term] = log1p(_mean_square(part(room, m.white_bands + r * m.white_band_count, BANDS * d)) / m.band_q99)
    room[term + 1], room[term + 2], room[term + 3], room[term + 4] = s.fast, s.whitened, s.slow, room[measured + 2]


@compiled
def instantaneous(m, r, weights, room):  # type: ignore[no-untyped-def]
    """Calibrate the terms of a reading, row r of the block, in place; its score, alone."""
    term, own = m.term + r * m.terms, r * TERMS
    for j in range(TERMS):
        over = (room[term + j] - weights[m.middle + j]) / weights[m.width + j]
        room[term + j] = log1p(max((over - room[m.own_middle + own + j]) / room[m.own_width + own + j], f4(0)))
    bands, fast, whitened, slow, out = room[term], room[term + 1], room[term + 2], room[term + 3], room[term + 4]
    return np.sqrt(f4(2) * bands * bands + fast * fast + whitened * whitened + slow * slow + f4(2) * out * out)


@compiled
def with_peak(s, m, r, score, threshold, room):  # type: ignore[no-untyped-def]
    """An instantaneous score and its threshold, each with the decaying peak of those before."""
    past = m.peak_share / effective_channels(part(room, m.weight + r * m.channels, m.channels)) * s.peak * s.peak
    s.peak = max(m.peak_kept * s.peak, score)
    return np.sqrt(score * score + past), np.sqrt(f4(threshold) * f4(threshold) + past)


@compiled
def share_out(s, m, r, weights, room, doubles, shares):  # type: ignore[no-untyped-def]
    """Which channels the score of row r comes from, for people: shares [D], sum 1."""
    d, total, weight = m.channels, f4(0), part(room, m.weight + r * m.channels, m.channels)
    margin = range_margin(weight, m, s.range_readings)
    for k in range(d):
        share, e = f4(0), room[m.residual + r * d + k]
        if not np.isnan(e):
            for j in range(BANDS):
                band = room[m.bands + (r * BANDS + j) * d + k]
                share += band * band / f4(BANDS)
            share += (weight[k] * e / weights[m.error_scale + k]) ** 2 + f4(min(doubles[m.outside + r * d + k] / margin, MARGINS_MAX) ** 2)
        shares[k] = share
        total += share
    for k in range(d):
        shares[k] = shares[k] / total if total > 0 else f4(1) / f4(d)
