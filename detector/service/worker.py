"""The worker: poll, decode, detect, commit, observe, until it is told to stop. `service.life` draws its states.

    main thread     poll | judge 1 | poll | judge 2 | poll | judge 3 | ...
    commit thread                  | commit 1       |      | commit 2 ...

One commit is on its way at most. It takes all that was judged before it began, and a slice of the memories as they then are, already
encoded: the next batch may change them meanwhile. A batch that decides nothing (no alert, no dead letter) may wait for the next commit:
judged again after a crash, it would decide nothing again.

What each error of the log leads to:

    LogUnavailable   back off with full jitter, then the same call again; a batch once judged is never judged again
    CommitAborted    the memories of all assigned partitions are forgotten and restored
    Fenced, StateCorrupted   leave; the process ends with the error
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from detector.codec.acceptances import with_acceptances
from detector.codec.dead_letters import dead_letters
from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded, Reject
from detector.config import Service
from detector.core.alerting import Alert
from detector.core.detect import Detector
from detector.core.readings import Partition
from detector.core.verdicts import Verdicts
from detector.errors import CommitAborted, LogUnavailable
from detector.ports import LATENCY, CommitBatch, Log, Observer, PollResult, WorkerState, WorkerStats
from detector.service.account import Account, refused
from detector.service.life import Life
from detector.service.recovery import Recovery

logger = logging.getLogger(__name__)

COMMIT_INTERVAL_S = 0.25
"""What decides nothing waits so long for its commit, and memories are saved in slices of so much."""
JUDGED_BATCHES_MAX = 32
"""So much is judged ahead of a commit on its way."""
QUIET_S = 5.0
"""A restored partition has caught up when nothing came for so long: the last offsets before the committed one may hold no message
(a transaction's marker, or what compaction took)."""
UNASSIGNED_S = 15.0
"""A member that has had no partitions for so long will hardly get any soon: others have heard of it (they ask every 2 s, with KIP-848 every
5 s), and have given up what was to be its own."""
LAG_INTERVAL_S = 1.0

S = WorkerState


class Decoder(Protocol):
    """Messages -> readings; `codec.readings.JsonReadings`, `codec.framed.FramedReadings`.

    raises LogUnavailable  a schema cannot be had now; the same call later goes on from there
    """

    def decode(self, messages: Messages) -> Decoded: ...


class Encoder(Protocol):
    """An alert -> its message; `codec.alerts.AlertEncoder`."""

    def message(self, alert: Alert) -> Message: ...


class Executor(Protocol):
    """Runs commits, one at a time."""

    def submit(self, call: Callable[[], None], /) -> Future[None]: ...


@dataclass(slots=True)
class Batch:
    """A judged batch on its way to its commit. fetched_s: when it came; seconds: spent per room."""

    messages: Messages
    decoded: Decoded
    verdicts: Verdicts
    rejects: Sequence[Reject]
    alerts: Sequence[Message]
    dead_letters: Sequence[Message]
    fetched_s: float
    seconds: dict[str, float]


@dataclass(slots=True)
class CommitInFlight:
    """A commit that is being written. batch: what it writes; judged: the batches whose decisions it holds."""

    batch: CommitBatch
    judged: list[Batch]
    begun_s: float
    done: Future[None]


class _ToldToStop(Exception):
    """While state was being read: the next start reads it again."""


class Worker:
    """Reads, judges and commits on the thread that calls it; commits end on another.

    `stats` says how it is, for other threads. `step` is one poll and all that follows from it; `run` is steps until told
    to stop, and closes the log.

    clock    seconds, monotonic
    commits  where commits run; a thread of its own without it
    """

    def __init__(
        self,
        log: Log,
        decoder: Decoder,
        detector: Detector,
        encoder: Encoder,
        recovery: Recovery,
        *,
        settings: Service,
        observers: Sequence[Observer] = (),
        stats: WorkerStats | None = None,
        jitter: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        commits: Executor | None = None,
    ) -> None:
        self.log = log
        self.decoder = decoder
        self.detector = detector
        self.encoder = encoder
        self.recovery = recovery
        self.settings = settings
        self.observers = observers
        self.stats = stats or WorkerStats()
        self._life = Life(self.stats, settings, jitter or random.Random())  # noqa: S311 - spreads retries; nothing secret
        self._clock = clock
        self._executor: Executor = commits or ThreadPoolExecutor(1, "commit")
        self._account = Account(self.stats)
        self._assigned: set[Partition] = set()
        self._judged: list[Batch] = []  # waiting for their commit
        self._in_flight: CommitInFlight | None = None
        self._is_astray = False  # memories are ahead of what became true: all must be restored
        self._is_untold = False  # observers have not heard what is open in the restored memories
        self._committed_s = self._restoring_s = self._heard_s = self._joined_s = self._lag_due_s = clock()

    def run(self, stop: Event) -> None:
        """Step until `stop` is set; then leave in order: what was judged is committed, memories are saved, the log is closed.

        raises Fenced, StateCorrupted  this worker must not go on
        raises LogUnavailable          only while draining: what was judged could not be committed in time
        """
        self._life.stop = stop
        try:
            while not stop.is_set():
                self.step()
            self._life.enter(S.DRAINING)
            self.drain()
        finally:
            self.close()

    def drain(self) -> None:
        """Commit all that was judged, and save all memories."""
        self._save_all(self._assigned)

    def close(self) -> None:
        """Close the log; nothing more will come. Idempotent."""
        if self.stats.state is not S.STOPPED:
            if self._in_flight is not None:
                self._in_flight.done.exception()  # a log must not be closed beneath a commit
            self.log.close()
            self._life.enter(S.STOPPED)

    def step(self) -> int:
        """One poll and all that follows from it.

        returns  how many messages it brought; 0 as well when the log was unavailable
        """
        self._life.beat()
        begun_s = time.perf_counter()
        timeout_s = self.settings.poll_timeout_ms / 1000
        if self._judged or self._in_flight is not None or self.recovery.rows_unsaved:
            timeout_s = min(timeout_s, COMMIT_INTERVAL_S)
        try:
            polled = self.log.poll(self.settings.batch_readings_max, timeout_s, self._on_revoke)
        except LogUnavailable as error:
            self._life.back_off(error)
            return 0
        self._life.available()
        polled_s = time.perf_counter()
        if not self._take_over(polled):
            return 0
        if len(polled.messages):
            self._heard_s = self._clock()
            if not self.recovery.is_live:
                self._life.enter(S.RESTORING)
            self._judge(polled.messages, polled_s - begun_s)
        if not self._is_placed(polled.is_joined):
            if self.stats.state is S.BACKING_OFF:
                self._life.enter(S.STARTING)
        elif self.recovery.is_live or self._clock() - self._heard_s >= QUIET_S:
            self._live()
        self._commit_if_due()
        self._look_at_log()
        return len(polled.messages)

    def _is_placed(self, is_joined: bool) -> bool:
        """Whether it is known what this worker has to judge: its partitions, or none."""
        if not is_joined:
            self._joined_s = self._clock()
        return bool(self._assigned) or (is_joined and self._clock() - self._joined_s >= UNASSIGNED_S)

    # -- partitions come and go ---------------------------------------------------------------------------------------

    def _take_over(self, polled: PollResult) -> bool:
        """False: everything is brought back, and what was fetched meanwhile will be read again."""
        revoked, assigned, changed = polled.revoked, polled.assigned, polled.changed
        if revoked:
            logger.info("partitions revoked", extra={"partitions": _listed(revoked)})
            self._settle()
            # What was judged but not committed goes with the partitions that were lost unheard, and the others' with it.
            self._is_astray = self._is_astray or bool(self._judged)
            self._assigned.difference_update(revoked)
            self._forget(revoked)
        if assigned:
            logger.info("partitions assigned", extra={"partitions": _listed(assigned)})
            self._assigned.update(assigned)
        if changed and not self._is_astray:  # what is known of them is true up to where they changed
            self._save_all(changed)
        if self._is_astray:
            self._start_over()
            return False
        if changed:
            self._forget(changed)
        if assigned or changed:
            self._restore((*assigned, *changed))
        return True

    def _forget(self, partitions: Sequence[Partition]) -> None:
        self.recovery.forget(partitions)
        for observer in self.observers:
            observer.forget(partitions)

    def _on_revoke(self, partitions: tuple[Partition, ...]) -> None:
        """The last words on partitions that are about to be given up."""
        try:
            self._settle()
            if not self._is_astray:
                self._save_all(partitions)
        except LogUnavailable as error:
            logger.warning("partitions go without their last changes saved", extra={"reason": str(error)})
            self._is_astray = True

    def _start_over(self) -> None:
        """Memories are ahead of what became true: forget them, and take everything from where the log says it stands."""
        self._judged = []
        assigned = tuple(sorted(self._assigned))
        self.recovery.forget(assigned)
        if not self._life.stop.is_set():
            self._is_astray = False
            self._restore(assigned)

    def _restore(self, partitions: Sequence[Partition]) -> None:
        """Take `partitions` from where the log says they stand. The one door: start, rebalance, aborted commit."""
        self._life.enter(S.RESTORING)
        self._restoring_s = self._heard_s = self._clock()
        if self._life.stop.is_set():
            return
        self._is_untold = True
        try:
            offsets = self._life.insist(lambda: self._begin(partitions), until_stopped=True)
        except _ToldToStop:
            return
        if offsets is not None:
            self._life.insist(lambda: self.log.resume(offsets), until_stopped=True)

    def _begin(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        self._life.beat()
        restored = self.log.restore(partitions)
        offsets = self.recovery.begin(restored, self._state(tuple(restored)), self._clock())
        self._life.beat()
        return offsets

    def _state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """What the log keeps of them; each piece that comes is a sign of life, since there may be many."""
        for piece in self.log.state(partitions):
            if self._life.stop.is_set():
                raise _ToldToStop
            self._life.beat()
            yield piece
            self.stats.streams = self.detector.streams

    def _live(self) -> None:
        if self.stats.state is S.RESTORING and self._assigned:
            self.stats.restored_s = self._clock() - self._restoring_s
            logger.info(
                "partitions restored",
                extra={
                    "partitions": _listed(self._assigned),
                    "streams": self.detector.streams,
                    "seconds": round(self.stats.restored_s, 3),
                },
            )
        self._life.enter(S.RUNNING)
        if self._is_untold:
            self._tell_open()

    def _tell_open(self) -> None:
        """Observers hear once which alerts the restored memories hold open; first what was judged since becomes true."""
        if self._judged or self._in_flight is not None:
            self._save_all(())
        if not self._is_astray:
            self._is_untold = False
            alerts = self.detector.still_open()
            for observer in self.observers:
                observer.restored(alerts)

    # -- judging ------------------------------------------------------------------------------------------------------

    def _judge(self, messages: Messages, poll_s: float) -> None:
        known, news = self.recovery.split(messages)
        if len(known):
            decoded = self._decode(known)
            if decoded is None:
                return
            self._remember(known, decoded)
            self.stats.messages_replayed += len(known)
        if not len(news):
            return
        begun_s = time.perf_counter()
        decoded = self._decode(news)
        if decoded is None:
            return
        decoded_s = time.perf_counter()
        verdicts = self._remember(news, decoded)
        detected_s = time.perf_counter()
        rejects = sorted((*decoded.rejects, *refused(decoded, verdicts)), key=lambda reject: reject.position)
        alerts = [self.encoder.message(alert) for alert in verdicts.alerts]
        refused_messages = dead_letters(news, rejects)
        seconds = {
            "poll": poll_s,
            "decode": decoded_s - begun_s,
            "detect": detected_s - decoded_s,
            "encode": time.perf_counter() - detected_s,
        }
        self._judged.append(Batch(news, decoded, verdicts, rejects, alerts, refused_messages, begun_s, seconds))

    def _decode(self, messages: Messages) -> Decoded | None:
        """None: told to stop while the schemas were away. Nothing is written down of these messages; the next start reads them again."""
        return self._life.insist(lambda: with_acceptances(self.decoder.decode(messages), messages), until_stopped=True)

    def _remember(self, messages: Messages, decoded: Decoded) -> Verdicts:
        """Judge, and write down which memories changed by it."""
        before = self.recovery.times(messages)
        verdicts = self.detector.detect(decoded.batch, decoded.acceptances)
        self.recovery.note(messages, verdicts, before, self._clock())
        return verdicts

    # -- committing ---------------------------------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        now_s = self._clock()
        decides = any(batch.alerts or batch.dead_letters for batch in self._judged)
        if self._in_flight is not None and (decides or len(self._judged) >= JUDGED_BATCHES_MAX or self._in_flight.done.done()):
            self._settle()
        if self._is_astray:
            self._start_over()
            return
        if self._in_flight is None and (decides or now_s - self._committed_s >= COMMIT_INTERVAL_S):
            state = self.recovery.due_slice(now_s)
            if self._judged or state:
                self._commit(state)

    def _commit(self, state: Mapping[Partition, Mapping[bytes, bytes | None]]) -> None:
        """Send all that was judged on its way, with some state."""
        judged, self._judged = self._judged, []
        batch = CommitBatch(
            alerts=[alert for each in judged for alert in each.alerts],
            dead_letters=[dead_letter for each in judged for dead_letter in each.dead_letters],
            state=state,
            # Only of partitions whose messages were news: another may still be on its way to its committed offset.
            offsets=self.recovery.offsets({partition for each in judged for partition in each.messages.next_offsets()} | state.keys()),
        )
        self._committed_s = self._clock()
        self._in_flight = CommitInFlight(batch, judged, time.perf_counter(), self._send(batch))

    def _send(self, batch: CommitBatch) -> Future[None]:
        return self._executor.submit(lambda: self.log.commit(batch))

    def _settle(self) -> None:
        """Wait for the commit on its way, and make it again as often as the log is unavailable.

        Afterwards it is true, or the memories are astray.
        """
        if self._in_flight is None:
            return
        commit, self._in_flight = self._in_flight, None
        under_way: Future[None] | None = commit.done

        def arrive() -> None:
            nonlocal under_way
            done, under_way = under_way or self._send(commit.batch), None
            done.result()

        try:
            self._life.insist(arrive)
        except CommitAborted as error:
            logger.warning("commit aborted: memories are discarded and restored", extra={"reason": str(error)})
            self.stats.commits_aborted += 1
            self._is_astray = True
            return
        self.stats.commits += 1
        self.recovery.confirm(commit.batch.offsets)
        self.stats.messages_missed = dict(self.recovery.messages_missed)
        self.stats.log_changes = dict(self.recovery.log_changes)
        for rows in commit.batch.state.values():
            self.stats.rows_saved += len(rows)
            self.stats.state_bytes += sum(len(row) for row in rows.values() if row is not None)
        true_s = time.perf_counter()
        commit_s = true_s - commit.begun_s
        for batch in commit.judged:
            self._account.count(batch.messages, batch.decoded, batch.verdicts, batch.rejects)
            seconds = {**batch.seconds, "commit": commit_s, LATENCY: true_s - batch.fetched_s}
            for observer in self.observers:
                observer.observe(batch.decoded, batch.verdicts, seconds)
            commit_s = 0.0  # one commit, counted once

    def _save_all(self, partitions: Iterable[Partition]) -> None:
        """Commit all that was judged, and save all that is unsaved of these partitions."""
        self._settle()
        state = self.recovery.rest(partitions, self._clock())
        while (self._judged or state) and not self._is_astray:
            self._life.beat()  # there may be many slices
            self._commit(state)
            state = self.recovery.rest(partitions, self._clock())  # the next slice is encoded while this one is written
            self._settle()

    def _look_at_log(self) -> None:
        stats, now_s = self.stats, self._clock()
        stats.partitions = len(self._assigned)
        stats.streams = self.detector.streams
        stats.alerts_open = self.detector.alerts_open
        stats.rows_unsaved = self.recovery.rows_unsaved
        stats.unsaved_s = self.recovery.unsaved_s(now_s)
        if now_s >= self._lag_due_s:
            self._lag_due_s = now_s + LAG_INTERVAL_S
            stats.lag = dict(self.log.lag())
            stats.topics_missing = tuple(self.log.topics_missing())


def _listed(partitions: Iterable[Partition]) -> list[str]:
    return [f"{partition.topic}/{partition.number}" for partition in sorted(partitions)]
