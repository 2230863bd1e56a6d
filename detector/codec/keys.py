"""Keys of messages -> names of streams: text, JSON, numbers of Kafka's serializers, records in Confluent's frame.

source: org.apache.kafka.common.serialization.LongSerializer, IntegerSerializer: 8 and 4 bytes, big-endian, two's complement
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from detector.codec.confluent_wire_format import FRAME_BYTES, RecordReaders
from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded, Reject, Unreadable, with_rejects

KeyKind: TypeAlias = Literal["utf8", "json", "long", "int", "framed"]
KeyNames: TypeAlias = Callable[[bytes], bytes]
"""A key -> the stream's name, UTF-8. raises Unreadable"""

NUMBER_BYTES = {"long": 8, "int": 4}
CACHED_MAX = 200_000
"""So many keys' names are remembered."""


class Decoder(Protocol):
    """Messages -> readings."""

    def decode(self, messages: Messages) -> Decoded: ...


class KeyReader:
    """Reads the names of streams from keys; it remembers those that it has read.

    kind     what keys are
    field    dotted path of the name in keys that are records; None: they are the name, or have one field
    readers  of keys in Confluent's frame
    """

    def __init__(self, kind: KeyKind, field: str | None = None, readers: RecordReaders | None = None) -> None:
        self._kind = kind
        self._field = field
        self._readers = readers
        self._names: dict[bytes, bytes | Unreadable] = {}

    def are_names(self, keys: Sequence[bytes | None]) -> bool:
        """Whether keys are names as they are. Nearly always no text has a zero byte, and one look at all of them together tells."""
        try:
            return self._kind == "utf8" and b"\0" not in b"".join(keys)  # type: ignore[arg-type]  # join checks
        except TypeError:
            return False

    def read(self, messages: Messages) -> tuple[list[bytes | None], dict[int, Unreadable]]:
        """The stream's name of each message, and why others have none, by position.

        A message without a value keeps its key as it is: one that resets a baseline names the stream itself.

        raises LogUnavailable  the registry cannot be reached; retry the same call
        """
        known = self._names
        new = {key for key, value in zip(messages.key, messages.value, strict=True) if key and value is not None and key not in known}
        if len(known) + len(new) > CACHED_MAX:
            known.clear()
            new = {key for key in messages.key if key}
        if new:
            known.update(self._named(new))
        names: list[bytes | None] = []
        refused: dict[int, Unreadable] = {}
        for place, (key, value) in enumerate(zip(messages.key, messages.value, strict=True)):
            name = known.get(key) if key and value is not None else key
            if isinstance(name, Unreadable):
                refused[place], name = name, None
            names.append(name)
        return names, refused

    def _named(self, keys: Iterable[bytes]) -> dict[bytes, bytes | Unreadable]:
        """Names of keys that are not known yet."""
        read = self._reader(keys)
        found: dict[bytes, bytes | Unreadable] = {}
        for key in keys:
            try:
                found[key] = read(key)
            except Unreadable as why:
                found[key] = why
        return found

    def _reader(self, keys: Iterable[bytes]) -> KeyNames:
        if self._kind == "utf8":
            return text_name
        if self._kind == "json":
            return lambda key: json_name(key, self._field)
        if self._kind == "framed":
            assert self._readers is not None
            readers = self._readers.of({key[:FRAME_BYTES] for key in keys})
            return lambda key: json_name(readers[key[:FRAME_BYTES]](key), self._field)
        return lambda key: number_name(key, NUMBER_BYTES[self._kind])


class KeyedReadings:
    """Decodes messages whose keys name the stream. inner: decodes what has the name as its key"""

    def __init__(self, inner: Decoder, keys: KeyReader) -> None:
        self._inner = inner
        self._keys = keys

    def decode(self, messages: Messages) -> Decoded:
        """Every reading of `messages`, and a reject for every message or reading that cannot be read.

        raises LogUnavailable  the registry cannot be reached; retry the same call
        """
        if self._keys.are_names(messages.key):
            return self._inner.decode(messages)
        names, refused = self._keys.read(messages)
        if not refused:
            return self._inner.decode(replace(messages, key=names))
        kept = np.delete(np.arange(len(messages)), list(refused))
        decoded = self._inner.decode(replace(messages.take(kept), key=[names[place] for place in kept.tolist()]))
        rejects = [Reject(place, why.error, f"key: {why.problem}") for place, why in refused.items()]
        return with_rejects(decoded, kept, rejects)


def text_name(key: bytes) -> bytes:
    """A key that is the name.

    raises Unreadable  it begins with a zero byte, as numbers and records of serializers do
    """
    if key[0] == 0:
        guess = "long" if len(key) == 8 else "int" if len(key) == 4 else "framed"
        raise Unreadable("WrongType", f"expected the stream's name as text, found {len(key)} bytes, the first 0x00; set input.key: {guess}")
    return key


def number_name(key: bytes, count: int) -> bytes:
    """The digits of a big-endian number of so many bytes.

    >>> number_name(bytes(7) + b"*", 8)
    b'42'
    """
    if len(key) != count:
        raise Unreadable("WrongLength", f"expected a number of {count} bytes, found {len(key)} bytes: see input.key")
    return str(int.from_bytes(key, "big", signed=True)).encode()


def json_name(key: bytes, field: str | None) -> bytes:
    """The name in JSON: text, an integer, or a field of an object.

    >>> json_name(b'{"machine": "press-1"}', None)
    b'press-1'
    """
    try:
        found: Any = msgspec.json.decode(key)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Unreadable("MalformedJson", f"expected JSON, found none: {error}: see input.key") from None
    if isinstance(found, dict):
        if field is None and len(found) != 1:
            fields = ", ".join(list(found)[:5])
            raise Unreadable("MissingStream", f"expected one field, found {fields}: name one of them with input.key_field")
        found = next(iter(found.values())) if field is None else _at(found, field)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise Unreadable("WrongType", f"expected the stream's name as text or integer, found {_kind(found)}")
    return str(found).encode("utf-8")


def _at(record: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    if path in record:
        return record[path]
    head, _, rest = path.partition(".")
    below = record.get(head)
    return _at(below, rest) if rest and isinstance(below, dict) else None


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return (
        "empty text"
        if value == ""
        else {list: "an array", dict: "an object", bool: "a truth value"}.get(type(value), "a number with a point")
    )
