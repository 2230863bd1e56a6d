"""Score -> tail probability, and evidence against an account: one stream's own alarm.

A running 95 % quantile q of the score and the mean excess b over it, never below UNIT_MIN, say how strange a score is. Evidence is a CUSUM of
the excess. It opens an alert when it passes a threshold that the stream's account raises after every alert and calm readings pay back, so
that a stated budget, one false alert per N readings, holds while the series drifts.

    L = max(1, ln(.05 N));  h0 = max(1, L^2 - CLIP);  N at least 1 / .05
    h = h0 (1 + account + recent)
    z = (u - q) / b;  C = max(0, C + clip(z, -CLIP, CLIP)), and h more where z > L + RARE (1 + account + recent)
    open when C > h
    close when PATIENCE readings in a row were calm (z <= 1), or when the alert is accepted
    account += PRICE when one opens or gets worse, -= PRICE / N at every calm reading, not below 0
    recent  += 1 when one opens or gets worse, and is forgotten over PRICE N readings

What an alert costs is mostly soon forgotten: faults that are rare do not make a stream deaf to the next one, while what opens alerts
again and again, a rhythm that training never saw, has to be stranger each time.

The threshold that people see is a score: the one beyond which this reading, with what has gathered before it, opens an alert. It comes
down while evidence gathers.

While an alert is open the same evidence is gathered over the fault's own level s in place of q: at its threshold the alert got worse,
which is a second fault within the first. For PATIENCE readings nothing counts, and s is a peak that decays:

    s = u if u > s, else s += RATE_FAULT (u - s);  from then on the running 95 % quantile, s += RATE_FAULT b ([u > s] - .05)

Judge first, learn after; an open alert teaches nothing. Learning:

    q += RATE b ([u > q] - .05);  b += RATE (min(u - q, CLIP b) - b) when u > q

What was learned while the evidence for an alert gathered is taken back when it opens: it came from the fault, and would make the stream
deaf to the next one. A stream starts from the bundle's prior. Until it has settled (its warm-up is over) it cannot alert, and q and b
follow from mean and variance of its scores, weighed against the prior; a score far beyond those before it counts as a smaller one.

Constants measured together on the labelled sets and on LONG, at budgets of 1,000, 10,000 and 60,000 readings.

Relatives with proofs: adaptive conformal inference (Gibbs and Candes 2021), conformal PID control (Angelopoulos, Candes and
Tibshirani 2023), CUSUM (Page 1954).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.core.states import Column

TAIL = 0.05
"""Share of a stream's normal scores above the quantile that it follows."""
UNIT_MIN = 0.4
"""Least b, in units of the score: keeps a stream that hardly varies from calling every trifle strange."""
CLIP = 5.0
"""Winsorization limit: one reading counts as evidence up to so many b, and teaches no more, so that a heavy tail alone gathers slowly."""
RARE = 2.0
"""One reading opens an alert alone if an exponential tail has one so strange in e^RARE N readings; after other alerts in fewer."""
PATIENCE = 20
"""Readings: of calm that close an alert; of an alert before what exceeds its level counts as a second fault."""
ACCEPT_READINGS = 2_000
"""Age of an alert at which its level becomes normal, unless the configuration says a time."""
PRICE = 0.05
"""What an alert adds to the account, and N calm readings pay back; the part of N over which it counts in full besides."""
RATE = 0.025
"""At which q and b follow the scores. At .02 false alerts at 1 per 60,000 double, at .05 a third of the faults is lost there."""
RATE_FAULT = 0.1
"""At which the level of an open alert follows its scores."""
COLD_READINGS = 20
"""Usual number of first readings that teach nothing: a stream's memory is still empty, and every score is high."""
PRIOR_READINGS = 10
"""So many readings of the stream's own weigh as much as the prior, and are needed to tell which of the next are far beyond them."""
Q95_DEVIATIONS = float(-np.log(TAIL)) - 1.0
"""Standard deviations from the mean of an exponential distribution to its quantile; its mean excess is one. In the warm-up the mean and the
variance of the scores stand for both."""
TINY = float(np.finfo(np.float64).tiny)
COUNT_MAX = int(np.iinfo(np.int32).max) - 1


class Event(IntEnum):
    """What a reading did to its stream's alert."""

    NONE = 0
    OPENED = 1
    QUIET = 2
    ACCEPTED = 3
    WORSE = 4


OPENED, QUIET, ACCEPTED, WORSE = (int(event) for event in (Event.OPENED, Event.QUIET, Event.ACCEPTED, Event.WORSE))


