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

from detector.core.alarm import PRIOR_READINGS
from detector.core.arithmetic import LANES, compiled_whole_lanes, copy, decay_and_add, product, whole_lanes
from detector.core.compiled import compiled
from detector.core.compiled_model import ROWS, Described, of_rows
from detector.core.forecast import HORIZONS, SCALED_MAX
from detector.core.limits import CLIP, COUNT_MAX, RESOLUTION
from detector.core.scaler import FORGETTING, YOUNG_READINGS
from detector.core.stream_state import Part, further, part, place_in_ring

f4 = np.float32
AHEAD = HORIZONS
PENDING = 8
"""Readings that are learned from together: the sums are the largest part of a record, and reading them takes as long as all else."""
PAST = AHEAD[-1] + PENDING
"""Last readings that are kept, so that those that are pending can be learned from."""

RIDGE = 2.0
"""As many readings in which a unit stood at 1 speak for a change of nothing. From 1 to 10 all is much the same."""
KEPT = f4(1 - FORGETTING)
"""Of what was learned, from one reading to the next: what is normal is forgotten as slowly as the scale is."""
SOLVE_EVERY = 64
"""The ridge is solved for at least so often, readings; after n readings every sqrt(n), where that is less, but not oftener than PENDING."""


def parts(channels: int, hidden: int) -> list[Part]:
    """What is remembered of a stream: sums, of the symmetric G the lower triangle in blocks of LANES; what was solved for; the last readings.

    gram       rows of G without the constant, row j up to a multiple of LANES beyond j
    total      [H] sum of h;  the sum of the constant is the last of `own`
    cross      [H + 1, (K + 1) D padded] sums of u times what it is regressed on
    own        [(K + 1) D + 1] sums of x times the same, and of 1
    weight     [P, H, LANES] panels of K D outputs;  constant  [P LANES]
    """
    own = (len(HORIZONS) + 1) * channels
    outputs = own - channels
    return [
        ("gram", (sum(whole_lanes(j + 1) for j in range(hidden)),), 0),
        ("total", (whole_lanes(hidden),), 0),
        ("cross", (hidden + 1, whole_lanes(own)), 0),
        ("own", (own + 1,), 0),
        ("weight", (whole_lanes(outputs) // LANES, hidden, LANES), 0),
        ("constant", (whole_lanes(outputs),), 0),
        ("value_weight", (outputs,), 0),
        ("error", (outputs,), 0),
        ("past_hidden", (PAST, hidden), 0),
        ("past_fed", (PAST, channels), 0),
    ]


def describe(channels: int, hidden: int) -> Described:
    """Room: what was forecast at each horizon; h of several readings, and what is read from each; targets; the factor of G, and what is
    solved for."""
    features, own = hidden + 1, (len(HORIZONS) + 1) * channels
    room = {"ridge_at_horizons": of_rows(own - channels), "ridge_of_all": of_rows(whole_lanes(own)), "one": np.ones(1)}
    room |= {"ridge_h": np.zeros(PENDING * whole_lanes(hidden)), "target": np.zeros(PENDING * whole_lanes(own))}
    return Described({}, {}, room, {"lower": np.zeros(features**2), "solved": np.zeros(features * own)})


@compiled
def forecast_of(s, f, at, m, r, room):  # type: ignore[no-untyped-def]
    """The forecast of the next reading, row r of the block, in place: it stays as given as long as nothing was forecast; and what was
    forecast at each horizon, for `learn`."""
    d, hidden, width = m.channels, m.hidden, compiled_whole_lanes(m.hidden)
    now, outputs, expected = place_in_ring(s.readings, PAST), len(AHEAD) * d, part(room, m.expected + r * d, d)
    at_horizons = part(room, m.ridge_at_horizons + r * outputs, outputs)
    for q in range(len(AHEAD)):
        then = at.past_hidden + further(now, -AHEAD[q], PAST) * hidden
        copy(part(f, then, hidden), part(room, m.ridge_h + q * width, hidden))
    of_all = compiled_whole_lanes(outputs)
    product((room, m.ridge_h, width), f, at.weight, of_all, hidden, at.constant, ROWS, (room, m.ridge_of_all, of_all))
    for q in range(len(AHEAD)):
        then = at.past_fed + further(now, -AHEAD[q], PAST) * d
        for k in range(q * d, (q + 1) * d):
            x = f[then + k - q * d]
            forecast = room[m.ridge_of_all + q * of_all + k] + x + f[at.value_weight + k] * x
            at_horizons[k] = f4(np.nan) if s.readings < AHEAD[q] else min(max(forecast, -SCALED_MAX), SCALED_MAX)
    for k in range(d):
        total, precision = f4(0), f4(0)
        for q in range(k, outputs, d):
            if not np.isnan(at_horizons[q]):
                own = f4(1) / max(f[at.error + q], f4(RESOLUTION))
                total += own * at_horizons[q]
                precision += own
        if precision > 0:  # a mean rounds: also beyond the largest of what it is of
            expected[k] = min(max(total / precision, -SCALED_MAX), SCALED_MAX)


@compiled
def learn(s, f, at, m, r, may_learn, room, doubles):  # type: ignore[no-untyped-def]
    """Learn from a reading that has been judged, row r of the block, and keep the memory after it.

    may_learn    not from an alert, nor while the CUSUM is above 0: of those only the memory is kept
    """
    d, hidden, outputs = m.channels, m.hidden, len(AHEAD) * m.channels
    now = place_in_ring(s.readings, PAST)
    copy(part(f, at.cell - hidden, hidden), part(f, at.past_hidden + now * hidden, hidden))
    copy(part(f, at.fed, d), part(f, at.past_fed + now * d, d))
    learns = may_learn and s.readings >= AHEAD[-1]
    s.ridge_pending = 2 * s.ridge_pending + (1 if learns else 0)
    solves = False
    if learns:
        s.ridge_readings += 1 if s.ridge_readings < COUNT_MAX else 1 - SOLVE_EVERY  # so that it is still solved for now and then only
        at_horizons = part(room, m.ridge_at_horizons + r * outputs, outputs)
        _measure_errors(s.ridge_readings, part(room, m.x + r * d, d), at_horizons, part(f, at.error, outputs))
        solves = s.ridge_readings % min(max(int(np.sqrt(s.ridge_readings)), PENDING), SOLVE_EVERY) == 0
    if solves or place_in_ring(s.readings, PENDING) == PENDING - 1:
        _add_pending(s, f, at, m, now, room)
    if solves:
        features, own = hidden + 1, outputs + d
        lower = part(doubles, m.lower, features * features).reshape((features, features))
        _solve(f, at, d, lower, part(doubles, m.solved, features * own).reshape((features, own)))


@compiled
def _measure_errors(learned, x, at_horizons, error):  # type: ignore[no-untyped-def]
    rate = max(f4(1 / learned), f4(1) - KEPT)
    for q in range(at_horizons.shape[0]):
        off = x[q % x.shape[0]] - at_horizons[q]
        if not np.isnan(off):
            square = off * off if learned <= PRIOR_READINGS else min(off * off, f4(CLIP * CLIP) * error[q])
            error[q] += rate * (square - error[q])


@compiled
def _add_pending(s, f, at, m, now, room):  # type: ignore[no-untyped-def]
    """Take the pending readings into the sums, in their order, so that the sums are read and written once for all of them.

    now   place of the newest one in the ring
    """
    d, hidden, outputs, count = m.channels, m.hidden, len(AHEAD) * m.channels, 0
    own, width = outputs + d, compiled_whole_lanes(hidden)
    for age in range(PENDING - 1, -1, -1):
        if (s.ridge_pending >> age) & 1 == 0:
            continue
        newest = further(now, -age, PAST)
        then = further(newest, -AHEAD[-1], PAST)
        copy(part(f, at.past_hidden + then * hidden, hidden), part(room, m.ridge_h + count * width, hidden))
        targets, x = m.target + count * compiled_whole_lanes(own), at.past_fed + then * d
        for q in range(len(AHEAD)):
            since = at.past_fed + further(then, AHEAD[q], PAST) * d
            for k in range(d):
                room[targets + q * d + k] = f[since + k] - f[x + k]
        copy(part(f, x, d), part(room, targets + outputs, d))
        for q in range(own):
            f[at.own + q] = KEPT * f[at.own + q] + f[x + q % d] * room[targets + q]
        f[at.own + own] = KEPT * f[at.own + own] + f4(1)
        count += 1
    s.ridge_pending = 0
    if count > 0:
        _add(f, at, hidden, own, room, count, m.ridge_h, m.target, m.one)


@compiled
def _add(f, at, hidden, own, room, count, h, targets, one):  # type: ignore[no-untyped-def]
    """Take `count` readings into the sums. h, targets: where theirs begin in the room, padded with zeros to a multiple of LANES; one: of 1"""
    gram, cross, h_row, target_row = at.gram, at.cross, compiled_whole_lanes(hidden), compiled_whole_lanes(own)
    for j in range(hidden):
        for first in range(0, j + 1, LANES):
            decay_and_add(f, gram, KEPT, count, room, h + j, h_row, h + first, h_row)
            gram += LANES
        for first in range(0, own, LANES):
            decay_and_add(f, cross, KEPT, count, room, h + j, h_row, targets + first, target_row)
            cross += LANES
    for first in range(0, hidden, LANES):
        decay_and_add(f, at.total + first, KEPT, count, room, one, 0, h + first, h_row)
    for first in range(0, own, LANES):
        decay_and_add(f, cross + first, KEPT, count, room, one, 0, targets + first, target_row)


@compiled
def _solve(f, at, d, lower, solved):  # type: ignore[no-untyped-def]
    """By Cholesky's L L' = G + RIDGE I: L Z = cross, L' S = Z. In 64 bits; every inner loop goes along a row, so that it is vectorised."""
    features, own = solved.shape
    hidden, outputs, gram, width = features - 1, own - d, at.gram, compiled_whole_lanes(own)
    for i in range(hidden):  # lower[j] holds column j of L
        for j in range(i + 1):
            lower[j, i] = f[gram + j]
        gram += compiled_whole_lanes(i + 1)
        lower[i, hidden] = f[at.total + i]
    lower[hidden, hidden] = f[at.own + own]
    for i in range(features):
        copy(part(f, at.cross + i * width, own), solved[i])
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
        over, under = np.float64(f[at.own + q]), f[at.own + value] + RIDGE
        for j in range(features):
            crossed = np.float64(f[at.cross + j * width + value])
            over -= crossed * solved[j, q]
            under -= crossed * solved[j, value]
        factor = over / max(under, RIDGE)
        f[at.value_weight + q] = factor
        f[at.constant + q] = solved[hidden, q] - factor * solved[hidden, value]
        panel = at.weight + (q // LANES) * hidden * LANES + q % LANES
        for j in range(hidden):
            f[panel + j * LANES] = solved[j, q] - factor * solved[j, value]


@compiled
def reset_sums(s, f, at):  # type: ignore[no-untyped-def]
    """The baseline was reset: what was learned before weighs as much as YOUNG_READINGS readings."""
    if s.ridge_readings > YOUNG_READINGS:
        kept = f4(YOUNG_READINGS / s.ridge_readings)
        s.ridge_readings = YOUNG_READINGS
        for q in range(at.gram, at.weight):  # gram, total, cross, own
            f[q] *= kept
