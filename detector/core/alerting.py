"""Alerts: episodes of one stream, opened and closed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

from detector.core.readings import Partition

NAMESPACE = uuid.UUID("5f0c3a52-6d3e-5b0e-9a57-6f0d3c1a7b42")


@dataclass(frozen=True, slots=True)
class ChannelReason:
    """One channel at an alert, engineering units. `share` is its part of the score, 0..1; NaN stands for missing."""

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
    reason             opened: evidence | silence; closed: quiet | accepted | returned
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
    kind: Literal["score", "silence"]
    reason: Literal["evidence", "silence", "quiet", "accepted", "returned"]
    severity: Literal["warning", "critical"]
    stream: str
    opened_at_us: int
    event_time_us: int
    score: float
    tail_probability: float
    channels: tuple[ChannelReason, ...]
    partition: Partition
    offset: int
    position: int


def alert_id(kind: str, stream: str, partition: Partition, offset: int, item: int) -> str:
    """The id of the alert that this stream's reading opened: an RFC 9562 UUID, version 5."""
    return str(uuid.uuid5(NAMESPACE, f"{kind}\n{partition.topic}\n{partition.number}\n{offset}\n{item}\n{stream}"))
