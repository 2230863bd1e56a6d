"""Readings and residuals -> one score per reading; larger is stranger.

No single smoothing suits spikes, drifts, frozen values and broken correlations alike. Four terms, each near 0..0.7 on
normal readings, are added:

    bands    log1p(|W F|^2 / q99)   F: the four time-scale bands of all channels, whitened together
    errors   EWMA.3 of the mean of the three largest log1p(|e| / q99), e: the network's residuals
    joint    EWMA.1 of log1p(|W_e E|^2 / q99), E: the fast band of the residuals, whitened
    runs     largest log1p(run / longest normal run) over channels, run: readings since the value last changed, or was there

    bands of a signal v with M_a its EWMA of rate a:  v - M.3,  M.3 - M.1,  M.1 - M.03,  M.03

Every divisor is a quantile measured in training, so that terms and channels are comparable. The judgement of one reading
is written as scalar code and compiled: it cannot depend on which other readings share the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.states import Column

F4 = NDArray[np.float32]

RATES = np.array([0.3, 0.1, 0.03], np.float32)
BANDS = len(RATES) + 1
PER_CHANNEL = ("band_scale", "error_scale", "error_fast", "same_max", "gone_max")
WHITENINGS = ("band_white", "error_white")
"""What of a `BandScorer` has an entry per channel, and what joins channels; the rest is about terms."""
TERMS = ("bands", "errors", "joint", "runs")
SHRINK_BANDS = 0.05
SHRINK_ERRORS = 0.1
SCALE_FLOOR = 0.01
LARGEST = 3


class Usual(NamedTuple):
    """What is usual for each stream, where streams measure it themselves; in units of it the score is the same for all.

    bands  f4[B, 4, D] size of the bands
    run    f4[B, D]    longest run of one value, readings
    """

    bands: float | F4 = 1.0
    run: float | F4 = 1.0


MEASURED_IN_TRAINING = Usual()


@dataclass(frozen=True)
class BandScorer:
    """The score and what it was fitted with.

    band_scale   f4[4, D]     99 % quantile of each band's absolute values
    band_white   f4[4 D, 4 D] lower triangular
    band_q99     f4[1]        of the whitened square
    error_scale  f4[D]        99 % quantile of absolute residuals
    error_fast   f4[D]        the same of their fast band
    error_white  f4[D, D]     lower triangular
    error_q99    f4[1]
    same_max     f4[D]        longest normal run of one value, readings
    gone_max     f4[D]        longest normal run of missing values, readings
    """

    band_scale: F4
    band_white: F4
    band_q99: F4
    error_scale: F4
    error_fast: F4
    error_white: F4
    error_q99: F4
    same_max: F4
    gone_max: F4

    def arrays(self) -> dict[str, F4]:
        """What a bundle stores."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def channels(self) -> int:
        """D."""
        return len(self.error_scale)

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream."""
        d = self.channels
        return {
            "bands": Column("f4", (len(RATES), d), np.nan),
            "error_band": Column("f4", (d,)),
            "terms": Column("f4", (2,)),
            "value_last": Column("f4", (d,), np.nan),
            "same": Column("i4", (d,)),
            "gone": Column("i4", (d,)),
        }

    def score(self, rows: NDArray[np.int32], value: F4, x: F4, e: F4, states: Any, usual: Usual = MEASURED_IN_TRAINING) -> F4:
        """Score readings one after the other: a step, or one stream's sequence.

        rows     i4[B] rows of `states`, whose columns are advanced
        value    f4[B, D] engineering units, NaN where missing
        x, e     f4[B, D] scaled readings and residuals, NaN where missing
        usual    of these streams
        returns  f4[B] >= 0
        """
        out = np.empty(len(rows), np.float32)
        self._run(rows, value, x, e, states, usual, out, np.empty((0, len(TERMS)), np.float32))
        return out

    def terms(self, rows: NDArray[np.int32], value: F4, x: F4, e: F4, states: Any, usual: Usual = MEASURED_IN_TRAINING) -> F4:
        """As `score`, term by term: f4[B, 4] in the order of TERMS."""
        parts = np.empty((len(rows), len(TERMS)), np.float32)
        self._run(rows, value, x, e, states, usual, np.empty(len(rows), np.float32), parts)
        return parts

    def _run(self, rows: NDArray[np.int32], value: F4, x: F4, e: F4, states: Any, usual: Usual, out: F4, parts: F4) -> None:
        sizes = np.full((len(rows), BANDS, self.channels), usual.bands, np.float32)
        runs = np.full((len(rows), self.channels), usual.run, np.float32)
        _score(rows, value, x, e, sizes, runs, *self._state(states), *self.arrays().values(), out, parts)

    @staticmethod
    def _state(states: Any) -> tuple[NDArray[Any], ...]:
        return tuple(states[name] for name in ("bands", "error_band", "terms", "value_last", "same", "gone"))

    def shares(self, row: int, x: F4, e: F4, states: Any, usual: Usual = MEASURED_IN_TRAINING) -> F4:
        """Which channels a score comes from, for people: f4[D], sum 1.

        row, x f4[D], e f4[D], usual as in `score`, of one reading: the one just scored
        """
        bands = np.zeros((BANDS, self.channels), np.float32)
        _bands_of(np.where(np.isnan(x), states["bands"][row][0], x), states["bands"][row], self.band_scale, bands)
        bands = (bands / usual.bands).reshape(BANDS, -1)
        same_max = self.same_max * np.ravel(usual.run)
        runs = np.maximum(states["same"][row] / same_max, states["gone"][row] / self.gone_max)
        weight = np.nan_to_num((bands**2).mean(axis=0) + (e / self.error_scale) ** 2) + np.where(runs > 1, runs, 0) ** 2
        total = float(weight.sum())
        return (weight / total if total > 0 else np.full(self.channels, 1 / self.channels)).astype(np.float32)

    def tiled(self, channels: int) -> BandScorer:
        """What was fitted on one channel, for so many that know nothing of each other."""
        assert self.channels == 1
        apart = np.eye(channels, dtype=np.float32)
        wide: dict[str, F4] = {name: np.repeat(getattr(self, name), channels, axis=-1) for name in PER_CHANNEL}
        wide |= {name: np.kron(getattr(self, name), apart) for name in WHITENINGS}
        return replace(self, **wide)

    @staticmethod
    def fit(values: Sequence[F4], xs: Sequence[F4], es: Sequence[F4], usual: Sequence[F4] | None = None) -> BandScorer:
        """Measure every divisor on normal readings.

        values, xs  per stream f4[T, D]: engineering units and scaled; no weight depends on these bands, so any stream will do
        es          per stream f4[T, D]: residuals on streams that no weight saw
        usual       per stream f4[T, 4 D]: usual size of the bands, where every stream has its own
        """
        d = xs[0].shape[1]
        bands = np.concatenate([band_signals(x) for x in xs])
        bands /= 1.0 if usual is None else np.concatenate(usual)
        fast = np.concatenate([_fast_band(e) for e in es])
        band_scale, error_fast = _scale(bands), _scale(fast)
        bands, fast = bands / band_scale, fast / error_fast
        band_white, error_white = _whitening(bands, SHRINK_BANDS), _whitening(fast, SHRINK_ERRORS)
        same, gone = (np.max(runs, axis=0) for runs in zip(*(_longest_runs(value) for value in values), strict=True))
        return BandScorer(
            band_scale=band_scale.reshape(BANDS, d),
            band_white=band_white,
            band_q99=_q99(((bands @ band_white.T) ** 2).mean(axis=1)),
            error_scale=_scale(np.nan_to_num(np.concatenate(es))),
            error_fast=error_fast,
            error_white=error_white,
            error_q99=_q99(((fast @ error_white.T) ** 2).mean(axis=1)),
            same_max=np.maximum(same, 1).astype(np.float32),
            gone_max=np.maximum(gone, 1).astype(np.float32),
        )


def _scale(signal: NDArray[Any]) -> F4:
    return floored(np.quantile(np.abs(signal), 0.99, axis=0))


def floored(scale: NDArray[Any]) -> F4:
    """Divisors f[D]: none below a tenth of the median, nor below SCALE_FLOOR, so that what hardly varied does not explode."""
    safe: F4 = np.maximum(scale, max(0.1 * float(np.median(scale)), SCALE_FLOOR)).astype(np.float32)
    return safe


def _q99(square: NDArray[Any]) -> F4:
    return np.array([max(float(np.quantile(square, 0.99)), 1e-6)], np.float32)


def _whitening(signal: NDArray[Any], shrink: float) -> F4:
    """Lower triangular W with |W f|^2 = f' C^-1 f, C the shrunk second moment; float64 inside."""
    wide = np.asarray(signal, np.float64)
    moment = wide.T @ wide / len(wide)
    dim = len(moment)
    shrunk = (1 - shrink) * moment + shrink * max(float(np.trace(moment)) / dim, 1e-9) * np.eye(dim)
    white: F4 = np.linalg.inv(np.linalg.cholesky(shrunk)).astype(np.float32)
    return white


