"""Which alerts find which faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from detector.core.alerts import Kind
from detector.lab.faults import USUAL_KINDS, Fault, FaultKind

SAYS: dict[Kind, FaultKind] = {"stuck": FaultKind.FROZEN_VALUE, "missing": FaultKind.DROPPED_CHANNEL}
"""Kinds of alerts that say which kind of fault they found."""


class Opening(NamedTuple):
    """An alert, as far as matching is concerned: whose it is, when it opened (event time), and of which kind it is."""

    stream: str
    opened_at_us: int
    kind: Kind = "score"


@dataclass(frozen=True, slots=True)
class KindSummary:
    """Faults of one kind: how many there were and were found, and the median delay of those found (None: none was)."""

    injected: int
    found: int
    delay_to_alert_s_median: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What the alerts were worth.

    false_alerts             alerts that belong to no fault
    stream_hours             simulated time of all streams together, faults included
    delay_to_alert_s_median  from a fault's start to its first alert, over the faults found; None if none was
    kinds                    the same per kind, in the order of `FaultKind`: the usual ones, and what else was injected
    missed, false            the faults that no alert found, and the alerts that belong to none
    """

    faults_injected: int
    faults_found: int
    false_alerts: int
    stream_hours: float
    delay_to_alert_s_median: float | None
    kinds: Mapping[FaultKind, KindSummary]
    missed: tuple[Fault, ...]
    false: tuple[Opening, ...]


def match(faults: Sequence[Fault], alerts: Iterable[Opening], *, tolerance_us: int, stream_hours: float) -> Summary:
    """Set faults and alerts against each other, stream by stream.

    An alert belongs to the fault of its stream that began last before it opened, if it opened no later than `tolerance_us`
    after that fault's end; otherwise it is false, also in the warm-up. A fault is found if an alert belongs to it; by an alert of
    kind stuck only if it is a frozen value, of kind missing only if it is a dropped channel: such an alert says what it found. An alert
    that was open before the fault began says nothing about it and does not find it.

    tolerance_us  a fault's end is as strange as its start (the signal leaps back, the memory holds what was wrong), and
                  evidence for a short fault may only suffice after it; a few cycles is fair
    """
    of_stream: dict[str, list[Fault]] = defaultdict(list)
    for fault in sorted(faults, key=lambda fault: fault.start_us):
        of_stream[fault.stream].append(fault)
    delay_s: dict[Fault, float] = {}
    false: list[Opening] = []
    for alert in sorted(alerts, key=lambda alert: alert.opened_at_us):
        begun = [fault for fault in of_stream[alert.stream] if fault.start_us <= alert.opened_at_us]
        if begun and alert.opened_at_us <= begun[-1].end_us + tolerance_us:
            if begun[-1].kind is SAYS.get(alert.kind, begun[-1].kind):
                delay_s.setdefault(begun[-1], (alert.opened_at_us - begun[-1].start_us) / 1e6)
        else:
            false.append(alert)
    injected = {fault.kind for fault in faults}.union(USUAL_KINDS)
    return Summary(
        faults_injected=len(faults),
        faults_found=len(delay_s),
        false_alerts=len(false),
        stream_hours=stream_hours,
        delay_to_alert_s_median=_median(list(delay_s.values())),
        kinds={kind: _of_kind(kind, faults, delay_s) for kind in FaultKind if kind in injected},
        missed=tuple(fault for fault in faults if fault not in delay_s),
        false=tuple(false),
    )


def _of_kind(kind: FaultKind, faults: Sequence[Fault], delay_s: Mapping[Fault, float]) -> KindSummary:
    delays = [delay for fault, delay in delay_s.items() if fault.kind is kind]
    return KindSummary(sum(fault.kind is kind for fault in faults), len(delays), _median(delays))


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
