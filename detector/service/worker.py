"""The worker: poll, decode, detect, commit, observe, until it is told to stop.

                 .-----------------------------------------------.
                 |                                               v
    .------------+---.  gained   .-----------.  restored   .-----------.
    |    STARTING    |---------->| RESTORING |------------>|  RUNNING  |
    '---+------------'           |           |<------------|           |
        |                        '-----------'   gained,   '-----------'
        |                          |       ^     aborted     |       ^
        | unavailable  unavailable |       | available again |       | available again
        |                          v       |     unavailable v       |
        |                        .----------------------------------------.
        '----------------------->|              BACKING_OFF               |
                                 '----------------------------------------'

    any of these, told to stop  -->  DRAINING   the batch in hand is finished and committed, nothing is polled any more
    any state, at the end       -->  STOPPED    the log is closed; nothing leads out of here

`STARTING -> RUNNING` is a first poll without partitions: they come later, or another worker has them all.

What each error of the log leads to:

    LogUnavailable   back off with full jitter, then the same call again; a batch once judged is never judged again
    CommitAborted    the memories of all assigned partitions are forgotten and restored
    Fenced, StateCorrupted   leave; the process ends with the error
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import Protocol, TypeVar

import numpy as np

from detector.codec.dead_letters import dead_letters
from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded
from detector.config import Service
from detector.core.alerting import Alert
from detector.core.detect import Verdicts
from detector.core.readings import Partition, ReadingBatch
from detector.errors import CommitAborted, LogUnavailable
from detector.ports import Log, Observer, Outcome, Vitals, WorkerState
from detector.service.account import Account, refused

T = TypeVar("T")

log_line = logging.getLogger(__name__)

ALIVE_S = 60.0  # longer than any one call into a log or one batch's judgement should take
BACKOFF_S_MIN = 0.1
LAG_INTERVAL_S = 1.0

S = WorkerState
LEGAL: dict[WorkerState, frozenset[WorkerState]] = {
    S.STARTING: frozenset({S.RESTORING, S.RUNNING, S.BACKING_OFF, S.DRAINING, S.STOPPED}),
    S.RESTORING: frozenset({S.RUNNING, S.BACKING_OFF, S.DRAINING, S.STOPPED}),
    S.RUNNING: frozenset({S.RESTORING, S.BACKING_OFF, S.DRAINING, S.STOPPED}),
    S.BACKING_OFF: frozenset({S.RESTORING, S.RUNNING, S.DRAINING, S.STOPPED}),
    S.DRAINING: frozenset({S.STOPPED}),
    S.STOPPED: frozenset(),
}


class Decoder(Protocol):
    """Messages -> readings; `codec.readings.JsonReadings`."""

    def decode(self, messages: Messages) -> Decoded: ...


class Judge(Protocol):
    """Readings -> verdicts; `core.detect.Detector`."""

    @property
    def streams(self) -> int: ...

    @property
    def alerts_open(self) -> int: ...

    def detect(self, batch: ReadingBatch) -> Verdicts: ...

    def forget(self, partitions: Iterable[Partition]) -> None: ...


class Encoder(Protocol):
    """An alert -> its message; `codec.alerts.AlertEncoder`."""

    def message(self, alert: Alert) -> Message: ...


class Worker:
    """Reads, judges and commits, one batch at a time, on the thread that calls it.

    `vitals` says how it is, for other threads. `step` is one poll and all that follows from it; `run` is steps until told
    to stop, and closes the log.
    """

    def __init__(
        self,
        log: Log,
        decoder: Decoder,
        detector: Judge,
        encoder: Encoder,
        *,
        settings: Service,
        observers: Sequence[Observer] = (),
        vitals: Vitals | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.log = log
        self.decoder = decoder
        self.detector = detector
        self.encoder = encoder
        self.settings = settings
        self.observers = observers
        self.vitals = vitals or Vitals()
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries; nothing secret
        self._stop = Event()
        self._never = Event()
        self._assigned: set[Partition] = set()
        self._attempts = 0
        self._drain_by_s = float("inf")
        self._lag_due_s = 0.0
        self._account = Account(self.vitals)
        self._beat()

    def run(self, stop: Event) -> None:
        """Step until `stop` is set; then leave in order: the batch in hand is committed, the log closed.

        raises Fenced, StateCorrupted  this worker must not go on
        raises LogUnavailable          only while draining: the batch in hand could not be committed in time
        """
        self._stop = stop
        try:
            while not stop.is_set():
                self.step()
            self._enter(S.DRAINING)
        finally:
            self.close()

    def close(self) -> None:
        """Close the log; nothing more will come. Idempotent."""
        if self.vitals.state is not S.STOPPED:
            self.log.close()
            self._enter(S.STOPPED)

    def step(self) -> int:
        """One poll and all that follows from it.

        returns  how many messages it brought; 0 as well when the log was unavailable
        """
        self._beat()
        begun_s = time.perf_counter()
        try:
            fetched = self.log.poll(self.settings.batch_readings_max, self.settings.poll_timeout_ms / 1000)
        except LogUnavailable as error:
            self._back_off(error)
            return 0
        self._available()
        polled_s = time.perf_counter()
        if fetched.lost:
            log_line.info("partitions lost", extra={"partitions": _listed(fetched.lost)})
            self._forget(fetched.lost)
        if fetched.gained:
            log_line.info("partitions gained", extra={"partitions": _listed(fetched.gained)})
            self._assigned.update(fetched.gained)
            self._restore(fetched.gained)
        self._enter(S.RUNNING)
        if len(fetched.messages):
            self._judge(fetched.messages, polled_s - begun_s)
        self._look_at_log()
        return len(fetched.messages)

    def _judge(self, messages: Messages, poll_s: float) -> None:
        """Decode, detect, commit and observe one batch."""
        begun_s = time.perf_counter()
        decoded = self.decoder.decode(messages)
        decoded_s = time.perf_counter()
        verdicts = self.detector.detect(decoded.batch)
        detected_s = time.perf_counter()
        rejects = sorted((*decoded.rejects, *refused(decoded, verdicts)), key=lambda reject: reject.position)
        outcome = Outcome(
            alerts=[self.encoder.message(alert) for alert in verdicts.alerts],
            dead_letters=dead_letters(messages, rejects),
            offsets=_next_offsets(messages),
        )
        encoded_s = time.perf_counter()
        if not self._commit(outcome):
            return
        committed_s = time.perf_counter()
        self._account.count(messages, decoded, verdicts, rejects)
        seconds = {
            "poll": poll_s,
            "decode": decoded_s - begun_s,
            "detect": detected_s - decoded_s,
            "encode": encoded_s - detected_s,
            "commit": committed_s - encoded_s,
        }
        for observer in self.observers:
            observer.observe(decoded, verdicts, seconds)

    def _commit(self, outcome: Outcome) -> bool:
        """Commit, as often as it takes. False: it was aborted, and the partitions stand where the log says."""
        try:
            self._insist(lambda: self.log.commit(outcome))
        except CommitAborted as error:
            log_line.warning("commit aborted: memories are discarded and restored", extra={"reason": str(error)})
            self.vitals.commits_aborted += 1
            assigned = tuple(sorted(self._assigned))
            self.detector.forget(assigned)
            if not self._stop.is_set():
                self._restore(assigned)
                self._enter(S.RUNNING)
            return False
        self._enter(S.RUNNING)
        self.vitals.commits += 1
        return True

    def _restore(self, partitions: Sequence[Partition]) -> None:
        """Take `partitions` from where the log says they stand. The one door: start, rebalance, aborted commit."""
        self._enter(S.RESTORING)
        begun_s = time.perf_counter()
        restored = self._insist(lambda: self.log.restore(partitions), restoring=True)
        if restored is None:
            return
        log_line.info(
            "partitions restored",
            extra={
                "offsets": {f"{partition.topic}/{partition.number}": at.offset for partition, at in restored.items()},
                "seconds": round(time.perf_counter() - begun_s, 3),
            },
        )

    def _forget(self, partitions: Sequence[Partition]) -> None:
        self._assigned.difference_update(partitions)
        self.detector.forget(partitions)

    def _insist(self, call: Callable[[], T], *, restoring: bool = False) -> T | None:
        """`call`, again and again while the log is unavailable.

        Once told to stop, a commit is tried until the time for draining is over; restoring is given up at once (None).
        """
        while True:
            if self._stop.is_set():
                self._enter(S.DRAINING)
                if restoring:
                    return None
            try:
                result = call()
            except LogUnavailable as error:
                if time.monotonic() >= self._drain_by_s:
                    raise LogUnavailable(
                        f"the log stayed unavailable for the drain time-out of {self.settings.drain_timeout_s:g} s: {error}",
                        fix="nothing is lost: the uncommitted messages are read again at the next start",
                    ) from error
                self._back_off(error)
                if restoring:
                    self._enter(S.RESTORING)
            else:
                self._available()
                return result

    def _back_off(self, error: LogUnavailable) -> None:
        """Pause for a random time below a bound that doubles with each failure in a row ("full jitter").

        source: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015
        """
        bound_s = min(self.settings.backoff_ms_max / 1000, BACKOFF_S_MIN * 2.0 ** min(self._attempts, 40))
        pause_s = self._jitter.uniform(0, bound_s)
        self._attempts += 1
        self.vitals.log_unavailable += 1
        level = logging.WARNING if self._attempts == 1 else logging.INFO
        log_line.log(level, "log unavailable", extra={"reason": str(error), "attempt": self._attempts, "pause_s": round(pause_s, 3)})
        self._enter(S.BACKING_OFF)
        self.vitals.backoff_s = pause_s
        self._beat(pause_s)
        # Once told to stop, the event no longer pauses anything; the retries while draining still must not spin.
        pause_s = max(0.0, min(pause_s, self._drain_by_s - time.monotonic()))
        (self._never if self._stop.is_set() else self._stop).wait(pause_s)
        self.vitals.backoff_s = 0.0

    def _available(self) -> None:
        if self._attempts:
            log_line.info("log available again", extra={"attempts": self._attempts})
            self._attempts = 0

    def _enter(self, state: WorkerState) -> None:
        """Change the state. Draining is one way: once told to stop, whatever happens is part of it."""
        if self._stop.is_set() and state is not S.STOPPED:
            state = S.DRAINING
        before = self.vitals.state
        if state is before:
            return
        assert state in LEGAL[before], f"{before} -> {state}"
        if state is S.DRAINING:
            self._drain_by_s = time.monotonic() + self.settings.drain_timeout_s
        self.vitals.state = state
        if S.BACKING_OFF not in (before, state):
            log_line.info("worker " + state.value, extra={"before": before.value})

    def _beat(self, pause_s: float = 0.0) -> None:
        self.vitals.alive_until_s = time.monotonic() + pause_s + self.settings.poll_timeout_ms / 1000 + ALIVE_S

    def _look_at_log(self) -> None:
        vitals = self.vitals
        vitals.partitions = len(self._assigned)
        vitals.streams = self.detector.streams
        vitals.alerts_open = self.detector.alerts_open
        now_s = time.monotonic()
        if now_s >= self._lag_due_s:
            self._lag_due_s = now_s + LAG_INTERVAL_S
            vitals.lag = dict(self.log.lag())


def _next_offsets(messages: Messages) -> dict[Partition, int]:
    """Per partition that occurs: the offset after its last message."""
    last = np.full(len(messages.partitions), -1, np.int64)
    np.maximum.at(last, messages.partition, messages.offset)
    return {partition: int(offset) + 1 for partition, offset in zip(messages.partitions, last, strict=True) if offset >= 0}


def _listed(partitions: Iterable[Partition]) -> list[str]:
    return [f"{partition.topic}/{partition.number}" for partition in sorted(partitions)]
