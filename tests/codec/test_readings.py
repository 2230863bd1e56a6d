"""Readings as people really send them, and what becomes of what nobody can read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest

from detector.codec.reading_format import OTHER_TEXTS, STREAM_BYTES_MAX, TEXTS_MAX, ErrorName
from detector.codec.reading_json_schema import reading_json_schema
from detector.codec.readings import JsonReadings, ReadingFormat
from detector.core.readings import StreamNames
from tests.codec.decoding import T_US, decode, messages, values_of

FORMAT = ReadingFormat(("temperature", "rpm"), event_time="ts")
GOOD = b'{"ts": 1793527200, "temperature": 1.5, "rpm": 2}'


def _long_format(first: Any, second: Any) -> list[dict[str, Any]]:
    return [{"n": "a", "v": first}, {"n": "b", "v": second}]


SHAPES: dict[str, tuple[ReadingFormat, Callable[[Any, Any], Any]]] = {
    "named": (ReadingFormat(("a", "b")), lambda first, second: {"a": first, "b": second}),
    "nested": (ReadingFormat(("d.a", "d.b")), lambda first, second: {"d": {"a": first, "b": second}}),
    "dotted": (ReadingFormat(("d.a", "d.b")), lambda first, second: {"d.a": first, "d.b": second}),
    "array": (ReadingFormat(("a", "b"), array_path="v"), lambda first, second: {"v": [first, second]}),
    "records": (ReadingFormat(("a", "b"), records_path="r"), lambda first, second: {"r": [{"a": first, "b": second}]}),
    "long format": (ReadingFormat(("a", "b"), channel_path="n", value_path="v", records_path="."), _long_format),
}


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_named_channels_with_the_key_as_stream() -> None:
    decoded, streams = decode(
        FORMAT, {"ts": 1793527200, "rpm": 2, "temperature": 1.5, "more": [1]}, {"ts": 1793527201, "rpm": None}, {"ts": 1793527202}
    )
    assert streams == ["s1"] * 3
    assert values_of(decoded) == [[1.5, 2.0], [None, None], [None, None]]
    assert decoded.batch.event_time_us.tolist() == [1793527200_000_000, 1793527201_000_000, 1793527202_000_000]
    assert decoded.batch.offset.tolist() == [100, 101, 102]
    assert decoded.message.tolist() == [0, 1, 2]
    assert decoded.batch.channel is None
    assert not decoded.rejects
    columns = decoded.batch
    kinds = [
        columns.stream_id.dtype,
        columns.event_time_us.dtype,
        columns.value.dtype,
        columns.partition.dtype,
        columns.offset.dtype,
        columns.item.dtype,
    ]
    assert kinds == [np.int32, np.int64, np.float32, np.int32, np.int64, np.int32]


def test_dotted_paths_and_keys_that_contain_the_dot() -> None:
    shape = ReadingFormat(("data.t", "data.motor.rpm"), ("machine.id",), "meta.ts")
    decoded, streams = decode(
        shape,
        {"machine": {"id": "a"}, "meta": {"ts": 1793527200}, "data": {"t": 1, "motor": {"rpm": 2}}},
        {"machine.id": "b", "meta.ts": 1793527200, "data.t": 1, "data.motor.rpm": 2},
        {"machine": {"id": "c"}, "meta": {"ts": 1793527200}, "data": {"t": 1, "motor.rpm": 2}},
        {"machine": {"id": "d"}, "meta": {"ts": 1793527200}, "data.motor": {"rpm": 2}, "data.t": 1, "data": {"t": 9, "motor": {"rpm": 9}}},
        {"machine": {"id": 5}, "meta": {"ts": 1793527200}, "data": None},
    )
    assert not decoded.rejects
    assert streams == ["a", "b", "c", "d", "5"]
    assert values_of(decoded) == [[1, 2]] * 4 + [[None, None]]


def test_paths_that_overlap_take_the_precise_path() -> None:
    shape = ReadingFormat(("a", "a.b"), ("unit",), "unit")
    decoded, streams = decode(shape, {"unit": 1793527200, "a": 1.0, "a.b": 2.0})
    assert (streams, values_of(decoded)) == (["1793527200"], [[1, 2]])


def test_several_stream_fields_are_joined() -> None:
    shape = ReadingFormat(("v",), ("plant", "unit"))
    decoded, streams = decode(
        shape, {"plant": "p", "unit": 7, "v": 1}, {"plant": "p", "unit": "ü", "v": 1}, {"plant": "p", "unit": "", "v": 1}, log_time_us=T_US
    )
    assert streams == ["p/7", "p/ü"]
    assert [(reject.position, reject.error) for reject in decoded.rejects] == [(2, "MissingStream")]
    assert decoded.rejects[0].reason.startswith("unit: ")


def test_array_of_channels() -> None:
    shape = ReadingFormat(("a", "b"), event_time="ts", array_path="data.v")
    ts = 1793527200
    decoded, _ = decode(
        shape, {"ts": ts, "data": {"v": [1, None]}}, {"ts": ts, "data": {"v": [1]}}, {"ts": ts}, {"ts": ts, "data": {"v": [1, []]}}
    )
    assert values_of(decoded) == [[1, None], [None, None]]
    assert decoded.message.tolist() == [0, 2]
    assert [(reject.error, reject.reason.split(":")[0]) for reject in decoded.rejects] == [
        ("WrongLength", "data.v"),
        ("WrongType", "data.v[1]"),
    ]


def test_narrow_readings() -> None:
    shape = ReadingFormat(("a", "b"), event_time="ts", channel_path="name", value_path="value")
    ts = 1793527200
    decoded, _ = decode(
        shape,
        {"ts": ts, "name": "b", "value": 3},
        {"ts": ts, "name": "a", "value": None},
        {"ts": ts, "name": "other", "value": 3},
        {"ts": ts, "value": 3},
        {"ts": ts, "name": "a", "value": {}},
        {"ts": ts, "name": "a", "value": "4"},
        {"ts": ts, "name": "b", "value": True},
        {"ts": ts, "name": "b", "value": "off"},
    )
    assert values_of(decoded) == [[None, 3], [None, None], [4, None], [None, 1], [None, None]]
    assert decoded.batch.channel is not None
    assert decoded.batch.channel.tolist() == [1, 0, 0, 1, 1]
    assert decoded.texts == {(1, "off"): 1}
    assert decoded.ignored == 1
    assert [(reject.position, reject.error, reject.reason.split(":")[0]) for reject in decoded.rejects] == [
        (3, "MissingChannel", "name"),
        (4, "WrongType", "value"),
    ]


def test_gateway_items() -> None:
    shape = ReadingFormat(("t",), ("unit",), "ts", records_path="batch.items")
    ts = 1793527200
    beside = {
        "unit": "beside",
        "ts": ts,
        "batch": {"items": [{"t": 1}, {"t": 2, "unit": "own", "ts": ts + 1}, {"t": {}}, 5, {"t": [], "ts": "x"}]},
    }
    decoded, streams = decode(shape, beside, {"unit": "u", "batch": {"items": []}}, {"unit": "u"}, {"unit": "u", "batch": {"items": {}}})
    assert streams == ["beside", "own"]
    assert decoded.batch.item.tolist() == [0, 1]
    assert decoded.batch.event_time_us.tolist() == [ts * 10**6, (ts + 1) * 10**6]
    assert [(reject.position, reject.readings) for reject in decoded.rejects] == [(0, 3), (2, 1), (3, 1)]
    assert decoded.rejects[0].reason.startswith("batch.items[2].t: expected a number")
    assert decoded.rejects[1].reason.startswith("batch.items: ")


def test_top_level_array_of_items() -> None:
    shape = ReadingFormat(("t",), records_path=".")
    decoded, streams = decode(shape, [{"t": 1}, {"t": 2}], {"t": 1}, b" [1]", log_time_us=T_US)
    assert (streams, values_of(decoded), decoded.batch.item.tolist()) == (["s1"] * 2, [[1], [2]], [0, 1])
    assert [reject.reason.split(":")[0] for reject in decoded.rejects] == ["value", "[0]"]


def test_bad_items_of_one_kind_become_one_reject() -> None:
    decoded, _ = decode(ReadingFormat(("t",), records_path="."), [{"t": []}] * 1_000, log_time_us=T_US)
    assert [(reject.error, reject.readings) for reject in decoded.rejects] == [("WrongType", 1_000)]


def test_a_bad_key_loses_every_item_and_is_named_as_the_key() -> None:
    decoded, _ = decode(ReadingFormat(("t",), records_path="."), [{"t": 1}] * 3, keys=[None], log_time_us=T_US)
    assert [(reject.reason.split(":")[0], reject.readings) for reject in decoded.rejects] == [("key", 3)]


def test_pretty_printed_json_and_repeated_keys() -> None:
    pretty = json.dumps({"ts": 1793527200, "temperature": 1, "rpm": 2}, indent=2).encode()
    decoded, _ = decode(FORMAT, GOOD, pretty, b'{"ts": 1793527200, "rpm": 1, "rpm": 2, "temperature": "x", "temperature": 1.5}')
    assert not decoded.rejects
    assert values_of(decoded) == [[1.5, 2], [1, 2], [1.5, 2]]


def test_numbers_as_text() -> None:
    decoded, _ = decode(FORMAT, {"ts": "1793527200", "temperature": "3.25", "rpm": "-1e2"})
    assert values_of(decoded) == [[3.25, -100]]
    assert decoded.texts == {}


NO_NUMBERS = ("", " 1", "+1", "01", "1_0", "nan", "NaN", "Infinity", "-inf", "0x1", "1,5", "١", "unavailable", "unknown", "{}")


@pytest.mark.parametrize("shape", ["named", "nested", "dotted", "array", "long format", "records"])
def test_text_that_is_no_number_costs_the_channel_not_the_reading(shape: str) -> None:
    written, write = SHAPES[shape]
    decoded, _ = decode(written, *(write(text, 2.5) for text in NO_NUMBERS), log_time_us=T_US)
    assert not decoded.rejects
    rows = values_of(decoded)
    assert not [row[0] for row in rows if row[0] is not None]
    assert [row[1] for row in rows if row[1] is not None] == [2.5] * len(NO_NUMBERS)
    assert decoded.texts == {(0, text): 1 for text in NO_NUMBERS}


@pytest.mark.parametrize("shape", ["named", "nested", "dotted", "array", "long format", "records"])
def test_booleans_are_0_and_1(shape: str) -> None:
    written, write = SHAPES[shape]
    decoded, _ = decode(written, write(True, False), write(False, True), write(2.5, True), log_time_us=T_US)
    assert not decoded.rejects
    assert decoded.texts == {}
    rows = values_of(decoded)
    found = [[first[0], second[1]] for first, second in zip(rows[::2], rows[1::2], strict=True)] if shape == "long format" else rows
    assert found == [[1, 0], [0, 1], [2.5, 1]]


def test_texts_are_counted_for_readings_only_and_few_are_kept() -> None:
    lost = {"temperature": "lost", "rpm": 1}
    decoded, _ = decode(FORMAT, lost, *({"ts": 1793527200, "rpm": f"{'x' * 60}{number}", "temperature": number} for number in range(30)))
    assert len(decoded.rejects) == 1
    assert decoded.texts == {(1, "x" * 40): 30}
    other = [{"ts": 1793527200, "rpm": f"text {number}", "temperature": "off"} for number in range(30)]
    decoded, _ = decode(FORMAT, *other, {"ts": 1793527200, "rpm": {}, "temperature": "lost"})
    assert len(decoded.texts) == TEXTS_MAX + 1
    assert decoded.texts[(0, "off")] == 30
    assert decoded.texts[(1, OTHER_TEXTS)] == 30 - (TEXTS_MAX - 1)
    assert sum(decoded.texts.values()) == 60


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("shape", ["named", "nested", "dotted", "array", "long format", "records"])
def test_a_bare_nan_is_null_and_counted(token: str, shape: str) -> None:
    written, write = SHAPES[shape]
    decoded, _ = decode(written, write(float(token), 2.5), write(1, 2), log_time_us=T_US)
    assert not decoded.rejects
    assert [row[1] for row in values_of(decoded) if row[1] is not None] == [2.5, 2]
    assert decoded.texts == {(0, token): 1}


def test_a_bare_nan_elsewhere_is_null() -> None:
    shape = ReadingFormat(("v",), ("s",), "t")
    ts = b"1793527200"
    decoded, streams = decode(
        shape,
        b'{"t": %s, "s": "NaN, \\" NaN", "v": 1, "x": [NaN, {"y": -Infinity}]}' % ts,
        b'{"t": NaN, "s": "a", "v": 1}',
        b'{"t": %s, "s": Infinity, "v": 1}' % ts,
        b'{"t": %s, "s": "a", "v": 1NaN}' % ts,
        b'{"t": %s, "s": "a", "v": NaNs}' % ts,
        b'{"t": %s, "s": "a", NaN: 1}' % ts,
        b'{"t": %s, "s": "a", "v": NaN' % ts,
    )
    assert streams == ['NaN, " NaN']
    assert [reject.error for reject in decoded.rejects] == ["MissingEventTime", "MissingStream", *["MalformedJson"] * 4]
    inside = ReadingFormat(("v",), ("s",), "t", records_path="r")
    decoded, streams = decode(inside, b'{"s": "outer", "t": %s, "r": [{"s": NaN, "v": "NaN"}]}' % ts)
    assert (streams, decoded.texts) == (["outer"], {(0, "NaN"): 1})


def test_a_hostile_message_does_not_take_long() -> None:
    big = 900_000
    hostile = (
        b'{"ts": NaN, "x": "' + b'\\"' * (big // 2),
        b'{"x": nan, ' + b'"a\\"' * (big // 4),
        b"[" + b"NaN," * (big // 4),
        b'{"ts": NaN' + b'"' * big,
    )
    began_s = time.process_time()
    decoded, _ = decode(FORMAT, *hostile)
    assert len(decoded.rejects) == len(hostile)
    assert time.process_time() - began_s < 5


def test_empty_batch() -> None:
    decoded, _ = decode(FORMAT)
    assert (len(decoded.batch), decoded.batch.value.shape) == (0, (0, 2))


# --- what cannot be read ----------------------------------------------------------------------------------------------

BAD: list[tuple[str, bytes | None, bytes | None, str, str]] = [
    ("null value", None, b"k", "NullValue", "value"),
    ("empty value", b"", b"k", "EmptyValue", "value"),
    ("blank value", b"  ", b"k", "MalformedJson", "value"),
    ("cut short", GOOD[:-1], b"k", "MalformedJson", "value"),
    ("two values", GOOD + GOOD, b"k", "MalformedJson", "value"),
    ("no JSON", b"temperature=1", b"k", "MalformedJson", "value"),
    ("byte order mark", b"\xef\xbb\xbf" + GOOD, b"k", "MalformedJson", "value"),
    ("nan", b'{"ts": 1793527200, "temperature": nan}', b"k", "MalformedJson", "temperature"),
    ("-inf", b'{"ts": 1793527200, "temperature": 1, "rpm":-inf}', b"k", "MalformedJson", "rpm"),
    ("an array", b"[1, 2]", b"k", "WrongType", "value"),
    ("a number", b"5", b"k", "WrongType", "value"),
    ("null itself", b"null", b"k", "WrongType", "value"),
    ("not UTF-8", b"\xff\xfe\x00", b"k", "NotUtf8", "value"),
    ("not UTF-8 in a field nobody reads", GOOD[:-1] + b', "x": "\xff"}', b"k", "NotUtf8", "value"),
    ("oversize", b'{"ts": 1793527200, "x": "' + b"y" * 2_000 + b'"}', b"k", "TooLarge", "value"),
    ("deep arrays", b'{"ts": 1793527200, "x": ' + b"[" * 1_500, b"k", "TooDeep", "value"),
    ("text beyond float32", b'{"ts": 1793527200, "temperature": "1e39"}', b"k", "OutOfRange", "temperature"),
    ("text beyond float64", b'{"ts": 1793527200, "temperature": "-1e999"}', b"k", "OutOfRange", "temperature"),
    ("array", b'{"ts": 1793527200, "temperature": [1]}', b"k", "WrongType", "temperature"),
    ("object", b'{"ts": 1793527200, "temperature": {"v": 1}}', b"k", "WrongType", "temperature"),
    ("beyond float32", b'{"ts": 1793527200, "rpm": 1e39}', b"k", "OutOfRange", "rpm"),
    ("beyond float64", b'{"ts": 1793527200, "rpm": -1e999}', b"k", "OutOfRange", "rpm"),
    ("endless digits", b'{"ts": 1793527200, "rpm": ' + b"9" * 500 + b"}", b"k", "OutOfRange", "rpm"),
    ("no event time", b'{"rpm": 1}', b"k", "MissingEventTime", "ts"),
    ("null event time", b'{"ts": null, "rpm": 1}', b"k", "MissingEventTime", "ts"),
    ("boolean event time", b'{"ts": true, "rpm": 1}', b"k", "WrongType", "ts"),
    ("event time in words", b'{"ts": "yesterday", "rpm": 1}', b"k", "WrongType", "ts"),
    ("no such day", b'{"ts": "2026-02-30T00:00:00Z", "rpm": 1}', b"k", "WrongType", "ts"),
    ("event time 0", b'{"ts": 0, "rpm": 1}', b"k", "OutOfRange", "ts"),
    ("negative event time", b'{"ts": -1793527200, "rpm": 1}', b"k", "OutOfRange", "ts"),
    ("huge event time", b'{"ts": ' + b"9" * 900 + b', "rpm": 1}', b"k", "OutOfRange", "ts"),
    ("event time beyond a double", b'{"ts": 1e999, "rpm": 1}', b"k", "OutOfRange", "ts"),
    ("event time in 1890", b'{"ts": "1890-01-01T00:00:00Z", "rpm": 1}', b"k", "OutOfRange", "ts"),
    ("event time in the year 1", b'{"ts": "0001-01-01T00:00:00+14:00", "rpm": 1}', b"k", "OutOfRange", "ts"),
    ("no key", GOOD, None, "MissingStream", "key"),
    ("empty key", GOOD, b"", "MissingStream", "key"),
    ("key not UTF-8", GOOD, b"\xff", "NotUtf8", "key"),
    ("long key", GOOD, b"k" * (STREAM_BYTES_MAX + 1), "TooLarge", "key"),
    ("lone surrogate", b'{"ts": 1793527200, "rpm": 1, "x": "\\ud800"}', b"k", "MalformedJson", "value"),
]


@pytest.mark.parametrize(("value", "key", "error", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_message_becomes_a_reject_that_names_the_field_and_the_batch_is_unharmed(
    value: bytes | None, key: bytes | None, error: str, field: str
) -> None:
    shape = ReadingFormat(FORMAT.channels, event_time="ts", message_bytes_max=1_900)
    names = StreamNames()
    decoded = JsonReadings(shape, names).decode(messages([GOOD, value, GOOD], [b"a", key, b"b"]))
    assert decoded.message.tolist() == [0, 2]
    assert [names.name(stream) for stream in decoded.batch.stream_id.tolist()] == ["a", "b"]
    assert values_of(decoded) == [[1.5, 2]] * 2
    (reject,) = decoded.rejects
    assert (reject.position, reject.error, reject.readings) == (1, error, 1)
    assert reject.reason.startswith(f"{field}: expected ")
    assert ", found " in reject.reason
    assert len(reject.reason) < 300
    assert reject.error in get_args(ErrorName)
    assert set(names) == {b"a", b"b"}


def test_deep_nesting_does_not_crash() -> None:
    decoded, _ = decode(FORMAT, b"[" * 900_000, b'{"a":' * 150_000, b'{"ts": 1793527200, "x": ' + b"[" * 100 + b"]" * 100 + b"}")
    assert decoded.message.tolist() == [2]
    assert [reject.error for reject in decoded.rejects] == ["WrongType", "TooDeep"]


def test_all_bad_and_one_bad_among_many() -> None:
    cut = [GOOD[:length] for length in range(len(GOOD))]
    decoded, _ = decode(FORMAT, *cut)
    assert (len(decoded.batch), len(decoded.rejects)) == (0, len(GOOD))
    decoded, _ = decode(FORMAT, *[GOOD] * 5_000, b"{", *[GOOD] * 4_999)
    assert len(decoded.batch) == 9_999
    assert np.array_equal(decoded.message, np.delete(np.arange(10_000), 5_000))


def test_float32_limit_is_exact() -> None:
    largest = float(np.finfo(np.float32).max)
    decoded, _ = decode(
        FORMAT,
        {"ts": 1793527200, "rpm": largest},
        {"ts": 1793527200, "rpm": largest * (1 + 2**-25)},
        {"ts": 1793527200, "rpm": largest * (1 + 2**-24)},
    )
    assert decoded.message.tolist() == [0, 1]


# --- the log's own time -----------------------------------------------------------------------------------------------


def test_the_logs_own_time() -> None:
    shape = ReadingFormat(("rpm",))
    assert decode(shape, {"rpm": 1}, log_time_us=T_US)[0].batch.event_time_us.tolist() == [T_US]
    decoded, _ = decode(shape, {"rpm": 1}, log_time_us=-1)
    assert [reject.error for reject in decoded.rejects] == ["MissingEventTime"]


def test_event_time_is_bounded_around_the_logs_own_time() -> None:
    shape = ReadingFormat(("rpm",), event_time="ts", event_time_unit="us", future_us_max=10, past_us_max=20)
    decoded, _ = decode(shape, *({"ts": T_US + ahead} for ahead in (-21, -20, 0, 10, 11)), log_time_us=T_US)
    assert decoded.message.tolist() == [1, 2, 3]
    assert [reject.error for reject in decoded.rejects] == ["OutOfRange"] * 2
    assert "2026-11-01T10:00:00.123467Z" in decoded.rejects[1].reason
    assert not decode(ReadingFormat(("rpm",), event_time="ts", past_us_max=10**30, future_us_max=10**30), {"ts": T_US}, log_time_us=5)[
        0
    ].rejects


# --- the schema -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "good", "bad"),
    [
        (FORMAT, {"ts": "2026-11-01T10:00:00Z", "rpm": None, "temperature": "3.5", "x": 1}, {"rpm": 1}),
        (FORMAT, {"ts": 1, "temperature": True, "rpm": "unknown"}, {"ts": 1, "rpm": 1e39}),
        (ReadingFormat(("d.a",), ("m.id",), "ts", "ms"), {"m": {"id": 1}, "ts": 1, "d": {"a": 1}}, {"m": {}, "ts": 1}),
        (ReadingFormat(("a", "b"), array_path="v"), {"v": [1, None]}, {"v": [1]}),
        (ReadingFormat(("a",), event_time="t", records_path="items"), {"t": 1, "items": [{"a": 1}]}, {"items": {}}),
        (ReadingFormat(("a",), event_time="t", event_time_unit="iso8601", records_path="."), [{"t": "2026-11-01", "a": 1}], [{"a": 1}]),
        (ReadingFormat(("a",), channel_path="n", value_path="v"), {"n": "a", "v": 1}, {"v": 1}),
        (FORMAT, {"ts": 1}, {"ts": 1, "rpm": []}),
    ],
)
def test_schema(format: ReadingFormat, good: Any, bad: Any) -> None:
    schema = reading_json_schema(format)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(good)
    assert not validator.is_valid(bad)
