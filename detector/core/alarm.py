"""Score -> tail probability, and when an alert of kind `score` opens, escalates and closes: one stream's own alarm.

A running quantile q of the score u, and the mean excess m over it, say how strange a score is. A CUSUM of the excess opens an alert when it
passes a limit. A penalty raises the limit after every alert, and calm readings pay it back, so that a stated budget, one false alert per
N readings, holds while the series drifts. b is as m, but never below EXCESS_MIN.

    L = max(1, ln(.05 N));  h0 = max(1, 1.05 L^2 - 6)
    z = (u - q) / b,  q = max(q_fast, q_slow);  C = max(0, C + clip(z, -6, 6) + 30 max(0, z - outlier))
    outlier = max(7, (L + 4) m / b)
    open when C > h0 (1 + slow + fast);  close when 30 readings in a row were calm (z <= .5), or when the baseline is reset
    slow += .05 when an alert opens or escalates, += .3 when the baseline is reset, -= .05 / N at every calm reading, within -.9 .. 10
    fast += 1 when an alert opens or escalates, and is forgotten over N / 30 readings

What an alert costs is mostly soon forgotten: rare faults do not make a stream deaf to the next one. What opens alerts again and again, a
rhythm that training never saw, has to be stranger each time. An alert whose level turned out to be normal costs more.

The threshold that people see is a score: the one beyond which this reading, with what has gathered before it, opens an alert. It comes
down while the CUSUM rises.

While an alert is open the same CUSUM is taken over the alert's own level s in place of q. At its limit the alert escalates: that is a
second fault within the first.

    s: running 95 % quantile of the alert's own scores, from the tenth reading on: what opens an alert may be stranger than what lasts.
       At a rate of .5 for 30 readings, in which nothing counts, and of .1 from then on

Judge first, learn after; an open alert teaches nothing. Learning:

    q += rate b ([u > q] - .05), rate .03 (fast) and .005 (slow);  m += .02 (min(u - q, 6 b) - m) when u > q, and b likewise

What was learned while the CUSUM rose is taken back when the alert opens: it came from the fault. A stream starts from the bundle's prior.
In the warm-up it cannot alert, and q, m and b follow from mean and variance of its scores, weighed against the prior; a score far
beyond those before it counts as a smaller one.

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

EXCESS_MIN = 0.4
"""Least b, in units of this score: keeps a stream that hardly varies from calling every trifle strange."""
EXCESS_KNOWN_MIN = 0.1
"""Least m that a tail probability follows from: no stream has been seen for so long that a smaller one would be known."""
TAIL = 0.05
CUSUM_CLIP, OUTLIER_LIMIT, OUTLIER_WEIGHT, OUTLIER_MARGIN = 6.0, 7.0, 30.0, 4.0
"""One reading counts up to CUSUM_CLIP, so that a heavy tail cannot alert alone. What lies beyond OUTLIER_LIMIT, which the logarithms of the
score let only an absurd reading reach, counts so much that it alone can; unless by the stream's own tail one reading in N is
e^OUTLIER_MARGIN times likelier."""
CALM = 0.5
"""A reading with a smaller z is calm: it pays the penalty back, and CLEAR_AFTER of them in a row close an alert."""
CLEAR_AFTER = 30
SETTLING, ONSET = 30, 10
"""So many readings an alert is given to show its own level, before what exceeds it counts as a second fault; the first of them are its onset."""
RESET_AFTER = 2_000
"""Readings after which an open alert's level becomes the baseline, where no time is configured."""
CUSUM_LIMIT_SLOPE, CUSUM_LIMIT_OFFSET = 1.05, 6.0
"""Of the CUSUM's limit over L^2: a factor, and what is let off, so that generous budgets are spent as well as tight ones."""
PENALTY_SLOW, PENALTY_RESET, PENALTY_MIN, PENALTY_MAX = 0.05, 0.3, -0.9, 10.0
"""What an alert adds to the slow penalty, and N calm readings pay back; what it adds when the baseline is reset; and the penalty's bounds."""
PENALTY_FAST, PENALTY_FAST_SHARE, PENALTY_FAST_MIN = 1.0, 30.0, 30.0
"""What an alert adds to the fast penalty, and over which part of N, and at least how many readings, that is forgotten."""
RATE_FAST, RATE_SLOW, RATE_EXCESS = 0.03, 0.005, 0.02
RATE_SETTLING, RATE_LEVEL = 0.5, 0.1
COLD_READINGS = 30
"""Usual number of first readings that teach nothing: a stream's memory is still empty, and every score is high."""
PRIOR_READINGS = 10
"""So many readings of the stream's own weigh as much as the prior."""
WINSORIZE_AFTER, WINSORIZE_DEVIATIONS = 10, 4.0
"""In the warm-up, after so many scores, one counts up to so many deviations over the mean."""
READINGS_MIN, READINGS_UNKNOWN = 100.0, 1e4
"""A budget is of at least so many readings; and of so many while a stream's usual interval is not known."""
NORMAL_Q95, NORMAL_EXCESS = 1.645, 0.418
"""95 % quantile and mean excess over it of a normal distribution: in the warm-up, mean and variance stand for both."""


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
    cold_readings: int = COLD_READINGS

    @staticmethod
    def fit(score: NDArray[np.floating[Any]]) -> Prior:
        """From scores of normal readings, f4[T]."""
        quantile = float(np.quantile(score, 1 - TAIL))
        above = score[score > quantile]
        return Prior(quantile, float(above.mean()) - quantile if len(above) else 0.0)

    @property
    def starts(self) -> dict[str, float]:
        """What the fields of a new stream's head start with."""
        quantiles = dict.fromkeys(("q_fast", "q_slow", "q_fast_before", "q_slow_before"), self.quantile)
        scale = max(self.excess, EXCESS_MIN)
        return quantiles | {"excess": self.excess, "excess_before": self.excess, "excess_scale": scale, "excess_scale_before": scale}