@njit(cache=True)
def _bands_of(x, means, scale, out):  # type: ignore[no-untyped-def]
    """The four bands of one reading, each divided by its scale. means [3, D]; out [4, D]."""
    for k in range(x.shape[0]):
        out[0, k] = (x[k] - means[0, k]) / scale[0, k]
        out[1, k] = (means[0, k] - means[1, k]) / scale[1, k]
        out[2, k] = (means[1, k] - means[2, k]) / scale[2, k]
        out[3, k] = means[2, k] / scale[3, k]


@njit(cache=True)
def _move(x, means, rates):  # type: ignore[no-untyped-def]
    """Advance the EWMAs of one stream; they start at the first value, and stand still where a value is missing."""
    for k in range(x.shape[0]):
        if not np.isnan(x[k]):
            for j in range(rates.shape[0]):
                means[j, k] = x[k] if np.isnan(means[j, k]) else means[j, k] + rates[j] * (x[k] - means[j, k])


@njit(cache=True)
def _square(white, f):  # type: ignore[no-untyped-def]
    """|W f|^2 / dim for a lower triangular W."""
    total = 0.0
    for i in range(f.shape[0]):
        y = 0.0
        for j in range(i + 1):
            y += white[i, j] * f[j]
        total += y * y
    return total / f.shape[0]


