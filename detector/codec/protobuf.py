"""Protobuf messages -> the equal JSON.

As Protobuf's own JSON mapping has it, with these differences: fields keep the names of the .proto file, 64-bit integers are numbers, bytes are text
as `0x0a1b`, NaN means missing, and a field that has no presence is there with its default: a proto3 number that was never set is a 0.
Who wants it to be missing declares it `optional`, or as a wrapper (`google.protobuf.DoubleValue`).

source: Protocol Buffers, "ProtoJSON Format" and "Field Presence"
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias

from google.protobuf import timestamp_pb2, wrappers_pb2  # noqa: F401 - so that the default pool knows them
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from detector.codec.confluent_wire_format import FRAME_BYTES, RecordReader, RegisteredSchema, json_text
from detector.codec.reading_format import ReadingFormat, Unreadable

ROOT = "$root"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INDEXES_MAX = 16  # how deep a message type may lie within others
Plain: TypeAlias = Callable[[Any], Any]
"""A message's part -> a plain value"""


def protobuf_reader(format: ReadingFormat | None, schema: RegisteredSchema, schema_id: int) -> RecordReader:
    """A reader of the framed messages that were written with `schema`; it reads only the fields that `format` names; None: all.

    raises Unreadable  it is no Protobuf schema
    """
    try:
        file = _file(schema)
    except (ValueError, TypeError, KeyError, ImportError, DecodeError) as error:
        raise Unreadable("BadSchema", f"expected a usable Protobuf schema, found id {schema_id}: {error!s:.200}", "value") from None
    wanted = _roots(format) if format is not None else None
    readers: dict[tuple[int, ...], tuple[Callable[[bytes], Message], Plain]] = {}

    def reader(indexes: tuple[int, ...]) -> tuple[Callable[[bytes], Message], Plain]:
        message = _message(file, indexes)
        readers[indexes] = GetMessageClass(message).FromString, _plan(message, {}, wanted)
        return readers[indexes]

    def read(value: bytes) -> bytes:
        try:
            # Nearly always a single 0 stands there: the file's first message.
            indexes, start = _indexes(value, FRAME_BYTES) if value[FRAME_BYTES] else ((0,), FRAME_BYTES + 1)
            parse, plain = readers.get(indexes) or reader(indexes)
            return json_text(plain(parse(value[start:])), value)
        except (DecodeError, LookupError, ValueError, OverflowError, RecursionError) as error:
            raise Unreadable("MalformedRecord", f"expected a message of schema {schema_id}, found none: {error!s:.200}", "value") from None

    return read


def _roots(format: ReadingFormat) -> frozenset[str]:
    """The first keys of the paths that `format` names."""
    named = (format.array_path, format.records_path, format.channel_path, format.value_path, format.event_time)
    return frozenset(path.split(".")[0] for path in (*format.channels, *format.stream, *filter(None, named)))


def _file(schema: RegisteredSchema) -> Any:
    """The schema's file, with all that it imports."""
    pool = DescriptorPool()
    added: set[str] = set()

    def add(name: str, text: str) -> None:
        if name in added:
            return
        added.add(name)
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
        file.name = name
        for imported in file.dependency:
            add(imported, schema.references[imported] if imported in schema.references else _well_known(imported))
        pool.Add(file)

    add(ROOT, schema.text)
    return pool.FindFileByName(ROOT)


def _well_known(name: str) -> str:
    """A file that comes with Protobuf itself, or with Google's common ones."""
    if not name.startswith("google/"):
        raise KeyError(f"it imports {name}, which is not among its references")
    module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    return base64.b64encode(module.DESCRIPTOR.serialized_pb).decode("ascii")


def _indexes(value: bytes, place: int) -> tuple[tuple[int, ...], int]:
    """Which message of the file it is, and where it begins: a count, and so many numbers.

    raises ValueError, IndexError  no such thing stands there
    """
    count, place = _varint(value, place)
    if not 0 < count <= INDEXES_MAX:
        raise ValueError(f"expected 1 to {INDEXES_MAX} indexes of a message type, found {count}")
    indexes = []
    for _ in range(count):
        index, place = _varint(value, place)
        indexes.append(index)
    return tuple(indexes), place


