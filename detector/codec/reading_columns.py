"""Readings as columns, before their streams are interned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress

import numpy as np
from numpy.typing import NDArray

from detector.codec.slow_path import Read


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings whose streams are not interned yet.

    message   i8[N] position of each reading's message
    item      i4[N] position of the reading in its message
    value     f4[N, D]
    channel   i4[N] in long format the reading's channel, otherwise -1
    """

    message: NDArray[np.int64]
    item: NDArray[np.int32]
    stream: list[bytes]
    event_time_us: NDArray[np.int64]
    value: NDArray[np.float32]
    channel: NDArray[np.int32]

    def kept(self, keep: NDArray[np.bool_]) -> Columns:
        """Those where `keep` is true."""
        return Columns(
            self.message[keep],
            self.item[keep],
            list(compress(self.stream, keep)),
            self.event_time_us[keep],
            self.value[keep],
            self.channel[keep],
        )


def columns_of(read: Mapping[int, Read], channels: int) -> Columns:
    """The slow path's readings; `read` by position of the message, in log order."""
    readings = [(position, reading) for position, one in read.items() for reading in one.readings]
    return Columns(
        np.array([position for position, _ in readings], np.int64),
        np.array([reading.item for _, reading in readings], np.int32),
        [reading.stream for _, reading in readings],
        np.array([reading.event_time_us for _, reading in readings], np.int64),
        np.array([reading.value for _, reading in readings], np.float32).reshape(len(readings), channels),
        np.array([reading.channel for _, reading in readings], np.int32),
    )


def in_log_order(parts: Sequence[Columns]) -> Columns:
    """All of `parts`, at least one. Each is in log order already, and each message is in one of them only."""
    if len(parts) == 1:
        return parts[0]
    message = np.concatenate([part.message for part in parts])
    order = np.argsort(message, kind="stable")
    stream = list(chain.from_iterable(part.stream for part in parts))
    return Columns(
        message[order],
        np.concatenate([part.item for part in parts])[order],
        [stream[place] for place in order.tolist()],
        np.concatenate([part.event_time_us for part in parts])[order],
        np.concatenate([part.value for part in parts])[order],
        np.concatenate([part.channel for part in parts])[order],
    )


def sentinels_taken(value: NDArray[np.float32], sentinels: NDArray[np.float32]) -> Counter[tuple[int, str]]:
    """Make NaN of the numbers that stand for a missing value; how often, by number of the channel and the number. value f4[N, D], sentinels f4[S]"""
    found: Counter[tuple[int, str]] = Counter()
    for sentinel in sentinels:
        is_sentinel = value == sentinel
        found.update({(channel, f"{sentinel:g}"): int(count) for channel, count in enumerate(is_sentinel.sum(axis=0)) if count})
        value[is_sentinel] = np.nan
    return found
