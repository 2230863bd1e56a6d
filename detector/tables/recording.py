"""Recorded readings as columns, and how they were understood."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IN_ORDER, NEWEST_FIRST, UNORDERED = "in order", "newest first", "unordered"


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is no reading. row: in the table, from 1; 0: a line that does not fit. text: what it holds where a time should be"""

    row: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """A column that is a channel.

    kind         number, boolean, constant, or counter: it only rises
    unit         empty where nothing tells it
    missing      rows without a value, texts and sentinels among them
    texts        what stands there instead of a number, and how often
    sentinel     a number that looks like one for a missing value, and how often; None: there is none
    least, most  of its values; NaN where there are none
    """

    name: str
    kind: str
    unit: str
    missing: int
    texts: dict[str, int]
    sentinel: tuple[float, int] | None
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Understanding:
    """How a recording was read: what was taken for what, and everything that was left.

    file            its kind in words: CSV, its separator, its encoding
    time_columns    that event time came from; () where it follows from the rows' order
    time            how, in words
    stream_columns  that name the stream; () where none does
    stream          why, in words
    channels        what each channel holds
    left            columns that are no channel, and why
    renamed         columns that the file gives no name, or one that it gives twice: the name here -> the one in the file
    lines           lines that are no row, by kind: title, units, comment, blank
    rejected        rows that are no reading; of `lines_unkept` more only the number is known
    order           IN_ORDER, NEWEST_FIRST or UNORDERED, as the file has it; readings here are in order
    notes           what was assumed, in words
    """

    file: str
    time_columns: tuple[str, ...]
    time: str
    stream_columns: tuple[str, ...] = ()
    stream: str = ""
    channels: tuple[ChannelFacts, ...] = ()
    left: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    rejected: tuple[RejectedRow, ...] = ()
    lines_unkept: int = 0
    order: str = IN_ORDER
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded readings as columns; within a stream in the order of their times.

    streams        names of the S streams
    stream         i4[T]     index into `streams`
    event_time_us  i8[T]     microseconds since the epoch, UTC
    value          f8[T, D]  engineering units; NaN where missing
    channels       names of the D channels
    """

    streams: tuple[str, ...]
    stream: NDArray[np.int32]
    event_time_us: NDArray[np.int64]
    value: NDArray[np.float64]
    channels: tuple[str, ...]
    understanding: Understanding

    def __len__(self) -> int:
        return len(self.event_time_us)

    @property
    def rejected(self) -> int:
        """Rows that are no reading."""
        return len(self.understanding.rejected) + self.understanding.lines_unkept
