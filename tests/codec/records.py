"""One reading's values as JSON, as Avro and as Protobuf, framed as Confluent's serializers frame them."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import fastavro
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from detector.codec.avro import avro_reader
from detector.codec.confluent_wire_format import RecordReader, RegisteredSchema, SchemaType, WireFormatReadings, frame, json_reader
from detector.codec.protobuf import protobuf_reader
from detector.codec.reading_format import ReadingFormat
from detector.core.readings import StreamNames

MAYBE = ["null", "double"]
DATA = {"type": "record", "name": "Data", "fields": [{"name": "current", "type": MAYBE}, {"name": "count", "type": "long"}]}
ITEM = {"type": "record", "name": "Item", "fields": [{"name": "temperature", "type": MAYBE}, {"name": "rpm", "type": "double"}]}
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "namespace": "plant",
    "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "site", "type": "string"},
        {"name": "tag", "type": {"type": "enum", "name": "Tag", "symbols": ["x", "y", "z"]}},
        {"name": "temperature", "type": MAYBE},
        {"name": "rpm", "type": "double"},
        {"name": "data", "type": ["null", DATA]},
        {"name": "v", "type": {"type": "array", "items": "double"}},
        {"name": "items", "type": {"type": "array", "items": ITEM}},
        {"name": "tags", "type": {"type": "map", "values": "double"}},
    ],
}


def protobuf_file() -> FileDescriptorProto:
    """The same as AVRO; what may be null has presence."""
    file = FileDescriptorProto(name="reading.proto", package="plant", syntax="proto3")
    reading = file.message_type.add(name="Reading")
    data, item = reading.nested_type.add(name="Data"), reading.nested_type.add(name="Item")
    tags = reading.nested_type.add(name="TagsEntry")
    tags.options.map_entry = True
    tag = reading.enum_type.add(name="Tag")
    for number, name in enumerate(("x", "y", "z")):
        tag.value.add(name=name, number=number)

    def add(message: Any, name: str, type: Any, of: str = "", *, optional: bool = False, repeated: bool = False) -> None:
        field = message.field.add(name=name, number=len(message.field) + 1, type=type)
        field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
        if of:
            field.type_name = f".plant.Reading.{of}"
        if optional:
            field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")

    add(data, "current", Field.TYPE_DOUBLE, optional=True)
    add(data, "count", Field.TYPE_INT64)
    add(item, "temperature", Field.TYPE_DOUBLE, optional=True)
    add(item, "rpm", Field.TYPE_DOUBLE)
    add(tags, "key", Field.TYPE_STRING)
    add(tags, "value", Field.TYPE_DOUBLE)
    add(reading, "ts", Field.TYPE_INT64)
    add(reading, "site", Field.TYPE_STRING)
    add(reading, "tag", Field.TYPE_ENUM, "Tag")
    add(reading, "temperature", Field.TYPE_DOUBLE, optional=True)
    add(reading, "rpm", Field.TYPE_DOUBLE)
    add(reading, "data", Field.TYPE_MESSAGE, "Data")
    add(reading, "v", Field.TYPE_DOUBLE, repeated=True)
    add(reading, "items", Field.TYPE_MESSAGE, "Item", repeated=True)
    add(reading, "tags", Field.TYPE_MESSAGE, "TagsEntry", repeated=True)
    return file


def message_class(file: FileDescriptorProto, name: str) -> Any:
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(name))


READING = message_class(protobuf_file(), "plant.Reading")
PARSED = fastavro.parse_schema(AVRO)
SCHEMAS: dict[int, RegisteredSchema] = {
    1: RegisteredSchema("AVRO", json.dumps(AVRO)),
    2: RegisteredSchema("PROTOBUF", base64.b64encode(protobuf_file().SerializeToString()).decode()),
    3: RegisteredSchema("JSON", '{"type": "object"}'),
}


def framed(kind: SchemaType, values: Mapping[str, Any]) -> bytes:
    match kind:
        case "AVRO":
            return frame(1) + avro(PARSED, values)
        case "PROTOBUF":
            set_values = {name: value for name, value in values.items() if value is not None}
            return frame(2) + b"\0" + bytes(READING(**set_values).SerializeToString())
        case "JSON":
            return frame(3) + plain(values)


def avro(parsed: Any, values: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed, values)
    return stream.getvalue()


def plain(values: Any) -> bytes:
    """The equal JSON. It has no NaN, which is missing then, and no infinity, which is a number too large for anything."""

    def known(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: known(each) for name, each in value.items()}
        if isinstance(value, list):
            return [known(each) for each in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return json.dumps(known(values)).replace("Infinity", "1e999").encode()


def decoder(
    kind: SchemaType, shape: ReadingFormat, names: StreamNames, schemas: Mapping[int, RegisteredSchema] = SCHEMAS
) -> WireFormatReadings:
    def fetch(ids: Iterable[int]) -> dict[int, RegisteredSchema | None]:
        return {schema_id: schemas.get(schema_id) for schema_id in ids}

    make: dict[SchemaType, Callable[[RegisteredSchema, int], RecordReader]] = {
        "AVRO": avro_reader,
        "PROTOBUF": partial(protobuf_reader, shape),
        "JSON": json_reader,
    }
    return WireFormatReadings(shape, names, kind, fetch, make[kind])
