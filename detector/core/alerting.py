"""Alerts: episodes of one stream, opened and closed, with the reason."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.core.model import Model
from detector.core.readings import Partition, ReadingBatch
from detector.core.states import Column, StreamStates
from detector.core.threshold import Event

NAMESPACE = uuid.UUID("5f0c3a52-6d3e-5b0e-9a57-6f0d3c1a7b42")

CRITICAL_BELOW = 1e-9
"""An alert whose evidence holds a score less probable than this is critical, otherwise a warning."""

Kind = Literal["score", "timeout", "stuck", "missing"]
Status = Literal["opened", "updated", "closed"]
Reason = Literal["evidence", "timeout", "stuck", "missing", "escalated", "cleared", "reset", "resumed", "unstuck", "resumed", "evicted"]
Severity = Literal["warning", "critical"]

REASON_OF: dict[int, Reason] = {Event.OPENED: "evidence", Event.WORSE: "escalated", Event.QUIET: "cleared", Event.ACCEPTED: "reset"}
STATUS_OF: dict[Reason, Status] = {
    "evidence": "opened",
    "timeout": "opened",
    "stuck": "opened",
    "missing": "opened",
    "escalated": "updated",
}
"""Every other reason closes an alert."""
IS_OPEN: dict[Kind, str] = {"score": "is_open", "timeout": "is_silent", "stuck": "is_stuck", "missing": "is_missing"}
"""The column that says whether an alert of that kind is open."""
OPENED_BY: dict[Kind, tuple[str, str, str]] = {
    "score": ("opened_offset", "opened_item", "opened_at_us"),
    "timeout": ("silent_offset", "silent_item", "silent_at_us"),
    "stuck": ("stuck_offset", "stuck_item", "stuck_at_us"),
    "missing": ("missing_offset", "missing_item", "missing_at_us"),
}
"""Which reading opened the alert: offset and item, and the event time."""

COLUMNS = {
    "opened_offset": Column("i8"),
    "opened_item": Column("i4"),
    "is_critical": Column("u1"),
}


@dataclass(frozen=True, slots=True)
class ChannelReason:
    """One channel at an alert, engineering units. `share` is its part of the alert, 0..1; NaN stands for missing.

    low, high   where 99 % of this channel's normal residuals would leave the reading
    """

    name: str
    observed: float
    expected: float
    low: float
    high: float
    share: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One event of an episode.

    id                 depends on kind, stream, partition and opening reading only: the same in every replay
    status             opened | updated | closed
    kind               score: the stream behaves strangely; timeout: it stopped; stuck: channels of it stopped moving; missing: they are gone
    reason             opened: evidence, or the kind; updated: escalated; closed: cleared | reset | resumed | unstuck | evicted
    severity           warning | critical
    opened_at_us       event time of the reading that opened it
    event_time_us      event time of the reading that this event follows from
    score              at this event; NaN unless the kind is score
    tail_probability   of that score, 0..1; NaN likewise
    channels           at this event, largest share first; empty for timeout; those that stopped for stuck and missing
    partition, offset  of the reading that this event follows from (for timeout: that moved the partition's time)
    position           place of that reading in the batch; orders the events, not part of the alert
    """

    id: str
    status: Status
    kind: Kind
    reason: Reason
    severity: Severity
    stream: str
    opened_at_us: int
    event_time_us: int
    score: float
    tail_probability: float
    channels: tuple[ChannelReason, ...]
    partition: Partition
    offset: int
    position: int


@lru_cache(maxsize=65_536)
def alert_id(kind: Kind, stream: str, partition: Partition, offset: int, item: int, opened_at_us: int) -> str:
    """The id of the alert that this reading opened for this stream: an RFC 9562 UUID, version 5.

    opened_at_us   its event time: in a topic that was made anew another reading has the same offset
    """
    return str(uuid.uuid5(NAMESPACE, f"{kind}\n{partition.topic}\n{partition.number}\n{offset}\n{item}\n{opened_at_us}\n{stream}"))


@dataclass(frozen=True, slots=True)
class Judged:
    """One judged reading, as the reason of an event: value, expected (engineering units) and e (scaled) f4[D]; score, p."""

    value: NDArray[np.float32]
    expected: NDArray[np.float32]
    x: NDArray[np.float32]
    e: NDArray[np.float32]
    score: float
    tail_probability: float


