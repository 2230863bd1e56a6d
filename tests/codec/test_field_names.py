"""Names of fields, for hints."""

from __future__ import annotations

import json

import pytest

from detector.codec.field_names import DEPTH_MAX, NAMES_MAX, field_names, names_in


def test_numbers_booleans_and_text_that_is_a_number() -> None:
    message = {
        "temp": 1.5,
        "on": False,
        "count": "-2e3",
        "state": "running",
        "none": None,
        "list": [1, 2],
        "a.b": {"c": 1, "d": {"e": True}},
        "payload": json.dumps({"x": 1, "inner": json.dumps({"y": 2}), "z": "{"}),
    }
    assert field_names(json.dumps(message).encode()) == ["temp", "on", "count", "a.b.c", "a.b.d.e", "payload.x", "payload.inner.y"]


def test_a_bare_nan_is_a_number_and_repeated_keys_come_once() -> None:
    assert field_names(b'{"a": NaN, "b": -Infinity, "a": 1, "a.c": 1, "b.c": {}}') == ["a", "b", "a.c"]
    assert field_names(b'{"a.c": 1, "a": {"c": 2}}') == ["a.c"]


def test_readings_of_a_gateway() -> None:
    assert field_names(b'[{"t": 1}, {"t": 2, "p": 3}]', ".") == ["t", "p"]
    assert field_names(b'{"batch": {"items": "[{\\"t\\": 1}]"}, "x": 1}', "batch.items") == ["t"]
    assert field_names(b'{"x": 1}', "batch.items") == []


@pytest.mark.parametrize(
    "value", [b"", b" ", b"no json", b"7", b"[1]", b'"text"', b"null", b'{"a": 1', b"\xff", b'{"a":' * 100_000, b'{"a": "\\ud800"}']
)
def test_what_cannot_be_read_has_no_names(value: bytes) -> None:
    for records_path in (None, ".", "a"):
        assert field_names(value, records_path) == []


def test_names_and_depth_are_bounded() -> None:
    assert len(field_names(json.dumps({f"c{number}": number for number in range(3 * NAMES_MAX)}).encode())) == NAMES_MAX
    deep: object = {"last": 1}
    for _ in range(DEPTH_MAX - 1):
        deep = {"k": deep, "n": 1}
    assert "k." * (DEPTH_MAX - 1) + "last" in field_names(json.dumps(deep).encode())
    assert field_names(json.dumps({"k": deep}).encode())[-1] == "k.n"
    assert max(name.count(".") for name in field_names(json.dumps({"k": deep}).encode())) == DEPTH_MAX - 1


def test_names_of_many_messages_are_gathered_and_the_usual_ones_come_first() -> None:
    values = [b'{"a": 1, "b": "text"}', None, b'{"a": 1, "b": 2}', b"no JSON"] * 200
    assert names_in(values) == ["a", "b"]
    assert names_in([]) == []
