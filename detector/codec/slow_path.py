"""The slow path of decoding, one message at a time: decides about the messages that the fast path refuses, and gives the reason.

It is ten times slower. Every message that the fast path accepts, the slow path accepts with the same result.
It also accepts text that is a JSON number ("3.2"), as many gateways send it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from detector.codec.event_time import FAR_US, event_time_us, number_of, rfc3339, shown
from detector.codec.field_extractor import routes
from detector.codec.reading_format import STREAM_BYTES_MAX, ErrorName, ReadingFormat, Unreadable

Object: TypeAlias = dict[str, msgspec.Raw]
T = TypeVar("T")

NAN = float("nan")
FLOAT32_END = (2 - 2**-24) * 2.0**127  # the smallest number that float32 rounds to infinity
TEXT, TRUE, FALSE, NULL, OBJECT, ARRAY = b'"tfn{['  # the kind of a JSON value by its first byte
# Only for the reason: JSON has no such numbers, and the decoder's error names a byte, not a field.
NOT_A_NUMBER = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*(?:\[[^\[\]{}"]*)?(-?(?:NaN|Infinity|nan|inf))\b')

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_float = msgspec.json.Decoder(float).decode
_decode_name = msgspec.json.Decoder(str | int).decode
_decode_time = msgspec.json.Decoder(int | float | str).decode
_decode_text = msgspec.json.Decoder(str).decode


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
    """The result for one message. Losses are summed by kind of error, so that a hostile message cannot cause a million reasons."""

    readings: list[Reading] = field(default_factory=list)
    revoked: dict[ErrorName, LostReadings] = field(default_factory=dict)
    ignored: int = 0

    def lose(self, why: Unreadable) -> None:
        """Count one more lost reading."""
        self.revoked.setdefault(why.error, LostReadings(why.error, why.reason)).readings += 1


class SlowPathReader:
    """Reads one message by `format`."""

    def __init__(self, format: ReadingFormat) -> None:
        self._format = format
        self._past_us_max, self._future_us_max = min(format.past_us_max, FAR_US), min(format.future_us_max, FAR_US)
        self._channel = {name: number for number, name in enumerate(format.channels)}

    def read(self, value: bytes | None, key: bytes | None, log_time_us: int) -> Read:
        """The readings of one message; raises for nothing that a message may hold."""
        read = Read()
        try:
            value = _checked(value, "value", "a JSON reading", self._format.message_bytes_max)
            if self._format.records_path is None:
                read.readings += self._reading(0, _object(value, "value"), {}, key, log_time_us)
                read.ignored += not read.readings
            else:
                self._read_records(read, value, key, log_time_us)
        except Unreadable as why:
            read.lose(why)
        return read

    def _read_records(self, read: Read, value: bytes, key: bytes | None, log_time_us: int) -> None:
        """The readings of a gateway's message. A bad one does not affect the others."""
        path = self._format.records_path or "."
        outer: Object = {} if path == "." else _object(value, "value")
        array = value if path == "." else _find(outer, path)
        if array is None:
            raise Unreadable("WrongType", "expected an array of readings, found nothing", path)
        name = "" if path == "." else path
        for item, raw in enumerate(_array(array, name or "value")):
            place = f"{name}[{item}]"
            try:
                found = self._reading(item, _object(raw, ""), outer, key, log_time_us)
            except Unreadable as why:
                if why.field != "key":
                    why.field = f"{place}.{why.field}" if why.field else place
                read.lose(why)
            else:
                read.readings += found
                read.ignored += not found

    def _reading(self, item: int, inner: Object, outer: Object, key: bytes | None, log_time_us: int) -> tuple[Reading, ...]:
        """The reading in `inner`; none if it is of a channel that the model does not have."""
        channel = -1
        if self._format.channel_path is not None:
            known = self._long_format_channel(inner, self._format.channel_path)
            if known is None:
                return ()
            channel = known
        stream = self._stream(inner, outer, key)
        time_us = self._event_time(inner, outer, log_time_us)
        if channel >= 0:
            value = [NAN] * len(self._format.channels)
            value[channel] = _number_at(inner, self._format.value_path or "value")
        elif self._format.array_path is not None:
            value = self._values(inner, self._format.array_path)
        else:
            value = [_number_at(inner, path) for path in self._format.channels]
        return (Reading(item, stream, time_us, value, channel),)

    def _long_format_channel(self, inner: Object, path: str) -> int | None:
        raw = _find(inner, path)
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
        if _kind(raw) in (TRUE, FALSE, OBJECT, ARRAY):
            raise Unreadable("WrongType", f"expected an event time, found {_shown(raw)}", path)
        try:
            time_us = event_time_us(_decode_time(raw), self._format.event_time_unit)
        except Unreadable as why:
            why.field = path
            raise
        except (msgspec.MsgspecError, ValueError):
            raise Unreadable("OutOfRange", f"expected an event time, found {_shown(raw)}", path) from None
        if log_time_us < 0:
            earliest, latest = self._format.earliest_us, self._format.latest_us
            near = f"between {_time_shown(earliest)} and {_time_shown(latest)}"
        else:
            earliest, latest, near = log_time_us - self._past_us_max, log_time_us + self._future_us_max, "near the log's own time"
        if not earliest <= time_us <= latest:
            if log_time_us >= 0:
                near = f"{near}, {_time_shown(log_time_us)}"
            raise Unreadable("OutOfRange", f"expected an event time {near}, found {_time_shown(time_us)}", path)
        return time_us

    def _values(self, inner: Object, path: str) -> list[float]:
        raw = _find(inner, path)
        channels = len(self._format.channels)
        if raw is None:
            return [NAN] * channels
        entries = _array(raw, path)
        if len(entries) != channels:
            raise Unreadable("WrongLength", f"expected an array of {channels} numbers, found {len(entries)} entries", path)
        return [_number(entry, f"{path}[{place}]") for place, entry in enumerate(entries)]


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


