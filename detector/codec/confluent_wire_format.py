"""Readings in Confluent's wire format -> columns.

A message is a frame (byte 0, then a schema's id, 4 bytes, big-endian) before a record. The record is converted to the equal JSON, and
`JsonReadings` reads that. So shapes, missing values and errors are the same for all formats. The conversion costs a fifth of the time that
reading an Avro record takes; stripping the frame before JSON costs next to nothing.

source: Confluent, Schema Registry for developers, Formats, serializers and deserializers, "Wire format"
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np

from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded, ReadingFormat, Reject, Unreadable, with_rejects
from detector.codec.readings import JsonReadings
from detector.core.readings import StreamNames

FRAME_BYTES = 5
GUID_HEADER = "__value_schema_id"  # newer clients can put the schema's GUID here instead of framing the value

SchemaType: TypeAlias = Literal["AVRO", "PROTOBUF", "JSON"]


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema of the registry. An id always stands for the same schema.

    type        AVRO, PROTOBUF or JSON; a registry may know further ones
    text        of Protobuf the file's descriptor, serialized, in base64
    references  the texts of all schemas that it refers to, directly or not, by the name of the reference
    """

    type: str
    text: str
    references: Mapping[str, str] = field(default_factory=dict)


RecordReader: TypeAlias = Callable[[bytes], bytes]
"""A framed record -> the equal JSON. raises Unreadable"""

FetchSchemas: TypeAlias = Callable[[Iterable[int]], Mapping[int, RegisteredSchema | None]]
"""Ids -> schemas by id, None for those that the registry does not know. raises LogUnavailable: retry later"""


def frame(schema_id: int) -> bytes:
    """The frame before a record of that schema.

    >>> frame(7)
    b'\\x00\\x00\\x00\\x00\\x07'
    """
    return b"\0" + schema_id.to_bytes(4, "big")


def unframed(value: bytes) -> bytes:
    """JSON without its frame. A value without a frame is returned as it is: no JSON begins with byte 0."""
    return value[FRAME_BYTES:] if value[:1] == b"\0" else value


MakeReader: TypeAlias = Callable[[RegisteredSchema, int], RecordReader]
"""A schema and its id -> a reader of its records. raises Unreadable  the schema cannot be used"""


class RecordReaders:
    """Readers of framed records, by the frame.

    fetch         asks the registry; only for ids that were not read before
    make_reader   per type of schema that is expected
    setting       of the configuration, that says which
    """

    def __init__(self, fetch: FetchSchemas, make_reader: Mapping[SchemaType, MakeReader], setting: str) -> None:
        self._fetch = fetch
        self._make_reader = make_reader
        self._setting = setting
        self._readers: dict[bytes, RecordReader] = {}

    def of(self, heads: Iterable[bytes]) -> dict[bytes, RecordReader]:
        """A reader for each first FRAME_BYTES bytes of records.

        raises LogUnavailable  the registry cannot be reached; retry the same call
        """
        readers = {head: self._readers.get(head) or not_framed for head in heads}
        new = {int.from_bytes(head[1:], "big"): head for head, read in readers.items() if read is not_framed and _is_frame(head)}
        if new:
            for schema_id, schema in self._fetch(new).items():
                readers[new[schema_id]] = self._reader(schema_id, schema)
        return readers

    def _reader(self, schema_id: int, schema: RegisteredSchema | None) -> RecordReader:
        """A reader of that schema's records. It is kept, unless the schema is unknown: it may be registered later."""
        if schema is None:
            return _refusing(
                Unreadable("UnknownSchema", f"expected a schema that the registry knows, found id {schema_id}, which it does not")
            )
        make = self._make_reader.get(schema.type)  # type: ignore[call-overload]  # a registry may know further types
        if make is None:
            types = " or ".join(self._make_reader)
            why = f"expected a schema of type {types}, as {self._setting} says, found id {schema_id}, which is of type {schema.type}"
            read = _refusing(Unreadable("WrongSchema", why))
        else:
            try:
                read = make(schema, schema_id)
            except Unreadable as error:
                read = _refusing(error)
        self._readers[frame(schema_id)] = read
        return read


