"""Readings as columns, the names of their streams, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Partition(NamedTuple):
    """One ordered piece of a log. A stream's state belongs to the partition that carries its readings."""

    topic: str
    number: int


class Disposition(IntEnum):
    """What became of a reading. Each reading gets exactly one.

    SCORED     judged; may open an alert
    WARMUP     judged and learned from, muted: the stream's calibration has not settled yet
    LATE       older than the stream's newest reading; ignored
    DUPLICATE  as old as the stream's newest reading, where ties are not kept; ignored
    INVALID    could not be decoded; a dead letter
    PARTIAL    part of a reading, one channel's value or some, held until the reading is whole
    EMPTY      without a value of any channel; it moves its partition's time, and nothing of its stream

    0 is none, so that a reading that was skipped shows.
    """

    SCORED = 1
    WARMUP = 2
    LATE = 3
    DUPLICATE = 4
    INVALID = 5
    PARTIAL = 6
    EMPTY = 7


WHOLE, SOME = -1, -2
"""What stands for the channel of a row that is a whole reading, or some channels of one: those that have a value."""
NOT_JUDGED = 0
"""What stands for the disposition of a reading until it has one."""


class StreamNames(dict[bytes, int]):
    """Interned stream names: a small integer stands for a name (UTF-8) within a process.

    `names[name]` is the id of `name`, a new one if it has none. Ids are dense, so that columns can be indexed by them,
    and are given out again once released. A dict, because one look-up per reading is all that the budget allows.

    raises UnicodeDecodeError  when a new name is not UTF-8
    """

    def __init__(self) -> None:
        super().__init__()
        self._name_of: list[str] = []
        self._free: list[int] = []

    def __missing__(self, name: bytes) -> int:
        text = name.decode("utf-8")
        if self._free:
            new = self._free.pop()
            self._name_of[new] = text
        else:
            new = len(self._name_of)
            self._name_of.append(text)
        self[name] = new
        return new

    @property
    def ids_end(self) -> int:
        """One more than the largest id ever given out."""
        return len(self._name_of)

    def name(self, stream_id: int) -> str:
        """The name behind an id."""
        return self._name_of[stream_id]

    def release(self, stream_ids: Iterable[int]) -> None:
        """Forget names; their ids may come back with other names."""
        for stream_id in stream_ids:
            name = self._name_of[stream_id].encode("utf-8")
            if self.get(name) == stream_id:
                del self[name]
                self._free.append(stream_id)


@dataclass(frozen=True, slots=True)
class ReadingBatch:
    """Readings of many streams, as columns, in log order.

    stream_id       i4[N]    interned in a StreamNames; StateStore.rows_for maps it to a row
    event_time_us   i8[N]    microseconds since the epoch, UTC, as measured by the sensor
    value           f4[N, D] engineering units before scaling; NaN means missing, never 0
    partition       i4[N]    index into `partitions`
    offset          i8[N]    the message's offset in its partition
    item            i4[N]    the reading's place inside its message (0 unless a gateway sent several)
    partitions      the partitions that occur, in the order of their indices
    channel         i4[N]    where readings come in parts: the one channel that each row carries, or SOME; None where readings are whole

    Rows of one stream keep their log order; streams may interleave freely.
    """

    stream_id: NDArray[np.int32]
    event_time_us: NDArray[np.int64]
    value: NDArray[np.float32]
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    item: NDArray[np.int32]
    partitions: tuple[Partition, ...]
    channel: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.stream_id)

    @property
    def channels(self) -> int:
        """D, the number of channels."""
        return int(self.value.shape[1])

    def are_empty(self) -> NDArray[np.bool_]:
        """bool[N] whether a row has no value at all. One that carries a channel without a value has: it says that the channel is missing."""
        is_empty = np.isnan(self.value[:, 0])
        if not is_empty.any():
            return is_empty
        at = np.flatnonzero(is_empty)
        is_empty[at] = np.isnan(self.value[at]).all(axis=1)
        return is_empty if self.channel is None else is_empty & (self.channel < 0)

    @staticmethod
    def of_one(stream_id: int, partition: Partition, offset: int, channels: int) -> ReadingBatch:
        """One reading in which everything is missing: a place in the log."""
        one = np.array([0], np.int32)
        value = np.full((1, channels), np.nan, np.float32)
        return ReadingBatch(
            np.array([stream_id], np.int32), one.astype(np.int64), value, one, np.array([offset], np.int64), one, (partition,)
        )

    def take(self, positions: NDArray[np.intp] | slice) -> ReadingBatch:
        """The readings at `positions`, in that order."""
        return ReadingBatch(
            self.stream_id[positions],
            self.event_time_us[positions],
            self.value[positions],
            self.partition[positions],
            self.offset[positions],
            self.item[positions],
            self.partitions,
            None if self.channel is None else self.channel[positions],
        )
