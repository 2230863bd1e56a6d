"""Messages as they come from a log and as they go to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from detector.core.readings import Partition

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]


def no_headers(position: int) -> Headers:
    """The headers of messages that have none."""
    return ()


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages as columns, in log order.

    key, value     one entry per message; None where Kafka has null
    partition      i4[M] index into `partitions`
    offset         i8[M]
    log_time_us    i8[M] the log's own time of the message, microseconds since the epoch; -1 where unknown
    partitions     the partitions that occur, in the order of their indices
    headers        position -> the message's headers; asked for dead letters only, before the next poll
    """

    key: Sequence[bytes | None] = ()
    value: Sequence[bytes | None] = ()
    partition: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    offset: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    log_time_us: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    partitions: tuple[Partition, ...] = ()
    headers: Callable[[int], Headers] = no_headers

    def __len__(self) -> int:
        return len(self.value)

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Messages:
        """The messages at the positions `chosen`, in that order; or those where the mask `chosen` is true."""
        positions = np.arange(len(self))[chosen].tolist()
        present, partition = np.unique(self.partition[chosen], return_inverse=True)
        return Messages(
            [self.key[position] for position in positions],
            [self.value[position] for position in positions],
            partition.astype(np.int32),
            self.offset[chosen],
            self.log_time_us[chosen],
            tuple(self.partitions[index] for index in present.tolist()),
            lambda position: self.headers(positions[position]),
        )

    def next_offsets(self) -> dict[Partition, int]:
        """Per partition that occurs: the offset after its last message."""
        last = np.full(len(self.partitions), -1, np.int64)
        np.maximum.at(last, self.partition, self.offset)
        return {partition: int(offset) + 1 for partition, offset in zip(self.partitions, last, strict=True) if offset >= 0}


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be written; its topic follows from where it stands in `ports.CommitBatch`."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