class WireFormatReadings:
    """Decodes framed messages, a batch at once.

    schema_type   of the schemas that are expected
    fetch         asks the registry; only for ids that were not read before
    make_reader   a schema and its id -> a reader of its records; raises Unreadable for a schema that cannot be used
    """

    def __init__(
        self, format: ReadingFormat, names: StreamNames, schema_type: SchemaType, fetch: FetchSchemas, make_reader: MakeReader
    ) -> None:
        self._bytes_max = format.message_bytes_max
        # The JSON is longer than the record; the limit is on the record's length, and checked here.
        self._json = JsonReadings(replace(format, message_bytes_max=2**62), names)
        self._readers = RecordReaders(fetch, {schema_type: make_reader}, "input.format")

    def decode(self, messages: Messages) -> Decoded:
        """Every reading of `messages`, in log order, and a reject for every message or reading that cannot be read.

        raises LogUnavailable  the registry cannot be reached; retry the same call
        """
        values = messages.value
        readers = self._readers.of({value[:FRAME_BYTES] for value in values if value})
        if len(readers) == 1 and all(values) and max(map(len, values)) <= self._bytes_max:  # type: ignore[arg-type]  # none is None
            (only,) = readers.values()
            texts, refused = _each(only, values)  # type: ignore[arg-type]  # none is None
        else:
            texts, refused = _each(self._any(readers), values)
        if not refused:
            return self._json.decode(replace(messages, value=texts))
        kept = np.delete(np.arange(len(values)), list(refused))
        decoded = self._json.decode(replace(messages.take(kept), value=texts))
        return with_rejects(decoded, kept, [Reject(place, why.error, _reason(why, messages, place)) for place, why in refused.items()])

    def _any(self, readers: Mapping[bytes, RecordReader]) -> Callable[[bytes | None], bytes | None]:
        """A reader of any message. A value without bytes is left to the JSON reader to refuse."""

        def read(value: bytes | None) -> bytes | None:
            if not value:
                return value
            if len(value) > self._bytes_max:
                raise Unreadable("TooLarge", f"expected a record of at most {self._bytes_max} bytes, found {len(value)} bytes", "value")
            return readers[value[:FRAME_BYTES]](value)

        return read


def json_reader(schema: RegisteredSchema, schema_id: int) -> RecordReader:
    """A reader of framed JSON. The schema is ignored: the configuration says what a reading must have."""
    return itemgetter(slice(FRAME_BYTES, None))


def not_framed(value: bytes) -> bytes:
    """Refuse a value without a frame."""
    found = f"byte 0x{value[0]:02x}" if value[0] else f"{len(value)} bytes"
    hint = " (plain JSON? then set input.format: json)" if value[:1] in (b"{", b"[") else ""
    raise Unreadable("NotFramed", f"expected Confluent's frame, byte 0 and a schema's id, found {found}{hint}", "value")


_encode = msgspec.json.Encoder(decimal_format="number").encode
INFINITY = re.compile(rb"\x00{6}\xf0[\x7f\xff]|\x00\x00\x80[\x7f\xff]")  # as a double or a float stands in Avro and in Protobuf


def json_text(record: Any, source: bytes) -> bytes:
    """A record of plain values as JSON. NaN becomes null, that is, missing; infinity stays a number, which no channel accepts.

    source   the bytes that the record was read from
    """
    if INFINITY.search(source):
        record = _with_infinities(record)  # for which msgspec would write null
    return _encode(record)


def _with_infinities(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return msgspec.Raw(b"1e999" if value > 0 else b"-1e999")
    if isinstance(value, dict):
        return {key: _with_infinities(each) for key, each in value.items()}
    return [_with_infinities(each) for each in value] if isinstance(value, list) else value


def _is_frame(head: bytes) -> bool:
    return len(head) == FRAME_BYTES and head[0] == 0


def _refusing(why: Unreadable) -> RecordReader:
    why.field = "value"

    def read(value: bytes) -> bytes:
        raise why

    return read


def _each(read: Callable[[bytes | None], bytes | None], values: Sequence[bytes | None]) -> tuple[list[bytes | None], dict[int, Unreadable]]:
    """The results of `read` for the values, and why it refused others, by position."""
    texts: list[bytes | None] = []
    refused: dict[int, Unreadable] = {}
    reading = map(read, values)
    while True:
        try:
            texts.extend(reading)  # keeps the results before an exception; the next round goes on behind it
        except Unreadable as why:
            refused[len(texts) + len(refused)] = why
        else:
            return texts, refused


def _reason(why: Unreadable, messages: Messages, position: int) -> str:
    if why.error == "NotFramed" and any(name == GUID_HEADER for name, _ in messages.headers(position)):
        return f"value: expected Confluent's frame, found none; its schema is named in the header {GUID_HEADER}, which is not supported"
    return why.reason