@compiled
def reset_baseline(s):  # type: ignore[no-untyped-def]
    """End an alert, its level being the stream's own from now on."""
    s.q_fast = s.q_slow = max(s.alert_level, s.q_slow)
    s.slow_penalty = min(s.slow_penalty + PENALTY_RESET, PENALTY_MAX)
    s.cusum = 0.0
    s.score_open = 0


@compiled
def tail_probability(u, q, m):  # type: ignore[no-untyped-def]
    """Exponential above the quantile (mean excess m), exponential below it through p(0) = 1."""
    if u > q:
        return max(TAIL * np.exp(-(u - q) / m), 1e-300)
    return np.exp(np.log(TAIL) * max(u, 0.0) / q) if q > 0 else 1.0


@compiled
def log_tail(n):  # type: ignore[no-untyped-def]
    """How far out the rarest of n readings lies, in mean excesses over the quantile."""
    return max(1.0, np.log(TAIL * n))


@compiled
def cusum_limit(log_n, penalty):  # type: ignore[no-untyped-def]
    """What the CUSUM must pass, for `log_tail` of the budget's readings and both penalties together."""
    return max(1.0, max(1.0, CUSUM_LIMIT_SLOPE * log_n**2 - CUSUM_LIMIT_OFFSET) * (1.0 + penalty))


@compiled
def _raised(cusum, z, outlier):  # type: ignore[no-untyped-def]
    """The CUSUM after a reading that is z units above what is usual."""
    return max(0.0, cusum + min(max(z, -CUSUM_CLIP), CUSUM_CLIP) + OUTLIER_WEIGHT * max(z - outlier, 0.0))


@compiled
def _z_needed(missing, outlier):  # type: ignore[no-untyped-def]
    """How many units above what is usual a reading must lie to raise the CUSUM by so much: `_raised`, the other way round."""
    return missing if missing < CUSUM_CLIP else outlier + (missing - CUSUM_CLIP) / OUTLIER_WEIGHT


@compiled
def judge(s, score, event_time_us, per_reading_us, rules):  # type: ignore[no-untyped-def]
    """Judge one score, then learn from it.

    s                head of the stream's record
    per_reading_us   usual time per reading of the stream; 0 while it is not known
    rules            of type RULES
    returns          tail probability, Event, and the threshold: the score beyond which this reading opens an alert, or escalates an open
                     one; NaN where no score could, in the warm-up and in the first readings of an alert
    """
    u, b, q = np.float64(score), s.excess_scale, max(s.q_fast, s.q_slow)
    z = (u - q) / b
    p = tail_probability(u, q, max(s.excess, EXCESS_KNOWN_MIN))
    n = max(rules.budget_period_us / per_reading_us, READINGS_MIN) if per_reading_us > 0 else READINGS_UNKNOWN
    is_settled, was_open = s.seen >= rules.warmup_readings, s.score_open == 1
    is_beyond, threshold = False, np.nan
    if is_settled:
        is_beyond, threshold = _gather(s, u, p, n, was_open)
    event = 0
    if was_open:
        event = _judge_open(s, u, z, event_time_us, is_beyond, rules)
    elif is_beyond:
        event = OPENED
        s.score_open = 1
        s.score_opened_at_us = event_time_us
        s.q_fast, s.q_slow = s.q_fast_before, s.q_slow_before
        s.excess, s.excess_scale = s.excess_before, s.excess_scale_before
    if event in (OPENED, ESCALATED):
        s.level_since_us = event_time_us
        s.since = s.calm = 0
        s.alert_level = u
        s.slow_penalty = min(s.slow_penalty + PENALTY_SLOW, PENALTY_MAX)
        s.fast_penalty = min(s.fast_penalty + PENALTY_FAST, PENALTY_MAX)
    if event != 0 and event != OPENED:
        s.cusum = 0.0
    # Learning comes last, and never from an open alert: neither the reading that opened it nor the one that closed it.
    if not was_open and event == 0:
        _learn(s, u, q, z, b, n, is_settled, rules)
    s.seen = min(s.seen + 1, 2_000_000_000)
    return p, event, threshold


