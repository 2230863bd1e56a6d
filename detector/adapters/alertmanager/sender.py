"""Sends alerts to Alertmanager: `POST /api/v2/alerts`, at least once, to every Alertmanager of a cluster, as Prometheus does.

What is committed is put into an `AlertQueue` per Alertmanager, on the worker's thread. A thread of each sends what is due. Judging never waits
for any of them. What happens to a request that is not accepted follows from its `client.Remedy`:

    DROP         the other alerts of the request are sent without the rejected one, which is dropped and logged once
    RECONFIGURE  logged once, tried again an interval later
    RETRY        logged once, tried again with back-off and full jitter

Every interval without an alert an empty list is sent: an Alertmanager that cannot be reached is known before there is an alert to send.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock, Thread

from detector.adapters.alertmanager.alert_queue import SEND_DELAY_S, AlertQueue, QueuedAlert
from detector.adapters.alertmanager.client import Client, NotAccepted, Remedy
from detector.backoff import Backoff
from detector.codec.alertmanager import AlertmanagerEncoder, Posting
from detector.codec.readings import Decoded
from detector.config import Alertmanager
from detector.core.alerts import Alert
from detector.core.batch_result import BatchResult
from detector.core.readings import Partition
from detector.ports import AlertmanagerStats, Observer, WorkerStats

logger = logging.getLogger(__name__)

ALERTS_PER_REQUEST_MAX = 100  # some 200 kB: proxies take one megabyte by default
OPEN_INTERVALS = 4  # an open alert ends by itself if it is not sent again for so long, as Prometheus' do: its detector has died
TICK_S = 0.25
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.5, 30.0
LAST_ATTEMPT_S = 2.0


class Alertmanagers(Observer):
    """Sends what is committed to every configured Alertmanager; from its making until it is closed.

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
    def stats(self) -> list[AlertmanagerStats]:
        """What was sent, per Alertmanager."""
        return [sender.stats for sender in self._senders]

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        """See `ports.Observer`."""
        if result.alerts:
            for sender in self._senders:
                sender.update(result.alerts)

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
        self.stats = AlertmanagerStats(client.url)
        self.stop = Event()
        self._client = client
        self._encoder = encoder
        self._interval_s = interval_s
        self._is_behind = is_behind
        self._now_us = now_us
        self._queue = AlertQueue(interval_s)
        self._lock = Lock()  # held for moments, never during a request
        self._answered_s = float("-inf")
        self._backoff = Backoff(BACKOFF_S_MIN, BACKOFF_S_MAX, random.Random())  # noqa: S311 - spreads retries; nothing secret
        self._last_reason = ""
        self.thread = Thread(target=self._run, name="alertmanager", daemon=True)
        self.thread.start()

    def update(self, alerts: Sequence[Alert]) -> None:
        """These were opened, got worse or were closed, in this order."""
        with self._lock:
            for alert in alerts:
                self._queue.update(alert, time.monotonic())

    def restored(self, alerts: Sequence[Alert]) -> None:
        """These are open, and no others."""
        with self._lock:
            self._queue.restored(alerts, time.monotonic())

    def forget(self, partitions: Sequence[Partition]) -> None:
        """Another worker sends what is open there."""
        with self._lock:
            self._queue.forget(partitions)

    def _run(self) -> None:
        pause_s = 0.0
        while not self.stop.wait(pause_s):
            pause_s = self._send()
        self._send(SEND_DELAY_S)

    def _send(self, ahead_s: float = 0.0) -> float:
        """Send what is due, or will be after `ahead_s`; how long to wait until the next time, seconds."""
        with self._lock:
            due = self._queue.due(time.monotonic() + ahead_s, self._is_behind)
        try:
            for first in range(0, len(due), ALERTS_PER_REQUEST_MAX):
                with self._lock:  # the requests before this one took their time
                    batch = [queued for queued in due[first : first + ALERTS_PER_REQUEST_MAX] if self._queue.is_current(queued)]
                self._post(batch)
            if time.monotonic() - self._answered_s >= self._interval_s:
                self._post([])
        except NotAccepted as error:
            return self._pause_s(error)
        finally:
            self.stats.queued, self.stats.dropped = len(self._queue), self._queue.dropped
        return TICK_S

    def _post(self, batch: Sequence[QueuedAlert]) -> None:
        """Send alerts; those that are rejected are found by halves.

        raises NotAccepted  it is not a matter of single alerts
        """
        now_s, now_us = time.monotonic(), self._now_us()
        try:
            self._client.post([self._posting(queued, now_s, now_us) for queued in batch])
        except NotAccepted as error:
            self.stats.failures += 1
            if error.remedy is not Remedy.DROP or not batch:
                raise
            if len(batch) > 1:
                self._post(batch[: len(batch) // 2])
                self._post(batch[len(batch) // 2 :])
            else:
                self._post([])  # see whether it accepts anything at all
                self._remove(batch[0], error)
            return
        if self._last_reason:
            logger.info("Alertmanager takes alerts again", extra={"url": self._client.url})
        self._backoff.reset()
        self._last_reason, self._answered_s = "", now_s
        self.stats.sent += len(batch)
        with self._lock:
            self._queue.accepted(batch, now_s)

    def _posting(self, queued: QueuedAlert, now_s: float, now_us: int) -> Posting:
        """The alert by the clock: event time may be ahead of it, and a replay's lies years back."""
        begun_us = now_us - int((now_s - queued.since_s) * 1e6)
        starts_us = min(queued.alert.opened_at_us, begun_us)
        over_us = now_us - int((now_s - queued.ended_s) * 1e6) if queued.closed else now_us + int(OPEN_INTERVALS * self._interval_s * 1e6)
        return self._encoder.posting(queued.alert, queued.closed, starts_us, max(over_us, starts_us))

    def _remove(self, queued: QueuedAlert, error: NotAccepted) -> None:
        with self._lock:
            self._queue.rejected(queued)
        logger.warning(
            "an alert is dropped: Alertmanager refuses it",
            extra={"reason": str(error), "stream": queued.alert.stream, "id": queued.alert.id},
        )

    def _pause_s(self, error: NotAccepted) -> float:
        """Log the error unless the last one was the same; how long to wait before the next attempt, seconds."""
        if str(error) != self._last_reason:
            self._last_reason = str(error)
            logger.warning("Alertmanager does not take alerts", extra={"reason": str(error), "fix": error.fix})
        if error.remedy is not Remedy.RETRY:
            return self._interval_s
        return self._backoff.next_s()
