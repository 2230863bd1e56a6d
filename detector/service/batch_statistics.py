"""Statistics of committed batches: what became of each reading, and the check that none was lost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.codec.field_names import names_in, nearest
from detector.codec.messages import Messages
from detector.codec.readings import Decoded, Reject
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, ReadingBatch
from detector.ports import WorkerStats
from detector.service.channel_presence import CAME_BACK, NEVER_CAME, WINDOW_READINGS, Change, ChannelPresence

logger = logging.getLogger(__name__)

DEAD_LETTERS_WARNING_INTERVAL_S = 10.0  # a warning at most so often; the topic of dead letters has every reason
IGNORED_WARNING_INTERVAL_S = 600.0  # where two gateways send the same on purpose, it never ends
IGNORED_READINGS, IGNORED_FRACTION_MAX = 1_000, 0.05
SHOWN = 8
"""So many of a message's fields are named."""
"""Of so many readings, or of a larger batch, so large a fraction may be late, and as large a one duplicate, without a warning."""


class BatchStatistics:
    """Adds up committed batches in the worker's stats. Logs alerts, and warns of dead letters, ignored readings and channels that do not come.

    channels  of the model
    """

    def __init__(self, stats: WorkerStats, channels: Sequence[str]) -> None:
        self._stats = stats
        self._presence = ChannelPresence(channels)
        self._texts = TextsForNumbers(channels)
        self._dead_letters: Counter[str] = Counter()
        self._warning_due_s = 0.0
        self._late = IgnoredReadings(Disposition.LATE)
        self._duplicates = IgnoredReadings(Disposition.DUPLICATE)

    def add(self, messages: Messages, decoded: Decoded, result: BatchResult, rejects: Sequence[Reject]) -> None:
        """Add one batch. Conservation is checked here: readings polled = sum over dispositions.

        rejects   all of the batch, by position: the decoder's, and `rejects_over_stream_limit`
        """
        stats = self._stats
        undecoded = sum(reject.readings for reject in decoded.rejects)
        disposed = int(np.isin(result.disposition, list(Disposition)).sum())
        unaccounted = abs(len(decoded.batch) - disposed)
        stats.messages += len(messages)
        stats.readings += len(decoded.batch) + undecoded
        stats.unaccounted += unaccounted
        stats.alerts_opened += sum(alert.status == "opened" for alert in result.alerts)
        stats.late += self._late.add(decoded, result)
        stats.duplicates += self._duplicates.add(decoded, result)
        stats.empty += int(np.count_nonzero(result.disposition == Disposition.EMPTY))
        for change in self._presence.add(decoded.batch, result):
            self._tell(change, messages)
        stats.channels_present = self._presence.shares
        if decoded.texts:
            self._texts.add(decoded.texts)
        if unaccounted:
            logger.error("readings without a disposition; this is a bug", extra={"readings": unaccounted})
        for alert in result.alerts:
            logger.info(
                f"alert {alert.status}", extra={"stream": alert.stream, "kind": alert.kind, "reason": alert.reason, "alert": alert.id}
            )
        if rejects:
            first = {reject.position: reject.error for reject in reversed(rejects)}  # one dead letter per message names one error
            self._dead_letters.update(first.values())
            stats.dead_letters = dict(self._dead_letters)  # a new one: another thread may be going through the old
            self._warn(rejects)

    def _tell(self, change: Change, messages: Messages) -> None:
        """Log what became of a channel; if it does not come, with the fields that messages have instead, the most alike first."""
        if change.what == CAME_BACK:
            logger.info("a channel comes again", extra={"channel": change.channel})
            return
        found = names_in(messages.value)
        alike = nearest(change.channel, found)
        facts = {
            "channel": change.channel,
            "of_readings": WINDOW_READINGS,
            "messages_have": [*alike, *(name for name in found if name not in alike)][:SHOWN],
        }
        fix = (
            "correct its spelling in input.channels"
            if change.what == NEVER_CAME
            else "see what stopped sending it; if it is gone for good, leave it out of input.channels"
        )
        logger.warning(f"a channel {change.what}: no reading has a value of it", extra={**facts, "fix": fix})

    def _warn(self, rejects: Sequence[Reject]) -> None:
        now_s = time.monotonic()
        if now_s >= self._warning_due_s:
            self._warning_due_s = now_s + DEAD_LETTERS_WARNING_INTERVAL_S
            first = rejects[0]
            logger.warning(
                "messages that cannot be read go to the dead letters",
                extra={"error": first.error, "reason": first.reason, "in_this_batch": len(rejects), "so_far": self._dead_letters.total()},
            )


