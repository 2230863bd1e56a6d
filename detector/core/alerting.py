"""Alerts: episodes of one stream, opened and closed, with the reason."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.core.model import Model
from detector.core.readings import Partition, ReadingBatch
from detector.core.states import Column, StreamStates
from detector.core.threshold import Event

NAMESPACE = uuid.UUID("5f0c3a52-6d3e-5b0e-9a57-6f0d3c1a7b42")

CRITICAL_BELOW = 1e-9
"""An alert whose evidence holds a score less probable than this is critical, otherwise a warning."""

Kind = Literal["score", "silence"]
Reason = Literal["evidence", "silence", "quiet", "accepted", "returned", "forgotten"]
Severity = Literal["warning", "critical"]

REASON_OF: dict[int, Reason] = {Event.OPENED: "evidence", Event.QUIET: "quiet", Event.ACCEPTED: "accepted"}

COLUMNS = {
    "opened_offset": Column("i8"),
    "opened_item": Column("i4"),
    "is_critical": Column("u1"),
}


@dataclass(frozen=True, slots=True)
class ChannelReason:
    """One channel at an alert, engineering units. `share` is its part of the score, 0..1; NaN stands for missing.

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

    id                 depends on stream, partition and opening reading only: the same in every replay
    status             opened | closed
    kind               score: the stream behaves strangely; silence: it stopped
    reason             opened: evidence | silence; closed: quiet | accepted | returned | forgotten
    severity           warning | critical
    opened_at_us       event time of the reading that opened it
    event_time_us      event time of the reading that this event follows from
    score              at this event; NaN for silence
    tail_probability   of that score, 0..1; NaN for silence
    channels           at this event, largest share first; empty for silence
    partition, offset  of the reading that this event follows from (for silence: that moved the partition's time)
    position           place of that reading in the batch; orders the events, not part of the alert
    """

    id: str
    status: Literal["opened", "closed"]
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
def alert_id(kind: Kind, stream: str, partition: Partition, offset: int, item: int) -> str:
    """The id of the alert that this reading opened for this stream: an RFC 9562 UUID, version 5."""
    return str(uuid.uuid5(NAMESPACE, f"{kind}\n{partition.topic}\n{partition.number}\n{offset}\n{item}\n{stream}"))


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
    """Writes down what opened and closed. What decides is in `threshold` and `silence`."""

    def __init__(self, model: Model, states: StreamStates) -> None:
        self._model = model
        self._states = states

    def open_id(self, row: int, partition: Partition) -> str:
        """The id of the alert of kind score that is open for a row."""
        offset, item = int(self._states["opened_offset"][row]), int(self._states["opened_item"][row])
        return alert_id("score", self._states.stream(row), partition, offset, item)

    def scored(self, batch: ReadingBatch, position: int, row: int, event: int, event_time_us: int, judged: Judged) -> Alert:
        """The alert that a judged reading opened or closed."""
        states = self._states
        if event == Event.OPENED:
            states["opened_offset"][row], states["opened_item"][row] = batch.offset[position], batch.item[position]
            states["is_critical"][row] = states["worst_p"][row] < CRITICAL_BELOW
        return self._alert(batch, position, row, event_time_us, REASON_OF[event], judged)

    def forgotten(self, batch: ReadingBatch, position: int, row: int, event_time_us: int) -> Alert:
        """The end of an alert whose stream was away for so long that it is forgotten. event_time_us: of the reading that shows it."""
        return self._alert(batch, position, row, event_time_us, "forgotten", None)

    def _alert(self, batch: ReadingBatch, position: int, row: int, event_time_us: int, reason: Reason, judged: Judged | None) -> Alert:
        partition = batch.partitions[batch.partition[position]]
        return Alert(
            id=self.open_id(row, partition),
            status="opened" if reason == "evidence" else "closed",
            kind="score",
            reason=reason,
            severity="critical" if self._states["is_critical"][row] else "warning",
            stream=self._states.stream(row),
            opened_at_us=int(self._states["opened_at_us"][row]),
            event_time_us=event_time_us,
            score=judged.score if judged else np.nan,
            tail_probability=judged.tail_probability if judged else np.nan,
            channels=self._channels(row, judged) if judged else (),
            partition=partition,
            offset=int(batch.offset[position]),
            position=position,
        )

    def _channels(self, row: int, judged: Judged) -> tuple[ChannelReason, ...]:
        model = self._model
        units = model.scaling.of(np.array([row]), self._states)
        share = model.scorer.shares(row, judged.x, judged.e, self._states, units.usual)
        band = (model.scorer.error_scale * units.residual * units.scale).ravel()
        return tuple(
            ChannelReason(
                name=model.channels[k],
                observed=float(judged.value[k]),
                expected=float(judged.expected[k]),
                low=float(judged.expected[k] - band[k]),
                high=float(judged.expected[k] + band[k]),
                share=float(share[k]),
            )
            for k in np.argsort(-share, kind="stable")
        )

    def silent(
        self, batch: ReadingBatch, position: int, row: int, event_time_us: int, reason: Literal["silence", "returned", "forgotten"]
    ) -> Alert:
        """The alert of a stream that fell silent, was heard again, or was forgotten. event_time_us: of the reading that shows it."""
        states, partition = self._states, batch.partitions[batch.partition[position]]
        if reason == "silence":
            states["silent_offset"][row], states["silent_item"][row] = batch.offset[position], batch.item[position]
            states["silent_at_us"][row] = event_time_us
        offset, item, opened_at_us = (int(states[name][row]) for name in ("silent_offset", "silent_item", "silent_at_us"))
        if reason != "silence":
            for name in ("silent_offset", "silent_item", "silent_at_us"):
                states[name][row] = 0  # as in a row that was freed meanwhile
        return Alert(
            id=alert_id("silence", states.stream(row), partition, offset, item),
            status="opened" if reason == "silence" else "closed",
            kind="silence",
            reason=reason,
            severity="warning",
            stream=states.stream(row),
            opened_at_us=opened_at_us,
            event_time_us=event_time_us,
            score=np.nan,
            tail_probability=np.nan,
            channels=(),
            partition=partition,
            offset=int(batch.offset[position]),
            position=position,
        )
