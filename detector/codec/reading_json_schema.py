"""The JSON Schema of a message of readings, for people and for the tests of producers."""

from __future__ import annotations

from typing import Any

from detector.codec.reading_format import ReadingFormat
from detector.codec.slow_path import FLOAT32_END

NUMBER_TEXT = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def reading_json_schema(format: ReadingFormat) -> dict[str, Any]:
    """The JSON Schema of a message that `JsonReadings(format, ...)` reads.

    Dotted paths are nested objects in it. `JsonReadings` also accepts keys that contain the dots, and in a gateway's message a stream or
    an event time beside the array of readings instead of in each of them.
    """
    reading: dict[str, Any] = {"type": "object", "description": "one reading; further fields are ignored"}
    beside = ""
    if format.records_path is not None and format.records_path != ".":
        beside = "; may also stand beside the array of readings"
    for path in format.stream:
        _put(
            reading, path, {"type": ["string", "integer"], "minLength": 1, "description": f"names the stream{beside}"}, required=not beside
        )
    if format.event_time is not None:
        _put(reading, format.event_time, _event_time(format, beside), required=not beside)
    if format.channel_path is not None:
        known = ", ".join(format.channels)
        name = {"type": ["string", "integer"], "description": f"names the channel; others than {known} are ignored"}
        _put(reading, format.channel_path, name, required=True)
        _put(reading, format.value_path or "value", _number("the channel's value"), required=False)
    elif format.array_path is not None:
        entries = [_number(channel) for channel in format.channels]
        array = {"type": ["array", "null"], "prefixItems": entries, "items": False, "minItems": len(entries)}
        _put(reading, format.array_path, array, required=False)
    else:
        for path in format.channels:
            _put(reading, path, _number("a channel"), required=False)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Readings", **_message(format, reading)}


def _message(format: ReadingFormat, reading: dict[str, Any]) -> dict[str, Any]:
    if format.records_path is None:
        return reading
    array = {"type": "array", "items": reading}
    if format.records_path == ".":
        return array
    message: dict[str, Any] = {"type": "object"}
    _put(message, format.records_path, array, required=True)
    return message


def _number(description: str) -> dict[str, Any]:
    return {
        "type": ["number", "boolean", "string", "null"],
        "exclusiveMinimum": -FLOAT32_END,
        "exclusiveMaximum": FLOAT32_END,
        "description": f"{description}; null, absent, or text that is no number: missing; true is 1, false is 0",
    }


def _event_time(format: ReadingFormat, beside: str) -> dict[str, Any]:
    unit = format.event_time_unit
    if unit == "iso8601":
        return {"type": "string", "description": f"event time, ISO 8601, UTC unless it has an offset{beside}"}
    if unit == "auto":
        meaning = "ISO 8601 (UTC unless it has an offset), or seconds, milliseconds, microseconds or nanoseconds since the epoch; the unit follows from the size"
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
