"""Alerts: episodes of one stream, opened and closed, with the reason."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detector.core import events
from detector.core.readings import Partition, ReadingBatch
from detector.core.state_store import StateStore

NAMESPACE = uuid.UUID("5f0c3a52-6d3e-5b0e-9a57-6f0d3c1a7b42")

Kind = Literal["score", "timeout", "stuck", "missing"]
Status = Literal["opened", "updated", "closed"]
Reason = Literal["evidence", "timeout", "stuck", "missing", "escalated", "cleared", "reset", "resumed", "unstuck", "evicted"]
Severity = Literal["warning", "critical"]
KINDS: tuple[Kind, ...] = ("score", "timeout", "stuck", "missing")
REASONS: tuple[Reason, ...] = ("evidence", "timeout", "stuck", "missing", "escalated", "cleared", "reset", "resumed", "unstuck", "evicted")
assert events.KINDS == KINDS
assert events.REASONS == REASONS


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
    kind               score: the stream behaves strangely; timeout: it stopped; stuck: channels of it stopped moving; missing: channels are gone
    reason             opened: evidence | timeout | stuck | missing; updated: escalated; closed: cleared | reset | resumed | unstuck | evicted
    severity           warning | critical
    opened_at_us       event time of the reading that opened it
    event_time_us      event time of the reading that this event follows from
    score              at this event; NaN for all other kinds than score
    tail_probability   of that score, 0..1; NaN likewise
    channels           at this event, those outside their band first, then by share; empty for timeout; those that it is about for stuck and missing
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


def status_of(reason: Reason) -> Status:
    """What an alert is after an event for this reason."""
    code = REASONS.index(reason)
    return "opened" if code in events.OPENS else "updated" if code == events.ESCALATED else "closed"


def alert_of(event: Any, detail: NDArray[np.float32] | None, batch: ReadingBatch, store: StateStore, channels: tuple[str, ...]) -> Alert:
    """The alert that an event is. event: of type EVENT; its row is not free yet; detail f4[5, D]."""
    position, row = int(event["position"]), int(event["row"])
    kind, reason = KINDS[event["kind"]], REASONS[event["reason"]]
    partition, stream, opened_at_us = store.partition(row), store.stream(row), int(event["opened_at_us"])
    return Alert(
        id=alert_id(kind, stream, partition, int(event["offset"]), int(event["item"]), opened_at_us),
        status=status_of(reason),
        kind=kind,
        reason=reason,
        severity="critical" if event["is_critical"] else "warning",
        stream=stream,
        opened_at_us=opened_at_us,
        event_time_us=int(event["event_time_us"]),
        score=float(event["score"]),
        tail_probability=float(event["tail_probability"]),
        channels=() if detail is None else _channels_of(detail, channels, only_about=kind != "score"),
        partition=partition,
        offset=int(batch.offset[position]),
        position=position,
    )


def _channels_of(detail: NDArray[np.float32], names: tuple[str, ...], *, only_about: bool) -> tuple[ChannelReason, ...]:
    share = detail[events.SHARE]
    is_inside = np.abs(detail[events.OBSERVED] - detail[events.EXPECTED]) <= detail[events.REACH]
    order = np.lexsort((-share, is_inside))
    return tuple(
        ChannelReason(
            name=names[k],
            observed=float(detail[events.OBSERVED, k]),
            expected=float(detail[events.EXPECTED, k]),
            low=float(detail[events.EXPECTED, k] - detail[events.REACH, k]),
            high=float(detail[events.EXPECTED, k] + detail[events.REACH, k]),
            share=float(share[k]),
        )
        for k in order[: int(detail[events.IS_ABOUT].sum()) if only_about else len(order)].tolist()
    )


def still_open(store: StateStore) -> list[Alert]:
    """What is open in all streams' state: as opened, without score and channels, with its severity of now."""
    found = []
    for kind in KINDS:
        for row in store.rows_with(f"{kind}_open").tolist():
            head = store.heads[row]
            partition, stream = store.partition(row), store.stream(row)
            offset, item, opened_at_us = (int(head[f"{kind}_{name}"]) for name in ("offset", "item", "opened_at_us"))
            found.append(
                Alert(
                    id=alert_id(kind, stream, partition, offset, item, opened_at_us),
                    status="opened",
                    kind=kind,
                    reason="evidence" if kind == "score" else kind,
                    severity="critical" if kind == "score" and head["is_critical"] else "warning",
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
            )
    return found
