"""JSON messages -> readings as columns.

Two paths. The fast path (`fast_path`) decodes a whole batch: some 0.4 us per message of 110 bytes with four channels. Messages that it refuses,
and formats that it does not cover (an array of readings in a message), go to the slow path (`slow_path`), one message at a time: some
7 to 15 us per reading. The slow path decides, and gives the reason. Both agree on every message that the fast path accepts (a property test).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from detector.codec.fast_path import FastPath, FastRead
from detector.codec.field_extractor import OverlappingPaths
from detector.codec.messages import Messages
from detector.codec.reading_columns import Columns, columns_of, in_log_order, sentinels_taken
from detector.codec.reading_format import (
    Decoded,
    ErrorName,
    EventTimeUnit,
    ReadingFormat,
    Reject,
    few_texts,
)
from detector.codec.slow_path import Read, SlowPathReader
from detector.core.readings import SOME, ReadingBatch, StreamNames

__all__ = ["Decoded", "ErrorName", "EventTimeUnit", "JsonReadings", "ReadingFormat", "Reject"]


class JsonReadings:
    """Decodes JSON messages, a whole batch at once."""

    def __init__(self, format: ReadingFormat, names: StreamNames) -> None:
        self._format = format
        self._names = names
        self._sentinels = np.array(format.missing_values, np.float32)
        self._slow_path = SlowPathReader(format)
        self._fast_path: FastPath | None = None  # None: it does not cover the format
        with suppress(OverlappingPaths):
            self._fast_path = FastPath(format)

    def decode(self, messages: Messages) -> Decoded:
        """Every reading of `messages`, in log order, and a reject for every one that cannot be read.

        Raises for nothing that a message may hold. Only streams with a reading in the batch are interned.
        """
        fast = self._fast_path.read(messages) if self._fast_path else FastRead(left=list(range(len(messages))))
        columns, texts, ignored = fast.columns, fast.texts, fast.ignored
        rejects: list[Reject] = []
        if fast.left or not columns:
            read = self._read_slowly(messages, sorted(fast.left))
            for position, one in read.items():
                rejects += [Reject(position, revoked.error, revoked.reason, revoked.readings) for revoked in one.revoked.values()]
                ignored += one.ignored
                texts.update(one.texts)
            columns.append(columns_of(read, len(self._format.channels)))
        whole = in_log_order(columns)
        if len(self._sentinels):
            texts.update(sentinels_taken(whole.value, self._sentinels))
        return Decoded(self._batch(messages, whole), whole.message, tuple(rejects), ignored, texts=few_texts(texts))

    def _read_slowly(self, messages: Messages, positions: Sequence[int]) -> dict[int, Read]:
        """The slow path's result for the messages at `positions`."""
        read = self._slow_path.read
        return {place: read(messages.value[place], messages.key[place], int(messages.log_time_us[place])) for place in positions}

    def _batch(self, messages: Messages, columns: Columns) -> ReadingBatch:
        return ReadingBatch(
            np.fromiter(map(self._names.__getitem__, columns.stream), np.int32, len(columns.stream)),
            columns.event_time_us,
            columns.value,
            messages.partition[columns.message],
            messages.offset[columns.message],
            columns.item,
            messages.partitions,
            self._parts(columns),
        )

    def _parts(self, columns: Columns) -> NDArray[np.int32] | None:
        """The channel that each row carries, or SOME; None where rows are whole readings."""
        if self._format.channel_path is not None:
            return columns.channel
        return np.full(len(columns.channel), SOME, np.int32) if self._format.joins else None
