"""JSON messages in a file -> a table: a column for every dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from detector.adapters.recordings.files import read_bytes
from detector.config import FileInput
from detector.errors import DataError
from detector.tables.encoding import to_utf8
from detector.tables.recording import RejectedRow
from detector.tables.table import Table

PATHS_MAX = 5_000
INT64 = range(-(2**63), 2**63)


def read_lines(path: Path) -> tuple[list[bytes], int]:
    """The messages of a file, one per line, or the entries of the one array that it is; and how many lines are blank.

    raises DataError  the file cannot be read; it holds no message
    """
    text = read_bytes(path)
    if not text.isascii():
        text = to_utf8(text)[0] if text[:2] in (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb") else text
    lines = text.splitlines() if b"\r" in text else text.split(b"\n")
    messages = [line for line in lines if line.strip()]
    if not messages:
        raise DataError(f"{path.name} holds no readings", fix="export it again, with messages")
    first = text.lstrip()[:1]
    is_whole = (first in (b"[", b"{") and not _is_json(messages[0])) or (first == b"[" and len(messages) == 1)
    if is_whole and (entries := _entries(text)):
        return entries, 0
    return messages, len(lines) - len(messages) - (not lines[-1].strip())


def table_of(messages: Sequence[bytes], options: FileInput, where: str) -> tuple[Table, list[RejectedRow]]:
    """The messages that are JSON objects, as rows, and the others.

    raises DataError  none is; they have more fields than a table can have
    """
    rows: list[dict[str, Any]] = []
    rejected = []
    decode = msgspec.json.Decoder().decode
    for number, message in enumerate(messages, 1):
        try:
            found = decode(message)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            rejected.append(RejectedRow(number, "no JSON", message[:80].decode("utf-8", "replace")))
            continue
        if isinstance(found, dict):
            rows.append(dict(_flattened(found, "")))
        else:
            rejected.append(RejectedRow(number, "no JSON object", message[:80].decode("utf-8", "replace")))
    if not rows:
        raise DataError(
            f"{where} holds no JSON objects, but lines such as {messages[0][:60].decode('utf-8', 'replace')!r}",
            fix="see that it is JSON lines; arrays of readings are described under `input:`",
        )
    paths = list(dict.fromkeys(path for row in rows for path in row))
    if len(paths) > PATHS_MAX:
        raise DataError(f"{where} has {len(paths):,} different fields", fix="name those that you want under `input:`")
    columns = [_column([row.get(path) for row in rows]) for path in paths]
    return Table.of(paths, columns, (), options.decimal, options.missing_values), rejected


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict | list)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False


def _entries(text: bytes) -> list[bytes] | None:
    """The entries of a file that is one JSON array, or the one object that it is over several lines."""
    try:
        if text.lstrip()[:1] == b"[":
            return [bytes(entry) for entry in msgspec.json.decode(text, type=list[msgspec.Raw])]
        return [msgspec.json.format(text, indent=-1)] if isinstance(msgspec.json.decode(text), dict) else None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _flattened(found: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    """Every value under its dotted path."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


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
        column = pa.array([_text(value) for value in values], pa.string())
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
