"""The worker's states, and how it waits for a log that is unavailable.

                 .-----------------------------------------------.
                 |                                               v
    .------------+---.  assigned .-----------.  caught up  .-----------.
    |    STARTING    |---------->| RESTORING |------------>|  RUNNING  |
    '---+------------'           |           |<------------|           |
        |        ^               '-----------'  assigned,  '-----------'
        |        | available       |       ^     aborted     |       ^
        | un-    | again  un-      |       | available again |       | available again
        | avail- |        available|       |     unavailable |       |
        v able   |                 v       |                 v       |
    .----------------------------------------------------------------------.
    |                              BACKING_OFF                             |
    '----------------------------------------------------------------------'

    any of these, asked to stop -->  DRAINING   what was judged is committed, state is saved, nothing is polled any more
    any state, at the end       -->  STOPPED    the log is closed; nothing leads out of here

STARTING lasts until it is known which partitions this worker has to judge. `STARTING -> RUNNING` is a member of the group without partitions:
other workers have them all.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from detector.backoff import Backoff
from detector.config import Service
from detector.errors import LogUnavailable
from detector.ports import WorkerState, WorkerStats

T = TypeVar("T")

logger = logging.getLogger(__name__)

ALIVE_S = 60.0  # longer than one call into a log, or the judgement of one batch, should take
BACKOFF_S_MIN = 0.1

S = WorkerState
LEGAL: dict[WorkerState, frozenset[WorkerState]] = {
    S.STARTING: frozenset({S.RESTORING, S.RUNNING, S.BACKING_OFF, S.DRAINING, S.STOPPED}),
    S.RESTORING: frozenset({S.RUNNING, S.BACKING_OFF, S.DRAINING, S.STOPPED}),
    S.RUNNING: frozenset({S.RESTORING, S.BACKING_OFF, S.DRAINING, S.STOPPED}),
    S.BACKING_OFF: frozenset({S.STARTING, S.RESTORING, S.RUNNING, S.DRAINING, S.STOPPED}),
    S.DRAINING: frozenset({S.STOPPED}),
    S.STOPPED: frozenset(),
}


class Lifecycle:
    """Keeps the worker's state in its stats, and retries calls while the log is unavailable.

    stop   set once the worker is to stop
    """

    def __init__(self, stats: WorkerStats, settings: Service, jitter: random.Random) -> None:
        self.stop = Event()
        self._never = Event()
        self._stats = stats
        self._settings = settings
        self._backoff = Backoff(BACKOFF_S_MIN, settings.backoff_ms_max / 1000, jitter)
        self._drain_by_s = float("inf")
        self.heartbeat()

    def enter(self, state: WorkerState) -> None:
        """Change the state. Once the worker is to stop, every state but STOPPED is DRAINING."""
        if self.stop.is_set() and state is not S.STOPPED:
            state = S.DRAINING
        before = self._stats.state
        if state is before:
            return
        assert state in LEGAL[before], f"{before} -> {state}"
        if state is S.DRAINING:
            self._drain_by_s = time.monotonic() + self._settings.drain_timeout_s
        self._stats.state = state
        if S.BACKING_OFF not in (before, state):
            logger.info("worker " + state.value, extra={"before": before.value})

    def heartbeat(self, pause_s: float = 0.0) -> None:
        """The worker makes progress. If it is well, the next heartbeat comes within ALIVE_S, one poll and `pause_s`."""
        self._stats.alive_until_s = time.monotonic() + pause_s + self._settings.poll_timeout_ms / 1000 + ALIVE_S

    def retry(self, call: Callable[[], T], *, until_stopped: bool = False) -> T | None:
        """Retry `call` while the log is unavailable, with back-off. returns  its result

        until_stopped  once the worker is to stop, retry no more and return None: for what the next start does again (restoring, reading what
                       is not judged yet). Without it a call is retried until the drain time-out is over.

        raises LogUnavailable  the drain time-out is over
        """
        before = self._stats.state
        while True:
            if self.stop.is_set():
                self.enter(S.DRAINING)
            try:
                result = call()
            except LogUnavailable as error:
                if time.monotonic() >= self._drain_by_s:
                    raise LogUnavailable(
                        f"the log stayed unavailable for the drain time-out of {self._settings.drain_timeout_s:g} s: {error}",
                        fix="nothing is lost: the uncommitted messages are read again at the next start",
                    ) from error
                self.back_off(error)
                if before is S.RESTORING:
                    self.enter(S.RESTORING)
                if until_stopped and self.stop.is_set():
                    return None
            else:
                self.available()
                return result

    def back_off(self, error: LogUnavailable) -> None:
        """Pause, longer with each consecutive failure."""
        pause_s = self._backoff.next_s()
        self._stats.log_unavailable += 1
        level = logging.WARNING if self._backoff.attempts == 1 else logging.INFO
        facts = {"reason": str(error), "attempt": self._backoff.attempts, "pause_s": round(pause_s, 3)}
        logger.log(level, "log unavailable", extra={**facts, "fix": error.fix} if error.fix else facts)
        self.enter(S.BACKING_OFF)
        self._stats.backoff_s = pause_s
        self.heartbeat(pause_s)
        # Once `stop` is set, waiting for it does not pause; retries while draining must not spin all the same.
        pause_s = max(0.0, min(pause_s, self._drain_by_s - time.monotonic()))
        (self._never if self.stop.is_set() else self.stop).wait(pause_s)
        self._stats.backoff_s = 0.0

    def available(self) -> None:
        """The log has answered: reset the back-off."""
        if self._backoff.attempts:
            logger.info("log available again", extra={"attempts": self._backoff.attempts})
            self._backoff.reset()
