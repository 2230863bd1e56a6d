"""A forecast that each stream learns for itself from its memory, in closed form, while it is judged.

    u         = [h, 1]                          h: memory after a reading, of H units
    y         = x(t + k) - x(t)                 of every channel x at every horizon k: regressed on u, and on the channel's own value
    w, v      = argmin of sum (y - w'u - v x)^2 + RIDGE (w^2 + v^2)      over the stream's past; what is 20,000 readings old counts 1 / e
    at k      = x(t) + w'u(t) + v x(t)          forecast of the reading k later
    forecast  = mean of all that was forecast of a reading, by one over the mean squared error that each horizon had so far, per channel

All channels and horizons share G = sum of u u', so that one factorisation serves them all; a channel's own value joins by the Schur complement:

    g = sum of u x,   S = (G + RIDGE I)^-1 [sum of u y, g]
    v = (sum of x y - g'S_y) / (sum of x^2 + RIDGE - g'S_g),   w = S_y - v S_g

The regression is of changes: a ridge shrinks it to persistence, which is also the forecast before anything is known. The memory needs no
training for that: spread time constants keep every past at hand, and what of it tells the future the stream shows.

Judge first, learn after. Nothing is learned from an open alert, nor while the CUSUM is above 0.

source: Jaeger, "Adaptive nonlinear system identification with echo state networks", 2003; ridge regression: Hoerl and Kennard, 1970
"""

from __future__ import annotations

import numpy as np

from detector.core.arithmetic import copy
from detector.core.compiled import compiled
from detector.core.compiled_model import Described, of_rows
from detector.core.forecast import HORIZONS, SCALED_MAX
from detector.core.record import Part, part
from detector.core.scaler import FORGETTING, RESET_READINGS

f4 = np.float32
AHEAD = HORIZONS

RIDGE = 2.0
"""As many readings in which a unit stood at 1 speak for a change of nothing. From 1 to 10 all is much the same."""
KEPT = f4(1 - FORGETTING)
"""Of what was learned, from one reading to the next: what is normal is forgotten as slowly as the scale is."""
SOLVE_EVERY, SOLVE_EVERY_EARLY, EARLY_READINGS = 64, 16, 512
"""The ridge is solved for so often, readings; more often among a stream's first readings."""
SQUARE_MAX = f4(25)
"""One error counts as so many mean squares at most."""
ERROR_MIN = f4(1e-6)
"""Mean squared error, scaled units, below which all horizons are equally good."""
ERRORS_FREE = 30
"""So many first errors count in full."""
LEARNED_MAX = 15_625 * SOLVE_EVERY
"""No longer past is counted; from there on the count goes around, so that the ridge is still solved for now and then only."""


