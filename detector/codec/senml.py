"""SenML messages -> readings as columns, one value of one channel each.

A message is an array of records. Base name, time, unit and value hold for the record that they stand in and for those after it. A name,
base name and name together, ends with the name of a channel, and what is before it names the stream; where nothing is, the message's key
does. A record whose name is the stream's alone has the channel that bears the name of its unit.

source: RFC 8428, Sensor Measurement Lists, sections 4.1 to 4.6 and 5
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detector.codec.event_time import earliest_latest_us
from detector.codec.messages import Messages
from detector.codec.reading_columns import sentinels_taken
from detector.codec.reading_format import STREAM_BYTES_MAX, Decoded, ErrorName, ReadingFormat, Reject, Unreadable, few_texts
from detector.core.readings import ReadingBatch, StreamNames

RELATIVE_BELOW_S = 2**28
"""Smaller times are seconds from now, which is the log's own time of the message."""
VERSION_MAX = 10
SEPARATORS = ":/._-"
NAMES_MAX = 200_000
SECONDS_MAX = 1e12
BASE = frozenset(("bn", "bt", "bu", "bv", "bs", "bver"))
OWN = ("n", "v", "vb", "vs", "vd", "s", "bv")
LABELS = BASE | frozenset(("n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"))
"""All labels that the RFC has."""
FLOAT32_MAX = float(np.finfo(np.float32).max)

_decode = msgspec.json.Decoder(list[dict[str, Any]]).decode


class Record(NamedTuple):
    """A record with what base fields say: whole name, unit, seconds since the epoch or from now, value (NaN: no number), text instead."""

    name: str
    unit: str
    time_s: float
    value: float
    text: str = ""


class _Row(NamedTuple):
    """A value, as a row of the batch."""

    message: int
    item: int
    stream: bytes
    time_us: int
    value: float
    channel: int


class _Near(NamedTuple):
    """The log's own time of a message (negative: unknown), and the bounds of event time."""

    log_time_us: int
    earliest_us: int
    latest_us: int


class SenmlReadings:
    """Decodes SenML messages, a batch at once.

    format   its channels are the ends of names; its paths are not used
    """

    def __init__(self, format: ReadingFormat, names: StreamNames) -> None:
        self._format = format
        self._stream_names = names
        self._by_length = sorted(enumerate(format.channels), key=lambda each: -len(each[1]))
        self._by_unit = {name: number for number, name in enumerate(format.channels)}
        self._known: dict[tuple[str, str], tuple[str, int]] = {}

    def decode(self, messages: Messages) -> Decoded:
        """Every value of `messages`, in log order, and a reject for every record that cannot be read.

        Raises for nothing that a message may hold.
        """
        found: list[_Row] = []
        rejects: list[Reject] = []
        texts: Counter[tuple[int, str]] = Counter()
        ignored = 0
        earliest_us, latest_us = earliest_latest_us(messages.log_time_us, self._format)
        for place, value in enumerate(messages.value):
            near = _Near(int(messages.log_time_us[place]), int(earliest_us[place]), int(latest_us[place]))
            lost: dict[ErrorName, Reject] = {}
            try:
                for item, record in enumerate(resolved(_records(value, self._format.message_bytes_max))):
                    try:
                        row = self._row(record, messages.key[place], near)
                    except Unreadable as why:
                        first = lost.get(why.error) or Reject(place, why.error, f"[{item}].{why.reason}", 0)
                        lost[why.error] = replace(first, readings=first.readings + 1)
                    else:
                        ignored += row is None
                        if row is not None:
                            found.append(_Row(place, item, *row))
                            texts[row[-1], record.text] += bool(record.text)  # type: ignore[union-attr]  # it has a row
            except Unreadable as why:
                lost[why.error] = Reject(place, why.error, why.reason)
            rejects += lost.values()
        batch = self._batch(messages, found)
        texts.update(sentinels_taken(batch.value, np.array(self._format.missing_values, np.float32)))
        return Decoded(
            batch,
            np.array([row.message for row in found], np.int64),
            tuple(rejects),
            ignored,
            texts=few_texts(texts),
        )

    def _row(self, record: Record | Unreadable, key: bytes | None, near: _Near) -> tuple[bytes, int, float, int] | None:
        """Stream, event time, value and channel of a record; None if the model has no such channel."""
        if isinstance(record, Unreadable):
            raise record
        stream, channel = self._named(record.name, record.unit)
        if channel < 0:
            return None
        name = stream.encode("utf-8") or key
        if not name:
            raise Unreadable("MissingStream", "expected a name before the channel's, or a key of the message, found neither", "n")
        if len(name) > STREAM_BYTES_MAX:
            raise Unreadable("TooLarge", f"expected a name of at most {STREAM_BYTES_MAX} bytes, found {len(name)} bytes", "n")
        if not abs(record.value) <= FLOAT32_MAX and record.value == record.value:
            raise Unreadable("OutOfRange", f"expected a number within float32 (3.4e38), found {record.value:g}", "v")
        return name, _time_us(record.time_s, near), record.value, channel

    def _named(self, full: str, unit: str) -> tuple[str, int]:
        """The stream and the channel in a name; -1 where the model has no such channel."""
        known = self._known.get((full, unit))
        if known is not None:
            return known
        stream, channel = full.rstrip(SEPARATORS), self._by_unit.get(unit, -1)
        for number, name in self._by_length:
            before = full.removesuffix(name)
            if len(before) < len(full) and (not before or before[-1] in SEPARATORS):
                stream, channel = before.rstrip(SEPARATORS), number
                break
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        self._known[full, unit] = stream, channel
        return stream, channel

    def _batch(self, messages: Messages, found: list[_Row]) -> ReadingBatch:
        count = len(found)
        message = np.array([row.message for row in found], np.int64)
        channel = np.array([row.channel for row in found], np.int32)
        value = np.full((count, len(self._format.channels)), np.nan, np.float32)
        value[np.arange(count), channel] = [row.value for row in found]
        return ReadingBatch(
            np.fromiter((self._stream_names[row.stream] for row in found), np.int32, count),
            np.array([row.time_us for row in found], np.int64),
            value,
            messages.partition[message],
            messages.offset[message],
            np.array([row.item for row in found], np.int32),
            messages.partitions,
            channel,
        )


