"""Messages of a topic, or of a file, as a table: what in them is time, stream and channel, and how a configuration says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.config import FileInput
from detector.errors import DataError
from detector.inspection.proposal import MessageShape, time_problem
from detector.tables import long_format
from detector.tables.json_rows import JsonShape
from detector.tables.json_table import JsonTable
from detector.tables.recording import Recording
from detector.tables.streams import APART, find_streams, repeated_share
from detector.tables.table import Table
from detector.tables.times import find_times
from detector.tables.understanding import understand

KEY, LOG_TIME = "(key)", "(log time)"
"""Columns of what a message has beside its value."""
BY_KEY = "the message's key"
NAMED_SHARE_MIN = 0.99
TIES_SHARE_MAX = 0.01


@dataclass(frozen=True, slots=True)
class FoundMessages:
    """How messages can be read. problem: why a configuration cannot read them so; empty: it can"""

    recording: Recording
    shape: MessageShape
    problem: str = ""


def understand_messages(
    found: JsonTable,
    options: FileInput,
    where: str,
    keys: Sequence[str | None] | None = None,
    log_time_us: NDArray[np.int64] | None = None,
) -> FoundMessages:
    """What messages hold.

    found        their values
    keys         the name in each message's key; None: they have none
    log_time_us  i8[M] the log's own time of each; None: not known

    raises DataError, ConfigError  there is no time, or no channel
    """
    is_time_given = options.time is not None
    long = options.long_format or found.shape.long_format or long_format.found(found.table)
    table, array_path, notes = found.table, None if long or options.channels else _array_path(found.shape), []
    channels = options.channels
    if array_path is not None:
        channels = tuple(f"{array_path}[{place}]" for place in range(found.shape.arrays[array_path]))
        notes.append(f"{array_path!r} is an array of {len(channels)} numbers: a channel each")
    named = {"long_format": long, "time": options.time or _time(table, where, options, is_in_log=log_time_us is not None)}
    options = options.model_copy(update=named)
    taken = (long.channel, long.value) if long else tuple(channels or ())
    if log_time_us is not None:
        times = pa.array(log_time_us[found.message], pa.timestamp("us", tz="UTC"))
        table = _with_column(table, LOG_TIME, pa.chunked_array([times]))
    stream, why = options.stream, ""
    if stream is None and keys is not None:
        of_rows = pa.chunked_array([pa.array([keys[place] or "" for place in found.message], pa.string())])
        table = _with_column(table, KEY, of_rows)
        stream, why = _stream(table, taken, options, where, (long.channel,) if long else ())
    recording = understand(table, options.model_copy(update={"stream": stream}), where, channels)
    joined = _joined(table, options, where, recording) if long is None and (why or recording.understanding.stream) == APART else None
    if joined is not None:
        recording, why = joined, "" if joined.understanding.stream_columns != (KEY,) else BY_KEY
        notes.append("messages of one stream and time have different channels: joined, they are one reading")
    told = recording.understanding
    left = {name: reason for name, reason in told.left.items() if name not in (KEY, LOG_TIME)}
    left |= found.shape.left
    if keys is not None and not told.stream_columns:
        why = "nothing names any: neither the messages' keys nor a field"
    told = replace(told, left=left, stream=why or told.stream, rejected=(*found.rejected, *told.rejected), notes=(*told.notes, *notes))
    shape = MessageShape(
        format="senml" if found.shape.is_senml else "json",
        key="utf8" if told.stream_columns == (KEY,) else None,
        records_path=found.shape.records_path,
        array_path=array_path,
        long_format=long,
        join=joined is not None,
    )
    problem = "" if told.time_columns == (LOG_TIME,) else time_problem(told)
    if problem and log_time_us is not None and not is_time_given:
        by_log = understand_messages(found, options.model_copy(update={"time": (LOG_TIME,)}), where, keys, log_time_us)
        told = by_log.recording.understanding
        told = replace(told, notes=(*told.notes, f"{problem}: Kafka's own time counts"))
        return replace(by_log, recording=replace(by_log.recording, understanding=told))
    return FoundMessages(replace(recording, understanding=told), shape, problem)


def _array_path(shape: JsonShape) -> str | None:
    """The array of numbers whose entries are the channels: the longest; None where messages have none."""
    return max(shape.arrays, key=lambda path: shape.arrays[path], default=None)


def _time(table: Table, where: str, options: FileInput, *, is_in_log: bool) -> tuple[str, ...] | None:
    """The columns of time; the log's own time, where no field is one. None: what the table's rows tell is for others to find."""
    if not is_in_log or options.every_s is not None:
        return None
    try:
        return find_times(table, where, None, options.time_format).columns
    except DataError:
        return (LOG_TIME,)


def _stream(
    table: Table, taken: Sequence[str], options: FileInput, where: str, channel: tuple[str, ...]
) -> tuple[tuple[str, ...] | None, str]:
    """The columns that name the stream, and why: the key, if nearly all messages have one and it tells readings of one time apart.

    channel  in long format the column that names it
    """
    key = table.columns[KEY]
    named = float(pc.mean(pc.cast(pc.not_equal(key, ""), pa.int8())).as_py() or 0)
    distinct = pc.count_distinct(key).as_py()
    is_name = named >= NAMED_SHARE_MIN and (distinct < len(table) / 2 or len(table) <= 4)
    others = replace(table, columns={name: column for name, column in table.columns.items() if name not in (KEY, LOG_TIME)})
    times = find_times(table, where, options.time, options.time_format)
    found = find_streams(others, times.local_us, [*taken, *times.columns], "", None)
    fields = found.columns
    if not is_name:
        return fields or None, found.why
    by_key = (KEY,), BY_KEY
    if times.columns == (LOG_TIME,) or not fields:
        return by_key
    ties = repeated_share(table, (KEY, *channel), times.local_us)
    better = repeated_share(table, (*fields, *channel), times.local_us)
    return by_key if ties <= TIES_SHARE_MAX or better >= ties else (fields, found.why)


def _joined(table: Table, options: FileInput, where: str, recording: Recording) -> Recording | None:
    """The readings by the key, or by all but the last of the columns that name the stream, and joined: rows of one time are of different channels.

    None: they are not
    """
    by = (KEY,) if KEY in table.columns else recording.understanding.stream_columns[:-1]
    if not by:
        return None
    found = understand(table, options.model_copy(update={"stream": by}), where, recording.channels)
    pairs = np.empty(len(found), [("stream", "<i4"), ("time", "<i8")])
    pairs["stream"], pairs["time"] = found.stream, found.event_time_us
    whole, which = np.unique(pairs, return_inverse=True)
    counts = np.zeros((len(whole), len(found.channels)), np.int64)
    np.add.at(counts, which, np.isfinite(found.value))
    if (counts > 1).any():
        return None
    value = np.full(counts.shape, np.nan)
    rows, channels = np.nonzero(np.isfinite(found.value))
    value[which[rows], channels] = found.value[rows, channels]
    by_time = np.argsort(whole["time"], kind="stable")
    missing = np.isnan(value).sum(axis=0).tolist()
    channels_told = tuple(replace(one, missing=count) for one, count in zip(found.understanding.channels, missing, strict=True))
    told = replace(found.understanding, stream="by its name", channels=channels_told)
    return replace(found, stream=whole["stream"][by_time], event_time_us=whole["time"][by_time], value=value[by_time], understanding=told)


def _with_column(table: Table, name: str, column: pa.ChunkedArray) -> Table:
    return replace(table, columns=table.columns | {name: column})
