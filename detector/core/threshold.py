"""Score -> tail probability, and evidence against an account: one stream's own alarm.

A running quantile q of the score and the mean excess m over it say how strange a score is; b is as m, but never below .4. Evidence is a
CUSUM of the excess. It opens an alert when it passes a threshold that the stream's account raises after every alert and calm readings
pay back, so that a stated budget, one false alert per N readings, holds while the series drifts.

    L = max(1, ln(.05 N));  h0 = max(1, 1.05 L^2 - 6)
    z = (u - q) / b,  q = max(q_fast, q_slow);  C = max(0, C + clip(z, -6, 6) + 30 max(0, z - extreme))
    extreme = max(7, (L + 4) m / b)
    open when C > h0 (1 + account + recent);  close when 30 readings in a row were calm (z <= .5), or when the alert is accepted
    account += .05 when one opens or gets worse, += .3 when one is accepted, -= .05 / N at every calm reading, within -.9 .. 10
    recent  += 1 when one opens or gets worse, and is forgotten over N / 30 readings

What an alert costs is mostly soon forgotten: faults that are rare do not make a stream deaf to the next one, while what opens alerts
again and again, a rhythm that training never saw, has to be stranger each time. An alert whose level turned out to be normal costs more.

The threshold that people see is a score: the one beyond which this reading, with what has gathered before it, opens an alert. It comes
down while evidence gathers.

While an alert is open the same evidence is gathered over the fault's own level s in place of q: at its threshold the alert got worse,
which is a second fault within the first.

    s: running 95 % quantile of the fault's own scores, from the tenth reading on: what opens an alert may be stranger than what lasts.
       At a rate of .5 for 30 readings, in which nothing counts, and of .1 from then on

Judge first, learn after; an open alert teaches nothing. Learning:

    q += rate b ([u > q] - .05), rate .03 (fast) and .005 (slow);  m += .02 (min(u - q, 6 b) - m) when u > q, and b likewise

What was learned while the evidence for an alert gathered is taken back when it opens: it came from the fault, and would make the stream
deaf to the next one. A stream starts from the bundle's prior. Until it has settled (its warm-up is over) it cannot alert, and q, m and b
follow from mean and variance of its scores, weighed against the prior; a score far beyond those before it counts as a smaller one.

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

EXCESS_MIN = 0.4
"""Least b that counts, in units of this score: keeps a stream that hardly varies from calling every trifle strange."""

EXCESS_KNOWN_MIN = 0.1
"""Least b that a tail probability follows from: no stream has been seen for so long that a smaller one would be known."""

TAIL = 0.05
STRANGE, EXTREME, EXTREME_WEIGHT, RARE = 6.0, 7.0, 30.0, 4.0
"""One reading counts as evidence up to STRANGE, so that a heavy tail cannot alert alone. What lies beyond EXTREME, which the logarithms
of the score let only an absurd reading reach, counts so much that it alone can; if by the stream's own tail one reading in N is not
e^RARE times likelier."""
CALM = 0.5
"""A reading with a smaller z is calm: it pays the account back, and QUIET_READINGS of them in a row close an alert."""
QUIET_READINGS = 30
SETTLING_READINGS, LEAPING_READINGS = 30, 10
"""So many readings a fault is given to show its own level, before what exceeds it counts as a second one; the first of them are its leap."""
ACCEPT_READINGS = 2_000
STEEPNESS, HEADSTART = 1.05, 6.0
"""Of the evidence that opens an alert, over L^2: a share of it, and what is let off, so that generous budgets are spent as well as tight ones."""
PRICE, PRICE_ACCEPTED, ACCOUNT_MIN, ACCOUNT_MAX = 0.05, 0.3, -0.9, 10.0
"""What an alert adds to the account, and N calm readings pay back; what it adds when it had to be accepted; and the account's bounds."""
PRICE_RECENT, RECENT_SHARE, RECENT_READINGS_MIN = 1.0, 30.0, 30.0
"""What an alert adds for a while, and that while: this part of N, and at least so many readings."""
RATE_FAST, RATE_SLOW, RATE_EXCESS = 0.03, 0.005, 0.02
RATE_SETTLING, RATE_FAULT = 0.5, 0.1
COLD_READINGS = 30
"""Usual number of first readings that teach nothing: a stream's memory is still empty, and every score is high."""
PRIOR_READINGS = 10
"""So many readings of the stream's own weigh as much as the prior."""
TAKEN_AT_ITS_WORD = 10
"""So many of the stream's own readings are needed to tell which of the next are far beyond them."""
FAR_DEVIATIONS = 4.0
READINGS_MIN, READINGS_UNKNOWN = 100.0, 1e4
"""A budget is of at least so many readings; and of so many while a stream's usual interval is not known."""
NORMAL_Q95, NORMAL_EXCESS = 1.645, 0.418
"""95 % quantile and mean excess over it of a normal distribution: in the warm-up, mean and variance stand for both."""


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
            "q_fast": Column("f8", fill=self.quantile),
            "q_slow": Column("f8", fill=self.quantile),
            "excess": Column("f8", fill=self.excess),
            "q_fast_before": Column("f8", fill=self.quantile),
            "q_slow_before": Column("f8", fill=self.quantile),
            "excess_before": Column("f8", fill=self.excess),
            "unit": Column("f8", fill=max(self.excess, EXCESS_MIN)),
            "unit_before": Column("f8", fill=max(self.excess, EXCESS_MIN)),
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
ACCEPTING = ("q_fast", "q_slow", "account", "regime", "evidence", "is_open")


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
def _accept(r, q_fast, q_slow, account, regime, evidence, is_open):  # type: ignore[no-untyped-def]
    """End an alert, its level being the stream's own from now on."""
    q_fast[r] = q_slow[r] = max(regime[r], q_slow[r])
    account[r] = min(account[r] + PRICE_ACCEPTED, ACCOUNT_MAX)
    evidence[r] = 0.0
    is_open[r] = 0


