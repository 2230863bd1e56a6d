"""The compiled part of the score: what one reading measures, as scalar code, and what fitting needs of the same signals.

One file: where one compiled function calls another, numba notices changes within a file only.
"""

from __future__ import annotations

import numpy as np
from numba import njit

RATES = np.array([0.3, 0.1, 0.03], np.float32)
BANDS = len(RATES) + 1
WEIGHTS = np.array([2.0, 1.0, 1.0, 1.0, 2.0])
"""Of the squares of bands, errors, joint, slow and extremes: three see the residuals, two the readings' levels."""
MARGIN, MARGIN_READINGS = 0.007, 500.0
"""Unit of what is beyond a channel's range, as a share of it, of one channel and many readings; twice that after so many readings."""
READINGS_MAX = 1_000_000
"""No longer a past is counted."""
NARROW_MAX = 8
"""Up to so many channels rows of a whitening one after the other are as fast as side by side."""
FLAT = 1e-5
"""A channel whose range is smaller than this part of its values has none: any departure from it would be an extreme."""


@njit(cache=True)
def bands_of(x, means, level, scale, out):  # type: ignore[no-untyped-def]
    """The four bands of one reading, each divided by its scale. means [3, D]; level [D]; out [4, D]."""
    for k in range(x.shape[0]):
        out[0, k] = (x[k] - means[0, k]) / scale[0, k]
        out[1, k] = (means[0, k] - means[1, k]) / scale[1, k]
        out[2, k] = (means[1, k] - means[2, k]) / scale[2, k]
        out[3, k] = (means[2, k] - level[k]) / scale[3, k]


@njit(cache=True)
def follow(x, level, rate):  # type: ignore[no-untyped-def]
    """Let the level of one stream follow its readings; missing ones do not move it."""
    for k in range(x.shape[0]):
        if not np.isnan(x[k]):
            level[k] += rate * (x[k] - level[k])


@njit(cache=True)
def move(x, means, rates):  # type: ignore[no-untyped-def]
    """Advance the EWMAs of one stream; they start at the first value, and stand still where a value is missing."""
    for k in range(x.shape[0]):
        if not np.isnan(x[k]):
            for j in range(rates.shape[0]):
                means[j, k] = x[k] if np.isnan(means[j, k]) else means[j, k] + rates[j] * (x[k] - means[j, k])


@njit(cache=True)
def widened(value, low, high):  # type: ignore[no-untyped-def]
    """The range of a channel after a value, [low, high]. It at most doubles: one absurd value must not hide all that follow."""
    span = high - low
    if not span > FLAT * max(abs(low), abs(high)):  # nothing yet, or always the same; infinite: bundles that knew no range
        return min(low, value), max(high, value)
    return min(low, max(value, low - span)), max(high, min(value, high + span))


@njit(cache=True)
def beyond(value, low, high):  # type: ignore[no-untyped-def]
    """How far a value lies outside of its channel's range, as a share of the range."""
    span = high - low
    if not span > FLAT * max(abs(low), abs(high)):
        return 0.0
    return max(value - high, low - value, 0.0) / span


@njit(cache=True)
def told_by(weight):  # type: ignore[no-untyped-def]
    """What the channels of a reading tell together, f4 >= 1, by their weights f4[D]."""
    total = np.float32(0)
    for k in range(weight.shape[0]):
        total += weight[k]
    return max(total, np.float32(1))


@njit(cache=True)
def margin(told, readings):  # type: ignore[no-untyped-def]
    """What a value must exceed its range by to be worth a mention: more where many values, or few readings, make extremes usual."""
    return MARGIN * np.sqrt(told) * (1.0 + MARGIN_READINGS / max(readings, 1.0))


@njit(cache=True)
def _square(columns, f):  # type: ignore[no-untyped-def]
    """|W f|^2 / dim for a lower triangular W, whose columns are these rows."""
    total = 0.0
    for i in range(f.shape[0]):
        y = 0.0
        for j in range(i + 1):
            y += columns[j, i] * f[j]
        total += y * y
    return total / f.shape[0]


@njit(cache=True)
def _wide_square(columns, f, sums):  # type: ignore[no-untyped-def]
    """The same, to the bit, of many channels: all sums grow side by side, several in one instruction. sums f8[dim] is for scratch."""
    sums[:] = 0.0
    for j in range(f.shape[0]):
        below, column = sums[j:], columns[j, j:]
        for i in range(below.shape[0]):
            below[i] += column[i] * f[j]
    total = 0.0
    for i in range(f.shape[0]):
        total += sums[i] * sums[i]
    return total / f.shape[0]


