"""Score -> tail probability, and when an alert of kind `score` opens, escalates and closes: one stream's own alarm.

A running 95 % quantile q of the score u, and the mean excess b over it, never below EXCESS_MIN, say how strange a score is. A CUSUM of the
excess opens an alert when it passes a limit. Two penalties raise the limit after every alert, so that a stated budget, one false alert per
N readings, holds while the series drifts.

    L = max(1, ln(.05 N));  h0 = max(1, L^2 - CUSUM_CLIP);  N at least 1 / .05
    h = h0 (1 + slow + fast)
    z = (u - q) / b;  C = max(0, C + clip(z, -CUSUM_CLIP, CUSUM_CLIP)), and h more where z > L + OUTLIER_MARGIN (1 + slow + fast)
    open when C > h
    close when readings were calm (z <= 1) PATIENCE times in a row, or for CALM_US where they are far apart; or when the baseline is reset: an
    alert has a longest life, counted from its opening
    slow += PENALTY when an alert opens or escalates, -= PENALTY / N at every calm reading, not below 0
    fast += 1 when an alert opens or escalates, and is forgotten over PENALTY N readings

What an alert costs is mostly soon forgotten: rare faults do not make a stream deaf to the next one. What opens alerts again and again, a
rhythm that training never saw, has to be stranger each time.

The threshold that people see is a score: the one beyond which this reading, with what has gathered before it, opens an alert. It comes
down while the CUSUM rises.

While an alert is open the same CUSUM is taken over the alert's own level s in place of q. At its limit the alert escalates: that is a
second fault within the first. For PATIENCE readings nothing counts, and s is a decaying peak:

    s = u if u > s, else s += RATE_LEVEL (u - s);  from then on the running 95 % quantile, s += RATE_LEVEL b ([u > s] - .05)

Judge first, learn after; an open alert teaches nothing. Learning:

    q += RATE b ([u > q] - .05);  b += RATE (min(u - q, CUSUM_CLIP b) - b) when u > q

What was learned while the CUSUM rose is taken back when the alert opens: it came from the fault. A stream starts from the bundle's prior.
In the warm-up it cannot alert, and q and b follow from mean and variance of its scores, weighed against the prior; a score far beyond those
before it counts as a smaller one.

The numbers were measured together on the labelled sets and on LONG, at budgets of 1,000, 10,000 and 60,000 readings (docs/research.md).

Relatives with proofs: adaptive conformal inference (Gibbs and Candes 2021), conformal PID control (Angelopoulos, Candes and
Tibshirani 2023), CUSUM (Page 1954).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.compiled import compiled
from detector.core.limits import COUNT_MAX

TAIL = 0.05
"""Share of a stream's normal scores above the quantile that it follows."""
EXCESS_MIN = 0.4
"""Least b, in units of the score: keeps a stream that hardly varies from calling every trifle strange."""
CUSUM_CLIP = 5.0
"""One reading counts by so many b at most, so that a heavy tail cannot alert alone."""
OUTLIER_MARGIN = 2.0
"""One reading opens an alert alone if an exponential tail has one so strange in e^OUTLIER_MARGIN N readings; after other alerts in fewer."""
PATIENCE = 20
"""Readings: of calm that close an alert; of an alert before what exceeds its level counts as a second fault; of a stream, usually, before
its scores teach: its memory is still empty, and every score is high."""
CALM_US, CALM_READINGS_MIN = 3 * 3_600e6, 5.0
"""Calm that closes an alert where PATIENCE readings take longer: hourly readings would hold every alert open for a day."""
RESET_AFTER = 2_000
LIFE_US, LIFE_READINGS_MIN = 86_400e6, 24
"""An open alert's level becomes the baseline after so many readings, or after a day if that is sooner, but for so few readings: unless the
configuration says a time. What lasts a day has been seen, and an alert that never ends hides the next one."""
PENALTY = 0.05
"""What an alert adds to the slow penalty, and N calm readings pay back; the part of N over which the fast one is forgotten."""
RATE = 0.025
"""At which q and b follow the scores. At .02 false alerts at 1 per 60,000 double, at .05 a third of the faults is lost there."""
RATE_LEVEL = 0.1
"""At which the level of an open alert follows its scores."""
PRIOR_READINGS = 10
"""So many readings of the stream's own weigh as much as the prior, and are needed to tell which of the next are far beyond them."""
Q95_DEVIATIONS = float(-np.log(TAIL)) - 1.0
"""Standard deviations from the mean of an exponential distribution to its quantile; its mean excess is one. In the warm-up the mean and the
variance of the scores stand for both."""
TINY = float(np.finfo(np.float64).tiny)