@njit(cache=True)
def _tail_probability(u, q, b):  # type: ignore[no-untyped-def]
    """Exponential above the quantile (mean excess b), exponential below it through p(0) = 1."""
    if u > q:
        return max(TAIL * np.exp(-(u - q) / b), 1e-300)
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
    return max(1.0, max(1.0, STEEPNESS * level**2 - HEADSTART) * (1.0 + price))


@njit(cache=True)
def _gathered(evidence, over, extreme):  # type: ignore[no-untyped-def]
    """Evidence after a reading that is `over` units above what is usual."""
    return max(0.0, evidence + min(max(over, -STRANGE), STRANGE) + EXTREME_WEIGHT * max(over - extreme, 0.0))


@njit(cache=True)
def _over_needed(missing, extreme):  # type: ignore[no-untyped-def]
    """How many units above what is usual a reading must lie to add so much evidence: `_gathered`, the other way round."""
    return missing if missing < STRANGE else extreme + (missing - STRANGE) / EXTREME_WEIGHT


@njit(cache=True)
def _moments(u, k, mean, variance):  # type: ignore[no-untyped-def]
    """Mean and variance of the warm-up after its k-th score that counts."""
    if k > TAKEN_AT_ITS_WORD:
        u = min(u, mean + FAR_DEVIATIONS * np.sqrt(variance) + EXCESS_MIN)
    step = u - mean
    mean += step / k
    return mean, variance + (step * (u - mean) - variance) / k


