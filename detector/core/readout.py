"""A readout of its memory that each stream learns for itself, in closed form, while it is judged.

    u         = [h, 1]                          h: memory after a reading, of H units
    y         = x(t + k) - x(t)                 of every channel x at every horizon k: regressed on u, and on the channel's own value
    w, slope  = argmin of sum (y - w'u - slope x)^2 + RIDGE (w^2 + slope^2)      over the stream's past; what is 20,000 readings old counts 1 / e
    said      = x(t) + w'u(t) + slope x(t)      of the reading k later
    expected  = mean of what was said of a reading, by one over the mean squared error that each horizon had so far, per channel

All channels and horizons share G = sum of u u', so that one factorisation serves them all; a channel's own value joins by the Schur complement:

    g = sum of u x,   S = (G + RIDGE I)^-1 [sum of u y, g]
    slope = (sum of x y - g'S_y) / (sum of x^2 + RIDGE - g'S_g),   w = S_y - slope S_g

What is said is of changes: a ridge shrinks it to persistence, which is also what is expected before anything is known. The memory needs no
training to be read like this (`Universal`): spread time constants keep every past at hand, and what of it tells the future the stream shows.

Judge first, learn after. Nothing is learned from an open alert, nor while evidence for one is gathered.

source: Jaeger, "Adaptive nonlinear system identification with echo state networks", 2003; ridge regression: Hoerl and Kennard, 1970
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.predictor import HORIZONS
from detector.core.running import COUNT_ACCEPTED, RATE_MIN
from detector.core.scaling import SCALED_MAX
from detector.core.states import Column

F4 = NDArray[np.float32]

RIDGE = 2.0
"""As many readings in which a unit stood at 1 speak for a change of nothing. From 1 to 10 all is much the same."""
KEPT = np.float32(1 - RATE_MIN)
"""Of what was learned, from one reading to the next: what is normal is forgotten as slowly as the scale is."""
RENEWED_READINGS, RENEWED_EARLY, EARLY_READINGS = 64, 16, 512
"""The readout is solved for so often; more often among a stream's first readings."""
SQUARE_MAX = 25.0
"""One error counts as so many mean squares at most."""
ERROR_MIN = 1e-6
"""Mean squared error, scaled units, below which all horizons are equally good."""
ERRORS_FREE = 30
"""So many first errors count in full."""
LEARNED_MAX = 15_625 * RENEWED_READINGS
"""No longer a past is counted; from there on the count goes around, so that the readout is still solved for now and then only."""


@dataclass(frozen=True, slots=True)
class RunningReadout:
    """Of a memory of H units that D channels share, as columns of each stream's row.

    channels, hidden  D, H
    horizons          readings ahead, K of them, increasing
    """

    channels: int
    hidden: int
    horizons: tuple[int, ...] = HORIZONS

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream: sums, of the symmetric G the lower triangle, row after row; what was solved for; and the last readings."""
        features, past, own = self.hidden + 1, self.horizons[-1], (len(self.horizons) + 1) * self.channels
        outputs = own - self.channels
        return {
            "readout_count": Column("i4"),
            "readout_learned": Column("i4"),
            "readout_gram": Column("f4", (features * (features + 1) // 2,)),
            "readout_cross": Column("f4", (features, own)),
            "readout_own": Column("f4", (own,)),
            "readout_weight": Column("f4", (features, outputs)),
            "readout_slope": Column("f4", (outputs,)),
            "readout_error": Column("f4", (outputs,)),
            "readout_past_h": Column("f4", (past, self.hidden)),
            "readout_past_x": Column("f4", (past, self.channels)),
        }

    def expected(self, rows: NDArray[np.int32], otherwise: F4, states: Any) -> tuple[F4, F4]:
        """What is expected of these streams' next readings, scaled units.

        otherwise  f4[B, D] what is expected as long as nothing was said
        returns    f4[B, D], and what was said at each horizon, f4[B, K D], for `learn`
        """
        expected, said = otherwise.copy(), np.empty((len(rows), len(self.horizons) * self.channels), np.float32)
        _say(rows, np.array(self.horizons), *(states[f"readout_{name}"] for name in READ), said, expected)
        return expected, said

    def learn(self, rows: NDArray[np.int32], x: F4, said: F4, teaches: NDArray[np.bool_], states: Any) -> None:
        """Learn from readings that have been judged, and keep the memory after them.

        rows     i4[B] no stream twice
        x        f4[B, D] scaled readings, NaN where missing;  said  as `expected` returned it
        teaches  bool[B] not those of an alert, nor of which evidence for one is gathered: of them only the memory is kept
        states   also the memory h, and the values that it was fed, `last`, after these readings
        """
        _learn(rows, np.array(self.horizons), x, said, teaches, states["h"], states["last"], *(states[name] for name in STATE))

    def accept(self, row: int, states: Any) -> None:
        """This stream's alert was accepted: what was learned before weighs as much as COUNT_ACCEPTED readings."""
        learned = states["readout_learned"]
        if learned[row] > COUNT_ACCEPTED:
            part = np.float32(COUNT_ACCEPTED / learned[row])
            learned[row] = COUNT_ACCEPTED
            for name in ("gram", "cross", "own"):
                states[f"readout_{name}"][row] *= part


READ = ("count", "error", "weight", "slope", "past_h", "past_x")
STATE = tuple(RunningReadout(1, 1).columns())