@njit(cache=True)
def measure(  # type: ignore[no-untyped-def]
    rows, value, x, e, sizes, weights,
    bands, level, error_band, terms, value_last, range_low, range_high, range_count, is_open,
    level_rate, band_scale, band_columns, band_q99, error_scale, error_fast, error_columns, error_q99, low, high, count,
    out,
):  # fmt: skip
    d = x.shape[1]
    seen = np.empty(d, np.float32)
    f = np.empty((4, d), np.float32)
    g = np.empty(d, np.float32)
    flat = f.reshape(4 * d)
    sums = np.empty(4 * d)
    for i in range(rows.shape[0]):
        r = rows[i]
        own = min(i, sizes.shape[0] - 1)  # one for all, or one each
        move(x[i], bands[r], RATES)
        plain = extreme = 0.0
        top0 = top1 = top2 = present = 0.0
        for k in range(d):
            if np.isnan(x[i, k]):
                seen[k] = 0.0 if np.isnan(bands[r, 0, k]) else bands[r, 0, k]
                g[k] = 0.0
                continue
            from_low, to_high = np.float64(min(range_low[r, k], low[k])), np.float64(max(range_high[r, k], high[k]))
            if not np.isnan(value_last[r, k]):  # learned only now, so that `shares` still sees how far beyond it was
                from_low, to_high = widened(np.float64(value_last[r, k]), from_low, to_high)
            range_low[r, k], range_high[r, k] = from_low, to_high
            extreme = max(extreme, beyond(np.float64(value[i, k]), from_low, to_high))
            value_last[r, k] = value[i, k]
            seen[k] = x[i, k]
            error_band[r, k] += np.float32(0.3) * (e[i, k] - error_band[r, k])
            g[k] = (e[i, k] - error_band[r, k]) / error_fast[k]
            size = weights[own, k] * abs(e[i, k]) / error_scale[k]
            plain += size
            present += weights[own, k]
            if size > top0:
                top0, top1, top2 = size, top0, top1
            elif size > top1:
                top1, top2 = size, top1
            elif size > top2:
                top2 = size
        bands_of(seen, bands[r], level[r], band_scale, f)
        if is_open[r] == 0:
            follow(x[i], level[r], level_rate[0])
        usual = sizes[own].reshape(4 * d)
        for k in range(4 * d):
            flat[k] = 0.0 if np.isnan(flat[k]) else flat[k] / usual[k]  # NaN: a channel that has never been seen
        largest = (np.log1p(top0) + np.log1p(top1) + np.log1p(top2)) / min(d, 3)
        terms[r, 0] += np.float32(0.3) * (np.float32(largest) - terms[r, 0])
        joint = np.log1p((_square(error_columns, g) if d <= NARROW_MAX else _wide_square(error_columns, g, sums[:d])) / error_q99[0])
        terms[r, 1] += np.float32(0.1) * (np.float32(joint) - terms[r, 1])
        if present > 0.0:
            terms[r, 2] += np.float32(0.03) * (np.float32(plain / present) - terms[r, 2])
        out[i, 0] = np.log1p((_square(band_columns, flat) if d <= NARROW_MAX else _wide_square(band_columns, flat, sums)) / band_q99[0])
        out[i, 1], out[i, 2], out[i, 3] = terms[r, 0], terms[r, 1], terms[r, 2]
        out[i, 4] = np.log1p(extreme / margin(told_by(weights[own]), count[0] + range_count[r]))
        range_count[r] = min(range_count[r] + 1, READINGS_MAX)


@njit(cache=True)
def calibrate(terms, middle, width, own_middle, own_width):  # type: ignore[no-untyped-def]
    """Terms as they were measured -> terms, in place. own_*: in units of what was measured in training."""
    for i in range(terms.shape[0]):
        own = min(i, own_middle.shape[0] - 1)  # one for all, or one each
        for j in range(middle.shape[0]):
            beyond = ((terms[i, j] - middle[j]) / width[j] - own_middle[own, j]) / own_width[own, j]
            terms[i, j] = np.log1p(beyond) if beyond > 0.0 else 0.0


@njit(cache=True)
def soft_maximum(terms, weights, score):  # type: ignore[no-untyped-def]
    """Terms [B, 5] -> the score that they make, each reading alone. weights [5]."""
    for i in range(terms.shape[0]):
        total = 0.0
        for j in range(terms.shape[1]):
            total += weights[j] * np.float64(terms[i, j]) ** 2
        score[i] = np.sqrt(total)


@njit(cache=True)
def linger(rows, alone, limit, weights, share, fading, held, score):  # type: ignore[no-untyped-def]
    """Scores of readings alone f4[B] -> f4[B] with what lingers of those before; the limits f4[B] that they are held against, likewise."""
    for i in range(rows.shape[0]):
        r = rows[i]
        told = told_by(weights[min(i, weights.shape[0] - 1)])  # one for all, or one each
        past = np.float64(share / told) * np.float64(held[r]) ** 2
        score[i] = np.sqrt(np.float64(alone[i]) ** 2 + past)
        limit[i] = np.sqrt(np.float64(limit[i]) ** 2 + past)
        held[r] = max(fading * held[r], alone[i])


@njit(cache=True)
def band_signals(x, level_rate):  # type: ignore[no-untyped-def]
    """The bands of one stream, not yet scaled: x f4[T, D] -> f4[T, 4 D]. For fitting; level_rate f4."""
    t_end, d = x.shape
    unit = np.ones((4, d), np.float32)
    means = np.full((3, d), np.nan, np.float32)
    level = np.zeros(d, np.float32)
    seen = np.empty(d, np.float32)
    out = np.zeros((t_end, 4, d), np.float32)
    for t in range(t_end):
        move(x[t], means, RATES)
        for k in range(d):
            seen[k] = means[0, k] if np.isnan(x[t, k]) else x[t, k]
        bands_of(seen, means, level, unit, out[t])
        follow(x[t], level, level_rate)
    flat = out.reshape(t_end * 4 * d)
    for i in range(flat.shape[0]):
        if np.isnan(flat[i]):
            flat[i] = 0.0  # a channel that has never been seen
    return out.reshape(t_end, 4 * d)


@njit(cache=True)
def fast_band(e):  # type: ignore[no-untyped-def]
    """Fast band of the residuals of one stream, [T, D], for fitting."""
    mean = np.zeros(e.shape[1], np.float32)
    out = np.zeros_like(e)
    for t in range(e.shape[0]):
        for k in range(e.shape[1]):
            if not np.isnan(e[t, k]):
                mean[k] += np.float32(0.3) * (e[t, k] - mean[k])
                out[t, k] = e[t, k] - mean[k]
    return out
