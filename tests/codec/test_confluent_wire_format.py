"""Readings in Confluent's wire format: the same readings and the same refusals as the equal JSON, and nothing a message holds does harm."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import fastavro
import numpy as np
import pytest
from google.protobuf import timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.codec.confluent_wire_format import GUID_HEADER, RegisteredSchema, SchemaType, frame
from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded, ErrorName, ReadingFormat
from detector.codec.readings import JsonReadings
from detector.core.readings import Partition, StreamNames
from tests.codec.records import SCHEMAS, avro, decoder, framed, plain

NOW_MS = 1_793_527_200_123
KINDS: tuple[SchemaType, ...] = get_args(SchemaType)
SHAPES = {
    "named": ReadingFormat(("temperature", "rpm", "data.current", "data.count"), ("site",), "ts", "ms"),
    "by key, the log's time": ReadingFormat(("temperature", "rpm")),
    "array": ReadingFormat(("a", "b"), ("site", "tag"), "ts", array_path="v"),
    "items": ReadingFormat(("temperature", "rpm"), ("site",), "ts", records_path="items"),
    "narrow": ReadingFormat(("x", "y"), ("site",), "ts", channel_path="tag", value_path="temperature"),
    "map": ReadingFormat(("tags.a", "tags.b", "gone"), ("site",), "ts"),
}
NUMBERS = st.floats(-1e6, 1e6) | st.floats() | st.sampled_from([1e39, -0.0, float("inf"), float("nan")])
MAYBE = st.none() | NUMBERS
READINGS = st.fixed_dictionaries(
    {
        "ts": st.sampled_from([NOW_MS, NOW_MS + 7, 0, -(2**60)]),
        "site": st.sampled_from(["p1", "ü/ö", "", "é" * 600]) | st.text(st.characters(codec="utf-8"), max_size=4),
        "tag": st.sampled_from("xyz"),
        "temperature": MAYBE,
        "rpm": NUMBERS,
        "data": st.none() | st.fixed_dictionaries({"current": MAYBE, "count": st.integers(-(2**63), 2**63 - 1)}),
        "v": st.lists(NUMBERS, min_size=1, max_size=3),
        "items": st.lists(st.fixed_dictionaries({"temperature": MAYBE, "rpm": NUMBERS}), max_size=3),
        "tags": st.dictionaries(st.sampled_from("abc"), NUMBERS, max_size=3),
    }
)


def messages_of(values: list[bytes | None]) -> Messages:
    count = len(values)
    times = np.full(count, NOW_MS * 1000, np.int64)
    return Messages([b"k"] * count, values, np.zeros(count, np.int32), np.arange(count), times, (Partition("t", 0),))


def facts(decoded: Decoded, names: StreamNames) -> list[Any]:
    """All that follows from a batch; of reasons only the kind, since they quote what stood there."""
    batch = decoded.batch
    rejects = [(reject.position, reject.error, reject.readings) for reject in decoded.rejects]
    streams = [names.name(stream) for stream in batch.stream_id.tolist()]
    channel = None if batch.channel is None else batch.channel.tolist()
    columns = [batch.event_time_us.tolist(), batch.offset.tolist(), batch.item.tolist(), decoded.message.tolist(), decoded.ignored]
    return [streams, channel, batch.value.tobytes(), batch.value.shape, columns, rejects]


def one(kind: SchemaType, schemas: dict[int, RegisteredSchema], value: bytes, shape: ReadingFormat) -> Decoded:
    """A value among good ones, which it must not harm."""
    good = framed(
        kind, {"ts": NOW_MS, "site": "p1", "tag": "x", "rpm": 1.0, "temperature": 2.0, "data": None, "v": [1.0], "items": [], "tags": {}}
    )
    values = [good, value, good] if shape is SHAPES["by key, the log's time"] else [value]
    return decoder(kind, shape, StreamNames(), {**SCHEMAS, **schemas}).decode(messages_of(list(values)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@settings(max_examples=25, deadline=None)
@given(readings=st.lists(READINGS | st.sampled_from([None, b""]), max_size=5))
def test_a_record_is_the_reading_of_the_equal_json(kind: SchemaType, shape: ReadingFormat, readings: list[Any]) -> None:
    names, expected_names = StreamNames(), StreamNames()
    records = [framed(kind, each) if isinstance(each, dict) else each for each in readings]
    texts = [plain(each) if isinstance(each, dict) else each for each in readings]
    decoded = decoder(kind, shape, names).decode(messages_of(records))
    assert facts(decoded, names) == facts(JsonReadings(shape, expected_names).decode(messages_of(texts)), expected_names)


BY_KEY = SHAPES["by key, the log's time"]
SELF = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
NOTHING = {"type": "record", "name": "N", "fields": [{"name": "v", "type": {"type": "array", "items": "null"}}]}


@pytest.mark.parametrize(
    ("kind", "schemas", "value", "error", "reason"),
    [
        ("AVRO", {}, b'{"temperature": 1}', "NotFramed", "found byte 0x7b (plain JSON? then set input.format: json)"),
        ("JSON", {}, b"\0\0\0", "NotFramed", "found 3 bytes"),
        ("AVRO", {}, frame(77) + b"rest", "UnknownSchema", "found id 77, which it does not"),
        ("AVRO", {}, frame(2) + b"\0", "WrongSchema", "expected a schema of type AVRO, as input.format says, found id 2, which is of type PROTOBUF"),
        ("JSON", {}, frame(3) + b"{", "MalformedJson", "expected JSON"),
        ("JSON", {}, frame(3), "EmptyValue", "found no bytes"),
        ("AVRO", {}, frame(1), "MalformedRecord", "expected a record of schema 1, found none"),
        ("AVRO", {}, frame(1) + b"\xff" * 50, "MalformedRecord", "found none"),
        ("AVRO", {9: RegisteredSchema("AVRO", '"double"')}, frame(9) + b"\0" * 9, "MalformedRecord", "found 1 bytes behind its end"),
        ("AVRO", {9: RegisteredSchema("AVRO", '"double"')}, frame(9) + b"\0" * 8, "WrongType", "expected an object, found the number 0.0"),
        ("AVRO", {9: RegisteredSchema("AVRO", '{"type": "recrod"}')}, frame(9), "BadSchema", "found id 9"),
        ("AVRO", {9: RegisteredSchema("AVRO", '{"type"')}, frame(9), "BadSchema", "found id 9"),
        ("AVRO", {9: RegisteredSchema("AVRO", '{"type": "array", "items": "plant.Other"}')}, frame(9), "BadSchema", "plant.Other"),
        ("AVRO", {9: RegisteredSchema("AVRO", json.dumps(SELF))}, frame(9) + b"\2" * 100_000 + b"\0", "BadSchema", "Node contains itself"),
        ("AVRO", {9: RegisteredSchema("AVRO", json.dumps(NOTHING))}, frame(9) + b"\x80" * 8 + b"\1\0", "BadSchema", "items that take no bytes"),
        ("PROTOBUF", {}, frame(2), "MalformedRecord", "expected a message of schema 2"),
        ("PROTOBUF", {}, frame(2) + b"\0\xff\xff", "MalformedRecord", "found none"),
        ("PROTOBUF", {}, frame(2) + b"\2\x0e", "MalformedRecord", "no message type 7"),
        ("PROTOBUF", {}, frame(2) + b"\x81\x80\x80\x80\x80\x80\x01", "MalformedRecord", "an index of more than five bytes"),
        ("PROTOBUF", {}, frame(2) + b"\x7e", "MalformedRecord", "expected 1 to 16 indexes"),
        ("PROTOBUF", {9: RegisteredSchema("PROTOBUF", 'syntax = "proto3";')}, frame(9) + b"\0", "BadSchema", "found id 9"),
        ("PROTOBUF", {9: RegisteredSchema("PROTOBUF", base64.b64encode(b"\1").decode())}, frame(9) + b"\0", "BadSchema", "found id 9"),
        ("AVRO", {}, frame(1) + b"x" * 2_000, "TooLarge", "expected a record of at most 1000 bytes, found 2005 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_reason(
    kind: SchemaType, schemas: dict[int, RegisteredSchema], value: bytes, error: str, reason: str
) -> None:
    decoded = one(kind, schemas, value, replace(BY_KEY, message_bytes_max=1_000) if error == "TooLarge" else BY_KEY)
    reject = decoded.rejects[0]
    assert reject.error == error
    assert error in get_args(ErrorName)
    assert reject.reason.startswith("value: expected ")
    assert reason in reject.reason
    assert [each.error for each in decoded.rejects] == [error]
    if error != "TooLarge":
        assert reject.position == 1
        assert decoded.message.tolist() == [0, 2]
        assert decoded.batch.value[:, 1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(garbage=st.binary(max_size=60), head=st.sampled_from([b"", frame(1), frame(2) + b"\0", frame(2), frame(3)]))
def test_no_bytes_do_harm(kind: SchemaType, garbage: bytes, head: bytes) -> None:
    decoded = one(kind, {}, head + garbage, BY_KEY)
    assert decoded.message.tolist() in ([0, 2], [0, 1, 2])
    assert len(decoded.batch) + len(decoded.rejects) == 3


def test_a_schema_named_in_a_header_is_refused_by_that_name() -> None:
    messages = replace(messages_of([b"\2plain Avro"]), headers=lambda position: ((GUID_HEADER, uuid.uuid4().bytes),))
    (reject,) = decoder("AVRO", BY_KEY, StreamNames()).decode(messages).rejects
    assert reject.error == "NotFramed"
    assert GUID_HEADER in reject.reason


def test_an_unknown_schema_is_asked_for_again_and_a_known_one_is_not() -> None:
    asked: list[list[int]] = []
    known: dict[int, RegisteredSchema] = {}

    reader = decoder("JSON", BY_KEY, StreamNames())

    def fetch(ids: Any) -> dict[int, RegisteredSchema | None]:
        asked.append(sorted(ids))
        return {schema_id: known.get(schema_id) for schema_id in ids}

    reader._readers._fetch = fetch
    batch = messages_of([frame(5) + b'{"rpm": 1}', frame(6) + b'{"rpm": 1}'])
    assert len(reader.decode(batch).rejects) == 2
    known[5] = SCHEMAS[3]
    assert [reject.position for reject in reader.decode(batch).rejects] == [1]
    assert reader.decode(batch).batch.value[:, 1].tolist() == [1.0]
    assert asked == [[5, 6], [5, 6], [6]]


MISSING = float("nan")
AVRO_TYPES: dict[str, tuple[Any, Any, float | str]] = {
    "float": ("float", 79.97, float(np.float32(79.97))),
    "long": ("long", 2**40, float(2**40)),
    "decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}, Decimal("3.142"), 3.142),
    "fixed decimal": (
        {"type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2},
        Decimal("-1.25"),
        -1.25,
    ),
    "any of three": (["null", "string", "double"], 7.5, 7.5),
    "number as text": ("string", "3.5", 3.5),
    "null": ("null", None, MISSING),
    "bytes": ("bytes", b"1234", MISSING),
    "optional bytes": (["null", "bytes"], b"12", MISSING),
    "fixed": ({"type": "fixed", "name": "F", "size": 2}, b"12", MISSING),
    "boolean": ("boolean", True, 1.0),
    "uuid": ({"type": "string", "logicalType": "uuid"}, str(uuid.UUID(int=7)), MISSING),
    "array": ({"type": "array", "items": "int"}, [1], "WrongType"),
    "date": ({"type": "int", "logicalType": "date"}, 20_000, 20_000.0),
}


@pytest.mark.parametrize("name", AVRO_TYPES)
def test_avro_types(name: str) -> None:
    kind, value, expected = AVRO_TYPES[name]
    schema = {"type": "record", "name": "R", "fields": [{"name": "temperature", "type": kind}]}
    decoded = one(
        "AVRO",
        {9: RegisteredSchema("AVRO", json.dumps(schema))},
        frame(9) + avro(fastavro.parse_schema(schema), {"temperature": value}),
        BY_KEY,
    )
    if isinstance(expected, str):
        assert [reject.error for reject in decoded.rejects] == [expected]
    else:
        assert np.array_equal(decoded.batch.value[1, :1], np.array([expected], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("unit", "scale"), [("timestamp-millis", 1), ("timestamp-micros", 1_000), ("timestamp-nanos", 1_000_000), ("local-timestamp-millis", 1)]
)
def test_avro_times_are_told_by_their_size(unit: str, scale: int) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "ts", "type": ["null", {"type": "long", "logicalType": unit}]}]}
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema).replace("logicalType", "unit")))
    shape = ReadingFormat(("rpm",), event_time="ts")
    decoded = one("AVRO", {9: RegisteredSchema("AVRO", json.dumps(schema))}, frame(9) + avro(parsed, {"ts": NOW_MS * scale}), shape)
    assert decoded.batch.event_time_us.tolist() == [NOW_MS * 1_000]


def test_avro_schemas_refer_to_others() -> None:
    value = {"type": "record", "name": "Value", "namespace": "plant", "fields": [{"name": "celsius", "type": "double"}]}
    reading = {
        "type": "record",
        "name": "R",
        "namespace": "plant",
        "fields": [{"name": "a", "type": "plant.Value"}, {"name": "b", "type": "plant.Value"}],
    }
    record = avro(fastavro.parse_schema([value, reading]), ("plant.R", {"a": {"celsius": 1.0}, "b": {"celsius": 2.0}}))[1:]
    schemas = {9: RegisteredSchema("AVRO", json.dumps(reading), {"plant.Value": json.dumps(value)})}
    decoded = one("AVRO", schemas, frame(9) + record, replace(BY_KEY, channels=("a.celsius", "b.celsius")))
    assert decoded.batch.value.tolist() == [[1.0, 2.0]]


def test_protobuf_types() -> None:
    """Presence, wrappers, times, imports, a message that is not the file's first, and one that contains itself."""
    other = FileDescriptorProto(name="other.proto", package="plant", syntax="proto3")
    other.message_type.add(name="Value").field.add(name="celsius", number=1, type=Field.TYPE_FLOAT, label=Field.LABEL_OPTIONAL)
    imports = ["other.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"]
    file = FileDescriptorProto(name="r.proto", package="plant", syntax="proto3", dependency=imports)
    file.message_type.add(name="First")
    outer = file.message_type.add(name="Outer")
    reading = outer.nested_type.add(name="Reading")
    for number, (name, type_name) in enumerate(
        {"at": "google.protobuf.Timestamp", "a": "plant.Value", "b": "google.protobuf.DoubleValue", "c": "google.protobuf.Int64Value",
         "self": "plant.Outer.Reading"}.items(), 1
    ):  # fmt: skip
        reading.field.add(name=name, number=number, type=Field.TYPE_MESSAGE, type_name=f".{type_name}", label=Field.LABEL_OPTIONAL)
    pool = DescriptorPool()
    for known in (timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for each in (other, file):
        pool.Add(each)
    message = GetMessageClass(pool.FindMessageTypeByName("plant.Outer.Reading"))()
    message.at.FromMicroseconds(NOW_MS * 1000 + 7)
    message.a.celsius = 1.5
    message.self.b.value = 3.0
    schemas = {
        9: RegisteredSchema(
            "PROTOBUF",
            base64.b64encode(file.SerializeToString()).decode(),
            {"other.proto": base64.b64encode(other.SerializeToString()).decode()},
        )
    }
    shape = ReadingFormat(("a.celsius", "b", "c", "self.b", "self.a.celsius"), event_time="at")
    decoded = one("PROTOBUF", schemas, frame(9) + b"\4\2\0" + message.SerializeToString(), shape)
    nan = float("nan")
    assert np.array_equal(decoded.batch.value, np.array([[1.5, nan, nan, 3.0, nan]], np.float32), equal_nan=True)
    assert decoded.batch.event_time_us.tolist() == [NOW_MS * 1000 + 7]
