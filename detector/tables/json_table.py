"""JSON messages -> a table: a row for every reading, a column for every dotted path.

A message is a reading, or it holds an array of them: then fields beside the array are of each. JSON inside a text is read too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from detector.codec import senml
from detector.codec.reading_format import Unreadable
from detector.config import FileInput, LongFormat
from detector.errors import DataError
from detector.tables import names
from detector.tables.recording import RejectedRow
from detector.tables.table import Table

PATHS_MAX = 5_000
INT64 = range(-(2**63), 2**63)
SAMPLE_MESSAGES = 500
DEPTH_MAX = 12
ARRAY_MAX = 500
SHOWN_CHARACTERS = 80
PATHS_NAMED = 5

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
    shape = _shape([content for _, content in found[:SAMPLE_MESSAGES]])
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    for place, content in found:
        if (readings := _rows(content, shape)) is None:
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


def _shape(contents: Sequence[Any]) -> JsonShape:
    """What most of the messages have in common."""
    most = len(contents) / 2
    if sum(map(_is_senml, contents)) > most:
        return JsonShape(".", long_format=LongFormat(channel="channel", value="value"), is_senml=True)
    records_path = None
    if sum(isinstance(content, list) and any(isinstance(entry, dict) for entry in content) for content in contents) > most:
        records_path = "."
    else:
        entries = Counter[str]()
        there = Counter[str]()
        for content in contents:
            for path, array in _arrays(content, "", 0):
                if any(isinstance(entry, dict) for entry in array):
                    entries[path] += len(array)
                    there[path] += 1
        usual = [path for path, _ in entries.most_common() if there[path] > most]
        records_path = usual[0] if usual else None
    long = _long_format(contents, records_path) if records_path is not None else None
    base = JsonShape(records_path, {}, long)
    rows = [row for content in contents for row in _rows(content, base) or ()]
    beside = {path for content in contents for path in _beside(content, records_path)} if records_path not in (None, ".") else set()
    in_text = sorted({path for content in contents for path in _texts_of_json(content, "", 0)})
    left = tuple(sorted(path for path in beside if not _names_reading(path)))
    return JsonShape(records_path, _number_arrays(rows), long, left, tuple(in_text[:PATHS_NAMED]))


def _is_senml(content: Any) -> bool:
    """Whether a message is an array of records with labels of SenML alone, and a name and a value among them."""
    if (
        not isinstance(content, list)
        or not content
        or not all(isinstance(entry, dict) and entry.keys() <= senml.LABELS for entry in content)
    ):
        return False
    labels = {label for entry in content for label in entry}
    return bool(labels & {"n", "bn"}) and bool(labels & {"v", "vb", "vs", "bv", "s"})


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


def _arrays(content: Any, before: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    """Arrays, and their dotted paths."""
    if not isinstance(content, dict) or depth > DEPTH_MAX:
        return
    for name, value in content.items():
        inner = _opened(value)
        if isinstance(inner, list):
            yield f"{before}{name}", inner
        elif isinstance(inner, dict):
            yield from _arrays(inner, f"{before}{name}.", depth + 1)


def _texts_of_json(content: Any, before: str, depth: int) -> Iterator[str]:
    """Dotted paths of texts that hold JSON."""
    if isinstance(content, dict) and depth < DEPTH_MAX:
        for name, value in content.items():
            inner = _opened(value)
            if inner is not value:
                yield f"{before}{name}"
            yield from _texts_of_json(inner, f"{before}{name}.", depth + 1)


def _long_format(contents: Sequence[Any], records_path: str) -> LongFormat | None:
    """Of arrays whose entries name a channel each: `name` and `value`, as Sparkplug has them."""
    entries = [entry for content in contents for entry in (_records(content, records_path) or ())[:100] if isinstance(entry, dict)]
    named = [entry for entry in entries if isinstance(entry.get("name"), str) and "value" in entry]
    return LongFormat(channel="name", value="value") if entries and len(named) > len(entries) / 2 else None


def _number_arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Paths of arrays of numbers that nearly always have one length."""
    lengths: dict[str, Counter[int]] = {}
    for row in rows:
        for path, value in row.items():
            if isinstance(value, list) and value and all(isinstance(entry, int | float | None) for entry in value):
                lengths.setdefault(path, Counter())[len(value)] += 1
    usual = {path: counts.most_common(1)[0] for path, counts in lengths.items()}
    return {path: length for path, (length, count) in usual.items() if count > len(rows) / 2 and 1 < length <= ARRAY_MAX}


def _names_reading(path: str) -> bool:
    """Whether a field beside an array of readings may be the time or the stream of each."""
    return names.is_time(path) or names.stream_rank(path.rsplit(".", 1)[-1]) is not None


def _opened(value: Any) -> Any:
    """A text that holds a JSON object or array, as that."""
    if isinstance(value, str) and value[:1] in ("{", "[") and value:
        try:
            inner = _decode(value)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return value
        return inner if isinstance(inner, dict | list) else value
    return value


def _records(content: Any, path: str | None) -> list[Any] | None:
    """The readings in a message, as they stand in it; None where it has no array of them."""
    if path is None:
        return [content] if isinstance(content, dict) else None
    if path == ".":
        return content if isinstance(content, list) else None
    return next((array for found, array in _arrays(content, "", 0) if found == path), None)


def _beside(content: Any, path: str | None) -> dict[str, Any]:
    """The fields beside the array of readings."""
    if path is None or path == "." or not isinstance(content, dict):
        return {}
    return {name: value for name, value in _flattened(content, "", 0) if name != path}


def _rows(content: Any, shape: JsonShape) -> list[dict[str, Any]] | None:
    """The readings of a message as fields by dotted path; None where it holds none."""
    if shape.is_senml:
        return _senml_rows(content)
    records = _records(content, shape.records_path)
    if records is None:
        return None
    outer = {path: value for path, value in _beside(content, shape.records_path).items() if path not in shape.beside}
    fields = (_flattened(entry, "", 0) for entry in records if isinstance(entry, dict))
    return [outer | dict(_spread(each, shape.arrays) if shape.arrays else each) for each in fields]


def _flattened(found: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Every value under its dotted path."""
    for name, value in found.items():
        inner = _opened(value) if isinstance(value, str) else value
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