@cache  # paths come from the configuration: there are few
def _ways(path: str) -> tuple[tuple[str, ...], ...]:
    """The ways in which nested keys spell a dotted path, without the path itself as one key."""
    return tuple(routes(path))[1:]


def _find(inner: Object, path: str) -> msgspec.Raw | None:
    """The value at a dotted path; None if it is absent or null."""
    raw = inner.get(path)
    if raw is not None:
        return None if _kind(raw) == NULL else raw
    wrong: Unreadable | None = None
    for way in _ways(path):
        here = inner
        for depth, key in enumerate(way[:-1]):
            below = here.get(key)
            if below is None or _kind(below) == NULL:
                break
            if _kind(below) != OBJECT:
                wrong = Unreadable("WrongType", f"expected an object, found {_shown(below)}", ".".join(way[: depth + 1]))
                break
            here = _object(below, key)
        else:
            raw = here.get(way[-1])
            if raw is not None:
                return None if _kind(raw) == NULL else raw
    if wrong:
        raise wrong
    return None


def _find_either(inner: Object, outer: Object, path: str) -> msgspec.Raw | None:
    """The value in the reading, else beside the array of readings."""
    raw = _find(inner, path)
    return _find(outer, path) if raw is None and outer else raw


def _number_at(inner: Object, path: str) -> float:
    raw = _find(inner, path)
    return NAN if raw is None else _number(raw, path)


def _number(raw: msgspec.Raw, field: str) -> float:
    """A channel's value; null is NaN."""
    try:
        number: float | None = _decode_float(raw)
    except msgspec.ValidationError:
        kind = _kind(raw)
        if kind == NULL:
            return NAN
        if kind == TEXT:
            number = number_of(_parsed(_decode_text, raw, field))
        else:  # it is a number that is too large for a double
            number = None if kind in (TRUE, FALSE, OBJECT, ARRAY) else FLOAT32_END
    if number is None:
        raise Unreadable("WrongType", f"expected a number or null, found {_shown(raw)}", field)
    if abs(number) >= FLOAT32_END:
        raise Unreadable("OutOfRange", f"expected a number within float32 (3.4e38), found {_shown(raw)}", field)
    return float(number)


def _name(raw: msgspec.Raw, field: str, expected: str) -> str:
    """A name: text, or an integer as digits."""
    try:
        return str(_decode_name(raw))
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable("WrongType", f"expected {expected} as text or integer, found {_shown(raw)}", field) from None


def _object(raw: bytes | msgspec.Raw, field: str) -> Object:
    return _parsed(_decode_object, raw, field)


def _array(raw: bytes | msgspec.Raw, field: str) -> list[msgspec.Raw]:
    return _parsed(_decode_array, raw, field)


def _parsed(decode: Callable[[Any], T], raw: bytes | msgspec.Raw, field: str) -> T:
    try:
        return decode(raw)
    except RecursionError:
        raise Unreadable("TooDeep", "expected a JSON reading, found one nested too deep", field) from None
    except msgspec.ValidationError:
        expected = "an object" if decode is _decode_object else "an array" if decode is _decode_array else "text"
        raise Unreadable("WrongType", f"expected {expected}, found {_shown(raw)}", field) from None
    except (msgspec.MsgspecError, ValueError) as error:
        token = NOT_A_NUMBER.search(bytes(raw))
        if token:
            name = token[1].decode("utf-8", "replace")
            raise Unreadable("MalformedJson", f"expected a number or null, found {token[2].decode()}, which is not JSON", name) from None
        raise Unreadable("MalformedJson", f"expected JSON, found none: {error}", field) from None


def _kind(raw: bytes | msgspec.Raw) -> int:
    """The first byte of a JSON value."""
    return memoryview(raw)[0]


def _shown(raw: bytes | msgspec.Raw) -> str:
    """A JSON value in a few words, for a reason."""
    text = bytes(raw).lstrip()
    kind = text[0]
    if kind in (OBJECT, ARRAY):
        return "an object" if kind == OBJECT else "an array"
    if kind == TEXT:
        return f"text {shown(text[1:-1].decode('utf-8', 'replace'))}"
    if kind in (TRUE, FALSE, NULL):
        return text.decode("ascii", "replace")[:5]
    return f"the number {text[:40].decode('ascii', 'replace')}{'...' if len(text) > 40 else ''}"


def _time_shown(time_us: int) -> str:
    try:
        return rfc3339(time_us)
    except OverflowError:
        return f"{time_us} us since the epoch"
