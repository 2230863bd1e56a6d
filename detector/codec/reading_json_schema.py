"""What a message of readings must look like, as a JSON Schema: for people and for the producers' tests."""

from __future__ import annotations

from typing import Any

from detector.codec.formats import ReadingFormat
from detector.codec.precise import FLOAT32_END

NUMBER_TEXT = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def reading_schema(format: ReadingFormat) -> dict[str, Any]:
    """The JSON Schema of a message that `JsonReadings(format, ...)` reads.

    It shows dotted paths as nested objects. Two things are accepted beside it: keys that themselves contain the dots, and
    in a gateway's message a stream or an event time that stands beside the array instead of in the items.
    """
    reading: dict[str, Any] = {"type": "object", "description": "one reading; further fields are ignored"}
    beside = ""
    if format.items is not None and format.items != ".":
        beside = "; may also stand beside the array of readings"
    for path in format.stream:
        _put(
            reading, path, {"type": ["string", "integer"], "minLength": 1, "description": f"names the stream{beside}"}, required=not beside
        )
    if format.event_time is not None:
        _put(reading, format.event_time, _event_time(format, beside), required=not beside)
    if format.narrow_channel is not None:
        known = ", ".join(format.channels)
        name = {"type": ["string", "integer"], "description": f"names the channel; others than {known} are ignored"}
        _put(reading, format.narrow_channel, name, required=True)
        _put(reading, format.narrow_value or "value", _number("the channel's value"), required=False)
    elif format.values is not None:
        entries = [_number(channel) for channel in format.channels]
        array = {"type": ["array", "null"], "prefixItems": entries, "items": False, "minItems": len(entries)}
        _put(reading, format.values, array, required=False)
    else:
        for path in format.channels:
            _put(reading, path, _number("a channel"), required=False)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Readings", **_message(format, reading)}


def _message(format: ReadingFormat, reading: dict[str, Any]) -> dict[str, Any]:
    if format.items is None:
        return reading
    array = {"type": "array", "items": reading}
    if format.items == ".":
        return array
    message: dict[str, Any] = {"type": "object"}
    _put(message, format.items, array, required=True)
    return message


def _number(description: str) -> dict[str, Any]:
    return {
        "type": ["number", "string", "null"],
        "exclusiveMinimum": -FLOAT32_END,
        "exclusiveMaximum": FLOAT32_END,
        "pattern": NUMBER_TEXT,
        "description": f"{description}; null or absent: missing; text must be a number",
    }


def _event_time(format: ReadingFormat, beside: str) -> dict[str, Any]:
    unit = format.event_time_unit
    if unit == "iso8601":
        return {"type": "string", "description": f"event time, ISO 8601, UTC unless it has an offset{beside}"}
    if unit == "auto":
        meaning = (
            "ISO 8601 (UTC unless it has an offset), or seconds, milliseconds, microseconds or nanoseconds since the epoch, told by size"
        )
        return {"type": ["string", "number"], "description": f"event time: {meaning}{beside}"}
    return {"type": ["number", "string"], "pattern": NUMBER_TEXT, "description": f"event time, {UNITS[unit]} since the epoch{beside}"}


def _put(schema: dict[str, Any], path: str, leaf: dict[str, Any], *, required: bool) -> None:
    """Lay `leaf` into nested objects at a dotted path."""
    *outer, last = path.split(".")
    for key in outer:
        if required:
            _require(schema, key)
        kind = "object" if required else ["object", "null"]
        schema = schema.setdefault("properties", {}).setdefault(key, {"type": kind})
        if required:
            schema["type"] = "object"
    if required:
        _require(schema, last)
    schema.setdefault("properties", {}).setdefault(last, leaf)


def _require(schema: dict[str, Any], key: str) -> None:
    needed = schema.setdefault("required", [])
    if key not in needed:
        needed.append(key)