@njit(cache=True)
def _judge(  # type: ignore[no-untyped-def]
    rows, score, event_time_us, interval_us, budget_period_us, warmup_readings, accept_after_us, prior,
    seen, q_fast, q_slow, excess, q_fast_before, q_slow_before, excess_before, unit, unit_before, mean, variance, evidence, account, recent, regime, since, quiet, worst_p, opened_at_us, level_at_us, is_open,
    p_out, event_out, threshold_out,
):  # fmt: skip
    for i in range(rows.shape[0]):
        r = rows[i]
        u = np.float64(score[i])
        b = unit[r]
        q = max(q_fast[r], q_slow[r])
        z = (u - q) / b
        p_out[i] = _tail_probability(u, q, max(excess[r], EXCESS_KNOWN_MIN))
        n = max(budget_period_us / interval_us[i], READINGS_MIN) if interval_us[i] > 0 else READINGS_UNKNOWN
        is_settled = seen[r] >= warmup_readings
        was_open, is_evident = is_open[r] == 1, False

        if is_settled:
            if evidence[r] == 0.0 and not was_open:
                q_fast_before[r], q_slow_before[r] = q_fast[r], q_slow[r]
                excess_before[r], unit_before[r] = excess[r], b
            usual = regime[r] if was_open else q
            level = _level(n)
            extreme = max(EXTREME, (level + RARE) * excess[r] / b)
            limit = _evidence_at(level, account[r] + recent[r])
            recent[r] -= recent[r] / max(n / RECENT_SHARE, RECENT_READINGS_MIN)
            if not was_open or since[r] >= SETTLING_READINGS:
                threshold_out[i] = usual + b * _over_needed(limit - evidence[r], extreme)
            evidence[r] = _gathered(evidence[r], (u - usual) / b, extreme)
            is_evident = evidence[r] > limit
            worst_p[r] = min(worst_p[r], p_out[i]) if evidence[r] > 0 else 1.0
        if was_open:
            since[r] += 1
            quiet[r] = 0 if z > CALM else quiet[r] + 1
            age_us = event_time_us[i] - level_at_us[r]
            if quiet[r] >= QUIET_READINGS:
                event_out[i] = QUIET
            elif (age_us >= accept_after_us) if accept_after_us > 0 else (since[r] >= ACCEPT_READINGS):
                event_out[i] = ACCEPTED
                _accept(r, q_fast, q_slow, account, regime, evidence, is_open)
            elif since[r] > SETTLING_READINGS and is_evident:
                event_out[i] = WORSE
            if event_out[i] == QUIET:
                is_open[r] = 0
            elif event_out[i] != ACCEPTED:
                is_settling = since[r] <= SETTLING_READINGS
                if since[r] <= LEAPING_READINGS:
                    regime[r] = u
                else:
                    regime[r] += (RATE_SETTLING if is_settling else RATE_FAULT) * b * ((1.0 if u > regime[r] else 0.0) - TAIL)
                if is_settling:
                    evidence[r] = 0.0
        elif is_evident:
            event_out[i] = OPENED
            is_open[r] = 1
            opened_at_us[r] = event_time_us[i]
            q_fast[r], q_slow[r] = q_fast_before[r], q_slow_before[r]
            excess[r], unit[r] = excess_before[r], unit_before[r]
        if event_out[i] == OPENED or event_out[i] == WORSE:
            level_at_us[r] = event_time_us[i]
            since[r] = quiet[r] = 0
            regime[r] = u
            account[r] = min(account[r] + PRICE, ACCOUNT_MAX)
            recent[r] = min(recent[r] + PRICE_RECENT, ACCOUNT_MAX)
        if event_out[i] != 0 and event_out[i] != OPENED:
            evidence[r] = 0.0

        # Learning comes last, and never from an open alert: neither the reading that opened it nor the one that closed it.
        if not was_open and event_out[i] == 0:
            if is_settled:
                q_fast[r] += RATE_FAST * b * ((1.0 if u > q_fast[r] else 0.0) - TAIL)
                q_slow[r] += RATE_SLOW * b * ((1.0 if u > q_slow[r] else 0.0) - TAIL)
                if u > q:
                    over = min(u - q, STRANGE * b)
                    excess[r] += RATE_EXCESS * (over - excess[r])
                    unit[r] = max(b + RATE_EXCESS * (over - b), EXCESS_MIN)
            elif seen[r] >= prior[2]:
                k = seen[r] - prior[2] + 1
                mean[r], variance[r] = _moments(u, k, mean[r], variance[r])
                spread, share = np.sqrt(variance[r]), k / (PRIOR_READINGS + k)
                q_fast[r] = q_slow[r] = (1 - share) * prior[0] + share * (mean[r] + NORMAL_Q95 * spread)
                excess[r] = (1 - share) * prior[1] + share * NORMAL_EXCESS * spread
                unit[r] = max(excess[r], EXCESS_MIN)
            if z <= CALM:
                account[r] = max(account[r] - PRICE / n, ACCOUNT_MIN)
        seen[r] = min(seen[r] + 1, 2_000_000_000)