class Event(IntEnum):
    """What a reading did to its stream's alert."""

    NONE = 0
    OPENED = 1
    CLEARED = 2
    RESET = 3
    ESCALATED = 4


OPENED, CLEARED, RESET, ESCALATED = (int(event) for event in (Event.OPENED, Event.CLEARED, Event.RESET, Event.ESCALATED))


@dataclass(frozen=True, slots=True)
class Prior:
    """What a stream's calibration starts from, measured in training: 95 % quantile of the score, and mean excess over it.

    cold_readings  the first so many of a stream teach nothing
    """

    quantile: float
    excess: float
    cold_readings: int = PATIENCE

    @staticmethod
    def fit(score: NDArray[np.floating[Any]]) -> Prior:
        """From scores of normal readings, f4[T]."""
        quantile = float(np.quantile(score, 1 - TAIL))
        above = score[score > quantile]
        return Prior(quantile, float(above.mean()) - quantile if len(above) else 0.0)

    @property
    def starts(self) -> dict[str, float]:
        """What the fields of a new stream's head start with."""
        quantiles, excesses = ("quantile", "quantile_before"), ("excess", "excess_before")
        return dict.fromkeys(quantiles, self.quantile) | dict.fromkeys(excesses, max(self.excess, EXCESS_MIN))


@compiled
def reset_baseline(s):  # type: ignore[no-untyped-def]
    """End an alert, its level being the stream's own from now on."""
    s.quantile = max(s.alert_level, s.quantile)
    s.cusum = 0.0
    s.score_open = 0


@compiled
def tail_probability(u, q, b):  # type: ignore[no-untyped-def]
    """Exponential above the quantile (mean excess b), exponential below it through p(0) = 1."""
    if u > q:
        return max(TAIL * np.exp(-(u - q) / b), TINY)
    return np.exp(np.log(TAIL) * max(u, 0.0) / q) if q > 0 else 1.0


@compiled
def log_tail(n):  # type: ignore[no-untyped-def]
    """How far out the rarest of n readings lies, in mean excesses over the quantile."""
    return max(1.0, np.log(TAIL * n))


@compiled
def cusum_limit(log_n, penalty):  # type: ignore[no-untyped-def]
    """What the CUSUM must pass, for `log_tail` of the budget's readings and both penalties together."""
    return max(1.0, log_n * log_n - CUSUM_CLIP) * (1.0 + penalty)


@compiled
def judge(s, score, event_time_us, per_reading_us, rules):  # type: ignore[no-untyped-def]
    """Judge one score, then learn from it.

    s                head of the stream's record
    per_reading_us   usual time per reading of the stream; 0 while it is not known
    rules            of type RULES
    returns          tail probability, Event, and the threshold: the score beyond which this reading opens an alert, or escalates an open
                     one; NaN where no score could, in the warm-up and in the first readings of an alert
    """
    u, q, b = np.float64(score), s.quantile, s.excess
    z, p = (u - q) / b, tail_probability(u, q, b)
    n = max(rules.budget_period_us / per_reading_us, 1.0 / TAIL) if per_reading_us > 0 else np.inf
    is_settled, was_open = s.seen >= rules.warmup_readings and per_reading_us > 0, s.score_open == 1
    event, is_beyond, threshold = 0, False, np.nan
    if is_settled:
        is_beyond, threshold = _gather(s, u, p, n, was_open)
    if was_open:
        event = _judge_open(s, u, z, event_time_us, per_reading_us, is_beyond, rules)
    elif is_beyond:
        event = OPENED
        s.score_open, s.score_opened_at_us = 1, event_time_us
        s.quantile, s.excess = s.quantile_before, s.excess_before
    if event in (OPENED, ESCALATED):
        s.level_since_us = event_time_us
        s.since = s.calm = 0
        s.alert_level = u
        s.slow_penalty += PENALTY
        s.fast_penalty += 1.0
    if event not in (0, OPENED):
        s.cusum = 0.0
    # Learning comes last, and never from an open alert: neither the reading that opened it nor the one that closed it.
    if not was_open and event == 0:
        _learn(s, u, z, n, is_settled, rules)
    s.seen = min(s.seen + 1, COUNT_MAX)
    return p, event, threshold