@compiled
def _gather(s, u, p, n, was_open):  # type: ignore[no-untyped-def]
    """Move the CUSUM. returns  whether it is beyond its limit, and the threshold."""
    b, q = s.excess_scale, max(s.q_fast, s.q_slow)
    if s.cusum == 0.0 and not was_open:
        s.q_fast_before, s.q_slow_before = s.q_fast, s.q_slow
        s.excess_before, s.excess_scale_before = s.excess, b
    usual = s.alert_level if was_open else q
    log_n = log_tail(n)
    outlier = max(OUTLIER_LIMIT, (log_n + OUTLIER_MARGIN) * s.excess / b)
    limit = cusum_limit(log_n, s.slow_penalty + s.fast_penalty)
    s.fast_penalty -= s.fast_penalty / max(n / PENALTY_FAST_SHARE, PENALTY_FAST_MIN)
    threshold = np.nan
    if not was_open or s.since >= SETTLING:
        threshold = usual + b * _z_needed(limit - s.cusum, outlier)
    s.cusum = _raised(s.cusum, (u - usual) / b, outlier)
    s.p_min = min(s.p_min, p) if s.cusum > 0 else 1.0
    return s.cusum > limit, threshold


@compiled
def _judge_open(s, u, z, event_time_us, is_beyond, rules):  # type: ignore[no-untyped-def]
    """What a reading does to an open alert; the alert's own level follows."""
    s.since += 1
    s.calm = 0 if z > CALM else s.calm + 1
    age_us = event_time_us - s.level_since_us
    if s.calm >= CLEAR_AFTER:
        s.score_open = 0
        return CLEARED
    if (age_us >= rules.reset_after_us) if rules.reset_after_us > 0 else (s.since >= RESET_AFTER):
        reset_baseline(s)
        return RESET
    event = ESCALATED if s.since > SETTLING and is_beyond else 0
    if s.since <= ONSET:
        s.alert_level = u
    else:
        rate = RATE_SETTLING if s.since <= SETTLING else RATE_LEVEL
        s.alert_level += rate * s.excess_scale * ((1.0 if u > s.alert_level else 0.0) - TAIL)
    if s.since <= SETTLING:
        s.cusum = 0.0
    return event


@compiled
def _learn(s, u, q, z, b, n, is_settled, rules):  # type: ignore[no-untyped-def]
    """Learn from a reading outside of an alert."""
    if is_settled:
        s.q_fast += RATE_FAST * b * ((1.0 if u > s.q_fast else 0.0) - TAIL)
        s.q_slow += RATE_SLOW * b * ((1.0 if u > s.q_slow else 0.0) - TAIL)
        if u > q:
            over = min(u - q, CUSUM_CLIP * b)
            s.excess += RATE_EXCESS * (over - s.excess)
            s.excess_scale = max(b + RATE_EXCESS * (over - b), EXCESS_MIN)
    elif s.seen >= rules.cold_readings:
        k = s.seen - rules.cold_readings + 1
        counts = min(u, s.mean + WINSORIZE_DEVIATIONS * np.sqrt(s.variance) + EXCESS_MIN) if k > WINSORIZE_AFTER else u
        step = counts - s.mean
        s.mean += step / k
        s.variance += (step * (counts - s.mean) - s.variance) / k
        deviation, share = np.sqrt(s.variance), k / (PRIOR_READINGS + k)
        s.q_fast = s.q_slow = (1 - share) * rules.quantile + share * (s.mean + NORMAL_Q95 * deviation)
        s.excess = (1 - share) * rules.excess + share * NORMAL_EXCESS * deviation
        s.excess_scale = max(s.excess, EXCESS_MIN)
    if z <= CALM:
        s.slow_penalty = max(s.slow_penalty - PENALTY_SLOW / n, PENALTY_MIN)
