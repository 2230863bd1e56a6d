"""What one Alertmanager is still to be told: the newest state of every alert, decided from the time that is handed in.

    opened  -->  held, sent after LINGER_S  -->  sent again every interval, for as long as it is open
                   |                               |
                   | closed: forgotten, unsent     | closed: sent until taken, then forgotten
                   v                               v

An alert that closes before it was sent is never sent. So that a backlog, judged within minutes, does not page for what was over hours
ago, a new alert also waits until its partition has caught up, for so many intervals at most.

Nothing here keeps a list of events: one entry per kind, stream, partition and severity, the newest wins. Where an alert becomes critical, the
warning ends as another begins: severity is a label, which people route by, and labels are an alert's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from detector.core.alerting import Alert
from detector.core.readings import Partition

LINGER_S = 1.0  # how old a worker's lag may be
WAIT_INTERVALS, WAIT_INTERVALS_RESTORED = 10, 1
"""How long an alert waits for its partition to catch up. What was open before may be known, and would end by itself after four."""
HELD_MAX = 50_000  # some 100 MB, and more than any Alertmanager is made for

Key: TypeAlias = tuple[str, str, Partition, str]
IsBehind: TypeAlias = Callable[[Partition], bool]
"""Whether a partition is still busy with what came in the past."""


@dataclass(frozen=True, slots=True)
class Held:
    """One alert. Times are seconds on the clock that is handed in.

    alert         as opened, or updated last; an alert of the restored memories has no channels
    begun_s       when it was heard of
    due_s         when it is to be sent (again)
    waits_until_s until then it is not sent while its partition is behind
    is_known      Alertmanager may have heard of it
    closed        the event that ended it
    ended_s       when that was heard of
    """

    alert: Alert
    begun_s: float
    due_s: float
    waits_until_s: float
    is_known: bool = False
    closed: Alert | None = None
    ended_s: float = 0.0


class Outbox:
    """The alerts of one Alertmanager.

    interval_s  between two sendings of an open alert
    held_max    alerts held; further ones are dropped
    """

    def __init__(self, interval_s: float, held_max: int = HELD_MAX) -> None:
        self._interval_s = interval_s
        self._held_max = held_max
        self._held: dict[Key, Held] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._held)

    def note(self, alert: Alert, now_s: float) -> None:
        """An alert was opened, got worse or was closed."""
        key = _key(alert)
        if alert.status == "closed":
            self._end(key, alert, now_s)
            return
        was_known = alert.severity == "critical" and self._end((*key[:3], "warning"), alert, now_s)
        held = self._held.get(key)
        if held is not None and held.closed is None and held.alert.id == alert.id:
            self._held[key] = replace(held, alert=alert, due_s=min(held.due_s, now_s + LINGER_S))
        else:
            wait_s = 0.0 if was_known else WAIT_INTERVALS * self._interval_s
            is_known = held is not None and held.is_known  # an episode before this one, whose end is still to be told
            self._hold(key, Held(alert, now_s, now_s + LINGER_S, now_s + wait_s, is_known))

    def restored(self, alerts: Iterable[Alert], now_s: float) -> None:
        """These are open, and no others."""
        listed = {_key(alert): alert for alert in alerts}
        self._drop(key for key, held in self._held.items() if held.closed is None and key not in listed)
        for key, alert in listed.items():
            held = self._held.get(key)
            if held is None or held.closed is not None or held.alert.id != alert.id:
                wait_s = WAIT_INTERVALS_RESTORED * self._interval_s
                self._hold(key, Held(alert, now_s, now_s, now_s + wait_s, is_known=True))

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Another worker tells of what is open there. What ended here is still told here."""
        gone = set(partitions)
        self._drop(key for key, held in self._held.items() if held.closed is None and held.alert.partition in gone)

    def due(self, now_s: float, is_behind: IsBehind) -> list[Held]:
        """What is to be sent now. It counts as known from here on: an answer that does not come may have been a yes."""
        ready = [
            key
            for key, held in self._held.items()
            if held.due_s <= now_s and (held.closed is not None or held.waits_until_s <= now_s or not is_behind(held.alert.partition))
        ]
        for key in ready:
            self._held[key] = replace(self._held[key], is_known=True)
        return [self._held[key] for key in ready]

    def holds(self, held: Held) -> bool:
        """Whether this is still how it stands."""
        return self._held.get(_key(held.alert)) is held

    def taken(self, sent: Sequence[Held], now_s: float) -> None:
        """Alertmanager took these. What changed meanwhile is due as it is now."""
        for held in sent:
            if not self.holds(held):
                continue
            if held.closed is not None:
                del self._held[_key(held.alert)]
            else:
                self._held[_key(held.alert)] = replace(held, due_s=now_s + self._interval_s, waits_until_s=now_s)

    def refused(self, held: Held) -> None:
        """Alertmanager will never take this one as it is."""
        self.dropped += 1
        if self.holds(held):
            del self._held[_key(held.alert)]

    def _hold(self, key: Key, held: Held) -> None:
        if key not in self._held and len(self._held) >= self._held_max:
            self.dropped += 1
        else:
            self._held[key] = held

    def _end(self, key: Key, closed: Alert, now_s: float) -> bool:
        """The alert is over; whether it was one that Alertmanager may know of."""
        held = self._held.get(key)
        if held is None or held.closed is not None:
            return False
        if held.is_known:
            self._held[key] = replace(held, closed=closed, ended_s=now_s, due_s=now_s + LINGER_S)
        else:
            del self._held[key]
        return held.is_known

    def _drop(self, keys: Iterable[Key]) -> None:
        for key in list(keys):
            del self._held[key]


def _key(alert: Alert) -> Key:
    return alert.kind, alert.stream, alert.partition, alert.severity