class IgnoredReadings:
    """Readings of one disposition that are ignored. A few are usual; many are a fault of the messages or of the configuration.

    They are counted over windows of IGNORED_READINGS readings or one larger batch.

    disposition   LATE or DUPLICATE
    """

    def __init__(self, disposition: Disposition) -> None:
        self._disposition = disposition
        self._readings = self._ignored = self._so_far = 0
        self._due_s = 0.0

    def add(self, decoded: Decoded, result: BatchResult) -> int:
        """Add one batch, and warn if too many readings were ignored of late. returns  how many readings of this batch were ignored"""
        places = np.flatnonzero(result.disposition == self._disposition)
        self._readings += len(result)
        self._ignored += len(places)
        self._so_far += len(places)
        if len(places) and self._ignored > IGNORED_FRACTION_MAX * max(self._readings, IGNORED_READINGS):
            self._warn(decoded.batch, places)
            self._readings = self._ignored = 0
        if self._readings >= IGNORED_READINGS:
            self._readings = self._ignored = 0
        return len(places)

    def _warn(self, batch: ReadingBatch, places: NDArray[np.intp]) -> None:
        first = int(places[0])
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + IGNORED_WARNING_INTERVAL_S
        partition, offset = batch.partitions[batch.partition[first]], int(batch.offset[first])
        facts = {
            "of_the_last": self._readings,
            "ignored": self._ignored,
            "so_far": self._so_far,
            "such_as": f"{partition.topic}/{partition.number} offset {offset}",
        }
        if self._disposition == Disposition.LATE:
            fix = "send each stream in order, by one producer under one key; if one time was far ahead, lower input.event_time.future_s_max"
            logger.warning("many readings are ignored: they are older than the newest of their stream", extra={**facts, "fix": fix})
        else:
            fix = "if each is a reading of its own, set input.event_time.ties: offset, or name a finer time; else see who sends them twice"
            if batch.channel is None and np.isnan(batch.value[places]).any():
                fix = f"if each message has some of the channels, set input.join: true; {fix}"
            logger.warning("many readings are ignored: their stream has had a reading of the same time", extra={**facts, "fix": fix})


class TextsForNumbers:
    """Texts that stand where a channel's number should, and are taken as missing: told now and then, with their number."""

    def __init__(self, channels: Sequence[str]) -> None:
        self._channels = channels
        self._counts: Counter[tuple[int, str]] = Counter()
        self._due_s = 0.0

    def add(self, texts: Mapping[tuple[int, str], int]) -> None:
        """Count those of one batch."""
        self._counts.update(texts)
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + IGNORED_WARNING_INTERVAL_S
        told = {f"{self._channels[channel]} {text!r}": count for (channel, text), count in self._counts.most_common(SHOWN)}
        logger.warning("texts that are no numbers are taken as missing values", extra={"texts": told, "in_all": self._counts.total()})
        self._counts.clear()


def rejects_over_stream_limit(decoded: Decoded, result: BatchResult) -> list[Reject]:
    """Readings of streams over `streams.max_per_partition`: a reject for each of their messages."""
    invalid = decoded.message[result.disposition == Disposition.INVALID]
    positions, counts = np.unique(invalid, return_counts=True)
    reason = "stream: the partition has as many streams as it may; raise streams.max_per_partition, or lower streams.idle_ttl_s"
    return [Reject(int(position), "TooManyStreams", reason, int(count)) for position, count in zip(positions, counts, strict=True)]
