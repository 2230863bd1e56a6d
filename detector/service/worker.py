"""The worker: poll, decode, detect, commit, observe, until it is to stop. `service.lifecycle` draws its states.

    main thread     poll | detect 1 | poll | detect 2 | poll | detect 3 | ...
    commit thread                   | commit 1        |      | commit 2 ...

At most one commit is in flight. It takes all batches that were judged before it began, and a slice of the state as it was then. The slice is
encoded before the next batch can change it. A batch without alerts and dead letters may wait for the next commit: judged again after
a crash, it would have none again.

What each error of the log leads to:

    LogUnavailable   back off with full jitter, then retry the same call; a batch once judged is never judged again
    CommitAborted    the state of all assigned partitions is discarded and restored
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

from detector.codec.baseline_resets import with_baseline_resets
from detector.codec.dead_letters import dead_letters
from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded, Reject
from detector.config import Service
from detector.core.alerts import Alert
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.readings import Partition
from detector.errors import CommitAborted, LogUnavailable
from detector.ports import LATENCY, CommitBatch, Log, Observer, PollResult, WorkerState, WorkerStats
from detector.service.batch_statistics import BatchStatistics, rejects_over_stream_limit
from detector.service.lifecycle import Lifecycle
from detector.service.state_manager import StateManager

logger = logging.getLogger(__name__)

COMMIT_INTERVAL_S = 0.25
"""Batches without alerts and dead letters wait so long for their commit; state is saved in slices of so much time."""
UNCOMMITTED_BATCHES_MAX = 32
"""So many batches are judged ahead of the commit in flight, at most."""
CAUGHT_UP_AFTER_S = 5.0
"""A restored partition has caught up when no message came for so long: the last offsets before the committed one may hold none
(a transaction's marker, or a message that compaction removed)."""
UNASSIGNED_READY_S = 15.0
"""A member that has had no partitions for so long is ready without: the others have noticed it by then (they ask every 2 s, with KIP-848
every 5 s), and have given up what was to be its own."""
LAG_INTERVAL_S = 1.0
"""The lag is updated so often."""

S = WorkerState


class Decoder(Protocol):
    """Messages -> readings; `codec.readings.JsonReadings`, `codec.confluent_wire_format.WireFormatReadings`.

    raises LogUnavailable  the schema registry cannot be reached now; retry the same call
    """

    def decode(self, messages: Messages) -> Decoded: ...


class Encoder(Protocol):
    """An alert -> its message; `codec.alerts.AlertEncoder`."""

    def message(self, alert: Alert) -> Message: ...


class CommitExecutor(Protocol):
    """Where commits run, one at a time."""

    def submit(self, call: Callable[[], None], /) -> Future[None]: ...


@dataclass(slots=True)
class Batch:
    """A judged batch that is not committed yet.

    fetched_s  when it was fetched, on the clock of time.perf_counter()
    seconds    time spent per stage
    """

    messages: Messages
    decoded: Decoded
    result: BatchResult
    rejects: Sequence[Reject]
    alerts: Sequence[Message]
    dead_letters: Sequence[Message]
    fetched_s: float
    seconds: dict[str, float]


@dataclass(slots=True)
class CommitInFlight:
    """A commit that has begun. began_s: on the clock of time.perf_counter()."""

    commit_batch: CommitBatch
    batches: list[Batch]
    began_s: float
    done: Future[None]


class _StopRequested(Exception):
    """The worker is to stop while state is being read: the next start reads it again."""


class Worker:
    """Reads and judges on the thread that calls it, and commits on another.

    `step` is one poll and all that follows from it. `run` steps until it is to stop, and closes the log. `stats` are for other threads to read.

    clock     seconds, monotonic
    executor  runs the commits; without it a thread of its own does
    """

    def __init__(
        self,
        log: Log,
        decoder: Decoder,
        detector: Detector,
        encoder: Encoder,
        state_manager: StateManager,
        *,
        settings: Service,
        observers: Sequence[Observer] = (),
        stats: WorkerStats | None = None,
        jitter: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        executor: CommitExecutor | None = None,
    ) -> None:
        self.log = log
        self.decoder = decoder
        self.detector = detector
        self.encoder = encoder
        self.state_manager = state_manager
        self.settings = settings
        self.observers = observers
        self.stats = stats or WorkerStats()
        self._lifecycle = Lifecycle(self.stats, settings, jitter or random.Random())  # noqa: S311 - spreads retries; nothing secret
        self._clock = clock
        self._executor: CommitExecutor = executor or ThreadPoolExecutor(1, "commit")
        self._statistics = BatchStatistics(self.stats, detector.model.channels)
        self._assigned: set[Partition] = set()
        self._uncommitted: list[Batch] = []
        self._in_flight: CommitInFlight | None = None
        self._is_state_diverged = False  # the state is ahead of what was committed: all must be restored
        self._are_open_alerts_unreported = False  # observers do not know which alerts are open in the restored state
        self._committed_s = self._restoring_since_s = self._last_message_s = self._unjoined_s = self._lag_due_s = clock()

    def run(self, stop: Event) -> None:
        """Step until `stop` is set. Then commit what was judged, save the state, and close the log.

        raises Fenced, StateCorrupted  this worker must not go on
        raises LogUnavailable          only while draining: what was judged could not be committed in time
        """
        self._lifecycle.stop = stop
        try:
            while not stop.is_set():
                self.step()
            self._lifecycle.enter(S.DRAINING)
            self.drain()
        finally:
            self.close()

    def drain(self) -> None:
        """Commit all that was judged, and save all state."""
        self._flush(self._assigned)

    def close(self) -> None:
        """Close the log. Idempotent."""
        if self.stats.state is not S.STOPPED:
            if self._in_flight is not None:
                self._in_flight.done.exception()  # the log must not be closed before its commit has ended
            self.log.close()
            self._lifecycle.enter(S.STOPPED)

    def step(self) -> int:
        """One poll and all that follows from it. returns  how many messages it fetched; 0 as well when the log was unavailable"""
        self._lifecycle.heartbeat()
        began_s = time.perf_counter()
        timeout_s = self.settings.poll_timeout_ms / 1000
        if self._uncommitted or self._in_flight is not None or self.state_manager.rows_unsaved:
            timeout_s = min(timeout_s, COMMIT_INTERVAL_S)
        try:
            polled = self.log.poll(self.settings.batch_messages_max, timeout_s, self._on_revoke)
        except LogUnavailable as error:
            self._lifecycle.back_off(error)
            return 0
        self._lifecycle.available()
        polled_s = time.perf_counter()
        if not self._on_rebalance(polled):
            return 0
        if len(polled.messages):
            self._last_message_s = self._clock()
            if not self.state_manager.is_live:
                self._lifecycle.enter(S.RESTORING)
            self._process(polled.messages, polled_s - began_s)
        if not self._is_assignment_known(polled.is_joined):
            if self.stats.state is S.BACKING_OFF:
                self._lifecycle.enter(S.STARTING)
        elif self.state_manager.is_live or self._clock() - self._last_message_s >= CAUGHT_UP_AFTER_S:
            self._enter_running()
        self._commit_if_due()
        self._update_statistics()
        return len(polled.messages)

    def _is_assignment_known(self, is_joined: bool) -> bool:
        """Whether it is known which partitions this worker has to judge; it may be none."""
        if not is_joined:
            self._unjoined_s = self._clock()
        return bool(self._assigned) or (is_joined and self._clock() - self._unjoined_s >= UNASSIGNED_READY_S)

    # -- rebalance ----------------------------------------------------------------------------------------------------

    def _on_rebalance(self, polled: PollResult) -> bool:
        """Drop the partitions that were revoked, restore those that were assigned or changed.

        returns  False: all partitions are restored, and the messages that were just fetched will be read again
        """
        revoked, assigned, changed = polled.revoked, polled.assigned, polled.changed
        if revoked:
            logger.info("partitions revoked", extra={"partitions": _listed(revoked)})
            self._await_commit()
            # Uncommitted batches may hold readings of the lost partitions, and cannot be committed any more.
            self._is_state_diverged = self._is_state_diverged or bool(self._uncommitted)
            self._assigned.difference_update(revoked)
            self._forget(revoked)
        if assigned:
            logger.info("partitions assigned", extra={"partitions": _listed(assigned)})
            self._assigned.update(assigned)
        if changed and not self._is_state_diverged:  # their state holds up to where their logs changed
            self._flush(changed)
        if self._is_state_diverged:
            self._restore_all()
            return False
        if changed:
            self._forget(changed)
        if assigned or changed:
            self._restore((*assigned, *changed))
        return True

    def _forget(self, partitions: Sequence[Partition]) -> None:
        self.state_manager.forget(partitions)
        for observer in self.observers:
            observer.forget(partitions)

    def _on_revoke(self, partitions: tuple[Partition, ...]) -> None:
        """Save the state of partitions that are about to be given up."""
        try:
            self._await_commit()
            if not self._is_state_diverged:
                self._flush(partitions)
        except LogUnavailable as error:
            logger.warning("partitions are given up with unsaved changes", extra={"reason": str(error)})
            self._is_state_diverged = True

    def _restore_all(self) -> None:
        """Discard the state of all partitions, and restore it from what was committed."""
        self._uncommitted = []
        assigned = tuple(sorted(self._assigned))
        self.state_manager.forget(assigned)
        if not self._lifecycle.stop.is_set():
            self._is_state_diverged = False
            self._restore(assigned)

    def _restore(self, partitions: Sequence[Partition]) -> None:
        """Restore partitions from what was committed: at a start, a rebalance, or after an aborted commit."""
        self._lifecycle.enter(S.RESTORING)
        self._restoring_since_s = self._last_message_s = self._clock()
        if self._lifecycle.stop.is_set():
            return
        self._are_open_alerts_unreported = True
        try:
            offsets = self._lifecycle.retry(lambda: self._restore_once(partitions), until_stopped=True)
        except _StopRequested:
            return
        if offsets is not None:
            self._lifecycle.retry(lambda: self.log.resume(offsets), until_stopped=True)

    def _restore_once(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """One attempt; returns the offsets from which the partitions are to be read."""
        self._lifecycle.heartbeat()
        restored = self.log.restore(partitions)
        offsets = self.state_manager.restore(restored, self._saved_state(tuple(restored)), self._clock())
        self._lifecycle.heartbeat()
        return offsets

    def _saved_state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """Their saved state, in pieces. Each piece is a heartbeat, since there may be many.

        raises _StopRequested
        """
        for piece in self.log.state(partitions):
            if self._lifecycle.stop.is_set():
                raise _StopRequested
            self._lifecycle.heartbeat()
            yield piece
            self.stats.streams = self.detector.streams

    def _enter_running(self) -> None:
        if self.stats.state is S.RESTORING and self._assigned:
            self.stats.restored_s = self._clock() - self._restoring_since_s
            logger.info(
                "partitions restored",
                extra={
                    "partitions": _listed(self._assigned),
                    "streams": self.detector.streams,
                    "seconds": round(self.stats.restored_s, 3),
                },
            )
        self._lifecycle.enter(S.RUNNING)
        if self._are_open_alerts_unreported:
            self._report_open_alerts()

    def _report_open_alerts(self) -> None:
        """Commit what was judged since the restore; then tell the observers once which alerts are open."""
        if self._uncommitted or self._in_flight is not None:
            self._flush(())
        if not self._is_state_diverged:
            self._are_open_alerts_unreported = False
            alerts = self.detector.still_open()
            for observer in self.observers:
                observer.restored(alerts)

    # -- decode and detect --------------------------------------------------------------------------------------------

    def _process(self, messages: Messages, poll_s: float) -> None:
        """Judge messages: replayed ones without output, live ones into a batch to be committed."""
        replayed, live = self.state_manager.split_replay(messages)
        if len(replayed):
            decoded = self._decode(replayed)
            if decoded is None:
                return
            self._detect(replayed, decoded)
            self.stats.messages_replayed += len(replayed)
        if not len(live):
            return
        began_s = time.perf_counter()
        decoded = self._decode(live)
        if decoded is None:
            return
        decoded_s = time.perf_counter()
        result = self._detect(live, decoded)
        detected_s = time.perf_counter()
        rejects = sorted((*decoded.rejects, *rejects_over_stream_limit(decoded, result)), key=lambda reject: reject.position)
        alerts = [self.encoder.message(alert) for alert in result.alerts]
        refused = dead_letters(live, rejects)
        seconds = {
            "poll": poll_s,
            "decode": decoded_s - began_s,
            "detect": detected_s - decoded_s,
            "encode": time.perf_counter() - detected_s,
        }
        self._uncommitted.append(Batch(live, decoded, result, rejects, alerts, refused, began_s, seconds))

    def _decode(self, messages: Messages) -> Decoded | None:
        """Decode messages. None: the worker is to stop and the schema registry is unavailable; the next start reads the messages again."""
        return self._lifecycle.retry(lambda: with_baseline_resets(self.decoder.decode(messages), messages), until_stopped=True)

    def _detect(self, messages: Messages, decoded: Decoded) -> BatchResult:
        """Judge readings, and mark the rows that changed."""
        before = self.state_manager.partition_times(messages)
        result = self.detector.detect(decoded.batch, decoded.baseline_resets)
        self.state_manager.mark_dirty(messages, result, before, self._clock())
        return result

    # -- commit -------------------------------------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        now_s = self._clock()
        has_output = any(batch.alerts or batch.dead_letters for batch in self._uncommitted)
        if self._in_flight is not None and (has_output or len(self._uncommitted) >= UNCOMMITTED_BATCHES_MAX or self._in_flight.done.done()):
            self._await_commit()
        if self._is_state_diverged:
            self._restore_all()
            return
        if self._in_flight is None and (has_output or now_s - self._committed_s >= COMMIT_INTERVAL_S):
            state = self.state_manager.due_slices(now_s)
            if self._uncommitted or state:
                self._commit(state)

    def _commit(self, state: Mapping[Partition, Mapping[bytes, bytes | None]]) -> None:
        """Begin a commit of all that was judged, with some state."""
        batches, self._uncommitted = self._uncommitted, []
        commit_batch = CommitBatch(
            alerts=[alert for batch in batches for alert in batch.alerts],
            dead_letters=[dead_letter for batch in batches for dead_letter in batch.dead_letters],
            state=state,
            # Only of partitions with live messages: another may not have reached its committed offset yet.
            offsets=self.state_manager.next_offsets(
                {partition for batch in batches for partition in batch.messages.next_offsets()} | state.keys()
            ),
        )
        self._committed_s = self._clock()
        self._in_flight = CommitInFlight(commit_batch, batches, time.perf_counter(), self._submit(commit_batch))

    def _submit(self, commit_batch: CommitBatch) -> Future[None]:
        return self._executor.submit(lambda: self.log.commit(commit_batch))

    def _await_commit(self) -> None:
        """Wait for the commit in flight; while the log is unavailable, retry it. Afterwards it has succeeded, or the state has diverged."""
        if self._in_flight is None:
            return
        commit, self._in_flight = self._in_flight, None
        pending: Future[None] | None = commit.done

        def finish() -> None:
            nonlocal pending
            done, pending = pending or self._submit(commit.commit_batch), None
            done.result()

        try:
            self._lifecycle.retry(finish)
        except CommitAborted as error:
            logger.warning("commit aborted: state is discarded and restored", extra={"reason": str(error)})
            self.stats.commits_aborted += 1
            self._is_state_diverged = True
            return
        self._on_committed(commit)

    def _on_committed(self, commit: CommitInFlight) -> None:
        """Count what was committed, and show it to the observers."""
        self.stats.commits += 1
        self.state_manager.on_committed(commit.commit_batch.offsets)
        self.stats.messages_missed = dict(self.state_manager.messages_missed)
        self.stats.log_changes = dict(self.state_manager.log_changes)
        for rows in commit.commit_batch.state.values():
            self.stats.rows_saved += len(rows)
            self.stats.state_bytes += sum(len(row) for row in rows.values() if row is not None)
        committed_s = time.perf_counter()
        commit_s = committed_s - commit.began_s
        for batch in commit.batches:
            self._statistics.add(batch.messages, batch.decoded, batch.result, batch.rejects)
            seconds = {**batch.seconds, "commit": commit_s, LATENCY: committed_s - batch.fetched_s}
            for observer in self.observers:
                observer.observe(batch.decoded, batch.result, seconds)
            commit_s = 0.0  # one commit, counted once

    def _flush(self, partitions: Iterable[Partition]) -> None:
        """Commit all that was judged, and save all that is unsaved of these partitions."""
        self._await_commit()
        state = self.state_manager.flush_slice(partitions, self._clock())
        while (self._uncommitted or state) and not self._is_state_diverged:
            self._lifecycle.heartbeat()  # there may be many slices
            self._commit(state)
            state = self.state_manager.flush_slice(partitions, self._clock())  # the next slice is encoded while this one is written
            self._await_commit()

    def _update_statistics(self) -> None:
        stats, now_s = self.stats, self._clock()
        stats.partitions = len(self._assigned)
        stats.streams = self.detector.streams
        stats.alerts_open = self.detector.alerts_open
        stats.rows_unsaved = self.state_manager.rows_unsaved
        stats.unsaved_s = self.state_manager.unsaved_s(now_s)
        if now_s >= self._lag_due_s:
            self._lag_due_s = now_s + LAG_INTERVAL_S
            stats.lag = dict(self.log.lag())
            stats.topics_missing = tuple(self.log.topics_missing())


def _listed(partitions: Iterable[Partition]) -> list[str]:
    return [f"{partition.topic}/{partition.number}" for partition in sorted(partitions)]
