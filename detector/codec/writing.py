"""Readings as columns -> JSON messages in the shape that a configuration reads: `JsonReadings` of the same format reads them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.codec.event_time import MULTIPLIER, NANOSECONDS, rfc3339
from detector.codec.reading_format import EventTimeUnit, ReadingFormat
from detector.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Written:
    """M messages in order, with the event time of each, i8[M], microseconds since the epoch."""

    keys: list[bytes]
    values: list[bytes]
    event_time_us: NDArray[np.int64]


class JsonWriter:
    """Writes readings of S streams and D channels.

    A message is one reading, or in long format one value. Its key is the stream's name, so that a stream stays in order, also where
    fields of the message name it. A missing value is left out; in an array it is null. In long format a reading without any value is no message.
    Paths become nested objects. With `records_path` each message is an array with one reading, in long format with its values.

    format   the shape; `message_bytes_max` and the bounds of event time are ignored
    streams  names of the S streams

    raises DataError    a stream's name has fewer parts than the format has fields that name it
    raises ConfigError  the format names one field for two purposes
    """

    def __init__(self, format: ReadingFormat, streams: Sequence[str]) -> None:
        self._format = format
        self._keys = [name.encode() for name in streams]
        self._parts = [_parts(name, format.stream) for name in streams]
        head = [*format.stream, *([] if format.event_time is None else [format.event_time])]
        if format.channel_path is not None:
            paths = [*head, format.channel_path, format.value_path or "value"]
        else:
            paths = [*head, *([format.array_path] if format.array_path is not None else format.channels)]
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise ConfigError(
                f"`input` names the field {twice!r} for two purposes: it can be read so, but not written", fix="name two fields"
            )
        self._ways = [_way(path, paths) for path in paths]
        self._record = self._nested if any(way.outer for way in self._ways) else _flat(self._ways)

    def write(self, stream: NDArray[np.int32], event_time_us: NDArray[np.int64], value: NDArray[np.floating[Any]]) -> Written:
        """Readings in order: stream i4[N] index into the streams, event time i8[N], value [N, D] with NaN where missing."""
        indices = stream.tolist()
        heads = [self._parts[index] for index in indices]
        if self._format.event_time is not None:
            times = _times(event_time_us, self._format.event_time_unit)
            heads = [(*head, time) for head, time in zip(heads, times, strict=True)]
        values = value.tolist()
        for row in np.flatnonzero(np.isnan(value).any(axis=1)).tolist():
            values[row] = [None if entry != entry else entry for entry in values[row]]  # NaN is not equal to itself
        rows, bodies = self._bodies(heads, values)
        encode = msgspec.json.Encoder().encode
        return Written([self._keys[indices[row]] for row in rows], [encode(body) for body in bodies], event_time_us[list(rows)])

    def _bodies(self, heads: Sequence[tuple[Any, ...]], values: Sequence[list[float | None]]) -> tuple[Sequence[int], list[Any]]:
        """The reading that each message is made from, and the messages' contents."""
        pairs = zip(heads, values, strict=True)
        if self._format.channel_path is None:
            if self._format.array_path is not None:
                whole = [self._record(*head, row) for head, row in pairs]
            else:
                whole = [self._record(*head, *row) for head, row in pairs]
            return range(len(whole)), whole if self._format.records_path is None else [self._gathered([record]) for record in whole]
        long = [self._long_format(head, row) for head, row in pairs]
        if self._format.records_path is None:
            return [row for row, records in enumerate(long) for _ in records], [record for records in long for record in records]
        rows = [row for row, records in enumerate(long) if records]
        return rows, [self._gathered(long[row]) for row in rows]

    def _long_format(self, head: tuple[Any, ...], values: list[float | None]) -> list[dict[str, Any]]:
        """One object per value that is there."""
        named = zip(self._format.channels, values, strict=True)
        return [self._record(*head, channel, entry) for channel, entry in named if entry is not None]

    def _nested(self, *entries: Any) -> dict[str, Any]:
        """One object: each entry at its path."""
        record: dict[str, Any] = {}
        for (outer, last, in_full), entry in zip(self._ways, entries, strict=True):
            if entry is not None or in_full:
                inner = record
                for key in outer:
                    inner = inner.setdefault(key, {})
                inner[last] = entry
        return record

    def _gathered(self, records: list[dict[str, Any]]) -> Any:
        """The array of a gateway's message, at its path."""
        body: Any = records
        if self._format.records_path != ".":
            for key in reversed((self._format.records_path or "").split(".")):
                body = {key: body}
        return body


def _parts(name: str, fields: Sequence[str]) -> tuple[str, ...]:
    """What the fields that name a stream hold: the parts of its name, all that is left in the last one."""
    parts = tuple(name.split("/", len(fields) - 1)) if fields else ()
    if len(parts) < len(fields) or not all(parts):
        raise DataError(
            f"the stream {name!r} cannot be written into {len(fields)} fields ({', '.join(fields)}): they are the parts of its name, between '/'",
            fix="name as many fields in input.stream as the name has parts, or leave it out: the message's key names the stream then",
        )
    return parts


class _Way(NamedTuple):
    """The keys that lead to a path, the last one, and whether it is written even where its value is missing, as null."""

    outer: tuple[str, ...]
    last: str
    in_full: bool


def _way(path: str, paths: Sequence[str]) -> _Way:
    """A dotted path becomes nested objects, but for one on whose way another path ends: it stays one key.

    Left out where its value is missing, such a path would be looked for inside the other one's value.
    """
    parts = path.split(".")
    leads_through = any(".".join(parts[:end]) in paths for end in range(1, len(parts)))
    if leads_through or not all(parts):
        return _Way((), path, leads_through)
    return _Way(tuple(parts[:-1]), parts[-1], in_full=False)


def _flat(ways: Sequence[_Way]) -> Callable[..., Any]:
    """Makes objects without nesting, which is the usual shape: twice as quick as a dictionary."""
    fields = [(f"f{number}", Any, msgspec.UNSET if way.in_full else None) for number, way in enumerate(ways)]
    names = {f"f{number}": way.last for number, way in enumerate(ways)}
    return msgspec.defstruct("Row", fields, rename=names, omit_defaults=True, gc=False)


def _times(event_time_us: NDArray[np.int64], unit: EventTimeUnit) -> list[Any]:
    """Event times in a unit, exact to the microsecond; `auto` writes microseconds."""
    if unit == "iso8601":
        return [rfc3339(time) for time in event_time_us.tolist()]
    per_unit = MULTIPLIER.get(unit, 1)
    times: NDArray[Any] = event_time_us
    if unit == "ns":
        times = event_time_us * NANOSECONDS
    elif per_unit > 1:
        times = event_time_us / per_unit if (event_time_us % per_unit).any() else event_time_us // per_unit
    return list(times.tolist())