@njit(cache=True)
def _score(  # type: ignore[no-untyped-def]
    rows, value, x, e, sizes, runs,
    bands, error_band, terms, value_last, same, gone,
    band_scale, band_white, band_q99, error_scale, error_fast, error_white, error_q99, same_max, gone_max,
    out, parts,
):  # fmt: skip
    d = x.shape[1]
    seen = np.empty(d, np.float32)
    f = np.empty((4, d), np.float32)
    g = np.empty(d, np.float32)
    flat = f.reshape(4 * d)
    for i in range(rows.shape[0]):
        r = rows[i]
        _move(x[i], bands[r], RATES)
        run = 0.0
        top0 = top1 = top2 = 0.0
        for k in range(d):
            if np.isnan(x[i, k]):
                gone[r, k] += 1
                run = max(run, gone[r, k] / gone_max[k])
                seen[k] = 0.0 if np.isnan(bands[r, 0, k]) else bands[r, 0, k]
                g[k] = 0.0
                continue
            gone[r, k] = 0
            same[r, k] = same[r, k] + 1 if value[i, k] == value_last[r, k] else 0
            value_last[r, k] = value[i, k]
            run = max(run, same[r, k] / (same_max[k] * runs[i, k]))
            seen[k] = x[i, k]
            error_band[r, k] += np.float32(0.3) * (e[i, k] - error_band[r, k])
            g[k] = (e[i, k] - error_band[r, k]) / error_fast[k]
            size = abs(e[i, k]) / error_scale[k]
            if size > top0:
                top0, top1, top2 = size, top0, top1
            elif size > top1:
                top1, top2 = size, top1
            elif size > top2:
                top2 = size
        _bands_of(seen, bands[r], band_scale, f)
        usual = sizes[i].reshape(4 * d)
        for k in range(4 * d):
            flat[k] = 0.0 if np.isnan(flat[k]) else flat[k] / usual[k]  # NaN: a channel that has never been seen
        largest = (np.log1p(top0) + np.log1p(top1) + np.log1p(top2)) / min(d, 3)
        terms[r, 0] += np.float32(0.3) * (np.float32(largest) - terms[r, 0])
        joint = np.log1p(_square(error_white, g) / error_q99[0])
        terms[r, 1] += np.float32(0.1) * (np.float32(joint) - terms[r, 1])
        level = np.log1p(_square(band_white, flat) / band_q99[0])
        stuck = np.log1p(run) if run > 1.0 else 0.0
        out[i] = level + terms[r, 0] + terms[r, 1] + stuck
        if parts.shape[0]:
            parts[i, 0], parts[i, 1], parts[i, 2], parts[i, 3] = level, terms[r, 0], terms[r, 1], stuck


@njit(cache=True)
def band_signals(x):  # type: ignore[no-untyped-def]
    """The bands of one stream, not yet scaled: x f4[T, D] -> f4[T, 4 D]. For fitting."""
    t_end, d = x.shape
    unit = np.ones((4, d), np.float32)
    means = np.full((3, d), np.nan, np.float32)
    seen = np.empty(d, np.float32)
    out = np.zeros((t_end, 4, d), np.float32)
    for t in range(t_end):
        _move(x[t], means, RATES)
        for k in range(d):
            seen[k] = means[0, k] if np.isnan(x[t, k]) else x[t, k]
        _bands_of(seen, means, unit, out[t])
    flat = out.reshape(t_end * 4 * d)
    for i in range(flat.shape[0]):
        if np.isnan(flat[i]):
            flat[i] = 0.0  # a channel that has never been seen
    return out.reshape(t_end, 4 * d)


@njit(cache=True)
def _fast_band(e):  # type: ignore[no-untyped-def]
    """Fast band of the residuals of one stream, [T, D], for fitting."""
    mean = np.zeros(e.shape[1], np.float32)
    out = np.zeros_like(e)
    for t in range(e.shape[0]):
        for k in range(e.shape[1]):
            if not np.isnan(e[t, k]):
                mean[k] += np.float32(0.3) * (e[t, k] - mean[k])
                out[t, k] = e[t, k] - mean[k]
    return out


@njit(cache=True)
def _longest_runs(value):  # type: ignore[no-untyped-def]
    """Per channel the longest run of one value, and of missing values, of one stream."""
    t_end, d = value.shape
    same = np.zeros(d, np.int64)
    gone = np.zeros(d, np.int64)
    for k in range(d):
        run_same = run_gone = 0
        last = np.nan
        for t in range(t_end):
            if np.isnan(value[t, k]):
                run_gone += 1
                gone[k] = max(gone[k], run_gone)
            else:
                run_gone = 0
                run_same = run_same + 1 if value[t, k] == last else 0
                last = value[t, k]
                same[k] = max(same[k], run_same)
    return same, gone
