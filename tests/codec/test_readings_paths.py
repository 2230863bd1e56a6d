"""Dotted paths in each way in which messages spell them, and JSON inside text."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest

from detector.codec.fast_path import FastPath, FastRead
from detector.codec.reading_columns import in_log_order
from detector.codec.readings import ReadingFormat
from tests.codec.decoding import T_US, decode, messages, values_of

NODE = "ns=2;s=Objects.Server.Line.1.Cell.4.Motor.Drive.Temp.Value"


def rows_of(read: FastRead) -> list[list[float | None]]:
    return [[None if number != number else number for number in row] for row in in_log_order(read.columns).value.tolist()]


def spelled(path: str, spelling: str, value: Any) -> dict[str, Any]:
    """An object that holds `value` at a dotted path: as one key, nested, in pairs of parts, or with every second object as text."""
    if spelling == "one key":
        return {path: value}
    parts = path.split(".")
    keys = parts if spelling in ("nested", "text") else [".".join(parts[at : at + 2]) for at in range(0, len(parts), 2)]
    inner: Any = value
    for depth in range(len(keys) - 1, -1, -1):
        inner = {keys[depth]: inner}
        if spelling == "text" and depth % 2 and depth:
            inner = json.dumps(inner)
    return inner if isinstance(inner, dict) else {}


@pytest.mark.parametrize("spelling", ["one key", "nested", "pairs", "text"])
def test_deep_names_are_read_in_each_spelling_and_learnt(spelling: str) -> None:
    paths = (NODE, NODE.replace("Temp", "Speed"))
    messages_ = [json.dumps(spelled(paths[0], spelling, number)).encode() for number in range(20)]
    fast = FastPath(ReadingFormat(paths))
    for _ in range(2):
        read = fast.read(messages(messages_, log_time_us=T_US))
        assert (read.left, rows_of(read)) == ([], [[number, None] for number in range(20)])
    other = "nested" if spelling == "one key" else "one key"
    mixed = [json.dumps(spelled(path, each, 7)).encode() for each in (spelling, other) for path in paths for _ in range(20)]
    for _ in range(3):
        read = fast.read(messages(mixed, log_time_us=T_US))
        assert (read.left, rows_of(read)) == ([], [[7, None] if number % 40 < 20 else [None, 7] for number in range(80)])
    assert values_of(decode(ReadingFormat(paths), *mixed, log_time_us=T_US)[0]) == rows_of(read)


def test_the_search_for_a_deep_name_is_not_exponential() -> None:
    path = ".".join("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz")
    near = json.dumps(spelled(path.removesuffix(".z"), "nested", {"y": 1})).encode()
    began_s = time.process_time()
    decoded, _ = decode(ReadingFormat((path,), records_path="."), b"[" + b",".join([near] * 20) + b"]", log_time_us=T_US)
    assert values_of(decoded) == [[None]] * 20
    assert time.process_time() - began_s < 5


def test_all_spellings_of_a_path_are_found_and_the_most_literal_first() -> None:
    parts = ["a", "b", "c", "d"]
    whole: dict[str, Any] = {}
    ways = []
    for number, cuts in enumerate(sorted(itertools.product([True, False], repeat=3))):
        keys = "".join(part + ("/" if cut else ".") for part, cut in zip(parts, [*cuts, False], strict=True))[:-1].split("/")
        one: dict[str, Any] = {}
        for message in (one, whole):
            inner = message
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = number
        assert values_of(decode(ReadingFormat(("a.b.c.d",)), one, log_time_us=T_US)[0]) == [[number]]
        ways.append(keys)
    for number, keys in enumerate(ways):  # the most literal is taken out first
        assert values_of(decode(ReadingFormat(("a.b.c.d",)), whole, log_time_us=T_US)[0]) == [[number]]
        inner = whole
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]


def test_json_inside_text() -> None:
    shape = ReadingFormat(("payload.t", "payload.more.p"), ("device",), "payload.ts")
    ts = 1793527200
    good = {"ts": ts, "t": 1.5, "more": json.dumps({"p": True})}
    decoded, streams = decode(
        shape,
        {"device": "a", "payload": json.dumps(good)},
        {"device": "b", "payload": " \n" + json.dumps(good, indent=1)},
        {"device": "c", "payload": good},
        {"device": "d", "payload": json.dumps({"ts": ts, "t": float("nan")})},
        {"device": "e", "payload": json.dumps(good)[:-1]},
        {"device": "f", "payload": "none"},
        {"device": "g", "payload": "[1]"},
        {"device": "h", "payload": json.dumps({"ts": ts, "t": "hot", "more": None})},
        json.dumps(json.dumps({"device": "i", "payload": json.dumps(good)})).encode(),
    )
    assert streams == ["a", "b", "c", "d", "h", "i"]
    assert values_of(decoded) == [[1.5, 1]] * 3 + [[None, None]] * 2 + [[1.5, 1]]
    assert decoded.texts == {(0, "NaN"): 1, (0, "hot"): 1}
    assert [(reject.position, reject.error, reject.reason.split(":")[0]) for reject in decoded.rejects] == [
        (4, "MalformedJson", "payload"),
        (5, "WrongType", "payload"),
        (6, "WrongType", "payload"),
    ]


def test_readings_inside_text() -> None:
    shape = ReadingFormat(("t",), ("unit",), "ts", records_path="payload.items")
    ts = 1793527200
    items = [{"t": 1, "unit": "a"}, json.dumps({"t": 2, "unit": "b"})]
    for written in (
        {"payload": {"items": json.dumps(items)}},
        {"payload": json.dumps({"items": items})},
        {"payload": json.dumps({"items": json.dumps(items)})},
    ):
        decoded, streams = decode(shape, {"ts": ts, **written})
        assert (streams, values_of(decoded), decoded.rejects) == (["a", "b"], [[1], [2]], ())
    array = ReadingFormat(("a", "b"), array_path="v")
    assert values_of(decode(array, {"v": "[1, 2]"}, log_time_us=T_US)[0]) == [[1, 2]]