@njit(cache=True)
def _say(rows, horizons, count, error, weight, slope, past_h, past_x, said, expected):  # type: ignore[no-untyped-def]
    d = expected.shape[1]
    for i in range(rows.shape[0]):
        r = rows[i]
        for q in range(horizons.shape[0]):
            own = said[i, q * d : (q + 1) * d]
            if count[r] < horizons[q]:
                own[:] = np.nan
                continue
            at = (count[r] - horizons[q]) % past_h.shape[1]
            for k in range(d):
                own[k] = past_x[r, at, k] + slope[r, q * d + k] * past_x[r, at, k] + weight[r, -1, q * d + k]
            for j in range(past_h.shape[2]):
                for k in range(d):
                    own[k] += past_h[r, at, j] * weight[r, j, q * d + k]
        for k in range(d):
            total, precision = np.float32(0), np.float32(0)
            for q in range(k, said.shape[1], d):
                if not np.isnan(said[i, q]):
                    said[i, q] = min(max(said[i, q], np.float32(-SCALED_MAX)), np.float32(SCALED_MAX))
                    own_precision = np.float32(1) / max(error[r, q], np.float32(ERROR_MIN))
                    total += own_precision * said[i, q]
                    precision += own_precision
            if precision > 0:  # a mean rounds: also beyond the largest of what it is of
                expected[i, k] = min(max(total / precision, np.float32(-SCALED_MAX)), np.float32(SCALED_MAX))


@njit(cache=True)
def _learn(  # type: ignore[no-untyped-def]
    rows, horizons, x, said, teaches, h, last, count, learned, gram, cross, own, weight, slope, error, past_h, past_x
):
    d, past = x.shape[1], past_h.shape[1]
    u, z = np.ones(past_h.shape[2] + 1, np.float32), np.empty(said.shape[1] + d, np.float32)  # z: y, then the values themselves
    for i in range(rows.shape[0]):
        r = rows[i]
        oldest = count[r] % past
        if count[r] >= past and teaches[i]:
            learned[r] += 1 if learned[r] < LEARNED_MAX else 1 - RENEWED_READINGS
            _measure_errors(x[i], said[i], learned[r], error[r])
            u[:-1] = past_h[r, oldest]
            for q in range(horizons.shape[0]):
                then = last[r] if horizons[q] == past else past_x[r, (oldest + horizons[q]) % past]
                z[q * d : (q + 1) * d] = then - past_x[r, oldest]
            z[-d:] = past_x[r, oldest]
            _add(u, z, d, gram[r], cross[r], own[r])
            if learned[r] % (RENEWED_EARLY if learned[r] <= EARLY_READINGS else RENEWED_READINGS) == 0:
                _solve(gram[r], cross[r], own[r], weight[r], slope[r])
        past_h[r, oldest] = h[r, -1]
        past_x[r, oldest] = last[r]
        count[r] = count[r] + 1 if count[r] < 2 * past else count[r] + 1 - past


@njit(cache=True)
def _measure_errors(x, said, learned, error):  # type: ignore[no-untyped-def]
    rate = max(np.float32(1 / learned), np.float32(1) - KEPT)
    for q in range(said.shape[0]):
        off = x[q % x.shape[0]] - said[q]
        if not np.isnan(off):
            square = off * off if learned <= ERRORS_FREE else min(off * off, np.float32(SQUARE_MAX) * error[q])
            error[q] += rate * (square - error[q])


@njit(cache=True)
def _add(u, z, d, gram, cross, own):  # type: ignore[no-untyped-def]
    at = 0
    for j in range(u.shape[0]):
        for m in range(j + 1):
            gram[at + m] = KEPT * gram[at + m] + u[j] * u[m]
        at += j + 1
        for q in range(z.shape[0]):
            cross[j, q] = KEPT * cross[j, q] + u[j] * z[q]
    x = z[-d:]
    for q in range(z.shape[0]):
        own[q] = KEPT * own[q] + x[q % d] * z[q]


@njit(cache=True)
def _solve(gram, cross, own, weight, slope):  # type: ignore[no-untyped-def]
    """By Cholesky's L L' = G + RIDGE I: L Z = cross, L' S = Z. In 64 bits."""
    features, outputs = weight.shape
    lower, solved = np.empty((features, features)), cross.astype(np.float64)
    at = 0
    for i in range(features):
        for j in range(i + 1):
            rest = np.float64(gram[at + j])
            for m in range(j):
                rest -= lower[i, m] * lower[j, m]
            lower[i, j] = rest / lower[j, j] if j < i else np.sqrt(max(rest + RIDGE, RIDGE))
        at += i + 1
    for i in range(features):
        for m in range(i):
            solved[i] -= lower[i, m] * solved[m]
        solved[i] /= lower[i, i]
    for i in range(features - 1, -1, -1):
        solved[i] /= lower[i, i]
        for m in range(i):
            solved[m] -= lower[i, m] * solved[i]
    d = cross.shape[1] - outputs
    for q in range(outputs):
        value = outputs + q % d  # where the channel's own value stands
        over, under = np.float64(own[q]), own[value] + RIDGE
        for j in range(features):
            over -= cross[j, value] * solved[j, q]
            under -= cross[j, value] * solved[j, value]
        slope[q] = over / max(under, RIDGE)
        for j in range(features):
            weight[j, q] = solved[j, q] - slope[q] * solved[j, value]
