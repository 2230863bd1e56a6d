"""The names that a message has, for hints: "`Temp` never came; messages have `temp`"."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from detector.codec.event_time import number_of
from detector.codec.json_values import ARRAY, BARE, FALSE, NULL, OBJECT, TEXT, TRUE, Object, array_of, find, kind_of, object_of, text_of
from detector.codec.reading_format import Unreadable

NAMES_MAX = 200
DEPTH_MAX = 12
RECORDS_MAX = 3
MESSAGES_MAX = 50


def field_names(value: bytes, records_path: str | None = None) -> list[str]:
    """Dotted paths of what may be a channel: numbers, booleans and text that is a number, within JSON that stands in text too.

    At most NAMES_MAX, each once, in the order of the message, at most DEPTH_MAX keys deep. Empty if the message cannot be read.

    records_path   as in `ReadingFormat`: the names are those in the first RECORDS_MAX readings of the message
    """
    try:
        if records_path is None:
            readings = [object_of(value, "")]
        else:
            array = value if records_path == "." else find(object_of(value, ""), records_path)
            readings = [] if array is None else [object_of(each, "") for each in array_of(array, "")[:RECORDS_MAX]]
    except (Unreadable, RecursionError, IndexError):
        return []
    names = (name for reading in readings for name in _names(reading, "", DEPTH_MAX))
    return list(dict.fromkeys(islice(names, NAMES_MAX * RECORDS_MAX)))[:NAMES_MAX]


def names_in(values: Sequence[bytes | None], records_path: str | None = None) -> list[str]:
    """The names in the first MESSAGES_MAX of many messages, which may be of several kinds in turn; those that most have come first."""
    first = islice((value for value in values if value), MESSAGES_MAX)
    counts = Counter(name for value in first for name in field_names(value, records_path))
    return [name for name, _ in counts.most_common(NAMES_MAX)]


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The name among those known that is most like this one, in any case; none where none is like it."""
    by_lower = {other.lower(): other for other in known} | {other.lower().rsplit(".", 1)[-1]: other for other in known}
    return [by_lower[found] for found in difflib.get_close_matches(name.lower().rsplit(".", 1)[-1], by_lower, n=1, cutoff=0.6)]


def _names(inner: Object, prefix: str, depth: int) -> Iterator[str]:
    for key, raw in inner.items():
        name = prefix + key
        below = _below(raw)
        if below is not None:
            if depth > 1:
                yield from _names(below, f"{name}.", depth - 1)
        elif _is_number(raw):
            yield name


def _below(raw: msgspec.Raw) -> Object | None:
    if kind_of(raw) not in (OBJECT, TEXT):
        return None
    try:
        return object_of(raw, "")
    except Unreadable:
        return None


def _is_number(raw: msgspec.Raw) -> bool:
    kind = kind_of(raw)
    if kind == TEXT:
        try:
            return number_of(text_of(raw, "")) is not None
        except Unreadable:
            return False
    return kind in (TRUE, FALSE) or kind not in (NULL, OBJECT, ARRAY) or bytes(raw) in BARE