def _varint(value: bytes, place: int) -> tuple[int, int]:
    """A zigzag number, and where it ends."""
    number = 0
    for shift in range(0, 35, 7):
        byte = value[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number >> 1 ^ -(number & 1), place
    raise ValueError("an index of more than five bytes")


def _message(file: Any, indexes: tuple[int, ...]) -> Descriptor:
    messages = list(file.message_types_by_name.values())
    message: Descriptor | None = None
    for index in indexes:
        if not 0 <= index < len(messages):
            raise ValueError(f"the schema has no message type {'.'.join(map(str, indexes))}")
        message = messages[index]
        messages = list(message.nested_types)
    assert message is not None
    return message


def _plan(message: Descriptor, plans: dict[str, Plain], wanted: Collection[str] | None = None) -> Plain:
    """Message -> dict of plain values.

    plans    those made so far: types may contain themselves
    wanted   names of fields; all without it
    """
    if known := plans.get(message.full_name):
        return known
    special = SPECIAL.get(message.full_name)
    if special is not None:
        return special
    simple: list[str] = []
    others: list[tuple[str, Plain]] = []
    if wanted is None:
        plans[message.full_name] = lambda part: plain(part)
    for field in message.fields:
        if wanted is None or field.name in wanted:
            if _is_simple(field):
                simple.append(field.name)
            else:
                others.append((field.name, _field(field, plans)))
    fetch = attrgetter(*simple) if len(simple) > 1 else None

    def plain(part: Any) -> dict[str, Any]:
        values = dict(zip(simple, fetch(part), strict=True)) if fetch else {name: getattr(part, name) for name in simple}
        for name, read in others:
            values[name] = read(part)
        return values

    return plain


def _is_simple(field: FieldDescriptor) -> bool:
    """Whether the attribute is the plain value."""
    return not (field.is_repeated or field.has_presence or field.type in (field.TYPE_BYTES, field.TYPE_ENUM))


def _field(field: FieldDescriptor, plans: dict[str, Plain]) -> Plain:
    """Message -> plain value of one of its fields."""
    name = field.name
    if field.is_repeated:
        return _repeated(field, plans)
    value = _value(field, plans)
    if field.has_presence:
        return lambda part: value(getattr(part, name)) if part.HasField(name) else None
    return lambda part: value(getattr(part, name))


def _repeated(field: FieldDescriptor, plans: dict[str, Plain]) -> Plain:
    """Message -> list, or dict where the field is a map."""
    name, entry = field.name, field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        value = _value(entry.fields_by_name["value"], plans)
        return lambda part: {str(key): value(each) for key, each in getattr(part, name).items()}
    value = _value(field, plans)
    return lambda part: [value(each) for each in getattr(part, name)]


def _value(field: FieldDescriptor, plans: dict[str, Plain]) -> Plain:
    """One value as it stands in a message -> plain value."""
    if field.type == field.TYPE_BYTES:
        return _hex
    if field.type == field.TYPE_ENUM:
        return partial(_name, {value.number: value.name for value in field.enum_type.values})
    return _plan(field.message_type, plans) if field.message_type is not None else _same


def _same(value: Any) -> Any:
    return value


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _name(names: Mapping[int, str], number: int) -> str | int:
    return names.get(number, number)


def _time(part: Any) -> datetime:
    return EPOCH + timedelta(seconds=part.seconds, microseconds=part.nanos // 1000)


_WRAPPERS = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String")
SPECIAL: dict[str, Plain] = {f"google.protobuf.{name}Value": attrgetter("value") for name in _WRAPPERS}
SPECIAL |= {"google.protobuf.BytesValue": lambda part: _hex(part.value), "google.protobuf.Timestamp": _time}
