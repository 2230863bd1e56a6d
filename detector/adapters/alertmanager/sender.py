"""Alerts onward to Alertmanager: `POST /api/v2/alerts`, at least once, to every Alertmanager of a cluster, as Prometheus does.

The log stays the truth. What has become true is put into an `Outbox` per Alertmanager, on the worker's thread; a thread of each sends what
is due. Judging never waits for any of them. What an Alertmanager does not take (`client`):

    refused   the other alerts of the request are sent without it; it is dropped, and said once
    shut      said once, tried again an interval later
    away      said once, tried again with back-off and full jitter

Every interval without an alert an empty list is sent: who cannot be reached is known before there is something to tell.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock, Thread

from detector.adapters.alertmanager.alert_queue import LINGER_S, Held, Outbox
from detector.adapters.alertmanager.client import Client, NotTaken, Remedy
from detector.codec.alertmanager import AlertmanagerEncoder, Posting
from detector.codec.readings import Decoded
from detector.config import Alertmanager
from detector.core.alerting import Alert
from detector.core.readings import Partition
from detector.core.verdicts import Verdicts
from detector.ports import AlertmanagerStats, Observer, WorkerStats

logger = logging.getLogger(__name__)

ALERTS_PER_REQUEST_MAX = 100  # some 200 kB: proxies take one megabyte by default
OPEN_INTERVALS = 4  # an open alert ends by itself if it is not sent again for so long, as Prometheus' do: its detector has died
TICK_S = 0.25
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.5, 30.0
LAST_ATTEMPT_S = 2.0


class Alertmanagers(Observer):
    """Tells every configured Alertmanager what has become true; from its making until it is closed.

    behind_messages  a partition with more to read than this is still busy with the past
    now_us           the clock, microseconds since the epoch

    raises ConfigError  as `Client`
    """

    def __init__(
        self,
        settings: Alertmanager,
        encoder: AlertmanagerEncoder,
        stats: WorkerStats,
        behind_messages: int,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        def is_behind(partition: Partition) -> bool:
            return stats.lag.get(partition, behind_messages + 1) > behind_messages

        self._senders = [Sender(Client(url, settings), encoder, settings.resend_interval_s, is_behind, now_us) for url in settings.url]

    @property
    def onward(self) -> list[AlertmanagerStats]:
        """How it goes, per Alertmanager."""
        return [sender.onward for sender in self._senders]

    def observe(self, decoded: Decoded, verdicts: Verdicts, seconds: Mapping[str, float]) -> None:
        """See `ports.Observer`."""
        if verdicts.alerts:
            for sender in self._senders:
                sender.note(verdicts.alerts)

    def restored(self, alerts: Sequence[Alert]) -> None:
        """See `ports.Observer`."""
        for sender in self._senders:
            sender.restored(alerts)

    def forget(self, partitions: Sequence[Partition]) -> None:
        """See `ports.Observer`."""
        for sender in self._senders:
            sender.forget(partitions)

    def close(self) -> None:
        """Try once more to send what is unsent. What is open stays so: the next worker sends it again."""
        for sender in self._senders:
            sender.stop.set()
        deadline_s = time.monotonic() + LAST_ATTEMPT_S
        for sender in self._senders:
            sender.thread.join(max(0.0, deadline_s - time.monotonic()))


class Sender:
    """Sends to one Alertmanager, on a thread of its own."""

    def __init__(
        self,
        client: Client,
        encoder: AlertmanagerEncoder,
        interval_s: float,
        is_behind: Callable[[Partition], bool],
        now_us: Callable[[], int],
    ) -> None:
        self.onward = AlertmanagerStats(client.url)
        self.stop = Event()
        self._client = client
        self._encoder = encoder
        self._interval_s = interval_s
        self._is_behind = is_behind
        self._now_us = now_us
        self._outbox = Outbox(interval_s)
        self._lock = Lock()  # held for moments, never during a request
        self._heard_s = float("-inf")
        self._attempts = 0
        self._said = ""
        self.thread = Thread(target=self._run, name="alertmanager", daemon=True)
        self.thread.start()

    def note(self, alerts: Sequence[Alert]) -> None:
        """These were opened, got worse or were closed, in this order."""
        with self._lock:
            for alert in alerts:
                self._outbox.note(alert, time.monotonic())

    def restored(self, alerts: Sequence[Alert]) -> None:
        """These are open, and no others."""
        with self._lock:
            self._outbox.restored(alerts, time.monotonic())

    def forget(self, partitions: Sequence[Partition]) -> None:
        """Another worker tells of what is open there."""
        with self._lock:
            self._outbox.forget(partitions)

    def _run(self) -> None:
        pause_s = 0.0
        while not self.stop.wait(pause_s):
            pause_s = self._send()
        self._send(LINGER_S)

    def _send(self, ahead_s: float = 0.0) -> float:
        """Send what is due, or will be after `ahead_s`; how long to wait until the next time, seconds."""
        with self._lock:
            due = self._outbox.due(time.monotonic() + ahead_s, self._is_behind)
        try:
            for first in range(0, len(due), ALERTS_PER_REQUEST_MAX):
                with self._lock:  # the requests before this one took their time
                    batch = [held for held in due[first : first + ALERTS_PER_REQUEST_MAX] if self._outbox.holds(held)]
                self._post(batch)
            if time.monotonic() - self._heard_s >= self._interval_s:
                self._post([])
        except NotTaken as error:
            return self._pause_s(error)
        finally:
            self.onward.held, self.onward.dropped = len(self._outbox), self._outbox.dropped
        return TICK_S

    def _post(self, batch: Sequence[Held]) -> None:
        """Send alerts; those that are refused are found by halves.

        raises NotTaken  it is not a matter of single alerts
        """
        now_s, now_us = time.monotonic(), self._now_us()
        try:
            self._client.post([self._posting(held, now_s, now_us) for held in batch])
        except NotTaken as error:
            self.onward.failures += 1
            if error.remedy is not Remedy.DROP or not batch:
                raise
            if len(batch) > 1:
                self._post(batch[: len(batch) // 2])
                self._post(batch[len(batch) // 2 :])
            else:
                self._post([])  # whether it takes anything at all
                self._drop(batch[0], error)
            return
        if self._said:
            logger.info("Alertmanager takes alerts again", extra={"url": self._client.url})
        self._attempts, self._said, self._heard_s = 0, "", now_s
        self.onward.sent += len(batch)
        with self._lock:
            self._outbox.taken(batch, now_s)

    def _posting(self, held: Held, now_s: float, now_us: int) -> Posting:
        """The alert by the clock: event time may be ahead of it, and a replay's lies years back."""
        begun_us = now_us - int((now_s - held.begun_s) * 1e6)
        starts_us = min(held.alert.opened_at_us, begun_us)
        over_us = now_us - int((now_s - held.ended_s) * 1e6) if held.closed else now_us + int(OPEN_INTERVALS * self._interval_s * 1e6)
        return self._encoder.posting(held.alert, held.closed, starts_us, max(over_us, starts_us))

    def _drop(self, held: Held, error: NotTaken) -> None:
        with self._lock:
            self._outbox.refused(held)
        logger.warning(
            "an alert is dropped: Alertmanager refuses it", extra={"reason": str(error), "stream": held.alert.stream, "id": held.alert.id}
        )

    def _pause_s(self, error: NotTaken) -> float:
        """Say it, if it is news; how long to wait before the next attempt."""
        if str(error) != self._said:
            self._said = str(error)
            logger.warning("Alertmanager does not take alerts", extra={"reason": str(error), "fix": error.fix})
        if error.remedy is not Remedy.RETRY:
            return self._interval_s
        bound_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(self._attempts, 40))
        self._attempts += 1
        return random.uniform(0, bound_s)  # noqa: S311 - spreads retries; nothing secret
