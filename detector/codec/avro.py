"""Avro records -> the equal JSON.

Numbers, texts, records, arrays and maps are what they are in JSON; a union is the value of its branch. Decimals are numbers. Times
are numbers, as Avro's own JSON has them: milliseconds, microseconds or nanoseconds since the epoch. Bytes are text, `0x0a1b`, so that
they can name a stream and are never taken for a number.

source: Apache Avro 1.12, Specification, "JSON Encoding" and "Logical Types"
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import fastavro
import msgspec
from fastavro.repository.base import AbstractSchemaRepository, SchemaRepositoryError
from fastavro.schema import SchemaParseException, UnknownType, load_schema

from detector.codec.confluent_wire_format import FRAME_BYTES, RecordReader, RegisteredSchema, json_text
from detector.codec.reading_format import Unreadable

HEX = "detector-hex"
ROOT = "$root"
# fastavro has no error of its own for bytes that are no such record; it raises these.
WRONG_BYTES = (EOFError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError, struct.error)


def _hex(data: bytes, *_: Any) -> str:
    return "0x" + data.hex()


fastavro.read.LOGICAL_READERS |= {f"bytes-{HEX}": _hex, f"fixed-{HEX}": _hex}


def avro_reader(schema: RegisteredSchema, schema_id: int) -> RecordReader:
    """A reader of the framed records that were written with `schema`.

    raises Unreadable  it is no Avro schema, or its records could be of any size or depth
    """
    try:
        parsed = load_schema(ROOT, repo=_Texts({**schema.references, ROOT: schema.text}))
        _bytes_min(parsed, {}, frozenset())
    except (SchemaParseException, UnknownType, SchemaRepositoryError, msgspec.MsgspecError, *WRONG_BYTES) as error:
        raise Unreadable("BadSchema", f"expected a usable Avro schema, found id {schema_id}: {_described(error)}", "value") from None

    def read(value: bytes) -> bytes:
        stream = BytesIO(value)
        stream.seek(FRAME_BYTES)
        try:
            text = json_text(fastavro.schemaless_reader(stream, parsed, None), value)
        except WRONG_BYTES as error:
            raise Unreadable(
                "MalformedRecord", f"expected a record of schema {schema_id}, found none: {_described(error)}", "value"
            ) from None
        if stream.tell() != len(value):
            left = len(value) - stream.tell()
            raise Unreadable("MalformedRecord", f"expected a record of schema {schema_id}, found {left} bytes behind its end", "value")
        return text

    return read


class _Texts(AbstractSchemaRepository):
    """Schemas by name, as fastavro looks for them."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._schemas: dict[str, Any] = {}
        for name, text in texts.items():
            schema = msgspec.json.decode(text) if text.lstrip()[:1] in ("{", "[", '"') else text.strip()
            self._schemas[name] = _plain(schema)
            if isinstance(schema, dict) and "name" in schema and name != ROOT:  # a reference may have another name than what it names
                space = schema.get("namespace")
                self._schemas[f"{space}.{schema['name']}" if space and "." not in schema["name"] else schema["name"]] = _plain(schema)

    def load(self, name: str) -> Any:
        try:
            return self._schemas[name]
        except KeyError:
            raise SchemaRepositoryError(f"it refers to {name}, which is not among its references") from None


def _plain(schema: Any) -> Any:
    """The schema with logical types such that records come as JSON has them."""
    if isinstance(schema, list):
        return [_plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return {"type": "bytes", "logicalType": HEX} if schema == "bytes" else schema
    plain = {**schema}
    kind = schema.get("type")
    if kind in ("bytes", "fixed"):
        if schema.get("logicalType") != "decimal":
            plain["logicalType"] = HEX
        return plain
    plain.pop("logicalType", None)
    if isinstance(kind, dict | list):
        plain["type"] = _plain(kind)
    for below in ("items", "values"):
        if below in schema:
            plain[below] = _plain(schema[below])
    if isinstance(schema.get("fields"), list):
        plain["fields"] = [{**entry, "type": _field_type(entry)} for entry in schema["fields"]]
    return plain


def _field_type(entry: dict[str, Any]) -> Any:
    """A field's type; some write `{"name": "t", "type": "long", "logicalType": ...}`, where the logical type means nothing."""
    return _plain(entry["type"])


def _bytes_min(schema: Any, named: dict[str, int], inside: frozenset[str]) -> int:
    """The fewest bytes that a value takes.

    Refused are types that contain themselves, since a message of some kilobytes could be nested so deep that reading it ends the process,
    and arrays of what takes no bytes, since a message of ten bytes could hold a billion.

    named   what was found so far, by name

    raises ValueError
    """
    if isinstance(schema, list):
        return 1 + min((_bytes_min(branch, named, inside) for branch in schema), default=0)
    if isinstance(schema, str):
        if schema in inside:
            raise ValueError(f"{schema} contains itself")
        return 0 if schema == "null" else named.get(schema, 1)
    kind = schema["type"]
    if kind in ("array", "map"):
        least = _bytes_min(schema["items" if kind == "array" else "values"], named, inside)
        if kind == "array" and not least:
            raise ValueError("an array of items that take no bytes")
        return 1
    if kind in ("record", "error"):
        name = schema["name"]
        named[name] = sum(_bytes_min(entry["type"], named, inside | {name}) for entry in schema["fields"])
        return named[name]
    if kind == "fixed":
        named[schema["name"]] = schema["size"]
        return int(schema["size"])
    return _bytes_min(kind, named, inside) if isinstance(kind, dict | list) else int(kind != "null")


def _described(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()[:200]