def parts(channels: int, hidden: int) -> list[Part]:
    """What is remembered of a stream: sums, of the symmetric G the lower triangle, row after row; what was solved for; the last readings."""
    features, past, own = hidden + 1, HORIZONS[-1], (len(HORIZONS) + 1) * channels
    outputs = own - channels
    return [
        ("gram", (features * (features + 1) // 2,), 0),
        ("cross", (features, own), 0),
        ("own", (own,), 0),
        ("weight", (features, outputs), 0),
        ("value_weight", (outputs,), 0),
        ("error", (outputs,), 0),
        ("past_hidden", (past, hidden), 0),
        ("past_fed", (past, channels), 0),
    ]


def describe(channels: int, hidden: int) -> Described:
    """Room for solving: what was forecast at each horizon, targets, the factor of G, and what is solved for."""
    features, own = hidden + 1, (len(HORIZONS) + 1) * channels
    room = {"ridge_at_horizons": of_rows(own - channels), "target": np.zeros(own)}
    return Described({}, {}, room, {"lower": np.zeros(features * features), "solved": np.zeros(features * own)})


@compiled
def forecast_of(s, f, at, m, at_horizons, expected):  # type: ignore[no-untyped-def]
    """The forecast of the next reading [D], in place: it stays as given as long as nothing was forecast; and at_horizons [K D] for `learn`."""
    d, hidden, count, past = m.channels, m.hidden, s.readings, AHEAD[-1]
    outputs = len(AHEAD) * d
    for q in range(len(AHEAD)):
        first, into = q * d, part(at_horizons, q * d, d)
        if count < AHEAD[q]:
            for k in range(d):
                into[k] = np.nan
            continue
        slot = (count - AHEAD[q]) % past
        h = part(f, at.past_hidden + slot * hidden, hidden)
        for k in range(d):
            x = f[at.past_fed + slot * d + k]
            into[k] = x + f[at.value_weight + first + k] * x + f[at.weight + hidden * outputs + first + k]
        for j in range(hidden):
            weight = part(f, at.weight + j * outputs + first, d)
            for k in range(d):
                into[k] += h[j] * weight[k]
    for k in range(d):
        total, precision = f4(0), f4(0)
        for q in range(k, outputs, d):
            if not np.isnan(at_horizons[q]):
                at_horizons[q] = min(max(at_horizons[q], -SCALED_MAX), SCALED_MAX)
                own = f4(1) / max(f[at.error + q], ERROR_MIN)
                total += own * at_horizons[q]
                precision += own
        if precision > 0:  # a mean rounds: also beyond the largest of what it is of
            expected[k] = min(max(total / precision, -SCALED_MAX), SCALED_MAX)


@compiled
def learn(s, f, at, m, r, may_learn, room, doubles):  # type: ignore[no-untyped-def]
    """Learn from a reading that has been judged, row r of the block, and keep the memory after it.

    may_learn    not from an alert, nor while the CUSUM is above 0: of those only the memory is kept
    """
    d, hidden, count, past = m.channels, m.hidden, s.readings, AHEAD[-1]
    oldest, outputs = count % past, len(AHEAD) * d
    if count >= past and may_learn:
        s.ridge_readings += 1 if s.ridge_readings < LEARNED_MAX else 1 - SOLVE_EVERY
        at_horizons = part(room, m.ridge_at_horizons + r * outputs, outputs)
        _measure_errors(s.ridge_readings, part(room, m.x + r * d, d), at_horizons, part(f, at.error, outputs))
        then, targets = part(f, at.past_fed + oldest * d, d), part(room, m.target, outputs + d)
        for q in range(len(AHEAD)):
            since = at.fed if AHEAD[q] == past else at.past_fed + ((oldest + AHEAD[q]) % past) * d
            for k in range(d):
                targets[q * d + k] = f[since + k] - then[k]
        copy(then, targets[outputs:])
        _add(f, at, hidden, part(f, at.past_hidden + oldest * hidden, hidden), targets, d)
        if s.ridge_readings % (SOLVE_EVERY_EARLY if s.ridge_readings <= EARLY_READINGS else SOLVE_EVERY) == 0:
            features = hidden + 1
            lower = part(doubles, m.lower, features * features).reshape((features, features))
            _solve(f, at, d, lower, part(doubles, m.solved, features * (outputs + d)).reshape((features, outputs + d)))
    copy(part(f, at.cell - hidden, hidden), part(f, at.past_hidden + oldest * hidden, hidden))
    copy(part(f, at.fed, d), part(f, at.past_fed + oldest * d, d))


@compiled
def _measure_errors(learned, x, at_horizons, error):  # type: ignore[no-untyped-def]
    rate = max(f4(1 / learned), f4(1) - KEPT)
    for q in range(at_horizons.shape[0]):
        off = x[q % x.shape[0]] - at_horizons[q]
        if not np.isnan(off):
            square = off * off if learned <= ERRORS_FREE else min(off * off, SQUARE_MAX * error[q])
            error[q] += rate * (square - error[q])


@compiled
def _add(floats, at, hidden, h, targets, d):  # type: ignore[no-untyped-def]
    """Take one reading into the sums; u is h [H] and 1."""
    gram, own = at.gram, targets.shape[0]
    for j in range(hidden + 1):
        u = h[j] if j < hidden else f4(1)
        row = floats[gram : gram + j + 1]
        for m in range(min(j + 1, hidden)):
            row[m] = KEPT * row[m] + u * h[m]
        if j == hidden:
            row[hidden] = KEPT * row[hidden] + u
        gram += j + 1
        cross = floats[at.cross + j * own : at.cross + (j + 1) * own]
        for q in range(own):
            cross[q] = KEPT * cross[q] + u * targets[q]
    x = targets[own - d :]
    for q in range(own):
        floats[at.own + q] = KEPT * floats[at.own + q] + x[q % d] * targets[q]


@compiled
def _solve(floats, at, d, lower, solved):  # type: ignore[no-untyped-def]
    """By Cholesky's L L' = G + RIDGE I: L Z = cross, L' S = Z. In 64 bits; every inner loop goes along a row, so that it is vectorised."""
    features, own = solved.shape
    outputs, gram = own - d, at.gram
    for i in range(features):  # lower[j] holds column j of L
        for j in range(i + 1):
            lower[j, i] = floats[gram + j]
        gram += i + 1
        copy(floats[at.cross + i * own : at.cross + (i + 1) * own], solved[i])
    for j in range(features):
        column = lower[j]
        root = np.sqrt(max(column[j] + RIDGE, RIDGE))
        column[j] = root
        for i in range(j + 1, features):
            column[i] /= root
        for m in range(j + 1, features):
            other, factor = lower[m], column[m]
            for i in range(m, features):
                other[i] -= factor * column[i]
    for i in range(features):
        for q in range(own):
            solved[i, q] /= lower[i, i]
        for m in range(i + 1, features):
            factor = lower[i, m]
            for q in range(own):
                solved[m, q] -= factor * solved[i, q]
    for i in range(features - 1, -1, -1):
        for q in range(own):
            solved[i, q] /= lower[i, i]
        for m in range(i):
            factor = lower[m, i]
            for q in range(own):
                solved[m, q] -= factor * solved[i, q]
    for q in range(outputs):
        value = outputs + q % d  # where the channel's own value stands
        over, under = np.float64(floats[at.own + q]), floats[at.own + value] + RIDGE
        for j in range(features):
            crossed = np.float64(floats[at.cross + j * own + value])
            over -= crossed * solved[j, q]
            under -= crossed * solved[j, value]
        factor = over / max(under, RIDGE)
        floats[at.value_weight + q] = factor
        for j in range(features):
            floats[at.weight + j * outputs + q] = solved[j, q] - factor * solved[j, value]


@compiled
def reset_sums(s, floats, at):  # type: ignore[no-untyped-def]
    """The baseline was reset: what was learned before weighs as much as RESET_READINGS readings."""
    if s.ridge_readings > RESET_READINGS:
        part = f4(RESET_READINGS / s.ridge_readings)
        s.ridge_readings = RESET_READINGS
        for q in range(at.gram, at.weight):  # gram, cross, own
            floats[q] *= part
