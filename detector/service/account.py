"""The worker's books: every reading polled gets one disposition, every refused one a dead letter."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from detector.codec.messages import Messages
from detector.codec.readings import Decoded, Reject
from detector.core.readings import Disposition
from detector.core.verdicts import Verdicts
from detector.ports import Vitals

log_line = logging.getLogger(__name__)

COMPLAINT_INTERVAL_S = 10.0  # dead letters are announced at most so often: their reasons stand in the topic


class Account:
    """Adds committed batches up in the worker's vitals, and says in the log what a person may want to know."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._dead_letters: Counter[str] = Counter()
        self._complain_due_s = 0.0

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


def refused(decoded: Decoded, verdicts: Verdicts) -> list[Reject]:
    """Readings that were decoded but found no place in memory: dead letters as well, one per message."""
    invalid = decoded.message[verdicts.disposition == Disposition.INVALID]
    positions, counts = np.unique(invalid, return_counts=True)
    reason = "stream: the memory is full; raise streams.max, or lower streams.idle_max_s"
    return [Reject(int(position), "TooManyStreams", reason, int(count)) for position, count in zip(positions, counts, strict=True)]
