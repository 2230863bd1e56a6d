"""Keys of all kinds as names of streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from detector.codec.avro import avro_reader
from detector.codec.baseline_resets import HEADER, with_baseline_resets
from detector.codec.confluent_wire_format import RecordReaders, RegisteredSchema, frame, json_reader
from detector.codec.keys import KeyedReadings, KeyReader
from detector.codec.messages import Messages
from detector.codec.protobuf import protobuf_reader
from detector.codec.reading_format import ReadingFormat
from detector.codec.readings import JsonReadings
from detector.core.readings import Partition, StreamNames
from tests.codec.records import avro

SCHEMAS = {7: RegisteredSchema("AVRO", '"string"'), 8: RegisteredSchema("JSON", "{}"), 9: RegisteredSchema("XML", "")}


def messages_of(keys: Sequence[bytes | None], values: Sequence[bytes | None] = ()) -> Messages:
    count = len(keys)
    return Messages(
        keys, values or [b'{"a": 1}'] * count, np.zeros(count, np.int32), np.arange(count), np.full(count, 10**15), (Partition("in", 0),)
    )


def fetch(ids: Iterable[int]) -> Mapping[int, RegisteredSchema | None]:
    return {schema_id: SCHEMAS.get(schema_id) for schema_id in ids}


def read(kind: Any, keys: Sequence[bytes | None], field: str | None = None) -> tuple[list[str], list[tuple[int, str, str]]]:
    """Names of the streams, and what was rejected and why."""
    names = StreamNames()
    readers = RecordReaders(fetch, {"AVRO": avro_reader, "JSON": json_reader, "PROTOBUF": partial(protobuf_reader, None)}, "input.key")
    keyed = KeyedReadings(JsonReadings(ReadingFormat(("a",)), names), KeyReader(kind, field, readers))
    found = keyed.decode(messages_of(keys))
    assert sorted([*found.message.tolist(), *(reject.position for reject in found.rejects)]) == list(range(len(keys)))
    return [names.name(each) for each in found.batch.stream_id.tolist()], [
        (each.position, each.error, each.reason) for each in found.rejects
    ]


def test_numbers_of_kafkas_serializers() -> None:
    assert read("long", [(42).to_bytes(8, "big"), (-1).to_bytes(8, "big", signed=True)]) == (["42", "-1"], [])
    assert read("int", [(42).to_bytes(4, "big"), (2**31 - 1).to_bytes(4, "big")]) == (["42", "2147483647"], [])
    names, rejects = read("long", [b"press-1", (3).to_bytes(8, "big"), None])
    assert names == ["3"]
    assert [(place, error) for place, error, _ in rejects] == [(0, "WrongLength"), (2, "MissingStream")]
    assert rejects[0][2] == "key: expected a number of 8 bytes, found 7 bytes: see input.key"


@pytest.mark.parametrize(
    ("key", "field", "name"),
    [
        ('"press-1"', None, "press-1"),
        ("42", None, "42"),
        ('{"machine": "press-1"}', None, "press-1"),
        ('{"site": "a", "machine": "press-1"}', "machine", "press-1"),
        ('{"site": {"machine": 7}}', "site.machine", "7"),
        ('{"site.machine": 7}', "site.machine", "7"),
    ],
)
def test_json_keys(key: str, field: str | None, name: str) -> None:
    assert read("json", [key.encode()], field) == ([name], [])


@pytest.mark.parametrize(
    ("key", "field", "reason"),
    [
        ("press-1", None, "MalformedJson"),
        ('{"site": "a", "machine": "b"}', None, "name one of them with input.key_field"),
        ('{"site": "a"}', "machine", "found nothing"),
        ("[1]", None, "found an array"),
        ("1.5", None, "found a number with a point"),
        ("true", None, "found a truth value"),
        ('""', None, "found empty text"),
    ],
)
def test_json_keys_that_name_no_stream(key: str, field: str | None, reason: str) -> None:
    names, ((_, error, why),) = read("json", [key.encode()], field)
    assert not names
    assert reason in f"{error} {why}"
    assert why.startswith("key: ")


def test_keys_in_confluents_frame() -> None:
    keys = [
        frame(7) + avro("string", "press-1"),
        frame(8) + b'{"machine": "press-2"}',
        frame(6) + b"x",
        b"press-3",
        frame(9) + b"x",
        frame(7) + b"\x08a",
    ]
    names, rejects = read("framed", keys)
    assert names == ["press-1", "press-2"]
    assert [(place, error) for place, error, _ in rejects] == [
        (2, "UnknownSchema"),
        (3, "NotFramed"),
        (4, "WrongSchema"),
        (5, "MalformedRecord"),
    ]
    assert "as input.key says" in rejects[2][2]


@pytest.mark.parametrize(
    ("key", "kind"), [((5).to_bytes(8, "big"), "long"), ((5).to_bytes(4, "big"), "int"), (frame(7) + b"abcdef", "framed")]
)
def test_no_stream_begins_with_a_zero_byte(key: bytes, kind: str) -> None:
    names, ((place, error, why),) = read("utf8", [b"press-1", key])
    assert names == ["press-1"]
    assert (place, error) == (1, "WrongType")
    assert why.endswith(f"set input.key: {kind}")


def test_text_keys_are_taken_as_they_are() -> None:
    assert read("utf8", [b"press-1", "prüfstand".encode()]) == (["press-1", "prüfstand"], [])
    _, rejects = read("utf8", [None, b"\xff"])
    assert [error for _, error, _ in rejects] == ["MissingStream", "NotUtf8"]


def test_a_baseline_reset_names_the_stream_itself() -> None:
    names = StreamNames()
    keyed = KeyedReadings(JsonReadings(ReadingFormat(("a",)), names), KeyReader("long"))
    messages = messages_of([(3).to_bytes(8, "big"), b"3"], [b'{"a": 1}', None])
    messages = Messages(
        messages.key,
        messages.value,
        messages.partition,
        messages.offset,
        messages.log_time_us,
        messages.partitions,
        lambda place: [(HEADER, b"")] * place,
    )
    decoded = with_baseline_resets(keyed.decode(messages), messages)
    assert not decoded.rejects
    assert [(reset.stream, reset.place) for reset in decoded.baseline_resets] == [(b"3", 1)]


def test_names_are_remembered_and_keys_are_read_once() -> None:
    asked: list[list[int]] = []

    def asking(ids: Iterable[int]) -> Mapping[int, RegisteredSchema | None]:
        asked.append(list(ids))
        return fetch(ids)

    reader = KeyReader("framed", None, RecordReaders(asking, {"JSON": json_reader}, "input.key"))
    messages = messages_of([frame(8) + json.dumps({"m": number % 3}).encode() for number in range(9)])
    for _ in range(3):
        assert reader.read(messages)[0] == [b"%d" % (number % 3) for number in range(9)]
    assert asked == [[8]]
