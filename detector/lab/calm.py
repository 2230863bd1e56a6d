"""How calm alerts are for who has to live with them: how long, how often, and whether what they name is to be seen.

Ranking measures see none of this: an alert that stays open for a year ranks as well as one that ends.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from detector.core.alerts import Alert
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, ReadingBatch

JUDGED = (Disposition.SCORED, Disposition.WARMUP)
SECOND_US = 1e6


@dataclass(frozen=True, slots=True)
class Calm:
    """What alerts were like.

    readings         that were judged
    inside           of them, inside an open alert of kind score
    stream_s         event time over which streams were judged, summed over streams
    opened           alerts by kind
    lengths_s        of alerts of kind score, from opening to closing, or to the stream's last reading
    still_open       alerts of kind score that were open then
    named, outside   alerts of kind score that name a channel, and those whose first-named channel lies outside its band
    """

    readings: int
    inside: int
    stream_s: float
    opened: dict[str, int]
    lengths_s: tuple[float, ...]
    still_open: int
    named: int
    outside: int

    @property
    def inside_share(self) -> float:
        """Share of the readings inside an open alert; 0 where there are none."""
        return self.inside / self.readings if self.readings else 0.0

    @property
    def longest_s(self) -> float:
        """The longest alert; 0 where there is none."""
        return max(self.lengths_s, default=0.0)

    @property
    def median_s(self) -> float:
        """The median length; 0 where there is none."""
        return float(np.median(self.lengths_s)) if self.lengths_s else 0.0

    @property
    def outside_share(self) -> float:
        """Share of the alerts that name a channel outside its band first; NaN where none names any."""
        return self.outside / self.named if self.named else float("nan")

    def over_budget(self, period_s: float) -> float:
        """Alerts of kind score per alert that the budget accepts, one per stream in `period_s` of event time; NaN without event time."""
        budgeted = self.stream_s / period_s
        return self.opened.get("score", 0) / budgeted if budgeted else float("nan")


class CalmTally:
    """Adds up batches, in log order."""

    def __init__(self) -> None:
        self._readings = self._inside = self._named = self._outside = 0
        self._opened: Counter[str] = Counter()
        self._open: dict[str, Alert] = {}
        self._last_us: dict[str, int] = {}  # of the readings inside each alert
        self._lengths_s: list[float] = []
        self._span_us: dict[int, tuple[int, int]] = {}

    def add(self, batch: ReadingBatch, result: BatchResult) -> None:
        """Add a batch and what became of it."""
        is_judged = np.isin(result.disposition, JUDGED)
        self._readings += int(is_judged.sum())
        self._inside += len(result.alert)
        self._add_spans(batch.take(np.flatnonzero(is_judged)))
        self._last_us |= {name: int(batch.event_time_us[place]) for place, name in result.alert.items()}
        for alert in result.alerts:
            if alert.status == "opened":
                self._opened[alert.kind] += 1
            if alert.kind != "score":
                continue
            if alert.status == "opened":
                self._open[alert.id] = alert
                self._name(alert)
            elif alert.status == "closed" and (opened := self._open.pop(alert.id, None)) is not None:
                self._lengths_s.append((alert.event_time_us - opened.opened_at_us) / SECOND_US)
                self._last_us.pop(alert.id, None)

    def _add_spans(self, batch: ReadingBatch) -> None:
        """First and last event time of each stream of a partition."""
        if not len(batch):
            return
        pairs = batch.partition.astype(np.int64) << 32 | batch.stream_id
        order = np.argsort(pairs, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(pairs[order]) != 0])
        first = np.minimum.reduceat(batch.event_time_us[order], starts)
        last = np.maximum.reduceat(batch.event_time_us[order], starts)
        for pair, low, high in zip(pairs[order][starts].tolist(), first.tolist(), last.tolist(), strict=True):
            before = self._span_us.get(pair, (low, high))
            self._span_us[pair] = min(before[0], low), max(before[1], high)

    def _name(self, alert: Alert) -> None:
        if alert.channels:
            first = alert.channels[0]
            self._named += 1
            self._outside += not first.low <= first.observed <= first.high

    @property
    def calm(self) -> Calm:
        """What was added so far."""
        open_s = [(self._last_us.get(alert.id, alert.opened_at_us) - alert.opened_at_us) / SECOND_US for alert in self._open.values()]
        return Calm(
            readings=self._readings,
            inside=self._inside,
            stream_s=sum(high - low for low, high in self._span_us.values()) / SECOND_US,
            opened=dict(self._opened),
            lengths_s=(*self._lengths_s, *open_s),
            still_open=len(self._open),
            named=self._named,
            outside=self._outside,
        )