@dataclass(frozen=True, slots=True)
class Prior:
    """What a stream's calibration starts from, measured in training: 95 % quantile of the score, and mean excess over it.

    cold_readings  the first so many of a stream teach nothing
    """

    quantile: float
    excess: float
    cold_readings: int = COLD_READINGS

    @staticmethod
    def fit(score: NDArray[np.floating[Any]]) -> Prior:
        """From scores of normal readings, f4[T]."""
        quantile = float(np.quantile(score, 1 - TAIL))
        above = score[score > quantile]
        return Prior(quantile, float(above.mean()) - quantile if len(above) else 0.0)

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream; event times in microseconds."""
        return {
            "seen": Column("i4"),
            "quantile": Column("f8", fill=self.quantile),
            "quantile_before": Column("f8", fill=self.quantile),
            "unit": Column("f8", fill=max(self.excess, UNIT_MIN)),
            "unit_before": Column("f8", fill=max(self.excess, UNIT_MIN)),
            "mean": Column("f8"),
            "variance": Column("f8"),
            "evidence": Column("f8"),
            "account": Column("f8"),
            "recent": Column("f8"),
            "regime": Column("f8"),
            "since": Column("i4"),
            "quiet": Column("i4"),
            "worst_p": Column("f8", fill=1.0),
            "opened_at_us": Column("i8"),
            "level_at_us": Column("i8"),
            "is_open": Column("u1"),
        }


STATE = tuple(Prior(1.0, 1.0).columns())
ACCEPTING = ("quantile", "regime", "evidence", "is_open")


def judge(
    rows: NDArray[np.int32],
    score: NDArray[np.float32],
    event_time_us: NDArray[np.int64],
    interval_us: NDArray[np.float64],
    states: Any,
    budget_period_us: float,
    warmup_readings: int,
    accept_after_us: float,
    prior: Prior,
) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.float32]]:
    """Judge one step, then learn from it; no stream occurs twice in it.

    interval_us      f8[B] usual time per reading of the stream; 0 while it is not known
    accept_after_us  age at which the level of an open alert becomes normal; <= 0: after ACCEPT_READINGS
    returns          tail probability f8[B], Event u1[B], and the threshold f4[B]: the score beyond which the reading opens an alert, or
                     makes an open one worse; NaN where no score could, in the warm-up and in the first readings of an alert
    """
    p = np.empty(len(rows), np.float64)
    event = np.zeros(len(rows), np.uint8)
    threshold = np.full(len(rows), np.nan, np.float32)
    columns = [states[name] for name in STATE]
    _judge(
        rows,
        score,
        event_time_us,
        interval_us,
        budget_period_us,
        warmup_readings,
        accept_after_us,
        (prior.quantile, prior.excess, prior.cold_readings),
        *columns,
        p,
        event,
        threshold,
    )
    return p, event, threshold


def accept(row: int, states: Any) -> None:
    """The level of a row's open alert becomes normal now, by a person's word."""
    _accept(row, *(states[name] for name in ACCEPTING))


@njit(cache=True)
def _accept(r, quantile, regime, evidence, is_open):  # type: ignore[no-untyped-def]
    """End an alert, its level being the stream's own from now on."""
    quantile[r] = max(regime[r], quantile[r])
    evidence[r] = 0.0
    is_open[r] = 0


@njit(cache=True)
def _tail_probability(u, q, b):  # type: ignore[no-untyped-def]
    """Exponential above the quantile (mean excess b), exponential below it through p(0) = 1."""
    if u > q:
        return max(TAIL * np.exp(-(u - q) / b), TINY)
    return TAIL ** (max(u, 0.0) / q) if q > 0 else 1.0


@njit(cache=True)
def _level(n):  # type: ignore[no-untyped-def]
    """How far out the rarest of n readings lies, in mean excesses over the quantile."""
    return max(1.0, np.log(TAIL * n))


@njit(cache=True)
def evidence_to_open(n, price):  # type: ignore[no-untyped-def]
    """Evidence that opens an alert, for a budget of one in n readings; price: account and recent together."""
    return _evidence_at(_level(n), price)


@njit(cache=True)
def _evidence_at(level, price):  # type: ignore[no-untyped-def]
    return max(1.0, level**2 - CLIP) * (1.0 + price)


@njit(cache=True)
def _over_needed(missing, alone):  # type: ignore[no-untyped-def]
    """How many units above what is usual a reading must lie to add so much evidence, or to open an alert alone."""
    return min(missing, alone) if missing < CLIP else alone


