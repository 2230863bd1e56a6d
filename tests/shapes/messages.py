"""Shapes of messages that people send: configuration, message, and what is read of it or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NOW_US = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z


@dataclass(frozen=True)
class MessageShape:
    """A message, and what is to be read.

    input      the section of the configuration
    value      as JSON, or as it is
    readings   (stream, seconds since NOW_US, values by channel)
    error      of the reject, if there is one
    texts      that stood where numbers should
    ignored    values of channels that are not asked for
    empty      readings without any of the channels
    """

    name: str
    input: str
    value: Any
    readings: tuple[tuple[str, float, Mapping[str, float]], ...] = ()
    key: bytes | None = b"m1"
    error: str = ""
    texts: Mapping[str, int] = field(default_factory=dict)
    ignored: int = 0
    empty: int = 0


AB = "channels: [a, b]"
BOTH = {"a": 1.5, "b": 2.5}


def one(stream: str = "m1", at_s: float = 0, **values: float) -> tuple[tuple[str, float, Mapping[str, float]], ...]:
    return ((stream, at_s, values or BOTH),)


def named(values: Mapping[str, float], stream: str = "m1") -> tuple[tuple[str, float, Mapping[str, float]], ...]:
    return ((stream, 0, values),)


SHAPES = (
    MessageShape("named fields", AB, {"a": 1.5, "b": 2.5}, one()),
    MessageShape("whole numbers", AB, {"a": 1, "b": 2}, one(a=1, b=2)),
    MessageShape("numbers as text", AB, {"a": "1.5", "b": "2.5"}, one()),
    MessageShape("truth values", AB, {"a": True, "b": False}, one(a=1, b=0)),
    MessageShape("null", AB, {"a": 1.5, "b": None}, one(a=1.5)),
    MessageShape("a field that is not there", AB, {"a": 1.5}, one(a=1.5)),
    MessageShape("empty text", AB, {"a": 1.5, "b": ""}, one(a=1.5), texts={"": 1}),
    MessageShape("unavailable", AB, {"a": 1.5, "b": "unavailable"}, one(a=1.5), texts={"unavailable": 1}),
    MessageShape("NaN as text", AB, {"a": 1.5, "b": "NaN"}, one(a=1.5), texts={"NaN": 1}),
    MessageShape("NaN as Python writes it", AB, b'{"a": 1.5, "b": NaN}', one(a=1.5), texts={"NaN": 1}),
    MessageShape("infinity as Python writes it", AB, b'{"a": 1.5, "b": -Infinity}', one(a=1.5), texts={"-Infinity": 1}),
    MessageShape("a decimal comma", AB, {"a": 1.5, "b": "2,5"}, one(a=1.5), texts={"2,5": 1}),
    MessageShape("a number that means missing", f"{AB}, missing_values: [-200]", {"a": 1.5, "b": -200}, one(a=1.5), texts={"-200": 1}),
    MessageShape(
        "none of the channels but a number that means missing", f"{AB}, missing_values: [-200]", {"a": -200}, texts={"-200": 1}, empty=1
    ),
    MessageShape("none of the channels", AB, {"c": 1}, empty=1),
    MessageShape("all channels null", AB, {"a": None, "b": None}, empty=1),
    MessageShape("a channel is an object", AB, {"a": {"v": 1}, "b": 2.5}, error="WrongType"),
    MessageShape("a number beyond float32", AB, {"a": 1e300, "b": 2.5}, error="OutOfRange"),
    MessageShape("no JSON", AB, b"temp=5", error="MalformedJson"),
    MessageShape("an array where an object should be", AB, [1, 2], error="WrongType"),
    MessageShape("a tombstone", AB, None, error="NullValue"),
    MessageShape("no bytes", AB, b"", error="EmptyValue"),
    MessageShape("no UTF-8", AB, b'{"a": 1, "s": "\xff"}', error="NotUtf8"),
    MessageShape("seconds", f"{AB}, event_time: {{field: t}}", {"t": 1772409660, **BOTH}, one(at_s=60)),
    MessageShape("seconds with a point", f"{AB}, event_time: {{field: t}}", {"t": 1772409660.25, **BOTH}, one(at_s=60.25)),
    MessageShape("milliseconds", f"{AB}, event_time: {{field: t}}", {"t": 1772409660250, **BOTH}, one(at_s=60.25)),
    MessageShape("microseconds", f"{AB}, event_time: {{field: t}}", {"t": 1772409660250000, **BOTH}, one(at_s=60.25)),
    MessageShape("nanoseconds", f"{AB}, event_time: {{field: t}}", {"t": 1772409660250000000, **BOTH}, one(at_s=60.25)),
    MessageShape("ISO 8601", f"{AB}, event_time: {{field: t}}", {"t": "2026-03-02T00:01:00Z", **BOTH}, one(at_s=60)),
    MessageShape("ISO 8601 with an offset", f"{AB}, event_time: {{field: t}}", {"t": "2026-03-02T01:01:00+01:00", **BOTH}, one(at_s=60)),
    MessageShape("a number as text", f"{AB}, event_time: {{field: t}}", {"t": "1772409660", **BOTH}, one(at_s=60)),
    MessageShape("no time", f"{AB}, event_time: {{field: t}}", BOTH, error="MissingEventTime"),
    MessageShape("a time of the year 2165", f"{AB}, event_time: {{field: t}}", {"t": 6153840000, **BOTH}, error="OutOfRange"),
    MessageShape("a local date", f"{AB}, event_time: {{field: t}}", {"t": "02.03.2026 01:00", **BOTH}, error="WrongType"),
    MessageShape("nested fields", "channels: [v.a, v.b], stream: s.id", {"s": {"id": 7}, "v": BOTH}, named({"v.a": 1.5, "v.b": 2.5}, "7")),
    MessageShape("names with dots", "channels: [v.a, v.b]", {"v.a": 1.5, "v.b": 2.5}, named({"v.a": 1.5, "v.b": 2.5})),
    MessageShape("half a name with dots", "channels: [x.v.a, x.v.b]", {"x.v": BOTH}, named({"x.v.a": 1.5, "x.v.b": 2.5})),
    MessageShape("JSON inside text", "channels: [p.a, p.b]", {"p": '{"a": 1.5, "b": 2.5}'}, named({"p.a": 1.5, "p.b": 2.5})),
    MessageShape("no JSON inside text", "channels: [p.a, c]", {"p": "a=1", "c": 1}, error="WrongType"),
    MessageShape("two fields name the stream", f"{AB}, stream: [site, id]", {"site": "x", "id": "y", **BOTH}, one("x/y")),
    MessageShape("no field names the stream", f"{AB}, stream: id", BOTH, error="MissingStream"),
    MessageShape("no key", AB, BOTH, key=None, error="MissingStream"),
    MessageShape("a key of the LongSerializer", f"{AB}, key: long", BOTH, one("42"), key=(42).to_bytes(8, "big")),
    MessageShape("a key of the IntegerSerializer", f"{AB}, key: int", BOTH, one("42"), key=(42).to_bytes(4, "big")),
    MessageShape("such a key, unsaid", AB, BOTH, key=(42).to_bytes(8, "big"), error="WrongType"),
    MessageShape("a JSON key", f"{AB}, key: json", BOTH, one("m7"), key=b'{"machine": "m7"}'),
    MessageShape("a JSON key of two fields", f"{AB}, key: json, key_field: m", BOTH, one("7"), key=b'{"s": 1, "m": 7}'),
    MessageShape("a framed key, unsaid", AB, BOTH, key=b"\0\0\0\0\7\x0cabcdef", error="WrongType"),
    MessageShape("an array of all channels", f"{AB}, array_path: v", {"v": [1.5, 2.5]}, one()),
    MessageShape("an array with text", f"{AB}, array_path: v", {"v": [1.5, "n/a"]}, one(a=1.5), texts={"n/a": 1}),
    MessageShape("an array too short", f"{AB}, array_path: v", {"v": [1.5]}, error="WrongLength"),
    MessageShape("long format", f"{AB}, long_format: {{channel: n, value: v}}", {"n": "b", "v": 2.5}, one(b=2.5)),
    MessageShape("long format, a truth value", f"{AB}, long_format: {{channel: n, value: v}}", {"n": "b", "v": True}, one(b=1)),
    MessageShape("long format, another channel", f"{AB}, long_format: {{channel: n, value: v}}", {"n": "c", "v": 2.5}, ignored=1),
    MessageShape("long format, no channel", f"{AB}, long_format: {{channel: n, value: v}}", {"v": 2.5}, error="MissingChannel"),
    MessageShape(
        "a gateway's array",
        f"{AB}, stream: d, records_path: r",
        {"r": [{"d": "x", "a": 1.5, "b": 2.5}, {"d": "y", "a": 1.5, "b": 2.5}]},
        (*one("x"), *one("y")),
    ),
    MessageShape("a message that is an array", f"{AB}, stream: d, records_path: .", [{"d": "x", "a": 1.5, "b": 2.5}], one("x")),
    MessageShape(
        "an array of metrics",
        f"{AB}, stream: d, records_path: r, long_format: {{channel: name, value: value}}",
        {"d": "x", "r": [{"name": "a", "value": 1.5}, {"name": "c", "value": 5}]},
        one("x", a=1.5),
        ignored=1,
    ),
    MessageShape(
        "one bad entry of a gateway",
        f"{AB}, stream: d, records_path: r",
        {"r": [{"d": "x", **BOTH}, {"a": 1}]},
        one("x"),
        error="MissingStream",
    ),
    MessageShape(
        "SenML", "channels: [a, b], format: senml", [{"bn": "x:", "bt": 1772409600, "n": "a", "v": 1.5}, {"n": "b", "v": 2.5}], one("x")
    ),
    MessageShape("SenML from now on", "channels: [a], format: senml", [{"n": "x:a", "t": -5, "v": 1.5}], one("x", -5, a=1.5)),
    MessageShape(
        "SenML, text", "channels: [a], format: senml", [{"n": "x:a", "vs": "open"}], ((("x", 0, {})),), texts={"open": 1}, empty=1
    ),
    MessageShape(
        "SenML, a number that means missing",
        "channels: [a], format: senml, missing_values: [-200]",
        [{"n": "x:a", "v": -200}],
        named({}, "x"),
        texts={"-200": 1},
        empty=1,
    ),
    MessageShape("SenML, another channel", "channels: [a], format: senml", [{"n": "x:c", "v": 5}], ignored=1),
    MessageShape("SenML as one object", "channels: [a], format: senml", {"n": "x:a", "v": 1.5}, error="WrongType"),
    MessageShape(
        "a Debezium envelope", "channels: [payload.after.a]", {"payload": {"op": "u", "after": {"a": 1.5}}}, named({"payload.after.a": 1.5})
    ),
    MessageShape("a Debezium deletion", "channels: [payload.after.a]", {"payload": {"op": "d", "after": None}}, empty=1),
    MessageShape("a repeated key", AB, b'{"a": 9, "b": 2.5, "a": 1.5}', one()),
)
