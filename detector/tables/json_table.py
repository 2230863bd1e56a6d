"""JSON messages -> a table: a row for every reading, a column for every dotted path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from detector.config import FileInput
from detector.errors import DataError
from detector.tables.json_rows import JsonShape, rows_of
from detector.tables.json_shape import shape_of
from detector.tables.recording import RejectedRow
from detector.tables.table import Table

PATHS_MAX = 5_000
INT64 = range(-(2**63), 2**63)
SAMPLE_MESSAGES = 500
SHOWN_CHARACTERS = 80

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class JsonTable:
    """The readings of messages. message: of each row, its message's place; rejected: messages that are none"""

    table: Table
    shape: JsonShape
    message: list[int]
    rejected: list[RejectedRow]


def table_of(messages: Sequence[bytes], options: FileInput, where: str) -> JsonTable:
    """The readings in messages that are JSON objects, or arrays of them, as rows, and what is none.

    raises DataError  none is; they have more fields than a table can have
    """
    found: list[tuple[int, Any]] = []
    rejected = []
    for place, message in enumerate(messages):
        try:
            content = _decode(message)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            rejected.append(_rejected(place, "no JSON", message))
            continue
        found.append((place, content))
    shape = shape_of([content for _, content in found[:SAMPLE_MESSAGES]])
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    for place, content in found:
        if (readings := rows_of(content, shape)) is None:
            rejected.append(_rejected(place, f"no {shape.described or 'JSON object'}", messages[place]))
        else:
            rows += readings
            places += [place] * len(readings)
    if not rows:
        raise DataError(
            f"{where} holds no JSON objects, but lines such as {messages[0][:60].decode('utf-8', 'replace')!r}",
            fix="readings are JSON objects, or arrays of them; in a topic also Avro, Protobuf or JSON Schema with a schema registry",
        )
    paths = list(dict.fromkeys(path for row in rows for path in row))
    if len(paths) > PATHS_MAX:
        raise DataError(f"{where} has {len(paths):,} different fields", fix="name those that you want under `input:`")
    columns = [_column([row.get(path) for row in rows]) for path in paths]
    table = Table.of(paths, columns, (), options.decimal, options.missing_values)
    return JsonTable(table, shape, places, sorted(rejected, key=lambda one: one.row))


def _rejected(place: int, reason: str, message: bytes) -> RejectedRow:
    return RejectedRow(place + 1, reason, message[:SHOWN_CHARACTERS].decode("utf-8", "replace"))


def _column(values: list[Any]) -> pa.ChunkedArray:
    """Values of one path: numbers, truth values, or text; arrays stay arrays."""
    there = {type(value) for value in values if value is not None}
    if there <= {bool}:
        column = pa.array(values, pa.bool_() if there else pa.null())
    elif there == {int} and all(value is None or value in INT64 for value in values):
        column = pa.array(values, pa.int64())
    elif there <= {int, float, bool}:
        column = pa.array([None if value is None else _double(value) for value in values], pa.float64())
    elif list in there:
        column = pa.array([[True] if isinstance(value, list) else None for value in values], pa.list_(pa.bool_()))  # no channel
    else:
        is_numeric = bool(there & {int, float})  # then truth values are numbers too
        column = pa.array([_text(int(value) if is_numeric and isinstance(value, bool) else value) for value in values], pa.string())
    return pa.chunked_array([column])


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
