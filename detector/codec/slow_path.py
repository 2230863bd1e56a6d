"""The slow path of decoding, one message at a time: decides about the messages that the fast path refuses, and gives the reason.

It is ten times slower. Every message that the fast path accepts, the slow path accepts with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from detector.codec.event_time import FAR_US, event_time_us, number_of, rfc3339
from detector.codec.json_values import (
    ARRAY,
    BARE,
    FALSE,
    NULL,
    OBJECT,
    TEXT,
    TRUE,
    Object,
    array_of,
    described,
    find,
    kind_of,
    object_of,
    present,
    text_of,
)
from detector.codec.reading_format import STREAM_BYTES_MAX, ErrorName, ReadingFormat, Unreadable

NAN = float("nan")
FLOAT32_END = (2 - 2**-24) * 2.0**127  # the smallest number that float32 rounds to infinity

_decode_float = msgspec.json.Decoder(float).decode
_decode_name = msgspec.json.Decoder(str | int).decode
_decode_time = msgspec.json.Decoder(int | float | str).decode


class Reading(NamedTuple):
    """One reading: its position in the message, one number per channel (NaN: missing), and in long format its channel, else -1."""

    item: int
    stream: bytes
    event_time_us: int
    value: list[float]
    channel: int


@dataclass(slots=True)
class LostReadings:
    """Readings of one message that are lost by one kind of error: the first reason, and their number."""

    error: ErrorName
    reason: str
    readings: int = 0


@dataclass(slots=True)
class Read:
    """The result for one message. Losses are summed by kind of error, so that a hostile message cannot cause a million reasons.

    ignored   number of long-format values of channels that the model does not have
    texts     channel and text, where a reading has text that is no number: the value was taken as missing
    """

    readings: list[Reading] = field(default_factory=list)
    revoked: dict[ErrorName, LostReadings] = field(default_factory=dict)
    ignored: int = 0
    texts: list[tuple[int, str]] = field(default_factory=list)

    def lose(self, why: Unreadable) -> None:
        """Count one more lost reading."""
        self.revoked.setdefault(why.error, LostReadings(why.error, why.reason)).readings += 1


class SlowPathReader:
    """Reads one message by `format`."""

    def __init__(self, format: ReadingFormat) -> None:
        self._format = format
        self._past_us_max, self._future_us_max = min(format.past_us_max, FAR_US), min(format.future_us_max, FAR_US)
        self._channel = {name: number for number, name in enumerate(format.channels)}
        self._paths = tuple(enumerate(format.channels))

    def read(self, value: bytes | None, key: bytes | None, log_time_us: int) -> Read:
        """The readings of one message; raises for nothing that a message may hold."""
        read = Read()
        try:
            value = _checked(value, "value", "a JSON reading", self._format.message_bytes_max)
            if self._format.records_path is None:
                self._read_one(read, 0, object_of(value, "value"), {}, key, log_time_us)
            else:
                self._read_records(read, value, key, log_time_us)
        except Unreadable as why:
            read.lose(why)
        return read

    def _read_records(self, read: Read, value: bytes, key: bytes | None, log_time_us: int) -> None:
        """The readings of a gateway's message. A bad one does not affect the others."""
        path = self._format.records_path or "."
        outer: Object = {} if path == "." else object_of(value, "value")
        array = value if path == "." else present(find(outer, path))
        if array is None:
            raise Unreadable("WrongType", "expected an array of readings, found nothing", path)
        name = "" if path == "." else path
        for item, raw in enumerate(array_of(array, name or "value")):
            place = f"{name}[{item}]"
            try:
                self._read_one(read, item, object_of(raw, ""), outer, key, log_time_us)
            except Unreadable as why:
                if why.field != "key":
                    why.field = f"{place}.{why.field}" if why.field else place
                read.lose(why)

    def _read_one(self, read: Read, item: int, inner: Object, outer: Object, key: bytes | None, log_time_us: int) -> None:
        """Add the reading in `inner`."""
        channel = -1
        if self._format.channel_path is not None:
            known = self._long_format_channel(inner, self._format.channel_path)
            if known is None:
                read.ignored += 1
                return
            channel = known
        stream = self._stream(inner, outer, key)
        time_us = self._event_time(inner, outer, log_time_us)
        texts: list[tuple[int, str]] = []
        if self._format.array_path is not None and channel < 0:
            value = self._array(inner, self._format.array_path, texts)
        else:
            value = [NAN] * len(self._format.channels)
            for place, path in self._paths if channel < 0 else ((channel, self._format.value_path or "value"),):
                raw = inner.get(path)
                if raw is None and "." in path:
                    raw = find(inner, path)
                if raw is not None:
                    value[place] = _number(raw, path, place, texts)
        read.readings.append(Reading(item, stream, time_us, value, channel))
        if texts:
            read.texts += texts

    def _long_format_channel(self, inner: Object, path: str) -> int | None:
        raw = present(find(inner, path))
        if raw is None:
            raise Unreadable("MissingChannel", "expected the name of a channel, found nothing", path)
        return self._channel.get(_name(raw, path, "the name of a channel"))

    def _stream(self, inner: Object, outer: Object, key: bytes | None) -> bytes:
        if not self._format.stream:
            if not key:
                raise Unreadable("MissingStream", f"expected the stream's name, found {'null' if key is None else 'no bytes'}", "key")
            return _checked(key, "key", "the stream's name", STREAM_BYTES_MAX)
        parts = []
        for path in self._format.stream:
            raw = _find_either(inner, outer, path)
            part = "" if raw is None else _name(raw, path, "the stream's name")
            if not part:
                raise Unreadable("MissingStream", f"expected the stream's name, found {'nothing' if raw is None else 'empty text'}", path)
            parts.append(part)
        return _checked("/".join(parts).encode("utf-8"), self._format.stream[0], "the stream's name", STREAM_BYTES_MAX)

    def _event_time(self, inner: Object, outer: Object, log_time_us: int) -> int:
        path = self._format.event_time
        if path is None:
            if log_time_us < 0:
                raise Unreadable("MissingEventTime", "expected the log's own time of the message, found none", "event time")
            return log_time_us
        raw = _find_either(inner, outer, path)
        if raw is None:
            raise Unreadable("MissingEventTime", "expected an event time, found nothing", path)
        if kind_of(raw) in (TRUE, FALSE, OBJECT, ARRAY):
            raise Unreadable("WrongType", f"expected an event time, found {described(raw)}", path)
        try:
            time_us = event_time_us(_decode_time(raw), self._format.event_time_unit)
        except Unreadable as why:
            why.field = path
            raise
        except (msgspec.MsgspecError, ValueError):
            raise Unreadable("OutOfRange", f"expected an event time, found {described(raw)}", path) from None
        if log_time_us < 0:
            earliest, latest = self._format.earliest_us, self._format.latest_us
            near = f"between {_timedescribed(earliest)} and {_timedescribed(latest)}"
        else:
            earliest, latest, near = log_time_us - self._past_us_max, log_time_us + self._future_us_max, "near the log's own time"
        if not earliest <= time_us <= latest:
            if log_time_us >= 0:
                near = f"{near}, {_timedescribed(log_time_us)}"
            raise Unreadable("OutOfRange", f"expected an event time {near}, found {_timedescribed(time_us)}", path)
        return time_us

    def _array(self, inner: Object, path: str, texts: list[tuple[int, str]]) -> list[float]:
        raw = present(find(inner, path))
        channels = len(self._format.channels)
        if raw is None:
            return [NAN] * channels
        entries = array_of(raw, path)
        if len(entries) != channels:
            raise Unreadable("WrongLength", f"expected an array of {channels} numbers, found {len(entries)} entries", path)
        return [_number(entry, f"{path}[{place}]", place, texts) for place, entry in enumerate(entries)]


