"""Readings and residuals -> one score per reading; larger is stranger.

No single smoothing suits spikes, drifts, broken correlations and faults of time alike. Four values are measured:

    bands    log1p(|W F|^2 / q99)   F: the four time-scale bands of all channels, each by sqrt(w), whitened together
    errors   EWMA.3 of the mean of the three largest log1p(w |e| / q99), e: the network's residuals
    joint    EWMA.1 of log1p(|W_e E|^2 / q99), E: the fast band of the residuals, whitened
    slow     EWMA.03 of the mean over channels, weighted by w, of |e| / q99

    bands of a signal v with M_a its EWMA of rate a:  v - M.3,  M.3 - M.1,  M.1 - M.03,  M.03 - level
    w = min(1, twice the share of readings in which the channel's value changes);  told = max(1, sum of w)

A channel counts by what it tells: nobody can foresee a command or a switch, and of 55 channels of which 50 are such, one reading tells as
much as of five sensors.

The level is 0 at first, the mean of training, and follows the readings slowly, as an EWMA of rate .001: a plant that drifts away from
where it was trained stays as well watched as it was. While an alert is open it stands still, so that a lasting fault does not become
normal; once accepted, it does.

Added as they are they drown each other: the bands' own scatter on normal readings hides a small but lasting rise of the residuals, which
is all that a fault of time may show. So each says how far it is beyond what is normal for it, and a fifth how far a value lies outside of
all that training and its stream have shown, whose range it then widens:

    term = log1p(max(0, (v - middle) / (high - middle)))     middle, high: 50 % and 99 % quantile of v on normal readings
    extremes = largest log1p(beyond / margin) over channels; beyond: distance from the range, as a share of it
    margin = .007 sqrt(told) (1 + 500 / n)     n: readings that the range is of, in training and of the stream

    alone = sqrt(2 bands^2 + errors^2 + joint^2 + slow^2 + 2 extremes^2)     a soft maximum: what one term says is not lost in the
                                                                          others' scatter
    score = sqrt(alone^2 + .5 held^2 / told)     held: largest `alone` of the readings before, which fades by a four-hundredth per reading

What lingers ranks the readings after a strange one above those of a calm hour, as most of them belong to what it began; the less a single
reading tells, the more. The alarm decides by what a reading is alone, and has a memory of its own.

Every divisor is a quantile measured in training, so that terms and channels are comparable. The judgement of one reading
is written as scalar code and compiled: it cannot depend on which other readings share the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.states import Column, arrays_of
from detector.core.terms import (
    BANDS,
    RATES,
    WEIGHTS,
    bands_of,
    beyond,
    calibrate,
    linger,
    margin,
    measure,
    soft_maximum,
    told_by,
)

F4 = NDArray[np.float32]

TERMS = ("bands", "errors", "joint", "slow", "extremes")
CALIBRATED = TERMS[:4]
"""Terms that are counted from their middle; the last is 0 on normal readings."""

PER_CHANNEL = ("weight", "band_scale", "error_scale", "error_fast", "low", "high")
WHITENINGS = ("band_white", "error_white")
"""What of a `BandScorer` has an entry per channel, and what joins channels; the rest is about terms."""


class Usual(NamedTuple):
    """What is usual for each stream, where streams measure it themselves; in units of it the score is the same for all.

    bands   f4[B, 4, D] size of the bands, over sqrt(w)
    weight  f4[B, D]    of the channels, w
    middle  f4[B, 4]    middle of each of CALIBRATED, from that of training, in units of its width there
    width   f4[B, 4]    their widths, in the same units
    """

    bands: float | F4 = 1.0
    weight: float | F4 = 1.0
    middle: float | F4 = 0.0
    width: float | F4 = 1.0


MEASURED_IN_TRAINING = Usual()


def _columns(d: int) -> dict[str, Column]:
    """Of D channels, in the order in which the compiled part takes them."""
    return {
        "bands": Column("f4", (len(RATES), d), np.nan),
        "level": Column("f4", (d,)),
        "error_band": Column("f4", (d,)),
        "terms": Column("f4", (3,)),
        "value_last": Column("f4", (d,), np.nan),
        "range_low": Column("f4", (d,), np.inf),
        "range_high": Column("f4", (d,), -np.inf),
        "range_count": Column("i4"),
        "is_open": Column("u1"),
    }


STATE = tuple(_columns(1))


@dataclass(frozen=True)
class BandScorer:
    """The score and what it was fitted with.

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
    middle       f4[4]        50 % quantile of each of CALIBRATED before it is calibrated
    width        f4[4]        distance of the 99 % quantile from it
    held_share   f4[1]        of what lingers in the score, where a reading tells one value
    fading       f4[1]        what is left of it after one more reading
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
    held_share: F4
    fading: F4

    def arrays(self) -> dict[str, F4]:
        """What a bundle stores."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def channels(self) -> int:
        """D."""
        return len(self.error_scale)

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream, and where an alert is open, which only the alarm changes."""
        return _columns(self.channels) | {"held": Column("f4")}

    def moved(self, rows: NDArray[np.int32], value: F4, states: Any) -> NDArray[np.bool_]:
        """Which values, f4[B, D], are not the last ones that their channels had, b1[B, D]; a missing one is none. Before `judged` sees them."""
        moved: NDArray[np.bool_] = ~np.isnan(value) & (value != states["value_last"][rows])
        return moved

    def judged(self, rows: NDArray[np.int32], value: F4, x: F4, e: F4, states: Any, usual: Usual = MEASURED_IN_TRAINING) -> tuple[F4, F4]:
        """Score readings one after the other, each alone: a step, or one stream's sequence.

        rows     i4[B] rows of `states`, whose columns are advanced
        value    f4[B, D] engineering units, NaN where missing
        x, e     f4[B, D] scaled readings and residuals, NaN where missing
        usual    of these streams
        returns  f4[B] >= 0, and its terms, f4[B, 5] in the order of TERMS
        """
        score, terms = np.empty(len(rows), np.float32), self._measured(rows, value, x, e, states, usual)
        own = (np.full((np.size(part) // len(CALIBRATED) or 1, len(CALIBRATED)), part, np.float32) for part in (usual.middle, usual.width))
        calibrate(terms, self.middle, self.width, *own)
        soft_maximum(terms, WEIGHTS, score)
        return score, terms

    def lingering(self, rows: NDArray[np.int32], alone: F4, limit: F4, states: Any, usual: Usual = MEASURED_IN_TRAINING) -> tuple[F4, F4]:
        """Scores of readings alone -> scores with what lingers of those before, f4[B], and so the limits that they are held against."""
        score, held_against = np.empty(len(rows), np.float32), limit.copy()
        weights = np.atleast_2d(self.weight * usual.weight)
        linger(rows, alone, held_against, weights, self.held_share[0], self.fading[0], states["held"], score)
        return score, held_against

    def of_one_stream(self, value: F4, x: F4, e: F4, usual: Usual = MEASURED_IN_TRAINING) -> tuple[F4, F4]:
        """As `judged`, of one stream's readings in order, from an empty memory: f4[T], f4[T, 5]."""
        return self.judged(np.zeros(len(x), np.int32), value, x, e, self._alone(), usual)

    def measured_of_one_stream(self, value: F4, x: F4, e: F4, usual: Usual = MEASURED_IN_TRAINING) -> F4:
        """Likewise the terms before they are calibrated, f4[T, 5]: what `middle` and `width` are measured on."""
        return self._measured(np.zeros(len(x), np.int32), value, x, e, self._alone(), usual)

    def lingering_of_one_stream(self, alone: F4) -> F4:
        """As `lingering`, of one stream's readings in order, from an empty memory: f4[T]."""
        return self.lingering(np.zeros(len(alone), np.int32), alone, alone, self._alone())[0]

    def _alone(self) -> dict[str, NDArray[Any]]:
        """An empty memory of one stream."""
        return arrays_of(self.columns())

    @cached_property
    def _columns_of_white(self) -> tuple[F4, F4]:
        """Both whitenings, column after column."""
        return np.ascontiguousarray(self.band_white.T), np.ascontiguousarray(self.error_white.T)

    def _measured(self, rows: NDArray[np.int32], value: F4, x: F4, e: F4, states: Any, usual: Usual) -> F4:
        """Terms before they are calibrated, f4[B, 5]."""
        terms = np.empty((len(rows), len(TERMS)), np.float32)
        count = 1 if np.ndim(usual.bands) == 0 else len(rows)
        sizes = np.full((count, BANDS, self.channels), usual.bands, np.float32)
        weights = np.full((count, self.channels), self.weight * usual.weight, np.float32)
        band_columns, error_columns = self._columns_of_white
        measure(
            rows, value, x, e, sizes, weights, *(states[name] for name in STATE),
            self.level_rate, self.band_scale, band_columns, self.band_q99, self.error_scale, self.error_fast, error_columns,
            self.error_q99, self.low, self.high, self.count, terms,
        )  # fmt: skip
        return terms

    def shares(self, row: int, x: F4, e: F4, states: Any, usual: Usual = MEASURED_IN_TRAINING) -> F4:
        """Which channels a score comes from, for people: f4[D], sum 1. A missing one has no share, unless all are missing.

        row, x f4[D], e f4[D], usual as in `judged`, of one reading: the one just scored
        """
        bands = np.zeros((BANDS, self.channels), np.float32)
        means, level = states["bands"][row], states["level"][row]
        bands_of(np.where(np.isnan(x), means[0], x), means, level, self.band_scale, bands)
        bands = (bands / usual.bands).reshape(BANDS, -1)
        value_and_range = (states[name][row].astype(np.float64) for name in ("value_last", "range_low", "range_high"))
        outside = np.array([beyond(*channel) for channel in zip(*value_and_range, strict=True)])
        weight = self.weight * np.ravel(usual.weight)
        outside = outside / margin(told_by(weight), self.count[0] + states["range_count"][row])
        part = np.nan_to_num((bands**2).mean(axis=0) + (weight * e / self.error_scale) ** 2)
        part = np.where(np.isnan(x), 0, part + outside**2)
        total = float(part.sum())
        return (part / total if total > 0 else np.full(self.channels, 1 / self.channels)).astype(np.float32)

    def tiled(self, channels: int) -> BandScorer:
        """What was fitted on one channel, for so many that know nothing of each other."""
        assert self.channels == 1
        apart = np.eye(channels, dtype=np.float32)
        wide: dict[str, F4] = {name: np.repeat(getattr(self, name), channels, axis=-1) for name in PER_CHANNEL}
        wide |= {name: np.kron(getattr(self, name), apart) for name in WHITENINGS}
        return replace(self, **wide)
