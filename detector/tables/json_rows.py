"""Readings in JSON messages -> fields by dotted path.

A message is a reading, or it holds an array of them: then fields beside the array are of each. JSON inside a text is read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from detector.codec import senml
from detector.codec.reading_format import Unreadable
from detector.config import LongFormat

DEPTH_MAX = 12

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class JsonShape:
    """Where readings stand in messages.

    records_path  dotted path of an array of readings, '.' the message itself; None: a message is one reading
    arrays        dotted paths of arrays of numbers -> how many numbers they hold; each is a column `path[0]`, `path[1]`, ...
    long_format   fields of channel and value, where the array's entries have one value each
    beside        fields beside the array of readings that no reading can have as a channel
    in_text       dotted paths of texts that hold JSON
    is_senml      whether they are SenML (RFC 8428): a row has the fields `stream`, `channel`, `value` and `time`, of those that it has
    """

    records_path: str | None = None
    arrays: Mapping[str, int] = field(default_factory=dict)
    long_format: LongFormat | None = None
    beside: tuple[str, ...] = ()
    in_text: tuple[str, ...] = ()
    is_senml: bool = False

    @property
    def described(self) -> str:
        """In words; empty where a message is one reading with a field per channel."""
        if self.is_senml:
            return "SenML"
        said = [f"JSON inside text at {path!r}" for path in self.in_text]
        if self.records_path is not None:
            said.append("arrays of readings" if self.records_path == "." else f"arrays of readings at {self.records_path!r}")
        said += [f"arrays of {length} numbers at {path!r}" for path, length in self.arrays.items()]
        return ", ".join(said)

    @property
    def left(self) -> dict[str, str]:
        """Fields that are not read, and why."""
        return dict.fromkeys(self.beside, "it stands beside the readings, once for all of them")


def rows_of(content: Any, shape: JsonShape) -> list[dict[str, Any]] | None:
    """The readings of a message as fields by dotted path; None where it holds none."""
    if shape.is_senml:
        return _senml_rows(content)
    records = records_of(content, shape.records_path)
    if records is None:
        return None
    outer = {path: value for path, value in beside_records(content, shape.records_path).items() if path not in shape.beside}
    fields = (_flattened(entry, "", 0) for entry in records if isinstance(entry, dict))
    return [outer | dict(_spread(each, shape.arrays) if shape.arrays else each) for each in fields]


def records_of(content: Any, path: str | None) -> list[Any] | None:
    """The readings in a message, as they stand in it; None where it has no array of them."""
    if path is None:
        return [content] if isinstance(content, dict) else None
    if path == ".":
        return content if isinstance(content, list) else None
    return next((array for found, array in arrays_in(content, "", 0) if found == path), None)


def beside_records(content: Any, path: str | None) -> dict[str, Any]:
    """The fields beside the array of readings."""
    if path is None or path == "." or not isinstance(content, dict):
        return {}
    return {name: value for name, value in _flattened(content, "", 0) if name != path}


def _flattened(found: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Every value under its dotted path."""
    for name, value in found.items():
        inner = opened(value) if isinstance(value, str) else value
        if isinstance(inner, dict) and depth < DEPTH_MAX:
            yield from _flattened(inner, f"{before}{name}.", depth + 1)
        else:
            yield f"{before}{name}", inner


def _spread(fields: Iterator[tuple[str, Any]], arrays: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    """Arrays of numbers as one column per entry."""
    for path, value in fields:
        if path in arrays and isinstance(value, list) and len(value) == arrays[path]:
            yield from ((f"{path}[{place}]", entry) for place, entry in enumerate(value))
        else:
            yield path, value


def _senml_rows(content: Any) -> list[dict[str, Any]] | None:
    """The records of a SenML message as rows; of a name the last part is taken for the channel's."""
    if not isinstance(content, list):
        return None
    rows = []
    for record in senml.resolved(entry for entry in content if isinstance(entry, dict)):
        if isinstance(record, Unreadable):
            continue
        stream, channel = senml.parted(record.name, record.unit)
        row: dict[str, Any] = {"channel": channel, "value": None if record.value != record.value else record.value}
        if stream:
            row["stream"] = stream
        if abs(record.time_s) >= senml.RELATIVE_BELOW_S:
            row["time"] = record.time_s
        rows.append(row)
    return rows


def arrays_in(content: Any, before: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    """Arrays, and their dotted paths."""
    if not isinstance(content, dict) or depth > DEPTH_MAX:
        return
    for name, value in content.items():
        inner = opened(value)
        if isinstance(inner, list):
            yield f"{before}{name}", inner
        elif isinstance(inner, dict):
            yield from arrays_in(inner, f"{before}{name}.", depth + 1)


def opened(value: Any) -> Any:
    """A text that holds a JSON object or array, as that."""
    if isinstance(value, str) and value[:1] in ("{", "[") and value:
        try:
            inner = _decode(value)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return value
        return inner if isinstance(inner, dict | list) else value
    return value