class Alerting:
    """Writes down what opened and closed. What decides is in `threshold`, `silence` and `stopped`."""

    def __init__(self, model: Model, states: StreamStates) -> None:
        self._model = model
        self._states = states

    def open_id(self, row: int, partition: Partition) -> str:
        """The id of the alert of kind score that is open for a row."""
        opened_by = (int(self._states[column][row]) for column in OPENED_BY["score"])
        return alert_id("score", self._states.stream(row), partition, *opened_by)

    def still_open(self) -> list[Alert]:
        """What is open in all memories, as far as they know it: as opened, without score and channels, with its severity of now."""
        states = self._states
        found = []
        for kind, is_open in IS_OPEN.items():
            for row in np.flatnonzero(states[is_open]).tolist():
                partition, stream = states.partition(row), states.stream(row)
                offset, item, opened_at_us = (int(states[column][row]) for column in OPENED_BY[kind])
                alert = Alert(
                    id=alert_id(kind, stream, partition, offset, item, opened_at_us),
                    status="opened",
                    kind=kind,
                    reason="evidence" if kind == "score" else kind,
                    severity="critical" if kind == "score" and states["is_critical"][row] else "warning",
                    stream=stream,
                    opened_at_us=opened_at_us,
                    event_time_us=opened_at_us,
                    score=np.nan,
                    tail_probability=np.nan,
                    channels=(),
                    partition=partition,
                    offset=offset,
                    position=0,
                )
                found.append(alert)
        return found

    def scored(self, batch: ReadingBatch, position: int, row: int, event: int, event_time_us: int, judged: Judged) -> Alert:
        """The alert that a judged reading opened, made worse or closed."""
        states = self._states
        if event == Event.OPENED:
            states["opened_offset"][row], states["opened_item"][row] = batch.offset[position], batch.item[position]
            states["is_critical"][row] = 0
        if event in (Event.OPENED, Event.WORSE):
            states["is_critical"][row] |= states["worst_p"][row] < CRITICAL_BELOW
        return self._alert(batch, position, row, event_time_us, REASON_OF[event], judged)

    def ended(self, batch: ReadingBatch, position: int, row: int, event_time_us: int, reason: Literal["evicted", "reset"]) -> Alert:
        """The end of an alert that no reading of its stream brought: the stream was away for too long, or a person accepted it.

        event_time_us  of the reading that shows it
        """
        return self._alert(batch, position, row, event_time_us, reason, None)

    def _alert(self, batch: ReadingBatch, position: int, row: int, event_time_us: int, reason: Reason, judged: Judged | None) -> Alert:
        partition = batch.partitions[batch.partition[position]]
        return Alert(
            id=self.open_id(row, partition),
            status=STATUS_OF.get(reason, "closed"),
            kind="score",
            reason=reason,
            severity="critical" if self._states["is_critical"][row] else "warning",
            stream=self._states.stream(row),
            opened_at_us=int(self._states["opened_at_us"][row]),
            event_time_us=event_time_us,
            score=judged.score if judged else np.nan,
            tail_probability=judged.tail_probability if judged else np.nan,
            channels=self.reasons(row, judged) if judged else (),
            partition=partition,
            offset=int(batch.offset[position]),
            position=position,
        )

    def reasons(self, row: int, judged: Judged, share: NDArray[np.floating[Any]] | None = None) -> tuple[ChannelReason, ...]:
        """The channels of the reading just judged, largest share first. share: f[D]; without it their parts of the score."""
        model = self._model
        units = model.scaling.of(np.array([row]), self._states)
        reach = model.reach(units).ravel()
        if share is None:
            share = model.scorer.shares(row, judged.x, judged.e, self._states, units.usual)
        return tuple(
            ChannelReason(
                name=model.channels[k],
                observed=float(judged.value[k]),
                expected=float(judged.expected[k]),
                low=float(judged.expected[k] - reach[k]),
                high=float(judged.expected[k] + reach[k]),
                share=float(share[k]),
            )
            for k in np.argsort(-share, kind="stable")
        )

    def unscored(
        self,
        batch: ReadingBatch,
        position: int,
        row: int,
        event_time_us: int,
        reason: Literal["timeout", "resumed", "stuck", "unstuck", "missing", "resumed", "reset", "evicted"],
        kind: Literal["timeout", "stuck", "missing"],
        channels: tuple[ChannelReason, ...] = (),
    ) -> Alert:
        """The alert that no score decides. It opens for the reason that its kind is named after, and closes for any other.

        event_time_us  of the reading that shows it
        """
        states, partition, columns = self._states, batch.partitions[batch.partition[position]], OPENED_BY[kind]
        if reason == kind:
            for column, value in zip(columns, (batch.offset[position], batch.item[position], event_time_us), strict=True):
                states[column][row] = value
        offset, item, opened_at_us = (int(states[column][row]) for column in columns)
        if reason != kind:
            for column in columns:
                states[column][row] = 0  # as in a row that was freed meanwhile
        return Alert(
            id=alert_id(kind, states.stream(row), partition, offset, item, opened_at_us),
            status=STATUS_OF.get(reason, "closed"),
            kind=kind,
            reason=reason,
            severity="warning",
            stream=states.stream(row),
            opened_at_us=opened_at_us,
            event_time_us=event_time_us,
            score=np.nan,
            tail_probability=np.nan,
            channels=channels,
            partition=partition,
            offset=int(batch.offset[position]),
            position=position,
        )
