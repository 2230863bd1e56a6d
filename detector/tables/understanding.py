"""A table -> readings, with what was taken for what, and everything that was left.

No row and no column goes without a word: columns that are no channel have a reason, rows that are no reading are rejected with one.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.codec.event_time import UNREAD
from detector.config import FileInput
from detector.errors import DataError
from detector.tables import long_format
from detector.tables.channels import describe, find_channels, why_none
from detector.tables.recording import IN_ORDER, NEWEST_FIRST, UNORDERED, Recording, RejectedRow, Understanding
from detector.tables.streams import TableStreams, find_streams
from detector.tables.table import Table, is_text
from detector.tables.times import TableTimes, described, every, far_from_rest, find_times
from detector.tables.zones import to_utc, zone_named

HOUR_BACK_US = 2_700_000_000, 3_600_000_000
"""A clock that is set back by an hour goes back by that, less the time since the reading before."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where a table's rows stand. time_us i8[T] UTC, UNREAD where a row has none"""

    times: TableTimes
    time_us: NDArray[np.int64]
    streams: TableStreams
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are time or stream."""
        return (*self.times.columns, *self.streams.columns)


def understand(table: Table, options: FileInput, where: str, channels: Sequence[str] | None = None) -> Recording:
    """The readings of a table.

    options   what is known of it
    where     the file's name, for messages; without its ending it names the stream where no column does
    channels  the columns to take, in this order; None: those of `options`, or all that are channels

    raises DataError, ConfigError  it cannot be read as it is
    """
    channels = channels if channels is not None else options.channels
    long = options.long_format or long_format.found(table)
    _require(table, options, () if long else channels or (), where)
    taken = (long.channel, long.value) if long else tuple(channels or ())
    rows = _rows(table, options, taken, where)
    left: dict[str, str] = {}
    if long is not None:
        gathered = long_format.gather(table, long, rows.columns, rows.streams.stream, rows.time_us, channels, where)
        first, left, channels = gathered.first, gathered.left, list(gathered.channels)
        table, rows = gathered.table, _at(rows, first)
        notes = [f"one value per row: {long.channel!r} names its channel, {long.value!r} holds it"]
        if gathered.repeated:
            notes.append(f"{gathered.repeated:,} values are of a channel that has another of the same stream and time: the last one counts")
        rows = replace(rows, notes=(*rows.notes, *notes))
    wanted, left = _channels(table, rows.columns, channels, left, where)
    return _finished(table, rows, wanted, left)


def _require(table: Table, options: FileInput, channels: Sequence[str], where: str) -> None:
    """raises DataError  a column is named that there is not"""
    long = options.long_format
    named = (
        *(("--time", name) for name in options.time or ()),
        *(("--stream", name) for name in options.stream or ()),
        *(("--channels", name) for name in channels),
        *(("recording.long_format", name) for name in ((long.channel, long.value) if long else ())),
    )
    for option, name in named:
        if name not in table.columns:
            by_lower = {other.lower(): other for other in table.columns}
            near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
            hint = f"did you mean {by_lower[near[0]]!r}? " if near else ""
            raise DataError(f"{where} has no column {name!r}; it has {described(table)}", fix=f"{hint}name another with {option}")


def _rows(table: Table, options: FileInput, taken: Sequence[str], where: str) -> Rows:
    """Time and stream of every row."""
    stem = where.split(".", maxsplit=1)[0] or where
    if options.every_s is not None:
        streams = find_streams(table, np.arange(len(table)), taken, stem, options.stream)
        times = every(table, streams.stream, options.every_s)
    else:
        others = [name for name in table.columns if name not in taken or name in (options.time or ())]
        times = find_times(replace(table, columns={name: table.columns[name] for name in others}), where, options.time, options.time_format)
        streams = find_streams(table, times.local_us, [*taken, *times.columns], stem, options.stream)
    notes = [f"{times.format} is assumed: {times.assumed}; say otherwise with --time-format"] if times.assumed else []
    if options.zone is None or times.has_offset.all():
        return Rows(times, times.local_us, streams, tuple(notes))
    found = to_utc(np.where(times.has_offset, UNREAD, times.local_us), zone_named(options.zone), streams.stream)
    if found.twice:
        notes.append(f"{found.twice:,} readings are of an hour that comes twice: the second one begins where a stream goes back in time")
    if found.never:
        notes.append(f"{found.never:,} readings bear times that do not come in {options.zone}: they are taken as of the hour before")
    return Rows(times, np.where(times.has_offset, times.local_us, found.times_us), streams, tuple(notes))


def _at(rows: Rows, places: NDArray[np.int64]) -> Rows:
    """Only some of the rows."""
    times = replace(rows.times, local_us=rows.times.local_us[places], has_offset=rows.times.has_offset[places])
    return replace(rows, times=times, time_us=rows.time_us[places], streams=replace(rows.streams, stream=rows.streams.stream[places]))


def _channels(
    table: Table, taken: Sequence[str], channels: Sequence[str] | None, left: dict[str, str], where: str
) -> tuple[list[str], dict[str, str]]:
    """The channels, and why other columns are none."""
    found, others = find_channels(table, taken)
    left = left | others
    if channels is None:
        if not found:
            fix = "name the channels with --channels; where numbers have decimal commas, give --decimal ,"
            raise DataError(f"{where} has no column of numbers that could be a channel; it has {described(table)}", fix=fix)
        return found, left
    for name in found:
        if name not in channels:
            left[name] = "not among the channels that are wanted"
    for name in channels:
        left.pop(name, None)
        if table.numbers(name) is None:
            reason = why_none(table, name)
            raise DataError(f"{where}: channel {name!r} holds no numbers: {reason}", fix="name columns of numbers with --channels")
    return list(channels), left


def _finished(table: Table, rows: Rows, wanted: Sequence[str], left: dict[str, str]) -> Recording:
    """Rows -> readings: what is no reading is rejected, the others are put in order."""
    value = np.stack([numbers.value for name in wanted if (numbers := table.numbers(name)) is not None], axis=1)
    time_us, stream = rows.time_us, rows.streams.stream
    has_time, is_named = time_us != UNREAD, stream >= 0
    is_blank = ~has_time & np.isnan(value).all(axis=1) & _are_empty(table, rows.times.columns)
    is_far = np.zeros(len(table), np.bool_)
    is_far[has_time] = far_from_rest(time_us[has_time])
    at = np.flatnonzero(has_time & is_named & ~is_far)
    rejected = [
        *_rejected(table, ~has_time & ~is_blank, rows.times.columns, "no readable time"),
        *_rejected(table, is_far, rows.times.columns, "a time that lies far from all others"),
        *_rejected(table, has_time & ~is_named & ~is_far, rows.streams.columns, "no name of a stream"),
    ]
    order, steps_back = _order(stream[at], time_us[at])
    if order != IN_ORDER:
        at = at[np.argsort(time_us[at], kind="stable")]
    times = rows.times
    zone, notes = "" if times.has_offset.all() else ", without an offset", list(rows.notes)
    if zone and order == UNORDERED and ((steps_back >= HOUR_BACK_US[0]) & (steps_back <= HOUR_BACK_US[1])).all():
        notes.append(f"times go back by an hour in {len(steps_back):,} places: if a clock was set back then, name its zone with --zone")
    understanding = Understanding(
        file="",
        time_columns=times.columns,
        time=times.format + zone,
        stream_columns=rows.streams.columns,
        stream=rows.streams.why,
        channels=tuple(describe(table, name, stream, at) for name in wanted),
        left=left,
        renamed=table.renamed,
        lines={"blank": int(is_blank.sum())} if is_blank.any() else {},
        rejected=tuple(sorted(rejected, key=lambda one: one.row)),
        order=order,
        notes=tuple(notes),
    )
    return Recording(rows.streams.names, stream[at], time_us[at], value[at], tuple(wanted), understanding)


def _are_empty(table: Table, columns: Sequence[str]) -> NDArray[np.bool_]:
    """b1[T] whether all of these cells hold nothing."""
    empty = np.ones(len(table), np.bool_)
    for name in columns:
        column = table.columns[name]
        empty &= (pc.equal(column, "") if is_text(column) else pc.is_null(column)).to_numpy()
    return empty


def _rejected(table: Table, chosen: NDArray[np.bool_], columns: Sequence[str], reason: str) -> list[RejectedRow]:
    places = np.flatnonzero(chosen)
    if not len(places):
        return []
    taken = pa.array(places)
    cells = [table.columns[name].take(taken).to_pylist() for name in columns] or [[""] * len(places)]
    texts = (" ".join("" if cell is None else str(cell) for cell in row) for row in zip(*cells, strict=True))
    return [RejectedRow(int(place) + 1, reason, text) for place, text in zip(places.tolist(), texts, strict=True)]


def _order(stream: NDArray[np.int32], event_time_us: NDArray[np.int64]) -> tuple[str, NDArray[np.int64]]:
    """How a file's readings follow one another within their streams, and how far each step back goes."""
    by_stream = np.argsort(stream, kind="stable")
    steps = np.diff(event_time_us[by_stream])[np.diff(stream[by_stream]) == 0]
    back = -steps[steps < 0]
    if not len(back):
        return IN_ORDER, back
    return (NEWEST_FIRST if (steps <= 0).all() else UNORDERED), back
