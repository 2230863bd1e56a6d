"""A block of readings of distinct streams on its way through the model: scale, forecast, memory, residual, score.

    take the forecast of the reading -> feed it to the LSTM -> features -> head -> keep the forecasts of the readings to come
    residual = reading - forecast -> the five terms

The forecast of a reading is taken out before the memory advances with it, so a look ahead is impossible by construction.
"""

from __future__ import annotations

from detector.core import forecast, lstm, online_ridge, scaler, score
from detector.core.arithmetic import copy
from detector.core.compiled import compiled
from detector.core.stream_state import READINGS_MODULUS, part

FIRST_DAYS_US, FIRST_READINGS_MAX = 2 * 86_400e6, 3_000
"""A rhythm of the day has been seen twice; and so many readings are what a stream learns within."""


@compiled
def advance(heads, floats, chosen, rows, at, m, weights, room, doubles):  # type: ignore[no-untyped-def]
    """Take the readings in the block's room through the model, short of the alarm and of learning.

    heads, floats   all streams' records
    chosen          i8[ROWS] the rows of the block's streams, of which `rows` count
    at, m           records OFFSETS and MODEL
    weights, room, doubles   as in `CompiledModel` and `Room`
    """
    d = m.channels
    for r in range(rows):
        s, f = heads[chosen[r]], floats[chosen[r]]
        if m.is_online:
            scaler.measure_units(f, at, m, r, room, doubles)
        scaler.scale(m, r, room, doubles)
        forecast.take_forecast(s, f, at, m, part(room, m.expected + r * d, d))
        if m.is_online:
            online_ridge.forecast_of(s, f, at, m, r, room)
        forecast.feed(f, at, part(room, m.x + r * d, d), part(room, m.fed + r * d, d))
    lstm.advance(floats, chosen, rows, at, m, weights, room)
    for r in range(rows):
        fed, features = part(room, m.fed + r * d, d), part(room, m.feature + r * m.features, m.features)
        forecast.write_features(heads[chosen[r]], floats[chosen[r]], at, m, fed, features)
    if not m.is_online:
        forecast.read(rows, m, weights, room)
    for r in range(rows):
        s, f, at_horizons = heads[chosen[r]], floats[chosen[r]], part(room, m.at_horizons + r * m.head_count, m.head_count)
        if m.is_online:
            copy(part(room, m.fed + r * d, d), at_horizons[:d])  # persistence, as long as nothing was learned
        forecast.keep_forecasts(s, f, at, m, weights, at_horizons)
        for k in range(r * d, (r + 1) * d):
            if m.is_reconstruction:
                room[m.expected + k] = at_horizons[k - r * d]
            room[m.off + k] = room[m.x + k] - room[m.expected + k]
            room[m.residual + k] = room[m.off + k] / room[m.residual_size + k]
        score.follow(s, f, at, m, r, weights, room, doubles)
    score.whiten(rows, m, weights, room)
    for r in range(rows):
        score.measure(heads[chosen[r]], m, r, room)


@compiled
def is_in_first_days(s, per_reading_us):  # type: ignore[no-untyped-def]
    """Whether a stream is so young that it learns from every reading, also inside an alert.

    An alert in its first hours is mostly the next part of a day that the stream has not seen: what teaches nothing then stays strange for
    ever. Streams that are too fast to learn a day in FIRST_READINGS_MAX readings are left out: for them an alert is a fault from the start.

    per_reading_us   usual time per reading of the stream; 0 while it is not known
    """
    return FIRST_READINGS_MAX * per_reading_us >= FIRST_DAYS_US and s.seen * per_reading_us < FIRST_DAYS_US


@compiled
def learn(s, f, at, m, r, may_learn, room, doubles):  # type: ignore[no-untyped-def]
    """What a stream learns for itself from its reading, judged, row r of the block. s, f: the stream's record"""
    if m.is_online:
        if may_learn:
            scaler.learn_units(s, f, at, m, r, room)
        online_ridge.learn(s, f, at, m, r, may_learn, room, doubles)
    s.readings = s.readings + 1 if s.readings + 1 < READINGS_MODULUS else READINGS_MODULUS // 2


@compiled
def reset_baseline(s, f, at, m):  # type: ignore[no-untyped-def]
    """What a stream learned before a reset of its baseline must soon give way to what comes."""
    if m.is_online:
        scaler.reset_units(s, f, at, m.channels)
        online_ridge.reset_sums(s, f, at)