def _checked(text: bytes | None, field: str, expected: str, bytes_max: int) -> bytes:
    """The text, if it is there, not too long, and UTF-8. raises Unreadable"""
    if text is None:
        raise Unreadable("NullValue", f"expected {expected}, found null (a tombstone)", field)
    if not text:
        raise Unreadable("EmptyValue", f"expected {expected}, found no bytes", field)
    if len(text) > bytes_max:
        raise Unreadable("TooLarge", f"expected {expected} of at most {bytes_max} bytes, found {len(text)} bytes", field)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("NotUtf8", f"expected UTF-8, found byte 0x{text[error.start]:02x} at {error.start}", field) from None
    return text


def _find_either(inner: Object, outer: Object, path: str) -> msgspec.Raw | None:
    """The value in the reading, else beside the array of readings."""
    raw = present(find(inner, path))
    return present(find(outer, path)) if raw is None and outer else raw


def _number(raw: msgspec.Raw, field: str, channel: int, texts: list[tuple[int, str]]) -> float:
    """A channel's value. Null is NaN, and so is text that is no number: that is added to `texts`."""
    try:
        number: float = _decode_float(raw)
    except msgspec.MsgspecError:
        kind = kind_of(raw)
        if kind == NULL:
            return NAN
        if kind in (TRUE, FALSE):
            return float(kind == TRUE)
        if kind in (OBJECT, ARRAY):
            raise Unreadable("WrongType", f"expected a number or null, found {described(raw)}", field) from None
        bare = BARE.get(bytes(raw))
        text = bare or (text_of(raw, field) if kind == TEXT else None)
        read = FLOAT32_END if text is None else number_of(text)  # a number that is too large for a double
        if read is None:
            texts.append((channel, text or ""))
            return NAN
        number = read
    if abs(number) >= FLOAT32_END:
        raise Unreadable("OutOfRange", f"expected a number within float32 (3.4e38), found {described(raw)}", field)
    return float(number)


def _name(raw: msgspec.Raw, field: str, expected: str) -> str:
    """A name: text, or an integer as digits."""
    try:
        return str(_decode_name(raw))
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable("WrongType", f"expected {expected} as text or integer, found {described(raw)}", field) from None


def _timedescribed(time_us: int) -> str:
    try:
        return rfc3339(time_us)
    except OverflowError:
        return f"{time_us} us since the epoch"
