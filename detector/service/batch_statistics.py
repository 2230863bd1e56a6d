"""The worker's books: every reading polled gets one disposition, every refused one a dead letter."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from detector.codec.messages import Messages
from detector.codec.readings import Decoded, Reject
from detector.core.readings import Disposition, ReadingBatch
from detector.core.verdicts import Verdicts
from detector.ports import Vitals

log_line = logging.getLogger(__name__)

COMPLAINT_INTERVAL_S = 10.0  # dead letters are announced at most so often: their reasons stand in the topic
IGNORED_INTERVAL_S = 600.0  # likewise readings that are ignored: where two gateways send the same on purpose it never ends
IGNORED_READINGS, IGNORED_SHARE_MAX = 1_000, 0.05
"""Of so many readings, or of a larger batch, so many may be late, and so many duplicates, before it is said."""


class Account:
    """Adds committed batches up in the worker's vitals, and says in the log what a person may want to know."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._dead_letters: Counter[str] = Counter()
        self._complain_due_s = 0.0
        self._late = Ignored(Disposition.LATE)
        self._duplicates = Ignored(Disposition.DUPLICATE)

    def count(self, messages: Messages, decoded: Decoded, verdicts: Verdicts, rejects: Sequence[Reject]) -> None:
        """Add one batch. Conservation is checked here: readings polled = sum over dispositions.

        rejects   all of the batch, by position: the decoder's, and what `refused` found
        """
        vitals = self._vitals
        undecoded = sum(reject.readings for reject in decoded.rejects)
        judged = int(np.count_nonzero(verdicts.disposition <= max(Disposition)))
        unaccounted = abs(len(decoded.batch) - judged)
        vitals.messages += len(messages)
        vitals.readings += len(decoded.batch) + undecoded
        vitals.unaccounted += unaccounted
        vitals.alerts_opened += sum(alert.status == "opened" for alert in verdicts.alerts)
        vitals.late += self._late.count(decoded, verdicts)
        vitals.duplicates += self._duplicates.count(decoded, verdicts)
        if unaccounted:
            log_line.error("readings without a disposition; this is a bug", extra={"readings": unaccounted})
        for alert in verdicts.alerts:
            log_line.info(
                f"alert {alert.status}", extra={"stream": alert.stream, "kind": alert.kind, "reason": alert.reason, "alert": alert.id}
            )
        if rejects:
            first = {reject.position: reject.error for reject in reversed(rejects)}  # one dead letter per message names one error
            self._dead_letters.update(first.values())
            vitals.dead_letters = dict(self._dead_letters)  # a new one: another thread may be going through the old
            self._complain(rejects)

    def _complain(self, rejects: Sequence[Reject]) -> None:
        now_s = time.monotonic()
        if now_s >= self._complain_due_s:
            self._complain_due_s = now_s + COMPLAINT_INTERVAL_S
            first = rejects[0]
            log_line.warning(
                "messages that cannot be read go to the dead letters",
                extra={"error": first.error, "reason": first.reason, "in_this_batch": len(rejects), "so_far": self._dead_letters.total()},
            )


class Ignored:
    """Readings of one kind that are ignored: a few are usual, many are a fault of the messages or of the configuration.

    They are counted until IGNORED_READINGS have come, then anew: so the first readings tell, and later ones as well.

    kind   LATE or DUPLICATE
    """

    def __init__(self, kind: Disposition) -> None:
        self._kind = kind
        self._readings = self._ignored = self._so_far = 0
        self._due_s = 0.0

    def count(self, decoded: Decoded, verdicts: Verdicts) -> int:
        """Add one batch, and complain where too many of late were ignored. returns  how many of this batch."""
        places = np.flatnonzero(verdicts.disposition == self._kind)
        self._readings += len(verdicts)
        self._ignored += len(places)
        self._so_far += len(places)
        if len(places) and self._ignored > IGNORED_SHARE_MAX * max(self._readings, IGNORED_READINGS):
            self._complain(decoded.batch, int(places[0]))
            self._readings = self._ignored = 0
        if self._readings >= IGNORED_READINGS:
            self._readings = self._ignored = 0
        return len(places)

    def _complain(self, batch: ReadingBatch, first: int) -> None:
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + IGNORED_INTERVAL_S
        partition, offset = batch.partitions[batch.partition[first]], int(batch.offset[first])
        facts = {
            "of_the_last": self._readings,
            "ignored": self._ignored,
            "so_far": self._so_far,
            "such_as": f"{partition.topic}/{partition.number} offset {offset}",
        }
        if self._kind == Disposition.LATE:
            fix = "send each stream in order, by one producer under one key; if one time was far ahead, lower input.event_time.future_max_s"
            log_line.warning("many readings are ignored: they are older than the newest of their stream", extra={**facts, "fix": fix})
        else:
            fix = "if each is a reading of its own, set input.event_time.ties: offset, or name a finer time; else see who sends them twice"
            log_line.warning("many readings are ignored: their stream has had a reading of the same time", extra={**facts, "fix": fix})


def refused(decoded: Decoded, verdicts: Verdicts) -> list[Reject]:
    """Readings that were decoded but found no place in memory: dead letters as well, one per message."""
    invalid = decoded.message[verdicts.disposition == Disposition.INVALID]
    positions, counts = np.unique(invalid, return_counts=True)
    reason = "stream: the memory is full; raise streams.max, or lower streams.idle_max_s"
    return [Reject(int(position), "TooManyStreams", reason, int(count)) for position, count in zip(positions, counts, strict=True)]
