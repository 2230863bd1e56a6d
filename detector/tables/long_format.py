"""Rows of one value each -> one row per stream and time, with a column for each channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.config import LongFormat
from detector.errors import DataError
from detector.tables import names
from detector.tables.channels import why_none
from detector.tables.table import Table, is_text

CHANNELS_MAX = 200
LEFT_NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class Gathered:
    """first: the row of the old table that each row of the new one began with, i8[T]; channels: names; left: what is not in it, and why;
    repeated: values of a channel that had one of the same stream and time"""

    table: Table
    first: NDArray[np.int64]
    channels: tuple[str, ...]
    left: dict[str, str]
    repeated: int


def found(table: Table) -> LongFormat | None:
    """The columns of channel and value, where they are named so and few texts repeat in the first; None: rows are whole readings."""
    labels = [name for name, column in table.columns.items() if names.has_word(name, names.CHANNEL_WORDS) and is_text(column)]
    labels = [name for name in labels if table.numbers(name) is None]
    values = [name for name in table.columns if names.has_word(name, names.VALUE_WORDS) and table.numbers(name) is not None]
    if len(labels) != 1 or len(values) != 1:
        return None
    distinct = pc.count_distinct(table.columns[labels[0]]).as_py()
    return LongFormat(channel=labels[0], value=values[0]) if distinct <= min(CHANNELS_MAX, max(1, len(table) // 2)) else None


def gather(
    table: Table,
    long: LongFormat,
    others: Sequence[str],
    stream: NDArray[np.int32],
    time_us: NDArray[np.int64],
    wanted: Sequence[str] | None,
    where: str,
) -> Gathered:
    """Put the values of one stream and time together. Of two values of one channel the later row's counts.

    others        columns of time and stream, which are kept
    stream, time_us   i4[T], i8[T] of the rows
    wanted        channels to take; None: all

    raises DataError  the column of values holds no numbers; too many channels
    """
    numbers = table.numbers(long.value)
    if numbers is None:
        raise DataError(
            f"{where}: {long.value!r} holds no numbers: {why_none(table, long.value)}", fix="name another in recording.long_format"
        )
    labels = ["" if label is None else str(label) for label in table.columns[long.channel].to_pylist()]
    numeric = {label for label, is_there in zip(labels, np.isfinite(numbers.value).tolist(), strict=True) if is_there}
    known = list(wanted) if wanted is not None else [label for label in dict.fromkeys(labels) if label and label in numeric]
    if len(known) > CHANNELS_MAX:
        raise DataError(f"{where}: {long.channel!r} names {len(known):,} channels", fix="name those that you want with --channels")
    if not set(known) & set(labels):
        there = ", ".join(list(dict.fromkeys(labels))[:10])
        raise DataError(f"{where}: {long.channel!r} names none of {', '.join(known)}", fix=f"it names {there}")
    place = {name: number for number, name in enumerate(known)}
    channel = np.array([place.get(label, -1) for label in labels], np.int64)
    chosen = np.flatnonzero(channel >= 0)
    pairs = np.empty(len(chosen), [("stream", "<i4"), ("time", "<i8")])
    pairs["stream"], pairs["time"] = stream[chosen], time_us[chosen]
    _, first, which = np.unique(pairs, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(first), np.int64)
    rank[order] = np.arange(len(first))
    value = np.full((len(first), len(known)), np.nan)
    value[rank[which], channel[chosen]] = numbers.value[chosen]
    repeated = len(chosen) - len(np.unique(rank[which] * len(known) + channel[chosen]))
    begun = chosen[first[order]]
    kept = {name: table.columns[name].take(pa.array(begun)) for name in others}
    gathered = Table(kept | {name: pa.chunked_array([value[:, number]]) for number, name in enumerate(known)})
    left = {name: "not needed" for name in table.columns if name not in (*others, long.channel, long.value)}
    ignored = Counter(label for label, number in zip(labels, channel.tolist(), strict=True) if number < 0)
    left |= {
        f"{long.channel} {label!r}": f"{count:,} values of a channel that is not wanted"
        if label in numeric
        else f"{count:,} values, none a number"
        for label, count in ignored.most_common(LEFT_NAMED_MAX)
    }
    return Gathered(gathered, begun, tuple(known), left, repeated)
