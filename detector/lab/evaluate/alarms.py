"""What the shipped alarm makes of a score: episodes, which of them are false, what they find and how late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core import alarm
from detector.core.alarm import Event, Prior
from detector.core.compiled import entry
from detector.core.rules import Settings, rules_of
from detector.core.stream_state import HEAD, layout_of
from detector.lab.evaluate.series import F4, Series, runs

BUDGETS = (1_000, 10_000, 60_000)
"""Readings per acceptable false alert of one stream."""
WATCHED_BUDGET = BUDGETS[1]
"""At which the alarm watches while a detector scores, where what is open has a say in the score."""
WARMUP_READINGS = 100
"""As the service has by default."""
LATE_MAX = 50
"""An alert that opens so many readings after a fault's end still finds it: evidence for a short one may only suffice then."""
AFTER_MAX = 100
"""The signal leaps back, and memories hold what was wrong: so many readings after a fault nothing that opens is called false."""
SECOND_US = 1_000_000


class Episode(NamedTuple):
    """An alert: it opened at reading `start` and closed before reading `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Alarmed:
    """Alerts of one series against its labels.

    budgeted       false alerts that the budget allows for the normal readings of this series
    false          alerts that opened at a reading that is normal, and not soon after a fault
    events, found  labelled ranges, and those in which an alert opened
    delays         readings from the start of each found one to its first alert
    overlapped     labelled ranges that an alert overlaps; hits, misses: alerts that overlap one, that overlap none
    """

    budgeted: float
    false: int
    events: int
    found: int
    delays: tuple[int, ...]
    overlapped: int
    hits: int
    misses: int


def episodes(calibration: F4, score: F4, readings_per_alert: int) -> list[Episode]:
    """The alerts of one stream at a budget: a service that begins where the test part does, with a bundle made before.

    calibration  f4[n] scores of normal readings before: the bundle's prior
    score        f4[T] the first WARMUP_READINGS cannot alert
    """
    event = _alarmed(calibration, score, readings_per_alert)[0]
    opened = np.flatnonzero(event == Event.OPENED)
    closed = np.flatnonzero((event == Event.CLEARED) | (event == Event.RESET))
    ends = [*closed.tolist(), len(score)][: len(opened)]
    return [Episode(start, end) for start, end in zip(opened.tolist(), ends, strict=True)]


def published(calibration: F4, score: F4, readings_per_alert: int) -> NDArray[np.bool_]:
    """Where the same alarm publishes something, bool[T]: an alert opens, or an open one escalates."""
    return np.isin(_alarmed(calibration, score, readings_per_alert)[0], (Event.OPENED, Event.ESCALATED))


def evidence(calibration: F4, score: F4, readings_per_alert: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For people to see: the CUSUM after each reading f8[T], and the limit that it had to pass f8[T]."""
    return _alarmed(calibration, score, readings_per_alert)[1:]


def settings_of(readings_per_alert: int) -> Settings:
    """The shipped alarm on streams that are read once a second."""
    return Settings(budget_period_us=readings_per_alert * SECOND_US, warmup_readings=WARMUP_READINGS)


def _alarmed(calibration: F4, score: F4, readings_per_alert: int) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """The shipped alarm on one stream: events u1[T], the CUSUM after each reading and the limit that it had to pass, f8[T]."""
    prior = Prior.fit(calibration)
    head = layout_of([], prior.starts).new.view(np.uint8)[: HEAD.itemsize].view(HEAD)
    out = np.empty(len(score), np.uint8), np.empty(len(score)), np.empty(len(score))
    _play(head, score.astype(np.float32), rules_of(settings_of(readings_per_alert), prior), out)
    return out


@entry
def _play(heads, score, rules_of_one, out):  # type: ignore[no-untyped-def]
    """heads HEAD[1], which is advanced; score f4[T]; rules RULES[1]; out as `_alarmed` gives it."""
    s, rules, (event, cusum, limit) = heads[0], rules_of_one[0], out
    for t in range(score.shape[0]):
        log_n = alarm.log_tail(rules.budget_period_us / SECOND_US)
        limit[t] = alarm.cusum_limit(log_n, s.slow_penalty + s.fast_penalty)
        event[t] = alarm.judge(s, score[t], t * SECOND_US, float(SECOND_US), rules)[1]
        cusum[t] = s.cusum


def against_labels(alerts: Sequence[Episode], series: Series, readings_per_alert: int) -> Alarmed:
    """Set alerts and labels of a series against each other."""
    label = series.label
    near = np.convolve(label, np.ones(AFTER_MAX + 1))[: len(label)] > 0
    if series.ignored is not None:
        near |= series.ignored
    ranges = runs(label)
    starts = np.array([alert.start for alert in alerts], np.int64)
    delays = []
    for start, end in ranges:
        inside = starts[(starts >= start) & (starts < end + LATE_MAX)]
        delays += [int(inside[0] - start)] if len(inside) else []
    covered = np.zeros(len(label), bool)
    for alert in alerts:
        covered[alert.start : alert.end] = True
    hits = sum(bool(label[alert.start : alert.end].any()) for alert in alerts)
    return Alarmed(
        budgeted=float((~near).sum()) / readings_per_alert,
        false=int((~near[starts]).sum()) if len(starts) else 0,
        events=len(ranges),
        found=len(delays),
        delays=tuple(delays),
        overlapped=sum(bool(covered[start:end].any()) for start, end in ranges),
        hits=hits,
        misses=len(alerts) - hits,
    )


class Points(NamedTuple):
    """Readings that a fixed threshold calls strange: of those that are wrong, and of those that are not."""

    true_positive: int
    false_positive: int
    positive: int
    negative: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where nothing is found."""
        total = self.true_positive + self.false_positive + self.positive
        return 2 * self.true_positive / total if total else 0.0

    @property
    def false_alarm_rate(self) -> float:
        """Share of normal readings that are called strange."""
        return self.false_positive / self.negative if self.negative else 0.0

    @property
    def missed_alarm_rate(self) -> float:
        """Share of faulty readings that are not."""
        return 1 - self.true_positive / self.positive if self.positive else 0.0


def points(strange: NDArray[np.bool_], label: NDArray[np.bool_]) -> Points:
    """Count readings, one by one."""
    return Points(int((strange & label).sum()), int((strange & ~label).sum()), int(label.sum()), int((~label).sum()))


def total(counts: Sequence[Points]) -> Points:
    """All together."""
    return Points(*(sum(each) for each in zip(*counts, strict=True))) if counts else Points(0, 0, 0, 0)
