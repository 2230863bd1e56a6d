"""Where readings stand in JSON messages, found by what most of a sample have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detector.codec import senml
from detector.config import LongFormat
from detector.tables import names
from detector.tables.json_rows import DEPTH_MAX, JsonShape, arrays_in, beside_records, opened, records_of, rows_of

ARRAY_MAX = 500
PATHS_NAMED = 5


def shape_of(contents: Sequence[Any]) -> JsonShape:
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
            for path, array in arrays_in(content, "", 0):
                if any(isinstance(entry, dict) for entry in array):
                    entries[path] += len(array)
                    there[path] += 1
        usual = [path for path, _ in entries.most_common() if there[path] > most]
        records_path = usual[0] if usual else None
    long = _long_format(contents, records_path) if records_path is not None else None
    base = JsonShape(records_path, {}, long)
    rows = [row for content in contents for row in rows_of(content, base) or ()]
    beside = {path for content in contents for path in beside_records(content, records_path)} if records_path not in (None, ".") else set()
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


def _texts_of_json(content: Any, before: str, depth: int) -> Iterator[str]:
    """Dotted paths of texts that hold JSON."""
    if isinstance(content, dict) and depth < DEPTH_MAX:
        for name, value in content.items():
            inner = opened(value)
            if inner is not value:
                yield f"{before}{name}"
            yield from _texts_of_json(inner, f"{before}{name}.", depth + 1)


def _long_format(contents: Sequence[Any], records_path: str) -> LongFormat | None:
    """Of arrays whose entries name a channel each: `name` and `value`, as Sparkplug has them."""
    entries = [entry for content in contents for entry in (records_of(content, records_path) or ())[:100] if isinstance(entry, dict)]
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