@compiled
def _gather(s, u, p, n, was_open):  # type: ignore[no-untyped-def]
    """Move the CUSUM. returns  whether it is beyond its limit, and the threshold."""
    if s.cusum == 0.0 and not was_open:
        s.quantile_before, s.excess_before = s.quantile, s.excess
    usual, penalty, log_n = s.alert_level if was_open else s.quantile, 1.0 + s.slow_penalty + s.fast_penalty, log_tail(n)
    z, limit, outlier = (u - usual) / s.excess, cusum_limit(log_n, penalty - 1.0), log_n + OUTLIER_MARGIN * penalty
    s.fast_penalty -= s.fast_penalty / (PENALTY * n)
    threshold, missing = np.nan, limit - s.cusum
    if not was_open or s.since >= PATIENCE:
        threshold = usual + s.excess * (min(missing, outlier) if missing < CUSUM_CLIP else outlier)
    s.cusum = max(0.0, s.cusum + min(max(z, -CUSUM_CLIP), CUSUM_CLIP) + (limit if z > outlier else 0.0))
    s.p_min = min(s.p_min, p) if s.cusum > 0 else 1.0
    return s.cusum > limit, threshold


@compiled
def life_us(per_reading_us, rules):  # type: ignore[no-untyped-def]
    """Age of an alert at which what it is about becomes the baseline. per_reading_us: usual time per reading of the stream"""
    if rules.reset_after_us > 0:
        return rules.reset_after_us
    return max(min(RESET_AFTER * per_reading_us, LIFE_US), LIFE_READINGS_MIN * per_reading_us)


@compiled
def _calm_enough(per_reading_us):  # type: ignore[no-untyped-def]
    """Calm readings in a row that close an alert."""
    return min(np.float64(PATIENCE), max(CALM_US / per_reading_us, CALM_READINGS_MIN)) if per_reading_us > 0 else np.float64(PATIENCE)


@compiled
def _judge_open(s, u, z, event_time_us, per_reading_us, is_beyond, rules):  # type: ignore[no-untyped-def]
    """What a reading does to an open alert; the alert's own level follows."""
    s.since += 1
    s.calm = 0 if z > 1.0 else s.calm + 1
    if s.calm >= _calm_enough(per_reading_us):
        s.score_open = 0
        return CLEARED
    if event_time_us - s.score_opened_at_us >= life_us(per_reading_us, rules):
        reset_baseline(s)
        return RESET
    if s.since <= PATIENCE:
        s.alert_level = max(u, s.alert_level + RATE_LEVEL * (u - s.alert_level))
        s.cusum = 0.0
        return 0
    s.alert_level += RATE_LEVEL * s.excess * ((1.0 if u > s.alert_level else 0.0) - TAIL)
    return ESCALATED if is_beyond else 0


@compiled
def _learn(s, u, z, n, is_settled, rules):  # type: ignore[no-untyped-def]
    """Learn from a reading outside of an alert."""
    q, b = s.quantile, s.excess
    if is_settled:
        s.quantile += RATE * b * ((1.0 if u > q else 0.0) - TAIL)
        if u > q:
            s.excess = max(b + RATE * (min(u - q, CUSUM_CLIP * b) - b), EXCESS_MIN)
    elif s.seen >= rules.cold_readings:
        k = s.seen - rules.cold_readings + 1
        counts = min(u, s.mean + CUSUM_CLIP * np.sqrt(s.variance) + EXCESS_MIN) if k > PRIOR_READINGS else u
        step = counts - s.mean
        s.mean += step / k
        s.variance += (step * (counts - s.mean) - s.variance) / k
        deviation, share = np.sqrt(s.variance), k / (PRIOR_READINGS + k)
        s.quantile = (1 - share) * rules.quantile + share * (s.mean + Q95_DEVIATIONS * deviation)
        s.excess = max((1 - share) * rules.excess + share * deviation, EXCESS_MIN)
    if z <= 1.0:
        s.slow_penalty = max(s.slow_penalty - PENALTY / n, 0.0)
