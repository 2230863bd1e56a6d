"""What the shipped alarm makes of a score: episodes, which of them are false, what they find and how late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.states import arrays_of
from detector.core.threshold import Event, Prior, evidence_to_open, judge
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
    event = _play(calibration, score, readings_per_alert)[0]
    opened = np.flatnonzero(event == Event.OPENED)
    closed = np.flatnonzero((event == Event.QUIET) | (event == Event.ACCEPTED))
    ends = [*closed.tolist(), len(score)][: len(opened)]
    return [Episode(start, end) for start, end in zip(opened.tolist(), ends, strict=True)]


def published(calibration: F4, score: F4, readings_per_alert: int) -> NDArray[np.bool_]:
    """Where the same alarm publishes something, bool[T]: an alert opens, or an open one gets worse."""
    return np.isin(_play(calibration, score, readings_per_alert)[0], (Event.OPENED, Event.WORSE))


def evidence(calibration: F4, score: F4, readings_per_alert: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For people to see: after each reading the evidence f8[T], and what it must pass f8[T]."""
    _, gathered, price = _play(calibration, score, readings_per_alert, watch=True)
    before = np.concatenate(([0.0], price[:-1]))  # an alert is charged by the reading that opens it
    return gathered, np.array([evidence_to_open(float(readings_per_alert), each) for each in before])


def _play(
    calibration: F4, score: F4, readings_per_alert: int, *, watch: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """The shipped alarm on one stream: events u1[T], and if one watches also evidence and price after each reading, f8[T]."""
    n, prior = len(score), Prior.fit(calibration)
    state = arrays_of(prior.columns())
    event, watched = np.empty(n, np.uint8), np.zeros((2, n))
    size = 1 if watch else n
    for start in range(0, n, size):
        part = slice(start, min(start + size, n))
        event[part] = events_of(score[part], start, readings_per_alert, prior, state)
        watched[:, part.stop - 1] = state["evidence"][0], state["account"][0] + state["recent"][0]
    return event, watched[0], watched[1]


def events_of(score: F4, first: int, readings_per_alert: int, prior: Prior, states: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """What the shipped alarm makes of the next scores f4[n] of one stream that is read once a second: events u1[n].

    first   how many readings the stream has had before
    states  the alarm's columns of one row, which are advanced
    """
    n = len(score)
    time_us, interval_us = SECOND_US * np.arange(first, first + n), np.full(n, float(SECOND_US))
    limits = (readings_per_alert * SECOND_US, WARMUP_READINGS, 0.0, prior)
    return judge(np.zeros(n, np.int32), score.astype(np.float32), time_us, interval_us, states, *limits)[1]


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
