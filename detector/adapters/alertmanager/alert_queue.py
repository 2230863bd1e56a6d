"""The alerts that one Alertmanager is still to be sent, and when each is due.

    opened  -->  queued, sent after SEND_DELAY_S  -->  sent again every interval, for as long as it is open
                   |                                     |
                   | closed: removed, unsent             | closed: sent until accepted, then removed
                   v                                     v

An alert that closes before it was sent is never sent. A backlog that is judged within minutes must not page for what was over hours ago: so a
new alert also waits until its partition has caught up, for so many intervals at most.

The queue holds the newest state of each alert, one entry per kind, stream, partition and severity, and no list of events. Where an alert
becomes critical, the warning ends as another begins: severity is a label, which people route by, and labels are an alert's identity.

The time is handed in: nothing here looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from detector.core.alerts import Alert
from detector.core.readings import Partition

SEND_DELAY_S = 1.0  # how old a worker's lag may be
WAIT_INTERVALS, WAIT_INTERVALS_RESTORED = 10, 1
"""How long an alert waits for its partition to catch up. What was open before may be known, and would end by itself after four."""
ALERTS_MAX = 50_000  # some 100 MB, and more than any Alertmanager is made for

Key: TypeAlias = tuple[str, str, Partition, str]
IsBehind: TypeAlias = Callable[[Partition], bool]
"""Whether a partition is still busy with what came in the past."""


@dataclass(frozen=True, slots=True)
class QueuedAlert:
    """One alert. Times are seconds on the clock that is handed in.

    alert         as opened, or updated last; an alert of restored state has no channels
    since_s       when it was queued
    due_s         when it is to be sent (again)
    waits_until_s until then it is not sent while its partition is behind
    may_be_known  Alertmanager may have heard of it
    closed        the event that ended it
    ended_s       when that was queued
    """

    alert: Alert
    since_s: float
    due_s: float
    waits_until_s: float
    may_be_known: bool = False
    closed: Alert | None = None
    ended_s: float = 0.0


class AlertQueue:
    """The alerts of one Alertmanager.

    interval_s  between two sendings of an open alert
    alerts_max  alerts queued; further ones are dropped

    dropped     alerts that it will not be sent: it rejected them, or there were too many
    """

    def __init__(self, interval_s: float, alerts_max: int = ALERTS_MAX) -> None:
        self._interval_s = interval_s
        self._alerts_max = alerts_max
        self._alerts: dict[Key, QueuedAlert] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._alerts)

    def update(self, alert: Alert, now_s: float) -> None:
        """An alert was opened, got worse or was closed."""
        key = _key(alert)
        if alert.status == "closed":
            self._close(key, alert, now_s)
            return
        was_known = alert.severity == "critical" and self._close((*key[:3], "warning"), alert, now_s)
        queued = self._alerts.get(key)
        if queued is not None and queued.closed is None and queued.alert.id == alert.id:
            self._alerts[key] = replace(queued, alert=alert, due_s=min(queued.due_s, now_s + SEND_DELAY_S))
        else:
            wait_s = 0.0 if was_known else WAIT_INTERVALS * self._interval_s
            may_be_known = queued is not None and queued.may_be_known  # an episode before this one, whose end is still to be sent
            self._put(key, QueuedAlert(alert, now_s, now_s + SEND_DELAY_S, now_s + wait_s, may_be_known))

    def restored(self, alerts: Iterable[Alert], now_s: float) -> None:
        """These are open, and no others."""
        listed = {_key(alert): alert for alert in alerts}
        self._remove(key for key, queued in self._alerts.items() if queued.closed is None and key not in listed)
        for key, alert in listed.items():
            queued = self._alerts.get(key)
            if queued is None or queued.closed is not None or queued.alert.id != alert.id:
                wait_s = WAIT_INTERVALS_RESTORED * self._interval_s
                self._put(key, QueuedAlert(alert, now_s, now_s, now_s + wait_s, may_be_known=True))

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Another worker sends what is open there. What ended here is still sent from here."""
        gone = set(partitions)
        self._remove(key for key, queued in self._alerts.items() if queued.closed is None and queued.alert.partition in gone)

    def due(self, now_s: float, is_behind: IsBehind) -> list[QueuedAlert]:
        """The alerts to send now. They may be known from here on: a request without an answer may have arrived."""
        ready = [
            key
            for key, queued in self._alerts.items()
            if queued.due_s <= now_s
            and (queued.closed is not None or queued.waits_until_s <= now_s or not is_behind(queued.alert.partition))
        ]
        for key in ready:
            self._alerts[key] = replace(self._alerts[key], may_be_known=True)
        return [self._alerts[key] for key in ready]

    def is_current(self, queued: QueuedAlert) -> bool:
        """Whether nothing has happened to the alert since."""
        return self._alerts.get(_key(queued.alert)) is queued

    def accepted(self, sent: Sequence[QueuedAlert], now_s: float) -> None:
        """Alertmanager accepted these. What changed meanwhile is due as it is now."""
        for queued in sent:
            if not self.is_current(queued):
                continue
            if queued.closed is not None:
                del self._alerts[_key(queued.alert)]
            else:
                self._alerts[_key(queued.alert)] = replace(queued, due_s=now_s + self._interval_s, waits_until_s=now_s)

    def rejected(self, queued: QueuedAlert) -> None:
        """Alertmanager will never accept this one as it is."""
        self.dropped += 1
        if self.is_current(queued):
            del self._alerts[_key(queued.alert)]

    def _put(self, key: Key, queued: QueuedAlert) -> None:
        if key not in self._alerts and len(self._alerts) >= self._alerts_max:
            self.dropped += 1
        else:
            self._alerts[key] = queued

    def _close(self, key: Key, closed: Alert, now_s: float) -> bool:
        """The alert is over; whether it was one that Alertmanager may know of."""
        queued = self._alerts.get(key)
        if queued is None or queued.closed is not None:
            return False
        if queued.may_be_known:
            self._alerts[key] = replace(queued, closed=closed, ended_s=now_s, due_s=now_s + SEND_DELAY_S)
        else:
            del self._alerts[key]
        return queued.may_be_known

    def _remove(self, keys: Iterable[Key]) -> None:
        for key in list(keys):
            del self._alerts[key]


def _key(alert: Alert) -> Key:
    return alert.kind, alert.stream, alert.partition, alert.severity
