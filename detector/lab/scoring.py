"""The score over whole recorded sequences, as the service would compute it: for calibration and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core import alarm, scaler
from detector.core import score as scores
from detector.core.alarm import Prior
from detector.core.arithmetic import copy
from detector.core.compiled import entry
from detector.core.compiled_model import Described, compile_model, of_rows
from detector.core.rules import RULES, Settings, rules_of
from detector.core.scaler import BANDS, TERMS
from detector.core.score import RATES, TERM_NAMES, Score
from detector.core.stream_state import HEAD, layout_of, part

F4 = NDArray[np.float32]
SECOND_US = 1_000_000


def measured(score: Score, value: F4, x: F4, e: F4, usual_bands: F4 | float = 1.0, weight: F4 | float = 1.0) -> F4:
    """The terms of one stream's readings in order, from an empty state, before they are calibrated: f4[T, 5].

    value, x, e           f4[T, D] engineering units, scaled, residuals
    usual_bands, weight   f4[T, 4 D] and f4[T, D], where every stream has its own
    """
    return _played(score, value, x, e, usual_bands, weight)[0]


def scored(
    score: Score,
    value: F4,
    x: F4,
    e: F4,
    usual_bands: F4 | float = 1.0,
    weight: F4 | float = 1.0,
    *,
    watched: tuple[Settings, Prior] | None = None,
) -> tuple[F4, F4, F4]:
    """Instantaneous scores f4[T] of the same, their terms, calibrated, f4[T, 5], and scores with the decaying peak, f4[T].

    watched   by an alarm, whose open alert keeps the level where it is; a reading every second. None: by none
    """
    terms, instantaneous, with_peak = _played(score, value, x, e, usual_bands, weight, watched)[1:]
    return instantaneous, terms, with_peak


def _played(
    score: Score,
    value: F4,
    x: F4,
    e: F4,
    usual_bands: F4 | float,
    weight: F4 | float,
    watched: tuple[Settings, Prior] | None = None,
) -> tuple[F4, F4, F4, F4]:
    layout, (readings, d) = layout_of(score.parts, watched[1].starts if watched else {}), x.shape
    rules = rules_of(*watched) if watched else np.zeros(1, RULES)
    sizes = Described({"channels": d}, {}, {name: of_rows(d) for name in ("value", "x", "residual")}, {})
    model, room = compile_model(layout, [sizes, score.describe(), scaler.describe(None, score.weight)])
    floats = layout.new.copy()
    units = np.empty((readings, (BANDS + 1) * d), np.float32)
    units[:, : BANDS * d], units[:, BANDS * d :] = usual_bands, weight * score.weight
    values = np.ascontiguousarray(np.concatenate((value, x, e), axis=1, dtype=np.float32))
    terms = (readings, TERMS + 1)
    out = np.empty(terms, np.float32), np.empty(terms, np.float32), np.empty(readings, np.float32), np.empty(readings, np.float32)
    _play(floats.view(np.uint8)[: HEAD.itemsize].view(HEAD), floats, values, units, model, room, rules, watched is not None, out)
    return out


@entry
def _play(heads, floats, values, units, model, room, rules, is_watched, out):  # type: ignore[no-untyped-def]
    """values f4[T, 3 D]: engineering units, scaled, residuals; units f4[T, 5 D]: usual bands, weight; rules RULES[1]"""
    raw, terms, instantaneous, with_peak = out
    s, at, m, b = heads[0], model.at[0], model.model[0], room.floats
    d = m.channels
    for t in range(values.shape[0]):
        copy(values[t, :d], part(b, m.value, d))
        copy(values[t, d : 2 * d], part(b, m.x, d))
        copy(values[t, 2 * d :], part(b, m.residual, d))
        copy(units[t, : BANDS * d], part(b, m.band_size, BANDS * d))
        copy(units[t, BANDS * d :], part(b, m.weight, d))
        scores.follow(s, floats, at, m, 0, model.weights, b, room.doubles)
        scores.whiten(1, m, model.weights, b)
        scores.measure(s, m, 0, b)
        copy(part(b, m.term, m.terms), raw[t])
        instantaneous[t] = scores.instantaneous(m, 0, model.weights, b)
        copy(part(b, m.term, m.terms), terms[t])
        if is_watched:
            alarm.judge(s, instantaneous[t], t * SECOND_US, float(SECOND_US), rules[0])
        with_peak[t], _ = scores.with_peak(s, m, 0, instantaneous[t], np.nan, b)


@entry
def band_signals(x, level_rate):  # type: ignore[no-untyped-def]
    """The bands of one stream, not yet scaled: x f4[T, D] -> f4[T, 4 D]. level_rate f4."""
    t_end, d = x.shape
    ewma, level = np.full((BANDS - 1, d), np.nan, np.float32), np.zeros(d, np.float32)
    out = np.zeros((t_end, BANDS * d), np.float32)
    for t in range(t_end):
        for k in range(d):
            is_there = not np.isnan(x[t, k])
            if is_there:
                for j in range(BANDS - 1):
                    ewma[j, k] = x[t, k] if np.isnan(ewma[j, k]) else ewma[j, k] + RATES[j] * (x[t, k] - ewma[j, k])
            if np.isnan(ewma[0, k]):
                continue  # a channel that has never been seen
            upper = x[t, k] if is_there else ewma[0, k]
            for j in range(BANDS):
                lower = ewma[j, k] if j < BANDS - 1 else level[k]
                out[t, j * d + k] = upper - lower
                upper = lower
            if is_there:
                level[k] += level_rate * (x[t, k] - level[k])
    return out


@entry
def fast_band(e):  # type: ignore[no-untyped-def]
    """Fast band of the residuals of one stream, [T, D]."""
    mean = np.zeros(e.shape[1], np.float32)
    out = np.zeros_like(e)
    for t in range(e.shape[0]):
        for k in range(e.shape[1]):
            if not np.isnan(e[t, k]):
                mean[k] += RATES[0] * (e[t, k] - mean[k])
                out[t, k] = e[t, k] - mean[k]
    return out


def moves_of(value: F4) -> NDArray[Any]:
    """How often each channel's value changed, i8[D]; value f4[T, D], NaN where missing."""
    moves = np.zeros(value.shape[1], np.int64)
    for k, channel in enumerate(value.T):
        there = channel[~np.isnan(channel)]
        moves[k] = np.count_nonzero(there[1:] != there[:-1])
    return moves


assert len(TERM_NAMES) == TERMS + 1