def resolved(records: Iterable[Mapping[str, Any]]) -> Iterator[Record | Unreadable]:
    """The records with a value or a name of their own, with what base fields before them say; or why one cannot be read."""
    base: dict[str, Any] = {}
    for record in records:
        base.update((name, value) for name, value in record.items() if name in BASE)
        if not any(name in record for name in OWN):
            continue  # it only says what holds for others
        try:
            yield _resolved(record, base)
        except Unreadable as why:
            yield why


def parted(name: str, unit: str) -> tuple[str, str]:
    """Stream and channel in a name, where no channels are known: before the last separator, and after it.

    A name that looks like an id alone is the stream's, and the unit names the channel.

    >>> parted("urn:dev:ow:10e2073a01080063:voltage", "V")
    ('urn:dev:ow:10e2073a01080063', 'voltage')
    """
    place = max(name.rfind(mark) for mark in ":/")
    stream, channel = (name[:place].rstrip(SEPARATORS), name[place + 1 :]) if place >= 0 else ("", name)
    return (name.rstrip(SEPARATORS), unit) if unit and any(character.isdigit() for character in channel[-4:]) else (stream, channel)


def _resolved(record: Mapping[str, Any], base: Mapping[str, Any]) -> Record:
    if unknown := next((name for name in record if name.endswith("_")), None):
        raise Unreadable("WrongType", "expected fields that are known, found one that must be understood", unknown)
    version = base.get("bver", 0)
    if not isinstance(version, int) or version > VERSION_MAX:
        raise Unreadable("WrongType", f"expected SenML of version {VERSION_MAX} at most, found {version!r}", "bver")
    return Record(
        _text(base.get("bn", ""), "bn") + _text(record.get("n", ""), "n"),
        _text(record.get("u", base.get("bu", "")), "u"),
        _number(base.get("bt", 0), "bt") + _number(record.get("t", 0), "t"),
        value := _value(record, base),
        str(record.get("vs", "")) if value != value else "",
    )


def _records(value: bytes | None, bytes_max: int) -> list[dict[str, Any]]:
    if value is None:
        raise Unreadable("NullValue", "expected SenML, found null (a tombstone)", "value")
    if not value:
        raise Unreadable("EmptyValue", "expected SenML, found no bytes", "value")
    if len(value) > bytes_max:
        raise Unreadable("TooLarge", f"expected SenML of at most {bytes_max} bytes, found {len(value)} bytes", "value")
    try:
        return _decode(value)
    except RecursionError:
        raise Unreadable("TooDeep", "expected SenML, found JSON nested too deep", "value") from None
    except msgspec.ValidationError:
        raise Unreadable("WrongType", "expected an array of records (SenML), found other JSON", "value") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreadable("MalformedJson", f"expected JSON, found none: {error}", "value") from None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Unreadable("WrongType", f"expected text, found {msgspec.json.encode(value)[:40].decode('utf-8', 'replace')}", name)
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable("WrongType", f"expected a number, found {msgspec.json.encode(value)[:40].decode('utf-8', 'replace')}", name)
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _time_us(seconds: float, near: _Near) -> int:
    """The time of a record, microseconds since the epoch."""
    if abs(seconds) < RELATIVE_BELOW_S:
        if near.log_time_us < 0:
            raise Unreadable(
                "MissingEventTime", f"expected a time since the epoch, found {seconds:g} s from now, and no log's own time", "t"
            )
        time_us = near.log_time_us + round(seconds * 1e6)
    else:
        time_us = round(seconds * 1e6) if abs(seconds) < SECONDS_MAX else -1
    if not near.earliest_us <= time_us <= near.latest_us:
        raise Unreadable("OutOfRange", f"expected an event time near the log's own, found {seconds:.16g} s since the epoch", "t")
    return time_us


def _value(record: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    """The value of a record; NaN where it has text, data or a sum instead."""
    if "v" in record or ("bv" in base and not any(name in record for name in ("vb", "vs", "vd", "s"))):
        return _number(record.get("v", 0), "v") + _number(base.get("bv", 0), "bv")
    if isinstance(flag := record.get("vb"), bool):
        return float(flag)
    if "vb" in record:
        raise Unreadable("WrongType", "expected true or false", "vb")
    return math.nan