@njit(cache=True)
def _moments(u, k, mean, variance):  # type: ignore[no-untyped-def]
    """Mean and variance of the warm-up after its k-th score that counts."""
    if k > PRIOR_READINGS:
        u = min(u, mean + CLIP * np.sqrt(variance) + UNIT_MIN)
    step = u - mean
    mean += step / k
    return mean, variance + (step * (u - mean) - variance) / k


@njit(cache=True)
def _judge(  # type: ignore[no-untyped-def]
    rows, score, event_time_us, interval_us, budget_period_us, warmup_readings, accept_after_us, prior,
    seen, quantile, quantile_before, unit, unit_before, mean, variance, evidence, account, recent, regime, since, quiet, worst_p, opened_at_us, level_at_us, is_open,
    p_out, event_out, threshold_out,
):  # fmt: skip
    for i in range(rows.shape[0]):
        r = rows[i]
        u = np.float64(score[i])
        q, b = quantile[r], unit[r]
        z = (u - q) / b
        p_out[i] = _tail_probability(u, q, b)
        n = max(budget_period_us / interval_us[i], 1.0 / TAIL) if interval_us[i] > 0 else np.inf
        is_settled = seen[r] >= warmup_readings and interval_us[i] > 0
        was_open, is_evident = is_open[r] == 1, False

        if is_settled:
            if evidence[r] == 0.0 and not was_open:
                quantile_before[r], unit_before[r] = q, b
            usual = regime[r] if was_open else q
            over, level = (u - usual) / b, _level(n)
            limit, alone = _evidence_at(level, account[r] + recent[r]), level + RARE * (1.0 + account[r] + recent[r])
            recent[r] -= recent[r] / (PRICE * n)
            if not was_open or since[r] >= PATIENCE:
                threshold_out[i] = usual + b * _over_needed(limit - evidence[r], alone)
            evidence[r] = max(0.0, evidence[r] + min(max(over, -CLIP), CLIP) + (limit if over > alone else 0.0))
            is_evident = evidence[r] > limit
            worst_p[r] = min(worst_p[r], p_out[i]) if evidence[r] > 0 else 1.0
        if was_open:
            since[r] += 1
            quiet[r] = 0 if z > 1.0 else quiet[r] + 1
            age_us = event_time_us[i] - level_at_us[r]
            if quiet[r] >= PATIENCE:
                event_out[i] = QUIET
            elif (age_us >= accept_after_us) if accept_after_us > 0 else (since[r] >= ACCEPT_READINGS):
                event_out[i] = ACCEPTED
                _accept(r, quantile, regime, evidence, is_open)
            elif since[r] > PATIENCE and is_evident:
                event_out[i] = WORSE
            if event_out[i] == QUIET:
                is_open[r] = 0
            elif event_out[i] != ACCEPTED:
                if since[r] <= PATIENCE:
                    regime[r] = max(u, regime[r] + RATE_FAULT * (u - regime[r]))
                    evidence[r] = 0.0
                else:
                    regime[r] += RATE_FAULT * b * ((1.0 if u > regime[r] else 0.0) - TAIL)
        elif is_evident:
            event_out[i] = OPENED
            is_open[r] = 1
            opened_at_us[r] = event_time_us[i]
            quantile[r], unit[r] = quantile_before[r], unit_before[r]
        if event_out[i] == OPENED or event_out[i] == WORSE:
            level_at_us[r] = event_time_us[i]
            since[r] = quiet[r] = 0
            regime[r] = u
            account[r] += PRICE
            recent[r] += 1.0
        if event_out[i] != 0 and event_out[i] != OPENED:
            evidence[r] = 0.0

        # Learning comes last, and never from an open alert: neither the reading that opened it nor the one that closed it.
        if not was_open and event_out[i] == 0:
            if is_settled:
                quantile[r] += RATE * b * ((1.0 if u > q else 0.0) - TAIL)
                if u > q:
                    unit[r] = max(b + RATE * (min(u - q, CLIP * b) - b), UNIT_MIN)
            elif seen[r] >= prior[2]:
                k = seen[r] - prior[2] + 1
                mean[r], variance[r] = _moments(u, k, mean[r], variance[r])
                spread, share = np.sqrt(variance[r]), k / (PRIOR_READINGS + k)
                quantile[r] = (1 - share) * prior[0] + share * (mean[r] + Q95_DEVIATIONS * spread)
                unit[r] = max((1 - share) * prior[1] + share * spread, UNIT_MIN)
            if z <= 1.0:
                account[r] = max(account[r] - PRICE / n, 0.0)
        seen[r] = min(seen[r] + 1, COUNT_MAX)
